/* Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1: blocks of 32 values with one scale and, in the _1 types, a minimum. Value i is the
 * low nibble of byte i for i < 16, the high nibble of byte i - 16 after. */
#include "num/half.h"
#include "quant/quant.h"

enum { VALUES = 32, HALF = VALUES / 2 };

void nb_dequantize_q4_0(const void *src, float *dst, size_t n)
{
    for (const nb_block_q4_0 *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int i = 0; i < HALF; i++) {
            dst[i] = d * (float)((b->qs[i] & 15) - 8);
            dst[i + HALF] = d * (float)((b->qs[i] >> 4) - 8);
        }
    }
}

void nb_dequantize_q4_1(const void *src, float *dst, size_t n)
{
    for (const nb_block_q4_1 *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d), m = nb_f16_to_f32(b->m);
        for (int i = 0; i < HALF; i++) {
            dst[i] = d * (float)(b->qs[i] & 15) + m;
            dst[i + HALF] = d * (float)(b->qs[i] >> 4) + m;
        }
    }
}

/* the fifth bit of value i, in place */
static int fifth(const uint8_t *qh, int i) { return (qh[i / 8] >> (i % 8) & 1) << 4; }

void nb_dequantize_q5_0(const void *src, float *dst, size_t n)
{
    for (const nb_block_q5_0 *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int i = 0; i < HALF; i++) {
            dst[i] = d * (float)(((b->qs[i] & 15) | fifth(b->qh, i)) - 16);
            dst[i + HALF] = d * (float)((b->qs[i] >> 4 | fifth(b->qh, i + HALF)) - 16);
        }
    }
}

void nb_dequantize_q5_1(const void *src, float *dst, size_t n)
{
    for (const nb_block_q5_1 *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d), m = nb_f16_to_f32(b->m);
        for (int i = 0; i < HALF; i++) {
            dst[i] = d * (float)((b->qs[i] & 15) | fifth(b->qh, i)) + m;
            dst[i + HALF] = d * (float)(b->qs[i] >> 4 | fifth(b->qh, i + HALF)) + m;
        }
    }
}

void nb_dequantize_q8_0(const void *src, float *dst, size_t n)
{
    for (const nb_block_q8_0 *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int i = 0; i < VALUES; i++)
            dst[i] = d * (float)b->qs[i];
    }
}

void nb_dequantize_q8_1(const void *src, float *dst, size_t n)
{
    for (const nb_block_q8_1 *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int i = 0; i < VALUES; i++)
            dst[i] = d * (float)b->qs[i];
    }
}
