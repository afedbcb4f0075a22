/* job.h - one request of any API, in one form: a prompt or a conversation in, events of a reply out. The routes of Ollama,
 * OpenAI and Anthropic only translate to and from it. Made, run and freed by the http thread that has the request. */
#ifndef NB_SERVER_JOB_H
#define NB_SERVER_JOB_H

#include "server/service.h"
#include "text/reply.h"
#include "text/template_probe.h"

typedef enum nb_tool_choice { NB_TOOL_AUTO, NB_TOOL_NONE, NB_TOOL_REQUIRED, NB_TOOL_NAMED } nb_tool_choice;
typedef enum nb_overflow {
    NB_OVERFLOW_ERROR, /* a prompt that does not fit is NB_ERR_LIMIT, with the counts: OpenAI, Anthropic, strict */
    NB_OVERFLOW_KEEP,  /* it is not to be run: it stays whole */
    NB_OVERFLOW_TRUNCATE /* oldest messages (or the prompt's beginning, after num_keep) go; `truncated` says how many tokens */
} nb_overflow;

typedef struct nb_job_message {
    nb_str role, content; /* system (developer counts as it), user, assistant, tool */
    nb_str thinking;      /* of an earlier reply */
    const nb_past_call *calls;
    size_t call_count;
    nb_str tool_name, tool_call_id; /* of a tool's result */
} nb_job_message;

typedef struct nb_job_params {
    nb_str model;
    /* a conversation ... */
    const nb_job_message *messages;
    size_t message_count;
    nb_str tools; /* JSON array in OpenAI's form, or empty */
    nb_tool_choice tool_choice;
    nb_str tool_name;    /* NB_TOOL_NAMED */
    bool parallel_calls; /* false: the reply ends after one call */
    /* ... or a prompt */
    bool is_prompt;
    nb_str prompt, suffix;      /* suffix: fill in the middle */
    bool raw;                   /* no template */
    nb_str system, go_template; /* instead of the model's, where has_* */
    bool has_system, has_template;
    const int32_t *context; /* ids that come before the prompt (Ollama's context) */
    size_t context_count;
    /* both */
    int think;          /* -1: unsaid; 0, 1 */
    nb_str think_level; /* "low", "medium", "high", or empty */
    bool keep_thinking; /* thinking stays in the content */
    bool stream_arguments;
    nb_str template_kwargs; /* JSON object for the template, or empty */
    nb_str schema, grammar; /* JSON schema (or {"type":"object"} for plain JSON); GBNF; at most one of both */
    nb_overflow overflow;
    nb_load_options load;
    int64_t keep_alive_ns; /* INT64_MIN: the model's */
    nb_task_params
        task; /* sampling, limits, stops, logprobs, shift, user_key; prompt, grammar and callbacks are the job's */
    bool (*gone)(void *user); /* the client has left: looked at before and while waiting */
    /* what it took, when it is freed; stats NULL: it did not run. May be NULL */
    void (*count)(void *gone_user, nb_str model, const nb_task_stats *stats);
    void *gone_user;
} nb_job_params;

typedef enum nb_job_event_kind {
    NB_JOB_REPLY, /* `reply`: content, thinking, calls */
    NB_JOB_TOKEN, /* with logprobs: a token, before the text it completes */
    NB_JOB_END    /* `stats`; the last */
} nb_job_event_kind;

typedef struct nb_job_event {
    nb_job_event_kind kind;
    nb_reply_event reply;
    nb_token_event token;
    nb_task_stats stats;
    bool called;            /* END: the reply holds tool calls */
    size_t thinking_tokens; /* END: of the reply's tokens, those up to the end of its thinking */
} nb_job_event;

nb_job_params nb_job_defaults(void);

typedef struct nb_job nb_job;
/* Finds and loads the model, renders, tokenizes, submits. Errors: NOT_FOUND (no such model), ARGUMENT (the request),
 * UNSUPPORTED (the model cannot: tools, insert, thinking; the message says what), LIMIT (context; with *busy: the queue, or no room for the model), CANCELLED (client gone). */
nb_status nb_job_start(nb_service *s, const nb_job_params *params, nb_job **out, bool *busy, nb_error *err);
/* Waits for the next event; views are good until the next call. NB_ERR_CANCELLED when the client left: the reply is ended then.
 * After NB_JOB_END: NB_ERR_NOT_FOUND. */
nb_status nb_job_next(nb_job *j, nb_job_event *event, nb_error *err);
bool nb_job_ready(nb_job *j); /* nb_job_next would not wait */
void nb_job_free(nb_job *j);  /* ends the reply when it runs still; NULL is fine */

size_t nb_job_truncated(const nb_job *j); /* tokens of the request that were left out */
int64_t nb_job_load_ns(const nb_job *j);  /* waiting for the model */
/* The prompt's ids and then the reply's: what Ollama hands out as context. */
const int32_t *nb_job_ids(const nb_job *j, size_t *count);
nb_served *nb_job_served(const nb_job *j);

/* The rendered prompt and its ids, without running: /apply-template, count_tokens. Free both. */
nb_status nb_job_render(nb_service *s, const nb_job_params *params, nb_buf *prompt, nb_ids *ids, nb_error *err);

#endif
