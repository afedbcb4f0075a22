/* optim.h - what the levels of the optimizers share. The public functions are declared in nibble.h. */
#ifndef NB_TRAIN_OPTIM_H
#define NB_TRAIN_OPTIM_H

#include "quant/bnb.h"

/* One step's constants, computed in double and rounded once */
typedef struct nb_optim_rule {
    nb_optimizer_kind kind;
    float rate;         /* Adam: rate / (1 - beta1^t) */
    float keep1, keep2; /* beta1, beta2 */
    float take1, take2; /* 1 - beta1, 1 - beta2 */
    float root_scale;   /* Adam: 1 / sqrt(1 - beta2^t) */
    float epsilon;
    float decay; /* Adam, Lion: 1 - rate * weight decay; else the weight decay */
    bool first;  /* momentum starts from the first gradient itself */
} nb_optim_rule;

/* n values p change by their gradients g and states m and v (NULL where the kind has no second). The same to the bit at
 * every level. */
typedef void nb_optim_update(const nb_optim_rule *r, size_t n, float *p, const float *g, float *m, float *v);

/* The factor of `codes` (decoded values at absmax 1) that brings them closest to x, sum x c / sum c c; NaN when all are 0. */
typedef float nb_optim_fit(const float *x, const float *codes, size_t n);

typedef struct nb_optim_loops {
    nb_optim_update *update;
    nb_optim_fit *fit;
} nb_optim_loops;

extern const nb_optim_loops nb_optim_loops_ref;
#if defined(__x86_64__)
extern const nb_optim_loops nb_optim_loops_avx2, nb_optim_loops_avx512;
#endif

#endif
