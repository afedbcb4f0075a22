/* AVX512-VNNI: an instruction multiplies 64 unsigned bytes by 64 signed ones and adds fours of products to 16 sums. On Zen 4
 * one starts each cycle, as one of 16 multiply-adds of floats does, and codes need no conversion: 4 rows take 48 of them a
 * position of 128 dims, keys and values, where floats take 64 multiply-adds and the conversions. */
#include <immintrin.h>
#include <string.h>

#include "attention/codes.h"
#include "attention/kv.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

#define BLOCK 32
#define TINY 0x0d800000u     /* 2^-100: blocks and tiles below it count as zeros */
#define INFINITE 0x7f800000u /* as bits, infinities, NaNs and all that is negative are not less */

INLINE __m512i word(const uint32_t *p) { return _mm512_set1_epi32((int32_t)*p); }

INLINE __m512 number(const uint32_t *p) { return _mm512_castsi512_ps(word(p)); }

INLINE __m512 load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

/* sums += fours of products. Around its builtin GCC 12 copies all sums and stores them: 126 cycles a position instead of 66. */
INLINE __m512i dot_fours(__m512i sums, __m512i u, __m512i s)
{
#if defined(__clang__)
    return _mm512_dpbusd_epi32(sums, u, s);
#else
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(u), "v"(s));
    return sums;
#endif
}

/* ---- keys ---- */

/* A block of 32 dims of a split query: [8] words of four high bytes, [8] of middle, [8] of low ones, all signed, so that q =
 * (high 2^16 + middle 2^8 + low) step, and what the codes' offset of 128 adds to the sums, taken off them beforehand. The
 * step is the row's, in the first block only: a block far below another one matters as little in sums of floats. */
enum { HIGH = 0, MIDDLE = 8, LOW = 16, HIGH_START = 24, MIDDLE_START = 25, LOW_START = 26, STEP = 27 };

#define Q_STEPS (127 * 65536.0f)

INLINE int put_bytes(uint32_t *to, size_t half, __m512i x)
{
    _mm_storeu_si128((__m128i *)(to + half * 4), _mm512_cvtepi32_epi8(x));
    return _mm512_reduce_add_epi32(x);
}

static void split_block(const float *q, float inverse, uint32_t *to)
{
    int highs = 0, middles = 0, lows = 0;
    UNROLL
    for (size_t half = 0; half < 2; half++) {
        __m512i x = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(q + half * 16), _mm512_set1_ps(inverse)));
        __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(x, 24), 24);
        x = _mm512_srai_epi32(_mm512_sub_epi32(x, low), 8);
        __m512i middle = _mm512_srai_epi32(_mm512_slli_epi32(x, 24), 24);
        __m512i high = _mm512_srai_epi32(_mm512_sub_epi32(x, middle), 8);
        lows += put_bytes(to + LOW, half, low);
        middles += put_bytes(to + MIDDLE, half, middle);
        highs += put_bytes(to + HIGH, half, high);
    }
    to[HIGH_START] = (uint32_t)(-128 * highs);
    to[MIDDLE_START] = (uint32_t)(-128 * middles);
    to[LOW_START] = (uint32_t)(-128 * lows);
}

bool nb_codes_split(const float *q, size_t dim, uint32_t *to)
{
    __m512i most = _mm512_setzero_si512();
    for (size_t d = 0; d < dim; d += 16)
        most = _mm512_max_epu32(most, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(q + d))));
    uint32_t bits = _mm512_reduce_max_epu32(most);
    memset(to, 0, dim / BLOCK * NB_CODES_BLOCK * sizeof *to);
    if (bits >= INFINITE)
        return false;
    if (bits < TINY)
        return true;
    float top, step;
    memcpy(&top, &bits, sizeof top);
    step = top / Q_STEPS * 16; /* of sums without their last four bits */
    memcpy(to + STEP, &step, sizeof step);
    for (size_t d = 0; d < dim; d += BLOCK, to += NB_CODES_BLOCK)
        split_block(q + d, Q_STEPS / top, to);
    return true;
}

