/* linear4_lanes.h - linear4.h in vectors of 8 or 16 lanes. A file of one level defines LINEAR4 and includes it.
 *
 * A word of 32 bits in each lane holds 8 codes. One shift brings a code of every word to its low bits, a permutation by
 * these looks its value up, one multiply-add meets it with x: per value 1/LANES of three instructions, and no unpacking.
 * Four rows at once share the loads of x, which is eight times as many bytes as the codes it meets. */
#include "kernel/lanes.h"
#include "kernel/linear4.h"

enum { ROWS = 4, GROUP = 8 * LANES };

#if LANES == 16
typedef uint32_t words __attribute__((vector_size(64)));
typedef __m512 table;
LANES_INLINE table table_of(const float *map) { return _mm512_loadu_ps(map); }
/* only the low four bits of a word choose */
LANES_INLINE lanes look_up(table t, words q, int nibble)
{
    return _mm512_permutexvar_ps((__m512i)(q >> (uint32_t)(4 * nibble)), t);
}
/* the scales of a group's `per` blocks, each in the lanes of its words */
LANES_INLINE lanes scales(const float *absmax, int per)
{
    if (per == 1)
        return _mm512_set1_ps(*absmax);
    __m128 some = per == 4 ? _mm_loadu_ps(absmax) : _mm_castsi128_ps(_mm_loadu_si64(absmax));
    const __m512i four = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m512i two = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_permutexvar_ps(per == 4 ? four : two, _mm512_castps128_ps512(some));
}
#else
typedef uint32_t words __attribute__((vector_size(32)));
typedef struct table {
    __m256 low, high;
} table;
LANES_INLINE table table_of(const float *map) { return (table){_mm256_loadu_ps(map), _mm256_loadu_ps(map + 8)}; }
LANES_INLINE lanes look_up(table t, words q, int nibble)
{
    __m256i index = (__m256i)(q >> (uint32_t)(4 * nibble));
    __m256 upper = (__m256)(q << (uint32_t)(28 - 4 * nibble)); /* bit 3 to the top: it chooses the half */
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.low, index), _mm256_permutevar8x32_ps(t.high, index), upper);
}
LANES_INLINE lanes scales(const float *absmax, int per)
{
    if (per == 1)
        return _mm256_set1_ps(*absmax);
    return _mm256_set_m128(_mm_set1_ps(absmax[1]), _mm_set1_ps(absmax[0]));
}
#endif

/* What one group of some rows adds to their totals. `codes` and `scale`: where it begins in each row. */
LANES_INLINE void add_group(table t, const uint8_t *const *packed, size_t codes, const float *const *absmax,
                            size_t scale, const float *x, int per, int count, lanes *total)
{
    words q[ROWS];
    lanes part[ROWS];
    for (int r = 0; r < count; r++)
        memcpy(&q[r], packed[r] + codes, sizeof q[r]);
    LANES_UNROLL
    for (int k = 0; k < 8; k++) {
        lanes v = lanes_load(x + k * LANES);
        LANES_UNROLL
        for (int r = 0; r < count; r++) {
            lanes values = look_up(t, q[r], k);
            if (k == 0)
                part[r] = values * v;
            else
                part[r] = lanes_fma(values, v, part[r]);
        }
    }
    LANES_UNROLL
    for (int r = 0; r < count; r++)
        total[r] = lanes_fma(part[r], scales(absmax[r] + scale, per), total[r]);
}

