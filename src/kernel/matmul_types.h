/* matmul_types.h - what the bits of each packed type mean, once for every instruction set: GCC vectors of LANES rows.
 * Include after defining LANES (4, 8 or 16) and, where the processor converts halves itself, vf_half().
 * Everything is inlined with constant type, block and quad, so that the switches vanish.
 * w points at the words of a block of 16 rows, moved to the first of the LANES rows that are wanted. */
#ifndef NB_KERNEL_MATMUL_TYPES_H
#define NB_KERNEL_MATMUL_TYPES_H

#include "kernel/matmul_tile.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL /* gcc's sanitizers hide some loops from it, and it warns */
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* columns of a row of matmul.def, constants after inlining */
typedef struct shape {
    unsigned subs, shift, bits;
    unsigned blocks; /* of 32 values in a block of the type */
    unsigned bytes;  /* of 16 rows' blocks in a tile */
    unsigned head;   /* of these, before the words */
    bool min;
} shape;

typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef float vf __attribute__((vector_size(4 * LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * LANES)));

/* 32 values of LANES rows */
typedef struct block {
    vu code[8];
    vf scale[2], min[2];
} block;

INLINE vu vu_load(const void *p)
{
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE vf vf_load(const void *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void vf_store(void *p, vf v) { memcpy(p, &v, sizeof v); }
INLINE vu vu_load_u16(const void *p)
{
    vh v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vu);
}

/* f16 to f32 by exponent arithmetic: the multiplication by 2^112 is exact, also for subnormals */
INLINE vf vf_of_half(vu h)
{
    vu magnitude = (h & 0x7fff) << 13;
    vu special = (vu)(magnitude >= 0x0f800000u) & 0x7f800000u; /* infinities and NaNs */
    vf value = (vf)magnitude * 0x1p112f;
    return (vf)((vu)value | special | (h & 0x8000) << 16);
}

#ifndef VF_HALF
INLINE vf vf_half(const void *p) { return vf_of_half(vu_load_u16(p)); }
#endif

/* each byte of `index` (0..15) replaced by that entry of the list */
INLINE vu look_up(const uint8_t list[16], vu index)
{
#if LANES == 16
    return (vu)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)list)), (__m512i)index);
#elif LANES == 8
    return (vu)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)list)), (__m256i)index);
#else
    uint8_t bytes[4 * LANES];
    memcpy(bytes, &index, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = list[bytes[i]];
    return vu_load(bytes);
#endif
}

/* The lists of the codebook types as codes: value + (1 << shift). Those of NF4 and FP4 are rounded to whole numbers, of
 * the largest magnitudes that leave the least squared error: 0.17 % and 0.11 % of the block's absmax. */
