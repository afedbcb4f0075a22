/* AVX512-BF16: bfloat16 weights by activations rounded to bfloat16, two products an instruction in each lane. The values of a
 * token are the same for any width: two chains, of the even and of the odd pairs of k, added at the end. */
#include <immintrin.h>

#include "kernel/matmul_tile.h"
#include "num/half.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512bh load_pairs(const uint8_t *p) { return (__m512bh)_mm512_loadu_si512(p); }

INLINE __m512bh splat_pair(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return (__m512bh)_mm512_set1_epi32(v);
}

/* named sums, since arrays of them spill */
#define EACH_TOKEN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define DECLARE(t) __m512 even##t = _mm512_setzero_ps(), odd##t = _mm512_setzero_ps();
#define EVEN(t)                                                                                                        \
    if (t < width)                                                                                                     \
        even##t = _mm512_dpbf16_ps(even##t, w, splat_pair(at + 4 * t));
#define ODD(t)                                                                                                         \
    if (t < width)                                                                                                     \
        odd##t = _mm512_dpbf16_ps(odd##t, w, splat_pair(at + 4 * t));
#define STORE(t)                                                                                                       \
    if (t < width) {                                                                                                   \
        __m512 sum = _mm512_add_ps(even##t, odd##t);                                                                   \
        float *to = acc.at + t * acc.stride;                                                                           \
        _mm512_storeu_ps(to, acc.fresh ? sum : _mm512_add_ps(_mm512_loadu_ps(to), sum));                               \
    }

INLINE void dot(const uint8_t *tile, const uint8_t *at, const size_t width, size_t n, nb_sums acc)
{
    EACH_TOKEN(DECLARE)
    for (; n >= 2; n -= 2, tile += 128) {
        __m512bh w = load_pairs(tile);
        EACH_TOKEN(EVEN)
        at += 4 * width;
        w = load_pairs(tile + 64);
        EACH_TOKEN(ODD)
        at += 4 * width;
    }
    if (n) {
        __m512bh w = load_pairs(tile);
        EACH_TOKEN(EVEN)
    }
    EACH_TOKEN(STORE)
}

#define DOT(width)                                                                                                     \
    static void dot##width(const void *w, const void *panel, size_t n, nb_sums acc) { dot(w, panel, width, n, acc); }
DOT(1)
DOT(2)
DOT(4)
DOT(8)

const nb_tile_kernels nb_matmul_bf16 = {.dot = {dot1, dot2, dot4, dot8}};

void nb_act_bf16(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel)
{
    for (size_t k = k_begin; k < k_end; k += 32) {
        size_t values = nb_min_size(32, k_end - k);
        uint32_t pairs[NB_PANEL_TOKENS][16] = {{0}}, *out = (uint32_t *)(void *)panel + k / 2 * width;
        for (size_t t = 0; t < n; t++) {
            uint16_t halves[32] = {0};
            for (size_t i = 0; i < values; i++)
                halves[i] = nb_f32_to_bf16(x[t][k + i]);
            memcpy(pairs[t], halves, sizeof halves);
        }
        for (size_t i = 0; i < values / 2; i++)
            for (size_t t = 0; t < width; t++)
                out[i * width + t] = pairs[t][i];
    }
}
