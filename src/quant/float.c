/* Plain numbers to float: a copy, a widening, or the nearest float. */
#include "num/half.h"
#include "quant/quant.h"

void nb_dequantize_f32(const void *src, float *dst, size_t n) { memmove(dst, src, n * sizeof *dst); }

void nb_dequantize_f16(const void *src, float *dst, size_t n)
{
    const nb_block_f16 *b = src;
    for (size_t i = 0; i < n; i++)
        dst[i] = nb_f16_to_f32(b[i].v);
}

void nb_dequantize_bf16(const void *src, float *dst, size_t n)
{
    const nb_block_bf16 *b = src;
    for (size_t i = 0; i < n; i++)
        dst[i] = nb_bf16_to_f32(b[i].v);
}
