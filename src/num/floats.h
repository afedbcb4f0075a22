/* floats.h - arrays of floats of any of the public types: how wide a value is, and one of them as a float. */
#ifndef NB_NUM_FLOATS_H
#define NB_NUM_FLOATS_H

#include "nibble.h"
#include "num/half.h"

static inline size_t nb_float_bytes(nb_float type) { return type == NB_FLOAT_F32 ? 4 : 2; }

static inline float nb_float_at(const void *x, nb_float type, size_t i)
{
    return type == NB_FLOAT_F32   ? ((const float *)x)[i]
           : type == NB_FLOAT_F16 ? nb_f16_to_f32(((const uint16_t *)x)[i])
                                  : nb_bf16_to_f32(((const uint16_t *)x)[i]);
}

#endif
