/* quant: a real weight matrix through every type: bits, error, spectrum of the error, speed; NF4's levels and the normal distribution;
 * double quantization; outliers of activations. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "convert/open.h"
#include "lab/lab_reading.h"
#include "measure/loss.h"
#include "num/half.h"
#include "quant/quant.h"

enum {
    SAMPLE_VALUES = 128 << 10,
    MOST_ROWS = 128,
    BLOCK = 64,
    NEST = 256,
    MAP_BLOCK = 4096,
    MOST_TYPES = 64,
    BINS = 80
};

typedef struct matrix { /* the first rows of a real one */
    const char *name;
    const nb_type_info *stored; /* in the file */
    size_t rows, columns, n;
    uint64_t all_rows;
    float *x, *back;
    uint8_t *codes; /* room for any type */
    float *absmax;  /* room for any blocks */
} matrix;

typedef struct outcome { /* of one type */
    const char *name;
    double bits, error, quantize, dequantize; /* error: relative; speeds: bytes of floats a second */
} outcome;

typedef struct way { /* to quantize: a tensor type, or one of bitsandbytes' arrays */
    const nb_type_info *type;
    const char *name;
    enum { TENSOR_TYPE, BNB_NF4, BNB_FP4, BNB_NESTED, BNB_MAP8, BNB_INT8 } kind;
} way;

/* ---- one type ---- */

static double bits_of(const way *w, const matrix *m)
{
    double n = (double)m->n, blocks = (double)nb_bnb_blocks(m->n, BLOCK);
    switch (w->kind) {
    case TENSOR_TYPE: return 8.0 * w->type->block_bytes / w->type->block_values;
    case BNB_NF4:
    case BNB_FP4: return (4 * n + 32 * blocks) / n;
    case BNB_NESTED: return (4 * n + 8 * blocks + 32.0 * (double)nb_bnb_blocks((size_t)blocks, NEST) + 32) / n;
    case BNB_MAP8: return (8 * n + 32.0 * (double)nb_bnb_blocks(m->n, MAP_BLOCK)) / n;
    case BNB_INT8: return 8 + 32.0 / (double)m->columns;
    }
    return 0;
}

static nb_status quantize(const way *w, const matrix *m, nb_error *err)
{
    size_t row = 0;
    switch (w->kind) {
    case TENSOR_TYPE:
        nb_type_row_bytes(w->type, m->columns, &row);
        for (size_t i = 0; i < m->rows; i++)
            w->type->quantize(m->x + i * m->columns, NULL, m->columns, NB_ROUND_SEARCH, m->codes + i * row);
        return NB_OK;
    case BNB_NF4:
    case BNB_NESTED:
        return nb_bnb_quantize_4bit(m->x, NB_FLOAT_F32, m->n, NB_CODE_NF4, BLOCK, m->codes, m->absmax, NULL, err);
    case BNB_FP4:
        return nb_bnb_quantize_4bit(m->x, NB_FLOAT_F32, m->n, NB_CODE_FP4, BLOCK, m->codes, m->absmax, NULL, err);
    case BNB_MAP8:
        return nb_bnb_quantize_8bit(m->x, NB_FLOAT_F32, m->n, nb_bnb_map8(true), MAP_BLOCK, m->codes, m->absmax, NULL,
                                    err);
    case BNB_INT8:
        return nb_bnb_quantize_int8(m->x, NB_FLOAT_F32, m->rows, m->columns, (int8_t *)m->codes, m->absmax, NULL, err);
    }
    return NB_OK;
}

static nb_status dequantize(const way *w, const matrix *m, nb_error *err)
{
    size_t row = 0;
    const float *map = nb_bnb_map4(w->kind == BNB_FP4 ? NB_CODE_FP4 : NB_CODE_NF4);
    switch (w->kind) {
    case TENSOR_TYPE:
        nb_type_row_bytes(w->type, m->columns, &row);
        for (size_t i = 0; i < m->rows; i++)
            w->type->dequantize(m->codes + i * row, m->back + i * m->columns, m->columns);
        return NB_OK;
    case BNB_NF4:
    case BNB_FP4:
    case BNB_NESTED:
        return nb_bnb_dequantize_4bit(m->codes, m->absmax, map, BLOCK, m->n, m->back, NB_FLOAT_F32, NULL, err);
    case BNB_MAP8:
        return nb_bnb_dequantize_8bit(m->codes, m->absmax, nb_bnb_map8(true), MAP_BLOCK, m->n, m->back, NB_FLOAT_F32,
                                      NULL, err);
    case BNB_INT8:
        return nb_bnb_dequantize_int8((const int8_t *)m->codes, m->absmax, m->rows, m->columns, m->back, NB_FLOAT_F32,
                                      NULL, err);
    }
    return NB_OK;
}

