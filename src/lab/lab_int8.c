/* int8: LLM.int8() on what a real model's matrix reads: outlier columns, the threshold, plain 8 bits beside the decomposition. */
#include <stdio.h>
#include <stdlib.h>

#include "convert/open.h"
#include "lab/lab_reading.h"
#include "measure/loss.h"

enum { MOST_ROWS = 512, SHOWN_COLUMNS = 8 };

typedef struct layer { /* one linear layer: weights, and what it read */
    const nb_lab_input *in;
    const nb_type_info *stored; /* in the file */
    size_t tokens, rows, columns;
    float *w;     /* [rows][columns] */
    float *exact; /* [tokens][rows] */
    int8_t *codes;
    float *scale;
    float *y;
    float *own; /* memory of all these */
} layer;

static nb_status load(const char *path, layer *l, nb_error *err)
{
    nb_source *s;
    NB_TRY(nb_source_open(path, &s, err));
    const nb_source_tensor *t = nb_source_find_tensor(s, nb_str_of(l->in->name));
    nb_status status = NB_OK;
    if (!t || t->dims[0] != l->in->columns)
        status = nb_fail(err, NB_ERR_NOT_FOUND, "%s: '%s' is not a matrix of its own; choose another with --tensor",
                         path, l->in->name);
    if (status == NB_OK) {
        l->stored = t->type;
        l->columns = l->in->columns;
        l->rows = nb_min_size((size_t)nb_source_rows(t), MOST_ROWS);
        size_t floats = l->rows * l->columns + 2 * l->tokens * l->rows + l->rows;
        l->own = calloc(floats + l->rows * l->columns / 4 + 1, sizeof *l->own);
        if (!l->own)
            status = nb_fail_memory(err, "a layer", floats * sizeof *l->own);
    }
    if (status == NB_OK) {
        l->w = l->own;
        l->exact = l->w + l->rows * l->columns;
        l->y = l->exact + l->tokens * l->rows;
        l->scale = l->y + l->tokens * l->rows;
        l->codes = (int8_t *)(l->scale + l->rows);
        status = nb_source_floats(s, (size_t)(t - s->tensors), 0, l->rows, l->w, err);
    }
    nb_source_free(s);
    return status;
}

static void multiply(const layer *l)
{
    for (size_t i = 0; i < l->tokens; i++)
        for (size_t r = 0; r < l->rows; r++) {
            const float *x = l->in->values + i * l->columns, *w = l->w + r * l->columns;
            double sum = 0;
            for (size_t j = 0; j < l->columns; j++)
                sum += (double)x[j] * (double)w[j];
            l->exact[i * l->rows + r] = (float)sum;
        }
}

/* ---- the layer in 8 bits ---- */

static nb_status run(const layer *l, float threshold, double *error, nb_error *err)
{
    nb_weight_int8 w = {l->codes, l->scale, l->rows, l->columns};
    double sum = 0, norm = 0;
    NB_TRY(nb_linear_int8(&w, l->in->values, l->tokens, NULL, threshold, l->y, NB_FLOAT_F32, NULL, err));
    for (size_t i = 0; i < l->tokens * l->rows; i++) {
        sum += ((double)l->y[i] - (double)l->exact[i]) * ((double)l->y[i] - (double)l->exact[i]);
        norm += (double)l->exact[i] * (double)l->exact[i];
    }
    *error = norm > 0 ? sqrt(sum / norm) : 0;
    return NB_OK;
}

/* Weights in 8 bits, activations in float: what remains when activations cost nothing. */
static nb_status weight_error(const layer *l, double *error, nb_error *err)
{
    float *back = calloc(l->rows * l->columns, sizeof *back);
    double sum = 0, norm = 0;
    if (!back)
        return nb_fail_memory(err, "a layer", l->rows * l->columns * sizeof *back);
    nb_status status = nb_bnb_dequantize_int8(l->codes, l->scale, l->rows, l->columns, back, NB_FLOAT_F32, NULL, err);
    for (size_t i = 0; status == NB_OK && i < l->tokens * l->rows; i++) {
        const float *x = l->in->values + i / l->rows * l->columns, *w = back + i % l->rows * l->columns;
        double y = 0;
        for (size_t j = 0; j < l->columns; j++)
            y += (double)x[j] * (double)w[j];
        sum += (y - (double)l->exact[i]) * (y - (double)l->exact[i]);
        norm += (double)l->exact[i] * (double)l->exact[i];
    }
    free(back);
    *error = norm > 0 ? sqrt(sum / norm) : 0;
    return status;
}

