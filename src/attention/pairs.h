/* pairs.h - products of bfloat16 vectors whose values lie in pairs, as the level NB_CPU_BF16 multiplies them. */
#ifndef NB_ATTENTION_PAIRS_H
#define NB_ATTENTION_PAIRS_H

#include <stddef.h>
#include <stdint.h>

/* c[r][*] = scale * sum over i < n of both products of the pairs a[r][i] and b[i][*], the low one being the first */
typedef struct nb_pairs {
    const uint32_t *a, *b;
    size_t a_stride, b_stride, n;
    float scale, *c;
    size_t c_stride, columns; /* columns: a multiple of 16 */
} nb_pairs;

#if defined(__x86_64__)
void nb_pairs_dot(size_t rows, const nb_pairs *m); /* rows: 1 to 8 */
#endif
#endif
