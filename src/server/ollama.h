/* ollama.h - what the routes of Ollama's API share: times, a request's common fields, the numbers at a reply's end. */
#ifndef NB_SERVER_OLLAMA_H
#define NB_SERVER_OLLAMA_H

#include "base/json_write.h"
#include "server/body.h"
#include "server/http.h"
#include "server/job.h"

/* "2026-11-23T04:05:06.123456789Z" */
void nb_time_text(int64_t ns_since_1970, char text[40]);
int64_t nb_time_now(void);

/* model, keep_alive, options, format, think, truncate, shift, logprobs, stream of generate and chat. */
typedef struct nb_ollama_request {
    nb_body body;
    nb_job_params job;
    nb_str model;
    bool stream;
    int64_t logprobs; /* alternatives; -1: none */
} nb_ollama_request;

/* False: the request was answered (a failure). */
bool nb_ollama_read(nb_http_request *r, nb_ollama_request *q);
void nb_ollama_free(nb_ollama_request *q);
/* Answers with the body's failure. */
void nb_ollama_refuse(nb_http_request *r, nb_ollama_request *q);

/* The answers of /api/tags and /api/show, for commands without a server as well. problem: told of models that cannot be read. */
typedef void nb_ollama_problem_fn(void *user, const char *text);
nb_status nb_ollama_tags(nb_library *library, nb_buf *out, nb_ollama_problem_fn *problem, void *user, nb_error *err);
nb_status nb_ollama_show(nb_entry *e, bool verbose, nb_buf *out, nb_error *err);

/* Starts the job and answers, as a stream or at once. Takes q. */
void nb_ollama_answer(nb_http_request *r, nb_ollama_request *q, bool is_chat);

#endif
