/* The JSON of a document: {"topic", "seed", "sections": {KEY: {"title", "text", "facts", "tables", "figures"}}}. */
#include <math.h>

#include "base/json_write.h"
#include "lab/lab_doc.h"

static void put_value(nb_json *j, nb_lab_value v)
{
    if (v.text)
        nb_json_z(j, v.text);
    else if (fabs(v.number) < 0x1p53 && v.number == floor(v.number))
        nb_json_int(j, (int64_t)v.number);
    else
        nb_json_num(j, v.number);
}

static void put_numbers(nb_json *j, const char *key, const double *x, size_t n)
{
    nb_json_key(j, key);
    nb_json_open(j, '[');
    for (size_t i = 0; x && i < n; i++)
        put_value(j, (nb_lab_value){NULL, x[i]});
    nb_json_close(j, ']');
}

static void put_names(nb_json *j, const char *key, const char *const *names, size_t n)
{
    if (!names)
        return;
    nb_json_key(j, key);
    nb_json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        nb_json_z(j, names[i]);
    nb_json_close(j, ']');
}

static void put_table(nb_json *j, const nb_lab_table *t)
{
    nb_json_open(j, '[');
    for (size_t i = 0; i < t->cell_count; i++) {
        if (i % t->column_count == 0)
            nb_json_open(j, '{');
        nb_json_key(j, t->columns[i % t->column_count].key);
        put_value(j, t->cells[i]);
        if ((i + 1) % t->column_count == 0)
            nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
}

static void put_axis(nb_json *j, const char *key, const nb_lab_axis *a)
{
    nb_json_key(j, key);
    nb_json_open(j, '{');
    nb_json_put_z(j, "label", a->label);
    nb_json_key(j, "log");
    nb_json_bool(j, a->log);
    put_names(j, "names", a->names, a->name_count);
    nb_json_close(j, '}');
}

static void put_chart(nb_json *j, const nb_lab_chart *c)
{
    put_axis(j, "x", &c->x);
    put_axis(j, "y", &c->y);
    nb_json_key(j, "series");
    nb_json_open(j, '[');
    for (size_t i = 0; i < c->series_count; i++) {
        const nb_lab_series_content *s = &c->series[i];
        nb_json_open(j, '{');
        nb_json_put_z(j, "name", s->name);
        put_numbers(j, "x", s->x, s->n + (s->mark == NB_LAB_HISTOGRAM));
        put_numbers(j, "y", s->y, s->n);
        put_names(j, "labels", s->labels, s->n);
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
}

static void put_grid(nb_json *j, const nb_lab_grid_content *c)
{
    const nb_lab_grid *g = &c->grid;
    put_names(j, "rows", g->row_names, g->rows);
    put_names(j, "columns", g->column_names, g->columns);
    nb_json_key(j, "values");
    nb_json_open(j, '[');
    for (size_t i = 0; i < g->rows; i++) {
        nb_json_open(j, '[');
        for (size_t k = 0; k < g->columns; k++)
            nb_json_f32(j, c->values[i * g->columns + k]);
        nb_json_close(j, ']');
    }
    nb_json_close(j, ']');
}

static void put_strokes(nb_json *j, const nb_lab_strokes *s)
{
    put_axis(j, "x", &s->x);
    nb_json_key(j, "rows");
    nb_json_open(j, '{');
    for (size_t i = 0; i < s->row_count; i++)
        put_numbers(j, s->rows[i].name, s->rows[i].values, s->rows[i].n);
    nb_json_close(j, '}');
}

static void put_boxes(nb_json *j, const nb_lab_boxes *b)
{
    nb_json_key(j, "rows");
    nb_json_open(j, '[');
    for (size_t i = 0; i < b->row_count; i++) {
        nb_json_open(j, '{');
        nb_json_put_z(j, "name", b->rows[i].name);
        nb_json_put_z(j, "bits", b->rows[i].bits);
        nb_json_put_z(j, "fields", b->rows[i].fields);
        if (b->rows[i].note)
            nb_json_put_z(j, "note", b->rows[i].note);
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
}

static void put_figure(nb_json *j, const nb_lab_block *b)
{
    nb_json_key(j, b->key);
    nb_json_open(j, '{');
    if (b->text[0])
        nb_json_put_z(j, "caption", b->text);
    if (b->kind == NB_LAB_BLOCK_CHART)
        put_chart(j, b->content);
    else if (b->kind == NB_LAB_BLOCK_GRID)
        put_grid(j, b->content);
    else if (b->kind == NB_LAB_BLOCK_STROKES)
        put_strokes(j, b->content);
    else if (b->kind == NB_LAB_BLOCK_BOXES)
        put_boxes(j, b->content);
    nb_json_close(j, '}');
}

/* One member of a section: the blocks of some kinds. */
static void put_part(nb_json *j, const char *name, char bracket, const nb_lab_block *first, nb_lab_kind from,
                     nb_lab_kind to)
{
    bool open = false;
    for (const nb_lab_block *b = first; b && b->kind != NB_LAB_BLOCK_SECTION; b = b->next) {
        if (b->kind < from || b->kind > to || b->kind == NB_LAB_BLOCK_ART)
            continue;
        if (!open) {
            nb_json_key(j, name);
            nb_json_open(j, bracket);
        }
        open = true;
        if (b->kind == NB_LAB_BLOCK_SAY || b->kind == NB_LAB_BLOCK_CODE)
            nb_json_z(j, b->text);
        else if (b->kind >= NB_LAB_BLOCK_CHART)
            put_figure(j, b);
        else
            nb_json_key(j, b->key);
        if (b->kind == NB_LAB_BLOCK_FACT)
            put_value(j, ((const nb_lab_fact_content *)b->content)->value);
        if (b->kind == NB_LAB_BLOCK_TABLE)
            put_table(j, b->content);
    }
    if (open)
        nb_json_close(j, bracket == '{' ? '}' : ']');
}

void nb_lab_json(const nb_lab *lab, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "topic", lab->topic->name);
    if (lab->seed >= 0)
        nb_json_put_int(&j, "seed", lab->seed);
    nb_json_key(&j, "sections");
    nb_json_open(&j, '{');
    for (const nb_lab_block *b = lab->first; b; b = b->next) {
        if (b->kind != NB_LAB_BLOCK_SECTION)
            continue;
        nb_json_key(&j, b->key);
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "title", b->text);
        put_part(&j, "text", '[', b->next, NB_LAB_BLOCK_SAY, NB_LAB_BLOCK_CODE);
        put_part(&j, "facts", '{', b->next, NB_LAB_BLOCK_FACT, NB_LAB_BLOCK_FACT);
        put_part(&j, "tables", '{', b->next, NB_LAB_BLOCK_TABLE, NB_LAB_BLOCK_TABLE);
        put_part(&j, "figures", '{', b->next, NB_LAB_BLOCK_CHART, NB_LAB_BLOCK_ART);
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, '}');
    nb_json_close(&j, '}');
}