#define NF4_ONE 112.030218f
#define FP4_ONE 120.0f
static const uint8_t codes_nf4[16] = {16, 50, 69, 84, 96, 107, 118, 128, 137, 146, 156, 166, 177, 191, 209, 240};
static const uint8_t codes_fp4[16] = {128, 129, 208, 248, 168, 188, 148, 158, 128, 127, 48, 8, 88, 68, 108, 98};
static const uint8_t codes_iq4[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t codes_mxfp4[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

/* for kernels that add to sums in memory */
INLINE void begin_sums(nb_sums acc, size_t width)
{
    for (size_t t = 0; acc.fresh && t < width; t++)
        memset(acc.at + t * acc.stride, 0, 16 * sizeof(float));
}

INLINE vf vf_of_int(vu v) { return __builtin_convertvector((vi)v, vf); }
INLINE vu word(const uint8_t *w, unsigned i) { return vu_load(w + 64 * (size_t)i); }

/* The codes 4 quad .. 4 quad + 3 of 32-value block `b` of each row, a byte each. */
INLINE vu tile_quad(nb_type type, const uint8_t *w, unsigned b, unsigned quad)
{
    unsigned low = quad % 4, nibble = quad / 4 * 4; /* of the 32-value types: 16 low nibbles, then 16 high ones */
    switch (type) {
    case NB_TYPE_Q4_0:
    case NB_TYPE_Q4_1: return word(w, low) >> nibble & 0x0f0f0f0f;
    case NB_TYPE_Q5_0:
    case NB_TYPE_Q5_1: {
        vu fifth = quad < 4 ? word(w, 0) << (4 - low) : word(w, 0) >> low;
        return (word(w, 1 + low) >> nibble & 0x0f0f0f0f) | (fifth & 0x10101010);
    }
    case NB_TYPE_Q8_0: return word(w, quad) ^ 0x80808080;
    case NB_TYPE_IQ4_NL: return look_up(codes_iq4, word(w, low) >> nibble & 0x0f0f0f0f);
    case NB_TYPE_IQ4_XS: return look_up(codes_iq4, word(w, 2 + 4 * b + low) >> nibble & 0x0f0f0f0f);
    case NB_TYPE_MXFP4: return look_up(codes_mxfp4, word(w, low) >> nibble & 0x0f0f0f0f);
    case NB_TYPE_NF4: return look_up(codes_nf4, word(w, 1 + 4 * b + low) >> nibble & 0x0f0f0f0f);
    case NB_TYPE_FP4: return look_up(codes_fp4, word(w, 1 + 4 * b + low) >> nibble & 0x0f0f0f0f);
    case NB_TYPE_INT8: return word(w, 1 + quad) ^ 0x80808080;
    case NB_TYPE_Q4_K: return word(w, 3 + b / 2 * 8 + quad) >> b % 2 * 4 & 0x0f0f0f0f;
    case NB_TYPE_Q5_K: {
        vu high = word(w, 4 + 2 * quad), fifth = b < 4 ? high << (4 - b) : high >> (b - 4);
        vu nibbles = word(w, b < 2 ? 3 + 2 * quad : 11 + b / 2 * 8 + quad);
        return (nibbles >> b % 2 * 4 & 0x0f0f0f0f) | (fifth & 0x10101010);
    }
    case NB_TYPE_Q6_K: { /* halves of 128 values: 16 words of low nibbles, the first 8 by turns with 8 of high pairs */
        unsigned half = 4 + b / 4 * 24;
        vu high = word(w, half + 2 * quad + 1), nibbles = word(w, half + (b % 2 ? 16 + quad : 2 * quad));
        high = b % 4 < 2 ? high << (4 - b % 4 * 2) : high >> (b % 4 * 2 - 4);
        return (nibbles >> b % 4 / 2 * 4 & 0x0f0f0f0f) | (high & 0x30303030);
    }
    case NB_TYPE_Q2_K: return word(w, 4 + b / 4 * 8 + quad) >> b % 4 * 2 & 0x03030303;
    case NB_TYPE_Q3_K: {
        vu high = word(w, 4 + 2 * quad), third = b < 2 ? high << (2 - b) : high >> (b - 2);
        vu low_bits = word(w, b < 4 ? 3 + 2 * quad : 19 + quad);
        return (low_bits >> b % 4 * 2 & 0x03030303) | (third & 0x04040404);
    }
    default: return word(w, quad); /* codes already */
    }
}

/* six bits of Q4_K and Q5_K: scale (at 0) or minimum (at 1) of block b, from words 0..2 */
INLINE vu k4_six(const uint8_t *w, unsigned b, unsigned at)
{
    unsigned byte = b % 4 * 8;
    if (b < 4)
        return word(w, at) >> byte & 63;
    return (word(w, 2) >> (byte + 4 * at) & 15) | (word(w, at) >> (byte + 2) & 48);
}

/* The block's own scale; tile: the head, moved to the first wanted row's. */
INLINE vf tile_d(nb_type type, const uint8_t *tile, const uint8_t *w)
{
    switch (type) {
    case NB_TYPE_IQ4_XS: return vf_of_half(word(w, 0) & 0xffff);
    case NB_TYPE_NF4: return (vf)word(w, 0) * (1 / NF4_ONE);
    case NB_TYPE_FP4: return (vf)word(w, 0) * (1 / FP4_ONE);
    case NB_TYPE_INT8: return (vf)word(w, 0);
    case NB_TYPE_MXFP4: { /* 2^(e - 128): the list is doubled */
        vu e = vu_load_u16(tile), small = (vu)(e < 2);
        return (vf)((small & (e + 1) << 21) | (~small & (e - 1) << 23));
    }
    default: return vf_half(tile);
    }
}

/* The scale of sub-block s (0 or 1) of 32-value block b; d is the block's own. */
INLINE vf tile_scale(nb_type type, const uint8_t *w, vf d, unsigned b, unsigned s)
{
    unsigned i = 2 * b + s;
    switch (type) {
    case NB_TYPE_Q4_K:
    case NB_TYPE_Q5_K: return d * vf_of_int(k4_six(w, b, 0));
    case NB_TYPE_Q6_K: return d * vf_of_int((vu)((vi)(word(w, i / 4) << (24 - i % 4 * 8)) >> 24));
    case NB_TYPE_Q2_K: return d * vf_of_int(word(w, i / 4) >> i % 4 * 8 & 15);
    case NB_TYPE_IQ4_XS:
        return d * vf_of_int(((word(w, 1) >> 4 * b & 15) | (word(w, 0) >> (16 + 2 * b) & 3) << 4) - 32);
    case NB_TYPE_Q3_K: {
        vu low = word(w, i / 4 % 2) >> (i % 4 * 8 + i / 8 * 4) & 15;
        unsigned shift = i % 4 * 8 + i / 4 * 2;
        vu high = shift < 4 ? word(w, 2) << (4 - shift) : word(w, 2) >> (shift - 4);
        return d * vf_of_int((low | (high & 48)) - 32);
    }
    default: return d;
    }
}

/* The same for what is taken away: times the sum of the activations. m is the block's own, added in Q4_1 and Q5_1. */
INLINE vf tile_min(nb_type type, const uint8_t *w, vf m, unsigned b, unsigned s)
{
    unsigned i = 2 * b + s;
    switch (type) {
    case NB_TYPE_Q4_K:
    case NB_TYPE_Q5_K: return m * vf_of_int(k4_six(w, b, 1));
    case NB_TYPE_Q2_K: return m * vf_of_int(word(w, i / 4) >> (i % 4 * 8 + 4) & 15);
    default: return -m;
    }
}

/* One of 16 rows' weights of a float type at index k. */
INLINE vf tile_float(nb_type type, const uint8_t *w, size_t k)
{
    switch (type) {
    case NB_TYPE_F16: return vf_half(w + k * 32);
    case NB_TYPE_BF16: {
        vu pair = vu_load(w + k / 2 * 64);
        return (vf)(k % 2 ? pair & 0xffff0000 : pair << 16);
    }
    default: return vf_load(w + k * 64);
    }
}

#endif
