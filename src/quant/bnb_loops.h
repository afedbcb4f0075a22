/* bnb_loops.h - the loops of bnb.h, written once and compiled at each level: BNB_LOOPS names the table. Where the level has
 * AVX-512 or AVX2 the hot ones are written in its instructions. */
#include <math.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "num/half.h"
#include "quant/bnb.h"

static uint32_t largest(const float *x, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = nb_f32_bits(x[i]) & 0x7fffffffu;
        most = u > most ? u : most;
    }
    return most;
}

static void widen(const uint16_t *restrict x, bool bf16, float *restrict y, size_t n)
{
    if (bf16)
        for (size_t i = 0; i < n; i++)
            y[i] = nb_bf16_to_f32(x[i]);
    else
        for (size_t i = 0; i < n; i++)
            y[i] = nb_f16_to_f32(x[i]);
}

static void narrow(const float *restrict x, bool bf16, uint16_t *restrict y, size_t n)
{
    if (bf16)
        for (size_t i = 0; i < n; i++)
            y[i] = nb_f32_to_bf16(x[i]);
    else
        for (size_t i = 0; i < n; i++)
            y[i] = nb_f32_to_f16(x[i]);
}

/* ---- 4 bits: quantize ---- */

#if defined(__AVX512F__)

/* Four steps of a search by halves; each step's midpoints lie where the code so far points. */
typedef struct search4 {
    __m512 second, third, fourth;
    __m512i code;
    float first;
} search4;

static search4 search4_of(const float *m, const uint8_t *code)
{
    float t[3][16] = {{0}};
    t[0][0] = m[3], t[0][8] = m[11];
    for (int i = 0; i < 4; i++)
        t[1][4 * i] = m[4 * i + 1];
    for (int i = 0; i < 8; i++)
        t[2][2 * i] = m[2 * i];
    return (search4){.second = _mm512_loadu_ps(t[0]),
                     .third = _mm512_loadu_ps(t[1]),
                     .fourth = _mm512_loadu_ps(t[2]),
                     .code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)code)),
                     .first = m[7]};
}

/* 16 values to 8 bytes */
static inline __m128i encode16(const search4 *s, __m512 x)
{
    __m512i c = _mm512_maskz_set1_epi32(_mm512_cmp_ps_mask(x, _mm512_set1_ps(s->first), _CMP_GT_OQ), 8);
    __mmask16 up = _mm512_cmp_ps_mask(x, _mm512_permutexvar_ps(c, s->second), _CMP_GT_OQ);
    c = _mm512_mask_or_epi32(c, up, c, _mm512_set1_epi32(4));
    up = _mm512_cmp_ps_mask(x, _mm512_permutexvar_ps(c, s->third), _CMP_GT_OQ);
    c = _mm512_mask_or_epi32(c, up, c, _mm512_set1_epi32(2));
    up = _mm512_cmp_ps_mask(x, _mm512_permutexvar_ps(c, s->fourth), _CMP_GT_OQ);
    c = _mm512_mask_or_epi32(c, up, c, _mm512_set1_epi32(1));
    c = _mm512_permutexvar_epi32(c, s->code);
    return _mm512_cvtepi64_epi8(_mm512_or_si512(_mm512_slli_epi64(c, 4), _mm512_srli_epi64(c, 32)));
}

static void encode4(const float *x, size_t n, float factor, const float *middle, const uint8_t *code, uint8_t *packed)
{
    search4 s = search4_of(middle, code);
    __m512 f = _mm512_set1_ps(factor);
    for (; n >= 16; n -= 16, x += 16, packed += 8)
        _mm_storel_epi64((__m128i *)(void *)packed, encode16(&s, _mm512_mul_ps(_mm512_loadu_ps(x), f)));
}

#else

/* 15 comparisons a value: they vectorize, a search does not */
static void encode4(const float *x, size_t n, float factor, const float *middle, const uint8_t *code, uint8_t *packed)
{
    enum { PIECE = 256 };
    float m[15];
    uint8_t rank[PIECE];
    memcpy(m, middle, sizeof m);
    for (size_t at = 0, piece; at < n; at += piece) {
        piece = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < piece; i++) {
            float v = x[at + i] * factor;
            int c = 0;
            for (int k = 0; k < 15; k++)
                c += v > m[k];
            rank[i] = (uint8_t)c;
        }
        for (size_t i = 0; i < piece; i += 2)
            packed[(at + i) / 2] = (uint8_t)(code[rank[i]] << 4 | code[rank[i + 1]]);
    }
}

#endif

/* ---- 4 bits: dequantize ---- */

/* A block's 16 possible values are computed once, then looked up. */

#if defined(__AVX512F__)

static inline __m512 values_of(const float *map, float absmax)
{
    return _mm512_mul_ps(_mm512_loadu_ps(map), _mm512_set1_ps(absmax));
}

