/* F16C: the instructions quiet NaNs, and narrow their payload in another way; a vector that has one goes the plain way. */
#include <immintrin.h>

#include "num/half_rows.h"

NB_HALF_LOOP(nb_bf16_to_f32_row, fma, nb_bf16_to_f32, uint16_t, float)
NB_HALF_LOOP(nb_f32_to_bf16_row, fma, nb_f32_to_bf16, float, uint16_t)

void nb_f16_to_f32_row_fma(const uint16_t *src, float *dst, size_t n)
{
    const __m128i magnitude = _mm_set1_epi16(0x7fff), infinity = _mm_set1_epi16(0x7c00);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        __m128i nan = _mm_cmpgt_epi16(_mm_and_si128(h, magnitude), infinity);
        if (__builtin_expect(_mm_testz_si128(nan, nan), 1))
            _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(h));
        else
            nb_f16_to_f32_row_ref(src + i, dst + i, 8);
    }
    nb_f16_to_f32_row_ref(src + i, dst + i, n - i);
}

void nb_f32_to_f16_row_fma(const float *src, uint16_t *dst, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 x = _mm256_loadu_ps(src + i);
        if (__builtin_expect(_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) == 0, 1))
            _mm_storeu_si128((__m128i *)(void *)(dst + i), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
        else
            nb_f32_to_f16_row_ref(src + i, dst + i, 8);
    }
    nb_f32_to_f16_row_ref(src + i, dst + i, n - i);
}