/* `count` rows from `row` on; a last partial group is copied to where there are zeros behind it */
LANES_INLINE void some_rows(const nb_weight_4bit *w, const float *x, float *y, size_t row, int per, int count)
{
    const uint8_t *packed[ROWS];
    const float *absmax[ROWS];
    lanes total[ROWS];
    table t = table_of(w->map);
    for (int r = 0; r < count; r++) {
        packed[r] = w->packed + (row + r) * (w->columns / 2);
        absmax[r] = w->absmax + (row + r) * (w->columns / w->block);
        total[r] = lanes_set(0);
    }
    size_t whole = w->columns / GROUP * GROUP, left = w->columns - whole;
    int shift = __builtin_ctzll(w->block);
    for (size_t at = 0; at < whole; at += GROUP)
        add_group(t, packed, at / 2, absmax, at >> shift, x + at, per, count, total);
    for (int r = 0; r < count && left; r++) {
        uint8_t codes[GROUP / 2] = {0};
        float scale[4] = {0};
        const uint8_t *one = codes;
        const float *its = scale;
        memcpy(codes, packed[r] + whole / 2, left / 2);
        memcpy(scale, absmax[r] + (whole >> shift), (left >> shift) * sizeof *scale);
        add_group(t, &one, 0, &its, 0, x + whole, per, 1, total + r);
    }
    for (int r = 0; r < count; r++)
        y[row + r] = lanes_sum(total[r]);
}

/* compiled once for each number of blocks in a group */
LANES_INLINE void rows_of(const nb_weight_4bit *w, const float *x, float *y, size_t begin, size_t end, int per)
{
    for (; begin + ROWS <= end; begin += ROWS)
        some_rows(w, x, y, begin, per, ROWS);
    for (; begin < end; begin++)
        some_rows(w, x, y, begin, per, 1);
}

static void rows(const nb_weight_4bit *w, const float *x, float *y, size_t begin, size_t end)
{
    if (w->block >= GROUP)
        rows_of(w, x, y, begin, end, 1);
    else if (w->block * 2 == GROUP)
        rows_of(w, x, y, begin, end, 2);
    else
        rows_of(w, x, y, begin, end, 4);
}

/* ---- 16-bit products ---- */

#if LANES == 16

/* The map as integers, twice: the index of a look-up has one bit more than a code, which then does not matter. */
LANES_INLINE __m512i table16_of(const float *map)
{
    float factor = NB_LINEAR4_MAP / nb_linear4_most(map);
    __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(map), _mm512_set1_ps(factor)));
    return _mm512_broadcast_i64x4(_mm512_cvtepi32_epi16(v));
}

/* A code costs 1/32 of an instruction each to shift, look up and multiply: half of what it costs in floats. */
LANES_INLINE void add_group16(__m512i t, const uint8_t *const *packed, size_t codes, const float *const *absmax,
                              size_t block, const int16_t *x, float scale, int per, int count, lanes *total)
{
    __m512i q[ROWS], sum[ROWS];
    for (int r = 0; r < count; r++) {
        q[r] = _mm512_loadu_si512(packed[r] + codes);
        sum[r] = _mm512_setzero_si512();
    }
    LANES_UNROLL
    for (int k = 0; k < 4; k++) {
        __m512i v = _mm512_loadu_si512(x + 32 * k);
        LANES_UNROLL
        for (int r = 0; r < count; r++) {
            sum[r] = _mm512_dpwssd_epi32(sum[r], _mm512_permutexvar_epi16(q[r], t), v);
            q[r] = _mm512_srli_epi16(q[r], 4);
        }
    }
    LANES_UNROLL
    for (int r = 0; r < count; r++)
        total[r] = lanes_fma(_mm512_cvtepi32_ps(sum[r]) * scale, scales(absmax[r] + block, per), total[r]);
}

LANES_INLINE void some_rows16(__m512i t, const nb_weight_4bit *w, const int16_t *x, const float *scale, float *y,
                              size_t row, int per, int count)
{
    const uint8_t *packed[ROWS];
    const float *absmax[ROWS];
    lanes total[ROWS];
    for (int r = 0; r < count; r++) {
        packed[r] = w->packed + (row + r) * (w->columns / 2);
        absmax[r] = w->absmax + (row + r) * (w->columns / w->block);
        total[r] = lanes_set(0);
    }
    size_t whole = w->columns / GROUP * GROUP, left = w->columns - whole;
    int shift = __builtin_ctzll(w->block);
    for (size_t at = 0; at < whole; at += GROUP)
        add_group16(t, packed, at / 2, absmax, at >> shift, x + at, scale[at / GROUP], per, count, total);
    for (int r = 0; r < count && left; r++) {
        uint8_t codes[GROUP / 2] = {0};
        float its[4] = {0};
        const uint8_t *one = codes;
        const float *most = its;
        memcpy(codes, packed[r] + whole / 2, left / 2);
        memcpy(its, absmax[r] + (whole >> shift), (left >> shift) * sizeof *its);
        add_group16(t, &one, 0, &most, 0, x + whole, scale[whole / GROUP], per, 1, total + r);
    }
    for (int r = 0; r < count; r++)
        y[row + r] = lanes_sum(total[r]);
}

