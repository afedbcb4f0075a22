/* Q2_K to Q6_K: blocks of 256 values in sub-blocks of 16 or 32, whose scales are integers times the block's d.
 * d has 11 bits, a scale and a value at most 12 together: their product is exact in float. So only the subtraction of
 * the minimum rounds, and the order or a fused multiply-add changes nothing. Q8_K has one float scale. */
#include "num/half.h"
#include "quant/quant.h"

enum { VALUES = 256 };

void nb_dequantize_q2_k(const void *src, float *dst, size_t n)
{
    for (const nb_block_q2_k *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d), dmin = nb_f16_to_f32(b->dmin);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)(b->scales[sub] & 15), min = dmin * (float)(b->scales[sub] >> 4);
            const uint8_t *q = b->qs + sub / 8 * 32 + sub % 2 * 16;
            int shift = sub / 2 % 4 * 2;
            for (int i = 0; i < 16; i++)
                dst[sub * 16 + i] = scale * (float)(q[i] >> shift & 3) - min;
        }
    }
}

/* the six-bit scale of a sub-block: low four bits in the first eight bytes, high two in the last four */
static int q3_k_scale(const uint8_t *scales, int sub)
{
    int low = scales[sub % 8] >> sub / 8 * 4 & 15, high = scales[8 + sub % 4] >> sub / 4 * 2 & 3;
    return (low | high << 4) - 32;
}

void nb_dequantize_q3_k(const void *src, float *dst, size_t n)
{
    for (const nb_block_q3_k *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)q3_k_scale(b->scales, sub);
            const uint8_t *q = b->qs + sub / 8 * 32 + sub % 2 * 16, *high = b->hmask + sub % 2 * 16;
            int shift = sub / 2 % 4 * 2;
            for (int i = 0; i < 16; i++) /* a set bit means that 4 is not taken away */
                dst[sub * 16 + i] = scale * (float)((q[i] >> shift & 3) - (high[i] >> sub / 2 & 1 ? 0 : 4));
        }
    }
}

/* the six-bit scale and minimum of sub-block 0..7 of Q4_K and Q5_K: those of the last four have their low four bits
 * in bytes 8..11 and their high two in the top of the bytes of the first four */
static void q4_k_scale_min(const uint8_t *s, int sub, int *scale, int *min)
{
    int j = sub % 4;
    *scale = sub < 4 ? s[j] & 63 : (s[8 + j] & 15) | (s[j] >> 6) << 4;
    *min = sub < 4 ? s[4 + j] & 63 : s[8 + j] >> 4 | (s[4 + j] >> 6) << 4;
}

void nb_dequantize_q4_k(const void *src, float *dst, size_t n)
{
    for (const nb_block_q4_k *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d), dmin = nb_f16_to_f32(b->dmin);
        for (int sub = 0; sub < 8; sub++) {
            int s, m;
            q4_k_scale_min(b->scales, sub, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            const uint8_t *q = b->qs + sub / 2 * 32;
            int shift = sub % 2 * 4;
            for (int i = 0; i < 32; i++)
                dst[sub * 32 + i] = scale * (float)(q[i] >> shift & 15) - min;
        }
    }
}

void nb_dequantize_q5_k(const void *src, float *dst, size_t n)
{
    for (const nb_block_q5_k *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d), dmin = nb_f16_to_f32(b->dmin);
        for (int sub = 0; sub < 8; sub++) {
            int s, m;
            q4_k_scale_min(b->scales, sub, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            const uint8_t *q = b->qs + sub / 2 * 32;
            int shift = sub % 2 * 4;
            for (int i = 0; i < 32; i++)
                dst[sub * 32 + i] = scale * (float)((q[i] >> shift & 15) | (b->qh[i] >> sub & 1) << 4) - min;
        }
    }
}

void nb_dequantize_q6_k(const void *src, float *dst, size_t n)
{
    for (const nb_block_q6_k *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int sub = 0; sub < 16; sub++) { /* quarters of 32 in each half: low nibbles first, then high ones */
            float scale = d * (float)b->scales[sub];
            int half = sub / 8, quarter = sub / 2 % 4, side = sub % 2 * 16;
            const uint8_t *low = b->ql + half * 64 + quarter % 2 * 32 + side, *high = b->qh + half * 32 + side;
            for (int i = 0; i < 16; i++) {
                int q = (low[i] >> quarter / 2 * 4 & 15) | (high[i] >> quarter * 2 & 3) << 4;
                dst[sub * 16 + i] = scale * (float)(q - 32);
            }
        }
    }
}

void nb_dequantize_q8_k(const void *src, float *dst, size_t n)
{
    for (const nb_block_q8_k *b = src; n; n -= VALUES, dst += VALUES, b++)
        for (int i = 0; i < VALUES; i++)
            dst[i] = b->d * (float)b->qs[i];
}
