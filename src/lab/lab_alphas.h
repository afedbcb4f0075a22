/* lab_alphas.h - the attention weights of one layer of a real model, computed again from what its matrices read, by the ops of
 * its plan. */
#ifndef NB_LAB_LAB_ALPHAS_H
#define NB_LAB_LAB_ALPHAS_H

#include "lab/lab_reading.h"

typedef struct nb_lab_alphas {
    size_t heads, kv_heads, tokens;
    float *alphas; /* [heads][tokens][tokens] */
    double
        error; /* of the context vectors made with them, relative to what the model's next matrix read; NaN: unknown */
} nb_lab_alphas;

/* The arena of the reading holds them. NB_ERR_UNSUPPORTED for layers that compute their queries in other ways. */
nb_status nb_lab_alphas_of(nb_lab_reading *r, int layer, nb_lab_alphas *out, nb_error *err);

#endif
