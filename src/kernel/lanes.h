/* lanes.h - a vector of floats at the instruction-set level of the file that includes this, so that a kernel is written
 * once and compiled for each level: 16 lanes with AVX-512, 8 with AVX2 (with or without FMA), 4 elsewhere (GNU vectors:
 * SSE2 on x86-64, NEON on arm64). + - * / are the operators of C. */
#ifndef NB_KERNEL_LANES_H
#define NB_KERNEL_LANES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "num/half.h"

#if defined(__clang__)
#define LANES_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LANES_UNROLL _Pragma("GCC unroll 16")
#endif
#define LANES_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__)

#define LANES 16
typedef __m512 lanes;
typedef __mmask16 lanes_mask;
#define LANES_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define LANES_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LANES_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LANES_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31

LANES_INLINE lanes lanes_set(float x) { return _mm512_set1_ps(x); }
LANES_INLINE lanes lanes_load(const float *p) { return _mm512_loadu_ps(p); }
LANES_INLINE void lanes_store(float *p, lanes v) { _mm512_storeu_ps(p, v); }
LANES_INLINE __mmask16 lanes_first(size_t n) { return (__mmask16)((1u << n) - 1); }
LANES_INLINE lanes lanes_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(lanes_first(n), p); }
LANES_INLINE void lanes_store_n(float *p, lanes v, size_t n) { _mm512_mask_storeu_ps(p, lanes_first(n), v); }
LANES_INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
/* a - b c */
LANES_INLINE lanes lanes_fnma(lanes b, lanes c, lanes a) { return _mm512_fnmadd_ps(b, c, a); }
LANES_INLINE lanes lanes_max(lanes a, lanes b) { return _mm512_max_ps(a, b); }
LANES_INLINE lanes lanes_min(lanes a, lanes b) { return _mm512_min_ps(a, b); }
LANES_INLINE lanes lanes_round(lanes x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
LANES_INLINE lanes lanes_pow2(lanes p, lanes n) { return _mm512_scalef_ps(p, n); }
LANES_INLINE lanes_mask lanes_less(lanes a, lanes b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
LANES_INLINE lanes lanes_select(lanes_mask m, lanes yes, lanes no) { return _mm512_mask_blend_ps(m, no, yes); }
LANES_INLINE lanes lanes_abs(lanes x) { return _mm512_abs_ps(x); }
LANES_INLINE lanes lanes_sign_of(lanes magnitude, lanes sign)
{
    const __m512i top = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(top, _mm512_castps_si512(sign), _mm512_castps_si512(magnitude),
                                                         0xca)); /* top ? sign : magnitude */
}
LANES_INLINE lanes lanes_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
LANES_INLINE lanes lanes_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
/* Half bytes, the low or the high ones, as -8 .. 7: what a permutation makes of its numbers' low four bits. */
LANES_INLINE lanes lanes_load_i4(const uint8_t *p, bool high)
{
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm512_permutexvar_ps(high ? _mm512_srli_epi32(bytes, 4) : bytes, values);
}
LANES_INLINE void lanes_store_f16(uint16_t *p, lanes v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#else

#if defined(__AVX2__)
#define LANES 8
typedef __m256 lanes;
typedef int32_t lanes_mask __attribute__((vector_size(32)));
#define LANES_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define LANES_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define LANES_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define LANES_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
LANES_INLINE lanes lanes_max(lanes a, lanes b) { return _mm256_max_ps(a, b); }
LANES_INLINE lanes lanes_min(lanes a, lanes b) { return _mm256_min_ps(a, b); }
LANES_INLINE lanes lanes_select(lanes_mask m, lanes yes, lanes no) { return _mm256_blendv_ps(no, yes, (lanes)m); }
LANES_INLINE lanes_mask lanes_load_u16(const uint16_t *p)
{
    return (lanes_mask)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}
LANES_INLINE lanes_mask lanes_load_u8(const uint8_t *p)
{
    return (lanes_mask)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
#else
#define LANES 4
typedef float lanes __attribute__((vector_size(16)));
typedef int32_t lanes_mask __attribute__((vector_size(16)));
#define LANES_EVEN 0, 2, 4, 6
#define LANES_ODD 1, 3, 5, 7
#define LANES_ZIP_LOW 0, 4, 1, 5
#define LANES_ZIP_HIGH 2, 6, 3, 7
LANES_INLINE lanes lanes_select(lanes_mask m, lanes yes, lanes no)
{
    return (lanes)(((lanes_mask)yes & m) | ((lanes_mask)no & ~m));
}
/* of two unordered values the second, as on x86 */
LANES_INLINE lanes lanes_max(lanes a, lanes b) { return lanes_select((lanes_mask)(a > b), a, b); }
LANES_INLINE lanes lanes_min(lanes a, lanes b) { return lanes_select((lanes_mask)(a < b), a, b); }
LANES_INLINE lanes_mask lanes_load_u16(const uint16_t *p) { return (lanes_mask){p[0], p[1], p[2], p[3]}; }
LANES_INLINE lanes_mask lanes_load_u8(const uint8_t *p) { return (lanes_mask){p[0], p[1], p[2], p[3]}; }
#endif

LANES_INLINE lanes lanes_set(float x) { return x - (lanes){0}; }
LANES_INLINE lanes lanes_load(const float *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}
LANES_INLINE void lanes_store(float *p, lanes v) { memcpy(p, &v, sizeof v); }
LANES_INLINE lanes lanes_load_n(const float *p, size_t n)
{
    float part[LANES] = {0};
    memcpy(part, p, n * sizeof *p);
    return lanes_load(part);
}
LANES_INLINE void lanes_store_n(float *p, lanes v, size_t n)
{
    float part[LANES];
    lanes_store(part, v);
    memcpy(p, part, n * sizeof *p);
}
#if defined(__FMA__)
LANES_INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm256_fmadd_ps(a, b, c); }
LANES_INLINE lanes lanes_fnma(lanes b, lanes c, lanes a) { return _mm256_fnmadd_ps(b, c, a); }
#else
LANES_INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return a * b + c; }
LANES_INLINE lanes lanes_fnma(lanes b, lanes c, lanes a) { return a - b * c; }
#endif
/* to the nearest integer, |x| < 2^22 */
LANES_INLINE lanes lanes_round(lanes x) { return x + 0x1.8p23f - 0x1.8p23f; }
/* p 2^n for integral |n| <= 250: two steps, so that a subnormal result is rounded once and an overflow is infinite */
LANES_INLINE lanes lanes_pow2(lanes p, lanes n)
{
    lanes_mask i = (lanes_mask)(n + 0x1.8p23f) - 0x4b400000, half = i >> 1;
    return p * (lanes)((half + 127) << 23) * (lanes)((i - half + 127) << 23);
}
LANES_INLINE lanes_mask lanes_less(lanes a, lanes b) { return (lanes_mask)(a < b); }
LANES_INLINE lanes lanes_abs(lanes x) { return (lanes)((lanes_mask)x & INT32_MAX); }
LANES_INLINE lanes lanes_sign_of(lanes magnitude, lanes sign)
{
    return (lanes)(((lanes_mask)sign & INT32_MIN) | ((lanes_mask)magnitude & INT32_MAX));
}
LANES_INLINE lanes lanes_load_bf16(const uint16_t *p) { return (lanes)(lanes_load_u16(p) << 16); }
/* half bytes, the low or the high ones, as -8 .. 7 */
LANES_INLINE lanes lanes_load_i4(const uint8_t *p, bool high)
{
    lanes_mask bytes = lanes_load_u8(p);
    return __builtin_convertvector(((high ? bytes >> 4 : bytes) & 15) - 8, lanes);
}
#if defined(__F16C__)
LANES_INLINE lanes lanes_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
LANES_INLINE void lanes_store_f16(uint16_t *p, lanes v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#else
/* 2^112 moves the exponent's bias; it makes subnormals right by itself and leaves infinities and NaNs to be restored */
LANES_INLINE lanes lanes_load_f16(const uint16_t *p)
{
    lanes_mask h = lanes_load_u16(p), sign = (h & 0x8000) << 16, body = (h & 0x7fff) << 13;
    lanes x = (lanes)body * 0x1p112f;
    lanes_mask special = (lanes_mask)(body >= (0x7c00 << 13)) & 0x7f800000;
    return (lanes)((lanes_mask)x | special | sign);
}
LANES_INLINE void lanes_store_f16(uint16_t *p, lanes v)
{
    for (int i = 0; i < LANES; i++)
        p[i] = nb_f32_to_f16(v[i]);
}
#endif
#endif

/* Words of four bytes, the first one lowest; byte `at` of each, as a signed number. */
typedef int32_t lanes_words __attribute__((vector_size(4 * LANES)));
LANES_INLINE lanes_words lanes_load_words(const uint8_t *p)
{
    lanes_words x;
    memcpy(&x, p, sizeof x);
    return x;
}
LANES_INLINE lanes lanes_byte(lanes_words x, size_t at)
{
    return __builtin_convertvector(x << (int)(24 - 8 * at) >> 24, lanes);
}

/* Lanes 0, 2, ... and 1, 3, ... of a followed by b; and back: a0 b0 a1 b1 ... */
LANES_INLINE lanes lanes_even(lanes a, lanes b) { return __builtin_shufflevector(a, b, LANES_EVEN); }
LANES_INLINE lanes lanes_odd(lanes a, lanes b) { return __builtin_shufflevector(a, b, LANES_ODD); }
LANES_INLINE lanes lanes_zip_low(lanes a, lanes b) { return __builtin_shufflevector(a, b, LANES_ZIP_LOW); }
LANES_INLINE lanes lanes_zip_high(lanes a, lanes b) { return __builtin_shufflevector(a, b, LANES_ZIP_HIGH); }

/* Sum and maximum of all lanes: halves, then halves of these. The maximum leaves NaNs out where it can. */
LANES_INLINE float lanes_sum(lanes v)
{
#if LANES == 16
    __m256 w = _mm512_castps512_ps256(v) + _mm512_extractf32x8_ps(v, 1);
#elif LANES == 8
    __m256 w = v;
#endif
#if LANES >= 8
    __m128 x = _mm256_castps256_ps128(w) + _mm256_extractf128_ps(w, 1);
    x = x + _mm_movehl_ps(x, x);
    return x[0] + x[1];
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}
LANES_INLINE float lanes_top(lanes v)
{
#if LANES == 16
    __m256 w = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
#elif LANES == 8
    __m256 w = v;
#endif
#if LANES >= 8
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    x = _mm_max_ss(x, _mm_movehdup_ps(x));
    return x[0];
#else
    float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
#endif
}

#endif
