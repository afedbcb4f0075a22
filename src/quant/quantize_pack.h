/* quantize_pack.h - codes, scales and minima into the bytes of one block. Codes are counted from 0 (a signed type adds its
 * offset first), in the order of the values. */
#ifndef NB_QUANT_QUANTIZE_PACK_H
#define NB_QUANT_QUANTIZE_PACK_H

#include <string.h>

#include "quant/blocks.h"

/* 32 codes of four bits: value i with value i + 16 */
static inline void nb_pack_nibbles(const uint8_t *codes, uint8_t *qs)
{
    for (int i = 0; i < 16; i++)
        qs[i] = (uint8_t)((codes[i] & 15) | codes[i + 16] << 4);
}

/* the fifth bits of 32 codes */
static inline void nb_pack_fifth(const uint8_t *codes, uint8_t *qh)
{
    for (int i = 0; i < 4; i++) {
        unsigned bits = 0;
        for (int j = 0; j < 8; j++)
            bits |= (unsigned)(codes[i * 8 + j] >> 4) << j;
        qh[i] = (uint8_t)bits;
    }
}

/* 128 codes of two bits: values 32 apart share a byte */
static inline void nb_pack_pairs(const uint8_t *codes, uint8_t *qs)
{
    for (int i = 0; i < 32; i++)
        qs[i] = (uint8_t)((codes[i] & 3) | (codes[i + 32] & 3) << 2 | (codes[i + 64] & 3) << 4 |
                          (codes[i + 96] & 3) << 6);
}

static inline void nb_pack_k_pairs(const uint8_t *codes, uint8_t *qs)
{
    nb_pack_pairs(codes, qs);
    nb_pack_pairs(codes + 128, qs + 32);
}

/* bit `bit` of 256 codes: bit i of a byte for the values 32 i later */
static inline void nb_pack_k_bit(const uint8_t *codes, int bit, uint8_t *qh)
{
    for (int i = 0; i < 32; i++) {
        unsigned high = 0;
        for (int j = 0; j < 8; j++)
            high |= (unsigned)(codes[j * 32 + i] >> bit & 1) << j;
        qh[i] = (uint8_t)high;
    }
}

static inline void nb_pack_q2_k(const uint8_t *codes, const uint8_t *scales, const uint8_t *mins, nb_block_q2_k *b)
{
    nb_pack_k_pairs(codes, b->qs);
    for (int i = 0; i < 16; i++)
        b->scales[i] = (uint8_t)(scales[i] | mins[i] << 4);
}

/* scales: 0..63, 32 for 0 */
static inline void nb_pack_q3_k(const uint8_t *codes, const uint8_t *scales, nb_block_q3_k *b)
{
    nb_pack_k_pairs(codes, b->qs);
    nb_pack_k_bit(codes, 2, b->hmask);
    for (int i = 0; i < 8; i++)
        b->scales[i] = (uint8_t)((scales[i] & 15) | scales[i + 8] << 4);
    for (int i = 0; i < 4; i++)
        b->scales[8 + i] = (uint8_t)(scales[i] >> 4 | scales[i + 4] >> 4 << 2 | scales[i + 8] >> 4 << 4 |
                                     scales[i + 12] >> 4 << 6);
}

/* eight scales and minima of six bits in twelve bytes: as Q4_K and Q5_K have them */
static inline void nb_pack_k_scales(const uint8_t *scales, const uint8_t *mins, uint8_t *out)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(scales[i] | scales[i + 4] >> 4 << 6);
        out[i + 4] = (uint8_t)(mins[i] | mins[i + 4] >> 4 << 6);
        out[i + 8] = (uint8_t)((scales[i + 4] & 15) | mins[i + 4] << 4);
    }
}

/* 256 codes: the low nibbles of 32 values with those of the next 32 */
static inline void nb_pack_k_nibbles(const uint8_t *codes, uint8_t *qs)
{
    for (int i = 0; i < 128; i++) {
        const uint8_t *c = codes + i / 32 * 64 + i % 32;
        qs[i] = (uint8_t)((c[0] & 15) | c[32] << 4);
    }
}

static inline void nb_pack_q4_k(const uint8_t *codes, const uint8_t *scales, const uint8_t *mins, nb_block_q4_k *b)
{
    nb_pack_k_scales(scales, mins, b->scales);
    nb_pack_k_nibbles(codes, b->qs);
}

static inline void nb_pack_q5_k(const uint8_t *codes, const uint8_t *scales, const uint8_t *mins, nb_block_q5_k *b)
{
    nb_pack_k_scales(scales, mins, b->scales);
    nb_pack_k_nibbles(codes, b->qs);
    nb_pack_k_bit(codes, 4, b->qh);
}

static inline void nb_pack_k_six(const uint8_t *codes, nb_block_q6_k *b)
{
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 32; i++) {
            const uint8_t *c = codes + half * 128 + i;
            b->ql[half * 64 + i] = (uint8_t)((c[0] & 15) | c[64] << 4);
            b->ql[half * 64 + 32 + i] = (uint8_t)((c[32] & 15) | c[96] << 4);
            b->qh[half * 32 + i] = (uint8_t)(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
        }
}

static inline void nb_pack_q6_k(const uint8_t *codes, const int8_t *scales, nb_block_q6_k *b)
{
    memcpy(b->scales, scales, 16);
    nb_pack_k_six(codes, b);
}

/* codes of three levels, 0..2: five digits of base 3 as a fraction of 256, rounded up */
static inline void nb_pack_trits(const uint8_t *codes, int bytes, int digits, uint8_t *out)
{
    for (int i = 0; i < bytes; i++) {
        unsigned q = 0;
        for (int j = 0; j < 5; j++)
            q = q * 3 + (j < digits ? codes[j * bytes + i] : 0);
        out[i] = (uint8_t)((q * 256 + 242) / 243);
    }
}

static inline void nb_pack_tq1_0(const uint8_t *codes, nb_block_tq1_0 *b)
{
    nb_pack_trits(codes, 32, 5, b->qs);
    nb_pack_trits(codes + 160, 16, 5, b->qs + 32);
    nb_pack_trits(codes + 240, 4, 4, b->qh);
}

static inline void nb_pack_tq2_0(const uint8_t *codes, nb_block_tq2_0 *b)
{
    nb_pack_pairs(codes, b->qs);
    nb_pack_pairs(codes + 128, b->qs + 32);
}

/* 64 codes 0..3, four neighbours a byte */
static inline void nb_pack_q2_0(const uint8_t *codes, nb_block_q2_0 *b)
{
    for (int i = 0; i < 16; i++)
        b->qs[i] = (uint8_t)(codes[4 * i] | codes[4 * i + 1] << 2 | codes[4 * i + 2] << 4 | codes[4 * i + 3] << 6);
}

#endif
