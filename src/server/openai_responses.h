/* openai_responses.h - a request of OpenAI's Responses API and its answer. Nothing is kept between requests: what was said
 * before comes as items of the input. */
#ifndef NB_SERVER_OPENAI_RESPONSES_H
#define NB_SERVER_OPENAI_RESPONSES_H

#include "server/api_request.h"

typedef struct nb_responses_request {
    nb_api_request api;
    bool logprobs; /* with the reply's text */
} nb_responses_request;

void nb_responses_free(nb_responses_request *q);
/* Starts the job and answers, as a stream of events or at once. Takes q. */
void nb_responses_answer(nb_http_request *r, nb_responses_request *q);

#endif
