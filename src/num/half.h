/* half.h - binary16 and bfloat16 from and to float: exact where the value fits, else rounded half to even.
 * Infinities and the sign of zero are kept. A NaN stays a NaN with its sign and the payload bits that fit: f16 the way
 * numpy does it (a signalling one is not quieted), bf16 quieted. Integer arithmetic and selects only, so that
 * loops over them vectorize. Method for f16: F. Giesen, "float->half variants" (public domain). */
#ifndef NB_NUM_HALF_H
#define NB_NUM_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t nb_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float nb_f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float nb_f16_to_f32(uint16_t h)
{
    const uint32_t rebias = (uint32_t)(127 - 15) << 23;
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13, exponent = bits & 0x0f800000u, sign = (uint32_t)(h & 0x8000) << 16;
    bits += rebias;
    /* a subnormal is 2^-14 * 0.f: read as 2^-14 * 1.f, less 2^-14, which is exact */
    uint32_t subnormal = nb_f32_bits(nb_f32_of_bits(bits + (1u << 23)) - 0x1p-14f);
    bits += exponent == 0x0f800000u ? rebias : 0;
    return nb_f32_of_bits((exponent ? bits : subnormal) | sign);
}

static inline uint16_t nb_f32_to_f16(float x)
{
    uint32_t u = nb_f32_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
    /* normal: the tie goes to even by adding 0xfff or 0x1000; from 65520 on the carry ends in infinity */
    uint32_t normal = (a - ((uint32_t)(127 - 15) << 23) + 0xfff + (a >> 13 & 1)) >> 13;
    /* below 2^-14: adding 0.5 leaves multiples of 2^-24 in the low bits, rounded by the addition itself */
    uint32_t subnormal = nb_f32_bits(nb_f32_of_bits(a < 0x38800000u ? a : 0) + 0.5f) - 0x3f000000u;
    uint32_t payload = a >> 13 & 0x3ff;
    uint32_t special = a > 0x7f800000u ? 0x7c00 + (payload ? payload : 1) : 0x7c00;
    uint32_t h = a < 0x38800000u ? subnormal : a < 0x47800000u ? normal : special;
    return (uint16_t)(h | sign);
}

static inline float nb_bf16_to_f32(uint16_t b) { return nb_f32_of_bits((uint32_t)b << 16); }

static inline uint16_t nb_f32_to_bf16(float x)
{
    uint32_t u = nb_f32_bits(x);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16, quiet = u >> 16 | 0x40;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

/* The same for n numbers; src and dst do not overlap. */
void nb_f16_to_f32_row(const uint16_t *src, float *dst, size_t n);
void nb_f32_to_f16_row(const float *src, uint16_t *dst, size_t n);
void nb_bf16_to_f32_row(const uint16_t *src, float *dst, size_t n);
void nb_f32_to_bf16_row(const float *src, uint16_t *dst, size_t n);

#endif
