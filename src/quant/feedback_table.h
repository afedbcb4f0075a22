/* feedback_table.h - the loops of feedback.c for one instruction-set level. All levels give the same bits. */
#ifndef NB_QUANT_FEEDBACK_TABLE_H
#define NB_QUANT_FEEDBACK_TABLE_H

#include "quant/feedback.h"

/* c[m][n] += sum over r < count, in this order, of a[r][m] b[r][n], for m < 8, n < 32; rows lda, ldb, ldc floats apart */
typedef void nb_outer_fn(const float *a, size_t lda, const float *b, size_t ldb, size_t count, float *c, size_t ldc);

/* A panel of columns of one sub-block: codes of 32 rows. A value is base + scale * level[code], or base + scale * code. */
typedef struct nb_feedback_step {
    const float *u;            /* [8][8] of the panel */
    const float *w, *t;        /* [8][32]: the weights; with what earlier columns gave */
    const float *base, *scale; /* [32] */
    const float *level;        /* [levels], ascending; NULL: the codes themselves */
    int levels;
    float *delta;   /* [8][32] out: w less the value */
    uint8_t *codes; /* [8][32] out */
} nb_feedback_step;
typedef void nb_feedback_step_fn(const nb_feedback_step *s);

typedef struct nb_feedback_table {
    nb_outer_fn *outer;
    nb_feedback_step_fn *step;
} nb_feedback_table;
extern const nb_feedback_table nb_feedback_ref, nb_feedback_avx2, nb_feedback_avx512;
const nb_feedback_table *nb_feedback_level(void); /* the processor's */

/* Types whose values are codes of their own times a scale, at least one for 16 values */
typedef struct nb_feedback_type {
    nb_type type;
    int levels;
    const float *level;                             /* NULL: affine */
    uint8_t one;                                    /* the code whose level is 1, where there is a list */
    void (*put)(const uint8_t *codes, void *block); /* codes of one block into its bytes, the scales stay */
} nb_feedback_type;
const nb_feedback_type *nb_feedback_type_of(uint32_t id); /* NULL: the type is of another kind */

#endif
