/* What moves and quantizes data, for all x86 levels: 256 bits do as well as 512 here, loads and stores decide. */
#include <immintrin.h>

#include "kernel/matmul_tile.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- packing ---- */

/* to[i][row] = word i of row, i 0..3: 16 bytes of each of 16 rows. stride in bytes. */
INLINE void transpose_words(const uint8_t *src, size_t stride, uint8_t *const to[4])
{
    for (size_t half = 0; half < 2; half++, src += 8 * stride) {
        __m256i z[4];
        for (size_t i = 0; i < 4; i++)
            z[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)(src + i * stride))),
                                           _mm_loadu_si128((const void *)(src + (i + 4) * stride)), 1);
        __m256i low01 = _mm256_unpacklo_epi32(z[0], z[1]), high01 = _mm256_unpackhi_epi32(z[0], z[1]);
        __m256i low23 = _mm256_unpacklo_epi32(z[2], z[3]), high23 = _mm256_unpackhi_epi32(z[2], z[3]);
        _mm256_storeu_si256((void *)(to[0] + half * 32), _mm256_unpacklo_epi64(low01, low23));
        _mm256_storeu_si256((void *)(to[1] + half * 32), _mm256_unpackhi_epi64(low01, low23));
        _mm256_storeu_si256((void *)(to[2] + half * 32), _mm256_unpacklo_epi64(high01, high23));
        _mm256_storeu_si256((void *)(to[3] + half * 32), _mm256_unpackhi_epi64(high01, high23));
    }
}

INLINE void transpose_floats(const uint8_t *src, size_t stride, uint8_t *out)
{
    uint8_t *const to[4] = {out, out + 64, out + 128, out + 192};
    transpose_words(src, stride, to);
}

/* The same for 8 halves of each of 16 rows: out[i][row], 32 bytes a step. */
INLINE void transpose_halves(const uint8_t *src, size_t stride, uint8_t *out)
{
    __m256i a[8], b[8];
    for (size_t r = 0; r < 8; r++)
        a[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)(src + r * stride))),
                                       _mm_loadu_si128((const void *)(src + (r + 8) * stride)), 1);
    for (int i = 0; i < 4; i++) { /* pairs of rows, then fours, then all eight of each half */
        b[i] = _mm256_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
        b[4 + i] = _mm256_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            a[4 * i + 2 * j] = _mm256_unpacklo_epi32(b[4 * i + 2 * j], b[4 * i + 2 * j + 1]);
            a[4 * i + 2 * j + 1] = _mm256_unpackhi_epi32(b[4 * i + 2 * j], b[4 * i + 2 * j + 1]);
        }
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < 2; j++) {
            __m256i low = a[4 * i + j], high = a[4 * i + 2 + j];
            _mm256_storeu_si256((void *)(out + (4 * i + 2 * j) * 32), _mm256_unpacklo_epi64(low, high));
            _mm256_storeu_si256((void *)(out + (4 * i + 2 * j + 1) * 32), _mm256_unpackhi_epi64(low, high));
        }
}

INLINE void gather_halves(const uint8_t *src, size_t stride, uint8_t *out)
{
    uint16_t h[16];
    for (size_t r = 0; r < 16; r++)
        memcpy(&h[r], src + r * stride, 2);
    memcpy(out, h, 32);
}

INLINE void gather_bytes(const uint8_t *src, size_t stride, uint8_t *out)
{
    uint16_t h[16];
    for (size_t r = 0; r < 16; r++)
        h[r] = src[r * stride];
    memcpy(out, h, 32);
}

/* nb_pairs_split of words that lie 16 rows side by side */
INLINE void split_pairs(uint32_t (*w)[16])
{
    for (size_t i = 0; i < 8; i += 4)
        for (size_t r = 0; r < 16; r++) {
            uint32_t low[2], high[2];
            nb_pairs_split(w[i][r], w[i + 2][r], low);
            nb_pairs_split(w[i + 1][r], w[i + 3][r], high);
            w[i][r] = low[0], w[i + 1][r] = low[1];
            w[i + 2][r] = high[0], w[i + 3][r] = high[1];
        }
}

/* All words of a block; a rest of 1..3 by the last 4 once more (every type has at least 4). */
INLINE void pack_block(const nb_tile_type *t, const uint8_t *src, size_t stride, uint8_t *out)
{
    if (t->d_bytes == 2)
        gather_halves(src + t->d_at, stride, out);
    else if (t->d_bytes == 1)
        gather_bytes(src + t->d_at, stride, out);
    if (nb_tile_has_min(t))
        gather_halves(src + t->m_at, stride, out + 32);
    out += nb_tile_head(t);
    src += t->words_at;
    for (size_t i = 0; i < t->words; i += 4) {
        size_t first = nb_min_size(i, t->words - 4u);
        uint8_t *to[4];
        for (size_t j = 0; j < 4; j++)
            to[j] = out + 64 * nb_word_place(t, first + j);
        transpose_words(src + 4 * first, stride, to);
    }
    if (t->order == NB_PAIRS)
        split_pairs((uint32_t(*)[16])(void *)(out + 64));
    if (t->order == NB_FIFTH_BITS) {
        uint32_t *fifth = (uint32_t *)(void *)out;
        for (size_t r = 0; r < 16; r++)
            fifth[r] = nb_fifth_spread(fifth[r]);
    }
}

