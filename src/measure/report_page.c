/* The page of a report: tables and figures of what was measured. */
#include "measure/report_page.h"

#include <math.h>
#include <stdio.h>

#include "draw/page.h"

enum { WIDE = 860, HIGH = 400, MAX_FILES = 24, MAX_LAYERS = 512, MAX_KINDS = NB_TICKS };

static bool has_text(const nb_report *r) { return r->params->text.p != NULL; }
static double megabytes(uint64_t bytes) { return (double)bytes / 1e6; }
static double bits(const nb_report_file *f)
{
    uint64_t bytes = f->directory ? f->file_bytes : f->loss.bytes;
    return f->loss.values ? (double)bytes * 8 / (double)f->loss.values : 0;
}
static size_t files_of(const nb_report *r) { return nb_min_size(r->params->count, MAX_FILES); }

static void legend(const nb_report *r, nb_buf *b)
{
    const char *names[MAX_FILES];
    for (size_t i = 0; i < files_of(r); i++)
        names[i] = r->files[i].name;
    nb_legend(b, names, files_of(r));
}

static void widen(double value, double *lo, double *hi)
{
    if (value > 0 && isfinite(value)) {
        *lo = fmin(*lo, value);
        *hi = fmax(*hi, value);
    }
}

/* ---- what each file costs ---- */

static void put_divergence(nb_buf *b, const nb_evaluation *e)
{
    nb_page_number(b, "%.4g ± %.2g", e->kl_mean, e->kl_error);
    nb_page_number(b, "%.3g", e->kl_99);
    nb_page_number(b, "%.4f ± %.4f", e->ratio, e->ratio_error);
    nb_page_number(b, "%.2f", 100 * e->same_top);
    nb_page_number(b, "%.2f", 100 * e->agree[NB_AGREE_KS - 1]);
    nb_page_number(b, "%.2f", 100 * e->probability_rms);
}

static void put_row(const nb_report *r, nb_buf *b, size_t i)
{
    const nb_report_file *f = &r->files[i];
    nb_page_row_begin(b);
    nb_page_cell(b, "%s", f->name);
    nb_page_number(b, "%.1f", megabytes(f->file_bytes));
    nb_page_number(b, "%.3f", bits(f));
    nb_page_number(b, "%.3g", nb_loss_relative(&f->loss, NB_LOSS_ALL_LAYERS, (nb_str){0}, false));
    if (r->params->weights)
        nb_page_number(b, "%.3g", nb_loss_relative(&f->loss, NB_LOSS_ALL_LAYERS, (nb_str){0}, true));
    if (has_text(r))
        put_divergence(b, &f->found);
    nb_page_cell(b, "%s", nb_report_on_frontier(r, i) ? "yes" : "no");
    nb_page_row_end(b);
}

static void cost_table(const nb_report *r, nb_buf *b)
{
    const char *heads[16] = {"file", "size, MB", "bits a weight", "error of the weights"};
    size_t n = 4;
    if (r->params->weights)
        heads[n++] = "the same, by importance";
    if (has_text(r)) {
        static const char *const more[] = {"KL divergence, nats", "its 99 % quantile", "ratio of perplexities",
                                           "same top token, %",   "top 10 kept, %",    "RMS change in p, %"};
        for (size_t i = 0; i < 6; i++)
            heads[n++] = more[i];
    }
    heads[n++] = "frontier";
    nb_page_table_begin(b, heads, n);
    for (size_t i = 0; i < r->params->count; i++)
        put_row(r, b, i);
    nb_page_table_end(b);
}

static void introduction(const nb_report *r, nb_buf *b)
{
    char title[256];
    nb_str base = nb_report_name(r->params->base);
    snprintf(title, sizeof title, "What quantizing %.*s costs", NB_STR_ARG(base));
    nb_page_begin(b, title);
    nb_page_paragraph(b, "The source is %.*s: %.1f MB. Beside it %zu %s.", NB_STR_ARG(base), megabytes(r->base_bytes),
                      r->params->count, r->params->count == 1 ? "quantized file" : "quantized files");
    if (has_text(r))
        nb_page_paragraph(
            b,
            "The Kullback-Leibler divergence says how far a file's predictions are from the source's, in nats "
            "a token: 0 is the same. Measured on %zu tokens of %s, the second halves of %zu window%s of %zu; "
            "± is a standard error. The source's own perplexity there is %.4f.",
            r->files[0].found.scored, r->params->text_name, r->files[0].found.windows,
            r->files[0].found.windows == 1 ? "" : "s", r->params->window, r->files[0].found.base_perplexity);
    else
        nb_page_paragraph(b, "Without a text only the weights are compared, not what the models predict.");
    cost_table(r, b);
    nb_page_paragraph(
        b,
        "Error of the weights: squared differences of all matrices over the squares of the source's%s. Top 10 "
        "kept: the share of the source's ten likeliest tokens that are among the file's ten.",
        r->params->weights ? "; by importance: each column weighed by the importance matrix" : "");
}