/* absmax through double quantization and back */
static nb_status nest(const matrix *m, nb_error *err)
{
    size_t blocks = nb_bnb_blocks(m->n, BLOCK), nested = nb_bnb_blocks(blocks, NEST);
    uint8_t *codes = calloc(blocks + nested * sizeof(float) + 16, 1);
    float offset, *scales = codes ? (float *)(void *)(codes + nb_round_up(blocks, 16)) : NULL;
    if (!codes)
        return nb_fail_memory(err, "scales", blocks);
    nb_status status = nb_bnb_nest(m->absmax, blocks, codes, scales, &offset, err);
    if (status == NB_OK)
        status = nb_bnb_unnest(codes, scales, nb_bnb_map8(true), offset, NEST, blocks, m->absmax, err);
    free(codes);
    return status;
}

/* Bytes of floats a second: the best of what fits into a few milliseconds. */
static nb_status time_of(nb_status (*run)(const way *, const matrix *, nb_error *), const way *w, const matrix *m,
                         double *speed, nb_error *err)
{
    double best = INFINITY, start = nb_seconds();
    do {
        double from = nb_seconds();
        NB_TRY(run(w, m, err));
        best = fmin(best, nb_seconds() - from);
    } while (nb_seconds() - start < 0.01);
    *speed = 4.0 * (double)m->n / fmax(best, 1e-9);
    return NB_OK;
}

static double error_of(const matrix *m)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < m->n; i++) {
        error += ((double)m->back[i] - (double)m->x[i]) * ((double)m->back[i] - (double)m->x[i]);
        norm += (double)m->x[i] * (double)m->x[i];
    }
    return norm > 0 ? sqrt(error / norm) : 0;
}

/* m->back is the matrix as it comes back afterwards. */
static nb_status try(const way *w, const matrix *m, outcome *o, nb_error *err)
{
    *o = (outcome){.name = w->name, .bits = bits_of(w, m)};
    NB_TRY(time_of(quantize, w, m, &o->quantize, err));
    if (w->kind == BNB_NESTED)
        NB_TRY(nest(m, err));
    NB_TRY(time_of(dequantize, w, m, &o->dequantize, err));
    o->error = error_of(m);
    return NB_OK;
}

/* ---- all of them ---- */

static int by_bits(const void *a, const void *b)
{
    const outcome *x = a, *y = b;
    return (x->bits > y->bits) - (x->bits < y->bits);
}

