/* code_lanes.h - the two products of attention with the codes of a Q8_0 or Q4_0 page, written once over lanes.
 *
 * Codes become floats in registers and scales never meet them: a block's part of a score is summed over codes and then
 * scaled, and weights are scaled before they meet the values' codes. So each value costs its multiply-adds, a load and a
 * conversion, for one row or for many; nothing is unpacked to memory. With AVX-512 Q8_0 is multiplied in integers (codes.h), and
 * here only what integers cannot hold. */
#include "attention/tile_lanes.h"

typedef enum coding { CODES_8, CODES_4, CODINGS } coding;

/* Keys: c[r][key] = sum over blocks of scale[block][key] (sum over the block's dims of a[r][dim] b[dim][key]).
 * Values: c[r][d] += sum over keys of a[d / 32][r][key] b[key][d]. */
typedef struct coded {
    const float *a;
    size_t a_stride; /* of rows; blocks of weights lie WEIGHTS_STRIDE apart */
    const uint8_t *b;
    size_t b_stride, n;    /* of Q4_0, bytes of a position's values; dims, or positions, of Q8_0 in fours */
    const uint16_t *scale; /* of keys */
    ptrdiff_t ahead;       /* bytes from here to the same in the next tile */
    float *c;
    size_t c_stride, columns; /* columns: of values, multiples of 32; scores are those of all keys of the tile */
} coded;

#define WEIGHTS_STRIDE ((size_t)BLOCK_ROWS_MAX * NB_PAGE)
#define HALF_BLOCK (NB_KV_BLOCK / 2)

typedef struct block_sums {
    lanes at[BLOCK_ROWS_MAX][BLOCK_VECTORS_MAX];
} block_sums;

LANES_INLINE void add_dim(size_t rows, size_t vectors, const float *a, size_t a_stride, const lanes *right,
                          block_sums *sum)
{
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++) {
        lanes left = lanes_set(a[r * a_stride]);
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            sum->at[r][v] = lanes_fma(left, right[v], sum->at[r][v]);
    }
}

LANES_INLINE void take_byte(size_t vectors, const lanes_words *x, size_t at, lanes *right)
{
    LANES_UNROLL
    for (size_t v = 0; v < vectors; v++)
        right[v] = lanes_byte(x[v], at);
}

/* Q8_0: a word holds four dims of a key. */
LANES_INLINE void score_bytes(size_t rows, size_t vectors, const coded *m, size_t dim, size_t column, block_sums *sum)
{
    const float *a = m->a + dim;
    for (size_t i = 0; i < NB_KV_BLOCK; i += 4) {
        lanes_words x[BLOCK_VECTORS_MAX];
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            const uint8_t *b = m->b + nb_kv_q8_key(column + v * LANES, dim + i, m->n);
            x[v] = lanes_load_words(b) ^ (int32_t)0x80808080;
            if ((column + v * LANES) % 16 == 0)
                nb_kv_ask(b, m->ahead);
        }
        LANES_UNROLL
        for (size_t at = 0; at < 4; at++) {
            lanes right[BLOCK_VECTORS_MAX];
            take_byte(vectors, x, at, right);
            add_dim(rows, vectors, a + i + at, m->a_stride, right, sum);
        }
    }
}

/* Q4_0: the dims of a block in order, each with the one that shares its bytes. */
LANES_INLINE void score_nibbles(size_t rows, size_t vectors, const coded *m, size_t dim, size_t column, block_sums *sum)
{
    const uint8_t *b = m->b + dim / 2 * NB_PAGE + column;
    const float *a = m->a + dim;
    for (size_t i = 0; i < HALF_BLOCK; i++, b += NB_PAGE) {
        lanes right[BLOCK_VECTORS_MAX];
        if (column == 0)
            nb_kv_ask(b, m->ahead);
        LANES_UNROLL
        for (size_t half = 0; half < 2; half++) {
            LANES_UNROLL
            for (size_t v = 0; v < vectors; v++)
                right[v] = lanes_load_i4(b + v * LANES, half);
            add_dim(rows, vectors, a + i + half * HALF_BLOCK, m->a_stride, right, sum);
        }
    }
}

