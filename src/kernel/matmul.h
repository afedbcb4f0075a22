/* matmul.h - y = x W^T for weights of any tensor type: packing of weights, quantization of activations, the product.
 *
 * Weights are W[rows][k]. They are used either as in the file (row after row of blocks) or *packed*: tiles of 16 rows
 * interleaved so that a vector lane is a row and a tile is one sequential stream of the file's bytes (facts: decode
 * reads it at memory speed, prefill unpacks it to 8 bits once a tile).
 * Activations are written into *panels*: whole panels of 8 tokens, then one panel for the 1..7 left over, of width
 * 1, 2, 4 or 8 (the next power of two). NB_ACT_Q8: 8-bit with a scale (absmax / 127) for each 32 values of a token.
 * NB_ACT_BF16: rounded to bfloat16, for weights of that type at the level that multiplies it. NB_ACT_F32: floats. A
 * matrix's natural format is nb_matmul_act_format(); exact mode uses NB_ACT_F32 with every type. NB_ACT_INT8, for weights of that
 * type: as Q8, but a token's values of at least a threshold (outliers: Dettmers et al. 2022, LLM.int8()) are left out, kept as
 * floats behind the panels, and multiplied with dequantized weights; which they are depends on that token alone.
 *
 * Batch invariance: the floating-point operations that make y[t][r] and their order depend on the type, the activation
 * format and the instruction-set level only: not on the number of tokens, the panel width, rows per call, threads, or
 * packed against file layout.
 */
#ifndef NB_KERNEL_MATMUL_H
#define NB_KERNEL_MATMUL_H

#include "base/cpu.h"
#include "quant/quant.h"

#define NB_TILE_ROWS 16
#define NB_PANEL_TOKENS 8

typedef enum nb_act_format { NB_ACT_F32, NB_ACT_Q8, NB_ACT_BF16, NB_ACT_INT8 } nb_act_format;

/* ---- activations ---- */

/* Bytes of the panels of n_tokens tokens of k values. Linear in the number of whole panels. k: a multiple of 32 for Q8 and
 * INT8, of 2 for BF16. */
size_t nb_act_bytes(nb_act_format format, size_t k, size_t n_tokens);
size_t nb_act_panels(size_t n_tokens);

/* Writes values [k_begin, k_end) (multiples of 32, or the end) of the tokens of panels [panel_begin, panel_end).
 * x[t * x_stride + i]: token t's value i (i from 0: k_begin is an index, not an offset). Unused columns of the last
 * panel are written as zeros. Different ranges may be written by different threads. out: 64-byte aligned. */
void nb_act_write(nb_act_format format, const float *x, size_t x_stride, size_t n_tokens, size_t k, size_t panel_begin,
                  size_t panel_end, size_t k_begin, size_t k_end, void *out);
/* The same of gathered rows: token t is row rows[t] of x. */
void nb_act_write_rows(nb_act_format format, const float *x, size_t x_stride, const uint32_t *rows, size_t n_tokens, size_t k,
                       size_t panel_begin, size_t panel_end, size_t k_begin, size_t k_end, void *out);
/* The same for NB_ACT_INT8, all of k. threshold: above 0. */
void nb_act_write_int8(const float *x, size_t x_stride, size_t n_tokens, size_t k, size_t panel_begin, size_t panel_end,
                       float threshold, void *out);

/* ---- weights ---- */

/* The activation format that the fast kernel of a matrix of k columns wants at the current level: Q8 for quantized types
 * that have one, BF16 for bfloat16 where the processor multiplies it, else F32. */
nb_act_format nb_matmul_act_format(nb_type type, size_t k);
/* True when packing pays for this type and shape at the current level. */
bool nb_matmul_packs(nb_type type, size_t rows, size_t k);
/* Bytes of the packed form (rows rounded up to whole tiles); false on overflow. Tile i is at i * (bytes / tiles). */
bool nb_packed_bytes(nb_type type, size_t rows, size_t k, size_t *bytes);
/* Packs tiles [tile_begin, tile_end) of src (file rows) into dst (the whole packed matrix, 64-byte aligned). */
void nb_pack(nb_type type, const void *src, size_t rows, size_t k, void *dst, size_t tile_begin, size_t tile_end);

/* ---- the product ---- */

typedef struct nb_matmul {
    nb_type type;
    bool packed;         /* weights is the packed form; else the file's rows */
    const void *weights; /* packed: 64-byte aligned; file rows: any alignment */
    size_t rows, k;
    nb_act_format format;
    const void *act; /* panels, as nb_act_write left them */
    size_t n_tokens;
    float *y; /* y[t * y_stride + r] */
    size_t y_stride;
    const float *bias; /* [rows], or NULL */
    bool add;          /* y += instead of y = (after bias) */
    void *scratch;     /* nb_matmul_scratch() bytes, 64-byte aligned, one for each thread */
} nb_matmul;

/* Scratch for one thread, enough for any row range of this shape. */
size_t nb_matmul_scratch(nb_type type, nb_act_format format, size_t k, size_t n_tokens);
/* Computes rows [row_begin, row_end) (multiples of 16, or the end) for all tokens. */
void nb_matmul_run(const nb_matmul *m, size_t row_begin, size_t row_end);

#endif
