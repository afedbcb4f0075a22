/* The quantize functions of types.def: nearest is the plain formula, search the table of the processor's level. */
#include "base/cpu.h"
#include "num/half.h"
#include "quant/quant.h"
#include "quant/quantize_nearest.h"
#include "quant/quantize_table.h"

/* for the processor's level; levels between and above these have nothing that a search could use */
static const nb_quantize_table *table(void)
{
#if defined(__x86_64__)
    nb_cpu_level level = nb_cpu_current();
    if (level >= NB_CPU_AVX512)
        return &nb_quantize_table_avx512;
    if (level >= NB_CPU_AVX2)
        return &nb_quantize_table_avx2;
#endif
    return &nb_quantize_table_ref;
}

#define QUANTIZE(type)                                                                                                 \
    void nb_quantize_##type(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)            \
    {                                                                                                                  \
        if (rounding == NB_ROUND_NEAREST)                                                                              \
            nb_nearest_##type(x, n, dst);                                                                              \
        else                                                                                                           \
            table()->type(x, weight, n, dst);                                                                          \
    }
QUANTIZE(q4_0)
QUANTIZE(q4_1)
QUANTIZE(q5_0)
QUANTIZE(q5_1)
QUANTIZE(q8_0)
QUANTIZE(tq1_0)
QUANTIZE(tq2_0)
QUANTIZE(q1_0)
QUANTIZE(q2_0)

#define QUANTIZE_K(type)                                                                                               \
    void nb_quantize_##type(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)            \
    {                                                                                                                  \
        table()->type(x, weight, n, rounding == NB_ROUND_NEAREST, dst);                                                \
    }
QUANTIZE_K(q2_k)
QUANTIZE_K(q3_k)
QUANTIZE_K(q4_k)
QUANTIZE_K(q5_k)
QUANTIZE_K(q6_k)

void nb_quantize_f32(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    (void)weight, (void)rounding;
    if (n)
        memmove(dst, x, n * sizeof *x);
}

void nb_quantize_f64(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    (void)weight, (void)rounding;
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        memcpy((char *)dst + i * sizeof v, &v, sizeof v);
    }
}

/* The nearest 16-bit number; search keeps finite what is finite: too large is the largest, `most`. */
#define QUANTIZE_HALF(type, most)                                                                                      \
    void nb_quantize_##type(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)            \
    {                                                                                                                  \
        uint8_t *out = dst;                                                                                            \
        (void)weight;                                                                                                  \
        for (size_t i = 0, part; i < n; i += part, out += 2 * part) {                                                  \
            uint16_t h[256];                                                                                           \
            part = n - i < 256 ? n - i : 256;                                                                          \
            nb_f32_to_##type##_row(x + i, h, part);                                                                    \
            for (size_t j = 0; j < part && rounding == NB_ROUND_SEARCH; j++)                                           \
                h[j] = (uint16_t)((h[j] & 0x7fff) == (most) + 1 ? h[j] - 1 : h[j]);                                    \
            memcpy(out, h, 2 * part);                                                                                  \
        }                                                                                                              \
    }
QUANTIZE_HALF(f16, 0x7bff)
QUANTIZE_HALF(bf16, 0x7f7f)
