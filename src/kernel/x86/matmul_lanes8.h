/* matmul_lanes8.h - AVX2, vectors of 8 rows, with fma where the including file is compiled for it.
 * pmaddubsw adds pairs of products in 16 bits, saturating. Codes of up to 4 bits leave room for the 8 quads of a block
 * (8 * 2 * 15 * 127 = 30480), of 5 bits for 4, of 6 for 2. Codes of 8 bits: |w| times the activation with w's sign, at
 * most 2 * 128 * 127, one quad at a time. So nothing ever saturates and the sums are exact. */
#include <immintrin.h>

#define LANES 8
#if defined(__F16C__)
#define VF_HALF
#define vf_half(p) ((vf)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(p))))
#endif
#include "kernel/matmul_types.h"

#if defined(__FMA__)
INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#else
INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
#endif

INLINE __m256i splat_int(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

INLINE vf splat_float(const uint8_t *p) { return (vf)_mm256_castsi256_ps(splat_int(p)); }

#define EACH4(M) M(0) M(1) M(2) M(3)
#define START_INT(t) __m256i c##t = _mm256_setzero_si256();
#define START_PAIR(t) __m256i p##t = _mm256_setzero_si256();
#define PAIR(t)                                                                                                        \
    if (t < tokens)                                                                                                    \
        p##t = _mm256_add_epi16(p##t,                                                                                  \
                                _mm256_maddubs_epi16((__m256i)w->code[q], splat_int(panel + (q * width + t) * 4)));
#define WIDEN(t)                                                                                                       \
    if (t < tokens)                                                                                                    \
        c##t = _mm256_add_epi32(c##t, _mm256_madd_epi16(p##t, ones));
#define SIGNED(t)                                                                                                      \
    if (t < tokens)                                                                                                    \
        c##t = _mm256_add_epi32(                                                                                       \
            c##t,                                                                                                      \
            _mm256_madd_epi16(                                                                                         \
                _mm256_maddubs_epi16(size, _mm256_sign_epi8(splat_int(panel + (q * width + t) * 4), code)), ones));
#define RESULT(t) out[t] = c##t;

/* sums of the codes of `quads` quads from `begin` on times those of `tokens` (1, 2 or 4) tokens */
INLINE void dot_quads(const block *w, shape s, const uint8_t *panel, const unsigned width, const unsigned tokens,
                      const unsigned begin, const unsigned quads, __m256i *out)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const unsigned step = s.bits <= 4 ? quads : s.bits == 5 ? 4 : 2;
    EACH4(START_INT)
    if (s.bits == 8) {
        UNROLL for (unsigned i = 0; i < quads; i++)
        {
            unsigned q = begin + i;
            __m256i code = _mm256_xor_si256((__m256i)w->code[q], _mm256_set1_epi8(-128)), size = _mm256_abs_epi8(code);
            EACH4(SIGNED)
        }
    } else {
        UNROLL for (unsigned i = 0; i < quads / step; i++)
        {
            EACH4(START_PAIR)
            UNROLL for (unsigned j = 0; j < step; j++)
            {
                unsigned q = begin + i * step + j;
                EACH4(PAIR)
            }
            EACH4(WIDEN)
        }
    }
    EACH4(RESULT)
}

/* minus_s of one token (matmul_tile.h) */
INLINE __m256i minus_sum(shape s, const uint8_t *panel, const unsigned width, unsigned sub)
{
    const uint8_t *all = panel + 32 * width, *low = panel + 36 * width;
    if (s.subs == 1)
        return splat_int(all);
    return sub == 0 ? splat_int(low) : _mm256_sub_epi32(splat_int(all), splat_int(low));
}