/* A block's part of the scores of 32 keys, or of their beginning. Of a sum, up to 2^35, the last four bits are let go. */
INLINE void dot_block(size_t rows, bool first, const uint32_t *q, size_t stride, const nb_codes *k, ptrdiff_t ahead,
                      size_t key, size_t block, float *c)
{
    __m512i high[4][2], middle[4][2], low[4][2];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < 2; v++) {
            high[r][v] = word(q + r * stride + HIGH_START);
            middle[r][v] = word(q + r * stride + MIDDLE_START);
            low[r][v] = word(q + r * stride + LOW_START);
        }
    }
    const uint8_t *codes = k->codes + key * k->dim + block * BLOCK * BLOCK;
    nb_kv_ask(k->scale + block * NB_PAGE + key, ahead);
    NO_UNROLL
    for (size_t i = 0; i < BLOCK / 4; i++, codes += 128) {
        __m512i u[2] = {_mm512_loadu_si512(codes), _mm512_loadu_si512(codes + 64)};
        nb_kv_ask(codes, ahead);
        nb_kv_ask(codes + 64, ahead);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i a = word(q + r * stride + HIGH + i), b = word(q + r * stride + MIDDLE + i);
            __m512i d = word(q + r * stride + LOW + i);
            UNROLL
            for (size_t v = 0; v < 2; v++)
                high[r][v] = dot_fours(high[r][v], u[v], a);
            UNROLL
            for (size_t v = 0; v < 2; v++)
                middle[r][v] = dot_fours(middle[r][v], u[v], b);
            UNROLL
            for (size_t v = 0; v < 2; v++)
                low[r][v] = dot_fours(low[r][v], u[v], d);
        }
    }
    UNROLL
    for (size_t v = 0; v < 2; v++) {
        __m512 scale = load_f16(k->scale + block * NB_PAGE + key + v * 16);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(middle[r][v], 8), low[r][v]);
            sum = _mm512_add_epi32(_mm512_slli_epi32(high[r][v], 12), _mm512_srai_epi32(sum, 4));
            float *to = c + r * NB_PAGE + key + v * 16;
            __m512 before = first ? _mm512_setzero_ps() : _mm512_loadu_ps(to);
            _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, before));
        }
    }
}

INLINE void scale_by(float *x, __m512 by) { _mm512_storeu_ps(x, _mm512_mul_ps(_mm512_loadu_ps(x), by)); }

#define DOT(rows)                                                                                                      \
    static void dot##rows(const uint32_t *q, size_t stride, const nb_codes *k, ptrdiff_t ahead, float *c)              \
    {                                                                                                                  \
        for (size_t key = 0; key < NB_PAGE; key += BLOCK) {                                                            \
            dot_block(rows, true, q, stride, k, ahead, key, 0, c);                                                     \
            for (size_t block = 1; block < k->dim / BLOCK; block++)                                                    \
                dot_block(rows, false, q + block * NB_CODES_BLOCK, stride, k, ahead, key, block, c);                   \
        }                                                                                                              \
        for (size_t r = 0; r < (rows); r++)                                                                            \
            for (size_t key = 0; key < NB_PAGE; key += 16)                                                             \
                scale_by(c + r * NB_PAGE + key, number(q + r * stride + STEP));                                        \
    }
DOT(1)
DOT(2)
DOT(3)
DOT(4)

/* Fours of rows first: the codes are in the first-level cache when the others come. */
void nb_codes_dot(size_t rows, const uint32_t *q, size_t stride, const nb_codes *k, float *c)
{
    static void (*const by_rows[])(const uint32_t *, size_t, const nb_codes *, ptrdiff_t, float *) = {dot1, dot2, dot3,
                                                                                                      dot4};
    ptrdiff_t ahead = k->ahead;
    for (size_t n; rows > 0; rows -= n, q += n * stride, c += n * NB_PAGE, ahead = 0) {
        n = rows < 4 ? rows : 4;
        by_rows[n - 1](q, stride, k, ahead, c);
    }
}

/* ---- values ---- */

