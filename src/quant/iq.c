/* IQ1, IQ2 and IQ3: an index into a code book stands for eight or four magnitudes at once, with signs beside it. Blocks
 * of 256 values; below, a group is eight values, a sub-block 32. */
#include "num/half.h"
#include "quant/iq_grids.h"
#include "quant/quant.h"

enum { VALUES = 256, GROUPS = VALUES / 8 };

static float with_sign(float x, int negative) { return negative ? -x : x; }

/* The sign bits of a group from seven stored ones: the eighth makes their number even. */
static int even_signs(uint32_t bits)
{
    int seven = (int)(bits & 127);
    return seven | __builtin_parity((unsigned)seven) << 7;
}

static uint32_t u16_at(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32_at(const uint8_t *p) { return u16_at(p) | u16_at(p + 2) << 16; }

/* nibble i of an array of bytes, the low one first */
static int nibble(const uint8_t *p, int i) { return p[i / 2] >> i % 2 * 4 & 15; }

/* ---- two bits: three levels, eight values an entry ---- */

static void put_iq2(float scale, uint16_t entry, int signs, float *dst)
{
    for (int i = 0; i < 8; i++)
        dst[i] = with_sign(scale * (float)iq2_levels[entry >> i * 2 & 3], signs >> i & 1);
}

static float iq2_scale(float d, uint32_t s) { return d * (0.5f + (float)s) * 0.25f; }

void nb_dequantize_iq2_xxs(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq2_xxs *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int g = 0; g < GROUPS; g++) { /* a sub-block: four indices of 8 bits, then 4 x 7 signs and the scale */
            const uint16_t *q = b->qs + g / 4 * 4;
            uint32_t index = (uint32_t)q[g % 4 / 2] >> g % 2 * 8 & 255, rest = q[2] | (uint32_t)q[3] << 16;
            put_iq2(iq2_scale(d, rest >> 28), iq2_xxs_grid[index], even_signs(rest >> g % 4 * 7), dst + g * 8);
        }
    }
}

void nb_dequantize_iq2_xs(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq2_xs *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int g = 0; g < GROUPS; g++) {
            float scale = iq2_scale(d, (uint32_t)nibble(b->scales, g / 2));
            put_iq2(scale, iq2_xs_grid[b->qs[g] & 511], even_signs(b->qs[g] >> 9), dst + g * 8);
        }
    }
}

void nb_dequantize_iq2_s(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq2_s *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int g = 0; g < GROUPS; g++) { /* qs: 32 low bytes of the indices, then 32 bytes of signs */
            float scale = iq2_scale(d, (uint32_t)nibble(b->scales, g / 2));
            int index = b->qs[g] | (b->qh[g / 4] >> g % 4 * 2 & 3) << 8;
            put_iq2(scale, iq2_s_grid[index], b->qs[GROUPS + g], dst + g * 8);
        }
    }
}

/* ---- three bits: eight levels, four values an entry ---- */

static void put_iq3(float scale, const int8_t *levels, uint16_t entry, int signs, float *dst)
{
    for (int i = 0; i < 4; i++)
        dst[i] = with_sign(scale * (float)levels[entry >> i * 4 & 7], signs >> i & 1);
}

void nb_dequantize_iq3_xxs(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq3_xxs *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int g = 0; g < GROUPS; g++) { /* qs: 64 indices, then for each sub-block 4 x 7 signs and the scale */
            uint32_t rest = u32_at(b->qs + 64 + g / 4 * 4);
            float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
            int signs = even_signs(rest >> g % 4 * 7);
            put_iq3(scale, iq3_xxs_levels, iq3_xxs_grid[b->qs[g * 2]], signs, dst + g * 8);
            put_iq3(scale, iq3_xxs_levels, iq3_xxs_grid[b->qs[g * 2 + 1]], signs >> 4, dst + g * 8 + 4);
        }
    }
}

void nb_dequantize_iq3_s(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq3_s *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int k = 0; k < 2 * GROUPS; k++) { /* entries of four values */
            float scale = d * (float)(1 + 2 * nibble(b->scales, k / 8));
            int index = b->qs[k] | (b->qh[k / 8] >> k % 8 & 1) << 8;
            put_iq3(scale, iq3_s_levels, iq3_s_grid[index], nibble(b->signs, k), dst + k * 4);
        }
    }
}

/* ---- one bit: -1, 0 and 1 moved by an eighth up or down, eight values an entry ---- */

static void put_iq1(float scale, uint16_t entry, bool down, float *dst)
{
    for (int i = 0; i < 8; i++)
        dst[i] = scale * ((float)iq1_levels[entry >> i * 2 & 3] + (down ? -0.125f : 0.125f));
}

void nb_dequantize_iq1_s(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq1_s *b = src; n; n -= VALUES, dst += VALUES, b++) {
        float d = nb_f16_to_f32(b->d);
        for (int g = 0; g < GROUPS; g++) { /* qh of a sub-block: 4 x 3 high bits of indices, 3 of scale, 1 of shift */
            int high = b->qh[g / 4], index = b->qs[g] | (high >> g % 4 * 3 & 7) << 8;
            put_iq1(d * (float)(2 * (high >> 12 & 7) + 1), iq1_grid[index], high >> 15, dst + g * 8);
        }
    }
}

void nb_dequantize_iq1_m(const void *src, float *dst, size_t n)
{
    for (const nb_block_iq1_m *b = src; n; n -= VALUES, dst += VALUES, b++) {
        /* four words of 4 x 3 bits of scale; their top nibbles together are the f16 scale of the block */
        uint32_t words[4], half = 0;
        for (int i = 0; i < 4; i++) {
            words[i] = u16_at(b->scales + i * 2);
            half |= words[i] >> 12 << i * 4;
        }
        float d = nb_f16_to_f32((uint16_t)half);
        for (int g = 0; g < GROUPS; g++) {
            int high = nibble(b->qh, g), index = b->qs[g] | (high & 7) << 8;
            uint32_t scale = words[g / 8] >> g % 8 / 2 * 3 & 7;
            put_iq1(d * (float)(2 * scale + 1), iq1_grid[index], high >> 3, dst + g * 8);
        }
    }
}
