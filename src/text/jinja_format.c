/* Python's two ways to format: "%s is %05.1f" % (...) and "{} is {:>5}".format(...). */
#include <math.h>
#include <stdio.h>

#include "text/jinja_eval.h"
#include "text/jinja_text.h"

#define MAX_WIDTH 10000
#define MAX_PRECISION 300

typedef struct spec {
    nb_str fill; /* one character; empty: a space */
    char align;  /* < > ^ = or 0 */
    char sign;   /* + - space or 0 */
    bool zero, alternate, comma;
    int64_t width, precision; /* -1: none */
    char type;                /* 0: none */
} spec;

/* A run of digits; more than 4 give more than any limit. */
static int64_t number(nb_str s, size_t *pos)
{
    int64_t n = -1;
    for (; *pos < s.n && s.p[*pos] >= '0' && s.p[*pos] <= '9'; ++*pos)
        n = n > MAX_WIDTH ? n : (n < 0 ? 0 : n) * 10 + (s.p[*pos] - '0');
    return n;
}

static void repeat_fill(nb_jinja *j, nb_buf *b, nb_str fill, int64_t times)
{
    for (int64_t i = 0; i < times && nb_jok(j); i++)
        nb_jwrite(j, b, fill.n ? fill : NB_STR(" "));
}

/* body (behind sign or prefix of `lead` bytes) in its field */
static void padded(nb_jinja *j, nb_buf *b, nb_str body, size_t lead, const spec *f, char align)
{
    int64_t room = f->width - (int64_t)nb_jchar_count(body), before = room;
    if (!nb_jspend(j, f->width > 0 ? (size_t)f->width / 8 : 0))
        return;
    if (room <= 0) {
        nb_jwrite(j, b, body);
    } else if (align == '=') {
        nb_jwrite(j, b, (nb_str){body.p, lead});
        repeat_fill(j, b, f->fill, room);
        nb_jwrite(j, b, (nb_str){body.p + lead, body.n - lead});
    } else {
        before = align == '<' ? 0 : align == '^' ? room / 2 : room;
        repeat_fill(j, b, f->fill, before);
        nb_jwrite(j, b, body);
        repeat_fill(j, b, f->fill, room - before);
    }
}

static void with_commas(nb_buf *b, nb_str digits)
{
    size_t whole = 0;
    while (whole < digits.n && digits.p[whole] >= '0' && digits.p[whole] <= '9')
        whole++;
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % 3 == 0)
            nb_buf_char(b, ',');
        nb_buf_char(b, digits.p[i]);
    }
    nb_buf_add(b, digits.p + whole, digits.n - whole);
}

static void integer_digits(nb_buf *b, uint64_t value, int base, bool upper)
{
    char text[64];
    size_t at = sizeof text;
    do
        text[--at] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[value % (unsigned)base];
    while (value /= (unsigned)base);
    nb_buf_add(b, text + at, sizeof text - at);
}

static void float_digits(nb_buf *b, double value, const spec *f)
{
    char text[700];
    int precision = f->precision < 0 ? 6 : (int)f->precision;
    switch (f->type) {
    case 'e': snprintf(text, sizeof text, "%.*e", precision, value); break;
    case 'E': snprintf(text, sizeof text, "%.*E", precision, value); break;
    case 'f':
    case 'F': snprintf(text, sizeof text, "%.*f", precision, value); break;
    case '%': snprintf(text, sizeof text, "%.*f%%", precision, value * 100); break;
    case 'G': snprintf(text, sizeof text, "%.*G", precision, value); break;
    case 'g': snprintf(text, sizeof text, "%.*g", precision, value); break;
    default:
        if (f->precision < 0)
            nb_jformat_float(value, text);
        else
            snprintf(text, sizeof text, "%.*g", precision, value);
    }
    nb_buf_z(b, text);
}