/* ---- size against loss ---- */

static void draw_frontier(const nb_report *r, nb_chart *c)
{
    double x[MAX_FILES], y[MAX_FILES];
    size_t n = 0;
    for (size_t i = 0; i < files_of(r); i++) {
        if (!nb_report_on_frontier(r, i))
            continue;
        double size = megabytes(r->files[i].file_bytes);
        size_t at = n++;
        for (; at > 0 && x[at - 1] > size; at--) {
            x[at] = x[at - 1];
            y[at] = y[at - 1];
        }
        x[at] = size;
        y[at] = nb_report_loss(r, &r->files[i]);
    }
    nb_chart_steps(c, x, y, n);
}

static void frontier(const nb_report *r, nb_buf *b)
{
    nb_chart c;
    double lo = INFINITY, hi = 0, least = INFINITY, most = 0;
    for (size_t i = 0; i < files_of(r); i++) {
        widen(nb_report_loss(r, &r->files[i]), &lo, &hi);
        widen(megabytes(r->files[i].file_bytes), &least, &most);
    }
    nb_page_section(b, "Size against loss");
    nb_page_figure_begin(b);
    double room = fmax(0.04 * (most - least), 0.01 * most);
    nb_chart_begin(
        &c, b, "Size of each file against its loss", WIDE, HIGH,
        nb_axis_linear("size of the file, MB", least - room, most + room),
        nb_axis_log(has_text(r) ? "mean KL divergence, nats a token" : "relative squared error", lo * 0.9, hi * 1.1));
    draw_frontier(r, &c);
    for (size_t i = 0; i < files_of(r); i++) {
        char hint[160];
        const nb_report_file *f = &r->files[i];
        snprintf(hint, sizeof hint, "%s: %.1f MB, %.5g", f->name, megabytes(f->file_bytes), nb_report_loss(r, f));
        nb_chart_point(&c, megabytes(f->file_bytes), nb_report_loss(r, f), i, hint);
    }
    for (size_t i = 0; i < files_of(r); i++)
        nb_chart_label(&c, megabytes(r->files[i].file_bytes), nb_report_loss(r, &r->files[i]), r->files[i].name);
    nb_chart_end(&c);
    nb_page_figure_end(
        b, "Lower and further left is better. The dashed line is the frontier: for a file above it there is "
           "another that is no larger and loses no more.");
}

/* ---- types ---- */

static void type_row(nb_buf *b, const char *name, const nb_loss *l, const nb_type_info *type)
{
    uint64_t tensors = 0, values = 0, bytes = 0, all = 0;
    for (size_t i = 0; i < l->count; i++) {
        bool same = l->tensors[i].type == type;
        tensors += same;
        values += same ? l->tensors[i].values : 0;
        bytes += same ? l->tensors[i].bytes : 0;
        all += l->tensors[i].bytes;
    }
    nb_page_row_begin(b);
    nb_page_cell(b, "%s", name);
    nb_page_cell(b, "%s", type->name);
    nb_page_number(b, "%llu", (unsigned long long)tensors);
    nb_page_number(b, "%.2f", (double)values / 1e6);
    nb_page_number(b, "%.1f", megabytes(bytes));
    nb_page_number(b, "%.1f", 100 * (double)bytes / (double)all);
    nb_page_number(b, "%.3f", (double)bytes * 8 / (double)values);
    nb_page_row_end(b);
}

static void types(const nb_report *r, nb_buf *b)
{
    static const char *const heads[] = {"file", "type", "matrices", "million values", "MB", "share, %", "bits a value"};
    bool directories = false;
    for (size_t f = 0; f < r->params->count; f++)
        directories |= r->files[f].directory;
    nb_page_section(b, "What the files are made of");
    if (directories)
        nb_page_paragraph(b,
                          "The matrices of a directory are shown as nibble runs them, each block with its own scale.");
    nb_page_table_begin(b, heads, 7);
    for (size_t f = 0; f < r->params->count; f++) {
        const nb_loss *l = &r->files[f].loss;
        const char *name = r->files[f].name;
        for (size_t i = 0; i < l->count; i++) {
            bool seen = false;
            for (size_t j = 0; j < i; j++)
                seen |= l->tensors[j].type == l->tensors[i].type;
            if (seen)
                continue;
            type_row(b, name, l, l->tensors[i].type);
            name = "";
        }
    }
    nb_page_table_end(b);
}

/* ---- loss by layer and by kind ---- */

