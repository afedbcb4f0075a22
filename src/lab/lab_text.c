/* The text of a document: 80 columns, no colors, no pictures. */
#include <math.h>
#include <stdio.h>

#include "lab/lab_doc.h"

enum { WIDTH = 78, COLUMNS = 24, SHOWN_ROWS = 16, SHOWN_COLUMNS = 10 };

/* In columns: a code point takes one; ideographs, syllables of the far east and pictographs two. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        n += (c & 0xc0) != 0x80;
        n += (c >= 0xe3 && c <= 0xed) || c >= 0xf0;
    }
    return n;
}

static void put_spaces(nb_buf *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        nb_buf_char(out, ' ');
}

static void put_padded(nb_buf *out, const char *text, size_t width, bool right)
{
    size_t used = width_of(text), pad = used < width ? width - used : 0;
    put_spaces(out, right ? pad : 0);
    nb_buf_z(out, text);
    put_spaces(out, right ? 0 : pad);
}

static void end_line(nb_buf *out)
{
    while (out->len > 0 && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
    nb_buf_char(out, '\n');
}

static void put_wrapped(nb_buf *out, const char *text, size_t indent)
{
    size_t used = 0;
    while (*text) {
        char word[256];
        size_t n = strcspn(text, " ");
        snprintf(word, sizeof word, "%.*s", (int)nb_min_size(n, sizeof word - 1), text);
        size_t width = width_of(word);
        if (used > 0 && used + 1 + width > WIDTH) {
            end_line(out);
            used = 0;
        }
        if (used == 0)
            put_spaces(out, indent);
        used = used ? used + 1 + width : indent + width;
        nb_buf_printf(out, "%s%s", used > indent + width ? " " : "", word);
        text += n;
        text += strspn(text, " ");
    }
    end_line(out);
}

/* ---- facts: "label ... value unit", aligned with their neighbours ---- */

static size_t label_width(const nb_lab_block *b)
{
    size_t width = 0;
    for (; b && b->kind == NB_LAB_BLOCK_FACT; b = b->next)
        width = nb_max_size(width, width_of(b->text));
    return width;
}

/* What is too long beside its label goes to lines of its own. */
static void put_long(nb_buf *out, const char *value)
{
    enum { INDENT = 4 };
    for (size_t used = 0; *value; used++) {
        if (used % (WIDTH - INDENT) == 0) {
            end_line(out);
            put_spaces(out, INDENT);
        }
        do
            nb_buf_char(out, *value++);
        while (((unsigned char)*value & 0xc0) == 0x80);
    }
    end_line(out);
}

static void put_fact(nb_buf *out, const nb_lab_block *b, size_t width)
{
    const nb_lab_fact_content *f = b->content;
    char text[64];
    nb_lab_format(f->value, f->style, f->digits, text);
    const char *value = f->value.text ? f->value.text : text;
    size_t needs = width_of(value) + (f->unit ? 1 + width_of(f->unit) : 0);
    put_spaces(out, 2);
    put_padded(out, b->text, width + 4 + needs <= WIDTH ? width + 2 : width_of(b->text) + 2, false);
    if (width_of(b->text) + 4 + needs > WIDTH) {
        put_long(out, value);
        return;
    }
    nb_buf_z(out, value);
    if (f->unit)
        nb_buf_printf(out, " %s", f->unit);
    end_line(out);
}

/* ---- tables ---- */

static void put_head(nb_buf *out, const nb_lab_column *c, bool gap, size_t width)
{
    put_spaces(out, gap ? 2 : 0);
    put_padded(out, c->head, width, c->style != NB_LAB_TEXT);
}

static void put_table(nb_buf *out, const nb_lab_table *t)
{
    size_t width[COLUMNS] = {0}, n = nb_min_size(t->column_count, COLUMNS);
    char text[64];
    for (size_t i = 0; i < n; i++)
        width[i] = width_of(t->columns[i].head);
    for (size_t i = 0; i < t->cell_count; i++) {
        const nb_lab_column *c = &t->columns[i % t->column_count];
        nb_lab_format(t->cells[i], c->style, c->digits, text);
        width[i % t->column_count] = nb_max_size(width[i % t->column_count], width_of(text));
    }
    for (size_t i = 0; i < n; i++)
        put_head(out, &t->columns[i], i > 0, width[i]);
    end_line(out);
    for (size_t i = 0; i < t->cell_count; i++) {
        const nb_lab_column *c = &t->columns[i % t->column_count];
        nb_lab_format(t->cells[i], c->style, c->digits, text);
        put_spaces(out, i % t->column_count ? 2 : 0);
        put_padded(out, text, width[i % t->column_count], c->style != NB_LAB_TEXT);
        if ((i + 1) % t->column_count == 0)
            end_line(out);
    }
}

/* ---- grids: numbers, or shades ---- */

static size_t name_width(const nb_lab_grid *g)
{
    size_t width = 0;
    for (size_t i = 0; g->row_names && i < g->rows; i++)
        width = nb_max_size(width, width_of(g->row_names[i]));
    return nb_min_size(width, 16);
}

static bool shows_numbers(const nb_lab_grid *g)
{
    return g->digits >= 0 && g->columns <= SHOWN_COLUMNS && g->rows <= SHOWN_ROWS;
}

