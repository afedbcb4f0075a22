/* linear: scale and zero point, step by step; how many scales a matrix should have; what an outlier does; packing; a layer. */
#include <stdio.h>
#include <stdlib.h>

#include "lab/lab_model.h"

enum { MAX_SIDE = 8, ROWS = 16, COLUMNS = 64, VALUES = ROWS * COLUMNS, TOKENS = 32, GROUP = 16 };

typedef struct small { /* the matrix that is worked through */
    float x[MAX_SIDE * MAX_SIDE];
    size_t rows, columns;
} small;

typedef struct result { /* of quantizing a matrix and back */
    float scale[VALUES], offset[VALUES], back[VALUES];
    int8_t codes[VALUES];
    size_t scales;
} result;

static nb_status apply(const nb_linear_params *p, const float *x, size_t rows, size_t columns, result *r, nb_error *err)
{
    r->scales = nb_linear_scales(p, rows, columns);
    NB_TRY(nb_linear_quantize(p, x, rows, columns, r->codes, r->scale, r->offset, err));
    return nb_linear_dequantize(p, r->codes, r->scale, r->offset, rows, columns, r->back, err);
}

/* Root mean square of the errors relative to that of the values; skip: a value that does not count (n: none). */
static double relative_error(const float *x, const float *back, size_t n, size_t skip)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == skip)
            continue;
        error += ((double)back[i] - (double)x[i]) * ((double)back[i] - (double)x[i]);
        norm += (double)x[i] * (double)x[i];
    }
    return norm > 0 ? sqrt(error / norm) : 0;
}

static double mean_square(const float *x, const float *back, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)back[i] - (double)x[i]) * ((double)back[i] - (double)x[i]);
    return sum / (double)n;
}

static double largest_error(const float *x, const float *back, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)back[i] - (double)x[i]));
    return most;
}

static void range_of(const float *x, size_t n, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (size_t i = 0; i < n; i++) {
        *lo = fminf(*lo, x[i]);
        *hi = fmaxf(*hi, x[i]);
    }
}

/* ---- the matrix: "1 2 3; 4 5 6" ---- */

/* The numbers of one row, up to ';' or the end; returns how many, 0 when it is none. */
static size_t parse_row(const char **text, float *row)
{
    size_t n = 0;
    const char *p = *text;
    for (;;) {
        char *end;
        p += strspn(p, " ,");
        if (*p == ';' || *p == '\0')
            break;
        float value = strtof(p, &end);
        if (end == p || n == MAX_SIDE || !isfinite(value))
            return 0;
        row[n++] = value;
        p = end;
    }
    *text = p;
    return n;
}

static nb_status parse(const char *text, small *m, nb_error *err)
{
    const char *p = text;
    *m = (small){0};
    for (bool more = true; more && m->rows < MAX_SIDE; more = *p++ == ';') {
        float row[MAX_SIDE];
        size_t n = parse_row(&p, row);
        if (n == 0 || (m->rows > 0 && n != m->columns)) {
            m->rows = 0;
            break;
        }
        memcpy(m->x + m->rows++ * n, row, n * sizeof *row);
        m->columns = n;
    }
    if (m->rows == 0 || p[-1] == ';')
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "--matrix '%s': give rows of equal length, at most %d x %d, as \"1 2.5; -3 4\"", text, MAX_SIDE,
                       MAX_SIDE);
    return NB_OK;
}

/* ---- scale and zero point ---- */

static void put_grid(nb_lab *lab, const char *key, const small *m, const float *values, int digits, const char *caption)
{
    nb_lab_grid g = {.rows = m->rows, .columns = m->columns, .digits = digits};
    nb_lab_grid_add(lab, key, &g, values);
    nb_lab_caption(lab, "%s", caption);
}

static void put_grids(nb_lab *lab, const small *m, const result *r)
{
    float codes[MAX_SIDE * MAX_SIDE], error[MAX_SIDE * MAX_SIDE];
    size_t n = m->rows * m->columns;
    for (size_t i = 0; i < n; i++) {
        codes[i] = (float)r->codes[i];
        error[i] = r->back[i] - m->x[i];
    }
    put_grid(lab, "original", m, m->x, 2, "Original");
    put_grid(lab, "quantized", m, codes, 0, "Quantized: 8-bit codes");
    put_grid(lab, "dequantized", m, r->back, 2, "Dequantized");
    put_grid(lab, "error", m, error, 2, "Error: dequantized - original");
}

