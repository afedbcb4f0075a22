/* The pictures of a document: an HTML page of everything, an SVG sheet of its figures. */
#include <math.h>
#include <stdio.h>

#include "draw/figure.h"
#include "draw/page.h"
#include "lab/lab_doc.h"

enum { CHART_WIDTH = 500, CHART_HEIGHT = 300, WIDE = 1000, FEW_POINTS = 60 };

/* ---- charts ---- */

typedef struct range {
    double lo, hi, least; /* least: above zero */
} range;

static void widen(range *r, const double *x, size_t n)
{
    for (size_t i = 0; x && i < n; i++) {
        if (!isfinite(x[i]))
            continue;
        r->lo = fmin(r->lo, x[i]);
        r->hi = fmax(r->hi, x[i]);
        if (x[i] > 0)
            r->least = fmin(r->least, x[i]);
    }
}

static nb_axis make_axis(const nb_lab_axis *a, range r)
{
    if (a->names)
        return nb_axis_names(a->label, a->names, a->name_count);
    if (a->lo < a->hi)
        r = (range){a->lo, a->hi, a->lo};
    return a->log ? nb_axis_log(a->label, r.least, r.hi) : nb_axis_linear(a->label, r.lo, r.hi);
}

static void draw_points(nb_chart *c, const nb_lab_series_content *s, size_t series)
{
    char hint[160], x[32], y[32];
    for (size_t i = 0; i < s->n; i++) {
        nb_axis_format(&c->y, s->y[i], y);
        nb_axis_format(&c->x, s->x[i], x);
        snprintf(hint, sizeof hint, "%.60s: %s, %s", s->labels ? s->labels[i] : s->name, x, y);
        nb_chart_point(c, s->x[i], s->y[i], series, hint);
    }
}

static void draw_series(nb_chart *c, const nb_lab_chart *chart, size_t i, size_t side, size_t sides)
{
    const nb_lab_series_content *s = &chart->series[i];
    switch (s->mark) {
    case NB_LAB_LINE:
        nb_chart_line(c, s->x, s->y, s->n, i);
        if (s->n <= FEW_POINTS)
            draw_points(c, s, i);
        break;
    case NB_LAB_POINTS: draw_points(c, s, i); break;
    case NB_LAB_BARS: nb_chart_columns(c, s->x, s->y, s->n, i, side, sides); break;
    case NB_LAB_HISTOGRAM: nb_chart_bars(c, s->x[0], s->x[s->n], s->y, s->n, i); break;
    case NB_LAB_STEMS:
        nb_chart_stems(c, s->x, s->y, s->n, i);
        if (s->n <= FEW_POINTS)
            draw_points(c, s, i);
        break;
    }
}

static bool stands_on_axis(nb_lab_mark mark) { return mark >= NB_LAB_BARS; }

static nb_size draw_chart(nb_buf *out, const nb_lab_chart *chart, const char *title)
{
    range x = {INFINITY, -INFINITY, INFINITY}, y = x;
    nb_chart c;
    nb_chart_key keys[NB_LAB_SERIES];
    size_t sides = 0, side = 0, labels = 0, names = chart->x.name_count;
    for (size_t i = 0; i < chart->series_count; i++) {
        const nb_lab_series_content *s = &chart->series[i];
        widen(&x, s->x, s->n + (s->mark == NB_LAB_HISTOGRAM));
        widen(&y, s->y, s->n);
        if (stands_on_axis(s->mark))
            y.lo = fmin(y.lo, 0);
        sides += s->mark == NB_LAB_BARS;
        labels += s->labels ? s->n : 0;
        keys[i] = (nb_chart_key){s->name, s->mark == NB_LAB_BARS || s->mark == NB_LAB_HISTOGRAM,
                                 s->mark == NB_LAB_POINTS, s->mark != NB_LAB_POINTS && s->n > FEW_POINTS};
    }
    bool crowded = labels > 10; /* names of points need room */
    nb_size size = {crowded || names > 10 || names * sides > 24 ? WIDE : CHART_WIDTH,
                    crowded ? WIDE / 2 : CHART_HEIGHT};
    nb_chart_begin_keys(&c, out, title, size.width, size.height, make_axis(&chart->x, x), make_axis(&chart->y, y), keys,
                        chart->series_count > 1 ? chart->series_count : 0);
    for (size_t i = 0; i < chart->series_count; i++) {
        draw_series(&c, chart, i, side, sides);
        side += chart->series[i].mark == NB_LAB_BARS;
    }
    for (size_t i = 0; i < chart->series_count; i++)
        for (size_t k = 0; chart->series[i].labels && k < chart->series[i].n; k++)
            nb_chart_label(&c, chart->series[i].x[k], chart->series[i].y[k], chart->series[i].labels[k]);
    nb_chart_end(&c);
    return size;
}