LANES_INLINE void rows16_of(const nb_weight_4bit *w, const int16_t *x, const float *scale, float *y, size_t begin,
                            size_t end, int per)
{
    __m512i t = table16_of(w->map);
    for (; begin + ROWS <= end; begin += ROWS)
        some_rows16(t, w, x, scale, y, begin, per, ROWS);
    for (; begin < end; begin++)
        some_rows16(t, w, x, scale, y, begin, per, 1);
}

static void rows16(const nb_weight_4bit *w, const int16_t *x, const float *scale, float *y, size_t begin, size_t end)
{
    if (w->block >= GROUP)
        rows16_of(w, x, scale, y, begin, end, 1);
    else if (w->block * 2 == GROUP)
        rows16_of(w, x, scale, y, begin, end, 2);
    else
        rows16_of(w, x, scale, y, begin, end, 4);
}

#define ROWS16 rows16
#else
#define ROWS16 NULL
#endif

/* ---- packed ---- */

/* 4 LANES rows of a packed weight, the first of which `tile` and y begin with */
LANES_INLINE void packed_rows(const nb_packed_4bit *w, const uint8_t *tile, const float *x, float *y)
{
    size_t step = nb_linear4_step(w->block);
    table t = table_of(w->map);
    lanes total[ROWS];
    for (int r = 0; r < ROWS; r++)
        total[r] = lanes_set(0);
    for (const float *end = x + w->columns; x < end; tile += NB_LINEAR4_LINE) {
        const float *scale = (const float *)(const void *)tile;
        for (size_t done = 0; done < w->block; done += step) {
            lanes part[ROWS];
            for (int r = 0; r < ROWS; r++)
                part[r] = lanes_set(0);
            for (const float *stop = x + step; x < stop; x += 8) {
                tile += NB_LINEAR4_LINE;
                words q[ROWS];
                memcpy(q, tile, sizeof q);
                LANES_UNROLL
                for (int k = 0; k < 8; k++) {
                    lanes v = lanes_set(x[k < 4 ? 2 * k : 2 * k - 7]);
                    LANES_UNROLL
                    for (int r = 0; r < ROWS; r++)
                        part[r] = lanes_fma(look_up(t, q[r], k), v, part[r]);
                }
            }
            for (int r = 0; r < ROWS; r++)
                total[r] = lanes_fma(part[r], lanes_load(scale + r * LANES), total[r]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        lanes_store(y + r * LANES, total[r]);
}

static void packed(const nb_packed_4bit *w, const float *x, float *y, size_t row)
{
    for (size_t r = 0; r < NB_LINEAR4_TILE; r += ROWS * LANES)
        packed_rows(w, nb_linear4_tile(w, row) + 4 * r, x, y + r);
}

#if LANES == 16

/* The sum of magnitudes of every other eight values, whichever is larger, or, if that is more, four times what no magnitude
 * is above. */
static float size_of(const float *x, size_t n)
{
    float sum[16] = {0}, even = 0, odd = 0, most = 0;
    for (size_t i = 0; i < n; i += 16)
        for (size_t j = 0; j < 16; j++)
            sum[j] += fabsf(x[i + j]);
    for (size_t j = 0; j < 8; j++) {
        even += sum[j];
        odd += sum[8 + j];
        float larger = sum[j] > sum[8 + j] ? sum[j] : sum[8 + j];
        most = larger > most ? larger : most;
    }
    if (!(even + odd < INFINITY))
        return NAN;
    even = odd > even ? odd : even;
    return 4 * most > even ? 4 * most : even;
}

static bool integers_of(const float *x, size_t columns, size_t step, int16_t *integers, float *scale)
{
    for (size_t at = 0; at < columns; at += step, scale++) {
        float size = size_of(x + at, step), factor = 0;
        *scale = 0;
        if (size != 0) {
            if (!(size > 1e-20f && size < 1e30f)) /* so that all scales are normal numbers */
                return false;
            /* 131000 and not 131071: each of 32 may be rounded up by half */
            factor = nb_f32_of_bits(nb_f32_bits(131000.0f / size) & 0x7f800000);
            *scale = 1 / factor;
        }
        for (size_t i = at; i < at + step; i++)
            integers[i] = (int16_t)(int32_t)(x[i] * factor + 0x1.8p23f - 0x1.8p23f); /* the nearest integer */
    }
    return true;
}

/* Of the next codes the processor itself fetches too few, too late: 7 % slower on a layer larger than the cache. */
LANES_INLINE void fetch_ahead(const uint8_t *line)
{
    enum { AHEAD = 16384 };
    for (int r = 0; r < ROWS; r++)
        _mm_prefetch((const char *)((uintptr_t)line + (unsigned)r * 64 + AHEAD), _MM_HINT_T1);
}

/* One line of words of a tile: word for word two of x, the same for all rows, meet their values, four times. */
LANES_INLINE void add_line16(__m512i t, const uint8_t *line, const int16_t *x, __m512i *sum)
{
    __m512i q[ROWS];
    fetch_ahead(line);
    for (int r = 0; r < ROWS; r++)
        q[r] = _mm512_load_si512(line + r * 64);
    LANES_UNROLL
    for (int k = 0; k < 4; k++) {
        int32_t two;
        memcpy(&two, x + 2 * k, sizeof two);
        LANES_UNROLL
        for (int r = 0; r < ROWS; r++) {
            __m512i index = _mm512_srli_epi16(q[r], (unsigned)(4 * k));
            sum[r] = _mm512_dpwssd_epi32(sum[r], _mm512_permutexvar_epi16(index, t), _mm512_set1_epi32(two));
        }
    }
}

static void packed16(const nb_packed_4bit *w, const int16_t *x, const float *scale, float *y, size_t row)
{
    const uint8_t *tile = nb_linear4_tile(w, row);
    size_t step = nb_linear4_step(w->block);
    __m512i t = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)w->map16));
    lanes total[ROWS];
    for (int r = 0; r < ROWS; r++)
        total[r] = lanes_set(0);
    for (const int16_t *end = x + w->columns; x < end; tile += NB_LINEAR4_LINE) {
        const float *absmax = (const float *)(const void *)tile;
        fetch_ahead(tile);
        for (size_t done = 0; done < w->block; done += step, scale++) {
            __m512i even[ROWS], odd[ROWS];
            for (int r = 0; r < ROWS; r++)
                even[r] = odd[r] = _mm512_setzero_si512();
            for (const int16_t *stop = x + step; x < stop; x += 16) {
                add_line16(t, tile += NB_LINEAR4_LINE, x, even);
                add_line16(t, tile += NB_LINEAR4_LINE, x + 8, odd);
            }
            for (int r = 0; r < ROWS; r++) {
                lanes sum = _mm512_cvtepi32_ps(even[r]) + _mm512_cvtepi32_ps(odd[r]);
                total[r] = lanes_fma(sum * (*scale * w->unit), lanes_load(absmax + r * LANES), total[r]);
            }
        }
    }
    for (int r = 0; r < ROWS; r++)
        lanes_store(y + r * LANES, total[r]);
}

#define PACKED16 .integers = integers_of, .packed16 = packed16
#else
#define PACKED16 .packed16 = NULL
#endif

const nb_linear4_kernel LINEAR4 = {.lanes = LANES, .rows = rows, .rows16 = ROWS16, .packed = packed, PACKED16};
