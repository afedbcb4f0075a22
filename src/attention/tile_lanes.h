/* tile_lanes.h - the two halves of attention over a tile of NB_PAGE keys, written once over lanes: a small matrix product,
 * and the online softmax of a row. For the pages of a cache (attend_lanes.h) and for plain arrays (flash_lanes.h). */
#ifndef NB_ATTENTION_TILE_LANES_H
#define NB_ATTENTION_TILE_LANES_H

#include "attention/attend.h"
#include "kernel/lanes_math.h"

/* Rows of a block: 6 where there are many, up to 8 where that makes one block of a small job (the group of a decode
 * step). Registers: 6 x 4 or 8 x 2 sums, the vectors of b and a broadcast in 32 with AVX-512; 6 x 2 or 8 x 1 in 16. */
#define BLOCK_ROWS 6
#define BLOCK_ROWS_MAX 8
#define BLOCK_VECTORS_MAX (LANES == 16 ? 4 : 2)
#define BLOCK_VECTORS(rows) ((rows) <= BLOCK_ROWS ? BLOCK_VECTORS_MAX : BLOCK_VECTORS_MAX / 2)
/* Few rows have registers for rows of b twice as long: what is read lies closer together. */
#define LONG_ROWS NB_ATTEND_ROWS_FEW
#define LONG_VECTORS (2 * BLOCK_VECTORS_MAX)

/* What b is made of. PAGE_...: the page's own values, converted on the way. */
typedef enum source { FLOATS, PAGE_F32, PAGE_F16, PAGE_BF16, SOURCES } source;

/* c[r][*] (+)= sum over i < n, in order, of a[r][i] b[i][*] */
typedef struct product {
    const float *a;
    size_t a_stride;
    const void *b;
    size_t b_stride, n;
    ptrdiff_t ahead; /* bytes from b to what will be multiplied next; 0: it follows in memory */
    float *c;
    size_t c_stride, columns; /* columns: a multiple of LANES */
    bool add;
} product;

LANES_INLINE size_t source_bytes(source from) { return from <= PAGE_F32 ? 4 : 2; }

LANES_INLINE lanes load_from(source from, const void *b, size_t i)
{
    switch (from) {
    case PAGE_F16: return lanes_load_f16((const uint16_t *)b + i);
    case PAGE_BF16: return lanes_load_bf16((const uint16_t *)b + i);
    default: return lanes_load((const float *)b + i);
    }
}

LANES_INLINE void multiply_block(source from, size_t rows, size_t vectors, bool asks, const product *m, size_t column)
{
    lanes sum[BLOCK_ROWS_MAX][LONG_VECTORS];
    const float *a = m->a;
    size_t a_stride = m->a_stride, c_stride = m->c_stride, n = m->n;
    float *c = m->c + column;
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++) {
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            sum[r][v] = m->add ? lanes_load(c + r * c_stride + v * LANES) : lanes_set(0.0f);
    }
    for (size_t i = 0; i < n; i++) {
        lanes right[LONG_VECTORS];
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            right[v] = load_from(from, m->b, i * m->b_stride + column + v * LANES);
            if (asks && v % (64 / source_bytes(from) / LANES) == 0)
                __builtin_prefetch(
                    (const char *)m->b + m->ahead + (i * m->b_stride + column + v * LANES) * source_bytes(from), 0, 2);
        }
        LANES_UNROLL
        for (size_t r = 0; r < rows; r++) {
            lanes left = lanes_set(a[r * a_stride + i]);
            LANES_UNROLL
            for (size_t v = 0; v < vectors; v++)
                sum[r][v] = lanes_fma(left, right[v], sum[r][v]);
        }
    }
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++) {
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            lanes_store(c + r * c_stride + v * LANES, sum[r][v]);
    }
}

/* Where few rows read on and on, the hardware runs ahead by itself, and asking costs a third of the speed: a core may ask for few
 * lines at a time. What computes more, or jumps from part to part of pages, is 20 to 80 % faster for asking. */
LANES_INLINE void multiply_columns(source from, size_t rows, bool asks, const product *m)
{
    size_t column = 0, vectors = BLOCK_VECTORS(rows);
    if (rows <= LONG_ROWS)
        for (; column + LONG_VECTORS * LANES <= m->columns; column += LONG_VECTORS * LANES)
            multiply_block(from, rows, LONG_VECTORS, asks, m, column);
    for (; column + vectors * LANES <= m->columns; column += vectors * LANES)
        multiply_block(from, rows, vectors, asks, m, column);
    for (; column < m->columns; column += LANES)
        multiply_block(from, rows, 1, asks, m, column);
}

#define MULTIPLY(from, rows)                                                                                           \
    static void multiply_##from##_##rows(const product *m)                                                             \
    {                                                                                                                  \
        if (from == FLOATS || (rows <= LONG_ROWS && m->ahead == 0))                                                    \
            multiply_columns(from, rows, false, m);                                                                    \
        else                                                                                                           \
            multiply_columns(from, rows, true, m);                                                                     \
    }
#define MULTIPLY_ALL(from)                                                                                             \
    MULTIPLY(from, 1)                                                                                                  \
    MULTIPLY(from, 2)                                                                                                  \
    MULTIPLY(from, 3)                                                                                                  \
    MULTIPLY(from, 4)                                                                                                  \
    MULTIPLY(from, 5)                                                                                                  \
    MULTIPLY(from, 6)                                                                                                  \
    MULTIPLY(from, 7)                                                                                                  \
    MULTIPLY(from, 8)
