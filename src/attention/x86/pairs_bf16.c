/* AVX512-BF16: scores of bfloat16 queries and keys, two products an instruction in each lane. Products are exact and sums are
 * float32, so errors are those of the float32 kernel (but subnormal inputs count as 0). Only scores: weights would need three
 * bfloat16 terms to keep 24 bits (with two, rows of few keys are off by 1e-5), and from two terms on a multiply-add of floats
 * costs no more. */
#include <immintrin.h>
#include <string.h>

#include "attention/pairs.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Like a multiplication of floats, six rows by four vectors: 24 sums, 4 vectors of keys, a pair of a query's. */
INLINE void dot(size_t rows, size_t vectors, const nb_pairs *m, size_t column)
{
    __m512 sum[8][4];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < vectors; v++)
            sum[r][v] = _mm512_setzero_ps();
    }
    const uint32_t *b = m->b + column;
    for (size_t i = 0; i < m->n; i++, b += m->b_stride) {
        __m512bh right[4];
        UNROLL
        for (size_t v = 0; v < vectors; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(b + v * 16);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32((int32_t)m->a[r * m->a_stride + i]);
            UNROLL
            for (size_t v = 0; v < vectors; v++)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
        }
    }
    __m512 scale = _mm512_set1_ps(m->scale);
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < vectors; v++)
            _mm512_storeu_ps(m->c + r * m->c_stride + column + v * 16, _mm512_mul_ps(sum[r][v], scale));
    }
}

#define DOT(rows, vectors)                                                                                             \
    static void dot##rows(const nb_pairs *m)                                                                           \
    {                                                                                                                  \
        size_t column = 0;                                                                                             \
        for (; column + (vectors)*16 <= m->columns; column += (vectors)*16)                                            \
            dot(rows, vectors, m, column);                                                                             \
        for (; column < m->columns; column += 16)                                                                      \
            dot(rows, 1, m, column);                                                                                   \
    }
DOT(1, 4)
DOT(2, 4)
DOT(3, 4)
DOT(4, 4)
DOT(5, 4)
DOT(6, 4)
DOT(7, 2)
DOT(8, 2)

void nb_pairs_dot(size_t rows, const nb_pairs *m)
{
    static void (*const by_rows[])(const nb_pairs *) = {dot1, dot2, dot3, dot4, dot5, dot6, dot7, dot8};
    by_rows[rows - 1](m);
}
