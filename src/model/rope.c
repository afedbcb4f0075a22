#include "model/rope.h"

#include <math.h>

/* llama3: long wavelengths are divided by factor, short ones kept, the band between them blended */
static double llama3_frequency(const nb_rope *r, double frequency)
{
    double wavelength = 2 * M_PI / frequency;
    double low = r->original_context / r->low_freq, high = r->original_context / r->high_freq;
    if (wavelength > low)
        return frequency / r->factor;
    if (wavelength < high)
        return frequency;
    double smooth = (r->original_context / wavelength - r->low_freq) / (r->high_freq - r->low_freq);
    return (1 - smooth) * frequency / r->factor + smooth * frequency;
}

/* the dimension whose wavelength makes `turns` turns in the original context (YaRN, section 3.2) */
static double yarn_dimension(const nb_rope *r, double turns)
{
    return (double)r->dim * log(r->original_context / (turns * 2 * M_PI)) / (2 * log(r->base));
}

static double yarn_frequency(const nb_rope *r, double frequency, size_t pair)
{
    double low = fmax(floor(yarn_dimension(r, r->beta_fast)), 0);
    double high = fmin(ceil(yarn_dimension(r, r->beta_slow)), (double)r->dim - 1);
    if (low == high)
        high += 0.001;
    double ramp = fmin(fmax(((double)pair - low) / (high - low), 0), 1);
    return frequency / r->factor * ramp + frequency * (1 - ramp);
}

static float rope_magnitude(const nb_rope *r)
{
    if (r->attention_factor > 0)
        return (float)r->attention_factor;
    if (r->scaling == NB_ROPE_YARN && r->factor > 1)
        return (float)(0.1 * log(r->factor) + 1);
    if (r->scaling == NB_ROPE_LONGROPE && r->factor > 1 && r->original_context > 1)
        return (float)sqrt(1 + log(r->factor) / log(r->original_context));
    return 1;
}

void nb_rope_frequencies(const nb_rope *r, size_t context, float *frequency, float *magnitude)
{
    const float *factors = r->freq_factors;
    if (r->freq_factors_long && (double)context > r->original_context)
        factors = r->freq_factors_long;
    for (size_t i = 0; i < r->dim / 2; i++) {
        double f = 1 / (double)(float)pow(r->base, 2.0 * (double)i / (double)r->dim);
        if (factors)
            f /= (double)factors[i];
        else if (r->scaling == NB_ROPE_LLAMA3)
            f = llama3_frequency(r, f);
        if (r->scaling == NB_ROPE_LINEAR)
            f /= r->factor;
        if (r->scaling == NB_ROPE_YARN)
            f = yarn_frequency(r, f, i);
        frequency[i] = (float)f;
    }
    *magnitude = rope_magnitude(r);
}

void nb_rope_angles(const float *frequency, float magnitude, size_t pairs, int64_t position, float *cos_sin)
{
    for (size_t i = 0; i < pairs; i++) {
        /* the product is rounded to float32, as the oracle's is */
        double angle = (double)((float)position * frequency[i]);
        cos_sin[2 * i] = (float)cos(angle) * magnitude;
        cos_sin[2 * i + 1] = (float)sin(angle) * magnitude;
    }
}