/* ---- what is shown ---- */

static void show_columns(nb_lab *lab, const layer *l)
{
    static const nb_lab_column columns[] = {{"column", "column", NB_LAB_COUNT, 0},
                                            {"largest", "largest |x|", NB_LAB_FIXED, 2},
                                            {"rms", "root mean square", NB_LAB_FIXED, 3},
                                            {"tokens", "tokens past it", NB_LAB_COUNT, 0}};
    const nb_lab_input *in = l->in;
    bool used[1 << 16] = {false};
    nb_lab_table *t = nb_lab_table_begin(lab, "columns", columns, 4);
    for (size_t k = 0; k < SHOWN_COLUMNS && k < l->columns; k++) {
        size_t best = SIZE_MAX;
        double squares = 0;
        for (size_t j = 0; j < l->columns && j < sizeof used; j++)
            if (!used[j] && (best == SIZE_MAX || in->largest[j] > in->largest[best]))
                best = j;
        used[best] = true;
        for (size_t i = 0; i < l->tokens; i++) {
            double v = (double)in->values[i * l->columns + best];
            squares += v * v;
        }
        nb_lab_cell(t, (double)best);
        nb_lab_cell(t, (double)in->largest[best]);
        nb_lab_cell(t, sqrt(squares / (double)l->tokens));
        nb_lab_cell(t, (double)in->past[best]);
    }
    nb_lab_caption(lab, "The columns with the largest values");
}

static void draw_columns(nb_lab *lab, const layer *l, float threshold)
{
    double *x = NB_ARRAY(nb_lab_arena(lab), double, 2 * l->columns), *y = x ? x + l->columns : NULL;
    double level[2] = {(double)threshold, (double)threshold}, ends[2] = {0, (double)l->columns};
    for (size_t j = 0; x && j < l->columns; j++) {
        x[j] = (double)j;
        y[j] = (double)l->in->largest[j];
    }
    if (!x)
        return;
    nb_lab_chart *c = nb_lab_chart_begin(lab, "largest", (nb_lab_axis){.label = "column (input)"},
                                         (nb_lab_axis){.label = "largest |x|"});
    nb_lab_caption(lab, "The largest magnitude in each column of what %s reads", l->in->name);
    nb_lab_series(c, "largest", NB_LAB_STEMS, x, y, l->columns);
    nb_lab_series(c, "threshold", NB_LAB_LINE, ends, level, 2);
}

static void show_input(nb_lab *lab, const nb_lab_reading *r, const layer *l, const char *path, float threshold)
{
    double largest = 0, squares = 0;
    for (size_t i = 0; i < l->tokens * l->columns; i++) {
        largest = fmax(largest, fabs((double)l->in->values[i]));
        squares += (double)l->in->values[i] * (double)l->in->values[i];
    }
    nb_lab_section(lab, "outliers", "Outliers in what a real model computes");
    nb_lab_say(
        lab,
        "The model reads a text; this is what one of its matrices is multiplied with, token by token. Some columns "
        "hold values far larger than all others; the table says in how many tokens. A row of activations in 8 "
        "bits has one scale, made for its largest value: the others are left with few codes.");
    nb_lab_fact_text(lab, "model", "model", "%s", nb_lab_base_name(path));
    nb_lab_fact_text(lab, "tensor", "matrix", "%s", l->in->name);
    nb_lab_fact_text(lab, "stored", "stored as", "%s", l->stored->name);
    nb_lab_fact(lab, "tokens", "tokens read", NB_LAB_COUNT, 0, (double)r->tokens.count, NULL);
    nb_lab_fact(lab, "columns", "columns", NB_LAB_COUNT, 0, (double)l->columns, NULL);
    nb_lab_fact(lab, "threshold", "threshold", NB_LAB_DIGITS, 3, (double)threshold, NULL);
    nb_lab_fact(lab, "outlier_columns", "columns with a value past it", NB_LAB_COUNT, 0,
                (double)nb_lab_outliers(l->in, threshold), NULL);
    nb_lab_fact(lab, "largest", "largest magnitude", NB_LAB_FIXED, 2, largest, NULL);
    nb_lab_fact(lab, "rms", "root mean square of all", NB_LAB_FIXED, 3,
                sqrt(squares / (double)(l->tokens * l->columns)), NULL);
    show_columns(lab, l);
    draw_columns(lab, l, threshold);
}