static nb_status show_affine(nb_lab *lab, const small *m, nb_error *err)
{
    nb_linear_params p = {NB_LINEAR_INT8, NB_LINEAR_AFFINE, NB_LINEAR_TENSOR, 0};
    int low, high;
    float lo, hi;
    result r;
    size_t n = m->rows * m->columns;
    range_of(m->x, n, &lo, &hi);
    NB_TRY(nb_linear_limits(p.code, p.form, &low, &high, err));
    NB_TRY(apply(&p, m->x, m->rows, m->columns, &r, err));
    double s = (double)r.scale[0];
    nb_lab_section(lab, "affine", "Scale and zero point, from r_min and r_max");
    nb_lab_say(lab,
               "Linear quantization maps the range of the values to the range of the codes along a straight line: "
               "r = s (q - z). At the two ends r_min = s (q_min - z) and r_max = s (q_max - z). The difference of the "
               "two gives the scale; the first gives the zero point, a code, so it is rounded.");
    nb_lab_code(lab, "s = (r_max - r_min) / (q_max - q_min)");
    nb_lab_code(lab, "  = (%.6g - %.6g) / (%d - %d) = %.8g", (double)hi, (double)lo, high, low, s);
    nb_lab_code(lab, "z = round(q_min - r_min / s)");
    nb_lab_code(lab, "  = round(%d - %.6g / %.6g) = round(%.4f) = %.0f", low, (double)lo, s, low - (double)lo / s,
                (double)r.offset[0]);
    nb_lab_code(lab, "q = round(r / s) + z, clamped to %d .. %d", low, high);
    nb_lab_fact(lab, "r_min", "smallest value, r_min", NB_LAB_DIGITS, 6, (double)lo, NULL);
    nb_lab_fact(lab, "r_max", "largest value, r_max", NB_LAB_DIGITS, 6, (double)hi, NULL);
    nb_lab_fact(lab, "scale", "scale s", NB_LAB_DIGITS, 8, s, NULL);
    nb_lab_fact(lab, "zero_point", "zero point z", NB_LAB_COUNT, 0, (double)r.offset[0], NULL);
    nb_lab_fact(lab, "mean_square_error", "mean squared error", NB_LAB_DIGITS, 5, mean_square(m->x, r.back, n), NULL);
    put_grids(lab, m, &r);
    nb_lab_say(
        lab,
        "Rounding is off by half a scale at most: the colors of the error are a pattern without a shape. (Where an "
        "end of the range is clamped, because z was rounded, it is a little more.)");
    return NB_OK;
}

static nb_status show_symmetric(nb_lab *lab, const small *m, nb_error *err)
{
    nb_linear_params p = {NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, NB_LINEAR_TENSOR, 0};
    int low, high;
    result r;
    size_t n = m->rows * m->columns;
    NB_TRY(nb_linear_limits(p.code, p.form, &low, &high, err));
    NB_TRY(apply(&p, m->x, m->rows, m->columns, &r, err));
    double s = (double)r.scale[0];
    nb_lab_section(lab, "symmetric", "Symmetric: no zero point");
    nb_lab_say(lab,
               "With z = 0 zero stays zero exactly, and products of codes need no correction: that is why fast integer "
               "arithmetic wants it. Where the values lean to one side, codes of the other side are never used.");
    nb_lab_code(lab, "s = max |r| / q_max = %.6g / %d = %.8g", s * high, high, s);
    nb_lab_fact(lab, "scale", "scale s", NB_LAB_DIGITS, 8, s, NULL);
    nb_lab_fact(lab, "mean_square_error", "mean squared error", NB_LAB_DIGITS, 5, mean_square(m->x, r.back, n), NULL);
    put_grids(lab, m, &r);
    return NB_OK;
}

/* ---- 8, 4, 2 bits ---- */