/* value as a number in the field; it is one */
static void formatted_number(nb_jinja *j, nb_buf *b, nb_jval value, const spec *f)
{
    nb_buf text = {0}, digits = {0};
    bool is_float = value.kind == NB_J_FLOAT || (f->type && strchr("eEfFgG%", f->type));
    bool negative = is_float ? signbit(nb_jfloat_of(value)) != 0 : nb_jint_of(value) < 0;
    if (negative || f->sign == '+' || f->sign == ' ')
        nb_buf_char(&text, negative ? '-' : f->sign);
    if (is_float) {
        float_digits(&digits, fabs(nb_jfloat_of(value)), f);
    } else {
        int base = f->type == 'x' || f->type == 'X' ? 16 : f->type == 'o' ? 8 : f->type == 'b' ? 2 : 10;
        uint64_t magnitude = negative ? 0 - (uint64_t)nb_jint_of(value) : (uint64_t)nb_jint_of(value);
        integer_digits(&digits, magnitude, base, f->type == 'X');
        if (f->alternate && base != 10)
            nb_buf_printf(&text, "0%c", f->type);
    }
    size_t lead = text.len;
    if (f->comma)
        with_commas(&text, nb_buf_view(&digits));
    else
        nb_buf_str(&text, nb_buf_view(&digits));
    spec field = *f;
    if (f->zero)
        field.fill = NB_STR("0");
    if (text.failed || digits.failed)
        nb_jfail_memory(j);
    padded(j, b, nb_buf_view(&text), lead, &field, f->align ? f->align : f->zero ? '=' : '>');
    nb_buf_free(&text);
    nb_buf_free(&digits);
}

static void formatted_text(nb_jinja *j, nb_buf *b, nb_str s, const spec *f, char align)
{
    if (f->precision >= 0)
        s.n = nb_jchar_offset(s, (size_t)f->precision);
    padded(j, b, s, 0, f, f->align ? f->align : align);
}

static bool within_limits(nb_jinja *j, const spec *f)
{
    if (f->width > MAX_WIDTH || f->precision > MAX_PRECISION)
        nb_jfail(j, NB_ERR_LIMIT, "a format's width is at most %d, its precision %d", MAX_WIDTH, MAX_PRECISION);
    return nb_jok(j);
}

/* ---- % ---- */

typedef struct percent {
    nb_jval args; /* a tuple, a dict, or one value */
    size_t taken;
} percent;

static nb_jval next_arg(nb_jinja *j, percent *p)
{
    bool tuple = p->args.kind == NB_J_TUPLE;
    size_t count = tuple ? p->args.u.list->count : 1, at = p->taken++;
    if (at >= count)
        return nb_jfail(j, NB_ERR_ARGUMENT, "not enough arguments for the format");
    return tuple ? p->args.u.list->items[at] : p->args;
}

/* "(name)" at *pos */
static nb_jval named_arg(nb_jinja *j, percent *p, nb_str s, size_t *pos)
{
    size_t end = nb_jfind(s, NB_STR(")"), *pos);
    nb_jentry *e = NULL;
    if (end != SIZE_MAX && p->args.kind == NB_J_DICT)
        e = nb_jdict_findz(j, p->args.u.dict, (nb_str){s.p + *pos + 1, end - *pos - 1});
    if (!e)
        return nb_jfail(j, NB_ERR_ARGUMENT, "the format names a key that is not there");
    *pos = end + 1;
    p->taken = 1;
    return e->value;
}

static int64_t star_or_number(nb_jinja *j, percent *p, nb_str s, size_t *pos)
{
    if (*pos >= s.n || s.p[*pos] != '*')
        return number(s, pos);
    ++*pos;
    return nb_jneed_int(j, next_arg(j, p), "a * of the format");
}

static void convert(nb_jinja *j, nb_buf *b, nb_jval v, spec *f)
{
    if (f->type == 's' || f->type == 'r' || f->type == 'a') {
        nb_buf text = {0};
        (f->type == 's' ? nb_jwrite_str : nb_jwrite_repr)(j, &text, v);
        v = nb_jstr_take(j, &text);
        f->zero = false;
        if (nb_jok(j))
            formatted_text(j, b, v.u.s, f, '>');
    } else if (f->type == 'c' && v.kind == NB_J_STR) {
        formatted_text(j, b, v.u.s, f, '>');
    } else if (strchr("diuxXoeEfFgG", f->type)) {
        if (!nb_jis_number(v)) {
            nb_str type = nb_jtype_name(v);
            nb_jfail(j, NB_ERR_ARGUMENT, "%%%c needs a number, not %.*s", f->type, NB_STR_ARG(type));
            return;
        }
        if (strchr("diu", f->type)) {
            if (v.kind == NB_J_FLOAT && !(fabs(v.u.f) < 9.2e18)) {
                nb_jfail(j, NB_ERR_LIMIT, "%%%c of a number beyond 64 bits", f->type);
                return;
            }
            v = nb_jint(v.kind == NB_J_FLOAT ? (int64_t)v.u.f : nb_jint_of(v));
            if (f->precision >= 0) { /* at least so many digits */
                f->width = f->precision > f->width ? f->precision : f->width;
                f->zero = true;
            }
            f->type = 0;
        }
        formatted_number(j, b, v, f);
    } else {
        nb_jfail(j, NB_ERR_ARGUMENT, "unsupported format character '%c'", f->type);
    }
}

