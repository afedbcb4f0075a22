/* quant_lanes.h - 16 floats (or 32-bit integers) side by side for the searches of quantizers: lane j belongs to
 * block j, value i of all 16 blocks is one vector, and a sum over a block runs over vectors, so no lane ever meets
 * another. All functions are inlined: no vector is ever passed (-Wno-psabi). A file that includes this is compiled
 * for each instruction-set level; the bytes are the same at each, because every operation here rounds as C's own
 * does (no fused multiply-add, no approximate reciprocal). */
#ifndef NB_QUANT_QUANT_LANES_H
#define NB_QUANT_QUANT_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define QV_LANES 16
#define QV_INLINE static inline __attribute__((always_inline, unused))

typedef float qv __attribute__((vector_size(64)));
typedef int32_t qi __attribute__((vector_size(64))); /* as a mask: 0 or -1 */
#if defined(__AVX2__)
typedef union qv_halves {
    qv v;
    __m256 half[2];
} qv_halves;
#endif

QV_INLINE qv qv_set(float x) { return x - (qv){0}; }
QV_INLINE qi qi_set(int32_t x) { return x - (qi){0}; }
QV_INLINE qv qv_load(const float *p)
{
    qv v;
    memcpy(&v, p, sizeof v);
    return v;
}
QV_INLINE void qv_store(float *p, qv v) { memcpy(p, &v, sizeof v); }
QV_INLINE void qi_store(int32_t *p, qi v) { memcpy(p, &v, sizeof v); }

QV_INLINE qv qv_select(qi mask, qv yes, qv no)
{
#if defined(__AVX512F__)
    return _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), no, yes);
#else
    return (qv)(((qi)yes & mask) | ((qi)no & ~mask));
#endif
}

/* of two equal or unordered values the second, as the instructions of x86 do */
QV_INLINE qv qv_min(qv a, qv b)
{
#if defined(__AVX512F__)
    return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
    qv_halves x = {a}, y = {b};
    x.half[0] = _mm256_min_ps(x.half[0], y.half[0]);
    x.half[1] = _mm256_min_ps(x.half[1], y.half[1]);
    return x.v;
#else
    return qv_select((qi)(a < b), a, b);
#endif
}
QV_INLINE qv qv_max(qv a, qv b)
{
#if defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
    qv_halves x = {a}, y = {b};
    x.half[0] = _mm256_max_ps(x.half[0], y.half[0]);
    x.half[1] = _mm256_max_ps(x.half[1], y.half[1]);
    return x.v;
#else
    return qv_select((qi)(a > b), a, b);
#endif
}
/* to low..high; NaN becomes low */
QV_INLINE qv qv_clamp(qv x, qv low, qv high) { return qv_min(qv_max(x, low), high); }
QV_INLINE qv qv_abs(qv x) { return (qv)((qi)x & INT32_MAX); }
/* to the nearest integer, ties to even; |x| < 2^22. The sign of a zero may differ between levels: sums do not see
 * it. */
QV_INLINE qv qv_round(qv x)
{
#if defined(__AVX512F__)
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
    qv_halves h = {x};
    h.half[0] = _mm256_round_ps(h.half[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    h.half[1] = _mm256_round_ps(h.half[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return h.v;
#else
    return x + 0x1.8p23f - 0x1.8p23f;
#endif
}
/* the integer in an integral |x| < 2^22 */
QV_INLINE qi qv_to_int(qv x) { return (qi)(x + 0x1.8p23f) - 0x4b400000; }
/* a / b, 0 where b is 0 */
QV_INLINE qv qv_ratio(qv a, qv b)
{
    qi zero = (qi)(b == 0);
    return (qv)(~zero & (qi)(a / qv_select(zero, qv_set(1), b)));
}

/* The nearest binary16 number, ties to even, at most 65504 in magnitude. -0 stays -0; NaN does not stay NaN. */
QV_INLINE qv qv_to_f16(qv x)
{
    qi sign = (qi)x & INT32_MIN;
    qv a = qv_min(qv_abs(x), qv_set(65504));
    qi bits = (qi)a;
    qv normal = (qv)((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fff);
    qv subnormal = a + 0.5f - 0.5f; /* below 2^-14, steps of 2^-24 */
    return (qv)((qi)qv_select((qi)(a < 0x1p-14f), subnormal, normal) | sign);
}

/* 2^-e for the e with 2^e <= x < 2^(e+1), so that x times it is in [1, 2); within 2^-126..2^126, where subnormals
 * end. 1 for 0. x >= 0 and finite */
QV_INLINE qv qv_inverse_power(qv x)
{
    qi e = (qi)x >> 23; /* biased */
    qi floor = (qi)(e < 1), ceiling = (qi)(e > 253);
    e = (floor & 1) | (~floor & e);
    e = (ceiling & 253) | (~ceiling & e);
    return qv_select((qi)(x == 0), qv_set(1), (qv)((254 - e) << 23));
}

/* Value i of the 16 blocks at x, `stride` floats apart, as vector i; lanes from `blocks` on become `fill`. */
QV_INLINE void qv_gather_blocks(const float *x, size_t stride, size_t values, size_t blocks, float fill, qv *out)
{
    for (size_t i = 0; i < values; i++) {
        qv v = qv_set(fill);
        for (size_t j = 0; j < blocks; j++)
            v[j] = x[j * stride + i];
        out[i] = v;
    }
}

#endif
