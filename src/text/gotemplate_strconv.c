/* Go's strconv as far as templates need it: literals to values, values to literals, floats to text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "text/gotemplate_text.h"
#include "text/utf8.h"

/* ---- characters ---- */

bool nb_go_is_letter_or_digit(uint32_t c)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || k == UTF8PROC_CATEGORY_ND;
}

bool nb_go_is_print(uint32_t c)
{
    if (c < 0x7F)
        return c >= 0x20;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_SO;
}

uint32_t nb_go_next_char(nb_str s, size_t *at, bool *valid)
{
    uint32_t c;
    size_t n = nb_utf8_decode((const unsigned char *)s.p + *at, s.n - *at, &c);
    *valid = n > 0;
    *at += n ? n : 1;
    return n ? c : 0xFFFD;
}

size_t nb_go_char_count(nb_str s)
{
    size_t count = 0;
    for (size_t at = 0; at < s.n; count++)
        at += nb_utf8_step((const unsigned char *)s.p + at, s.n - at);
    return count;
}

/* ---- literals ---- */

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
}

static bool digits(nb_str s, size_t *at, int count, int base, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, ++*at) {
        int digit = *at < s.n ? digit_of(s.p[*at]) : 99;
        if (digit >= base)
            return false;
        *out = *out * (uint32_t)base + (uint32_t)digit;
    }
    return true;
}

/* The escape whose backslash has been read. *byte: it stands for a byte, not for a code point. */
static bool unescape(nb_str s, size_t *at, char quote, uint32_t *out, bool *byte)
{
    static const char names[] = "abfnrtv\\", values[] = "\a\b\f\n\r\t\v\\";
    char c = *at < s.n ? s.p[(*at)++] : 0;
    const char *simple = c ? strchr(names, c) : NULL;
    *byte = false;
    if (simple)
        return *out = (unsigned char)values[simple - names], true;
    if (c == 'x')
        return *byte = true, digits(s, at, 2, 16, out);
    if (c == 'u' || c == 'U')
        return digits(s, at, c == 'u' ? 4 : 8, 16, out) && *out <= 0x10FFFF && !(*out >= 0xD800 && *out <= 0xDFFF);
    if (c >= '0' && c <= '7')
        return *byte = true, --*at, digits(s, at, 3, 8, out) && *out <= 255;
    return *out = (unsigned char)c, c && c == quote;
}

static nb_status unquote_raw(nb_arena *a, nb_str s, nb_str *out)
{
    *out = s;
    if (!s.n || !memchr(s.p, '\r', s.n))
        return NB_OK;
    char *to = nb_arena_strdup(a, s);
    if (!to)
        return NB_ERR_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\r')
            to[n++] = s.p[i];
    *out = (nb_str){to, n};
    return NB_OK;
}

nb_status nb_go_unquote(nb_arena *a, nb_str literal, nb_str *out)
{
    nb_str s = {literal.p + 1, literal.n - 2};
    if (literal.p[0] == '`')
        return unquote_raw(a, s, out);
    *out = s;
    if (!s.n || !memchr(s.p, '\\', s.n))
        return NB_OK;
    nb_buf b = {0};
    bool ok = true, byte;
    for (size_t at = 0; ok && at < s.n;) {
        uint32_t c;
        if (s.p[at] != '\\') {
            nb_buf_char(&b, s.p[at++]);
            continue;
        }
        at++;
        ok = unescape(s, &at, '"', &c, &byte);
        if (ok && byte)
            nb_buf_char(&b, (char)c);
        else if (ok)
            nb_buf_utf8(&b, c);
    }
    out->p = ok && !b.failed ? nb_arena_strdup(a, nb_buf_view(&b)) : NULL;
    out->n = b.len;
    nb_buf_free(&b);
    return !ok ? NB_ERR_FORMAT : out->p ? NB_OK : NB_ERR_MEMORY;
}

bool nb_go_unquote_char(nb_str literal, int64_t *out)
{
    nb_str s = {literal.p + 1, literal.n - 2};
    uint32_t c;
    size_t at = 0;
    bool byte, valid;
    if (s.n == 0)
        return false;
    if (s.p[0] == '\\') {
        at = 1;
        if (!unescape(s, &at, '\'', &c, &byte))
            return false;
    } else
        c = nb_go_next_char(s, &at, &valid);
    *out = c;
    return at == s.n;
}

/* Underscores stand between digits, or between the base's prefix and a digit. */
static bool underscores_fit(nb_str s)
{
    size_t i = s.n && (s.p[0] == '-' || s.p[0] == '+');
    char last = '^';
    bool hex = false;
    if (s.n - i >= 2 && s.p[i] == '0' && strchr("bBoOxX", s.p[i + 1])) {
        hex = (s.p[i + 1] | 32) == 'x';
        last = '0';
        i += 2;
    }
    for (; i < s.n; i++) {
        bool digit = digit_of(s.p[i]) < (hex ? 16 : 10);
        if ((s.p[i] == '_' && last != '0') || (s.p[i] != '_' && !digit && last == '_'))
            return false;
        last = digit ? '0' : s.p[i] == '_' ? '_' : '!';
    }
    return last != '_';
}

