/* Go's fmt: Print, Println, Printf over values. A rendering has no addresses: pointers print what they point to. */
#include <math.h>
#include <stdio.h>

#include "text/gotemplate_text.h"
#include "text/utf8.h"

typedef struct printer {
    nb_go *g;
    nb_buf *b;
    bool has_width, has_precision, minus, plus, sharp, space, zero;
    bool field_names; /* %+v */
    bool go_syntax;   /* %#v */
    bool failing;     /* inside %!verb(...): no methods are called */
    int width, precision;
} printer;

static const int LARGEST = 1000000; /* width and precision */

static void put(printer *p, nb_str s) { nb_go_write(p->g, p->b, s); }
static void put_z(printer *p, const char *z) { nb_go_write_z(p->g, p->b, z); }

static void put_char(printer *p, uint32_t c)
{
    nb_buf_utf8(p->b, c);
    put_z(p, ""); /* looks at the limits */
}

static void clear_flags(printer *p) { *p = (printer){.g = p->g, .b = p->b, .failing = p->failing}; }

/* ---- padding ---- */

static void put_padding(printer *p, size_t n, bool zeros)
{
    static const char blanks[] = "                                ", noughts[] = "00000000000000000000000000000000";
    for (size_t part; n && nb_go_ok(p->g); n -= part) {
        part = nb_min_size(n, 32);
        put(p, (nb_str){zeros ? noughts : blanks, part});
    }
}

static void put_padded_with(printer *p, nb_str s, bool zeros)
{
    size_t chars = p->has_width ? nb_go_char_count(s) : 0, width = (size_t)p->width;
    size_t missing = p->has_width && width > chars ? width - chars : 0;
    if (!p->minus)
        put_padding(p, missing, zeros);
    put(p, s);
    if (p->minus)
        put_padding(p, missing, false);
}

static void put_padded(printer *p, nb_str s) { put_padded_with(p, s, p->zero && !p->minus); }

/* Pads what a function has written to a buffer of its own, and frees it. */
static void put_buffer(printer *p, nb_buf *b, bool zeros)
{
    if (b->failed)
        nb_go_fail_memory(p->g);
    else
        put_padded_with(p, nb_buf_view(b), zeros && !p->minus);
    nb_buf_free(b);
}

/* ---- simple values ---- */

static void print_value(printer *p, nb_go_value v, uint32_t verb, int depth);

static void bad_verb(printer *p, nb_go_value v, uint32_t verb)
{
    bool before = p->failing;
    p->failing = true;
    put_z(p, "%!");
    put_char(p, verb);
    put_z(p, "(");
    put_z(p, nb_go_type_name(v));
    if (nb_go_unwrap(v).type) {
        put_z(p, "=");
        print_value(p, v, 'v', 0);
    }
    put_z(p, ")");
    p->failing = before;
}

static nb_str truncated(const printer *p, nb_str s)
{
    size_t at = 0;
    if (!p->has_precision)
        return s;
    for (int left = p->precision; left > 0 && at < s.n; left--)
        at += nb_utf8_step((const unsigned char *)s.p + at, s.n - at);
    return (nb_str){s.p, at};
}

/* %x of a string: its bytes */
static void print_hex_text(printer *p, nb_str s, const char *digits)
{
    nb_buf b = {0};
    size_t n = p->has_precision ? nb_min_size(s.n, (size_t)p->precision) : s.n;
    if (!nb_go_spend(p->g, n / 16))
        return;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (p->space && i > 0)
            nb_buf_char(&b, ' ');
        if (p->sharp && (p->space || i == 0)) {
            nb_buf_char(&b, '0');
            nb_buf_char(&b, digits[16]);
        }
        nb_buf_char(&b, digits[c >> 4]);
        nb_buf_char(&b, digits[c & 15]);
    }
    put_buffer(p, &b, p->zero);
}

static bool fits_backquotes(nb_str s)
{
    bool valid;
    for (size_t at = 0; at < s.n;) {
        uint32_t c = nb_go_next_char(s, &at, &valid);
        if (!valid || c == 0xFEFF || (c < 0x20 && c != '\t') || c == '`' || c == 0x7F)
            return false;
    }
    return true;
}