static nb_status show_bits(nb_lab *lab, const small *m, nb_error *err)
{
    static const nb_lab_column columns[] = {{"bits", "bits", NB_LAB_COUNT, 0},
                                            {"form", "form", NB_LAB_TEXT, 0},
                                            {"scale", "scale", NB_LAB_DIGITS, 6},
                                            {"zero_point", "zero", NB_LAB_COUNT, 0},
                                            {"largest_error", "largest error", NB_LAB_DIGITS, 4},
                                            {"mean_square_error", "mean squared error", NB_LAB_DIGITS, 5}};
    static const nb_linear_code codes[] = {NB_LINEAR_INT8, NB_LINEAR_INT4, NB_LINEAR_INT2};
    size_t n = m->rows * m->columns;
    result r;
    nb_lab_section(lab, "bits", "8, 4 and 2 bits");
    nb_lab_say(lab, "Each bit less doubles the scale, and with it every error: 4 bits have 16 codes, 2 bits have 4.");
    nb_lab_table *t = nb_lab_table_begin(lab, "bits", columns, 6);
    for (size_t i = 0; i < 3; i++)
        for (int form = NB_LINEAR_SYMMETRIC; form <= NB_LINEAR_AFFINE; form++) {
            nb_linear_params p = {codes[i], (nb_linear_form)form, NB_LINEAR_TENSOR, 0};
            NB_TRY(apply(&p, m->x, m->rows, m->columns, &r, err));
            nb_lab_cell(t, nb_linear_bits(codes[i]));
            nb_lab_cell_text(t, form == NB_LINEAR_AFFINE ? "affine" : "symmetric");
            nb_lab_cell(t, (double)r.scale[0]);
            nb_lab_cell(t, form == NB_LINEAR_AFFINE ? (double)r.offset[0] : 0);
            nb_lab_cell(t, largest_error(m->x, r.back, n));
            nb_lab_cell(t, mean_square(m->x, r.back, n));
        }
    return NB_OK;
}

/* ---- how many scales ---- */

typedef struct grain {
    const char *name;
    nb_linear_axis axis;
    size_t group;
} grain;

static const grain grains[] = {{"tensor", NB_LINEAR_TENSOR, 0},
                               {"column", NB_LINEAR_COLUMN, 0},
                               {"row", NB_LINEAR_ROW, 0},
                               {"group of 32", NB_LINEAR_ROW, 32},
                               {"group of 16", NB_LINEAR_ROW, GROUP}};
enum { GRAINS = sizeof grains / sizeof *grains };

/* Rows (outputs) of very different sizes, as real layers have them. */
static void make_matrix(float *x, uint64_t seed)
{
    nb_rng r;
    nb_rng_seed(&r, seed);
    for (size_t i = 0; i < ROWS; i++) {
        double size = pow(10, -1 + 2 * nb_rng_unit(&r));
        for (size_t j = 0; j < COLUMNS; j++)
            x[i * COLUMNS + j] = (float)(size * nb_lab_normal(&r));
    }
}

static nb_status draw_errors(nb_lab *lab, const float *x, const grain *g, const char *key, nb_error *err)
{
    nb_linear_params p = {NB_LINEAR_INT4, NB_LINEAR_SYMMETRIC, g->axis, g->group};
    float shares[VALUES];
    result r;
    NB_TRY(apply(&p, x, ROWS, COLUMNS, &r, err));
    for (size_t i = 0; i < ROWS; i++) {
        double norm = 0;
        for (size_t j = 0; j < COLUMNS; j++)
            norm += (double)x[i * COLUMNS + j] * (double)x[i * COLUMNS + j] / COLUMNS;
        for (size_t j = 0; j < COLUMNS; j++)
            shares[i * COLUMNS + j] = (float)(fabs((double)r.back[i * COLUMNS + j] - (double)x[i * COLUMNS + j]) /
                                              sqrt(norm));
    }
    nb_lab_grid grid = {.rows = ROWS,
                        .columns = COLUMNS,
                        .row_label = "row (output)",
                        .column_label = "column (input)",
                        .limit = 1,
                        .from_zero = true,
                        .digits = -1};
    nb_lab_grid_add(lab, key, &grid, shares);
    nb_lab_caption(lab, "4 bits, a scale a %s: the error of each value, relative to its row's size", g->name);
    return NB_OK;
}