/* One conversion; *pos is just after its %. */
static void percent_item(nb_jinja *j, nb_buf *b, nb_str s, size_t *pos, percent *p)
{
    spec f = {.width = -1, .precision = -1};
    nb_jval v = {.kind = NB_J_MISSING};
    if (*pos < s.n && s.p[*pos] == '(')
        v = named_arg(j, p, s, pos);
    for (; *pos < s.n && s.p[*pos] && strchr("-+ 0#", s.p[*pos]); ++*pos) {
        char c = s.p[*pos];
        f.align = c == '-' ? '<' : f.align;
        f.sign = c == '+' ? '+' : c == ' ' && !f.sign ? ' ' : f.sign;
        f.zero |= c == '0';
        f.alternate |= c == '#';
    }
    f.width = star_or_number(j, p, s, pos);
    if (*pos < s.n && s.p[*pos] == '.') {
        ++*pos;
        f.precision = star_or_number(j, p, s, pos);
        f.precision = f.precision < 0 ? 0 : f.precision;
    }
    if (f.align)
        f.zero = false;
    if (*pos >= s.n || !s.p[*pos]) {
        nb_jfail(j, NB_ERR_ARGUMENT, "incomplete format");
        return;
    }
    f.type = s.p[(*pos)++];
    if (!within_limits(j, &f))
        return;
    if (f.type == '%') {
        nb_jwrite(j, b, NB_STR("%"));
        return;
    }
    if (v.kind == NB_J_MISSING)
        v = next_arg(j, p);
    if (nb_jok(j))
        convert(j, b, v, &f);
}

nb_jval nb_jformat_percent(nb_jinja *j, nb_str s, nb_jval args)
{
    nb_buf b = {0};
    percent p = {.args = args};
    for (size_t pos = 0; pos < s.n && nb_jspend(j, 1);) {
        const char *mark = memchr(s.p + pos, '%', s.n - pos);
        size_t end = mark ? (size_t)(mark - s.p) : s.n;
        nb_jwrite(j, &b, (nb_str){s.p + pos, end - pos});
        pos = end + 1;
        if (mark)
            percent_item(j, &b, s, &pos, &p);
    }
    bool left = args.kind == NB_J_TUPLE ? p.taken < args.u.list->count : args.kind != NB_J_DICT && p.taken == 0;
    if (left && args.kind != NB_J_LIST)
        nb_jfail(j, NB_ERR_ARGUMENT, "not all arguments converted during string formatting");
    return nb_jstr_take(j, &b);
}

/* ---- {} ---- */

static spec parse_spec(nb_jinja *j, nb_str s)
{
    spec f = {.width = -1, .precision = -1};
    size_t pos = 0, first = 0;
    if (s.n)
        nb_jnext_char(s, &first);
    if (first < s.n && strchr("<>^=", s.p[first]) && s.p[first]) {
        f.fill = (nb_str){s.p, first};
        f.align = s.p[first];
        pos = first + 1;
    } else if (s.n && s.p[0] && strchr("<>^=", s.p[0])) {
        f.align = s.p[0];
        pos = 1;
    }
    if (pos < s.n && s.p[pos] && strchr("+- ", s.p[pos]))
        f.sign = s.p[pos++];
    if (pos < s.n && s.p[pos] == '#')
        f.alternate = true, pos++;
    if (pos < s.n && s.p[pos] == '0')
        f.zero = true, pos++;
    f.width = number(s, &pos);
    if (pos < s.n && s.p[pos] == ',')
        f.comma = true, pos++;
    if (pos < s.n && s.p[pos] == '.') {
        pos++;
        f.precision = number(s, &pos);
    }
    if (pos < s.n)
        f.type = s.p[pos++];
    if (pos != s.n)
        nb_jfail(j, NB_ERR_ARGUMENT, "invalid format specifier '%.*s'", NB_STR_ARG(s));
    within_limits(j, &f);
    return f;
}

static void format_value(nb_jinja *j, nb_buf *b, nb_jval v, nb_str spec_text)
{
    spec f = parse_spec(j, spec_text);
    if (!nb_jok(j))
        return;
    if (nb_jis_number(v) && !(v.kind == NB_J_BOOL && spec_text.n == 0)) {
        if ((f.type && !strchr("dxXobeEfFgG%n", f.type)) || (v.kind == NB_J_FLOAT && f.type && strchr("dxXob", f.type)))
            nb_jfail(j, NB_ERR_ARGUMENT, "unknown format code '%c' for a number", f.type);
        else
            formatted_number(j, b, v, &f);
        return;
    }
    if (f.type && f.type != 's') {
        nb_jfail(j, NB_ERR_ARGUMENT, "unknown format code '%c' for a string", f.type);
        return;
    }
    if (f.zero)
        f.fill = NB_STR("0");
    formatted_text(j, b, nb_jto_str(j, v), &f, '<');
}

