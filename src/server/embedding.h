/* embedding.h - what the routes for embeddings share: the model is acquired, the vectors computed, and cut where fewer dimensions
 * are asked for. */
#ifndef NB_SERVER_EMBEDDING_H
#define NB_SERVER_EMBEDDING_H

#include "base/json_write.h"
#include "server/http.h"

typedef struct nb_embedding {
    nb_embed_input *inputs; /* [count], the caller's */
    size_t count;
    size_t wanted; /* dimensions; 0: all */
    bool truncate; /* cut texts that are too long */
    /* out */
    float *out;    /* [count][width]; free it, also after a failure; NULL without inputs */
    size_t width;  /* the model's; the first `wanted` count */
    size_t tokens; /* that were computed */
    size_t truncated; /* that were cut off: the head of the reply says so already */
    bool busy;     /* there was no room for the model: 503 */
    double loaded; /* nb_seconds when the model was there */
} nb_embedding;

/* Vectors have a length of 1. NB_ERR_ARGUMENT: the model has fewer dimensions than wanted. */
nb_status nb_embedding_compute(nb_http_request *r, nb_str model, const nb_load_options *options, int64_t keep_alive_ns,
                               nb_embedding *e, nb_error *err);
/* Vector i as a list of numbers. */
void nb_embedding_write(const nb_embedding *e, size_t i, nb_json *j);
/* Floats of a vector in the reply. */
static inline size_t nb_embedding_size(const nb_embedding *e) { return e->wanted ? e->wanted : e->width; }

#endif