static size_t list_ways(const matrix *m, way ways[MOST_TYPES], char refused[512])
{
    static const way others[] = {{NULL, "NF4", BNB_NF4},
                                 {NULL, "FP4", BNB_FP4},
                                 {NULL, "NF4 nested", BNB_NESTED},
                                 {NULL, "8-bit map", BNB_MAP8},
                                 {NULL, "LLM.int8()", BNB_INT8}};
    size_t n = 0, at = 0;
    refused[0] = '\0';
    for (uint32_t id = 0; id < NB_TYPE_FILE_LIMIT; id++) {
        const nb_type_info *type = nb_type_get(id);
        if (!type || !type->quantize || id == NB_TYPE_F64 || id == NB_TYPE_F32)
            continue;
        if (m->columns % type->block_values == 0)
            ways[n++] = (way){type, type->name, TENSOR_TYPE};
        else if (at < 480)
            at += (size_t)snprintf(refused + at, 512 - at, "%s%s", at ? ", " : "", type->name);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ways[n++] = others[i];
    return n;
}

static void put_outcomes(nb_lab *lab, const outcome *o, const way *ways, size_t n)
{
    static const nb_lab_column columns[] = {{"type", "type", NB_LAB_TEXT, 0},
                                            {"bits", "bits a weight", NB_LAB_FIXED, 3},
                                            {"error", "error", NB_LAB_DIGITS, 3},
                                            {"quantize", "quantize /s", NB_LAB_BYTES, 0},
                                            {"dequantize", "dequantize /s", NB_LAB_BYTES, 0}};
    double x[2][MOST_TYPES], y[2][MOST_TYPES];
    const char *labels[2][MOST_TYPES];
    size_t count[2] = {0, 0};
    nb_lab_table *t = nb_lab_table_begin(lab, "types", columns, 5);
    for (size_t i = 0; i < n; i++) {
        size_t family = 0;
        for (size_t k = 0; k < n; k++)
            family |= ways[k].name == o[i].name && ways[k].kind != TENSOR_TYPE;
        nb_lab_cell_text(t, "%s", o[i].name);
        nb_lab_cell(t, o[i].bits);
        nb_lab_cell(t, o[i].error);
        nb_lab_cell(t, o[i].quantize);
        nb_lab_cell(t, o[i].dequantize);
        x[family][count[family]] = o[i].bits;
        y[family][count[family]] = o[i].error;
        labels[family][count[family]++] = o[i].name;
    }
    nb_lab_caption(lab, "Error: root mean square, relative to the weights'. Speeds: bytes of F32 weights that lie in "
                        "the cache, one thread.");
    nb_lab_chart *c = nb_lab_chart_begin(lab, "error", (nb_lab_axis){.label = "bits a weight", .log = true},
                                         (nb_lab_axis){.label = "relative error", .log = true});
    nb_lab_caption(lab, "Error against size: further down and further left is better");
    nb_lab_series(c, "GGUF types", NB_LAB_POINTS, x[0], y[0], count[0]);
    nb_lab_series_labels(c, labels[0]);
    nb_lab_series(c, "bitsandbytes", NB_LAB_POINTS, x[1], y[1], count[1]);
    nb_lab_series_labels(c, labels[1]);
}

static nb_status show_types(nb_lab *lab, const matrix *m, const char *path, nb_error *err)
{
    way ways[MOST_TYPES];
    outcome outcomes[MOST_TYPES];
    char refused[512];
    size_t n = list_ways(m, ways, refused);
    for (size_t i = 0; i < n; i++)
        NB_TRY(try(&ways[i], m, &outcomes[i], err));
    qsort(outcomes, n, sizeof *outcomes, by_bits);
    nb_lab_section(lab, "types", "One real matrix, every type");
    nb_lab_fact_text(lab, "model", "model", "%s", nb_lab_base_name(path));
    nb_lab_fact_text(lab, "tensor", "matrix", "%s", m->name);
    nb_lab_fact_text(lab, "stored", "stored as", "%s", m->stored->name);
    nb_lab_fact(lab, "rows", "rows looked at", NB_LAB_COUNT, 0, (double)m->rows, NULL);
    nb_lab_fact(lab, "columns", "columns", NB_LAB_COUNT, 0, (double)m->columns, NULL);
    nb_lab_say(
        lab,
        "Quantized, and back. Each bit halves the error, as a rule: a factor of two for one bit, whatever the type. "
        "Types differ "
        "in what they make of their bits: blocks with a scale (Q4_0), scale and minimum (Q4_1), scales of scales (K), "
        "levels that follow the normal distribution (NF4, IQ4_NL), lattices of vectors (IQ1 to IQ3), which take long "
        "to "
        "search.");
    if (m->stored->block_values > 1)
        nb_lab_say(lab, "This file is quantized already: the type it is stored in, and its relatives, find values on "
                        "their own grid "
                        "and look better than they are. A model in F16, BF16 or F32 is the fair one to ask.");
    if (refused[0])
        nb_lab_say(lab, "%zu columns are not whole blocks of these types: %s.", m->columns, refused);
    put_outcomes(lab, outcomes, ways, n);
    return NB_OK;
}

/* ---- the spectrum of the error: singular values ---- */

/* One rotation of the symmetric a [n][n] that makes a[p][q] zero. */
static void rotate(double *a, size_t n, size_t p, size_t q)
{
    double apq = a[p * n + q], d = (a[q * n + q] - a[p * n + p]) / 2;
    if (fabs(apq) <= 1e-14 * sqrt(fabs(a[p * n + p] * a[q * n + q])))
        return;
    double t = ((d >= 0) == (apq >= 0) ? 1 : -1) * fabs(apq) / (fabs(d) + hypot(d, apq));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (size_t k = 0; k < n; k++) {
        double x = a[p * n + k], y = a[q * n + k];
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
    }
    for (size_t k = 0; k < n; k++) {
        double x = a[k * n + p], y = a[k * n + q];
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Singular values of x - y (y NULL: of x), descending: roots of the eigenvalues of its products of rows (Jacobi's method).
 * gram: [rows][rows] */
static void singular_values(const matrix *m, const float *y, double *gram, double *values)
{
    for (size_t i = 0; i < m->rows; i++)
        for (size_t k = 0; k <= i; k++) {
            const float *a = m->x + i * m->columns, *b = m->x + k * m->columns;
            double sum = 0;
            for (size_t j = 0; j < m->columns; j++) {
                double u = (double)a[j] - (y ? (double)y[i * m->columns + j] : 0);
                sum += u * ((double)b[j] - (y ? (double)y[k * m->columns + j] : 0));
            }
            gram[i * m->rows + k] = gram[k * m->rows + i] = sum;
        }
    for (int sweep = 0; sweep < 12; sweep++)
        for (size_t p = 0; p + 1 < m->rows; p++)
            for (size_t q = p + 1; q < m->rows; q++)
                rotate(gram, m->rows, p, q);
    for (size_t i = 0; i < m->rows; i++)
        values[i] = sqrt(fmax(gram[i * m->rows + i], 0));
    qsort(values, m->rows, sizeof *values, descending);
}

typedef struct spectrum {
    nb_lab_table *table;
    nb_lab_chart *chart;
    double *gram, *weights, *values, *x; /* room; singular values of the weights and of what is looked at; 1, 2, ... */
} spectrum;

/* m->back, or NULL: the weights themselves */
static void put_spectrum(const spectrum *s, const matrix *m, const float *back, const char *name)
{
    size_t below = 0;
    double *values = back ? s->values : s->weights;
    singular_values(m, back, s->gram, values);
    for (size_t k = 0; k < m->rows; k++)
        below += s->weights[k] < values[0];
    nb_lab_series(s->chart, name, NB_LAB_LINE, s->x, values, m->rows);
    nb_lab_cell_text(s->table, "%s%s", back ? "the error of " : "the ", name);
    nb_lab_cell(s->table, values[0]);
    nb_lab_cell(s->table, values[m->rows / 2]);
    nb_lab_cell(s->table, values[m->rows - 1]);
    nb_lab_cell(s->table, back ? (double)below : NAN);
}

static nb_status put_spectra(const spectrum *s, const matrix *m, nb_error *err)
{
    static const char *const wanted[] = {"Q8_0", "Q4_K", "Q4_0", "Q2_K"};
    put_spectrum(s, m, NULL, "weights");
    for (size_t i = 0; i <= sizeof wanted / sizeof *wanted; i++) {
        way w = i < 4 ? (way){nb_type_by_name(nb_str_of(wanted[i])), wanted[i], TENSOR_TYPE}
                      : (way){NULL, "NF4", BNB_NF4};
        if (w.type && m->columns % w.type->block_values != 0)
            continue;
        NB_TRY(quantize(&w, m, err));
        NB_TRY(dequantize(&w, m, err));
        put_spectrum(s, m, m->back, w.name);
    }
    return NB_OK;
}

static nb_status show_spectrum(nb_lab *lab, const matrix *m, nb_error *err)
{
    static const nb_lab_column columns[] = {{"of", "singular values of", NB_LAB_TEXT, 0},
                                            {"first", "first", NB_LAB_DIGITS, 3},
                                            {"middle", "middle", NB_LAB_DIGITS, 3},
                                            {"last", "last", NB_LAB_DIGITS, 3},
                                            {"below", "weights' below", NB_LAB_COUNT, 0}};
    double *room = calloc(m->rows * (m->rows + 3), sizeof *room);
    if (!room)
        return nb_fail_memory(err, "a spectrum", m->rows * (m->rows + 3) * sizeof *room);
    nb_lab_section(lab, "spectrum", "The spectrum of the error");
    nb_lab_say(lab, "A matrix is a sum of directions, each with a strength, its singular value; so is the error. While "
                    "its line runs below "
                    "that of the weights, each direction keeps about the same relative accuracy. A direction of the "
                    "weights that is "
                    "weaker than the strongest of the error (the last column counts them) drowns in it.");
    spectrum s = {.gram = room, .table = nb_lab_table_begin(lab, "spectra", columns, 5)};
    s.weights = s.gram + m->rows * m->rows;
    s.values = s.weights + m->rows;
    s.x = s.values + m->rows;
    s.chart = nb_lab_chart_begin(lab, "spectra", (nb_lab_axis){.label = "direction"},
                                 (nb_lab_axis){.label = "singular value", .log = true});
    nb_lab_caption(lab, "Singular values of the weights, and of the errors of some types");
    for (size_t i = 0; i < m->rows; i++)
        s.x[i] = (double)i + 1;
    nb_status status = put_spectra(&s, m, err);
    free(room);
    return status;
}

/* ---- NF4 and the normal distribution ---- */

/* The z with a share p of the normal distribution below it. */
static double quantile(double p)
{
    double lo = -10, hi = 10;
    for (int i = 0; i < 80; i++) {
        double middle = (lo + hi) / 2;
        *(0.5 * erfc(-middle / sqrt(2)) < p ? &lo : &hi) = middle;
    }
    return (lo + hi) / 2;
}

/* QLoRA's recipe (Dettmers et al. 2023, section 3): 8 quantiles above zero, 7 below, zero; divided by the largest. */
static void nf4_by_quantiles(double levels[16])
{
    double offset = (1 - 1 / 30.0 + 1 - 1 / 32.0) / 2;
    for (int i = 0; i < 7; i++)
        levels[i] = -quantile(offset + (0.5 - offset) * i / 7);
    levels[7] = 0;
    for (int i = 0; i < 8; i++)
        levels[15 - i] = quantile(offset + (0.5 - offset) * i / 8);
    for (int i = 0; i < 15; i++)
        levels[i] /= levels[15];
    levels[15] = 1;
}

/* Shares in % of whole blocks' values, each divided by the largest of its block. */
static void fill_bins(const float *x, size_t n, double bins[BINS])
{
    memset(bins, 0, BINS * sizeof *bins);
    for (size_t at = 0; at + BLOCK <= n; at += BLOCK) {
        double most = 0;
        for (size_t i = 0; i < BLOCK; i++)
            most = fmax(most, fabs((double)x[at + i]));
        for (size_t i = 0; i < BLOCK && most > 0; i++)
            bins[(size_t)fmin(((double)x[at + i] / most + 1) / 2 * BINS, BINS - 1)] += 100.0 /
                                                                                       (double)(n / BLOCK * BLOCK);
    }
}

static void draw_levels(nb_lab *lab, const matrix *m, uint64_t seed)
{
    double x[BINS], real[BINS], normal[BINS], nf4[16], fp4[16], even[15];
    nb_rng r;
    nb_rng_seed(&r, seed);
    fill_bins(m->x, m->n, real);
    for (size_t i = 0; i < m->n; i++)
        m->back[i] = (float)nb_lab_normal(&r);
    fill_bins(m->back, m->n, normal);
    for (size_t i = 0; i < BINS; i++)
        x[i] = -1 + 2 * ((double)i + 0.5) / BINS;
    for (size_t i = 0; i < 16; i++) {
        nf4[i] = (double)nb_bnb_map4(NB_CODE_NF4)[i];
        fp4[i] = (double)nb_bnb_map4(NB_CODE_FP4)[i];
    }
    for (int i = 0; i < 15; i++)
        even[i] = (i - 7) / 7.0;
    nb_lab_axis axis = {.label = "value / largest of its block", .lo = -1, .hi = 1};
    nb_lab_chart *c = nb_lab_chart_begin(lab, "distribution", axis, (nb_lab_axis){.label = "% of values"});
    nb_lab_caption(
        lab, "Values of blocks of 64, divided by the largest: this matrix, and numbers from the normal distribution");
    nb_lab_series(c, "weights", NB_LAB_LINE, x, real, BINS);
    nb_lab_series(c, "normal", NB_LAB_LINE, x, normal, BINS);
    nb_lab_strokes *s = nb_lab_strokes_begin(lab, "levels", axis);
    nb_lab_caption(lab, "What 4 bits can stand for: NF4 is dense where most values are");
    nb_lab_strokes_row(s, "NF4", nf4, 16);
    nb_lab_strokes_row(s, "FP4", fp4, 16);
    nb_lab_strokes_row(s, "4-bit integers", even, 15);
}

/* How often each code of 4 bits is used, and the bits that they carry (their entropy). */
static nb_status count_codes(const way *w, const matrix *m, double used[16], double *bits, nb_error *err)
{
    NB_TRY(quantize(w, m, err));
    for (size_t i = 0; i < m->n; i++)
        used[i % 2 ? m->codes[i / 2] & 15 : m->codes[i / 2] >> 4] += 1.0 / (double)m->n;
    *bits = 0;
    for (size_t i = 0; i < 16; i++)
        *bits -= used[i] > 0 ? used[i] * log2(used[i]) : 0;
    return NB_OK;
}

static nb_status show_nf4(nb_lab *lab, const matrix *m, uint64_t seed, nb_error *err)
{
    static const nb_lab_column columns[] = {{"code", "code", NB_LAB_COUNT, 0},
                                            {"level", "level", NB_LAB_FIXED, 8},
                                            {"quantile", "by quantiles", NB_LAB_FIXED, 8},
                                            {"used", "weights that use it", NB_LAB_PERCENT, 2},
                                            {"fp4", "FP4's level", NB_LAB_FIXED, 6},
                                            {"fp4_used", "use it", NB_LAB_PERCENT, 2}};
    static const way ways[2] = {{NULL, "NF4", BNB_NF4}, {NULL, "FP4", BNB_FP4}};
    double levels[16], used[2][16] = {{0}}, off = 0, bits[2];
    nf4_by_quantiles(levels);
    for (size_t w = 0; w < 2; w++)
        NB_TRY(count_codes(&ways[w], m, used[w], &bits[w], err));
    nb_lab_section(lab, "nf4", "NF4: levels from the normal distribution");
    nb_lab_say(lab,
               "Trained weights are nearly normal, and NF4's 16 levels are quantiles of that distribution: dense where "
               "weights are. "
               "Blocks of %d reach further out than the quantiles do, so inner codes are used more than outer ones. "
               "FP4 is a float of 4 "
               "bits, with its levels where powers of two put them; both its zeros are one level. The facts below say "
               "how many of "
               "4 bits the codes really carry.",
               BLOCK);
    nb_lab_table *t = nb_lab_table_begin(lab, "levels", columns, 6);
    for (size_t i = 0; i < 16; i++) {
        double level = (double)nb_bnb_map4(NB_CODE_NF4)[i];
        off = fmax(off, fabs(level - levels[i]));
        nb_lab_cell(t, (double)i);
        nb_lab_cell(t, level);
        nb_lab_cell(t, levels[i]);
        nb_lab_cell(t, used[0][i]);
        nb_lab_cell(t, (double)nb_bnb_map4(NB_CODE_FP4)[i]);
        nb_lab_cell(t, used[1][i]);
    }
    nb_lab_fact(lab, "off", "levels and quantiles differ by at most", NB_LAB_DIGITS, 2, off, NULL);
    nb_lab_fact(lab, "entropy_nf4", "bits that NF4's codes carry", NB_LAB_FIXED, 3, bits[0], "of 4");
    nb_lab_fact(lab, "entropy_fp4", "bits that FP4's codes carry", NB_LAB_FIXED, 3, bits[1], "of 4");
    draw_levels(lab, m, seed);
    return NB_OK;
}

/* ---- the type that is computed in ---- */

static void narrow(const float *x, size_t n, nb_float type, void *y)
{
    if (type == NB_FLOAT_F32)
        memcpy(y, x, n * sizeof *x);
    else if (type == NB_FLOAT_F16)
        nb_f32_to_f16_row(x, y, n);
    else
        nb_f32_to_bf16_row(x, y, n);
}

static float widen(const void *y, size_t i, nb_float type)
{
    uint16_t half = type == NB_FLOAT_F32 ? 0 : ((const uint16_t *)y)[i];
    return type == NB_FLOAT_F32   ? ((const float *)y)[i]
           : type == NB_FLOAT_F16 ? nb_f16_to_f32(half)
                                  : nb_bf16_to_f32(half);
}

/* One token through the matrix in NF4, computed in `type`. room: [columns + rows] floats */
static nb_status run_linear(const matrix *m, const float *token, nb_float type, float *room, outcome *o, nb_error *err)
{
    nb_weight_4bit w = {m->codes, m->absmax, nb_bnb_map4(NB_CODE_NF4), m->rows, m->columns, BLOCK};
    float *y = room + m->columns;
    double best = INFINITY, start = nb_seconds(), sum = 0, norm = 0;
    narrow(token, m->columns, type, room);
    do {
        double from = nb_seconds();
        NB_TRY(nb_linear_4bit(&w, room, NULL, y, type, NULL, err));
        best = fmin(best, nb_seconds() - from);
    } while (nb_seconds() - start < 0.01);
    for (size_t i = 0; i < m->rows; i++) {
        double exact = 0;
        for (size_t j = 0; j < m->columns; j++)
            exact += (double)m->back[i * m->columns + j] * (double)token[j];
        sum += ((double)widen(y, i, type) - exact) * ((double)widen(y, i, type) - exact);
        norm += exact * exact;
    }
    o->quantize = best;
    o->error = norm > 0 ? sqrt(sum / norm) : 0;
    return NB_OK;
}

static nb_status show_compute(nb_lab *lab, const matrix *m, uint64_t seed, nb_error *err)
{
    static const nb_lab_column columns[] = {{"type", "computed in", NB_LAB_TEXT, 0},
                                            {"seconds", "time for one token", NB_LAB_SECONDS, 0},
                                            {"error", "error of the output", NB_LAB_DIGITS, 3}};
    static const char *const names[] = {"F32", "F16", "BF16"};
    static const way nf4 = {NULL, "NF4", BNB_NF4};
    float *token = NB_ARRAY(nb_lab_arena(lab), float, 2 * m->columns + m->rows);
    nb_rng r;
    if (!token)
        return nb_fail_memory(err, "a token", (2 * m->columns + m->rows) * sizeof *token);
    nb_rng_seed(&r, seed + 3);
    for (size_t j = 0; j < m->columns; j++)
        token[j] = (float)nb_lab_normal(&r);
    NB_TRY(quantize(&nf4, m, err));
    NB_TRY(dequantize(&nf4, m, err));
    nb_lab_section(lab, "compute", "Stored in 4 bits, computed in more (bnb_4bit_compute_dtype)");
    nb_lab_say(lab,
               "4 bits are how weights are stored. To multiply, levels are looked up and scaled in a wider type: F32 "
               "is the most exact, "
               "16 bits can be faster where the processor is made for them. A random token times the %zu x %zu matrix "
               "in NF4, one "
               "thread; the error is that of computing, beside F64 with the same weights.",
               m->rows, m->columns);
    nb_lab_table *t = nb_lab_table_begin(lab, "compute", columns, 3);
    for (int type = NB_FLOAT_F32; type <= NB_FLOAT_BF16; type++) {
        outcome o = {0};
        NB_TRY(run_linear(m, token, (nb_float)type, token + m->columns, &o, err));
        nb_lab_cell_text(t, "%s", names[type]);
        nb_lab_cell(t, o.quantize);
        nb_lab_cell(t, o.error);
    }
    return NB_OK;
}

/* ---- double quantization ---- */

static nb_status show_nesting(nb_lab *lab, const matrix *m, const nb_source *s, nb_error *err)
{
    static const way nf4 = {NULL, "NF4", BNB_NF4};
    double values = 0, before = 32.0 / BLOCK, after = 8.0 / BLOCK + 32.0 / (BLOCK * NEST), plain;
    for (size_t i = 0; i < s->tensor_count; i++)
        if (s->tensors[i].n_dims == 2 && nb_str_starts(s->tensors[i].name, NB_STR("blk.")))
            values += (double)s->tensors[i].dims[0] * (double)nb_source_rows(&s->tensors[i]);
    NB_TRY(quantize(&nf4, m, err));
    NB_TRY(dequantize(&nf4, m, err));
    plain = error_of(m);
    NB_TRY(nest(m, err));
    NB_TRY(dequantize(&nf4, m, err));
    nb_lab_section(lab, "double_quantization", "Double quantization: the scales, quantized");
    nb_lab_say(lab,
               "Each block of %d weights has a scale in F32. Double quantization takes the mean off the scales and "
               "keeps them in 8 "
               "bits, with one F32 scale for %d of them.",
               BLOCK, NEST);
    nb_lab_code(lab, "before: 32 / %d = %.4f bits a weight", BLOCK, before);
    nb_lab_code(lab, "after:  8 / %d + 32 / (%d x %d) = %.4f bits a weight", BLOCK, BLOCK, NEST, after);
    nb_lab_fact(lab, "saved_bits", "saved", NB_LAB_FIXED, 4, before - after, "bits a weight");
    nb_lab_fact(lab, "values", "values in the matrices of this model's layers", NB_LAB_COUNT, 0, values, NULL);
    nb_lab_fact(lab, "saved_bytes", "saved in this model", NB_LAB_BYTES, 0, values * (before - after) / 8, NULL);
    nb_lab_fact(lab, "error", "error of NF4", NB_LAB_DIGITS, 5, plain, NULL);
    nb_lab_fact(lab, "nested_error", "with double quantization", NB_LAB_DIGITS, 5, error_of(m), NULL);
    return NB_OK;
}

/* ---- activations: why weights are the easy part ---- */

static void show_activations(nb_lab *lab, const nb_lab_params *p, const char *path)
{
    nb_lab_reading r;
    nb_error err;
    size_t chosen = 0, matrices = 0, with = 0;
    nb_status status = nb_lab_reading_open(path, p->text ? p->text : nb_lab_default_text, p->threshold, false, &r, &err);
    if (status == NB_OK)
        status = nb_lab_reading_choose(&r, NULL, &chosen, &err);
    nb_lab_section(lab, "activations", "What 8 bits meet in activations");
    if (status != NB_OK) {
        nb_lab_say(lab, "%s cannot be run here (%s), so that there are no activations to look at.",
                   nb_lab_base_name(path), err.message);
    } else {
        const nb_lab_input *in = &r.inputs[chosen];
        size_t column = 0;
        for (size_t i = 0; i < r.count; i++) {
            matrices += r.inputs[i].columns > 0;
            with += r.inputs[i].columns && nb_lab_outliers(&r.inputs[i], p->threshold) > 0;
        }
        for (size_t j = 0; j < in->columns; j++)
            column = in->largest[j] > in->largest[column] ? j : column;
        nb_lab_say(lab,
                   "Weights are tame; activations are not. While %s reads %zu tokens, %zu of %zu matrices meet values "
                   "of %g or more. "
                   "LLM.int8() multiplies those columns in float: see the topic int8.",
                   nb_lab_base_name(path), r.tokens.count, with, matrices, (double)p->threshold);
        nb_lab_fact_text(lab, "tensor", "most regular outliers", "%s", in->name);
        nb_lab_fact(lab, "outlier_columns", "columns with outliers", NB_LAB_COUNT, 0,
                    (double)nb_lab_outliers(in, p->threshold), NULL);
        nb_lab_fact(lab, "columns", "columns in all", NB_LAB_COUNT, 0, (double)in->columns, NULL);
        nb_lab_fact(lab, "column", "column with the largest", NB_LAB_COUNT, 0, (double)column, NULL);
        nb_lab_fact(lab, "largest", "its largest value", NB_LAB_FIXED, 2, (double)in->largest[column], NULL);
        nb_lab_fact(lab, "past", "past the threshold in", NB_LAB_COUNT, 0, (double)in->past[column], "tokens");
    }
    nb_lab_reading_close(&r);
}

/* ---- the matrix ---- */

static bool fits(const nb_source_tensor *t) { return t->n_dims == 2 && t->dims[0] % 32 == 0 && nb_source_rows(t) >= 2; }

/* --tensor, or ffn_down of the middle layer, or the first matrix of a layer */
static nb_status choose(const nb_source *s, const char *tensor, size_t *out, nb_error *err)
{
    int layers = 0, layer;
    char name[64];
    const nb_source_tensor *t = NULL;
    for (size_t i = 0; i < s->tensor_count; i++) {
        snprintf(name, sizeof name, "%.*s", NB_STR_ARG(s->tensors[i].name));
        if (sscanf(name, "blk.%d.", &layer) == 1 && layer >= layers && layer < 100000)
            layers = layer + 1;
    }
    snprintf(name, sizeof name, "blk.%d.ffn_down.weight", layers / 2);
    t = nb_source_find_tensor(s, nb_str_of(tensor ? tensor : name));
    for (size_t i = 0; i < s->tensor_count && !tensor && (!t || !fits(t)); i++)
        t = fits(&s->tensors[i]) ? &s->tensors[i] : t;
    if (!t)
        return nb_fail(err, NB_ERR_NOT_FOUND, "%s has no matrix '%s'; `nibble inspect --tensors` lists them", s->path,
                       tensor ? tensor : "");
    if (!fits(t))
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "'%.*s' is not a matrix of 2 rows or more whose columns are a multiple of 32",
                       NB_STR_ARG(t->name));
    *out = (size_t)(t - s->tensors);
    return NB_OK;
}

static nb_status load(const nb_source *s, size_t index, matrix *m, nb_error *err)
{
    const nb_source_tensor *t = &s->tensors[index];
    m->stored = t->type;
    m->columns = (size_t)t->dims[0];
    m->all_rows = nb_source_rows(t);
    m->rows = nb_min_size(nb_min_size((size_t)m->all_rows, MOST_ROWS), nb_max_size(2, SAMPLE_VALUES / m->columns));
    m->n = m->rows * m->columns;
    m->x = calloc(3 * m->n + m->n / 32 + m->rows + 64, sizeof *m->x);
    if (!m->x)
        return nb_fail_memory(err, "a matrix", 3 * m->n * sizeof *m->x);
    m->back = m->x + m->n;
    m->codes = (uint8_t *)(m->back + m->n);
    m->absmax = m->back + 2 * m->n;
    return nb_source_floats(s, index, 0, m->rows, m->x, err);
}

static nb_status show(nb_lab *lab, const nb_lab_params *p, const nb_source *s, const char *path, nb_error *err)
{
    matrix m = {0};
    size_t index = 0;
    NB_TRY(choose(s, p->tensor, &index, err));
    m.name = nb_arena_strdup(nb_lab_arena(lab), s->tensors[index].name);
    if (!m.name)
        return nb_fail_memory(err, "a name", s->tensors[index].name.n);
    nb_status status = load(s, index, &m, err);
    if (status == NB_OK)
        status = show_types(lab, &m, path, err);
    if (status == NB_OK)
        status = show_spectrum(lab, &m, err);
    if (status == NB_OK)
        status = show_nf4(lab, &m, (uint64_t)p->seed, err);
    if (status == NB_OK)
        status = show_nesting(lab, &m, s, err);
    if (status == NB_OK)
        status = show_compute(lab, &m, (uint64_t)p->seed, err);
    free(m.x);
    return status;
}

nb_status nb_lab_quant(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    char path[1024], writer[1024];
    nb_source *s;
    if (!(p->threshold > 0) || !isfinite(p->threshold))
        return nb_fail(err, NB_ERR_ARGUMENT, "--threshold %g: give a number above zero", (double)p->threshold);
    NB_TRY(nb_lab_find_model(p, NB_LAB_WEIGHTS, path, err));
    NB_TRY(nb_source_open(path, &s, err));
    nb_status status = show(lab, p, s, path, err);
    nb_source_free(s);
    if (status == NB_OK && nb_lab_find_model(p, NB_LAB_WRITER, writer, NULL) == NB_OK)
        show_activations(lab, p, writer);
    return status;
}