/* A row a kind of matrix: "attn_q", "ffn_down". */
static void show_kinds(nb_lab *lab, const nb_lab_reading *r, float threshold)
{
    static const nb_lab_column columns[] = {{"kind", "matrices", NB_LAB_TEXT, 0},
                                            {"count", "count", NB_LAB_COUNT, 0},
                                            {"with", "read outliers", NB_LAB_COUNT, 0},
                                            {"most_columns", "in columns, at most", NB_LAB_COUNT, 0},
                                            {"largest", "largest |x|", NB_LAB_FIXED, 2}};
    nb_lab_table *t = nb_lab_table_begin(lab, "kinds", columns, 5);
    for (size_t i = 0; i < r->count; i++) {
        char kind[64], other[64];
        size_t count = 0, with = 0, most = 0;
        double largest = 0;
        bool first = r->inputs[i].columns > 0;
        nb_lab_input_kind(&r->inputs[i], kind);
        for (size_t k = 0; k < r->count && first; k++) {
            const nb_lab_input *in = &r->inputs[k];
            nb_lab_input_kind(in, other);
            if (in->columns == 0 || strcmp(kind, other) != 0)
                continue;
            first = k >= i;
            size_t outliers = nb_lab_outliers(in, threshold);
            count++;
            with += outliers > 0;
            most = nb_max_size(most, outliers);
            for (size_t j = 0; j < in->columns; j++)
                largest = fmax(largest, (double)in->largest[j]);
        }
        if (!first)
            continue;
        nb_lab_cell_text(t, "%s", kind);
        nb_lab_cell(t, (double)count);
        nb_lab_cell(t, (double)with);
        nb_lab_cell(t, (double)most);
        nb_lab_cell(t, largest);
    }
}

static void show_layers(nb_lab *lab, const nb_lab_reading *r, float threshold)
{
    enum { LAYERS = 256 };
    double x[LAYERS], largest[LAYERS] = {0}, share[LAYERS] = {0};
    size_t layers = 0, matrices = 0, with = 0;
    for (size_t i = 0; i < r->count; i++) {
        const nb_lab_input *in = &r->inputs[i];
        if (in->columns == 0 || in->layer >= LAYERS)
            continue;
        size_t outliers = nb_lab_outliers(in, threshold), at = (size_t)in->layer;
        layers = nb_max_size(layers, at + 1);
        matrices++;
        with += outliers > 0;
        for (size_t j = 0; j < in->columns; j++)
            largest[at] = fmax(largest[at], (double)in->largest[j]);
        share[at] = fmax(share[at], 100 * (double)outliers / (double)in->columns);
    }
    for (size_t i = 0; i < layers; i++)
        x[i] = (double)i;
    nb_lab_section(lab, "layers", "Where they are");
    nb_lab_fact(lab, "matrices", "matrices in layers", NB_LAB_COUNT, 0, (double)matrices, NULL);
    nb_lab_fact(lab, "with_outliers", "that read an outlier", NB_LAB_COUNT, 0, (double)with, NULL);
    show_kinds(lab, r, threshold);
    nb_lab_chart *c = nb_lab_chart_begin(lab, "largest", (nb_lab_axis){.label = "layer"},
                                         (nb_lab_axis){.label = "largest |x| read", .log = true});
    nb_lab_caption(lab, "The largest value that any matrix of a layer reads");
    nb_lab_series(c, "largest", NB_LAB_LINE, x, largest, layers);
    c = nb_lab_chart_begin(lab, "share", (nb_lab_axis){.label = "layer"}, (nb_lab_axis){.label = "% of columns"});
    nb_lab_caption(lab, "Columns with an outlier, of the matrix of the layer that has the most");
    nb_lab_series(c, "columns", NB_LAB_LINE, x, share, layers);
}

