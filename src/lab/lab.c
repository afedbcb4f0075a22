#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lab/lab_doc.h"

const nb_lab_topic nb_lab_topics[] = {
#define NB_LAB_TOPIC(name, arguments, options, summary) {#name, arguments, options, summary, nb_lab_##name},
#include "lab/topics.def"
#undef NB_LAB_TOPIC
    {.name = NULL},
};

nb_lab_params nb_lab_defaults(void)
{
    return (nb_lab_params){
#define NB_LAB_STRING(field, name, value, help) .field = NULL,
#define NB_LAB_WHOLE(field, name, preset, value, help) .field = preset,
#define NB_LAB_REAL(field, name, preset, value, help) .field = preset,
#include "lab/lab_options.def"
#undef NB_LAB_STRING
#undef NB_LAB_WHOLE
#undef NB_LAB_REAL
    };
}

bool nb_lab_takes(const nb_lab_topic *topic, const char *option)
{
    size_t n = strlen(option);
    for (const char *p = topic->options; (p = strstr(p, option)); p += n)
        if ((p == topic->options || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
            return true;
    return false;
}

nb_status nb_lab_run(const nb_lab_topic *topic, const nb_lab_params *params, nb_lab **out, nb_error *err)
{
    *out = NULL;
    nb_lab *lab = calloc(1, sizeof *lab);
    if (!lab)
        return nb_fail_memory(err, "a document", sizeof *lab);
    lab->topic = topic;
    lab->seed = nb_lab_takes(topic, "seed") ? params->seed : -1;
    nb_status status = topic->run(params, lab, err);
    if (status == NB_OK && lab->failed)
        status = nb_fail_memory(err, "a document", lab->arena.used);
    if (status != NB_OK) {
        nb_lab_free(lab);
        return status;
    }
    *out = lab;
    return NB_OK;
}

void nb_lab_free(nb_lab *lab)
{
    if (lab)
        nb_arena_free(&lab->arena);
    free(lab);
}

nb_arena *nb_lab_arena(nb_lab *lab) { return &lab->arena; }

/* ---- copies ---- */

static void *keep(nb_lab *lab, const void *bytes, size_t count, size_t size)
{
    void *copy = nb_arena_array(&lab->arena, nb_max_size(count, 1), size);
    if (!copy)
        lab->failed = true;
    else if (count)
        memcpy(copy, bytes, count * size);
    return copy;
}

/* Names of files and tensors end up on terminals: what would steer one becomes '?'. */
static const char *keep_text(nb_lab *lab, const char *text)
{
    char *copy = text ? nb_arena_strdup(&lab->arena, nb_str_of(text)) : NULL;
    lab->failed |= text && !copy;
    for (unsigned char *p = (unsigned char *)copy; p && *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
        if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* C1 controls */
            p[0] = p[1] = '?';
    }
    return copy;
}

static const char *keep_format(nb_lab *lab, const char *format, va_list args) NB_PRINTF(2, 0);
static const char *keep_format(nb_lab *lab, const char *format, va_list args)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    return keep_text(lab, text);
}

static const char *const *keep_names(nb_lab *lab, const char *const *names, size_t count)
{
    const char **copy = names ? keep(lab, names, count, sizeof *names) : NULL;
    for (size_t i = 0; copy && i < count; i++)
        copy[i] = keep_text(lab, names[i]);
    return copy;
}

static nb_lab_axis keep_axis(nb_lab *lab, nb_lab_axis axis)
{
    axis.label = keep_text(lab, axis.label);
    axis.names = keep_names(lab, axis.names, axis.name_count);
    return axis;
}

static void add(nb_lab *lab, nb_lab_kind kind, const char *key, const char *text, const void *content)
{
    nb_lab_block *b = NB_NEW(&lab->arena, nb_lab_block);
    if (!b || !text) {
        lab->failed = true;
        return;
    }
    *b = (nb_lab_block){.kind = kind, .key = keep_text(lab, key), .text = text, .content = content};
    *(lab->last ? &lab->last->next : &lab->first) = b;
    lab->last = b;
}

/* ---- sentences and facts ---- */

/* The text of a variadic function. */
#define KEEP_TEXT(lab, format, text)                                                                                   \
    const char *text;                                                                                                  \
    do {                                                                                                               \
        va_list args_;                                                                                                 \
        va_start(args_, format);                                                                                       \
        text = keep_format(lab, format, args_);                                                                        \
        va_end(args_);                                                                                                 \
    } while (0)

void nb_lab_section(nb_lab *lab, const char *key, const char *format, ...)
{
    KEEP_TEXT(lab, format, text);
    add(lab, NB_LAB_BLOCK_SECTION, key, text, NULL);
}

void nb_lab_say(nb_lab *lab, const char *format, ...)
{
    KEEP_TEXT(lab, format, text);
    add(lab, NB_LAB_BLOCK_SAY, NULL, text, NULL);
}

void nb_lab_code(nb_lab *lab, const char *format, ...)
{
    KEEP_TEXT(lab, format, text);
    add(lab, NB_LAB_BLOCK_CODE, NULL, text, NULL);
}

static void add_fact(nb_lab *lab, const char *key, const char *label, nb_lab_fact_content fact)
{
    fact.unit = keep_text(lab, fact.unit);
    add(lab, NB_LAB_BLOCK_FACT, key, keep_text(lab, label), keep(lab, &fact, 1, sizeof fact));
}

void nb_lab_fact(nb_lab *lab, const char *key, const char *label, nb_lab_style style, int digits, double value,
                 const char *unit)
{
    add_fact(lab, key, label, (nb_lab_fact_content){{NULL, value}, style, digits, unit});
}

void nb_lab_fact_text(nb_lab *lab, const char *key, const char *label, const char *format, ...)
{
    KEEP_TEXT(lab, format, text);
    add_fact(lab, key, label, (nb_lab_fact_content){{text, NAN}, NB_LAB_TEXT, 0, NULL});
}

void nb_lab_caption(nb_lab *lab, const char *format, ...)
{
    KEEP_TEXT(lab, format, text);
    if (lab->last && text)
        lab->last->text = text;
}

/* ---- tables ---- */

nb_lab_table *nb_lab_table_begin(nb_lab *lab, const char *key, const nb_lab_column *columns, size_t count)
{
    nb_lab_table *t = NB_NEW(&lab->arena, nb_lab_table);
    nb_lab_column *copy = keep(lab, columns, count, sizeof *columns);
    if (!t || !copy) {
        lab->failed = true;
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        copy[i].key = keep_text(lab, columns[i].key);
        copy[i].head = keep_text(lab, columns[i].head);
    }
    *t = (nb_lab_table){.lab = lab, .columns = copy, .column_count = count};
    add(lab, NB_LAB_BLOCK_TABLE, key, "", t);
    return t;
}

static void put_cell(nb_lab_table *t, nb_lab_value value)
{
    if (t->cell_count == t->room) {
        size_t room = t->room ? 2 * t->room : 4 * t->column_count;
        nb_lab_value *cells = NB_ARRAY(&t->lab->arena, nb_lab_value, room);
        if (!cells) {
            t->lab->failed = true;
            return;
        }
        if (t->cell_count)
            memcpy(cells, t->cells, t->cell_count * sizeof *cells);
        t->cells = cells;
        t->room = room;
    }
    t->cells[t->cell_count++] = value;
}

void nb_lab_cell(nb_lab_table *t, double value)
{
    if (t)
        put_cell(t, (nb_lab_value){NULL, value});
}

void nb_lab_cell_text(nb_lab_table *t, const char *format, ...)
{
    if (!t)
        return;
    KEEP_TEXT(t->lab, format, text);
    put_cell(t, (nb_lab_value){text, NAN});
}

/* ---- figures ---- */

nb_lab_chart *nb_lab_chart_begin(nb_lab *lab, const char *key, nb_lab_axis x, nb_lab_axis y)
{
    nb_lab_chart *c = NB_NEW(&lab->arena, nb_lab_chart);
    if (!c) {
        lab->failed = true;
        return NULL;
    }
    *c = (nb_lab_chart){.lab = lab, .x = keep_axis(lab, x), .y = keep_axis(lab, y)};
    add(lab, NB_LAB_BLOCK_CHART, key, "", c);
    return c;
}

void nb_lab_series(nb_lab_chart *c, const char *name, nb_lab_mark mark, const double *x, const double *y, size_t n)
{
    if (!c || c->series_count == NB_LAB_SERIES)
        return;
    c->series[c->series_count++] = (nb_lab_series_content){
        .name = keep_text(c->lab, name),
        .mark = mark,
        .x = keep(c->lab, x, n + (mark == NB_LAB_HISTOGRAM), sizeof *x),
        .y = keep(c->lab, y, n, sizeof *y),
        .n = n};
}

void nb_lab_series_labels(nb_lab_chart *c, const char *const *labels)
{
    if (c && c->series_count)
        c->series[c->series_count - 1].labels = keep_names(c->lab, labels, c->series[c->series_count - 1].n);
}

void nb_lab_grid_add(nb_lab *lab, const char *key, const nb_lab_grid *grid, const float *values)
{
    nb_lab_grid_content c = {*grid, NULL};
    size_t n = grid->rows * grid->columns;
    c.grid.row_label = keep_text(lab, grid->row_label);
    c.grid.column_label = keep_text(lab, grid->column_label);
    c.grid.row_names = keep_names(lab, grid->row_names, grid->rows);
    c.grid.column_names = keep_names(lab, grid->column_names, grid->columns);
    c.grid.unit = keep_text(lab, grid->unit);
    for (size_t i = 0; !(grid->limit > 0) && i < n; i++)
        if (isfinite(values[i]))
            c.grid.limit = fmax(c.grid.limit, fabs((double)values[i]));
    c.values = keep(lab, values, n, sizeof *values);
    add(lab, NB_LAB_BLOCK_GRID, key, "", keep(lab, &c, 1, sizeof c));
}

nb_lab_strokes *nb_lab_strokes_begin(nb_lab *lab, const char *key, nb_lab_axis x)
{
    nb_lab_strokes *s = NB_NEW(&lab->arena, nb_lab_strokes);
    if (!s) {
        lab->failed = true;
        return NULL;
    }
    *s = (nb_lab_strokes){.lab = lab, .x = keep_axis(lab, x)};
    add(lab, NB_LAB_BLOCK_STROKES, key, "", s);
    return s;
}

void nb_lab_strokes_row(nb_lab_strokes *s, const char *name, const double *values, size_t n)
{
    if (s && s->row_count < NB_LAB_ROWS)
        s->rows[s->row_count++] = (nb_lab_stroke_row){keep_text(s->lab, name), keep(s->lab, values, n, sizeof *values),
                                                      n};
}

nb_lab_boxes *nb_lab_boxes_begin(nb_lab *lab, const char *key)
{
    nb_lab_boxes *b = NB_NEW(&lab->arena, nb_lab_boxes);
    if (!b) {
        lab->failed = true;
        return NULL;
    }
    b->lab = lab;
    add(lab, NB_LAB_BLOCK_BOXES, key, "", b);
    return b;
}

void nb_lab_boxes_row(nb_lab_boxes *b, const char *name, const char *bits, const char *fields, const char *note)
{
    if (!b || b->row_count == NB_LAB_ROWS)
        return;
    b->rows[b->row_count].name = keep_text(b->lab, name);
    b->rows[b->row_count].bits = keep_text(b->lab, bits);
    b->rows[b->row_count].fields = keep_text(b->lab, fields);
    b->rows[b->row_count++].note = keep_text(b->lab, note);
}

void nb_lab_art(nb_lab *lab, const char *key, double width, double height, const nb_buf *svg)
{
    nb_lab_art_content a = {width, height, {nb_arena_strdup(&lab->arena, nb_buf_view(svg)), svg->len}};
    lab->failed |= svg->failed || !a.svg.p;
    add(lab, NB_LAB_BLOCK_ART, key, "", keep(lab, &a, 1, sizeof a));
}

/* ---- numbers as people read them ---- */

static void group_thousands(double value, char text[64])
{
    char digits[48];
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(value)), out = 0;
    if (value < 0)
        text[out++] = '-';
    for (int i = 0; i < n && out < 60; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            text[out++] = '\'';
        text[out++] = digits[i];
    }
    text[out] = '\0';
}