static void print_quoted(printer *p, nb_str s)
{
    nb_buf b = {0};
    s = truncated(p, s);
    if (!nb_go_spend(p->g, s.n / 8))
        return;
    if (p->sharp && fits_backquotes(s)) {
        nb_buf_char(&b, '`');
        nb_buf_str(&b, s);
        nb_buf_char(&b, '`');
    } else
        nb_go_quote(&b, s, p->plus);
    put_buffer(p, &b, p->zero);
}

static const char LOWER[] = "0123456789abcdefx", UPPER[] = "0123456789ABCDEFX";

/* v is the value that s is, or that s is the text of */
static void print_string(printer *p, nb_go_value v, nb_str s, uint32_t verb)
{
    switch (verb) {
    case 'v':
        if (p->go_syntax)
            print_quoted(p, s);
        else
            put_padded(p, truncated(p, s));
        break;
    case 's': put_padded(p, truncated(p, s)); break;
    case 'x': print_hex_text(p, s, LOWER); break;
    case 'X': print_hex_text(p, s, UPPER); break;
    case 'q': print_quoted(p, s); break;
    default: bad_verb(p, v, verb);
    }
}

/* The digits of u, at least `least` of them. */
static void digits_of(nb_buf *b, uint64_t u, unsigned base, int least, const char *digits)
{
    char text[64];
    int n = 0;
    do
        text[n++] = digits[u % base];
    while ((u /= base) != 0);
    for (int i = n; i < least; i++)
        nb_buf_char(b, '0');
    while (n)
        nb_buf_char(b, text[--n]);
}

static void print_integer_in(printer *p, int64_t i, unsigned base, uint32_t verb, const char *digits)
{
    bool negative = i < 0;
    uint64_t u = negative ? 0 - (uint64_t)i : (uint64_t)i;
    int least = 0;
    nb_buf b = {0}, number = {0};
    if (p->has_precision) {
        least = p->precision;
        if (least == 0 && u == 0) {
            put_padding(p, p->has_width ? (size_t)p->width : 0, false);
            return;
        }
    } else if (p->zero && !p->minus && p->has_width)
        least = p->width - (negative || p->plus || p->space);
    if (!nb_go_spend(p->g, (size_t)(least > 0 ? least : 0) / 16))
        return;
    digits_of(&number, u, base, least, digits);
    nb_buf_z(&b, negative ? "-" : p->plus ? "+" : p->space ? " " : "");
    if (verb == 'O')
        nb_buf_z(&b, "0o");
    if (p->sharp && base == 2)
        nb_buf_z(&b, "0b");
    if (p->sharp && base == 8 && number.data && number.data[0] != '0')
        nb_buf_char(&b, '0');
    if (p->sharp && base == 16) {
        nb_buf_char(&b, '0');
        nb_buf_char(&b, digits[16]);
    }
    nb_buf_str(&b, nb_buf_view(&number));
    b.failed |= number.failed;
    nb_buf_free(&number);
    put_buffer(p, &b, false);
}

static void print_unicode(printer *p, uint64_t u)
{
    nb_buf b = {0};
    nb_buf_z(&b, "U+");
    digits_of(&b, u, 16, p->has_precision && p->precision > 4 ? p->precision : 4, UPPER);
    if (p->sharp && u <= 0x10FFFF && nb_go_is_print((uint32_t)u)) {
        nb_buf_z(&b, " '");
        nb_buf_utf8(&b, (uint32_t)u);
        nb_buf_char(&b, '\'');
    }
    put_buffer(p, &b, false);
}

static void print_character(printer *p, int64_t i, bool quoted)
{
    nb_buf b = {0};
    uint32_t c = i < 0 || i > 0x10FFFF || (i >= 0xD800 && i <= 0xDFFF) ? 0xFFFD : (uint32_t)i;
    if (quoted)
        nb_go_quote_char(&b, c, p->plus);
    else
        nb_buf_utf8(&b, c);
    put_buffer(p, &b, p->zero);
}

