/* quant.h - tensor types: names, sizes, and the plain C arithmetic of each. types.def has a row a type. */
#ifndef NB_QUANT_QUANT_H
#define NB_QUANT_QUANT_H

#include "base/mem.h"
#include "quant/blocks.h"

/* Values are GGUF's ids. */
typedef enum nb_type {
#define NB_TYPE(name, id, values, block, bytes, dequantize, quantize) NB_TYPE_##name = id,
#include "quant/types.def"
#undef NB_TYPE
    NB_TYPE_FILE_LIMIT = 43, /* files hold types below this */
    NB_TYPE_LIMIT = 67
} nb_type;

/* How values become codes. The bytes depend on the input alone: not on the instruction-set level or on threads. */
typedef enum nb_rounding {
    NB_ROUND_SEARCH, /* looks for the scales (and minima) with the least weighted squared error */
    NB_ROUND_NEAREST /* the format's plain formula: equal to gguf-py to the bit where that has one */
} nb_rounding;

/* Quantizes one row. x: n finite floats, n a multiple of block_values; weight: the importance of each column (n floats,
 * >= 0, not all 0), NULL: all alike, in which case a quantizer may weigh by the values themselves; dst: n / block_values
 * blocks, any alignment. May be called by several threads at once. */
typedef void nb_quantize_fn(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst);

typedef struct nb_type_info {
    const char *name;      /* "Q4_K" */
    uint32_t id;           /* GGUF's */
    uint32_t block_values; /* values a block */
    uint32_t block_bytes;
    /* src: n / block_values blocks, aligned as the block's struct; dst: n floats; n a multiple of block_values.
     * Equal to gguf-py to the bit (which NaN a NaN is, aside). Never NULL. */
    void (*dequantize)(const void *src, float *dst, size_t n);
    nb_quantize_fn *quantize; /* NULL: no file holds the type, or it is an integer one */
} nb_type_info;

/* The row of a type; NULL for an unknown or removed id. */
const nb_type_info *nb_type_get(uint32_t id);
/* The row whose name is `name` in any case; NULL when there is none. */
const nb_type_info *nb_type_by_name(nb_str name);
/* Why an id has no row: "removed" or "unknown". */
const char *nb_type_why_missing(uint32_t id);

/* Bytes of one row of `columns` values; false when columns is not a multiple of the block or it overflows. */
bool nb_type_row_bytes(const nb_type_info *type, uint64_t columns, size_t *bytes);

/* The dequantize functions, for callers that know the type: nb_dequantize_q4_k(src, dst, n) ... */
#define NB_TYPE(name, id, values, block, bytes, dequantize, quantize)                                                  \
    void dequantize(const void *src, float *dst, size_t n);
#include "quant/types.def"
#undef NB_TYPE

/* The quantize functions. */
nb_quantize_fn nb_quantize_f32, nb_quantize_f16, nb_quantize_bf16, nb_quantize_f64;
nb_quantize_fn nb_quantize_q4_0, nb_quantize_q4_1, nb_quantize_q5_0, nb_quantize_q5_1, nb_quantize_q8_0;
nb_quantize_fn nb_quantize_q2_k, nb_quantize_q3_k, nb_quantize_q4_k, nb_quantize_q5_k, nb_quantize_q6_k;
nb_quantize_fn nb_quantize_tq1_0, nb_quantize_tq2_0, nb_quantize_q1_0, nb_quantize_q2_0;
nb_quantize_fn nb_quantize_iq1_s, nb_quantize_iq1_m, nb_quantize_iq2_xxs, nb_quantize_iq2_xs, nb_quantize_iq2_s;
nb_quantize_fn nb_quantize_iq3_xxs, nb_quantize_iq3_s, nb_quantize_iq4_nl, nb_quantize_iq4_xs;
nb_quantize_fn nb_quantize_mxfp4, nb_quantize_nvfp4;
nb_quantize_fn nb_quantize_nf4, nb_quantize_fp4, nb_quantize_int8;

#endif
