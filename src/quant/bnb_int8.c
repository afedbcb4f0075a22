/* LLM.int8(): rows of int8, columns of outliers in 16 bit (Dettmers et al. 2022). */
#include "quant/bnb.h"

#include <math.h>
#include <stdlib.h>

#include "num/half.h"

/* 2^31 / 127^2: as many products of two int8 surely fit an int32 */
enum { MOST_COLUMNS = 133143 };

/* ---- rows to int8 ---- */

/* bitsandbytes takes weights and activations as F16 before anything else */
static void round_to_f16(const nb_bnb_loops *l, float *x, size_t n)
{
    uint16_t half[256];
    for (size_t at = 0; at < n; at += 256) {
        size_t piece = nb_min_size(256, n - at);
        l->narrow(x + at, false, half, piece);
        l->widen(half, false, x + at, piece);
    }
}

typedef struct quantize_rows {
    const void *x;
    nb_float type;
    size_t rows, columns;
    const uint8_t *left_out; /* a byte a column; NULL: none */
    float threshold;         /* 0: none */
    int8_t *codes;
    float *scale;
    const nb_bnb_loops *loops;
} quantize_rows;

/* one piece of a row, as F16 values, what is at least the threshold taken as 0 */
static void load_piece(const quantize_rows *q, size_t at, size_t n, float *v)
{
    const float *x = nb_bnb_floats(q->loops, q->x, q->type, at, n, v);
    if (x != v)
        memcpy(v, x, n * sizeof *v);
    if (q->type != NB_FLOAT_F16)
        round_to_f16(q->loops, v, n);
    if (q->threshold > 0)
        for (size_t i = 0; i < n; i++)
            v[i] = fabsf(v[i]) >= q->threshold ? 0.0f : v[i];
}

static bool quantize_row(const quantize_rows *q, size_t row)
{
    float v[NB_BNB_PIECE];
    uint32_t top = 0;
    for (size_t at = 0; at < q->columns; at += NB_BNB_PIECE) {
        size_t n = nb_min_size(NB_BNB_PIECE, q->columns - at);
        load_piece(q, row * q->columns + at, n, v);
        uint32_t most = q->loops->largest(v, n);
        top = most > top ? most : top;
    }
    if (top >= 0x7f800000u)
        return false;
    float scale = q->scale[row] = nb_f32_of_bits(top), factor = nb_bnb_factor_int8(scale);
    for (size_t at = 0; at < q->columns; at += NB_BNB_PIECE) {
        size_t n = nb_min_size(NB_BNB_PIECE, q->columns - at);
        if (q->columns > NB_BNB_PIECE)
            load_piece(q, row * q->columns + at, n, v);
        q->loops->encode_int8(v, n, factor, q->codes + row * q->columns + at);
    }
    for (size_t i = 0; q->left_out && i < q->columns; i++)
        if (q->left_out[i])
            q->codes[row * q->columns + i] = 0;
    return true;
}

static bool quantize_some_rows(void *context, size_t begin, size_t end)
{
    for (size_t row = begin; row < end; row++)
        if (!quantize_row(context, row))
            return false;
    return true;
}

/* every value finite also as F16? */
static nb_status fail_not_f16(const void *x, nb_float type, size_t n, nb_error *err)
{
    nb_error found = {0};
    nb_status status = nb_bnb_fail_not_finite(x, type, n, &found);
    for (size_t i = 0; type != NB_FLOAT_F16 && i < n; i++) {
        float v = type == NB_FLOAT_F32 ? ((const float *)x)[i] : nb_bf16_to_f32(((const uint16_t *)x)[i]);
        if (isfinite(v) && fabsf(v) >= 65520.0f)
            return nb_fail(err, NB_ERR_ARGUMENT, "value %zu is %g: LLM.int8() works in float16, whose largest is 65504",
                           i, (double)v);
    }
    return nb_fail(err, status, "%s", found.message);
}

