#include "model/rope.h"

#include <math.h>

/* llama3: long wavelengths are divided by factor, short ones kept, the band between them blended */
static float llama3_frequency(const nb_rope *r, double frequency)
{
    double wavelength = 2 * M_PI / frequency;
    double low = r->original_context / r->low_freq, high = r->original_context / r->high_freq;
    if (wavelength > low)
        return (float)(frequency / r->factor);
    if (wavelength < high)
        return (float)frequency;
    double smooth = (r->original_context / wavelength - r->low_freq) / (r->high_freq - r->low_freq);
    return (float)((1 - smooth) * frequency / r->factor + smooth * frequency);
}

/* the dimension whose wavelength makes `turns` turns in the original context (YaRN, section 3.2) */
static double yarn_dimension(const nb_rope *r, double turns)
{
    return (double)r->dim * log(r->original_context / (turns * 2 * M_PI)) / (2 * log(r->base));
}

/* power: base to the power of 2 pair / dim */
static float yarn_frequency(const nb_rope *r, float power, size_t pair)
{
    double low = yarn_dimension(r, r->beta_fast), high = yarn_dimension(r, r->beta_slow);
    low = fmax(r->yarn_exact ? low : floor(low), 0);
    high = fmin(r->yarn_exact ? high : ceil(high), (double)r->dim - 1);
    if (low == high)
        high += 0.001;
    float ramp = ((float)pair - (float)low) / (float)(high - low);
    float keep = 1 - fminf(fmaxf(ramp, 0), 1);
    return 1 / ((float)r->factor * power) * (1 - keep) + 1 / power * keep;
}

static double rope_base(const nb_rope *r, size_t length)
{
    if (r->scaling != NB_ROPE_DYNAMIC || !((double)length > r->original_context) || r->dim <= 2)
        return r->base;
    float stretch = (float)r->factor * (float)length / (float)r->original_context - (float)(r->factor - 1);
    float power = (float)pow((double)stretch, (double)r->dim / (double)(r->dim - 2));
    return (double)((float)r->base * power);
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

size_t nb_rope_stretched(const nb_rope *r)
{
    return (size_t)fmin(fmax(r->original_context * r->factor, 1), (double)((int64_t)1 << 40));
}

bool nb_rope_varies(const nb_rope *r)
{
    return r->scaling == NB_ROPE_DYNAMIC || (r->scaling == NB_ROPE_LONGROPE && r->freq_factors_long);
}

size_t nb_rope_kind(const nb_rope *r, size_t length)
{
    if (!nb_rope_varies(r) || !((double)length > r->original_context))
        return 1;
    return r->scaling == NB_ROPE_LONGROPE ? 2 : length + 1;
}

void nb_rope_frequencies(const nb_rope *r, size_t length, float *frequency, float *magnitude)
{
    double base = rope_base(r, length);
    const float *factors = r->freq_factors;
    if (r->freq_factors_long && nb_rope_kind(r, length) != 1)
        factors = r->freq_factors_long;
    for (size_t i = 0; i < r->dim / 2; i++) {
        float power = (float)pow(base, (double)((float)(2 * i) / (float)r->dim));
        float f = 1 / power;
        if (factors && r->scaling == NB_ROPE_LONGROPE)
            f = 1 / (factors[i] * power);
        else if (factors)
            f /= factors[i];
        else if (r->scaling == NB_ROPE_LLAMA3)
            f = llama3_frequency(r, (double)f);
        if (r->scaling == NB_ROPE_LINEAR)
            f /= (float)r->factor;
        if (r->scaling == NB_ROPE_YARN)
            f = yarn_frequency(r, factors ? power * factors[i] : power, i);
        frequency[i] = f;
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
