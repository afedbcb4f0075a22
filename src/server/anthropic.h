/* anthropic.h - a request of Anthropic's Messages API and its answer. */
#ifndef NB_SERVER_ANTHROPIC_H
#define NB_SERVER_ANTHROPIC_H

#include "server/api_request.h"

/* runs: a reply is wanted, so that max_tokens must be there. NULL: the request was answered (a failure). */
nb_api_request *nb_anthropic_read(nb_http_request *r, bool runs);
void nb_anthropic_free(nb_api_request *q);
/* Starts the job and answers, as a stream of events or at once. Takes q. */
void nb_anthropic_answer(nb_http_request *r, nb_api_request *q);

/* /v1/models for its clients: pages of the list, and one of its models. */
void nb_anthropic_models(nb_http_request *r);
void nb_anthropic_put_model(nb_json *j, nb_entry *e);

#endif
