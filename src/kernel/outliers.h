/* outliers.h - activations that are too large for 8 bits: where a token's are kept, and their product with a tile of INT8.
 * Behind the panels of NB_ACT_INT8 each token has a list: up to k / 2 pairs {index, value}, ascending; or, with more, k floats
 * that are 0 where there is none. Room for either is always there; what is not used is not touched. */
#ifndef NB_KERNEL_OUTLIERS_H
#define NB_KERNEL_OUTLIERS_H

#include "kernel/matmul.h"

typedef struct nb_outlier {
    uint32_t index;
    float value;
} nb_outlier;

typedef struct nb_outliers {
    size_t count; /* of the pairs behind it; SIZE_MAX: behind it are the values of all k */
} nb_outliers;

static inline nb_outlier *nb_outliers_pairs(const nb_outliers *o) { return (nb_outlier *)(uintptr_t)(o + 1); }
static inline float *nb_outliers_values(const nb_outliers *o) { return (float *)(uintptr_t)(o + 1); }

/* of one token; k even */
static inline size_t nb_outliers_bytes(size_t k) { return sizeof(size_t) + k * sizeof(float); }

static inline void *nb_outliers_at(const void *act, size_t k, size_t n_tokens, size_t token)
{
    return (char *)(uintptr_t)act + nb_round_up(nb_act_bytes(NB_ACT_Q8, k, n_tokens), 64) +
           token * nb_outliers_bytes(k);
}

void nb_outliers_find(const float *x, size_t k, float threshold, nb_outliers *out);
/* y = x without them */
void nb_outliers_leave_out(const float *x, size_t n, float threshold, float *y);
/* sums[r] += value * weight of row r, r < NB_TILE_ROWS; tile: packed INT8. */
void nb_outliers_multiply(const void *tile, const nb_outliers *o, size_t k, float *sums);

#endif