static void scaled(double value, const char *const *units, size_t count, double step, char text[64])
{
    size_t unit = 0;
    while (unit + 1 < count && fabs(value) >= step) {
        value /= step;
        unit++;
    }
    snprintf(text, 64, "%.*f %s",
             unit == 0 && step == 1000 && value == floor(value) ? 0
             : value < 10                                       ? 2
             : value < 100                                      ? 1
                                                                : 0,
             value, units[unit]);
}

void nb_lab_format(nb_lab_value value, nb_lab_style style, int digits, char text[64])
{
    static const char *const bytes[] = {"B", "kB", "MB", "GB", "TB"};
    static const char *const seconds[] = {"us", "ms", "s"};
    double x = value.number;
    if (value.text)
        snprintf(text, 64, "%s", value.text);
    else if (isnan(x))
        snprintf(text, 64, "-");
    else if (style == NB_LAB_COUNT && fabs(x) < 1e15)
        group_thousands(x, text);
    else if (style == NB_LAB_FIXED)
        snprintf(text, 64, "%.*f", digits, x);
    else if (style == NB_LAB_BYTES)
        scaled(x, bytes, 5, 1000, text);
    else if (style == NB_LAB_SECONDS)
        scaled(x * 1e6, seconds, 3, 1000, text);
    else if (style == NB_LAB_PERCENT)
        snprintf(text, 64, "%.*f %%", digits, 100 * x);
    else
        snprintf(text, 64, "%.*g", digits ? digits : 6, x);
}