#define MULTIPLY_ROW(from)                                                                                             \
    {                                                                                                                  \
        multiply_##from##_1, multiply_##from##_2, multiply_##from##_3, multiply_##from##_4, multiply_##from##_5,       \
            multiply_##from##_6, multiply_##from##_7, multiply_##from##_8                                              \
    }
MULTIPLY_ALL(FLOATS)
MULTIPLY_ALL(PAGE_F32)
MULTIPLY_ALL(PAGE_F16)
MULTIPLY_ALL(PAGE_BF16)

static void multiply(source from, size_t rows, const product *m)
{
    static void (*const by_rows[SOURCES][BLOCK_ROWS_MAX])(const product *) = {
        MULTIPLY_ROW(FLOATS), MULTIPLY_ROW(PAGE_F32), MULTIPLY_ROW(PAGE_F16), MULTIPLY_ROW(PAGE_BF16)};
    by_rows[from][rows - 1](m);
}

/* ---- states ---- */

typedef struct soft {
    float cap; /* scores are cap tanh(score) in units of log2; 0: none */
    bool exact;
    size_t v_pad, v_columns; /* of a state's values */
} soft;

static float exp2_of(float x, bool exact) { return lanes_exp2(lanes_set(x), exact)[0]; }

/* what scores are measured from: the largest, or 0 while there is none */
static float base_of(float top) { return top == -INFINITY ? 0.0f : top; }

/* natural logarithm of the sum of exponentials; the sum is of 2^(score - top) */
static float lse_of(float top, float sum)
{
    return sum == 0.0f ? -INFINITY : (float)(((double)top + log2((double)sum)) * 0.69314718055994530942);
}

/* ---- the online softmax of a row over keys [begin, end) of a tile ---- */

LANES_INLINE lanes hide(lanes s, size_t key, size_t begin, size_t end)
{
    lanes index = lanes_set((float)key), hidden = lanes_set(-INFINITY);
    static const float count[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    index += lanes_load(count);
    s = lanes_select(lanes_less(index, lanes_set((float)begin)), hidden, s);
    return lanes_select(lanes_less(index, lanes_set((float)end)), s, hidden);
}

/* The state's top rises to that of new scores; what it holds shrinks with it. Returns what scores are measured from. */
LANES_INLINE lanes rise(const soft *w, float *state, lanes scores_top)
{
    float *now = state + w->v_pad, old = now[NB_ATTEND_TOP], highest = lanes_top(scores_top);
    if (highest > old) {
        float shrink = exp2_of(old - highest, w->exact);
        now[NB_ATTEND_TOP] = highest;
        lanes_store(now + NB_ATTEND_SUM_LANES, lanes_load(now + NB_ATTEND_SUM_LANES) * shrink);
        for (size_t d = 0; d < w->v_columns; d += LANES)
            lanes_store(state + d, lanes_load(state + d) * shrink);
    }
    return lanes_set(base_of(now[NB_ATTEND_TOP]));
}

/* s: scores in, weights out; the state's top, sums and values follow. Keys [begin, end) of the tile count. */
static void soften_part(const soft *w, float *s, size_t begin, size_t end, float *state)
{
    size_t first = begin / LANES * LANES;
    lanes top = lanes_set(-INFINITY);
    for (size_t key = first; key < end; key += LANES) {
        lanes v = lanes_load(s + key);
        if (w->cap > 0)
            v = lanes_tanh(v) * w->cap;
        if (key < begin || key + LANES > end)
            v = hide(v, key, begin, end);
        lanes_store(s + key, v);
        top = lanes_max(v, top); /* a NaN does not count */
    }
    float *sums = state + w->v_pad + NB_ATTEND_SUM_LANES;
    lanes base = rise(w, state, top), sum = lanes_load(sums);
    for (size_t key = first; key < end; key += LANES) {
        lanes p = lanes_exp2(lanes_load(s + key) - base, w->exact);
        lanes_store(s + key, p);
        sum += p;
    }
    lanes_store(sums, sum);
}

/* The same for all keys of the tile, with the scores in registers. */
LANES_INLINE void soften_tile(const soft *w, float *s, float *state, bool exact)
{
    lanes v[NB_PAGE / LANES], top = lanes_set(-INFINITY);
    LANES_UNROLL
    for (size_t i = 0; i < NB_PAGE / LANES; i++) {
        v[i] = lanes_load(s + i * LANES);
        if (w->cap > 0)
            v[i] = lanes_tanh(v[i]) * w->cap;
        top = lanes_max(v[i], top);
    }
    float *sums = state + w->v_pad + NB_ATTEND_SUM_LANES;
    lanes base = rise(w, state, top), sum = lanes_load(sums);
    LANES_UNROLL
    for (size_t i = 0; i < NB_PAGE / LANES; i++) {
        v[i] = lanes_exp2(v[i] - base, exact);
        lanes_store(s + i * LANES, v[i]);
        sum += v[i];
    }
    lanes_store(sums, sum);
}

static void soften(const soft *w, float *s, size_t begin, size_t end, float *state)
{
    if (begin > 0 || end < NB_PAGE)
        soften_part(w, s, begin, end, state);
    else if (w->exact)
        soften_tile(w, s, state, true);
    else
        soften_tile(w, s, state, false);
}

#endif
