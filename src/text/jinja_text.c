#define _GNU_SOURCE /* memmem */
#include "text/jinja_text.h"

#include <string.h>
#include <utf8proc.h>

/* ---- code points ---- */

uint32_t nb_jnext_char(nb_str s, size_t *pos)
{
    unsigned char first = (unsigned char)s.p[*pos];
    if (first < 0x80) {
        ++*pos;
        return first;
    }
    utf8proc_int32_t c;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.p + *pos,
                                          (utf8proc_ssize_t)nb_min_size(s.n - *pos, 4), &c);
    *pos += n > 0 ? (size_t)n : 1;
    return n > 0 ? (uint32_t)c : 0xFFFD;
}

size_t nb_jchar_count(nb_str s)
{
    size_t count = 0;
    for (size_t pos = 0; pos < s.n; count++)
        nb_jnext_char(s, &pos);
    return count;
}

size_t nb_jchar_offset(nb_str s, size_t index)
{
    size_t pos = 0;
    while (index-- && pos < s.n)
        nb_jnext_char(s, &pos);
    return pos;
}

bool nb_jis_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }

bool nb_jis_alpha(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool nb_jis_digit(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool nb_jis_upper(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LU; }
bool nb_jis_lower(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LL; }

bool nb_jis_word(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return c == '_' || nb_jis_alpha(c) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

static bool is_cased(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static void add_upper(nb_buf *b, uint32_t c, bool title)
{
    if (c == 0xDF) /* the one letter of everyday text whose capital is two */
        nb_buf_z(b, title ? "Ss" : "SS");
    else
        nb_buf_utf8(b,
                    (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)c) : utf8proc_toupper((utf8proc_int32_t)c)));
}

static void add_lower(nb_buf *b, uint32_t c) { nb_buf_utf8(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c)); }

nb_jval nb_jrecase(nb_jinja *j, nb_str s, nb_jcase how)
{
    nb_buf b = {0};
    bool inside = false; /* the character before was a letter with a case */
    if (!nb_jspend(j, s.n / 4))
        return nb_jnone();
    nb_buf_reserve(&b, s.n);
    for (size_t pos = 0; pos < s.n;) {
        bool first = pos == 0;
        uint32_t c = nb_jnext_char(s, &pos);
        bool title = (how == NB_JCASE_TITLE && !inside) || (how == NB_JCASE_CAPITALIZE && first);
        if (how == NB_JCASE_UPPER || title || (how == NB_JCASE_SWAP && nb_jis_lower(c)))
            add_upper(&b, c, title);
        else
            add_lower(&b, c);
        inside = is_cased(c);
    }
    return nb_jstr_take(j, &b);
}

/* ---- searching and cutting ---- */

size_t nb_jfind(nb_str s, nb_str needle, size_t from)
{
    if (from > s.n || needle.n > s.n - from)
        return SIZE_MAX;
    if (needle.n == 0)
        return from;
    const char *found = memmem(s.p + from, s.n - from, needle.p, needle.n);
    return found ? (size_t)(found - s.p) : SIZE_MAX;
}

size_t nb_jfind_last(nb_str s, nb_str needle)
{
    if (needle.n > s.n)
        return SIZE_MAX;
    for (size_t i = s.n - needle.n;; i--) {
        if (needle.n == 0 || (s.p[i] == needle.p[0] && memcmp(s.p + i, needle.p, needle.n) == 0))
            return i;
        if (i == 0)
            return SIZE_MAX;
    }
}

static bool in_set(uint32_t c, const nb_str *chars)
{
    if (!chars)
        return nb_jis_space(c);
    for (size_t pos = 0; pos < chars->n;)
        if (nb_jnext_char(*chars, &pos) == c)
            return true;
    return false;
}

/* The byte where the last character of s starts. */
static size_t last_char(nb_str s)
{
    size_t start = s.n;
    do
        start--;
    while (start > 0 && s.n - start < 4 && ((unsigned char)s.p[start] & 0xC0) == 0x80);
    size_t end = start;
    nb_jnext_char(s, &end);
    return end == s.n ? start : s.n - 1;
}

nb_str nb_jstrip(nb_str s, const nb_str *chars, bool left, bool right)
{
    while (left && s.n) {
        size_t end = 0;
        if (!in_set(nb_jnext_char(s, &end), chars))
            break;
        s = (nb_str){s.p + end, s.n - end};
    }
    while (right && s.n) {
        size_t start = last_char(s), end = start;
        if (!in_set(nb_jnext_char(s, &end), chars))
            break;
        s.n = start;
    }
    return s;
}

/* old is empty: new_ before every character and at the end */
static void replace_between(nb_jinja *j, nb_buf *b, nb_str s, nb_str new_, int64_t count)
{
    size_t pos = 0;
    while (nb_jok(j)) {
        if (count != 0) {
            count -= count > 0;
            nb_jwrite(j, b, new_);
        }
        if (pos >= s.n)
            return;
        size_t start = pos;
        nb_jnext_char(s, &pos);
        nb_jwrite(j, b, (nb_str){s.p + start, pos - start});
    }
}

nb_jval nb_jreplace(nb_jinja *j, nb_str s, nb_str old, nb_str new_, int64_t count)
{
    nb_buf b = {0};
    if (old.n == 0) {
        replace_between(j, &b, s, new_, count);
        return nb_jstr_take(j, &b);
    }
    size_t pos = 0;
    while (nb_jok(j) && count != 0) {
        size_t found = nb_jfind(s, old, pos);
        if (found == SIZE_MAX)
            break;
        nb_jwrite(j, &b, (nb_str){s.p + pos, found - pos});
        nb_jwrite(j, &b, new_);
        pos = found + old.n;
        count -= count > 0;
    }
    nb_jwrite(j, &b, (nb_str){s.p + pos, s.n - pos});
    return nb_jstr_take(j, &b);
}

static bool is_line_end(uint32_t c)
{
    return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

nb_jval nb_jsplitlines(nb_jinja *j, nb_str s, bool keep_ends)
{
    nb_jval out = nb_jlist_new(j, NB_J_LIST, 0);
    if (!nb_jspend_bytes(j, s.n))
        return out;
    size_t start = 0;
    for (size_t pos = 0; pos < s.n && nb_jok(j);) {
        size_t end = pos;
        uint32_t c = nb_jnext_char(s, &pos);
        if (!is_line_end(c))
            continue;
        if (c == '\r' && pos < s.n && s.p[pos] == '\n')
            pos++;
        nb_jspend(j, 1);
        nb_jlist_push(j, out, nb_jstr((nb_str){s.p + start, (keep_ends ? pos : end) - start}));
        start = pos;
    }
    if (start < s.n)
        nb_jlist_push(j, out, nb_jstr((nb_str){s.p + start, s.n - start}));
    return out;
}

nb_jval nb_jescape(nb_jinja *j, nb_jval v)
{
    if (v.kind == NB_J_STR && v.safe)
        return v;
    nb_str s = nb_jto_str(j, v);
    nb_buf b = {0};
    nb_jspend_bytes(j, s.n);
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&': nb_buf_z(&b, "&amp;"); break;
        case '<': nb_buf_z(&b, "&lt;"); break;
        case '>': nb_buf_z(&b, "&gt;"); break;
        case '\'': nb_buf_z(&b, "&#39;"); break;
        case '"': nb_buf_z(&b, "&#34;"); break;
        default: nb_buf_char(&b, s.p[i]);
        }
    }
    nb_jval out = nb_jstr_take(j, &b);
    out.safe = true;
    return out;
}
