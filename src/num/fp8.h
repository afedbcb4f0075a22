/* fp8.h - the 8-bit floating-point formats to float, exactly. E4M3 is the one without infinities (E4M3FN), E5M2 the upper half
 * of a binary16, E8M0 a power of two (a scale).
 * Source: Micikevicius et al., "FP8 Formats for Deep Learning" (2022); OCP Microscaling Formats, 5.4. */
#ifndef NB_NUM_FP8_H
#define NB_NUM_FP8_H

#include "num/half.h"

static inline float nb_f8_e4m3_to_f32(uint8_t code)
{
    /* read as a float of the same bits 2^120 too small, subnormals included; only 0x7f and 0xff are special */
    uint32_t bits = (uint32_t)(code & 0x7f) << 20, sign = (uint32_t)(code & 0x80) << 24;
    uint32_t magnitude = (code & 0x7f) == 0x7f ? 0x7fc00000u : nb_f32_bits(nb_f32_of_bits(bits) * 0x1p120f);
    return nb_f32_of_bits(magnitude | sign);
}

static inline float nb_f8_e5m2_to_f32(uint8_t code) { return nb_f16_to_f32((uint16_t)(code << 8)); }

static inline float nb_f8_e8m0_to_f32(uint8_t code)
{
    return nb_f32_of_bits(code == 0xff ? 0x7fc00000u : code == 0 ? 0x00400000u : (uint32_t)code << 23);
}

#endif
