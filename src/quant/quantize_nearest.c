/* The plain formula of each type with one scale a block: the largest magnitude, or the range, gets the last code. Equal to
 * gguf-py to the bit (Q1_0 and Q2_0, which it does not write: to ggml). Blocks whose scale is subnormal or overflows in
 * binary16 get codes in range. */
#include "quant/quantize_nearest.h"

#include "num/half.h"
#include "quant/quantize_pack.h"

/* a row from what makes one block: dst has no alignment */
#define NEAREST(type, values)                                                                                          \
    void nb_nearest_##type(const float *x, size_t n, void *dst)                                                        \
    {                                                                                                                  \
        nb_block_##type b;                                                                                             \
        for (uint8_t *out = dst; n; n -= (values), x += (values), out += sizeof b) {                                   \
            type(x, &b);                                                                                               \
            memcpy(out, &b, sizeof b);                                                                                 \
        }                                                                                                              \
    }

/* 1 / d, 0 for 0 */
static float inverse(float d) { return d == 0 ? 0 : 1 / d; }

/* the whole part of x, within 0..most (0 for NaN) */
static uint8_t whole(float x, float most)
{
    float high = x < most ? x : most;
    return (uint8_t)(high > 0 ? high : 0);
}

/* half away from zero, within -most..most */
static int8_t half_away(float x, float most)
{
    float high = x < most ? x : most, v = high > -most ? high : -most;
    int t = (int)v;
    return (int8_t)(t + (int)(2 * (v - (float)t)));
}

/* the first value of the largest magnitude */
static float extreme(const float *x, int n)
{
    float most = x[0];
    for (int i = 1; i < n; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    return most;
}

static float absmax(const float *x, int n) { return fabsf(extreme(x, n)); }

/* codes of x = d (q - levels / 2); returns d */
static float signed_codes(const float *x, int levels, uint8_t *codes)
{
    float d = extreme(x, 32) / (float)(-levels / 2), id = inverse(d);
    for (int i = 0; i < 32; i++)
        codes[i] = whole(x[i] * id + ((float)(levels / 2) + 0.5f), (float)(levels - 1));
    return d;
}

/* codes of x = d q + m; returns d */
static float affine_codes(const float *x, int levels, uint8_t *codes, float *m)
{
    float low = x[0], high = x[0];
    for (int i = 1; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float d = (high - low) / (float)(levels - 1), id = inverse(d);
    for (int i = 0; i < 32; i++)
        codes[i] = whole((x[i] - low) * id + 0.5f, (float)(levels - 1));
    *m = low;
    return d;
}

static void q4_0(const float *x, nb_block_q4_0 *b)
{
    uint8_t codes[32];
    b->d = nb_f32_to_f16(signed_codes(x, 16, codes));
    nb_pack_nibbles(codes, b->qs);
}
NEAREST(q4_0, 32)

static void q4_1(const float *x, nb_block_q4_1 *b)
{
    uint8_t codes[32];
    float m;
    b->d = nb_f32_to_f16(affine_codes(x, 16, codes, &m));
    b->m = nb_f32_to_f16(m);
    nb_pack_nibbles(codes, b->qs);
}
NEAREST(q4_1, 32)

static void q5_0(const float *x, nb_block_q5_0 *b)
{
    uint8_t codes[32];
    b->d = nb_f32_to_f16(signed_codes(x, 32, codes));
    nb_pack_nibbles(codes, b->qs);
    nb_pack_fifth(codes, b->qh);
}
NEAREST(q5_0, 32)

static void q5_1(const float *x, nb_block_q5_1 *b)
{
    uint8_t codes[32];
    float m;
    b->d = nb_f32_to_f16(affine_codes(x, 32, codes, &m));
    b->m = nb_f32_to_f16(m);
    nb_pack_nibbles(codes, b->qs);
    nb_pack_fifth(codes, b->qh);
}
NEAREST(q5_1, 32)

static void q8_0(const float *x, nb_block_q8_0 *b)
{
    float d = absmax(x, 32) / 127, id = inverse(d);
    b->d = nb_f32_to_f16(d);
    for (int i = 0; i < 32; i++)
        b->qs[i] = half_away(x[i] * id, 127);
}
NEAREST(q8_0, 32)

/* codes 0, 1, 2 for -d, 0, d; returns d */
static float ternary_codes(const float *x, uint8_t *codes)
{
    float d = absmax(x, 256), id = inverse(d);
    for (int i = 0; i < 256; i++)
        codes[i] = (uint8_t)(half_away(x[i] * id, 1) + 1);
    return d;
}

static void tq1_0(const float *x, nb_block_tq1_0 *b)
{
    uint8_t codes[256];
    b->d = nb_f32_to_f16(ternary_codes(x, codes));
    nb_pack_tq1_0(codes, b);
}
NEAREST(tq1_0, 256)

static void tq2_0(const float *x, nb_block_tq2_0 *b)
{
    uint8_t codes[256];
    b->d = nb_f32_to_f16(ternary_codes(x, codes));
    nb_pack_tq2_0(codes, b);
}
NEAREST(tq2_0, 256)

static void q1_0(const float *x, nb_block_q1_0 *b)
{
    float sum = 0;
    memset(b->qs, 0, sizeof b->qs);
    for (int i = 0; i < 128; i++) {
        sum += fabsf(x[i]);
        b->qs[i / 8] |= (uint8_t)((x[i] >= 0) << i % 8);
    }
    b->d = nb_f32_to_f16(sum / 128);
}
NEAREST(q1_0, 128)

/* the formula has no clipping: its codes are -1, 0 and 1 of -1..2 */
static void q2_0(const float *x, nb_block_q2_0 *b)
{
    uint8_t codes[64];
    float d = absmax(x, 64), id = inverse(d);
    for (int i = 0; i < 64; i++)
        codes[i] = (uint8_t)(half_away(x[i] * id, 1) + 1);
    b->d = nb_f32_to_f16(d);
    nb_pack_q2_0(codes, b);
}
NEAREST(q2_0, 64)