/* The value that a field names: "", "0", "name", then any ".attribute" and "[item]". */
static nb_jval field_value(nb_jinja *j, nb_str name, const nb_jargs *args, size_t *automatic)
{
    size_t end = 0;
    while (end < name.n && name.p[end] != '.' && name.p[end] != '[')
        end++;
    nb_str head = {name.p, end};
    size_t pos = 0;
    int64_t index = number(head, &pos);
    nb_jval v = {.kind = NB_J_MISSING};
    if (head.n == 0)
        index = (int64_t)(*automatic)++;
    if (pos == head.n && index >= 0 && (size_t)index < args->count)
        v = args->pos[index];
    for (size_t i = 0; i < args->kw_count && head.n; i++)
        if (nb_str_eq(args->kw[i].name, head))
            v = args->kw[i].value;
    if (v.kind == NB_J_MISSING)
        return nb_jfail(j, NB_ERR_ARGUMENT, "format: there is no argument '%.*s'", NB_STR_ARG(head));
    while (end < name.n && nb_jspend(j, 1)) {
        bool item = name.p[end] == '[';
        size_t start = ++end;
        while (end < name.n && (item ? name.p[end] != ']' : name.p[end] != '.' && name.p[end] != '['))
            end++;
        nb_str part = {name.p + start, end - start};
        pos = 0;
        index = number(part, &pos);
        if (item)
            v = nb_jgetitem(j, v, pos == part.n && part.n ? nb_jint(index) : nb_jstr(part));
        else
            v = nb_jgetattr(j, v, part);
        end += item && end < name.n;
    }
    return v;
}

/* "name!r:spec" without its braces */
static void brace_field(nb_jinja *j, nb_buf *b, nb_str field, const nb_jargs *args, size_t *automatic)
{
    size_t colon = nb_jfind(field, NB_STR(":"), 0), bang = nb_jfind(field, NB_STR("!"), 0);
    nb_str spec_text = NB_STR(""), name = field;
    if (colon != SIZE_MAX) {
        spec_text = (nb_str){field.p + colon + 1, field.n - colon - 1};
        name.n = colon;
    }
    char conversion = 0;
    if (bang != SIZE_MAX && bang < name.n) {
        conversion = bang + 1 < name.n ? field.p[bang + 1] : '?';
        name.n = bang;
    }
    nb_jval v = field_value(j, name, args, automatic);
    if (conversion && conversion != 'r' && conversion != 's') {
        nb_jfail(j, NB_ERR_ARGUMENT, "format: unknown conversion '%c'", conversion);
    } else if (conversion == 'r') {
        nb_buf text = {0};
        nb_jwrite_repr(j, &text, v);
        v = nb_jstr_take(j, &text);
    } else if (conversion == 's') {
        v = nb_jstr(nb_jto_str(j, v));
    }
    if (nb_jok(j))
        format_value(j, b, v, spec_text);
}

nb_jval nb_jformat_braces(nb_jinja *j, nb_str s, const nb_jargs *args)
{
    nb_buf b = {0};
    size_t automatic = 0;
    for (size_t pos = 0; pos < s.n && nb_jspend(j, 1);) {
        size_t end = pos;
        while (end < s.n && s.p[end] != '{' && s.p[end] != '}')
            end++;
        nb_jwrite(j, &b, (nb_str){s.p + pos, end - pos});
        if (end == s.n)
            break;
        if (end + 1 < s.n && s.p[end + 1] == s.p[end]) { /* {{ or }} */
            nb_jwrite(j, &b, (nb_str){s.p + end, 1});
            pos = end + 2;
            continue;
        }
        size_t close = s.p[end] == '{' ? nb_jfind(s, NB_STR("}"), end) : SIZE_MAX;
        if (close == SIZE_MAX) {
            nb_jfail(j, NB_ERR_ARGUMENT, "format: a single '%c'", s.p[end]);
            break;
        }
        brace_field(j, &b, (nb_str){s.p + end + 1, close - end - 1}, args, &automatic);
        pos = close + 1;
    }
    return nb_jstr_take(j, &b);
}
