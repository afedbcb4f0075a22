/* rope.h - the angles of rotary position embeddings and the scalings that real files use. */
#ifndef NB_MODEL_ROPE_H
#define NB_MODEL_ROPE_H

#include "base/mem.h"

typedef enum nb_rope_scaling {
    NB_ROPE_NONE,
    NB_ROPE_LINEAR,  /* positions divided by factor (Chen et al. 2023) */
    NB_ROPE_LLAMA3,  /* frequencies scaled by wavelength bands; or a file's rope_freqs tensor, which says the same */
    NB_ROPE_YARN,    /* Peng et al. 2023 */
    NB_ROPE_LONGROPE /* Ding et al. 2024: a factor for each frequency, short or long by the context in use */
} nb_rope_scaling;

typedef struct nb_rope {
    size_t dim;  /* rotated values of a head, even; pairs are dim / 2 */
    bool neox;   /* pairs (i, i + dim/2) instead of (2i, 2i + 1) */
    double base; /* theta */
    nb_rope_scaling scaling;
    double factor;               /* >= 1 where it scales */
    double low_freq, high_freq;  /* llama3 */
    double beta_fast, beta_slow; /* yarn */
    double original_context;     /* llama3, yarn, longrope */
    double attention_factor;     /* of cos and sin; 0: the scaling's own rule */
    const float *freq_factors;   /* [dim / 2] divides each frequency, or NULL (llama3 in GGUF; longrope's short ones) */
    const float *freq_factors_long; /* used when the context in use is beyond original_context (longrope), or NULL */
} nb_rope;

/* Fills frequency[dim / 2] (radians a position, float32 as transformers computes them) and *magnitude, which multiplies
 * cos and sin, for a context of `context` positions. */
void nb_rope_frequencies(const nb_rope *rope, size_t context, float *frequency, float *magnitude);

/* cos_sin[dim / 2][2] of one position. */
void nb_rope_angles(const float *frequency, float magnitude, size_t pairs, int64_t position, float *cos_sin);

#endif
