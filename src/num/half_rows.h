/* half_rows.h - the rows of half.h at each instruction-set level; half.c chooses. All give the same bits. */
#ifndef NB_NUM_HALF_ROWS_H
#define NB_NUM_HALF_ROWS_H

#include "num/half.h"

#define NB_HALF_ROWS(level)                                                                                            \
    void nb_f16_to_f32_row_##level(const uint16_t *src, float *dst, size_t n);                                         \
    void nb_f32_to_f16_row_##level(const float *src, uint16_t *dst, size_t n);                                         \
    void nb_bf16_to_f32_row_##level(const uint16_t *src, float *dst, size_t n);                                        \
    void nb_f32_to_bf16_row_##level(const float *src, uint16_t *dst, size_t n);

NB_HALF_ROWS(ref)
NB_HALF_ROWS(fma)
NB_HALF_ROWS(avx512)

#undef NB_HALF_ROWS

/* Plain loops, which each level's compiler flags vectorize. */
#define NB_HALF_LOOP(name, level, one, from, to)                                                                       \
    void name##_##level(const from *restrict src, to *restrict dst, size_t n)                                          \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                 \
            dst[i] = one(src[i]);                                                                                      \
    }

#endif