static size_t layers_of(const nb_report *r)
{
    int most = -1;
    for (size_t i = 0; i < r->files[0].loss.count; i++)
        most = r->files[0].loss.tensors[i].layer > most ? r->files[0].loss.tensors[i].layer : most;
    return nb_min_size((size_t)(most + 1), MAX_LAYERS);
}

static void by_layer(const nb_report *r, nb_buf *b, bool weighted)
{
    nb_chart c;
    double lo = INFINITY, hi = 0, x[MAX_LAYERS], y[MAX_LAYERS];
    size_t layers = layers_of(r);
    for (size_t i = 0; i < files_of(r); i++)
        for (size_t l = 0; l < layers; l++)
            widen(nb_loss_relative(&r->files[i].loss, (int)l, (nb_str){0}, weighted), &lo, &hi);
    if (layers == 0 || hi == 0)
        return;
    nb_page_figure_begin(b);
    legend(r, b);
    nb_chart_begin(&c, b, "Relative squared error of each layer's weights", WIDE, HIGH - 60,
                   nb_axis_linear("layer", 0, (double)(layers > 1 ? layers - 1 : 1)),
                   nb_axis_log("relative squared error", lo, hi));
    for (size_t i = 0; i < files_of(r); i++) {
        for (size_t l = 0; l < layers; l++) {
            x[l] = (double)l;
            y[l] = nb_loss_relative(&r->files[i].loss, (int)l, (nb_str){0}, weighted);
        }
        nb_chart_line(&c, x, y, layers, i);
    }
    nb_chart_end(&c);
    nb_page_figure_end(
        b, "Squared differences of a layer's weights, over the squares of the source's%s.",
        weighted ? "; each column weighed by the importance matrix, so that what is rarely met counts little" : "");
}

static size_t find_kinds(const nb_report *r, nb_str kinds[MAX_KINDS])
{
    size_t n = 0;
    const nb_loss *l = &r->files[0].loss;
    for (size_t i = 0; i < l->count && n < MAX_KINDS; i++) {
        bool seen = false;
        for (size_t j = 0; j < n; j++)
            seen |= nb_str_eq(kinds[j], l->tensors[i].kind);
        if (!seen)
            kinds[n++] = l->tensors[i].kind;
    }
    return n;
}

static void draw_kinds(const nb_report *r, nb_chart *c, const nb_str *kinds, size_t n, bool weighted)
{
    char hint[160];
    for (size_t i = 0; i < files_of(r); i++)
        for (size_t k = 0; k < n; k++) {
            double loss = nb_loss_relative(&r->files[i].loss, NB_LOSS_ALL_LAYERS, kinds[k], weighted);
            double shift = 0.6 * (((double)i + 0.5) / (double)files_of(r) - 0.5);
            snprintf(hint, sizeof hint, "%s, %.*s: %.4g", r->files[i].name, NB_STR_ARG(kinds[k]), loss);
            nb_chart_point(c, (double)k + shift, loss, i, hint);
        }
}

static void by_kind(const nb_report *r, nb_buf *b, bool weighted)
{
    nb_chart c;
    nb_str kinds[MAX_KINDS];
    char text[MAX_KINDS][NB_REPORT_NAME];
    const char *names[MAX_KINDS];
    double lo = INFINITY, hi = 0;
    size_t n = find_kinds(r, kinds);
    for (size_t k = 0; k < n; k++) {
        snprintf(text[k], sizeof text[k], "%.*s", NB_STR_ARG(kinds[k]));
        names[k] = text[k];
        for (size_t i = 0; i < files_of(r); i++)
            widen(nb_loss_relative(&r->files[i].loss, NB_LOSS_ALL_LAYERS, kinds[k], weighted), &lo, &hi);
    }
    if (hi == 0)
        return;
    nb_page_figure_begin(b);
    legend(r, b);
    nb_chart_begin(&c, b, "Relative squared error of each kind of tensor", WIDE, HIGH - 40, nb_axis_names("", names, n),
                   nb_axis_log("relative squared error", lo, hi));
    draw_kinds(r, &c, kinds, n, weighted);
    nb_chart_end(&c);
    nb_page_figure_end(b, "The same by kind of tensor, all layers together%s. A kind without a point lost nothing.",
                       weighted ? ", weighed by the importance matrix (which has no entry for embeddings)" : "");
}

static void where_it_lies(const nb_report *r, nb_buf *b)
{
    nb_page_section(b, "Where the loss lies");
    by_layer(r, b, false);
    by_kind(r, b, false);
    if (!r->params->weights)
        return;
    nb_page_section(b, "Where the loss lies, by importance");
    nb_page_paragraph(b,
                      "Weighed by %s: a column of a matrix counts as much as the squares of what it meets in the text "
                      "that the importance matrix was collected on.",
                      r->params->weights_name);
    by_layer(r, b, true);
    by_kind(r, b, true);
}

