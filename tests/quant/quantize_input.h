/* quantize_input.h - the values that tests of quantizers use: the same as tools/make_quantize_vectors.py makes. */
#ifndef NB_TESTS_QUANTIZE_INPUT_H
#define NB_TESTS_QUANTIZE_INPUT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/digest.h"

/* word i of the seed's bytes */
static inline int32_t nb_input_word(uint64_t seed, size_t i)
{
    return (int32_t)(nb_mix64(seed + (i / 2 + 1) * 0x9e3779b97f4a7c15u) >> i % 2 * 32);
}

/* even: uniform in -1..1; small: bytes over 16, so that ties abound; wide: blocks of 32 at powers of two from 2^-100 to
 * 2^27; half: powers near those where a binary16 scale is subnormal; sparse: even, but most are 0. */
static inline void nb_input_values(const char *kind, uint64_t seed, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t u = nb_input_word(seed, i), power = nb_input_word(seed + 1, i / 32) & 127;
        x[i] = (float)u * 0x1p-31f;
        if (kind[0] == 's' && kind[1] == 'm')
            x[i] = (float)(u >> 24) / 16;
        else if (kind[0] == 'w')
            x[i] = ldexpf(x[i], power - 100);
        else if (kind[0] == 'h')
            x[i] = ldexpf(x[i], power % 24 - 22);
        else if (kind[0] == 's' && (nb_input_word(seed + 1, i) & 31) != 0)
            x[i] = 0;
    }
}

/* Box-Muller in double */
static inline void nb_input_gaussian(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double u = ((double)nb_input_word(7, 2 * i) + 2147483648.5) / 4294967296.0;
        double v = ((double)nb_input_word(7, 2 * i + 1) + 2147483648.5) / 4294967296.0;
        x[i] = (float)(sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v));
    }
}

/* weights of columns, 1 to 256, most of them small */
static inline void nb_input_importance(float *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float u = (float)(nb_input_word(8, i) >> 8 & 0xffffff) * 0x1p-24f + 1;
        u *= u;
        u *= u;
        w[i] = u * u;
    }
}

#endif