static void print_integer(printer *p, nb_go_value v, uint32_t verb)
{
    int64_t i = v.u.i;
    switch (verb) {
    case 'v':
        p->sharp = p->go_syntax && v.type->kind == NB_GO_UINT8; /* 0x61; %#v itself has no sharp flag */
        print_integer_in(p, i, p->sharp ? 16 : 10, verb, LOWER);
        p->sharp = false;
        break;
    case 'd': print_integer_in(p, i, 10, verb, LOWER); break;
    case 'b': print_integer_in(p, i, 2, verb, LOWER); break;
    case 'o':
    case 'O': print_integer_in(p, i, 8, verb, LOWER); break;
    case 'x': print_integer_in(p, i, 16, verb, LOWER); break;
    case 'X': print_integer_in(p, i, 16, verb, UPPER); break;
    case 'c': print_character(p, i, false); break;
    case 'q': print_character(p, i, true); break;
    case 'U': print_unicode(p, (uint64_t)i); break;
    default: bad_verb(p, v, verb);
    }
}

/* %#g and its like: a point, and zeros up to the precision */
static void keep_point(nb_buf *b, char form, int precision)
{
    int digits = form == 'g' || form == 'G' || form == 'x' ? (precision < 0 ? 6 : precision) : 0;
    bool point = false, nonzero = false, hex = form == 'x' || form == 'X';
    nb_str s = nb_buf_view(b);
    size_t end = 1; /* behind the sign */
    for (; end < s.n && !strchr(hex ? "pP" : "eE", s.p[end]); end++) {
        if (s.p[end] == '.') {
            point = true;
            continue;
        }
        nonzero |= s.p[end] != '0';
        digits -= nonzero;
    }
    if (!point && end == 2 && s.p[1] == '0')
        digits--;
    nb_buf tail = {0};
    nb_buf_add(&tail, s.p + end, s.n - end);
    b->len = end;
    if (!point)
        nb_buf_char(b, '.');
    for (; digits > 0; digits--)
        nb_buf_char(b, '0');
    nb_buf_str(b, nb_buf_view(&tail));
    b->failed |= tail.failed;
    nb_buf_free(&tail);
}

/* A signed number with the sign that was asked for, and zeros behind the sign. */
static void put_float(printer *p, nb_buf *b, bool finite)
{
    nb_str s = nb_buf_view(b);
    bool shown = p->plus || s.p[0] != '+', nan = s.n > 1 && s.p[1] == 'N';
    if (!finite && nan && !p->space && !p->plus)
        shown = false;
    if (finite && shown && p->zero && !p->minus && p->has_width && (size_t)p->width > s.n) {
        put(p, (nb_str){s.p, 1});
        put_padding(p, (size_t)p->width - s.n, true);
        put(p, (nb_str){s.p + 1, s.n - 1});
    } else if (shown || (!finite && !nan)) {
        put_padded_with(p, s, finite && p->zero && !p->minus);
    } else
        put_padded_with(p, (nb_str){s.p + 1, s.n - 1}, finite && p->zero && !p->minus);
}

static void print_float(printer *p, nb_go_value v, uint32_t verb)
{
    double f = v.u.f;
    if (verb > 'x' || !strchr("vbgGxXfFeE", (int)verb)) {
        bad_verb(p, v, verb);
        return;
    }
    char form = verb == 'v' ? 'g' : verb == 'F' ? 'f' : (char)verb;
    int precision = p->has_precision ? p->precision : strchr("feE", form) ? 6 : -1;
    nb_buf digits = {0}, b = {0};
    if (!nb_go_spend(p->g, NB_GO_FLOAT_STEPS + (size_t)(precision > 0 ? precision : 0) / 16))
        return;
    nb_go_format_float(&digits, f, form, precision);
    nb_str s = nb_buf_view(&digits);
    if (s.n && s.p[0] != '-' && s.p[0] != '+')
        nb_buf_char(&b, '+');
    nb_buf_str(&b, s);
    b.failed |= digits.failed;
    nb_buf_free(&digits);
    if (p->space && !p->plus && b.len && b.data[0] == '+')
        b.data[0] = ' ';
    if (p->sharp && isfinite(f) && form != 'b' && !b.failed)
        keep_point(&b, form, precision);
    if (b.failed)
        nb_go_fail_memory(p->g);
    else
        put_float(p, &b, isfinite(f));
    nb_buf_free(&b);
}

