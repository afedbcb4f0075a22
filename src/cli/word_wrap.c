#include "cli/word_wrap.h"

#include <utf8proc.h>

#include "cli/text_width.h"

enum { TAB = 4 };

/* The last column stays empty: a terminal whose line is full has its cursor at one of two places. */
static int room(const nb_wrap *w) { return w->width > 1 ? w->width - 1 : w->width; }

static void end_word(nb_wrap *w)
{
    nb_buf_clear(&w->text);
    w->word = 0;
}

static void end_cluster(nb_wrap *w)
{
    nb_buf_clear(&w->cluster);
    w->cluster_width = 0;
}

static void new_line(nb_wrap *w, nb_buf *out)
{
    nb_buf_char(out, '\n');
    w->column = 0;
    end_word(w);
    end_cluster(w);
}

static void put_space(nb_wrap *w, int columns, nb_buf *out)
{
    end_word(w);
    end_cluster(w);
    if (w->width && w->column + columns > room(w)) /* the space that a line is broken at is not seen */
        return;
    nb_buf_printf(out, "%*s", columns, "");
    w->column += columns;
}

/* What lies behind the line's end goes to the next: the word, or, when it is longer than a line, what comes now. */
static void break_line(nb_wrap *w, nb_str character, nb_buf *out)
{
    nb_buf_str(&w->text, character);
    if (w->word == w->column || w->word > room(w)) {
        nb_str last = nb_buf_view(&w->cluster);
        if (w->cluster_width && w->column > w->cluster_width) { /* a cluster that grew takes its beginning along */
            nb_buf_printf(out, "\033[%dD\033[K\n", w->cluster_width);
            nb_buf_str(out, last);
            w->column = w->cluster_width;
        } else {
            nb_buf_char(out, '\n');
            w->column = 0;
        }
        nb_buf_clear(&w->text);
        nb_buf_str(&w->text, last);
        nb_buf_str(&w->text, character);
        w->word = w->column;
        return;
    }
    if (w->word)
        nb_buf_printf(out, "\033[%dD\033[K", w->word);
    nb_buf_char(out, '\n');
    nb_buf_add(out, w->text.data, w->text.len - character.n);
    w->column = w->word;
}

/* Scripts without spaces break anywhere, but not before a mark that closes. */
static bool begins_word(int32_t c)
{
    static const int32_t closing[] = {0x3001, 0x3002, 0xff0c, 0xff0e, 0xff01, 0xff1f,
                                      0x300d, 0x300f, 0xff09, 0x30fc, 0};
    if (utf8proc_charwidth(c) != 2)
        return false;
    for (const int32_t *p = closing; *p; p++)
        if (*p == c)
            return false;
    return true;
}

static void put(nb_wrap *w, int32_t c, nb_str bytes, nb_buf *out)
{
    nb_str before = nb_buf_view(&w->cluster);
    size_t held = before.n;
    nb_buf_str(&w->cluster, bytes);
    if (w->cluster.failed)
        return;
    nb_glyph g = nb_glyph_at(nb_buf_view(&w->cluster));
    if (held && g.bytes <= held) { /* a new cluster */
        nb_buf_clear(&w->cluster);
        nb_buf_str(&w->cluster, bytes);
        w->cluster_width = 0;
        g = nb_glyph_at(bytes);
        if (begins_word(c))
            end_word(w);
    }
    int more = g.width - w->cluster_width;
    if (w->width && w->column + more > room(w) && w->column > 0) {
        w->cluster.len -= bytes.n; /* as it is on the screen */
        break_line(w, bytes, out);
        w->cluster.len += bytes.n;
    } else {
        nb_buf_str(&w->text, bytes);
    }
    nb_buf_str(out, bytes);
    w->column += more;
    w->word += more;
    w->cluster_width = g.width;
}

void nb_wrap_add(nb_wrap *w, nb_str piece, nb_buf *out)
{
    for (size_t at = 0; at < piece.n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)piece.p + at, (utf8proc_ssize_t)(piece.n - at),
                                              &c);
        nb_str bytes = {piece.p + at, n > 0 ? (size_t)n : 1};
        at += bytes.n;
        if (n <= 0 || (c < 0x20 && c != '\n' && c != '\t' && c != '\r') || (c >= 0x7f && c < 0xa0))
            put(w, '?', NB_STR("?"), out);
        else if (c == '\n')
            new_line(w, out);
        else if (c == ' ')
            put_space(w, 1, out);
        else if (c == '\t')
            put_space(w, TAB - w->column % TAB, out);
        else if (c != '\r')
            put(w, c, bytes, out);
    }
}

void nb_wrap_reset(nb_wrap *w)
{
    w->column = 0;
    end_word(w);
    end_cluster(w);
}

void nb_wrap_free(nb_wrap *w)
{
    nb_buf_free(&w->text);
    nb_buf_free(&w->cluster);
}
