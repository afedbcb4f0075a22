/* quantize_codebook.h - the search for the types whose values are one of a short list each, times a scale: IQ4_NL,
 * IQ4_XS, MXFP4, NVFP4. A batch is 16 sub-blocks side by side, one a lane. */
#ifndef NB_QUANT_QUANTIZE_CODEBOOK_H
#define NB_QUANT_QUANTIZE_CODEBOOK_H

#include "quant/quant.h"

enum { CODEBOOK_LANES = 16, CODEBOOK_VALUES = 32, CODEBOOK_LEVELS = 16 };

/* level: ascending; edge[i] is half way between levels i and i + 1; step[i] = level[i + 1] - level[i] */
typedef struct codebook {
    int levels, values; /* values: of a sub-block */
    float level[CODEBOOK_LEVELS], edge[CODEBOOK_LEVELS], step[CODEBOOK_LEVELS];
} codebook;

/* x: magnitudes where the levels are; w: weights > 0 */
typedef struct codebook_batch {
    _Alignas(64) float x[CODEBOOK_VALUES][CODEBOOK_LANES];
    _Alignas(64) float w[CODEBOOK_VALUES][CODEBOOK_LANES];
} codebook_batch;

/* Each value takes the level nearest to x / scale (all lanes; a scale of 0: to 0). cost: sum of w (x - scale level)^2;
 * xv, vv: sums of w x level and w level^2, whose ratio is the best scale for these levels. */
typedef struct codebook_fit {
    _Alignas(64) float cost[CODEBOOK_LANES], xv[CODEBOOK_LANES], vv[CODEBOOK_LANES];
} codebook_fit;
typedef void codebook_fit_fn(const codebook *c, const codebook_batch *b, const float scale[CODEBOOK_LANES],
                             codebook_fit *fit);
/* The same, and the numbers of the levels. */
typedef void codebook_codes_fn(const codebook *c, const codebook_batch *b, const float scale[CODEBOOK_LANES],
                               float code[CODEBOOK_VALUES][CODEBOOK_LANES]);
codebook_fit_fn nb_codebook_fit_ref, nb_codebook_fit_avx2, nb_codebook_fit_avx512;
codebook_codes_fn nb_codebook_codes_ref, nb_codebook_codes_avx2, nb_codebook_codes_avx512;

#endif