#define W_STEPS 16777208.0f /* 2^24 - 8: rounding the product cannot reach 2^24 */

/* The largest of each of four vectors' lanes, as unsigned numbers. */
INLINE __m128i tops_of(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_max_epu32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i all = _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_max_epu32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* p times the values' scales, of 16 positions of a row */
INLINE __m512 weights(bool whole, const nb_codes_sum *m, size_t row, size_t i, __m512 scale)
{
    __mmask16 seen = whole ? 0xffff : (__mmask16)(m->seen[row] >> i * 16);
    return _mm512_maskz_mul_ps(seen, _mm512_loadu_ps(m->p + row * NB_PAGE + i * 16), scale);
}

/* The step and its inverse of each row's weights for a block of dims: of inverse [4] floats. Returns a bit a row that is odd. */
INLINE uint32_t steps_of(size_t rows, bool whole, const nb_codes_sum *m, size_t block, size_t row, size_t all,
                         float *inverse)
{
    const uint16_t *scale = m->v.scale + block * NB_PAGE;
    __m512i top[4];
    nb_kv_ask(scale, m->v.ahead);
    nb_kv_ask(scale + 32, m->v.ahead);
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        __m512 of_position = load_f16(scale + i * 16);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i bits = _mm512_castps_si512(weights(whole, m, row + r, i, of_position));
            top[r] = i ? _mm512_max_epu32(top[r], bits) : bits;
        }
    }
    UNROLL
    for (size_t r = rows; r < 4; r++)
        top[r] = top[0];
    __m128i tops = tops_of(top[0], top[1], top[2], top[3]);
    __mmask8 odd = _mm_cmpge_epu32_mask(tops, _mm_set1_epi32((int32_t)INFINITE));
    __mmask8 good = (__mmask8)(_mm_cmpge_epu32_mask(tops, _mm_set1_epi32((int32_t)TINY)) & ~odd);
    __mmask8 some = (__mmask8)((1u << rows) - 1);
    _mm_storeu_ps(inverse, _mm_maskz_div_ps(good, _mm_set1_ps(W_STEPS), _mm_castsi128_ps(tops)));
    _mm_mask_storeu_ps(m->scale + block * all + row, some,
                       _mm_maskz_mul_ps(good, _mm_set1_ps(1 / W_STEPS), _mm_castsi128_ps(tops)));
    return odd & some;
}

/* A block's weights in steps. A word is a position's three bytes at first; turned, words hold the low bytes of four positions,
 * their middle, their high ones, and nothing. */
INLINE void split_weights(size_t rows, bool whole, const nb_codes_sum *m, size_t block, size_t row, size_t all,
                          const float *inverse)
{
    const __m512i turn = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const uint16_t *scale = m->v.scale + block * NB_PAGE;
    uint32_t *to = m->parts + (block * all + row) * NB_PAGE;
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        __m512 of_position = load_f16(scale + i * 16);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512 w = _mm512_mul_ps(weights(whole, m, row + r, i, of_position), _mm512_set1_ps(inverse[r]));
            _mm512_storeu_si512(to + r * NB_PAGE + i * 16, _mm512_shuffle_epi8(_mm512_cvtps_epi32(w), turn));
        }
    }
}

/* First all steps and then all words: each of the former is a long chain, and several go on side by side. */
INLINE bool split_rows(size_t rows, bool whole, const nb_codes_sum *m, size_t row, size_t all)
{
    float inverse[1024 / BLOCK * 4];
    uint32_t any = 0;
    for (size_t block = 0; block < m->v.dim / BLOCK; block++) {
        uint32_t odd = steps_of(rows, whole, m, block, row, all, inverse + block * 4);
        m->odd[block] |= odd << row;
        any |= odd;
    }
    for (size_t block = 0; block < m->v.dim / BLOCK; block++)
        split_weights(rows, whole, m, block, row, all, inverse + block * 4);
    return any != 0;
}

