/* quantize_iq_input.h - what searches read: values and weights made harmless, so that no square of them overflows and no
 * comparison meets a NaN. */
#ifndef NB_QUANT_QUANTIZE_IQ_INPUT_H
#define NB_QUANT_QUANTIZE_IQ_INPUT_H

#include <math.h>
#include <stddef.h>

/* Beyond what any of the types with code books holds but MXFP4. */
#define NB_QUANTIZE_LIMIT 1e9f

/* x within the limit; a NaN counts as 0. */
static inline float nb_quantize_tame(float x, float limit)
{
    return x > limit ? limit : x < -limit ? -limit : x == x ? x : 0;
}

typedef struct nb_quantize_weights {
    const float *x, *weight; /* weight NULL: all 1 */
    size_t n, group;         /* values; those that share a mean */
    float unit;              /* 1 / the mean of the weights */
} nb_quantize_weights;

static inline nb_quantize_weights nb_quantize_weights_of(const float *x, const float *weight, size_t n, size_t group)
{
    double sum = 0;
    for (size_t i = 0; weight && i < n; i++)
        sum += weight[i] > 0 && weight[i] < 1e30f ? weight[i] : 0;
    return (nb_quantize_weights){x, weight, n, group, sum > 0 ? (float)((double)n / sum) : 1};
}

/* Twice the mean square of the group that value i is in. */
static inline float nb_quantize_energy(const nb_quantize_weights *w, size_t i)
{
    size_t first = i - i % w->group, last = first + w->group < w->n ? first + w->group : w->n;
    float sum = 0;
    for (size_t k = first; k < last && w->weight; k++) {
        float v = nb_quantize_tame(w->x[k], NB_QUANTIZE_LIMIT);
        sum += v * v;
    }
    return 2 * sum / (float)w->group;
}

/* Of column i, in units of the mean: in 1e-6..1e6, so that columns of no weight still get a sensible value. Large values
 * weigh more: times sqrt(energy + x^2), as ggml's searches have it. Without it the squared error is lower, but files are no
 * better: Qwen2.5-Coder-0.5B in IQ4_NL, 16 windows: KL divergence 0.0423 against 0.0460. */
static inline float nb_quantize_weight(const nb_quantize_weights *w, size_t i, float energy)
{
    if (!w->weight)
        return 1;
    float v = w->weight[i] * w->unit, x = nb_quantize_tame(w->x[i], NB_QUANTIZE_LIMIT);
    v = v > 1e-6f ? (v < 1e6f ? v : 1e6f) : 1e-6f;
    return energy > 0 ? v * sqrtf((energy + x * x) / (1.5f * energy)) : v;
}

#endif