/* ---- other figures ---- */

static nb_size draw_grid(nb_buf *out, const nb_lab_grid_content *c, const char *title)
{
    const nb_lab_grid *g = &c->grid;
    nb_matrix m = {.title = title,
                   .rows = g->rows,
                   .columns = g->columns,
                   .values = c->values,
                   .limit = g->limit,
                   .from_zero = g->from_zero,
                   .digits = g->digits,
                   .row_label = g->row_label,
                   .column_label = g->column_label,
                   .unit = g->unit,
                   .row_names = g->row_names,
                   .column_names = g->column_names};
    return nb_matrix_draw(out, &m, WIDE);
}

static nb_size draw_strokes(nb_buf *out, const nb_lab_strokes *s, const char *title)
{
    range r = {INFINITY, -INFINITY, INFINITY};
    nb_stroke_row rows[NB_LAB_ROWS];
    for (size_t i = 0; i < s->row_count; i++) {
        rows[i] = (nb_stroke_row){s->rows[i].name, s->rows[i].values, s->rows[i].n};
        widen(&r, rows[i].values, rows[i].n);
    }
    return nb_number_line(out, title, make_axis(&s->x, r), rows, s->row_count, WIDE);
}

static nb_size draw_boxes(nb_buf *out, const nb_lab_boxes *b, const char *title)
{
    nb_bit_row rows[NB_LAB_ROWS];
    for (size_t i = 0; i < b->row_count; i++)
        rows[i] = (nb_bit_row){b->rows[i].name, b->rows[i].bits, b->rows[i].fields, b->rows[i].note};
    return nb_bit_boxes(out, title, rows, b->row_count);
}

static nb_size draw(nb_buf *out, const nb_lab_block *b)
{
    const char *title = b->text[0] ? b->text : b->key;
    if (b->kind == NB_LAB_BLOCK_CHART)
        return draw_chart(out, b->content, title);
    if (b->kind == NB_LAB_BLOCK_GRID)
        return draw_grid(out, b->content, title);
    if (b->kind == NB_LAB_BLOCK_STROKES)
        return draw_strokes(out, b->content, title);
    if (b->kind == NB_LAB_BLOCK_BOXES)
        return draw_boxes(out, b->content, title);
    const nb_lab_art_content *a = b->content;
    nb_buf_str(out, a->svg);
    return (nb_size){a->width, a->height};
}

static bool is_figure(const nb_lab_block *b) { return b && b->kind >= NB_LAB_BLOCK_CHART; }

void nb_lab_svg(const nb_lab *lab, nb_buf *out)
{
    nb_sheet sheet = {0};
    const nb_lab_block *section = NULL;
    char title[160];
    for (const nb_lab_block *b = lab->first; b; b = b->next) {
        nb_buf figure = {0};
        if (b->kind == NB_LAB_BLOCK_SECTION)
            section = b;
        if (!is_figure(b))
            continue;
        if (section)
            nb_sheet_title(&sheet, section->text);
        section = NULL;
        nb_size size = draw(&figure, b);
        nb_sheet_place(&sheet, &figure, size, b->text);
        nb_buf_free(&figure);
    }
    snprintf(title, sizeof title, "nibble lab %s", lab->topic->name);
    nb_sheet_end(&sheet, title, out);
}