/* ---- values that hold others ---- */

static void print_separator(printer *p, size_t i)
{
    if (i > 0)
        put_z(p, p->go_syntax ? ", " : " ");
}

static void print_map(printer *p, nb_go_value v, uint32_t verb, int depth)
{
    put_z(p, p->go_syntax ? v.type->name : "map[");
    if (p->go_syntax && !v.u.map) {
        put_z(p, "(nil)");
        return;
    }
    put_z(p, p->go_syntax ? "{" : "");
    for (size_t i = 0; i < nb_go_length(v) && nb_go_ok(p->g); i++) {
        print_separator(p, i);
        print_value(p, nb_go_str(v.u.map->entries[i].key), verb, depth + 1);
        put_z(p, ":");
        print_value(p, v.u.map->entries[i].value, verb, depth + 1);
    }
    put_z(p, p->go_syntax ? "}" : "]");
}

static void print_slice(printer *p, nb_go_value v, uint32_t verb, int depth)
{
    put_z(p, p->go_syntax ? v.type->name : "[");
    if (p->go_syntax && !v.u.list) {
        put_z(p, "(nil)");
        return;
    }
    put_z(p, p->go_syntax ? "{" : "");
    for (size_t i = 0; i < nb_go_length(v) && nb_go_ok(p->g); i++) {
        print_separator(p, i);
        print_value(p, nb_go_item(v, i), verb, depth + 1);
    }
    put_z(p, p->go_syntax ? "}" : "]");
}

static void print_struct(printer *p, nb_go_value v, uint32_t verb, int depth)
{
    put_z(p, p->go_syntax ? v.type->name : "");
    put_z(p, "{");
    for (size_t i = 0; i < v.type->field_count && nb_go_ok(p->g); i++) {
        print_separator(p, i);
        if (p->field_names || p->go_syntax) {
            put_z(p, v.type->fields[i].name);
            put_z(p, ":");
        }
        print_value(p, v.u.fields[i], verb, depth + 1);
    }
    put_z(p, "}");
}

static void print_pointer(printer *p, nb_go_value v, uint32_t verb, int depth)
{
    if (v.u.to) {
        put_z(p, "&");
        print_value(p, *v.u.to, verb, depth + 1);
    } else if (verb == 'v' && p->go_syntax) {
        put_z(p, "(");
        put_z(p, v.type->name);
        put_z(p, ")(nil)");
    } else if (verb == 'v' || verb == 's')
        put_padded(p, NB_STR("<nil>"));
    else
        bad_verb(p, v, verb);
}

/* The text that a String method gives, printed as the verb says; false: the value has none. */
static bool print_by_method(printer *p, nb_go_value v, uint32_t verb)
{
    nb_str text;
    if (p->failing || p->go_syntax || verb > 'x' || !strchr("vsxXq", (int)verb) || !nb_go_text_of(p->g, v, &text))
        return false;
    print_string(p, v, text, verb);
    return true;
}

static void print_nil(printer *p, nb_go_value v, uint32_t verb, int depth)
{
    if (depth > 0 && p->go_syntax)
        put_z(p, "interface {}(nil)");
    else if (depth > 0)
        put_z(p, "<nil>");
    else if (verb == 'v' || verb == 'T')
        put_padded(p, NB_STR("<nil>"));
    else
        bad_verb(p, nb_go_unwrap(v), verb);
}

