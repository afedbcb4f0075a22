/* matmul_tile.h - layouts and the table of functions behind matmul.h; private to src/kernel.
 *
 * Packed tile of a block type: for each block, ascending, of 16 rows (lane = row):
 *     16 bits d[16] (unless among the words), f16 m[16] (types with a minimum), u32 word[n][16]: word place[i] of all
 *     rows, the block's own words. So a vector holds 4 consecutive bytes of 16 rows, and padding rows are zeros.
 * Float types: [k][16] elements; BF16: [k / 2][16] pairs of elements.
 *
 * Codes ("u8 blocks"), what prefill unpacks a tile to, for each 32 values:
 *     u8 code[8 quads][16 rows][4], f32 scale[subs][16], f32 min[subs][16] (types with a minimum).
 *
 * Panel of W tokens, NB_ACT_Q8, for each 32 values: u32 quad[8][W] (4 signed bytes of one token), i32 minus[W]
 *     (the sum of the 32, negated: one shift by memory operand starts a kernel's sums), i32 minus_low[W] (of the first
 *     16 values), f32 scale[W]. NB_ACT_F32: f32 [k][W]. NB_ACT_BF16: pairs of bf16 [k / 2][W].
 *
 * The value of (row, token), in this order at every level, s over sub-blocks, b over blocks of 32 values:
 *     dot_s = sum code * q + (minus_s << shift)                    exact, 32-bit integers
 *     v_b = dot_0 scale_0; v_b = fma(dot_1, scale_1, v_b); v_b = fma(min_s, (float)minus_s, v_b), s ascending
 *     acc = fma(v_b, activation scale_b, acc)
 * F32: within each 256 values of k from 0: part_j = fma(w, x, part_j) for k = j mod 4, k ascending; then acc += part_0,
 *     part_1, part_2, part_3. (Four chains hide the latency of fma for one token, and read k in order.)
 * BF16 by BF16: two chains of vpdpbf16ps, over pairs of k even and odd; then their sum.
 * The AVX2 level has no fma: there it is a multiplication and an addition. */
#ifndef NB_KERNEL_MATMUL_TILE_H
#define NB_KERNEL_MATMUL_TILE_H

#include <math.h>

#include "kernel/matmul.h"

enum { NB_WIDTHS = 4, NB_SPAN_F32 = 256 };

/* the order of codes in a block's words (matmul.def) */
enum { NB_AS_IT_IS, NB_FIFTH_BITS, NB_PAIRS };

/* constants of each type's block in a file */
enum {
#define NB_TYPE(name, id, values, block, bytes, dequantize, quantize)                                                  \
    NB_TYPE_VALUES_##name = values, NB_TYPE_BYTES_##name = bytes,
#include "quant/types.def"
#undef NB_TYPE
    NB_TYPE_CONSTANTS_END
};

/* of one row's block in a packed tile: scale, minimum, words */
#define NB_PACKED_BYTES(d_bytes, m, words) ((d_bytes ? 2 : 0) + (m >= 0 ? 2 : 0) + 4 * words)

/* how a type's block lies in the file and what its codes mean: the columns of matmul.def */
typedef struct nb_tile_type {
    int16_t d_at, d_bytes, m_at;
    uint16_t words_at, words; /* words 0: the type has no 8-bit kernel */
    const uint8_t *place;
    uint8_t order, subs;
    uint8_t float_bytes; /* of what a lane holds: a number, or a pair of bfloat16 */
    uint16_t block_values, file_bytes, packed_bytes;
} nb_tile_type;

const nb_tile_type *nb_tile_type_get(nb_type type);

static inline size_t nb_word_place(const nb_tile_type *t, size_t i) { return t->place ? t->place[i] : i; }
static inline bool nb_tile_has_min(const nb_tile_type *t) { return t->m_at >= 0; }
/* bytes of scales and minima before the words of a packed block of 16 rows */
static inline size_t nb_tile_head(const nb_tile_type *t)
{
    return (t->d_bytes ? 32 : 0) + (nb_tile_has_min(t) ? 32 : 0);
}
static inline size_t nb_codes_bytes(size_t subs, bool min) { return 512 + 64 * subs * (min ? 2 : 1); }
#define NB_PANEL_Q8_BYTES 44 /* a token's 32 values */

/* Where a kernel leaves acc: at[token * stride + row], 16 rows; fresh: starting from zeros, not from what is there. */
typedef struct nb_sums {
    float *at;
    size_t stride;
    bool fresh;
} nb_sums;

/* The product of a tile and a panel. n counts blocks of w (dot), 32-value blocks (dot_codes), or k. */
typedef void nb_dot_fn(const void *w, const void *panel, size_t n, nb_sums acc);