static nb_status show_grains(nb_lab *lab, const float *x, nb_error *err)
{
    static const nb_lab_column columns[] = {{"scales_for", "a scale for each", NB_LAB_TEXT, 0},
                                            {"scales", "scales", NB_LAB_COUNT, 0},
                                            {"extra_bits", "bits added", NB_LAB_FIXED, 3},
                                            {"error_8", "error, 8 bits", NB_LAB_DIGITS, 3},
                                            {"error_4", "4 bits", NB_LAB_DIGITS, 3},
                                            {"error_2", "2 bits", NB_LAB_DIGITS, 3}};
    static const nb_linear_code codes[] = {NB_LINEAR_INT8, NB_LINEAR_INT4, NB_LINEAR_INT2};
    static const char *const series[] = {"8 bits", "4 bits", "2 bits"};
    const char *names[GRAINS];
    double at[GRAINS], errors[3][GRAINS];
    result r;
    nb_lab_section(lab, "granularity", "Per tensor, per channel, per group");
    nb_lab_say(lab,
               "A random %d x %d matrix whose rows have sizes from 0.1 to 10. One scale for all of it is made for the "
               "largest row, and small rows are rounded to a few codes. A scale a row (an output channel) fits each; a "
               "scale a group of a row fits better still and costs more bits. Error: root mean square, each row "
               "relative to its own size.",
               ROWS, COLUMNS);
    nb_lab_table *t = nb_lab_table_begin(lab, "granularity", columns, 6);
    for (size_t g = 0; g < GRAINS; g++) {
        names[g] = grains[g].name;
        at[g] = (double)g;
        for (size_t c = 0; c < 3; c++) {
            nb_linear_params p = {codes[c], NB_LINEAR_SYMMETRIC, grains[g].axis, grains[g].group};
            NB_TRY(apply(&p, x, ROWS, COLUMNS, &r, err));
            double sum = 0;
            for (size_t i = 0; i < ROWS; i++)
                sum += pow(relative_error(x + i * COLUMNS, r.back + i * COLUMNS, COLUMNS, COLUMNS), 2);
            errors[c][g] = sqrt(sum / ROWS);
        }
        nb_lab_cell_text(t, "%s", names[g]);
        nb_lab_cell(t, (double)r.scales);
        nb_lab_cell(t, 16.0 * (double)r.scales / VALUES);
        for (size_t c = 0; c < 3; c++)
            nb_lab_cell(t, errors[c][g]);
    }
    nb_lab_chart *chart = nb_lab_chart_begin(
        lab, "errors", (nb_lab_axis){.label = "a scale for each", .names = names, .name_count = GRAINS},
        (nb_lab_axis){.label = "relative error", .log = true});
    nb_lab_caption(lab, "More scales, less error; the same for every number of bits");
    for (size_t c = 0; c < 3; c++)
        nb_lab_series(chart, series[c], NB_LAB_LINE, at, errors[c], GRAINS);
    NB_TRY(draw_errors(lab, x, &grains[0], "error_tensor", err));
    return draw_errors(lab, x, &grains[2], "error_row", err);
}

/* ---- an outlier ---- */

