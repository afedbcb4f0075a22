/* api_request.h - what the routes of OpenAI's and Anthropic's APIs share: the model's own parameters under a request's, texts in
 * parts, events of a stream. */
#ifndef NB_SERVER_API_REQUEST_H
#define NB_SERVER_API_REQUEST_H

#include "base/json_write.h"
#include "server/body.h"
#include "server/http.h"
#include "server/job.h"

typedef struct nb_api_request {
    nb_body body;
    nb_job_params job;
    bool stream;
    size_t stop_count; /* stop strings of its own */
} nb_api_request;

enum { NB_API_ID = 48 };

/* The body, the model (where it is not named, the only one that there is), its own parameters, temperature, top_p, top_k, min_p,
 * repeat_penalty, grammar, stream. A prompt that does not fit is an error. Look at body.status. */
void nb_api_read(nb_http_request *r, nb_api_request *q);
void nb_api_close(nb_api_request *q);

/* One line for the log when the body has fields that are not among `known`: words between spaces, with one at both ends. */
void nb_api_pass_over(nb_http_request *r, const nb_body *b, const char *known);
/* Fails where one of these fields (NULL ends the list) asks for something: is not null, false, empty or "none". */
void nb_api_refuse(nb_body *b, const json_t *object, const char *const *fields, const char *instead);

/* A string or a list of strings, instead of the model's own (as Ollama has it). */
void nb_api_stops(nb_api_request *q, const char *key);
/* The text of a content: a string, null, or a list of parts of which only texts (types: "text" and up to two more) are taken. */
nb_str nb_api_content(nb_body *b, const json_t *content, const char *type2, const char *type3);
/* Asks for thinking: "none", "minimal", "low", "medium", "high", "xhigh". */
void nb_api_effort(nb_api_request *q, nb_str effort);
/* Reads "tool_choice" as OpenAI's APIs have it. */
void nb_api_tool_choice(nb_body *b, nb_job_params *p);
/* The name of the tool that an earlier message called by this id; empty: none did. */
nb_str nb_api_tool_name(const nb_job_message *messages, size_t count, nb_str id);
/* One tool in the form of nb_job_params.tools. Steals nothing. NULL: out of memory. */
json_t *nb_api_tool(nb_str name, nb_str description, const json_t *parameters);

/* An id: a prefix and 24 letters and digits. */
void nb_api_id(const char *prefix, char id[NB_API_ID]);
/* Says in the reply's head and in the log that so many tokens of the request were left out; 0: nothing. */
void nb_api_tell_truncated(nb_http_request *r, size_t tokens);
/* A value that is JSON already. */
void nb_api_put_raw(nb_json *j, const char *key, nb_str json);
void nb_api_put_str(nb_json *j, const char *key, nb_str value);
/* A token's log probability and the alternatives', as one more object of a list; alternatives are OpenAI's top_logprobs,
 * which `always` makes a list also where there are none. */
void nb_api_put_logprob(nb_buf *list, const nb_job *job, const nb_token_event *e, bool always);
/* What a token adds to a text, as bytes; of control tokens, which add nothing, their names. Good until text changes. */
nb_str nb_api_piece(const nb_job *job, int32_t id, nb_buf *text);
/* "data: JSON\n\n", with a line of its event where there is one. */
void nb_api_event(nb_buf *out, const char *event, const nb_buf *json);

#endif