LANES_INLINE void score_block_codes(coding how, size_t rows, size_t vectors, const coded *m, size_t column)
{
    float *c = m->c + column;
    const uint16_t *scale = m->scale + column;
    for (size_t dim = 0; dim < m->n; dim += NB_KV_BLOCK, scale += NB_PAGE) {
        block_sums sum;
        LANES_UNROLL
        for (size_t r = 0; r < rows; r++) {
            LANES_UNROLL
            for (size_t v = 0; v < vectors; v++)
                sum.at[r][v] = lanes_set(0.0f);
        }
        if (how == CODES_8)
            score_bytes(rows, vectors, m, dim, column, &sum);
        else
            score_nibbles(rows, vectors, m, dim, column, &sum);
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            lanes s = lanes_load_f16(scale + v * LANES);
            if (v * LANES % 32 == 0)
                nb_kv_ask(scale + v * LANES, m->ahead);
            LANES_UNROLL
            for (size_t r = 0; r < rows; r++) {
                float *to = c + r * m->c_stride + v * LANES;
                lanes_store(to, lanes_fma(sum.at[r][v], s, dim ? lanes_load(to) : lanes_set(0.0f)));
            }
        }
    }
}

/* A position's values are met by its weights, at a[block][row]. */
LANES_INLINE void add_position(size_t rows, size_t vectors, const float *a, size_t a_stride, const lanes *right,
                               block_sums *sum)
{
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++) {
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            lanes left = lanes_set(a[v * LANES / NB_KV_BLOCK * WEIGHTS_STRIDE + r * a_stride]);
            sum->at[r][v] = lanes_fma(left, right[v], sum->at[r][v]);
        }
    }
}

/* Q8_0: a word holds a dim of four positions. */
LANES_INLINE void add_bytes(size_t rows, size_t vectors, const coded *m, size_t column, const float *a, block_sums *sum)
{
    for (size_t i = 0; i < m->n; i += 4) {
        lanes_words x[BLOCK_VECTORS_MAX];
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            const uint8_t *b = m->b + nb_kv_q8_value(i, column + v * LANES);
            x[v] = lanes_load_words(b);
            if ((column + v * LANES) % 16 == 0)
                nb_kv_ask(b, m->ahead);
        }
        LANES_UNROLL
        for (size_t at = 0; at < 4; at++) {
            lanes right[BLOCK_VECTORS_MAX];
            take_byte(vectors, x, at, right);
            add_position(rows, vectors, a + i + at, m->a_stride, right, sum);
        }
    }
}

LANES_INLINE void add_nibbles(size_t rows, size_t vectors, const coded *m, size_t column, const float *a,
                              block_sums *sum)
{
    const uint8_t *b = m->b + column / NB_KV_BLOCK * HALF_BLOCK + column % HALF_BLOCK;
    bool high = LANES < HALF_BLOCK && column % NB_KV_BLOCK >= HALF_BLOCK;
    for (size_t i = 0; i < m->n; i++, b += m->b_stride) {
        lanes right[BLOCK_VECTORS_MAX];
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            size_t at = LANES < HALF_BLOCK ? v * LANES : v * LANES / NB_KV_BLOCK * HALF_BLOCK;
            right[v] = lanes_load_i4(b + at, LANES < HALF_BLOCK ? high : v % 2);
        }
        if (column % 128 == 0)
            nb_kv_ask(b, m->ahead);
        add_position(rows, vectors, a + i, m->a_stride, right, sum);
    }
}

/* Dims [column, column + vectors LANES): within a block, or whole blocks. */
LANES_INLINE void value_block_codes(coding how, size_t rows, size_t vectors, const coded *m, size_t column)
{
    float *c = m->c + column;
    const float *a = m->a + column / NB_KV_BLOCK * WEIGHTS_STRIDE;
    block_sums sum;
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++) {
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            sum.at[r][v] = lanes_load(c + r * m->c_stride + v * LANES);
    }
    if (how == CODES_8)
        add_bytes(rows, vectors, m, column, a, &sum);
    else
        add_nibbles(rows, vectors, m, column, a, &sum);
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++) {
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            lanes_store(c + r * m->c_stride + v * LANES, sum.at[r][v]);
    }
}