static nb_status show_outlier(nb_lab *lab, uint64_t seed, nb_error *err)
{
    static const double sizes[] = {1, 3, 10, 30, 100, 300};
    enum { SIZES = sizeof sizes / sizeof *sizes, WAYS = 3 };
    static const grain *const ways[WAYS] = {&grains[0], &grains[2], &grains[4]};
    static const nb_lab_column columns[] = {{"outlier", "outlier", NB_LAB_COUNT, 0},
                                            {"scale", "scale", NB_LAB_DIGITS, 4},
                                            {"error_tensor", "error: per tensor", NB_LAB_DIGITS, 3},
                                            {"error_row", "per row", NB_LAB_DIGITS, 3},
                                            {"error_group", "per group of 16", NB_LAB_DIGITS, 3}};
    float x[VALUES];
    double errors[WAYS][SIZES];
    nb_rng rng;
    nb_rng_seed(&rng, seed + 1);
    for (size_t i = 0; i < VALUES; i++)
        x[i] = (float)nb_lab_normal(&rng);
    const size_t spot = 5 * COLUMNS + 7;
    nb_lab_section(lab, "outlier", "What one outlier does");
    nb_lab_say(
        lab,
        "%d values from the normal distribution in 8 bits, and one value that grows. The scale grows with it, and "
        "everybody who shares that scale pays. The error is that of all other values.",
        VALUES);
    nb_lab_table *t = nb_lab_table_begin(lab, "outliers", columns, 5);
    for (size_t k = 0; k < SIZES; k++) {
        result r;
        double scale = 0;
        x[spot] = (float)sizes[k];
        for (size_t w = 0; w < WAYS; w++) {
            nb_linear_params p = {NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, ways[w]->axis, ways[w]->group};
            NB_TRY(apply(&p, x, ROWS, COLUMNS, &r, err));
            errors[w][k] = relative_error(x, r.back, VALUES, spot);
            scale = w == 0 ? (double)r.scale[0] : scale;
        }
        nb_lab_cell(t, sizes[k]);
        nb_lab_cell(t, scale);
        for (size_t w = 0; w < WAYS; w++)
            nb_lab_cell(t, errors[w][k]);
    }
    nb_lab_chart *c = nb_lab_chart_begin(lab, "outliers",
                                         (nb_lab_axis){.label = "size of the outlier (others: 1)", .log = true},
                                         (nb_lab_axis){.label = "relative error of the others", .log = true});
    nb_lab_caption(lab, "A scale for fewer values keeps the damage in one place");
    nb_lab_series(c, "per tensor", NB_LAB_LINE, sizes, errors[0], SIZES);
    nb_lab_series(c, "per row", NB_LAB_LINE, sizes, errors[1], SIZES);
    nb_lab_series(c, "per group of 16", NB_LAB_LINE, sizes, errors[2], SIZES);
    return NB_OK;
}

/* ---- packing ---- */

static void bits_of_byte(unsigned byte, char text[9])
{
    for (int b = 0; b < 8; b++)
        text[b] = byte >> (7 - b) & 1 ? '1' : '0';
    text[8] = '\0';
}