/* ---- the page ---- */

static void put_table(nb_buf *out, const nb_lab_table *t, const char *caption)
{
    const char *heads[24];
    char text[64];
    size_t n = nb_min_size(t->column_count, 24);
    for (size_t i = 0; i < n; i++)
        heads[i] = t->columns[i].head;
    if (caption[0])
        nb_page_paragraph(out, "%s", caption);
    nb_page_table_begin(out, heads, n);
    for (size_t i = 0; i < t->cell_count; i++) {
        const nb_lab_column *c = &t->columns[i % n];
        nb_lab_format(t->cells[i], c->style, c->digits, text);
        if (i % n == 0)
            nb_page_row_begin(out);
        if (c->style == NB_LAB_TEXT)
            nb_page_cell(out, "%s", text);
        else
            nb_page_number(out, "%s", text);
        if (i % n == n - 1)
            nb_page_row_end(out);
    }
    nb_page_table_end(out);
}

static void put_fact(nb_buf *out, const nb_lab_block *b)
{
    const nb_lab_fact_content *f = b->content;
    char text[64];
    nb_lab_format(f->value, f->style, f->digits, text);
    nb_page_row_begin(out);
    nb_page_cell(out, "%s", b->text);
    nb_page_number(out, "%s%s%s", f->value.text ? f->value.text : text, f->unit ? " " : "", f->unit ? f->unit : "");
    nb_page_row_end(out);
}

/* Blocks of one kind in a row that belong together: lines, facts; returns the last of them. */
static const nb_lab_block *put_run(nb_buf *out, const nb_lab_block *b)
{
    nb_buf lines = {0};
    if (b->kind == NB_LAB_BLOCK_FACT)
        nb_page_table_begin(out, (const char *const[]){"", ""}, 2);
    for (;; b = b->next) {
        if (b->kind == NB_LAB_BLOCK_FACT)
            put_fact(out, b);
        else
            nb_buf_printf(&lines, "%s\n", b->text);
        if (!b->next || b->next->kind != b->kind)
            break;
    }
    if (b->kind == NB_LAB_BLOCK_FACT)
        nb_page_table_end(out);
    else
        nb_page_code(out, nb_buf_view(&lines));
    out->failed |= lines.failed;
    nb_buf_free(&lines);
    return b;
}

/* Figures that follow each other stand side by side where there is room. */
static const nb_lab_block *put_figures(nb_buf *out, const nb_lab_block *b)
{
    nb_buf_z(out, "<div class=\"row\">\n");
    for (;; b = b->next) {
        nb_page_figure_begin(out);
        draw(out, b);
        nb_page_figure_end(out, "%s", b->text);
        if (!is_figure(b->next))
            break;
    }
    nb_buf_z(out, "</div>\n");
    return b;
}

void nb_lab_html(const nb_lab *lab, nb_buf *out)
{
    char title[200];
    snprintf(title, sizeof title, "nibble lab %s", lab->topic->name);
    nb_page_begin(out, title);
    nb_page_paragraph(out, "%s", lab->topic->summary);
    for (const nb_lab_block *b = lab->first; b; b = b->next) {
        if (b->kind == NB_LAB_BLOCK_SECTION)
            nb_page_section(out, b->text);
        else if (b->kind == NB_LAB_BLOCK_SAY)
            nb_page_paragraph(out, "%s", b->text);
        else if (b->kind == NB_LAB_BLOCK_TABLE)
            put_table(out, b->content, b->text);
        else if (is_figure(b))
            b = put_figures(out, b);
        else
            b = put_run(out, b);
    }
    nb_page_end(out);
}