#define SPLIT(rows)                                                                                                    \
    static bool split##rows(const nb_codes_sum *m, size_t row, size_t all)                                             \
    {                                                                                                                  \
        bool whole = true;                                                                                             \
        for (size_t r = row; r < row + (rows); r++)                                                                    \
            whole = whole && m->seen[r] == UINT64_MAX;                                                                 \
        return whole ? split_rows(rows, true, m, row, all) : split_rows(rows, false, m, row, all);                     \
    }
SPLIT(1)
SPLIT(2)
SPLIT(3)
SPLIT(4)

/* A block of 32 dims, fours of positions [begin, end) */
INLINE void add(size_t rows, const nb_codes_sum *m, size_t block, size_t row, size_t all, size_t begin, size_t end)
{
    __m512i low[4][2], middle[4][2], high[4][2];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < 2; v++)
            low[r][v] = middle[r][v] = high[r][v] = _mm512_setzero_si512();
    }
    const uint32_t *parts = m->parts + (block * all + row) * NB_PAGE + begin * 4;
    const uint8_t *codes = m->v.codes + block * BLOCK * NB_PAGE + begin * 128;
    ptrdiff_t ahead = row == 0 ? m->v.ahead : 0;
    NO_UNROLL
    for (size_t i = begin; i < end; i++, codes += 128, parts += 4) {
        __m512i x[2] = {_mm512_loadu_si512(codes), _mm512_loadu_si512(codes + 64)};
        nb_kv_ask(codes, ahead);
        nb_kv_ask(codes + 64, ahead);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i a = word(parts + r * NB_PAGE), b = word(parts + r * NB_PAGE + 1);
            __m512i c = word(parts + r * NB_PAGE + 2);
            UNROLL
            for (size_t v = 0; v < 2; v++)
                low[r][v] = dot_fours(low[r][v], a, x[v]);
            UNROLL
            for (size_t v = 0; v < 2; v++)
                middle[r][v] = dot_fours(middle[r][v], b, x[v]);
            UNROLL
            for (size_t v = 0; v < 2; v++)
                high[r][v] = dot_fours(high[r][v], c, x[v]);
        }
    }
    const __m512 high_step = _mm512_set1_ps(65536);
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        float *state = m->state + (row + r) * m->state_stride + block * BLOCK;
        __m512 step = _mm512_set1_ps(m->scale[block * all + row + r]);
        UNROLL
        for (size_t v = 0; v < 2; v++) {
            __m512i below = _mm512_add_epi32(_mm512_slli_epi32(middle[r][v], 8), low[r][v]);
            __m512 sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[r][v]), high_step, _mm512_cvtepi32_ps(below));
            _mm512_storeu_ps(state + v * 16, _mm512_fmadd_ps(sum, step, _mm512_loadu_ps(state + v * 16)));
        }
    }
}

#define ADD(rows)                                                                                                      \
    static void add##rows(const nb_codes_sum *m, size_t row, size_t all, size_t begin, size_t end)                     \
    {                                                                                                                  \
        for (size_t block = 0; block < m->v.dim / BLOCK; block++)                                                      \
            add(rows, m, block, row, all, begin, end);                                                                 \
    }
ADD(1)
ADD(2)
ADD(3)
ADD(4)

bool nb_codes_add(size_t rows, const nb_codes_sum *m)
{
    static bool (*const splits[])(const nb_codes_sum *, size_t, size_t) = {split1, split2, split3, split4};
    static void (*const adds[])(const nb_codes_sum *, size_t, size_t, size_t, size_t) = {add1, add2, add3, add4};
    bool odd = false;
    uint64_t seen = 0;
    for (size_t r = 0; r < rows; r++)
        seen |= m->seen[r];
    size_t begin = (size_t)__builtin_ctzll(seen) / 4, end = NB_PAGE / 4 - (size_t)__builtin_clzll(seen) / 4;
    memset(m->odd, 0, m->v.dim / BLOCK * sizeof *m->odd);
    for (size_t row = 0, n; row < rows; row += n) {
        n = rows - row < 4 ? rows - row : 4;
        odd |= splits[n - 1](m, row, rows);
        adds[n - 1](m, row, rows, begin, end);
    }
    return odd;
}
