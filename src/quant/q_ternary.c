/* TQ1_0, TQ2_0, Q1_0, Q2_0: one or two bits a value, or five values of three levels in a byte, and one scale. */
#include "num/half.h"
#include "quant/quant.h"

/* `values` rounds over `bytes` bytes. A byte holds a fraction in [0, 1) in base 3: times three, its whole part is the
 * next digit; the digits before are shifted out by the wrap at 256. */
static float *digits(float d, const uint8_t *q, int bytes, int values, float *dst)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int v = 0; v < values; v++)
        for (int i = 0; i < bytes; i++) {
            uint8_t rest = (uint8_t)(q[i] * power[v]);
            *dst++ = d * (float)((rest * 3 >> 8) - 1);
        }
    return dst;
}

void nb_dequantize_tq1_0(const void *src, float *dst, size_t n)
{
    for (const nb_block_tq1_0 *b = src; n; n -= 256, b++) {
        float d = nb_f16_to_f32(b->d);
        dst = digits(d, b->qs, 32, 5, dst);
        dst = digits(d, b->qs + 32, 16, 5, dst);
        dst = digits(d, b->qh, 4, 4, dst);
    }
}

void nb_dequantize_tq2_0(const void *src, float *dst, size_t n)
{
    for (const nb_block_tq2_0 *b = src; n; n -= 256, dst += 256, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int i = 0; i < 256; i++)
            dst[i] = d * (float)((b->qs[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3) - 1);
    }
}

void nb_dequantize_q1_0(const void *src, float *dst, size_t n)
{
    for (const nb_block_q1_0 *b = src; n; n -= 128, dst += 128, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int i = 0; i < 128; i++)
            dst[i] = b->qs[i / 8] >> i % 8 & 1 ? d : -d;
    }
}

void nb_dequantize_q2_0(const void *src, float *dst, size_t n)
{
    for (const nb_block_q2_0 *b = src; n; n -= 64, dst += 64, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int i = 0; i < 64; i++)
            dst[i] = d * (float)((b->qs[i / 4] >> i % 4 * 2 & 3) - 1);
    }
}
