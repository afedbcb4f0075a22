/* AVX-512 VNNI: a vector is the 16 rows of a tile. vpdpbusd takes the activations as broadcast memory operands; the
 * sums of 8 tokens (integer and float) stay in registers. They are named variables, made by EACH_TOKEN: in arrays they
 * spill (gcc 300 instead of 415 GOP/s a thread). On Zen 4 this runs at the bound of its multiplications: 8 dot
 * products against 2 float ones a block. No software prefetch: it costs 5 % to 44 % of a stream (measured). */
#include <immintrin.h>

#define LANES 16
#define VF_HALF
#define vf_half(p) ((vf)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p))))
#include "kernel/matmul_types.h"

#define EACH_TOKEN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)

INLINE __m512i splat_int(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

/* The same for a sum's start, hidden from the compiler, which would shift a scalar and pay a shuffle to spread it. */
INLINE __m512i splat_start(const uint8_t *p)
{
    __m512i v;
    __asm__("vpbroadcastd %1, %0" : "=v"(v) : "m"(*(const int32_t *)(const void *)p));
    return v;
}

INLINE __m512 splat_float(const uint8_t *p) { return _mm512_castsi512_ps(splat_int(p)); }

/* What a sub-block's codes have too much, or must be multiplied with its minimum: from the panel's record. */
INLINE __m512i minus_sum(shape s, const uint8_t *record, unsigned width, unsigned token, unsigned sub)
{
    const uint8_t *all = record + 32 * width + 4 * token, *low = all + 4 * width;
    if (s.subs == 1)
        return splat_start(all);
    return sub == 0 ? splat_start(low) : _mm512_sub_epi32(splat_start(all), splat_int(low));
}

/* One block of 32 values of 16 rows by `width` tokens: acc[t] += ... for the named sums a0..a7. */
#define DECLARE(t)                                                                                                     \
    __m512 a##t = _mm512_setzero_ps();                                                                                 \
    if (t < width && !acc.fresh)                                                                                       \
        a##t = _mm512_loadu_ps(acc.at + acc.stride * t);
#define DECLARE_VALUE(t) __m512 v##t = _mm512_setzero_ps();
#define START(t)                                                                                                       \
    __m512i c##t = _mm512_setzero_si512();                                                                             \
    if (t < width && !s.min)                                                                                           \
        c##t = _mm512_slli_epi32(minus_sum(s, record, width, t, sub), s.shift);
#define DOT(t)                                                                                                         \
    if (t < width)                                                                                                     \
        c##t = _mm512_dpbusd_epi32(c##t, w, splat_int(record + (quad * width + t) * 4));
#define SCALE(t)                                                                                                       \
    if (t < width)                                                                                                     \
        v##t = sub == 0 ? _mm512_mul_ps(_mm512_cvtepi32_ps(c##t), scale)                                               \
                        : _mm512_fmadd_ps(_mm512_cvtepi32_ps(c##t), scale, v##t);
#define MIN(t)                                                                                                         \
    if (t < width)                                                                                                     \
        v##t = _mm512_fmadd_ps(min, _mm512_cvtepi32_ps(minus_sum(s, record, width, t, sub)), v##t);
#define ADD(t)                                                                                                         \
    if (t < width)                                                                                                     \
        a##t = _mm512_fmadd_ps(v##t, splat_float(record + 40 * width + 4 * t), a##t);
#define STORE(t)                                                                                                       \
    if (t < width)                                                                                                     \
        _mm512_storeu_ps(acc.at + acc.stride * t, a##t);

INLINE void dot_tile(nb_type type, shape s, nb_unpack_fn *unpack, const uint8_t *tile, const uint8_t *record,
                     const unsigned width, size_t n, nb_sums acc)
{
    (void)unpack;
    EACH_TOKEN(DECLARE)
    for (; n; n--, tile += s.bytes) {
        const uint8_t *words = tile + s.head;
        vf d = tile_d(type, tile, words), m = s.min ? vf_half(tile + 32) : d;
        UNROLL for (unsigned b = 0; b < s.blocks; b++, record += NB_PANEL_Q8_BYTES * width)
        {
            EACH_TOKEN(DECLARE_VALUE)
            UNROLL for (unsigned sub = 0; sub < s.subs; sub++)
            {
                EACH_TOKEN(START)
                UNROLL for (unsigned q = 0; q < 8 / s.subs; q++)
                {
                    unsigned quad = sub * 4 + q;
                    __m512i w = (__m512i)tile_quad(type, words, b, quad);
                    EACH_TOKEN(DOT)
                }
                __m512 scale = (__m512)tile_scale(type, words, d, b, sub);
                EACH_TOKEN(SCALE)
            }
            if (s.min) {
                UNROLL for (unsigned sub = 0; sub < s.subs; sub++)
                {
                    __m512 min = (__m512)tile_min(type, words, m, b, sub);
                    EACH_TOKEN(MIN)
                }
            }
            EACH_TOKEN(ADD)
        }
    }
    EACH_TOKEN(STORE)
}

/* The same from codes. */
INLINE void dot_codes(shape s, const uint8_t *codes, const uint8_t *record, const unsigned width, size_t n, nb_sums acc)
{
    EACH_TOKEN(DECLARE)
    for (; n; n--, codes += nb_codes_bytes(s.subs, s.min), record += NB_PANEL_Q8_BYTES * width) {
        EACH_TOKEN(DECLARE_VALUE)
        UNROLL for (unsigned sub = 0; sub < s.subs; sub++)
        {
            EACH_TOKEN(START)
            UNROLL for (unsigned q = 0; q < 8 / s.subs; q++)
            {
                unsigned quad = sub * 4 + q;
                __m512i w = _mm512_loadu_si512(codes + 64 * quad);
                EACH_TOKEN(DOT)
            }
            __m512 scale = _mm512_loadu_ps(codes + 512 + 64 * sub);
            EACH_TOKEN(SCALE)
        }
        if (s.min) {
            UNROLL for (unsigned sub = 0; sub < s.subs; sub++)
            {
                __m512 min = _mm512_loadu_ps(codes + 512 + 64 * (s.subs + sub));
                EACH_TOKEN(MIN)
            }
        }
        EACH_TOKEN(ADD)
    }
    EACH_TOKEN(STORE)
}

INLINE void unpack_tile(nb_type type, shape s, const uint8_t *tile, size_t n, uint8_t *codes)
{
    for (; n; n--, tile += s.bytes) {
        const uint8_t *words = tile + s.head;
        vf d = tile_d(type, tile, words), m = s.min ? vf_half(tile + 32) : d;
        UNROLL for (unsigned b = 0; b < s.blocks; b++, codes += nb_codes_bytes(s.subs, s.min))
        {
            UNROLL for (unsigned quad = 0; quad < 8; quad++)
                _mm512_storeu_si512(codes + 64 * quad, (__m512i)tile_quad(type, words, b, quad));
            UNROLL for (unsigned sub = 0; sub < s.subs; sub++)
            {
                vf_store(codes + 512 + 64 * sub, tile_scale(type, words, d, b, sub));
                if (s.min)
                    vf_store(codes + 512 + 64 * (s.subs + sub), tile_min(type, words, m, b, sub));
            }
        }
    }
}

/* ---- float: chains of fma, one for each token and k mod 4: 16 at a time, so two passes for 8 tokens ---- */

#define EACH_CHAIN(M) EACH_TOKEN(M) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define PART(c) __m512 p##c = _mm512_setzero_ps();
#define CHAIN_K(c) (k + first + c / width)
#define CHAIN(c)                                                                                                       \
    p##c = _mm512_fmadd_ps((__m512)tile_float(type, tile, CHAIN_K(c)),                                                 \
                           _mm512_set1_ps(panel[CHAIN_K(c) * width + c % width]), p##c);
#define STEP(c)                                                                                                        \
    if (c < chains)                                                                                                    \
    CHAIN(c)
#define REST(c)                                                                                                        \
    if (c < chains && CHAIN_K(c) < n)                                                                                  \
    CHAIN(c)
#define SUM_AT(c) (acc.at + c % width * acc.stride)
#define SUM(c)                                                                                                         \
    if (c < chains)                                                                                                    \
        _mm512_storeu_ps(SUM_AT(c), _mm512_add_ps(_mm512_loadu_ps(SUM_AT(c)), p##c));

/* k = first, first + 1 .. mod 4 of up to NB_SPAN_F32 values */
INLINE void dot_span(nb_type type, const uint8_t *tile, const float *panel, const size_t width, const size_t first,
                     size_t n, nb_sums acc)
{
    const size_t chains = width < 4 ? 4 * width : 16;
    EACH_CHAIN(PART)
    size_t k = 0;
    for (; k + 4 <= n; k += 4) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(REST)
    EACH_CHAIN(SUM)
}

INLINE void dot_float(nb_type type, const uint8_t *tile, const float *panel, const size_t width, size_t n, nb_sums acc)
{
    const size_t bytes = type == NB_TYPE_F32 ? 64 : 32;
    begin_sums(acc, width);
    for (size_t k = 0; k < n; k += NB_SPAN_F32) {
        size_t span = nb_min_size(n - k, NB_SPAN_F32);
        dot_span(type, tile + k * bytes, panel + k * width, width, 0, span, acc);
        if (width == 8)
            dot_span(type, tile + k * bytes, panel + k * width, width, 2, span, acc);
    }
}

/* Unpacking nibbles and bytes beside the dot products is free, and the packed tile leaves more of L1 to the panel:
 * 73 % of the ceiling against 68 % for Q4_0. */
#define UNPACK_PAYS(words, order, bits) (words > 8 || order == NB_FIFTH_BITS)
#define LEVEL nb_matmul_avx512
#define PACK nb_pack_avx2
#define TRANSPOSE16 nb_transpose16_avx2
#define ACT_Q8 nb_act_q8_avx2
#define ACT_F32 nb_act_f32_avx2
#include "kernel/matmul_rows.h"