static nb_status sweep(nb_lab *lab, const layer *l, float threshold, nb_error *err)
{
    static const float thresholds[] = {0, 48, 24, 12, 6, 4, 3, 2, 1};
    enum { COUNT = sizeof thresholds / sizeof *thresholds };
    static const nb_lab_column columns[] = {{"threshold", "threshold", NB_LAB_TEXT, 0},
                                            {"columns", "outlier columns", NB_LAB_COUNT, 0},
                                            {"share", "of all columns", NB_LAB_PERCENT, 2},
                                            {"error", "error of the output", NB_LAB_DIGITS, 3}};
    double own = 0, floor = 0, at[COUNT], errors[COUNT], x[2] = {1, 48};
    NB_TRY(nb_bnb_quantize_int8(l->w, NB_FLOAT_F32, l->rows, l->columns, l->codes, l->scale, NULL, err));
    NB_TRY(weight_error(l, &floor, err));
    NB_TRY(run(l, threshold, &own, err));
    nb_lab_section(lab, "decomposition", "LLM.int8(): the outliers apart");
    nb_lab_say(
        lab,
        "A column with an outlier is left out of the 8-bit product and multiplied in float; both parts are added. "
        "The threshold says what an outlier is: none is plain 8 bits; a low one takes more and more columns out, "
        "which costs time and memory traffic. Below it all is the error of the 8-bit weights alone. Outputs are "
        "compared with F64 products of the matrix as the file has it (%zu of its rows, %zu tokens).",
        l->rows, l->tokens);
    if (l->stored->block_values > 1)
        nb_lab_say(lab,
                   "The weights in this file were rounded to %s before: what is compared is what 8 bits add to that, "
                   "not to the weights that were trained.",
                   l->stored->name);
    nb_lab_table *t = nb_lab_table_begin(lab, "thresholds", columns, 4);
    for (size_t i = 0; i < COUNT; i++) {
        size_t n = thresholds[i] > 0 ? nb_lab_outliers(l->in, thresholds[i]) : 0;
        NB_TRY(run(l, thresholds[i], &errors[i], err));
        at[i] = (double)thresholds[i];
        if (thresholds[i] > 0)
            nb_lab_cell_text(t, "%g", at[i]);
        else
            nb_lab_cell_text(t, "none: plain int8");
        nb_lab_cell(t, (double)n);
        nb_lab_cell(t, (double)n / (double)l->columns);
        nb_lab_cell(t, errors[i]);
    }
    double plain[2] = {errors[0], errors[0]}, weights[2] = {floor, floor};
    nb_lab_fact(lab, "plain_error", "error of plain int8", NB_LAB_DIGITS, 3, errors[0], NULL);
    nb_lab_fact(lab, "decomposed_error", "error decomposed at the threshold", NB_LAB_DIGITS, 3, own, NULL);
    nb_lab_fact(lab, "weight_error", "error of 8-bit weights alone", NB_LAB_DIGITS, 3, floor, NULL);
    nb_lab_chart *c = nb_lab_chart_begin(lab, "error", (nb_lab_axis){.label = "threshold", .log = true},
                                         (nb_lab_axis){.label = "relative error of the output", .log = true});
    nb_lab_caption(lab, "Error against the threshold");
    nb_lab_series(c, "decomposed", NB_LAB_LINE, at + 1, errors + 1, COUNT - 1);
    nb_lab_series(c, "plain int8", NB_LAB_LINE, x, plain, 2);
    nb_lab_series(c, "weights alone", NB_LAB_LINE, x, weights, 2);
    return NB_OK;
}

static nb_status show(nb_lab *lab, nb_lab_reading *r, const nb_lab_params *p, const char *path, nb_error *err)
{
    size_t chosen = 0;
    layer l = {0};
    NB_TRY(nb_lab_reading_choose(r, p->tensor, &chosen, err));
    NB_TRY(nb_lab_reading_keep(r, chosen, err));
    l.in = &r->inputs[chosen];
    l.tokens = r->tokens.count;
    nb_status status = load(path, &l, err);
    if (status == NB_OK) {
        show_input(lab, r, &l, path, p->threshold);
        show_layers(lab, r, p->threshold);
        multiply(&l);
        status = sweep(lab, &l, p->threshold, err);
    }
    free(l.own);
    return status;
}

nb_status nb_lab_int8(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    char path[1024];
    nb_lab_reading r;
    if (!(p->threshold > 0) || !isfinite(p->threshold))
        return nb_fail(err, NB_ERR_ARGUMENT, "--threshold %g: give a number above zero", (double)p->threshold);
    NB_TRY(nb_lab_find_model(p, NB_LAB_WRITER, path, err));
    nb_status status = nb_lab_reading_open(path, p->text ? p->text : nb_lab_default_text, p->threshold, false, &r, err);
    if (status == NB_OK)
        status = show(lab, &r, p, path, err);
    nb_lab_reading_close(&r);
    return status;
}