static nb_status show_packed(nb_lab *lab, nb_lab_boxes *boxes, const int8_t *codes, size_t n, int bits, nb_error *err)
{
    uint8_t packed[4];
    int8_t back[8];
    char text[64], line[128], binary[9];
    int at = 0, out = 0;
    size_t bytes = (n * (size_t)bits + 7) / 8;
    NB_TRY(nb_linear_pack(codes, n, bits, packed, err));
    NB_TRY(nb_linear_unpack(packed, n, bits, false, back, err));
    for (size_t i = 0; i < n; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%d", i ? " " : "", codes[i]);
    for (size_t i = 0; i < bytes; i++) {
        bits_of_byte(packed[i], binary);
        out += snprintf(line + out, sizeof line - (size_t)out, "%s%s = %u", i ? ", " : "", binary, packed[i]);
        nb_lab_boxes_row(boxes, i == 0 ? text : "", binary, bits == 2 ? "33221100" : "11110000", NULL);
    }
    nb_lab_code(lab, "%d bits: %s  ->  %s", bits, text, line);
    if (memcmp(back, codes, n) != 0)
        return nb_fail(err, NB_ERR_INTERNAL, "packed codes did not come back");
    return NB_OK;
}

static nb_status show_packing(nb_lab *lab, nb_error *err)
{
    static const int8_t two[] = {1, 0, 3, 2}, four[] = {9, 4, 15, 0};
    nb_lab_section(lab, "packing", "Packing 2 and 4 bits into bytes");
    nb_lab_say(lab,
               "Memory comes in bytes. Four 2-bit codes, or two 4-bit codes, share one: the first in its lowest bits. "
               "Unpacking is a shift and a mask.");
    nb_lab_boxes *b = nb_lab_boxes_begin(lab, "packed");
    NB_TRY(show_packed(lab, b, two, 4, 2, err));
    return show_packed(lab, b, four, 4, 4, err);
}

/* ---- a layer ---- */

typedef struct way {
    const char *name;
    nb_linear_params params;
    nb_linear_activation activation;
} way;

static nb_status run_layer(const way *w, const float *x, const float *tokens, const float *bias, float scale, result *r,
                           float *y, nb_error *err)
{
    NB_TRY(apply(&w->params, x, ROWS, COLUMNS, r, err));
    nb_linear_weight weight = {w->params, r->codes, r->scale, r->offset, ROWS, COLUMNS};
    return nb_linear_forward(&weight, tokens, TOKENS, bias, w->activation, scale, y, err);
}

static nb_status show_layer(nb_lab *lab, const float *x, uint64_t seed, nb_error *err)
{
    static const way ways[] = {
        {"W8A32", {NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, NB_LINEAR_ROW, 0}, NB_LINEAR_A32},
        {"W8A16", {NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, NB_LINEAR_ROW, 0}, NB_LINEAR_A16},
        {"W8A8 dynamic", {NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, NB_LINEAR_ROW, 0}, NB_LINEAR_A8_DYNAMIC},
        {"W8A8 static", {NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, NB_LINEAR_ROW, 0}, NB_LINEAR_A8_STATIC},
        {"W4A32, groups of 16", {NB_LINEAR_INT4, NB_LINEAR_AFFINE, NB_LINEAR_ROW, GROUP}, NB_LINEAR_A32},
        {"W2A32, groups of 16", {NB_LINEAR_INT2, NB_LINEAR_AFFINE, NB_LINEAR_ROW, GROUP}, NB_LINEAR_A32}};
    static const nb_lab_column columns[] = {{"layer", "layer", NB_LAB_TEXT, 0},
                                            {"bytes", "weights and scales", NB_LAB_BYTES, 0},
                                            {"error", "error of the output", NB_LAB_DIGITS, 3}};
    float tokens[TOKENS * COLUMNS], bias[ROWS], exact[TOKENS * ROWS], y[TOKENS * ROWS], most = 0;
    result r;
    nb_rng rng;
    nb_rng_seed(&rng, seed + 2);
    for (size_t i = 0; i < TOKENS * COLUMNS; i++) {
        tokens[i] = (float)nb_lab_normal(&rng);
        most = fmaxf(most, fabsf(tokens[i]));
    }
    for (size_t i = 0; i < ROWS; i++)
        bias[i] = (float)nb_lab_normal(&rng);
    for (size_t i = 0; i < TOKENS * ROWS; i++) {
        double sum = (double)bias[i % ROWS];
        for (size_t j = 0; j < COLUMNS; j++)
            sum += (double)tokens[i / ROWS * COLUMNS + j] * (double)x[i % ROWS * COLUMNS + j];
        exact[i] = (float)sum;
    }
    nb_lab_section(lab, "layer", "A linear layer with quantized weights");
    nb_lab_say(lab,
               "W8A32 keeps weights in 8 bits and activations in 32: codes are turned to floats, multiplied, and each "
               "output is "
               "scaled. W8A8 rounds activations too, to a scale a token (dynamic) or one for all (static), and adds "
               "products as whole numbers. The same %d x %d matrix, %d tokens, against F64.",
               ROWS, COLUMNS, TOKENS);
    nb_lab_table *t = nb_lab_table_begin(lab, "layers", columns, 3);
    nb_lab_cell_text(t, "W32A32");
    nb_lab_cell(t, 4.0 * VALUES);
    nb_lab_cell(t, 0);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        NB_TRY(run_layer(&ways[i], x, tokens, bias, most / 127, &r, y, err));
        size_t numbers = ways[i].params.form == NB_LINEAR_AFFINE ? 2 : 1; /* zero points beside scales */
        nb_lab_cell_text(t, "%s", ways[i].name);
        nb_lab_cell(t, VALUES * nb_linear_bits(ways[i].params.code) / 8.0 + 4.0 * (double)(r.scales * numbers));
        nb_lab_cell(t, relative_error(exact, y, TOKENS * ROWS, TOKENS * ROWS));
    }
    nb_lab_caption(lab, "Scales and zero points are counted as F32");
    return NB_OK;
}

nb_status nb_lab_linear(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    small m;
    float x[VALUES];
    NB_TRY(parse(p->matrix ? p->matrix : "191.6 -13.5 728.6; 92.14 295.5 -184; 0 684.6 245.5", &m, err));
    make_matrix(x, (uint64_t)p->seed);
    NB_TRY(show_affine(lab, &m, err));
    NB_TRY(show_symmetric(lab, &m, err));
    NB_TRY(show_bits(lab, &m, err));
    NB_TRY(show_grains(lab, x, err));
    NB_TRY(show_outlier(lab, (uint64_t)p->seed, err));
    NB_TRY(show_packing(lab, err));
    return show_layer(lab, x, (uint64_t)p->seed, err);
}