static nb_status check_shape(nb_float type, size_t rows, size_t columns, size_t *n, nb_error *err)
{
    NB_TRY(nb_bnb_check_type(type, err));
    if (!nb_mul(rows, columns, n))
        return nb_fail(err, NB_ERR_ARGUMENT, "%zu rows of %zu columns do not fit in memory", rows, columns);
    return NB_OK;
}

nb_status nb_bnb_quantize_int8(const void *x, nb_float type, size_t rows, size_t columns, int8_t *codes, float *scale,
                               nb_team *team, nb_error *err)
{
    size_t n;
    NB_TRY(check_shape(type, rows, columns, &n, err));
    quantize_rows q = {x, type, rows, columns, NULL, 0, codes, scale, nb_bnb_loops_now()};
    if (!nb_bnb_share(team, rows, 1, quantize_some_rows, &q))
        return fail_not_f16(x, type, n, err);
    return NB_OK;
}

/* ---- back ---- */

/* bitsandbytes' own constant for 1 / 127 */
static const float BACK = 7.874015718698502e-3f;

typedef struct dequantize_rows {
    const int8_t *codes;
    const float *scale;
    size_t columns;
    void *y;
    nb_float type;
    const nb_bnb_loops *loops;
} dequantize_rows;

static bool dequantize_some_rows(void *context, size_t begin, size_t end)
{
    const dequantize_rows *q = context;
    float room[NB_BNB_PIECE];
    for (size_t row = begin; row < end; row++)
        for (size_t at = 0; at < q->columns; at += NB_BNB_PIECE) {
            size_t n = nb_min_size(NB_BNB_PIECE, q->columns - at), where = row * q->columns + at;
            float *y = nb_bnb_target(q->y, q->type, where, room);
            for (size_t i = 0; i < n; i++)
                y[i] = (float)q->codes[where + i] * q->scale[row] * BACK;
            nb_bnb_store(q->loops, y, q->y, q->type, where, n);
        }
    return true;
}

nb_status nb_bnb_dequantize_int8(const int8_t *codes, const float *scale, size_t rows, size_t columns, void *y,
                                 nb_float type, nb_team *team, nb_error *err)
{
    size_t n;
    NB_TRY(check_shape(type, rows, columns, &n, err));
    dequantize_rows q = {codes, scale, columns, y, type, nb_bnb_loops_now()};
    nb_bnb_share(team, rows, 1, dequantize_some_rows, &q);
    return NB_OK;
}

/* ---- outlier columns ---- */

/* Marks the columns that hold a value of at least the threshold in any row; NaNs are found later. */
static void mark_outliers(const void *x, nb_float type, size_t rows, size_t columns, float threshold, uint8_t *mark)
{
    const nb_bnb_loops *l = nb_bnb_loops_now();
    float v[256];
    memset(mark, 0, columns);
    for (size_t row = 0; row < rows; row++)
        for (size_t at = 0; at < columns; at += 256) {
            size_t n = nb_min_size(256, columns - at);
            const float *from = nb_bnb_floats(l, x, type, row * columns + at, n, v);
            if (from != v)
                memcpy(v, from, n * sizeof *v);
            if (type != NB_FLOAT_F16)
                round_to_f16(l, v, n);
            for (size_t i = 0; i < n; i++)
                mark[at + i] |= fabsf(v[i]) >= threshold;
        }
}

nb_status nb_bnb_quantize_int8_outliers(const void *x, nb_float type, size_t rows, size_t columns, float threshold,
                                        int8_t *codes, float *scale, uint32_t *outliers, size_t *count, nb_error *err)
{
    size_t n;
    NB_TRY(check_shape(type, rows, columns, &n, err));
    if (!(threshold > 0) || columns > UINT32_MAX)
        return nb_fail(err, NB_ERR_ARGUMENT, "a threshold of %g for %zu columns; give one above 0 (6 as a rule)",
                       (double)threshold, columns);
    uint8_t *mark = malloc(columns + 1);
    if (!mark)
        return nb_fail_memory(err, "the marks of outlier columns", columns + 1);
    mark_outliers(x, type, rows, columns, threshold, mark);
    *count = 0;
    for (size_t i = 0; i < columns; i++)
        if (mark[i])
            outliers[(*count)++] = (uint32_t)i;
    quantize_rows q = {x, type, rows, columns, mark, threshold, codes, scale, nb_bnb_loops_now()};
    bool fine = true;
    for (size_t row = 0; row < rows && fine; row++)
        fine = quantize_row(&q, row);
    free(mark);
    return fine ? NB_OK : fail_not_f16(x, type, n, err);
}

