#include "cli/text_width.h"

#include <utf8proc.h>

const char *const nb_join_samples[3] = {"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80",
                                        "\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd", "\xe2\x9d\xa4\xef\xb8\x8f"};

static unsigned joins;

void nb_glyph_joins(unsigned kinds) { joins = kinds; }

static bool is_modifier(int32_t c) { return c >= 0x1f3fb && c <= 0x1f3ff; }

typedef struct cluster {
    int sum, widest, count;
    unsigned kinds; /* of joining that it has */
} cluster;

static void add(cluster *k, int32_t c)
{
    int width = utf8proc_charwidth(c);
    if (k->count > 0) {
        k->kinds |= c == 0x200d ? NB_JOIN_ZWJ : c == 0xfe0f ? NB_JOIN_STYLE : is_modifier(c) ? NB_JOIN_MODIFIER : 0u;
        if (c >= 0x1160 && c <= 0x11ff) /* the later parts of a Korean syllable */
            width = 0;
    }
    k->sum += width;
    k->widest = width > k->widest ? width : k->widest;
    k->count++;
}

static int width_of(const cluster *k)
{
    unsigned joined = k->kinds & joins;
    if (k->kinds & NB_JOIN_ZWJ)
        return joined & NB_JOIN_ZWJ ? 2 : k->sum;
    if (k->kinds & NB_JOIN_MODIFIER)
        return joined & NB_JOIN_MODIFIER ? k->widest : k->sum;
    return joined & NB_JOIN_STYLE && k->sum < 2 ? 2 : k->sum;
}

nb_glyph nb_glyph_at(nb_str s)
{
    utf8proc_int32_t first, c, before, state = 0;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.p, (utf8proc_ssize_t)s.n, &first);
    if (n <= 0)
        return (nb_glyph){1, 1, false};
    if (first < 0x20 || (first >= 0x7f && first < 0xa0))
        return (nb_glyph){(size_t)n, -1, false};
    cluster k = {0};
    add(&k, first);
    size_t at = (size_t)n;
    for (before = first; at < s.n; before = c) {
        n = utf8proc_iterate((const utf8proc_uint8_t *)s.p + at, (utf8proc_ssize_t)(s.n - at), &c);
        if (n <= 0 || utf8proc_grapheme_break_stateful(before, c, &state))
            break;
        add(&k, c);
        at += (size_t)n;
    }
    return (nb_glyph){at, width_of(&k), k.kinds != 0};
}

static bool is_ascii(char c) { return (unsigned char)c < 0x80; }

/* The nearest border before `at` that is one whatever lies before it: at a line's end, or between two ASCII characters. From there
 * reading tells where clusters are cut. */
static size_t sure_border(nb_str s, size_t at)
{
    while (at > 0 && s.p[at - 1] != '\n' && (at == s.n || s.p[at] != '\n') &&
           !(at < s.n && is_ascii(s.p[at - 1]) && is_ascii(s.p[at])))
        at--;
    return at;
}

size_t nb_glyph_before(nb_str s, size_t at)
{
    for (size_t begin = sure_border(s, at - 1);;) {
        size_t next = begin + nb_glyph_at((nb_str){s.p + begin, at - begin}).bytes;
        if (next >= at)
            return begin;
        begin = next;
    }
}

size_t nb_glyph_border(nb_str s, size_t at)
{
    size_t border = at < s.n ? sure_border(s, at) : s.n;
    while (border < at)
        border += nb_glyph_at((nb_str){s.p + border, s.n - border}).bytes;
    return border;
}

int nb_text_width(nb_str s)
{
    int width = 0;
    for (size_t at = 0; at < s.n;) {
        nb_glyph g = nb_glyph_at((nb_str){s.p + at, s.n - at});
        width += g.width < 0 ? 1 : g.width;
        at += g.bytes;
    }
    return width;
}