static void put_number_grid(nb_buf *out, const nb_lab_grid_content *c)
{
    const nb_lab_grid *g = &c->grid;
    char text[64];
    size_t width = 4, names = name_width(g);
    for (size_t i = 0; i < g->rows * g->columns; i++) {
        snprintf(text, sizeof text, "%.*f", g->digits, (double)c->values[i]);
        width = nb_max_size(width, width_of(text));
    }
    for (size_t j = 0; g->column_names && j < g->columns; j++)
        width = nb_max_size(width, width_of(g->column_names[j]));
    put_spaces(out, g->column_names ? 2 + names : 0);
    for (size_t j = 0; g->column_names && j < g->columns; j++)
        put_padded(out, g->column_names[j], width + 2, true);
    if (g->column_names)
        end_line(out);
    for (size_t i = 0; i < g->rows; i++) {
        put_spaces(out, 2);
        put_padded(out, g->row_names ? g->row_names[i] : "", names, false);
        for (size_t j = 0; j < g->columns; j++) {
            snprintf(text, sizeof text, "%.*f", g->digits, (double)c->values[i * g->columns + j]);
            put_padded(out, text, width + 2, true);
        }
        end_line(out);
    }
}

static void put_shades(nb_buf *out, const nb_lab_grid_content *c)
{
    static const char shades[] = " .:-=+*#%@";
    const nb_lab_grid *g = &c->grid;
    size_t names = name_width(g);
    for (size_t i = 0; i < g->rows; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.60s", g->row_names ? g->row_names[i] : "");
        put_spaces(out, 2);
        put_padded(out, name, names + (names > 0), false);
        for (size_t j = 0; j < g->columns; j++) {
            double share = g->limit > 0 ? (double)c->values[i * g->columns + j] / g->limit : 0;
            nb_buf_char(out, isfinite(share) ? shades[(size_t)fmin(fmax(share, 0) * 9.999, 9)] : '?');
        }
        end_line(out);
    }
    nb_buf_printf(out, "  shades: '%s' from 0 to %.3g%s%s\n", shades, g->limit, g->unit ? " " : "",
                  g->unit ? g->unit : "");
}

static void put_grid(nb_buf *out, const nb_lab_block *b)
{
    const nb_lab_grid_content *c = b->content;
    bool numbers = shows_numbers(&c->grid),
         shades = c->grid.from_zero && c->grid.columns + name_width(&c->grid) < WIDTH - 4;
    if (!numbers && !shades)
        return;
    if (b->text[0])
        put_wrapped(out, b->text, 0);
    if (numbers)
        put_number_grid(out, c);
    else
        put_shades(out, c);
    nb_buf_char(out, '\n');
}

/* ---- boxes: the bits with a space between their fields ---- */

static void put_boxes(nb_buf *out, const nb_lab_boxes *b)
{
    size_t names = 0;
    for (size_t i = 0; i < b->row_count; i++)
        names = nb_max_size(names, width_of(b->rows[i].name));
    for (size_t i = 0; i < b->row_count; i++) {
        const char *bits = b->rows[i].bits, *fields = b->rows[i].fields;
        put_spaces(out, 2);
        put_padded(out, b->rows[i].name, names + 2, false);
        for (size_t j = 0; bits[j] && fields[j]; j++) {
            if (j > 0 && fields[j] != fields[j - 1])
                nb_buf_char(out, ' ');
            nb_buf_char(out, bits[j]);
        }
        if (b->rows[i].note)
            nb_buf_printf(out, "   %s", b->rows[i].note);
        end_line(out);
    }
    nb_buf_char(out, '\n');
}

static void put_section(nb_buf *out, const char *title)
{
    nb_buf_printf(out, "%s\n", title);
    for (size_t i = 0, n = width_of(title); i < n; i++)
        nb_buf_char(out, '-');
    nb_buf_char(out, '\n');
}

static bool follows_on(const nb_lab_block *b) /* the next block is of the same kind: no empty line between */
{
    return b->next && b->next->kind == b->kind;
}

void nb_lab_text(const nb_lab *lab, nb_buf *out)
{
    size_t labels = 0;
    nb_buf_printf(out, "%s: %s\n\n", lab->topic->name, lab->topic->summary);
    for (const nb_lab_block *b = lab->first, *before = NULL; b; before = b, b = b->next) {
        switch (b->kind) {
        case NB_LAB_BLOCK_SECTION: put_section(out, b->text); break;
        case NB_LAB_BLOCK_SAY:
            put_wrapped(out, b->text, 0);
            nb_buf_char(out, '\n');
            break;
        case NB_LAB_BLOCK_CODE: nb_buf_printf(out, "    %s\n%s", b->text, follows_on(b) ? "" : "\n"); break;
        case NB_LAB_BLOCK_FACT:
            if (!before || before->kind != NB_LAB_BLOCK_FACT)
                labels = label_width(b);
            put_fact(out, b, labels);
            nb_buf_z(out, follows_on(b) ? "" : "\n");
            break;
        case NB_LAB_BLOCK_TABLE:
            if (b->text[0])
                put_wrapped(out, b->text, 0);
            put_table(out, b->content);
            nb_buf_char(out, '\n');
            break;
        case NB_LAB_BLOCK_GRID: put_grid(out, b); break;
        case NB_LAB_BLOCK_BOXES: put_boxes(out, b->content); break;
        case NB_LAB_BLOCK_CHART:
        case NB_LAB_BLOCK_STROKES:
        case NB_LAB_BLOCK_ART: break; /* pictures: their numbers are in tables and facts */
        }
    }
    while (out->len > 1 && out->data[out->len - 1] == '\n' && out->data[out->len - 2] == '\n')
        out->data[--out->len] = '\0';
}