/* panel: the record of this block of 32 values; acc: a token's sums of these rows, the next token's `stride` on */
INLINE void dot_block(const block *w, shape s, const uint8_t *panel, const unsigned width, float *acc, size_t stride)
{
    const unsigned tokens = width < 4 ? width : 4;
    UNROLL for (unsigned first = 0; first < width; first += tokens, panel += 16)
    {
        __m256i dot[2][4];
        UNROLL for (unsigned sub = 0; sub < s.subs; sub++)
            dot_quads(w, s, panel, width, tokens, sub * 4, 8 / s.subs, dot[sub]);
        UNROLL for (unsigned t = 0; t < tokens; t++)
        {
            vf value = {0};
            UNROLL for (unsigned sub = 0; sub < s.subs; sub++)
            {
                __m256i sum = dot[sub][t];
                if (!s.min && s.bits < 8)
                    sum = _mm256_add_epi32(sum,
                                           _mm256_slli_epi32(minus_sum(s, panel + 4 * t, width, sub), (int)s.shift));
                vf f = (vf)_mm256_cvtepi32_ps(sum);
                value = sub == 0 ? f * w->scale[0] : vf_fma(f, w->scale[1], value);
            }
            for (unsigned sub = 0; s.min && sub < s.subs; sub++)
                value = vf_fma(w->min[sub], (vf)_mm256_cvtepi32_ps(minus_sum(s, panel + 4 * t, width, sub)), value);
            float *a = acc + (first + t) * stride;
            vf_store(a, vf_fma(value, splat_float(panel + 40 * width + 4 * t), vf_load(a)));
        }
    }
}

#include "kernel/matmul_lanes.h"

/* ---- float: 8 chains of fma at a time: the halves of the tile by 4 chains of k mod 4 of one token (1 or 2 tokens, so
 * that k is read in order) or by one chain of each of 4 tokens ---- */

#define EACH8(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define PART(c) vf p##c = {0};
#define CHAIN_K(c) (k + first + c / 2 / tokens)
#define CHAIN(c)                                                                                                       \
    p##c = vf_fma(tile_float(type, tile + c % 2 * half, CHAIN_K(c)),                                                   \
                  splat_float((const uint8_t *)(panel + CHAIN_K(c) * width + c / 2 % tokens)), p##c);
#define REST(c)                                                                                                        \
    if (CHAIN_K(c) < n)                                                                                                \
    CHAIN(c)
#define SUM_AT(c) (acc + c / 2 % tokens * stride + c % 2 * 8)
#define SUM(c) vf_store(SUM_AT(c), vf_load(SUM_AT(c)) + p##c);

/* k = first .. first + 4 / tokens - 1 mod 4, of up to NB_SPAN_F32 values, by `tokens` (1 or 4) of the panel's tokens */
INLINE void dot_span(nb_type type, const uint8_t *tile, const float *panel, const size_t width, const size_t tokens,
                     const size_t first, size_t n, float *acc, size_t stride)
{
    const size_t half = type == NB_TYPE_F16 ? 16 : 32;
    EACH8(PART)
    size_t k = 0;
    for (; k + 4 <= n; k += 4) {
        EACH8(CHAIN)
    }
    EACH8(REST)
    EACH8(SUM)
}

INLINE void dot_float(nb_type type, const uint8_t *tile, const float *panel, const size_t width, size_t n, nb_sums acc)
{
    begin_sums(acc, width);
    const size_t bytes = type == NB_TYPE_F32 ? 64 : 32, tokens = width < 4 ? 1 : 4;
    for (size_t k = 0; k < n; k += NB_SPAN_F32)
        for (size_t t = 0; t < width; t += tokens)
            UNROLL for (size_t first = 0; first < 4; first += 4 / tokens)
                dot_span(type, tile + k * bytes, panel + k * width + t, width, tokens, first,
                         nb_min_size(n - k, NB_SPAN_F32), acc.at + t * acc.stride, acc.stride);
}

#define UNPACK_PAYS(words, order, bits) true
#define PACK nb_pack_avx2
#define TRANSPOSE16 nb_transpose16_avx2
#define ACT_Q8 nb_act_q8_avx2
#define ACT_F32 nb_act_f32_avx2
#include "kernel/matmul_rows.h"