static void print_value(printer *p, nb_go_value v, uint32_t verb, int depth)
{
    if (!nb_go_enter(p->g))
        return;
    if (verb == 'w') /* is for errors; there are none */
        bad_verb(p, nb_go_unwrap(v), verb);
    else if (verb == 'T' && depth == 0 && nb_go_unwrap(v).type)
        put_padded(p, truncated(p, nb_str_of(v.type->name)));
    else if (!print_by_method(p, v, verb))
        switch (nb_go_kind_of(v)) {
        case NB_GO_INVALID:
        case NB_GO_INTERFACE: print_nil(p, v, verb, depth); break;
        case NB_GO_BOOL:
            if (verb == 't' || verb == 'v')
                put_padded(p, nb_str_of(v.u.b ? "true" : "false"));
            else
                bad_verb(p, v, verb);
            break;
        case NB_GO_INT:
        case NB_GO_UINT8: print_integer(p, v, verb); break;
        case NB_GO_FLOAT: print_float(p, v, verb); break;
        case NB_GO_STRING: print_string(p, v, v.u.s, verb); break;
        case NB_GO_SLICE: print_slice(p, v, verb, depth); break;
        case NB_GO_MAP: print_map(p, v, verb, depth); break;
        case NB_GO_STRUCT: print_struct(p, v, verb, depth); break;
        case NB_GO_POINTER: print_pointer(p, v, verb, depth); break;
        }
    nb_go_leave(p->g);
}

/* ---- Printf ---- */

typedef struct format {
    nb_str text;
    size_t at;
    const nb_go_value *args;
    size_t count, arg;
    bool good_index, reordered, after_index;
} format;

/* Digits up to `end`; false when there are none, or too many: then *at is the end. */
static bool number(nb_str s, size_t *at, size_t end, int *out)
{
    bool any = false;
    *out = 0;
    for (; *at < end && s.p[*at] >= '0' && s.p[*at] <= '9'; ++*at) {
        if (*out > LARGEST) {
            *out = 0;
            *at = end;
            return false;
        }
        *out = *out * 10 + (s.p[*at] - '0');
        any = true;
    }
    return any;
}

/* An explicit index: [n] */
static void argument_index(format *f)
{
    f->after_index = false;
    if (f->at >= f->text.n || f->text.p[f->at] != '[')
        return;
    f->reordered = true;
    const char *close = f->text.n - f->at < 3 ? NULL : memchr(f->text.p + f->at + 1, ']', f->text.n - f->at - 1);
    size_t at = f->at + 1, end = close ? (size_t)(close - f->text.p) : 0;
    int index = 0;
    bool good = close && number(f->text, &at, end, &index) && at == end;
    f->at = close ? end + 1 : f->at + 1;
    f->after_index = good;
    if (good && index >= 1 && (size_t)index <= f->count)
        f->arg = (size_t)index - 1;
    else
        f->good_index = false;
    f->after_index = good;
}

/* The width or precision that is the next argument. */
static bool star(format *f, int *out)
{
    *out = 0;
    if (f->arg >= f->count)
        return false;
    nb_go_value v = f->args[f->arg++];
    if (!nb_go_is_integer(v) || v.u.i > LARGEST || v.u.i < -LARGEST)
        return false;
    *out = (int)v.u.i;
    return true;
}

static void parse_flags(printer *p, format *f)
{
    for (; f->at < f->text.n; f->at++) {
        switch (f->text.p[f->at]) {
        case '#': p->sharp = true; break;
        case '0': p->zero = true; break;
        case '+': p->plus = true; break;
        case '-': p->minus = true; break;
        case ' ': p->space = true; break;
        default: return;
        }
    }
}

static void parse_width(printer *p, format *f)
{
    argument_index(f);
    if (f->at < f->text.n && f->text.p[f->at] == '*') {
        f->at++;
        p->has_width = star(f, &p->width);
        if (!p->has_width)
            put_z(p, "%!(BADWIDTH)");
        if (p->width < 0) {
            p->width = -p->width;
            p->minus = true;
            p->zero = false;
        }
        f->after_index = false;
        return;
    }
    p->has_width = number(f->text, &f->at, f->text.n, &p->width);
    if (f->after_index && p->has_width)
        f->good_index = false;
}

