/* quantize_table.h - the searches of one instruction-set level; quantize.c chooses the table. All tables give the same
 * bytes. n values at x, a multiple of the block; weight: n of them or NULL; dst: any alignment. */
#ifndef NB_QUANT_QUANTIZE_TABLE_H
#define NB_QUANT_QUANTIZE_TABLE_H

#include <stdbool.h>
#include <stddef.h>

typedef void nb_quantize_search_fn(const float *x, const float *weight, size_t n, void *dst);
/* plain: no search, but the type's formula */
typedef void nb_quantize_k_fn(const float *x, const float *weight, size_t n, bool plain, void *dst);

typedef struct nb_quantize_table {
    nb_quantize_search_fn *q4_0, *q4_1, *q5_0, *q5_1, *q8_0, *tq1_0, *tq2_0, *q1_0, *q2_0;
    nb_quantize_k_fn *q2_k, *q3_k, *q4_k, *q5_k, *q6_k;
} nb_quantize_table;

extern const nb_quantize_table nb_quantize_table_ref, nb_quantize_table_avx2, nb_quantize_table_avx512;

/* the body of a table: its file includes the searches, compiled for its level */
#define NB_QUANTIZE_TABLE                                                                                              \
    {                                                                                                                  \
        .q4_0 = search_q4_0, .q4_1 = search_q4_1, .q5_0 = search_q5_0, .q5_1 = search_q5_1, .q8_0 = search_q8_0,       \
        .tq1_0 = search_tq1_0, .tq2_0 = search_tq2_0, .q1_0 = search_q1_0, .q2_0 = search_q2_0, .q2_k = search_q2_k,   \
        .q3_k = search_q3_k, .q4_k = search_q4_k, .q5_k = search_q5_k, .q6_k = search_q6_k                             \
    }

#endif
