/* As half_fma.c, 16 at a time. */
#include <immintrin.h>

#include "num/half_rows.h"

NB_HALF_LOOP(nb_bf16_to_f32_row, avx512, nb_bf16_to_f32, uint16_t, float)
NB_HALF_LOOP(nb_f32_to_bf16_row, avx512, nb_f32_to_bf16, float, uint16_t)

void nb_f16_to_f32_row_avx512(const uint16_t *src, float *dst, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi16(0x7fff), infinity = _mm256_set1_epi16(0x7c00);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)(src + i));
        __m256i nan = _mm256_cmpgt_epi16(_mm256_and_si256(h, magnitude), infinity);
        if (__builtin_expect(_mm256_testz_si256(nan, nan), 1))
            _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(h));
        else
            nb_f16_to_f32_row_ref(src + i, dst + i, 16);
    }
    nb_f16_to_f32_row_ref(src + i, dst + i, n - i);
}

void nb_f32_to_f16_row_avx512(const float *src, uint16_t *dst, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 x = _mm512_loadu_ps(src + i);
        if (__builtin_expect(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) == 0, 1))
            _mm256_storeu_si256((__m256i *)(void *)(dst + i), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
        else
            nb_f32_to_f16_row_ref(src + i, dst + i, 16);
    }
    nb_f32_to_f16_row_ref(src + i, dst + i, n - i);
}
