/* rope.h - the angles of rotary position embeddings and the scalings that real files use. */
#ifndef NB_MODEL_ROPE_H
#define NB_MODEL_ROPE_H

#include "base/mem.h"

typedef enum nb_rope_scaling {
    NB_ROPE_NONE,
    NB_ROPE_LINEAR,  /* positions divided by factor (Chen et al. 2023) */
    NB_ROPE_LLAMA3,  /* frequencies scaled by wavelength bands; or a file's rope_freqs tensor, which says the same */
    NB_ROPE_YARN,    /* Peng et al. 2023 */
    NB_ROPE_LONGROPE, /* Ding et al. 2024: a factor for each frequency, short or long by the sequence's length */
    NB_ROPE_DYNAMIC   /* NTK-aware: beyond original_context the base grows with the sequence's length */
} nb_rope_scaling;

typedef struct nb_rope {
    size_t dim;  /* rotated values of a head, even; pairs are dim / 2 */
    bool neox;   /* pairs (i, i + dim/2) instead of (2i, 2i + 1) */
    double base; /* theta */
    nb_rope_scaling scaling;
    double factor;               /* >= 1 where it scales */
    double low_freq, high_freq;  /* llama3 */
    double beta_fast, beta_slow; /* yarn */
    bool yarn_exact;             /* its range of dimensions is not rounded outward */
    double original_context;     /* llama3, yarn, longrope, dynamic */
    double attention_factor;     /* of cos and sin; 0: the scaling's own rule */
    const float *freq_factors;   /* [dim / 2] divides each frequency, or NULL (llama3 in GGUF; longrope's short ones) */
    const float *freq_factors_long; /* for sequences longer than original_context (longrope), or NULL */
} nb_rope;

/* Sequences of which lengths turn by the same frequencies: their number is the same; never 0. 1 for most scalings; those of
 * longrope and dynamic follow the length. */
size_t nb_rope_kind(const nb_rope *rope, size_t length);
bool nb_rope_varies(const nb_rope *rope); /* by length */

/* Positions that a model of so many (original_context) takes when it is scaled so (factor). */
size_t nb_rope_stretched(const nb_rope *rope);

/* Fills frequency[dim / 2] (radians a position) for a sequence of `length` positions, in float32 and in the order of
 * operations of transformers, so that far positions agree too; and *magnitude, which multiplies cos and sin. */
void nb_rope_frequencies(const nb_rope *rope, size_t length, float *frequency, float *magnitude);

/* cos_sin[dim / 2][2] of one position. */
void nb_rope_angles(const float *frequency, float magnitude, size_t pairs, int64_t position, float *cos_sin);

#endif
