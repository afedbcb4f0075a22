#include "base/json_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nb_format_double(double value, char text[32])
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

void nb_format_float(float value, char text[32])
{
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, 32, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            return;
    }
}

static void indent(nb_json *j)
{
    if (!j->pretty)
        return;
    nb_buf_char(j->out, '\n');
    for (int i = 0; i < j->depth; i++)
        nb_buf_z(j->out, "  ");
}

static void before_value(nb_json *j)
{
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    if (!j->first)
        nb_buf_char(j->out, ',');
    if (j->depth > 0)
        indent(j);
    j->first = false;
}

void nb_json_open(nb_json *j, char bracket)
{
    before_value(j);
    nb_buf_char(j->out, bracket);
    j->depth++;
    j->first = true;
}

void nb_json_close(nb_json *j, char bracket)
{
    j->depth--;
    if (!j->first)
        indent(j);
    nb_buf_char(j->out, bracket);
    j->first = false;
}

/* length of the valid UTF-8 sequence at s, 0 when there is none */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xC2 && s[0] < 0xE0)
        return n >= 2 && (s[1] & 0xC0) == 0x80 ? 2 : 0;
    if (s[0] >= 0xE0 && s[0] < 0xF0) {
        unsigned char low = s[0] == 0xE0 ? 0xA0 : 0x80, high = s[0] == 0xED ? 0x9F : 0xBF;
        return n >= 3 && s[1] >= low && s[1] <= high && (s[2] & 0xC0) == 0x80 ? 3 : 0;
    }
    if (s[0] >= 0xF0 && s[0] < 0xF5) {
        unsigned char low = s[0] == 0xF0 ? 0x90 : 0x80, high = s[0] == 0xF4 ? 0x8F : 0xBF;
        return n >= 4 && s[1] >= low && s[1] <= high && (s[2] & 0xC0) == 0x80 && (s[3] & 0xC0) == 0x80 ? 4 : 0;
    }
    return 0;
}

static bool in_html(const char *s, size_t n)
{
    return n == 1 ? strchr("<>&\b\f", *s) != NULL
                  : n == 3 && (memcmp(s, "\u2028", 3) == 0 || memcmp(s, "\u2029", 3) == 0);
}

static void escape_html(nb_buf *b, const char *s, size_t n)
{
    if (n == 3)
        nb_buf_printf(b, "\\u202%c", s[2] == '\xA8' ? '8' : '9');
    else if (*s == '\b' || *s == '\f')
        nb_buf_z(b, *s == '\b' ? "\\b" : "\\f");
    else
        nb_buf_printf(b, "\\u%04x", *s);
}

static void quoted(const nb_json *j, nb_str s)
{
    nb_buf *b = j->out;
    nb_buf_char(b, '"');
    for (size_t i = 0; i < s.n;) {
        unsigned char c = (unsigned char)s.p[i];
        size_t n = utf8_length((const unsigned char *)s.p + i, s.n - i);
        if (n == 0) {
            nb_buf_z(b, "\xEF\xBF\xBD");
            n = 1;
        } else if (j->html && c && in_html(s.p + i, n)) {
            escape_html(b, s.p + i, n);
        } else if (c == '"' || c == '\\') {
            nb_buf_char(b, '\\');
            nb_buf_char(b, (char)c);
        } else if (c == '\n')
            nb_buf_z(b, "\\n");
        else if (c == '\t')
            nb_buf_z(b, "\\t");
        else if (c == '\r')
            nb_buf_z(b, "\\r");
        else if (c < 0x20)
            nb_buf_printf(b, "\\u%04x", c);
        else
            nb_buf_add(b, s.p + i, n);
        i += n;
    }
    nb_buf_char(b, '"');
}

void nb_json_key_str(nb_json *j, nb_str key)
{
    before_value(j);
    quoted(j, key);
    nb_buf_z(j->out, j->pretty ? ": " : ":");
    j->after_key = true;
}

void nb_json_key(nb_json *j, const char *key) { nb_json_key_str(j, nb_str_of(key)); }

void nb_json_str(nb_json *j, nb_str value)
{
    before_value(j);
    quoted(j, value);
}

void nb_json_z(nb_json *j, const char *value) { nb_json_str(j, nb_str_of(value)); }

void nb_json_int(nb_json *j, int64_t value)
{
    before_value(j);
    nb_buf_printf(j->out, "%lld", (long long)value);
}

void nb_json_uint(nb_json *j, uint64_t value)
{
    before_value(j);
    nb_buf_printf(j->out, "%llu", (unsigned long long)value);
}

static void number(nb_json *j, bool finite, const char *text)
{
    before_value(j);
    nb_buf_z(j->out, finite ? text : "null");
}

void nb_json_num(nb_json *j, double value)
{
    char text[32];
    nb_format_double(value, text);
    number(j, isfinite(value), text);
}

void nb_json_f32(nb_json *j, float value)
{
    char text[32];
    nb_format_float(value, text);
    number(j, isfinite(value), text);
}

void nb_json_bool(nb_json *j, bool value)
{
    before_value(j);
    nb_buf_z(j->out, value ? "true" : "false");
}

void nb_json_null(nb_json *j)
{
    before_value(j);
    nb_buf_z(j->out, "null");
}
