#include "base/json_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail_at.h"

void nb_json_read_fail(nb_json_reader *r, size_t at, nb_status code, const char *format, ...)
{
    char what[400];
    va_list args;
    if (r->status != NB_OK)
        return;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    r->status = nb_fail_at(r->name, r->base + at, r->err, code, "%s", what);
}

#define BAD "; the file is damaged: get it again"

/* what was found instead of what was wanted */
static void wrong(nb_json_reader *r, const char *wanted)
{
    unsigned char c = r->at < r->text.n ? (unsigned char)r->text.p[r->at] : 0;
    if (r->at >= r->text.n)
        nb_json_read_fail(r, r->at, NB_ERR_FORMAT, "the JSON ends where %s should be" BAD, wanted);
    else if (c > 0x20 && c < 0x7f)
        nb_json_read_fail(r, r->at, NB_ERR_FORMAT, "the JSON has '%c' where %s should be" BAD, c, wanted);
    else
        nb_json_read_fail(r, r->at, NB_ERR_FORMAT, "the JSON has byte %02x where %s should be" BAD, c, wanted);
}

static int skip_space(nb_json_reader *r)
{
    if (r->status != NB_OK)
        return 0;
    while (r->at < r->text.n) {
        char c = r->text.p[r->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return (unsigned char)c;
        r->at++;
    }
    return 0;
}

char nb_json_read_peek(nb_json_reader *r)
{
    int c = skip_space(r);
    if (c == '-' || (c >= '0' && c <= '9'))
        return '0';
    return c && strchr("{[\"tfn", c) ? (char)c : 0;
}

static bool expect(nb_json_reader *r, char c, const char *wanted)
{
    if (skip_space(r) != c || r->status != NB_OK) {
        wrong(r, wanted);
        return false;
    }
    r->at++;
    return true;
}

void nb_json_read_enter(nb_json_reader *r, char bracket)
{
    if (skip_space(r) == bracket && r->depth == NB_JSON_DEPTH) {
        nb_json_read_fail(r, r->at, NB_ERR_LIMIT, "the JSON nests deeper than %d" BAD, NB_JSON_DEPTH);
        return;
    }
    if (!expect(r, bracket, bracket == '{' ? "an object ('{')" : "an array ('[')"))
        return;
    r->open[r->depth++] = bracket;
    r->fresh = true;
}

bool nb_json_read_more(nb_json_reader *r)
{
    int c = skip_space(r);
    if (r->status != NB_OK || r->depth == 0)
        return false;
    char closing = r->open[r->depth - 1] == '{' ? '}' : ']';
    if (c == closing) {
        r->at++;
        r->depth--;
        r->fresh = false;
        return false;
    }
    if (!r->fresh && !expect(r, ',', closing == '}' ? "',' or '}'" : "',' or ']'"))
        return false;
    r->fresh = false;
    return true;
}

/* ---- strings ---- */

/* bytes of the valid UTF-8 sequence at p (more than one), 0 when it is none (RFC 3629: no surrogates, shortest form) */
static size_t sequence(const unsigned char *p, size_t n)
{
    unsigned c = p[0];
    size_t bytes = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (bytes == 0 || bytes > n)
        return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool valid = !(c == 0xe0 && p[1] < 0xa0) && !(c == 0xed && p[1] > 0x9f) && !(c == 0xf0 && p[1] < 0x90) &&
                 !(c == 0xf4 && p[1] > 0x8f);
    return valid ? bytes : 0;
}

/* The string whose quote has been read, up to its closing quote; its raw bytes, and whether it has escapes. */
static nb_str scan_string(nb_json_reader *r, bool *escapes)
{
    size_t begin = r->at;
    *escapes = false;
    while (r->at < r->text.n) {
        unsigned char c = (unsigned char)r->text.p[r->at];
        if (c == '"')
            return (nb_str){r->text.p + begin, r->at++ - begin};
        size_t step = 1;
        if (c == '\\') {
            *escapes = true;
            step = r->at + 1 < r->text.n ? 2 : 1;
        } else if (c < 0x20) {
            nb_json_read_fail(r, r->at, NB_ERR_FORMAT, "a JSON string holds the control byte %02x" BAD, c);
            return (nb_str){"", 0};
        } else if (c >= 0x80 && (step = sequence((const unsigned char *)r->text.p + r->at, r->text.n - r->at)) == 0) {
            nb_json_read_fail(r, r->at, NB_ERR_FORMAT, "a JSON string is not UTF-8" BAD);
            return (nb_str){"", 0};
        }
        r->at += step;
    }
    wrong(r, "the end of a string");
    return (nb_str){"", 0};
}

static bool hex4(nb_str s, size_t at, uint32_t *out)
{
    *out = 0;
    if (s.n < 4 || at > s.n - 4)
        return false;
    for (size_t i = at; i < at + 4; i++) {
        char c = s.p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

/* The code point of the escape whose backslash is at s.p[*i]; *i moves behind it. False: no such escape. */
static bool unescape(nb_str s, size_t *i, uint32_t *code)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = *i + 1 < s.n ? s.p[*i + 1] : 0;
    const char *found = c ? strchr(names, c) : NULL;
    if (found) {
        *code = (unsigned char)values[found - names];
        *i += 2;
        return true;
    }
    if (c != 'u' || !hex4(s, *i + 2, code) || (*code >= 0xdc00 && *code <= 0xdfff))
        return false;
    *i += 6;
    if (*code < 0xd800 || *code > 0xdbff)
        return true;
    uint32_t low;
    if (*i + 1 >= s.n || s.p[*i] != '\\' || s.p[*i + 1] != 'u' || !hex4(s, *i + 2, &low) || low < 0xdc00 ||
        low > 0xdfff)
        return false;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    *i += 6;
    return true;
}

static size_t put_utf8(char *p, uint32_t c)
{
    if (c < 0x80)
        return p[0] = (char)c, 1;
    if (c < 0x800)
        return p[0] = (char)(0xc0 | c >> 6), p[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return p[0] = (char)(0xe0 | c >> 12), p[1] = (char)(0x80 | (c >> 6 & 63)), p[2] = (char)(0x80 | (c & 63)), 3;
    p[0] = (char)(0xf0 | c >> 18);
    p[1] = (char)(0x80 | (c >> 12 & 63));
    p[2] = (char)(0x80 | (c >> 6 & 63));
    p[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* An escape is never shorter than what it stands for: s.n bytes are room enough. NULL `to`: only checks. */
static nb_str resolve(nb_json_reader *r, nb_str s, char *to)
{
    size_t n = 0;
    char nowhere[4];
    for (size_t i = 0; i < s.n;) {
        uint32_t code;
        size_t at = i;
        if (s.p[i] != '\\') {
            if (to)
                to[n] = s.p[i];
            n++, i++;
        } else if (unescape(s, &i, &code)) {
            n += put_utf8(to ? to + n : nowhere, code);
        } else {
            nb_json_read_fail(r, (size_t)(s.p - r->text.p) + at, NB_ERR_FORMAT, "a JSON string has no such escape" BAD);
            return (nb_str){"", 0};
        }
    }
    return (nb_str){to, n};
}

static nb_str read_string(nb_json_reader *r, const char *wanted, bool keep)
{
    bool escapes;
    if (!expect(r, '"', wanted))
        return (nb_str){"", 0};
    nb_str s = scan_string(r, &escapes);
    if (!escapes || r->status != NB_OK)
        return s;
    char *to = keep ? nb_arena_alloc(r->arena, s.n + 1, 1) : NULL;
    if (keep && !to) {
        if (r->status == NB_OK)
            r->status = nb_fail_memory(r->err, r->name, s.n + 1);
        return (nb_str){"", 0};
    }
    return resolve(r, s, to);
}

nb_str nb_json_read_str(nb_json_reader *r) { return read_string(r, "a string", true); }

static nb_str read_key(nb_json_reader *r, bool keep)
{
    nb_str key = read_string(r, "a key ('\"')", keep);
    expect(r, ':', "':'");
    return key;
}

nb_str nb_json_read_key(nb_json_reader *r) { return read_key(r, true); }

/* ---- numbers and words ---- */

static bool digit_at(const nb_json_reader *r, size_t at)
{
    return at < r->text.n && r->text.p[at] >= '0' && r->text.p[at] <= '9';
}

static void skip_digits(nb_json_reader *r)
{
    if (!digit_at(r, r->at))
        wrong(r, "a digit");
    while (digit_at(r, r->at))
        r->at++;
}

/* JSON's own grammar: no leading zeros, no bare points */
static nb_str scan_number(nb_json_reader *r)
{
    if (nb_json_read_peek(r) != '0') {
        wrong(r, "a number");
        return (nb_str){"", 0};
    }
    size_t begin = r->at;
    r->at += r->text.p[r->at] == '-';
    if (digit_at(r, r->at) && r->text.p[r->at] == '0')
        r->at++;
    else
        skip_digits(r);
    if (digit_at(r, r->at))
        nb_json_read_fail(r, begin, NB_ERR_FORMAT, "a JSON number begins with 0" BAD);
    if (r->at < r->text.n && r->text.p[r->at] == '.') {
        r->at++;
        skip_digits(r);
    }
    if (r->at < r->text.n && (r->text.p[r->at] | 32) == 'e') {
        r->at++;
        if (r->at < r->text.n && (r->text.p[r->at] == '+' || r->text.p[r->at] == '-'))
            r->at++;
        skip_digits(r);
    }
    return r->status == NB_OK ? (nb_str){r->text.p + begin, r->at - begin} : (nb_str){"", 0};
}

uint64_t nb_json_read_u64(nb_json_reader *r)
{
    uint64_t x = 0;
    nb_str s = scan_number(r);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9' || __builtin_mul_overflow(x, 10, &x) ||
            __builtin_add_overflow(x, (uint64_t)(s.p[i] - '0'), &x)) {
            nb_json_read_fail(r, (size_t)(s.p - r->text.p), NB_ERR_FORMAT,
                              "%.*s is not a whole number from 0 to 18446744073709551615" BAD,
                              (int)(s.n < 40 ? s.n : 40), s.p);
            return 0;
        }
    return x;
}

double nb_json_read_num(nb_json_reader *r)
{
    enum { LONGEST = 400 }; /* of a number that means something; strtod wants a terminator */
    char text[LONGEST + 1];
    nb_str s = scan_number(r);
    if (s.n > LONGEST) {
        nb_json_read_fail(r, (size_t)(s.p - r->text.p), NB_ERR_LIMIT, "a number of %zu digits" BAD, s.n);
        return 0;
    }
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    return strtod(text, NULL);
}

static void read_word(nb_json_reader *r, const char *word)
{
    size_t n = strlen(word);
    if (r->text.n - r->at >= n && memcmp(r->text.p + r->at, word, n) == 0)
        r->at += n;
    else
        wrong(r, word);
}

bool nb_json_read_bool(nb_json_reader *r)
{
    char c = nb_json_read_peek(r);
    if (c == 't' || c == 'f')
        read_word(r, c == 't' ? "true" : "false");
    else
        wrong(r, "true or false");
    return c == 't' && r->status == NB_OK;
}

void nb_json_read_skip(nb_json_reader *r) /* recursion ends at NB_JSON_DEPTH */
{
    char c = nb_json_read_peek(r);
    if (c == '{' || c == '[') {
        nb_json_read_enter(r, c);
        while (nb_json_read_more(r)) {
            if (c == '{')
                read_key(r, false);
            nb_json_read_skip(r);
        }
    } else if (c == '"') {
        read_string(r, "a string", false);
    } else if (c == '0') {
        scan_number(r);
    } else if (c) {
        read_word(r, c == 't' ? "true" : c == 'f' ? "false" : "null");
    } else {
        wrong(r, "a value");
    }
}

nb_status nb_json_read_end(nb_json_reader *r)
{
    if (skip_space(r) || (r->status == NB_OK && r->at < r->text.n))
        wrong(r, "the end");
    return r->status;
}
