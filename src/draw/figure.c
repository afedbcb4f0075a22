#include "draw/figure.h"

#include <math.h>
#include <stdio.h>

#include "draw/style.h"

enum { CHARACTER = 7, SMALL = 6 /* of a tick's text, in pixels */ };

static size_t width_of(const char *text) /* code points */
{
    size_t n = 0;
    for (; text && *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static double longest(const char *const *names, size_t count)
{
    size_t most = 0;
    for (size_t i = 0; names && i < count; i++)
        most = nb_max_size(most, width_of(names[i]));
    return CHARACTER * (double)nb_min_size(most, 24);
}

/* ---- matrices ---- */

enum { HALF = NB_HEAT_LEVELS / 2, SCALE_HEIGHT = 34, LABEL_LINE = 18 };

typedef struct layout {
    double left, top, cell, cell_height;
    bool slanted; /* column names */
} layout;

static layout lay_out(const nb_matrix *m, double width)
{
    layout l = {.left = 2 + (m->row_label ? LABEL_LINE : 0), .top = 2 + (m->column_label ? LABEL_LINE : 0)};
    double names = longest(m->column_names, m->columns);
    l.left += m->row_names ? longest(m->row_names, m->rows) + 8 : 0;
    double room = (width - l.left - 4) / (double)m->columns;
    double most = m->digits >= 0 ? 62 : m->columns <= 32 ? 26 : 14;
    l.cell = fmax(fmin(room, most), 1);
    l.cell_height = m->digits >= 0 ? fmin(30, l.cell) : l.cell;
    l.slanted = names > l.cell - 4;
    l.top += !m->column_names ? 0 : l.slanted ? names * 0.64 + 12 : 16;
    return l;
}

static void put_names(nb_buf *out, const nb_matrix *m, const layout *l)
{
    for (size_t i = 0; m->row_names && i < m->rows; i++)
        nb_svg_label(out, l->left - 6, l->top + ((double)i + 0.5) * l->cell_height + 4, "end", "tick", m->row_names[i]);
    for (size_t j = 0; m->column_names && j < m->columns; j++) {
        double x = l->left + ((double)j + 0.5) * l->cell;
        if (l->slanted)
            nb_buf_printf(out, "<g transform=\"translate(%.1f %.1f) rotate(-40)\">", x, l->top - 4);
        nb_svg_label(out, l->slanted ? 0 : x, l->slanted ? 0 : l->top - 5, l->slanted ? "start" : "middle", "tick",
                     m->column_names[j]);
        nb_buf_z(out, l->slanted ? "</g>\n" : "");
    }
    if (m->column_label)
        nb_svg_label(out, l->left + l->cell * (double)m->columns / 2, 13, "middle", "axis", m->column_label);
    if (m->row_label) {
        nb_buf_printf(out, "<g transform=\"translate(13 %.1f) rotate(-90)\">",
                      l->top + l->cell_height * (double)m->rows / 2);
        nb_svg_label(out, 0, 0, "middle", "axis", m->row_label);
        nb_buf_z(out, "</g>\n");
    }
}

static void put_cells(nb_buf *out, const nb_matrix *m, const layout *l)
{
    nb_buf_printf(out, "<g transform=\"translate(%.2f %.2f) scale(%.4g %.4g)\" shape-rendering=\"crispEdges\">\n",
                  l->left, l->top, l->cell, l->cell_height);
    nb_buf_printf(out, "<rect width=\"%zu\" height=\"%zu\" class=\"h%d\"/>\n", m->columns, m->rows, HALF);
    for (size_t level = 0; level < NB_HEAT_LEVELS; level++) {
        bool any = false;
        for (size_t i = 0; level != HALF && i < m->rows * m->columns; i++) {
            if (nb_heat_level((double)m->values[i], m->limit) != level)
                continue;
            if (!any)
                nb_buf_printf(out, "<path class=\"h%zu\" d=\"", level);
            any = true;
            nb_buf_printf(out, "M%zu %zuh1v1h-1", i % m->columns, i / m->columns);
        }
        nb_buf_z(out, any ? "\"/>\n" : "");
    }
    nb_buf_z(out, "</g>\n");
}

static void put_numbers(nb_buf *out, const nb_matrix *m, const layout *l)
{
    char text[32];
    for (size_t i = 0; m->digits >= 0 && i < m->rows * m->columns; i++) {
        int away = (int)nb_heat_level((double)m->values[i], m->limit) - HALF;
        snprintf(text, sizeof text, "%.*f", m->digits, (double)m->values[i]);
        nb_svg_label(out, l->left + ((double)(i % m->columns) + 0.5) * l->cell,
                     l->top + ((double)(i / m->columns) + 0.5) * l->cell_height + 4, "middle",
                     away > HALF * 2 / 3 || away < -HALF * 2 / 3 ? "on" : "key", text);
    }
}

static void put_scale(nb_buf *out, const nb_matrix *m, double x, double y, double width)
{
    char text[32];
    int first = m->from_zero ? HALF : 0, ends = m->from_zero ? 2 : 3;
    double step = 2 * width / (NB_HEAT_LEVELS - first + 1);
    for (int i = first; i < NB_HEAT_LEVELS; i += 2) /* every second color is enough to read it by */
        nb_buf_printf(out, "<path class=\"h%d\" d=\"M%.1f %.1fv10h%.1fv-10\"/>\n", i, x + step * (i - first) / 2, y,
                      step + 0.2);
    for (int i = 0; i < ends; i++) {
        double value = m->from_zero ? i * m->limit : (i - 1) * m->limit;
        snprintf(text, sizeof text, "%.3g%s%.12s", value, i == ends - 1 && m->unit ? " " : "",
                 i == ends - 1 && m->unit ? m->unit : "");
        nb_svg_label(out, x + width * i / (ends - 1), y + 23,
                     i == 0          ? "start"
                     : i == ends - 1 ? "end"
                                     : "middle",
                     "tick", text);
    }
}

nb_size nb_matrix_draw(nb_buf *out, const nb_matrix *m, double width)
{
    layout l = lay_out(m, width);
    double inner = l.cell * (double)m->columns, bottom = l.top + l.cell_height * (double)m->rows,
           scale = fmax(fmin(inner, 260), 90);
    double tail = l.slanted && m->column_names ? longest(&m->column_names[m->columns - 1], 1) * 0.77 : 0;
    nb_size size = {l.left + fmax(fmax(inner, scale), inner - l.cell / 2 + tail) + 4, bottom + SCALE_HEIGHT};
    nb_svg_open(out, m->title, size.width, size.height);
    put_names(out, m, &l);
    put_cells(out, m, &l);
    put_numbers(out, m, &l);
    put_scale(out, m, l.left, bottom + 8, scale);
    nb_buf_z(out, "</svg>\n");
    return size;
}

/* ---- number lines ---- */

nb_size nb_number_line(nb_buf *out, const char *title, nb_axis x, const nb_stroke_row *rows, size_t count, double width)
{
    enum { ROW = 24, BOTTOM = 44, TOP = 6 };
    char text[32];
    double left = 12, bottom = TOP + ROW * (double)count;
    for (size_t i = 0; i < count; i++)
        left = fmax(left, 14 + CHARACTER * (double)width_of(rows[i].name));
    x.from = left;
    x.to = width - 24;
    nb_size size = {width, bottom + BOTTOM};
    nb_svg_open(out, title, size.width, size.height);
    for (size_t i = 0; i < x.tick_count; i++) {
        double at = nb_axis_at(&x, x.ticks[i]);
        nb_axis_format(&x, x.ticks[i], text);
        nb_buf_printf(out, "<path class=\"grid\" d=\"M%.1f %dV%.1f\"/>\n", at, TOP, bottom);
        nb_svg_label(out, at, bottom + 16, "middle", "tick", text);
    }
    for (size_t r = 0; r < count; r++) {
        double middle = TOP + ROW * ((double)r + 0.5);
        nb_svg_label(out, left - 8, middle + 4, "end", "key", rows[r].name);
        nb_buf_printf(out, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n<path class=\"stroke s%zu\" d=\"", x.from,
                      middle, x.to, r % NB_SERIES);
        for (size_t i = 0; i < rows[r].n; i++)
            if (rows[r].values[i] >= x.lo && rows[r].values[i] <= x.hi)
                nb_buf_printf(out, "M%.1f %.1fv14", nb_axis_at(&x, rows[r].values[i]), middle - 7);
        nb_buf_z(out, "\"/>\n");
    }
    nb_svg_label(out, (x.from + x.to) / 2, size.height - 8, "middle", "axis", x.label);
    nb_buf_z(out, "</svg>\n");
    return size;
}

/* ---- bits ---- */

static size_t class_of(char field)
{
    return field >= '0' && field <= '7' ? (size_t)(field - '0')
           : field == 's'               ? 1
           : field == 'e'               ? 2
           : field == 'i'               ? 3
                                        : 0;
}

static void put_key(nb_buf *out, double x, double y, const nb_bit_row *rows, size_t count)
{
    static const struct {
        char field;
        const char *name;
    } keys[] = {{'s', "sign"}, {'e', "exponent (range)"}, {'f', "fraction (precision)"}, {'i', "whole number"}};
    for (size_t k = 0; k < 4; k++) {
        bool used = false;
        for (size_t i = 0; i < count; i++)
            used |= strchr(rows[i].fields, keys[k].field) != NULL;
        if (!used)
            continue;
        nb_buf_printf(out, "<rect class=\"box s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"14\"/>\n",
                      class_of(keys[k].field), x, y);
        nb_svg_label(out, x + 20, y + 11, "start", "key", keys[k].name);
        x += 44 + CHARACTER * (double)strlen(keys[k].name);
    }
}

nb_size nb_bit_boxes(nb_buf *out, const char *title, const nb_bit_row *rows, size_t count)
{
    enum { BOX = 18, ROW = 48, TOP = 30 };
    size_t bits = 0, names = 0, notes = 0;
    for (size_t i = 0; i < count; i++) {
        bits = nb_max_size(bits, strlen(rows[i].bits));
        names = nb_max_size(names, width_of(rows[i].name));
        notes = nb_max_size(notes, width_of(rows[i].note));
    }
    double left = 14 + (CHARACTER + 1) * (double)names, /* larger letters */
        width = left + fmax(BOX * (double)bits, CHARACTER * (double)notes) + 8;
    nb_size size = {fmax(width, 480), TOP + ROW * (double)count};
    nb_svg_open(out, title, size.width, size.height);
    put_key(out, left, 4, rows, count);
    for (size_t r = 0; r < count; r++) {
        double y = TOP + ROW * (double)r;
        nb_svg_label(out, left - 8, y + 14, "end", "axis", rows[r].name);
        for (size_t i = 0; rows[r].bits[i]; i++) {
            double x = left + BOX * (double)i;
            char bit[2] = {rows[r].bits[i], 0};
            nb_buf_printf(out, "<rect class=\"box s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"20\"/>\n",
                          class_of(rows[r].fields[i]), x, y, BOX);
            nb_svg_label(out, x + BOX / 2.0, y + 14.5, "middle", "on bit", bit);
        }
        if (rows[r].note)
            nb_svg_label(out, left, y + 35, "start", "tick", rows[r].note);
    }
    nb_buf_z(out, "</svg>\n");
    return size;
}

/* ---- sheets ---- */

enum { MARGIN = 20, GAP = 24, CAPTION_LINE = 16 };

static void break_line(nb_sheet *s)
{
    s->x = 0;
    s->y += s->line > 0 ? s->line + GAP : 0;
    s->line = 0;
}

void nb_sheet_title(nb_sheet *s, const char *title)
{
    break_line(s);
    nb_svg_label(&s->body, 0, s->y + 16, "start", "title", title);
    s->y += 30;
}

/* Lines of a caption; returns their height. */
static double put_caption(nb_sheet *s, double y, double width, const char *text)
{
    size_t most = nb_max_size((size_t)(width / SMALL), 20);
    double from = y;
    char line[256];
    while (*text) {
        size_t n = strlen(text), cut = nb_min_size(nb_min_size(n, most), sizeof line - 1);
        while (cut < n && cut > 0 && text[cut] != ' ')
            cut--;
        cut = cut ? cut : nb_min_size(n, most);
        snprintf(line, sizeof line, "%.*s", (int)cut, text);
        y += CAPTION_LINE;
        nb_svg_label(&s->body, s->x, y, "start", "tick", line);
        text += cut;
        text += strspn(text, " ");
    }
    return y - from;
}

void nb_sheet_place(nb_sheet *s, const nb_buf *figure, nb_size size, const char *caption)
{
    if (s->x > 0 && s->x + size.width > NB_SHEET_WIDTH)
        break_line(s);
    nb_buf_printf(&s->body, "<g transform=\"translate(%.1f %.1f)\">\n", s->x, s->y);
    nb_buf_str(&s->body, nb_buf_view(figure));
    nb_buf_z(&s->body, "</g>\n");
    s->body.failed |= figure->failed;
    double below = put_caption(s, s->y + size.height + 2, fmax(size.width, 220), caption);
    s->line = fmax(s->line, size.height + 2 + below);
    s->x += fmax(size.width, caption[0] ? 220 : 0) + GAP;
}

void nb_sheet_end(nb_sheet *s, const char *title, nb_buf *out)
{
    break_line(s);
    double width = NB_SHEET_WIDTH + 2 * MARGIN, height = s->y + MARGIN;
    nb_buf_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\">\n<title>",
        width, height, width, height);
    nb_svg_text(out, nb_str_of(title));
    nb_buf_z(out, "</title>\n<style>\n");
    nb_style_put(out);
    nb_buf_printf(
        out, "</style>\n<rect class=\"sheet\" width=\"100%%\" height=\"100%%\"/>\n<g transform=\"translate(%d %d)\">\n",
        MARGIN, MARGIN);
    nb_buf_str(out, nb_buf_view(&s->body));
    nb_buf_z(out, "</g>\n</svg>\n");
    out->failed |= s->body.failed;
    nb_buf_free(&s->body);
}
