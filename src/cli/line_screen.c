#include "cli/line_screen.h"

#include <stdlib.h>

#include "cli/text_width.h"

enum { TAB = 4 };

/* ---- rows ---- */

static nb_screen_row *add_row(nb_screen *s, size_t begin, bool first)
{
    if (s->count == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 32;
        nb_screen_row *rows = realloc(s->rows, cap * sizeof *rows);
        if (!rows) {
            s->failed = true;
            return s->count ? &s->rows[s->count - 1] : NULL;
        }
        s->rows = rows;
        s->cap = cap;
    }
    int width = first ? nb_text_width(nb_str_of(begin == 0 ? s->prompt : s->more)) : 0;
    s->rows[s->count] = (nb_screen_row){begin, begin, width, first};
    return &s->rows[s->count++];
}

static int width_of(const nb_glyph *g, char c) { return c == '\t' ? TAB : g->width < 0 ? 1 : g->width; }

/* The rows of a text in this window, and where the cursor is. */
static void lay_out(nb_screen *s, nb_str text, size_t at)
{
    s->count = 0;
    nb_screen_row *row = add_row(s, 0, true);
    for (size_t i = 0; row && !s->failed;) {
        nb_glyph g = i < text.n ? nb_glyph_at((nb_str){text.p + i, text.n - i}) : (nb_glyph){0};
        int width = i < text.n && text.p[i] != '\n' ? width_of(&g, text.p[i]) : 0;
        bool cursor_falls = i == at && row->width >= s->columns; /* there is no place for it behind a full row */
        if ((row->width + width > s->columns && row->width > 0) || cursor_falls)
            row = add_row(s, i, false);
        if (i == at && row) {
            s->cursor_row = s->count - 1;
            s->cursor_column = row->width;
        }
        if (i >= text.n || !row)
            break;
        i += g.bytes;
        row->end = text.p[i - g.bytes] == '\n' ? i - g.bytes : i;
        row->width += width;
        if (text.p[i - g.bytes] == '\n')
            row = add_row(s, i, true);
    }
}

/* ---- drawing ---- */

static void go_up(nb_buf *out, size_t rows)
{
    if (rows)
        nb_buf_printf(out, "\033[%zuA", rows);
}

static void put_row(const nb_screen *s, size_t i, nb_str text, nb_buf *out)
{
    const nb_screen_row *row = &s->rows[i];
    if (row->first)
        nb_buf_z(out, row->begin == 0 ? s->prompt : s->more);
    for (size_t at = row->begin; at < row->end; at++)
        if (text.p[at] == '\t')
            nb_buf_printf(out, "%*s", TAB, "");
        else
            nb_buf_char(out, text.p[at]);
}

static void put_placeholder(const nb_screen *s, nb_buf *out)
{
    nb_str text = nb_str_of(s->placeholder ? s->placeholder : "");
    int room = s->columns - s->rows[0].width - 1;
    while (text.n && nb_text_width(text) > room)
        text.n = nb_glyph_before(text, text.n);
    if (s->color)
        nb_buf_z(out, "\033[38;5;245m");
    nb_buf_str(out, text);
    if (s->color)
        nb_buf_z(out, "\033[0m");
}

/* Nothing is cleared before it is written over: no flicker, and terminals that keep a screen that is cleared keep nothing. */
void nb_screen_home(nb_screen *s, nb_buf *out)
{
    if (s->drawn)
        go_up(out, s->cursor_row - s->top);
    nb_buf_char(out, '\r');
    s->stale |= s->drawn;
    s->drawn = false;
}

/* Clears what an earlier draw left behind the last row. A full row's cursor is still on it; where it is the window's last there is
 * nothing below, and another row would scroll the first one away. */
static void clear_below(nb_screen *s, const nb_screen_row *last, bool fills, nb_buf *out)
{
    if (last->width < s->columns)
        nb_buf_z(out, "\033[J");
    else if (s->stale && !fills)
        nb_buf_z(out, "\r\n\033[J\033[A");
    s->stale = false;
}

static void end_row(const nb_screen *s, size_t i, nb_buf *out)
{
    nb_buf_z(out, s->rows[i].width < s->columns ? "\033[K\r\n" : "\r\n");
}

void nb_screen_draw(nb_screen *s, nb_str text, size_t at, nb_buf *out)
{
    size_t top = s->drawn ? s->top : 0, lines = s->lines > 0 ? (size_t)s->lines : 1;
    size_t before = s->drawn ? nb_min_size(s->count, lines) : SIZE_MAX; /* rows in the window */
    nb_screen_home(s, out);
    lay_out(s, text, at);
    if (s->failed)
        return;
    top = nb_min_size(top, s->cursor_row);
    if (s->cursor_row >= top + lines)
        top = s->cursor_row + 1 - lines;
    s->top = s->count <= lines ? 0 : nb_min_size(top, s->count - lines);
    size_t end = nb_min_size(s->top + lines, s->count);
    s->stale &= before > end - s->top;
    for (size_t i = s->top; i < end; i++) {
        if (i > s->top)
            end_row(s, i - 1, out);
        put_row(s, i, text, out);
    }
    if (text.n == 0)
        put_placeholder(s, out);
    clear_below(s, &s->rows[end - 1], end - s->top == lines, out);
    go_up(out, end - 1 - s->cursor_row);
    nb_buf_char(out, '\r');
    if (s->cursor_column)
        nb_buf_printf(out, "\033[%dC", s->cursor_column);
    s->drawn = true;
}

void nb_screen_leave(nb_screen *s, nb_str text, nb_buf *out)
{
    nb_screen_home(s, out);
    lay_out(s, text, SIZE_MAX);
    for (size_t i = 0; i < s->count && !s->failed; i++) {
        put_row(s, i, text, out);
        end_row(s, i, out);
    }
    nb_buf_z(out, "\033[J");
    s->stale = false;
    s->top = 0;
}

void nb_screen_resize(nb_screen *s, int columns, int lines, nb_buf *out)
{
    if (s->drawn && columns > 0) {
        size_t up = (size_t)(s->cursor_column / columns);
        for (size_t i = s->top; i < s->cursor_row; i++)
            up += s->rows[i].width > 0 ? (size_t)((s->rows[i].width - 1) / columns) + 1 : 1;
        go_up(out, nb_min_size(up, lines > 0 ? (size_t)lines : 1));
        nb_buf_char(out, '\r');
        s->drawn = false;
        s->stale = true;
    }
    s->columns = columns;
    s->lines = lines;
}

bool nb_screen_move(nb_screen *s, nb_str text, size_t at, int by, int *goal, size_t *to)
{
    lay_out(s, text, at);
    if (s->failed || (by < 0 && s->cursor_row == 0) || (by > 0 && s->cursor_row + 1 >= s->count))
        return false;
    const nb_screen_row *row = &s->rows[by < 0 ? s->cursor_row - 1 : s->cursor_row + 1];
    int column = row->first ? nb_text_width(nb_str_of(row->begin == 0 ? s->prompt : s->more)) : 0;
    size_t i = row->begin;
    *goal = *goal < 0 ? s->cursor_column : *goal;
    while (i < row->end) {
        nb_glyph g = nb_glyph_at((nb_str){text.p + i, row->end - i});
        int width = width_of(&g, text.p[i]);
        if (column + width > *goal)
            break;
        column += width;
        i += g.bytes;
    }
    *to = i;
    return true;
}

void nb_screen_free(nb_screen *s)
{
    free(s->rows);
    s->rows = NULL;
}