typedef void nb_unpack_fn(const void *tile, size_t blocks, void *codes);

typedef struct nb_tile_kernels {
    nb_dot_fn *dot[NB_WIDTHS]; /* widths 1, 2, 4, 8, from the packed tile */
    nb_unpack_fn *unpack;      /* NULL where unpacking a tile before many panels does not pay */
    nb_dot_fn *dot_codes;      /* width 8, from codes */
} nb_tile_kernels;

typedef struct nb_matmul_level {
    nb_tile_kernels types[NB_TYPE_LIMIT];
    /* blocks of up to 16 file rows to a packed tile; rows beyond n_rows become zeros */
    void (*pack)(const nb_tile_type *t, const uint8_t *src, size_t row_bytes, size_t n_rows, size_t blocks, void *tile);
    /* out[i][lane] = rows[lane * n + i], lanes 16 */
    void (*transpose16)(const float *rows, size_t n, float *out);
    /* one panel: tokens x[t], t < n (n <= width), values [k_begin, k_end); panel is that of the whole k */
    void (*act_q8)(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel);
    void (*act_f32)(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, float *panel);
} nb_matmul_level;

extern const nb_matmul_level nb_matmul_ref;
#if defined(__x86_64__)
extern const nb_matmul_level nb_matmul_avx2, nb_matmul_fma, nb_matmul_avx512;
/* bfloat16 by bfloat16 */
extern const nb_tile_kernels nb_matmul_bf16;
void nb_act_bf16(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel);
#endif

void nb_pack_ref(const nb_tile_type *t, const uint8_t *src, size_t row_bytes, size_t n_rows, size_t blocks, void *tile);
/* the inverse: file rows from a packed tile */
void nb_unpack_rows(const nb_tile_type *t, const uint8_t *tile, size_t blocks, uint8_t *rows, size_t row_bytes);
void nb_transpose16_ref(const float *rows, size_t n, float *out);
void nb_act_q8_ref(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel);
void nb_act_f32_ref(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, float *panel);

#if defined(__x86_64__)
void nb_pack_avx2(const nb_tile_type *t, const uint8_t *src, size_t row_bytes, size_t n_rows, size_t blocks,
                  void *tile);
void nb_transpose16_avx2(const float *rows, size_t n, float *out);
void nb_act_q8_avx2(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel);
void nb_act_f32_avx2(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, float *panel);
#endif

static inline unsigned nb_log2_width(size_t width) { return width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3; }

/* Fifth bits: file bit 4 q + j (value j of quad q) to bit 8 j + q, so that quad q's four bits are one shift and
 * one mask 0x01010101 away from the low bits of its four bytes. */
static inline uint32_t nb_fifth_spread(uint32_t x)
{
    uint32_t y = 0;
    for (unsigned q = 0; q < 8; q++)
        y |= ((x >> 4 * q & 15) * 0x204081u & 0x01010101u) << q;
    return y;
}

static inline uint32_t nb_fifth_gather(uint32_t y)
{
    uint32_t x = 0;
    for (unsigned q = 0; q < 8; q++)
        x |= ((y >> q & 0x01010101u) * 0x204081u >> 21 & 15) << 4 * q;
    return x;
}

/* NB_PAIRS: 8 bytes of neighbours, values 0..7 in `low` and 16..23 in `high` (first high nibbles), to 8 bytes that hold
 * value i low and value i + 16 high; and back. */
static inline void nb_pairs_split(uint32_t low, uint32_t high, uint32_t out[2])
{
    uint32_t even = (low >> 4 & 0x0f0f0f0f) | (high & 0xf0f0f0f0), odd = (low & 0x0f0f0f0f) | (high << 4 & 0xf0f0f0f0);
    out[0] = (even & 0xff) | (even & 0xff00) << 8 | (odd & 0xff) << 8 | (odd & 0xff00) << 16;
    even >>= 16, odd >>= 16;
    out[1] = (even & 0xff) | (even & 0xff00) << 8 | (odd & 0xff) << 8 | (odd & 0xff00) << 16;
}

static inline void nb_pairs_join(const uint32_t in[2], uint32_t *low, uint32_t *high)
{
    uint32_t even = 0, odd = 0;
    for (int i = 0; i < 2; i++) {
        even |= ((in[i] & 0xff) | (in[i] >> 8 & 0xff00)) << 16 * i;
        odd |= ((in[i] >> 8 & 0xff) | (in[i] >> 16 & 0xff00)) << 16 * i;
    }
    *low = (even & 0x0f0f0f0f) << 4 | (odd & 0x0f0f0f0f);
    *high = (even & 0xf0f0f0f0) | (odd >> 4 & 0x0f0f0f0f);
}

#endif