void nb_pack_avx2(const nb_tile_type *t, const uint8_t *src, size_t row_bytes, size_t n_rows, size_t blocks, void *tile)
{
    if (n_rows < NB_TILE_ROWS) {
        nb_pack_ref(t, src, row_bytes, n_rows, blocks, tile);
        return;
    }
    uint8_t *out = tile;
    size_t b = 0;
    if (t->float_bytes == 4)
        for (; b + 4 <= blocks; b += 4)
            transpose_floats(src + 4 * b, row_bytes, out + 64 * b);
    else if (t->float_bytes == 2)
        for (; b + 8 <= blocks; b += 8)
            transpose_halves(src + 2 * b, row_bytes, out + 32 * b);
    else
        for (; b < blocks; b++)
            pack_block(t, src + b * t->file_bytes, row_bytes, out + b * 16 * t->packed_bytes);
    if (b < blocks)
        nb_pack_ref(t, src + b * t->file_bytes, row_bytes, n_rows, blocks - b, out + b * 16 * t->packed_bytes);
}

void nb_transpose16_avx2(const float *rows, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        transpose_floats((const uint8_t *)(rows + i), n * sizeof(float), (uint8_t *)(out + 16 * i));
    for (; i < n; i++)
        for (size_t lane = 0; lane < 16; lane++)
            out[i * 16 + lane] = rows[lane * n + i];
}

/* ---- activations: 8 slots of 32 values at a time, a slot being a token's block: 8 tokens, or 8 blocks of one ---- */

typedef struct slots {
    __m256i q[8];     /* 32 bytes of each slot */
    __m256i minus[2]; /* of all, of the first 16 */
    __m256 scale;
} slots;

/* r[i] = op over the lanes of v[i] */
#define REDUCE8(name, op)                                                                                              \
    INLINE __m256i name(const __m256i v[8])                                                                            \
    {                                                                                                                  \
        __m256i pair[4], four[2];                                                                                      \
        for (int i = 0; i < 4; i++)                                                                                    \
            pair[i] = op(_mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]),                                                \
                         _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]));                                               \
        for (int i = 0; i < 2; i++)                                                                                    \
            four[i] = op(_mm256_unpacklo_epi64(pair[2 * i], pair[2 * i + 1]),                                          \
                         _mm256_unpackhi_epi64(pair[2 * i], pair[2 * i + 1]));                                         \
        return op(_mm256_permute2x128_si256(four[0], four[1], 0x20),                                                   \
                  _mm256_permute2x128_si256(four[0], four[1], 0x31));                                                  \
    }
REDUCE8(max8, _mm256_max_epu32)
REDUCE8(sum8, _mm256_add_epi32)

/* The scale of each slot and its inverse, as q8_scale of the plain C level. */
INLINE __m256 slot_scales(const float *const *x, __m256 *scale)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most[8];
    for (int i = 0; i < 8; i++) {
        __m256i m[4];
        for (int j = 0; j < 4; j++)
            m[j] = _mm256_and_si256(_mm256_loadu_si256((const void *)(x[i] + 8 * j)), magnitude);
        most[i] = _mm256_max_epu32(_mm256_max_epu32(m[0], m[1]), _mm256_max_epu32(m[2], m[3]));
    }
    __m256 absmax = _mm256_castsi256_ps(max8(most)), smallest = _mm256_set1_ps(0x1p-100f), full = _mm256_set1_ps(127);
    __m256 usable = _mm256_and_ps(_mm256_cmp_ps(absmax, smallest, _CMP_GE_OQ),
                                  _mm256_cmp_ps(absmax, _mm256_set1_ps(0x1.fffffep127f), _CMP_LE_OQ));
    *scale = _mm256_and_ps(_mm256_cmp_ps(absmax, smallest, _CMP_NLT_UQ), _mm256_div_ps(absmax, full));
    return _mm256_and_ps(usable, _mm256_div_ps(full, absmax));
}