/* All keys of a tile; dims in whole blocks, of which one may be left where a step takes two. */
#define CODE_PRODUCTS(how, rows)                                                                                       \
    static void score_##how##_##rows(const coded *m)                                                                   \
    {                                                                                                                  \
        for (size_t column = 0; column < NB_PAGE; column += BLOCK_VECTORS(rows) * LANES)                               \
            score_block_codes(how, rows, BLOCK_VECTORS(rows), m, column);                                              \
    }                                                                                                                  \
    static void value_##how##_##rows(const coded *m)                                                                   \
    {                                                                                                                  \
        const size_t step = BLOCK_VECTORS(rows) * LANES;                                                               \
        size_t column = 0;                                                                                             \
        for (; column + step <= m->columns; column += step)                                                            \
            value_block_codes(how, rows, BLOCK_VECTORS(rows), m, column);                                              \
        if (step > NB_KV_BLOCK && column < m->columns)                                                                 \
            value_block_codes(how, rows, NB_KV_BLOCK / LANES, m, column);                                              \
    }
#define CODE_PRODUCTS_FEW(how)                                                                                         \
    CODE_PRODUCTS(how, 1)                                                                                              \
    CODE_PRODUCTS(how, 2)                                                                                              \
    CODE_PRODUCTS(how, 3)                                                                                              \
    CODE_PRODUCTS(how, 4)
CODE_PRODUCTS_FEW(CODES_4)
#if LANES == 16
CODE_PRODUCTS(CODES_8, 1)
CODE_PRODUCTS(CODES_4, 6)
CODE_PRODUCTS(CODES_4, 8)
#define CODE_SIZES                                                                                                     \
    {                                                                                                                  \
        1, 2, 3, 4, 6, 8                                                                                               \
    }
#define CODE_ROWS(what)                                                                                                \
    {                                                                                                                  \
        {what##_CODES_8_1},                                                                                            \
        {                                                                                                              \
            what##_CODES_4_1, what##_CODES_4_2, what##_CODES_4_3, what##_CODES_4_4, what##_CODES_4_6, what##_CODES_4_8 \
        }                                                                                                              \
    }
#define CODE_ROW_SIZES 6
#else
CODE_PRODUCTS_FEW(CODES_8)
#define CODE_SIZES                                                                                                     \
    {                                                                                                                  \
        1, 2, 3, 4                                                                                                     \
    }
#define CODE_ROWS(what)                                                                                                \
    {                                                                                                                  \
        {what##_CODES_8_1, what##_CODES_8_2, what##_CODES_8_3, what##_CODES_8_4},                                      \
        {                                                                                                              \
            what##_CODES_4_1, what##_CODES_4_2, what##_CODES_4_3, what##_CODES_4_4                                     \
        }                                                                                                              \
    }
#define CODE_ROW_SIZES 4
#endif

/* The largest parts first: the codes of a tile are in the first-level cache when another part of the rows takes them. */
typedef void (*code_product)(const coded *m);
static void by_parts(const code_product *by_size, size_t rows, coded m)
{
    static const size_t sizes[] = CODE_SIZES;
    for (size_t i = CODE_ROW_SIZES; i-- > 0;)
        for (; rows >= sizes[i]; rows -= sizes[i]) {
            by_size[i](&m);
            m.a += sizes[i] * m.a_stride;
            m.c += sizes[i] * m.c_stride;
            m.ahead = 0;
        }
}

static void score_codes(coding how, size_t rows, const coded *m)
{
    static const code_product by_size[CODINGS][CODE_ROW_SIZES] = CODE_ROWS(score);
    by_parts(by_size[how], rows, *m);
}

static void add_codes(coding how, size_t rows, const coded *m)
{
    static const code_product by_size[CODINGS][CODE_ROW_SIZES] = CODE_ROWS(value);
    by_parts(by_size[how], rows, *m);
}
