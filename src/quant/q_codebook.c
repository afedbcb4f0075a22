/* IQ4_NL, IQ4_XS, MXFP4, NVFP4: four bits choose one of sixteen values of a fixed list, times the block's scale.
 * In each run of 2n values the first n are the low nibbles of n bytes, the rest the high ones. */
#include "num/half.h"
#include "quant/quant.h"

static const int8_t nonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/* FP4 (E2M1) doubled, so that it is whole; the scales are halved instead */
static const int8_t e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void look_up(const int8_t *list, float scale, const uint8_t *qs, int bytes, float *dst)
{
    for (int i = 0; i < bytes; i++) {
        dst[i] = scale * (float)list[qs[i] & 15];
        dst[i + bytes] = scale * (float)list[qs[i] >> 4];
    }
}

void nb_dequantize_iq4_nl(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq4_nl *b = src; n; n -= 32, dst += 32, b++)
        look_up(nonlinear, nb_f16_to_f32(b->d), b->qs, 16, dst);
}

void nb_dequantize_iq4_xs(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq4_xs *b = src; n; n -= 256, dst += 256, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int sub = 0; sub < 8; sub++) {
            int low = b->scales_l[sub / 2] >> sub % 2 * 4 & 15, high = b->scales_h >> sub * 2 & 3;
            look_up(nonlinear, d * (float)((low | high << 4) - 32), b->qs + sub * 16, 16, dst + sub * 32);
        }
    }
}

/* 2^(e - 128): half of what an E8M0 scale says, down to the subnormals */
static float e8m0_half(uint8_t e) { return nb_f32_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

void nb_dequantize_mxfp4(const void *src, float *dst, size_t n)
{
    for (const nb_block_mxfp4 *b = src; n; n -= 32, dst += 32, b++)
        look_up(e2m1_doubled, e8m0_half(b->e), b->qs, 16, dst);
}

/* half of an E4M3 scale, whose sign bit means nothing; 0x7f, its NaN, counts as 0 */
static float ue4m3_half(uint8_t x)
{
    int exponent = x >> 3 & 15, mantissa = x & 7;
    if (x == 0x7f)
        return 0;
    if (exponent == 0)
        return (float)mantissa * 0x1p-10f;
    return nb_f32_of_bits((uint32_t)(exponent - 8 + 127) << 23 | (uint32_t)mantissa << 20);
}

void nb_dequantize_nvfp4(const void *src, float *dst, size_t n)
{
    for (const nb_block_nvfp4 *b = src; n; n -= 64, dst += 64, b++)
        for (int sub = 0; sub < 4; sub++)
            look_up(e2m1_doubled, ue4m3_half(b->d[sub]), b->qs + sub * 8, 8, dst + sub * 16);
}
