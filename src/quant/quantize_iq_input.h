/* quantize_iq_input.h - what searches read: values and weights made harmless, so that no square of them overflows and no
 * comparison meets a NaN. */
#ifndef NB_QUANT_QUANTIZE_IQ_INPUT_H
#define NB_QUANT_QUANTIZE_IQ_INPUT_H

#include <stddef.h>

/* Beyond what any of the types with code books holds but MXFP4. */
#define NB_QUANTIZE_LIMIT 1e9f

/* x within the limit; a NaN counts as 0. */
static inline float nb_quantize_tame(float x, float limit)
{
    return x > limit ? limit : x < -limit ? -limit : x == x ? x : 0;
}

typedef struct nb_quantize_weights {
    const float *weight; /* NULL: all 1 */
    float unit;          /* 1 / their mean */
} nb_quantize_weights;

static inline nb_quantize_weights nb_quantize_weights_of(const float *weight, size_t n)
{
    double sum = 0;
    for (size_t i = 0; weight && i < n; i++)
        sum += weight[i] > 0 && weight[i] < 1e30f ? weight[i] : 0;
    return (nb_quantize_weights){weight, sum > 0 ? (float)((double)n / sum) : 1};
}

/* Of column i, in units of the mean: in 1e-6..1e6, so that columns of no weight still get a sensible value. */
static inline float nb_quantize_weight(const nb_quantize_weights *w, size_t i)
{
    float v = w->weight ? w->weight[i] * w->unit : 1;
    return v > 1e-6f ? (v < 1e6f ? v : 1e6f) : 1e-6f;
}

#endif