/* An integer with its base's prefix; false: not one. *wide: it has more than 64 bits. */
static bool integer(const char *text, uint64_t *out, bool *wide)
{
    int base = 10;
    if (text[0] == '0' && text[1]) {
        base = (text[1] | 32) == 'x' ? 16 : (text[1] | 32) == 'b' ? 2 : 8;
        text += (text[1] | 32) == 'o' || base != 8 ? 2 : 1;
    }
    if (!*text)
        return false;
    *out = 0;
    *wide = false;
    for (; *text; text++) {
        int digit = digit_of(*text);
        if (digit >= base)
            return false;
        *wide |= __builtin_mul_overflow(*out, (uint64_t)base, out) ||
                 __builtin_add_overflow(*out, (uint64_t)digit, out);
    }
    return true;
}

static const char *real(const char *text, nb_go_value *out)
{
    char *end;
    double f = strtod(text, &end);
    bool hex = strlen(text) > 1 && strpbrk(text, "xX");
    if (*end || !strpbrk(text, "0123456789") || !isfinite(f) || (hex && !strpbrk(text, "pP")))
        return "illegal number syntax";
    if (!strpbrk(text, ".eEpP"))
        return "integer overflow";
    *out = nb_go_float(f);
    return NULL;
}

const char *nb_go_parse_number(nb_str s, nb_go_value *out)
{
    char text[128];
    size_t n = 0;
    uint64_t magnitude;
    bool wide, negative = s.n && s.p[0] == '-';
    if (s.n && s.p[s.n - 1] == 'i')
        return "complex numbers are not supported";
    if (s.n >= sizeof text || !underscores_fit(s))
        return "illegal number syntax";
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '_')
            text[n++] = s.p[i];
    text[n] = 0;
    const char *unsigned_text = text + (n && (text[0] == '-' || text[0] == '+'));
    if (!integer(unsigned_text, &magnitude, &wide))
        return real(text, out);
    if (wide || (unsigned_text != text && magnitude > (uint64_t)INT64_MAX + negative))
        return "integer overflow";
    *out = magnitude <= (uint64_t)INT64_MAX + negative ? nb_go_int((int64_t)(negative ? 0 - magnitude : magnitude))
                                                       : nb_go_none();
    return NULL;
}

/* ---- quoting ---- */