/* ---- one tensor ---- */

static void histogram(nb_buf *b, const char *title, const nb_report_values *v, size_t series, const char *caption)
{
    nb_chart c;
    double most = 0;
    for (size_t i = 0; i < NB_REPORT_BINS; i++)
        most = fmax(most, v->bins[i]);
    nb_page_figure_begin(b);
    nb_chart_begin(&c, b, title, 300, 190, nb_axis_linear("value", -v->limit, v->limit),
                   nb_axis_linear("share, %", 0, most));
    nb_chart_bars(&c, -v->limit, v->limit, v->bins, NB_REPORT_BINS, series);
    nb_chart_end(&c);
    nb_page_figure_end(b, "%s", caption);
}

static void patch(const nb_report *r, nb_buf *b, const char *title, const nb_report_values *v, double limit)
{
    nb_page_figure_begin(b);
    nb_heat_map(b, title, v->patch, r->patch_rows, r->patch_columns, limit, 4);
    nb_heat_scale(b, limit, 4 * (double)r->patch_columns - 40);
    nb_page_figure_end(b, "%s", title);
}

static void tensor_row(const nb_report *r, nb_buf *b, size_t i, double limit, double error_limit)
{
    char caption[256];
    const nb_report_file *f = &r->files[i];
    const nb_type_info *type = nb_report_tensor(r, f)->type;
    nb_buf_z(b, "<div class=\"row\">\n");
    snprintf(caption, sizeof caption, "%s (%s): quantized values", f->name, type->name);
    histogram(b, caption, f->values, i, caption);
    snprintf(caption, sizeof caption, "%s: error; root mean square %.3g, %.2f %% of the source's", f->name,
             f->errors->rms, 100 * f->errors->rms / r->original->rms);
    histogram(b, caption, f->errors, i, caption);
    snprintf(caption, sizeof caption, "%s: quantized", f->name);
    patch(r, b, caption, f->values, limit);
    snprintf(caption, sizeof caption, "%s: error", f->name);
    patch(r, b, caption, f->errors, error_limit);
    nb_buf_z(b, "</div>\n");
}

static void one_tensor(const nb_report *r, nb_buf *b)
{
    char caption[256];
    double error_limit = r->files[0].errors->limit, limit = 0.75 * r->original->limit;
    snprintf(caption, sizeof caption, "One tensor: %.*s", NB_STR_ARG(r->tensor));
    nb_page_section(b, caption);
    nb_page_paragraph(
        b,
        "Histograms of %.2f of its %.2f million values, within four root mean squares; heat maps of its first "
        "%zu rows and %zu columns. The scales are the same for all files, so that errors can be compared.",
        (double)r->sampled / 1e6, (double)r->tensor_values / 1e6, r->patch_rows, r->patch_columns);
    nb_buf_z(b, "<div class=\"row\">\n");
    snprintf(caption, sizeof caption, "source (%s): root mean square %.3g",
             nb_source_find_tensor(r->base, r->tensor)->type->name, r->original->rms);
    histogram(b, caption, r->original, 6, caption);
    patch(r, b, "source", r->original, limit);
    nb_buf_z(b, "</div>\n");
    for (size_t i = 0; i < r->params->count; i++)
        tensor_row(r, b, i, limit, error_limit);
}

/* ---- again ---- */

static void again(const nb_report *r, nb_buf *b)
{
    nb_buf code = {0};
    const nb_report_params *p = r->params;
    nb_page_section(b, "How to repeat it");
    nb_page_paragraph(b, "This page:");
    nb_page_code(b, nb_str_of(p->command));
    if (has_text(r)) {
        nb_page_paragraph(b, "The numbers alone, with all quantiles:");
        nb_buf_z(&code, "nibble eval");
        for (size_t i = 0; i < p->count; i++)
            nb_buf_printf(&code, " %s", p->paths[i]);
        nb_buf_printf(&code, " --base %s --text %s --ctx %zu", p->base, p->text_name, p->window);
        if (p->windows)
            nb_buf_printf(&code, " --chunks %zu", p->windows);
        if (p->model.exact)
            nb_buf_z(&code, " --exact");
        nb_page_code(b, nb_buf_view(&code));
        nb_buf_free(&code);
    }
    nb_page_paragraph(b, "Made by nibble %s.", NB_VERSION);
}

void nb_report_page(const nb_report *r, nb_buf *b)
{
    introduction(r, b);
    frontier(r, b);
    types(r, b);
    where_it_lies(r, b);
    one_tensor(r, b);
    again(r, b);
    nb_page_end(b);
}
