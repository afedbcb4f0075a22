/* Plain numbers to float: a copy, a widening, or the nearest float. */
#include "num/half.h"
#include "quant/quant.h"

void nb_dequantize_f32(const void *src, float *dst, size_t n)
{
    if (n)
        memmove(dst, src, n * sizeof *dst);
}

void nb_dequantize_f16(const void *src, float *dst, size_t n) { nb_f16_to_f32_row(src, dst, n); }
void nb_dequantize_bf16(const void *src, float *dst, size_t n) { nb_bf16_to_f32_row(src, dst, n); }

#define DEQUANTIZE_PLAIN(type)                                                                                         \
    void nb_dequantize_##type(const void *src, float *dst, size_t n)                                                   \
    {                                                                                                                  \
        const nb_block_##type *b = src;                                                                                \
        for (size_t i = 0; i < n; i++)                                                                                 \
            dst[i] = (float)b[i].v;                                                                                    \
    }

DEQUANTIZE_PLAIN(f64)
DEQUANTIZE_PLAIN(i8)
DEQUANTIZE_PLAIN(i16)
DEQUANTIZE_PLAIN(i32)
DEQUANTIZE_PLAIN(i64)