/* The byte shifts put bits 4, 0, 12, 8 ... of eight bytes to the low half of a 32-bit lane each: the index of a look-up
 * that ignores the rest of the lane. */
static void decode4(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t blocks, float *y,
                    bool stream)
{
    const __m512i where = _mm512_set_epi64(0x3800000000 | 0x3c, 0x3000000000 | 0x34, 0x2800000000 | 0x2c,
                                           0x2000000000 | 0x24, 0x1800000000 | 0x1c, 0x1000000000 | 0x14,
                                           0x0800000000 | 0x0c, 0x0000000000 | 0x04);
    stream = stream && ((uintptr_t)y & 63) == 0;
    for (size_t b = 0; b < blocks; b++) {
        __m512 t = values_of(map, absmax[b]);
        for (size_t i = 0; i < block; i += 16, packed += 8, y += 16) {
            uint64_t bytes;
            memcpy(&bytes, packed, 8);
            __m512i index = _mm512_multishift_epi64_epi8(where, _mm512_set1_epi64((long long)bytes));
            if (stream)
                _mm512_stream_ps(y, _mm512_permutexvar_ps(index, t));
            else
                _mm512_storeu_ps(y, _mm512_permutexvar_ps(index, t));
        }
    }
}

static inline __m256i round_bf16(__m512 x)
{
    __m512i u = _mm512_castps_si512(x), top = _mm512_srli_epi32(u, 16);
    __m512i up = _mm512_add_epi32(_mm512_and_si512(top, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7fff));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, up), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, top, _mm512_set1_epi32(0x40)));
}

static void decode4_half(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t blocks,
                         uint16_t *y, bool bf16, bool stream)
{
    const __m512i where = _mm512_set1_epi64(0x0008000c00000004);
    stream = stream && ((uintptr_t)y & 63) == 0;
    for (size_t b = 0; b < blocks; b++) {
        __m512 v = values_of(map, absmax[b]);
        __m256i half = bf16 ? round_bf16(v) : _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        __m512i t = _mm512_broadcast_i64x4(half);
        for (size_t i = 0; i < block; i += 32, packed += 16, y += 32) {
            __m512i two = _mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)(const void *)packed));
            __m512i z = _mm512_permutexvar_epi16(_mm512_multishift_epi64_epi8(where, two), t);
            if (stream)
                _mm512_stream_si512((void *)y, z);
            else
                _mm512_storeu_si512(y, z);
        }
    }
}

#else

#if defined(__AVX2__)
static void decode4(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t blocks, float *y,
                    bool stream)
{
    const __m256i shift = _mm256_set_epi32(24, 28, 16, 20, 8, 12, 0, 4);
    stream = stream && ((uintptr_t)y & 31) == 0;
    for (size_t b = 0; b < blocks; b++) {
        __m256 scale = _mm256_set1_ps(absmax[b]);
        __m256 low = _mm256_mul_ps(_mm256_loadu_ps(map), scale), high = _mm256_mul_ps(_mm256_loadu_ps(map + 8), scale);
        for (size_t i = 0; i < block; i += 8, packed += 4, y += 8) {
            int bytes;
            memcpy(&bytes, packed, 4);
            __m256i index = _mm256_srlv_epi32(_mm256_set1_epi32(bytes), shift);
            __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)); /* bit 3 chooses the half */
            __m256 v = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index),
                                        upper);
            if (stream)
                _mm256_stream_ps(y, v);
            else
                _mm256_storeu_ps(y, v);
        }
    }
}
#else
static void decode4(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t blocks, float *y,
                    bool stream)
{
    (void)stream;
    for (size_t b = 0; b < blocks; b++) {
        float table[16];
        for (int i = 0; i < 16; i++)
            table[i] = map[i] * absmax[b];
        for (size_t i = 0; i < block; i += 2, packed++, y += 2) {
            y[0] = table[*packed >> 4];
            y[1] = table[*packed & 15];
        }
    }
}
#endif

static void decode4_half(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t blocks,
                         uint16_t *y, bool bf16, bool stream)
{
    (void)stream;
    for (size_t b = 0; b < blocks; b++) {
        float table[16];
        uint16_t half[16];
        for (int i = 0; i < 16; i++)
            table[i] = map[i] * absmax[b];
        narrow(table, bf16, half, 16);
        for (size_t i = 0; i < block; i += 2, packed++, y += 2) {
            y[0] = half[*packed >> 4];
            y[1] = half[*packed & 15];
        }
    }
}

#endif

/* ---- 8 bits ---- */

#if defined(__AVX512F__)

