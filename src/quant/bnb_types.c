/* NF4, FP4 and INT8 as types of the engine: bitsandbytes' codes with their scale beside them. */
#include "num/half.h"
#include "quant/bnb.h"
#include "quant/quant.h"

static void dequantize_4bit(const nb_block_bnb4 *b, const float *map, float *dst, size_t n)
{
    for (; n; n -= 64, b++, dst += 64)
        for (int i = 0; i < 32; i++) {
            dst[2 * i] = map[b->qs[i] >> 4] * b->d;
            dst[2 * i + 1] = map[b->qs[i] & 15] * b->d;
        }
}

void nb_dequantize_nf4(const void *src, float *dst, size_t n)
{
    dequantize_4bit(src, nb_bnb_map4(NB_CODE_NF4), dst, n);
}
void nb_dequantize_fp4(const void *src, float *dst, size_t n)
{
    dequantize_4bit(src, nb_bnb_map4(NB_CODE_FP4), dst, n);
}

void nb_dequantize_int8(const void *src, float *dst, size_t n)
{
    for (const nb_block_int8 *b = src; n; n -= 32, b++, dst += 32)
        for (int i = 0; i < 32; i++)
            dst[i] = (float)b->qs[i] * b->d;
}

/* bitsandbytes knows neither importance nor a search: its codes, whatever is asked for. dst may have any alignment. */
static void quantize_4bit(const float *x, size_t n, nb_code4 code, void *dst)
{
    char *to = dst;
    for (; n; n -= 64, x += 64, to += sizeof(nb_block_bnb4)) {
        nb_block_bnb4 b;
        nb_bnb_quantize_4bit(x, NB_FLOAT_F32, 64, code, 64, b.qs, &b.d, NULL, NULL);
        memcpy(to, &b, sizeof b);
    }
}

void nb_quantize_nf4(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    (void)weight, (void)rounding;
    quantize_4bit(x, n, NB_CODE_NF4, dst);
}

void nb_quantize_fp4(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    (void)weight, (void)rounding;
    quantize_4bit(x, n, NB_CODE_FP4, dst);
}

/* A row has one scale, which each of its blocks repeats. Values beyond float16's range, in which LLM.int8() works, are taken
 * as its largest. */
void nb_quantize_int8(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    (void)weight, (void)rounding;
    const nb_bnb_loops *l = nb_bnb_loops_now();
    uint32_t top = l->largest(x, n);
    float most = nb_f16_to_f32(nb_f32_to_f16(nb_f32_of_bits(top < 0x477fe000u ? top : 0x477fe000u)));
    float factor = nb_bnb_factor_int8(most);
    char *to = dst;
    for (; n; n -= 32, x += 32, to += sizeof(nb_block_int8)) {
        nb_block_int8 b = {.d = most / 127.0f};
        float v[32];
        for (int i = 0; i < 32; i++) {
            float bounded = x[i] < -most ? -most : x[i] > most ? most : x[i];
            v[i] = nb_f16_to_f32(nb_f32_to_f16(bounded));
        }
        l->encode_int8(v, 32, factor, b.qs);
        memcpy(to, &b, sizeof b);
    }
}