static void parse_precision(printer *p, format *f)
{
    if (f->at + 1 >= f->text.n || f->text.p[f->at] != '.')
        return;
    f->at++;
    if (f->after_index)
        f->good_index = false;
    argument_index(f);
    if (f->at < f->text.n && f->text.p[f->at] == '*') {
        f->at++;
        p->has_precision = star(f, &p->precision) && p->precision >= 0;
        if (!p->has_precision) {
            p->precision = 0;
            put_z(p, "%!(BADPREC)");
        }
        f->after_index = false;
        return;
    }
    if (!number(f->text, &f->at, f->text.n, &p->precision))
        p->precision = 0;
    p->has_precision = true;
}

static void print_bad(printer *p, uint32_t verb, const char *what)
{
    put_z(p, "%!");
    put_char(p, verb);
    put_z(p, what);
}

/* A verb whose percent sign has been read. */
static void print_verb(printer *p, format *f)
{
    bool valid;
    clear_flags(p);
    f->good_index = true;
    parse_flags(p, f);
    parse_width(p, f);
    parse_precision(p, f);
    if (!f->after_index)
        argument_index(f);
    if (f->at >= f->text.n) {
        put_z(p, "%!(NOVERB)");
        return;
    }
    uint32_t verb = nb_go_next_char(f->text, &f->at, &valid);
    if (verb == '%') {
        put_z(p, "%");
    } else if (!f->good_index) {
        print_bad(p, verb, "(BADINDEX)");
    } else if (f->arg >= f->count) {
        print_bad(p, verb, "(MISSING)");
    } else {
        if (verb == 'v' || verb == 'w') {
            p->go_syntax = p->sharp;
            p->field_names = p->plus;
            p->sharp = p->plus = false;
        }
        print_value(p, f->args[f->arg++], verb, 0);
    }
}

static void print_extra(printer *p, const format *f)
{
    clear_flags(p);
    put_z(p, "%!(EXTRA ");
    for (size_t i = f->arg; i < f->count && nb_go_ok(p->g); i++) {
        nb_go_value v = nb_go_unwrap(f->args[i]);
        put_z(p, i > f->arg ? ", " : "");
        put_z(p, nb_go_type_name(v));
        if (!v.type)
            continue;
        put_z(p, "=");
        print_value(p, v, 'v', 0);
    }
    put_z(p, ")");
}

void nb_go_printf(nb_go *g, nb_buf *b, nb_str text, const nb_go_value *args, size_t count)
{
    printer p = {.g = g, .b = b};
    format f = {.text = text, .args = args, .count = count};
    while (f.at < text.n && nb_go_spend(g, 1)) {
        const char *percent = memchr(text.p + f.at, '%', text.n - f.at);
        size_t end = percent ? (size_t)(percent - text.p) : text.n;
        put(&p, (nb_str){text.p + f.at, end - f.at});
        f.at = end;
        if (percent) {
            f.at++;
            print_verb(&p, &f);
        }
    }
    if (!f.reordered && f.arg < count)
        print_extra(&p, &f);
}

/* ---- Print ---- */

void nb_go_print(nb_go *g, nb_buf *b, const nb_go_value *args, size_t count)
{
    printer p = {.g = g, .b = b};
    bool text_before = false;
    for (size_t i = 0; i < count && nb_go_ok(g); i++) {
        bool text = nb_go_kind_of(args[i]) == NB_GO_STRING;
        if (i > 0 && !text && !text_before)
            put_z(&p, " ");
        print_value(&p, args[i], 'v', 0);
        text_before = text;
    }
}

void nb_go_println(nb_go *g, nb_buf *b, const nb_go_value *args, size_t count)
{
    printer p = {.g = g, .b = b};
    for (size_t i = 0; i < count && nb_go_ok(g); i++) {
        put_z(&p, i ? " " : "");
        print_value(&p, args[i], 'v', 0);
    }
    put_z(&p, "\n");
}

void nb_go_print_action(nb_go *g, nb_buf *b, nb_go_value v)
{
    bool nil;
    if (nb_go_kind_of(v) == NB_GO_POINTER)
        v = nb_go_indirect(v, &nil);
    if (v.type)
        nb_go_print(g, b, &v, 1);
    else
        nb_go_write_z(g, b, "<no value>");
}