static void quote_code(nb_buf *b, uint32_t c, char quote, bool ascii)
{
    static const char names[] = "abfnrtv", values[] = "\a\b\f\n\r\t\v";
    const char *simple = c && c < 0x80 ? strchr(values, (int)c) : NULL;
    if (c == (uint32_t)quote || c == '\\')
        nb_buf_printf(b, "\\%c", (char)c);
    else if (ascii ? c < 0x7F && c >= 0x20 : nb_go_is_print(c))
        nb_buf_utf8(b, c);
    else if (simple)
        nb_buf_printf(b, "\\%c", names[simple - values]);
    else if (c < 0x20 || c == 0x7F)
        nb_buf_printf(b, "\\x%02x", c);
    else
        nb_buf_printf(b, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

void nb_go_quote(nb_buf *b, nb_str s, bool ascii)
{
    bool valid;
    nb_buf_char(b, '"');
    for (size_t at = 0; at < s.n;) {
        size_t before = at;
        uint32_t c = nb_go_next_char(s, &at, &valid);
        if (valid)
            quote_code(b, c, '"', ascii);
        else
            nb_buf_printf(b, "\\x%02x", (unsigned char)s.p[before]);
    }
    nb_buf_char(b, '"');
}

void nb_go_quote_char(nb_buf *b, uint32_t c, bool ascii)
{
    nb_buf_char(b, '\'');
    quote_code(b, c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF) ? 0xFFFD : c, '\'', ascii);
    nb_buf_char(b, '\'');
}

/* ---- floats ---- */

enum { MAX_DIGITS = 800 }; /* a double has no more significant ones */

typedef struct decimal { /* 0.DIGITS times 10 to the point */
    char digits[MAX_DIGITS + 1];
    int count, point;
} decimal;

static bool reads_back(double f, int digits)
{
    char text[40];
    snprintf(text, sizeof text, "%.*e", digits - 1, f);
    return strtod(text, NULL) == f;
}

/* The fewest digits that read back equal: more of them come nearer, so that halving finds the number. */
static int shortest_digits(double f)
{
    int low = 1, high = 17;
    while (low < high) {
        int middle = (low + high) / 2;
        if (reads_back(f, middle))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* |f| to `wanted` significant digits, correctly rounded; 0: as many as read back equal. No zeros at the end. */
static void decimal_of(double f, int wanted, decimal *d)
{
    char text[MAX_DIGITS + 16];
    int digits = wanted ? wanted : shortest_digits(f);
    snprintf(text, sizeof text, "%.*e", (digits > MAX_DIGITS ? MAX_DIGITS : digits) - 1, f);
    d->count = 0;
    const char *p = text;
    for (; *p != 'e'; p++)
        if (*p != '.')
            d->digits[d->count++] = *p;
    d->point = atoi(p + 1) + 1;
    while (d->count && d->digits[d->count - 1] == '0')
        d->count--;
    if (d->count == 0)
        d->point = 0;
}

/* The digit at a place of d; zeros before and after. */
static char digit_at(const decimal *d, int i) { return i >= 0 && i < d->count ? d->digits[i] : '0'; }

static void write_exponent(nb_buf *b, const decimal *d, int precision, char mark)
{
    nb_buf_char(b, digit_at(d, 0));
    if (precision > 0)
        nb_buf_char(b, '.');
    for (int i = 1; i <= precision; i++)
        nb_buf_char(b, digit_at(d, i));
    int exponent = d->count ? d->point - 1 : 0;
    nb_buf_printf(b, "%c%c%02d", mark, exponent < 0 ? '-' : '+', abs(exponent));
}

static void write_fixed(nb_buf *b, const decimal *d, int precision)
{
    for (int i = 0; i < d->point; i++)
        nb_buf_char(b, digit_at(d, i));
    if (d->point <= 0)
        nb_buf_char(b, '0');
    if (precision > 0)
        nb_buf_char(b, '.');
    for (int i = 0; i < precision; i++)
        nb_buf_char(b, digit_at(d, d->point + i));
}

static void format_decimal(nb_buf *b, double f, char form, int precision)
{
    decimal d;
    bool shortest = precision < 0;
    char kind = (char)(form | 32);
    if (kind == 'f' && !shortest) { /* C rounds it as Go does; digits before the point are not counted */
        int exact = precision > 1100 ? 1100 : precision; /* none of a double's digits lie further behind */
        nb_buf_printf(b, "%.*f", exact, f);
        for (int i = exact; i < precision; i++)
            nb_buf_char(b, '0');
        return;
    }
    if (kind == 'g' && precision == 0)
        precision = 1;
    decimal_of(f, shortest ? 0 : kind == 'g' ? precision : precision + 1, &d);
    if (kind == 'e') {
        write_exponent(b, &d, !shortest ? precision : d.count > 1 ? d.count - 1 : 0, form);
        return;
    }
    if (kind == 'f') {
        write_fixed(b, &d, d.count > d.point ? d.count - d.point : 0);
        return;
    }
    int most = shortest ? 6 : precision > d.count && d.count >= d.point ? d.count : precision, exponent = d.point - 1;
    if (d.count && (exponent < -4 || exponent >= most))
        write_exponent(b, &d, d.count > 1 ? d.count - 1 : 0, (char)(form - 2));
    else
        write_fixed(b, &d, d.count > d.point ? d.count - d.point : 0);
}

/* 0x1.8p+01: the mantissa begins with 1, rounded half to even */
static void format_hex(nb_buf *b, double f, char form, int precision)
{
    int exponent = 0;
    uint64_t mantissa = 0;
    if (f != 0) {
        mantissa = (uint64_t)ldexp(frexp(f, &exponent), 61); /* one bit before 60 of a fraction: 15 digits */
        exponent--;
    }
    if (precision >= 0 && precision < 15) {
        unsigned drop = 60u - 4u * (unsigned)precision;
        uint64_t extra = mantissa & ((1ull << drop) - 1), half = 1ull << (drop - 1);
        mantissa >>= drop;
        mantissa += extra > half || (extra == half && (mantissa & 1));
        mantissa <<= drop;
        if (mantissa >> 61) {
            mantissa >>= 1;
            exponent++;
        }
    }
    const char *digits_of = form == 'x' ? "0123456789abcdef" : "0123456789ABCDEF";
    nb_buf_printf(b, "0%c%d", form, (int)(mantissa >> 60));
    uint64_t fraction = mantissa << 4;
    if (precision > 0 || (precision < 0 && fraction))
        nb_buf_char(b, '.');
    for (int i = 0; precision < 0 ? fraction != 0 : i < precision; i++, fraction <<= 4)
        nb_buf_char(b, digits_of[fraction >> 60]);
    nb_buf_printf(b, "%c%c%02d", form == 'x' ? 'p' : 'P', exponent < 0 ? '-' : '+', abs(exponent));
}

static void format_binary(nb_buf *b, double f)
{
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7FF);
    uint64_t mantissa = bits & ((1ull << 52) - 1);
    mantissa |= exponent ? 1ull << 52 : 0;
    exponent = (exponent ? exponent : 1) - 1075;
    nb_buf_printf(b, "%llup%+d", (unsigned long long)mantissa, exponent);
}

void nb_go_format_float(nb_buf *b, double f, char form, int precision)
{
    if (!isfinite(f)) {
        nb_buf_z(b, isnan(f) ? "NaN" : f < 0 ? "-Inf" : "+Inf");
        return;
    }
    if (signbit(f))
        nb_buf_char(b, '-');
    f = fabs(f);
    if (form == 'x' || form == 'X')
        format_hex(b, f, form, precision);
    else if (form == 'b')
        format_binary(b, f);
    else
        format_decimal(b, f, form, precision);
}