static inline __m512i nearest16(const nb_bnb_index *index, __m512 x)
{
    const __m512i lowest = _mm512_set1_epi32((127 - 32) << 7);
    __m512i bits = _mm512_castps_si512(x);
    __m512i cell = _mm512_sub_epi32(_mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x7fff)), lowest);
    cell = _mm512_max_epi32(cell, _mm512_setzero_si512());
    cell = _mm512_min_epi32(cell, _mm512_set1_epi32(NB_BNB_CELLS - 1));
    cell = _mm512_mask_add_epi32(cell, _mm512_movepi32_mask(bits), cell, _mm512_set1_epi32(NB_BNB_CELLS + 3));
    __m512i c = _mm512_and_si512(_mm512_i32gather_epi32(cell, (const void *)index->first, 1), _mm512_set1_epi32(255));
    for (int i = 0; i < index->steps; i++) {
        __m512 middle = _mm512_i32gather_ps(c, index->middle, 4);
        c = _mm512_mask_add_epi32(c, _mm512_cmp_ps_mask(x, middle, _CMP_GT_OQ), c, _mm512_set1_epi32(1));
    }
    return c;
}

static void encode8(const float *x, size_t n, float factor, const nb_bnb_index *index, uint8_t *codes)
{
    __m512 f = _mm512_set1_ps(factor);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 use = (__mmask16)(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
        __m512i c = nearest16(index, _mm512_mul_ps(_mm512_maskz_loadu_ps(use, x + i), f));
        _mm512_mask_cvtepi32_storeu_epi8(codes + i, use, c);
    }
}

#else

static void encode8(const float *x, size_t n, float factor, const nb_bnb_index *index, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = nb_bnb_nearest(index, x[i] * factor);
}

#endif

#if defined(__AVX512F__)

/* The four bytes of a map's 256 floats, apart: 64 codes look up a byte each of their floats in four instructions. */
typedef struct planes {
    __m512i byte[4][4];
} planes;

static inline planes planes_of(const float *map)
{
    uint8_t apart[4][256];
    planes p;
    for (int i = 0; i < 256; i += 16)
        for (unsigned b = 0; b < 4; b++)
            _mm_storeu_si128((__m128i *)(void *)&apart[b][i],
                             _mm512_cvtepi32_epi8(_mm512_srli_epi32(_mm512_loadu_si512(map + i), 8 * b)));
    memcpy(p.byte, apart, sizeof apart);
    return p;
}

/* The codes' 32-bit words go first to where two rounds of unpacking, which stay in their 128 bits, leave the floats in
 * order. */
static inline void decode64(const planes *p, const uint8_t *codes, __m512 scale, float *y)
{
    const __m512i word = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512i c = _mm512_permutexvar_epi32(word, _mm512_loadu_si512(codes)), v[4];
    __mmask64 upper = _mm512_movepi8_mask(c);
    for (int b = 0; b < 4; b++)
        v[b] = _mm512_mask_blend_epi8(upper, _mm512_permutex2var_epi8(p->byte[b][0], c, p->byte[b][1]),
                                      _mm512_permutex2var_epi8(p->byte[b][2], c, p->byte[b][3]));
    __m512i low = _mm512_unpacklo_epi8(v[0], v[1]), low_top = _mm512_unpacklo_epi8(v[2], v[3]);
    __m512i high = _mm512_unpackhi_epi8(v[0], v[1]), high_top = _mm512_unpackhi_epi8(v[2], v[3]);
    __m512i z[4] = {_mm512_unpacklo_epi16(low, low_top), _mm512_unpackhi_epi16(low, low_top),
                    _mm512_unpacklo_epi16(high, high_top), _mm512_unpackhi_epi16(high, high_top)};
    for (int i = 0; i < 4; i++)
        _mm512_storeu_ps(y + 16 * i, _mm512_mul_ps(_mm512_castsi512_ps(z[i]), scale));
}

#endif

static void decode8(const uint8_t *codes, size_t n, const float *map, float absmax, float *y)
{
    size_t i = 0;
#if defined(__AVX512F__)
    if (n >= 256) { /* below, taking the map apart costs more than it saves */
        planes p = planes_of(map);
        for (; i + 64 <= n; i += 64)
            decode64(&p, codes + i, _mm512_set1_ps(absmax), y + i);
    }
#endif
    for (; i < n; i++)
        y[i] = map[codes[i]] * absmax;
}

/* ---- LLM.int8() ---- */

static void encode_int8(const float *restrict x, size_t n, float factor, int8_t *restrict codes)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)(int32_t)(x[i] * factor + 0x1.8p23f - 0x1.8p23f); /* rounds half to even */
}

static int32_t dot_int8(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

const nb_bnb_loops BNB_LOOPS = {.largest = largest,
                                .widen = widen,
                                .narrow = narrow,
                                .encode4 = encode4,
                                .decode4 = decode4,
                                .decode4_half = decode4_half,
                                .encode8 = encode8,
                                .decode8 = decode8,
                                .encode_int8 = encode_int8,
                                .dot_int8 = dot_int8};