/* ---- the layer ---- */

typedef struct layer {
    const nb_weight_int8 *w;
    const void *x, *bias;
    void *y;
    nb_float type;
    size_t tokens, outliers;
    int8_t *codes;     /* [tokens][columns] */
    float *scale;      /* [tokens] */
    uint32_t *columns; /* [outliers] */
    const nb_bnb_loops *loops;
} layer;

static float round_one(float x, nb_float type)
{
    return type == NB_FLOAT_F32   ? x
           : type == NB_FLOAT_F16 ? nb_f16_to_f32(nb_f32_to_f16(x))
                                  : nb_bf16_to_f32(nb_f32_to_bf16(x));
}

/* One output. Only 1 / 127^2 differs from bitsandbytes, whose constant is off by 1.8e-5. */
static float output(const layer *l, size_t token, size_t row)
{
    const int8_t *x = l->codes + token * l->w->columns, *w = l->w->codes + row * l->w->columns;
    float sum = (float)l->loops->dot_int8(x, w, l->w->columns);
    float y = sum * (l->scale[token] * l->w->scale[row]) * (1.0f / 16129.0f);
    if (l->bias)
        y += nb_float_at(l->bias, l->type, row);
    if (!l->outliers)
        return y;
    float rest = 0;
    for (size_t i = 0; i < l->outliers; i++) {
        float weight = (float)w[l->columns[i]] * l->w->scale[row] * BACK;
        rest += nb_float_at(l->x, l->type, token * l->w->columns + l->columns[i]) * round_one(weight, l->type);
    }
    return round_one(y, l->type) + rest;
}

static bool layer_rows(void *context, size_t begin, size_t end)
{
    const layer *l = context;
    for (size_t row = begin; row < end; row++)
        for (size_t token = 0; token < l->tokens; token++) {
            float room;
            size_t at = token * l->w->rows + row;
            *nb_bnb_target(l->y, l->type, at, &room) = output(l, token, row);
            nb_bnb_store(l->loops, &room, l->y, l->type, at, 1);
        }
    return true;
}

static nb_status run_layer(layer *l, float threshold, nb_team *team, nb_error *err)
{
    if (threshold > 0)
        NB_TRY(nb_bnb_quantize_int8_outliers(l->x, l->type, l->tokens, l->w->columns, threshold, l->codes, l->scale,
                                             l->columns, &l->outliers, err));
    else
        NB_TRY(nb_bnb_quantize_int8(l->x, l->type, l->tokens, l->w->columns, l->codes, l->scale, team, err));
    nb_bnb_share(team, l->w->rows, 8, layer_rows, l);
    return NB_OK;
}

nb_status nb_linear_int8(const nb_weight_int8 *w, const void *x, size_t tokens, const void *bias, float threshold,
                         void *y, nb_float type, nb_team *team, nb_error *err)
{
    size_t n;
    NB_TRY(check_shape(type, tokens, w->columns, &n, err));
    if (w->columns > MOST_COLUMNS)
        return nb_fail(err, NB_ERR_LIMIT, "%zu columns: int32 sums of int8 products hold at most %d", w->columns,
                       MOST_COLUMNS);
    layer l = {.w = w, .x = x, .bias = bias, .y = y, .type = type, .tokens = tokens, .loops = nb_bnb_loops_now()};
    l.codes = malloc(n + 1);
    l.scale = malloc((tokens + 1) * sizeof *l.scale);
    l.columns = malloc((w->columns + 1) * sizeof *l.columns);
    nb_status status = l.codes && l.scale && l.columns ? run_layer(&l, threshold, team, err)
                                                       : nb_fail_memory(err, "activations in 8 bits", n);
    free(l.codes);
    free(l.scale);
    free(l.columns);
    return status;
}