INLINE void quantize_slots(const float *const *x, slots *out)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), ones8 = _mm256_set1_epi8(1);
    const __m256i minus_ones16 = _mm256_set1_epi16(-1);
    float inverse[8];
    __m256i sums[8];
    _mm256_storeu_ps(inverse, slot_scales(x, &out->scale));
    for (int i = 0; i < 8; i++) {
        __m256 by = _mm256_set1_ps(inverse[i]);
        __m256i v[4];
        for (int j = 0; j < 4; j++)
            v[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x[i] + 8 * j), by));
        __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
        out->q[i] = _mm256_permutevar8x32_epi32(bytes, order);
        sums[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones8, out->q[i]), minus_ones16);
    }
    __m256i low[8];
    for (int i = 0; i < 8; i++)
        low[i] = _mm256_blend_epi32(sums[i], _mm256_setzero_si256(), 0xf0);
    out->minus[0] = sum8(sums);
    out->minus[1] = sum8(low);
}

/* 8 x 8 words: out[j][i] = v[i][j] */
INLINE void store_transposed(const __m256i v[8], size_t stride, uint8_t *out)
{
    __m256i a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            b[4 * i + 2 * j] = _mm256_unpacklo_epi64(a[4 * i + j], a[4 * i + 2 + j]);
            b[4 * i + 2 * j + 1] = _mm256_unpackhi_epi64(a[4 * i + j], a[4 * i + 2 + j]);
        }
    for (size_t j = 0; j < 4; j++) {
        _mm256_storeu_si256((void *)(out + j * stride), _mm256_permute2x128_si256(b[j], b[4 + j], 0x20));
        _mm256_storeu_si256((void *)(out + (4 + j) * stride), _mm256_permute2x128_si256(b[j], b[4 + j], 0x31));
    }
}

/* slots are blocks first .. of `width` tokens (1, 2 or 4), block after block; n of them count */
INLINE void store_narrow(const slots *s, size_t width, size_t n, uint8_t *record)
{
    uint32_t minus[2][8];
    float scale[8];
    _mm256_storeu_si256((void *)minus[0], s->minus[0]);
    _mm256_storeu_si256((void *)minus[1], s->minus[1]);
    _mm256_storeu_ps(scale, s->scale);
    for (size_t i = 0; i < n; i++) {
        size_t t = i % width;
        uint8_t *out = record + i / width * NB_PANEL_Q8_BYTES * width;
        if (width == 1)
            _mm256_storeu_si256((void *)out, s->q[i]);
        else {
            uint32_t q[8];
            _mm256_storeu_si256((void *)q, s->q[i]);
            for (size_t j = 0; j < 8; j++)
                memcpy(out + (j * width + t) * 4, &q[j], 4);
        }
        memcpy(out + 32 * width + 4 * t, &minus[0][i], 4);
        memcpy(out + 36 * width + 4 * t, &minus[1][i], 4);
        memcpy(out + 40 * width + 4 * t, &scale[i], 4);
    }
}

static const float zeros[32];

static void act_q8_narrow(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel)
{
    size_t blocks = 8 / width;
    for (size_t k = k_begin; k < k_end; k += 32 * blocks) {
        size_t count = nb_min_size(blocks, (k_end - k) / 32) * width;
        const float *from[8];
        for (size_t i = 0; i < 8; i++)
            from[i] = i < count && i % width < n ? x[i % width] + k + i / width * 32 : zeros;
        slots s;
        quantize_slots(from, &s);
        store_narrow(&s, width, count, panel + k / 32 * NB_PANEL_Q8_BYTES * width);
    }
}

void nb_act_q8_avx2(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel)
{
    if (width < 8) {
        act_q8_narrow(x, n, width, k_begin, k_end, panel);
        return;
    }
    for (size_t k = k_begin; k < k_end; k += 32) {
        const float *from[8];
        for (size_t t = 0; t < 8; t++)
            from[t] = t < n ? x[t] + k : zeros;
        slots s;
        quantize_slots(from, &s);
        uint8_t *record = panel + k / 32 * NB_PANEL_Q8_BYTES * 8;
        store_transposed(s.q, 32, record);
        _mm256_storeu_si256((void *)(record + 256), s.minus[0]);
        _mm256_storeu_si256((void *)(record + 288), s.minus[1]);
        _mm256_storeu_ps((float *)(void *)(record + 320), s.scale);
    }
}

void nb_act_f32_avx2(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, float *panel)
{
    size_t k = k_begin;
    if (width == 1) {
        memcpy(panel + k, x[0] + k, (k_end - k) * sizeof(float));
        return;
    }
    for (; width == 8 && k + 8 <= k_end; k += 8) {
        __m256i v[8];
        for (size_t t = 0; t < 8; t++)
            v[t] = t < n ? _mm256_loadu_si256((const void *)(x[t] + k)) : _mm256_setzero_si256();
        store_transposed(v, 32, (uint8_t *)(panel + k * 8));
    }
    nb_act_f32_ref(x, n, width, k, k_end, panel);
}
