#include "num/half.h"

void nb_f16_to_f32_row(const uint16_t *restrict src, float *restrict dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = nb_f16_to_f32(src[i]);
}

void nb_f32_to_f16_row(const float *restrict src, uint16_t *restrict dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = nb_f32_to_f16(src[i]);
}

void nb_bf16_to_f32_row(const uint16_t *restrict src, float *restrict dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = nb_bf16_to_f32(src[i]);
}

void nb_f32_to_bf16_row(const float *restrict src, uint16_t *restrict dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = nb_f32_to_bf16(src[i]);
}
