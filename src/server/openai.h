/* openai.h - what chat completions and completions share: a request of one or several choices, and its answer. */
#ifndef NB_SERVER_OPENAI_H
#define NB_SERVER_OPENAI_H

#include "server/api_request.h"

enum { NB_OPENAI_CHOICES = 128, NB_OPENAI_TOP = 20 };

typedef struct nb_openai_prompt { /* of a completion: a text, or ids where there are some */
    nb_str text;
    const int32_t *ids;
    size_t count;
} nb_openai_prompt;

typedef struct nb_openai_request {
    nb_api_request api;
    bool is_chat, include_usage, echo;
    size_t n;                        /* choices of a prompt */
    const nb_openai_prompt *prompts; /* of a completion */
    size_t prompt_count;             /* 1 of a chat */
} nb_openai_request;

/* model, sampling, limits, stops, n, seed, logit_bias, penalties, stream_options. NULL: the request was answered (a failure). */
nb_openai_request *nb_openai_read(nb_http_request *r, bool is_chat);
void nb_openai_free(nb_openai_request *q);
/* Reads messages, tools and what is asked of the reply's form: of chats and of /apply-template. */
void nb_openai_read_chat(nb_openai_request *q);
/* Starts the jobs and answers, as a stream or at once; a body that failed gets its failure. Takes q. */
void nb_openai_answer(nb_http_request *r, nb_openai_request *q);

#endif
