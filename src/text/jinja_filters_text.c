/* Filters that make text and numbers. Each says what jinja2's own of that name does. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja_defs.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"

#define FILTER(name) static nb_jval name(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
#define UNUSED_ARGS ((void)a, (void)args)

/* a string method's result is as safe as its string */
static nb_jval as_safe_as(nb_jval from, nb_jval v)
{
    v.safe = v.kind == NB_J_STR && from.kind == NB_J_STR && from.safe;
    return v;
}

static nb_jval recased(nb_jinja *j, nb_jval self, nb_jcase how)
{
    return as_safe_as(self, nb_jrecase(j, nb_jto_str(j, self), how));
}

FILTER(f_upper) { return UNUSED_ARGS, recased(j, self, NB_JCASE_UPPER); }
FILTER(f_lower) { return UNUSED_ARGS, recased(j, self, NB_JCASE_LOWER); }
FILTER(f_capitalize) { return UNUSED_ARGS, recased(j, self, NB_JCASE_CAPITALIZE); }

FILTER(f_title)
{
    UNUSED_ARGS;
    nb_str s = nb_jto_str(j, self);
    nb_buf b = {0};
    size_t word = 0;
    for (size_t pos = 0; pos <= s.n && nb_jspend(j, 1);) {
        size_t start = pos;
        uint32_t c = pos < s.n ? nb_jnext_char(s, &pos) : '-';
        if (nb_jis_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c))) {
            nb_jval v = nb_jrecase(j, (nb_str){s.p + word, start - word}, NB_JCASE_CAPITALIZE);
            if (nb_jok(j))
                nb_jwrite(j, &b, v.u.s);
            nb_jwrite(j, &b, (nb_str){s.p + start, pos - start});
            word = pos;
        }
        if (start >= s.n)
            break;
    }
    return as_safe_as(self, nb_jstr_take(j, &b));
}

FILTER(f_trim)
{
    (void)args;
    nb_str chars = {0}, s = nb_jto_str(j, self);
    bool given = a[0].kind > NB_J_NONE;
    if (given)
        chars = nb_jneed_str(j, a[0], "trim's characters");
    nb_jspend_bytes(j, s.n);
    return as_safe_as(self, nb_jstr(nb_jstrip(s, given ? &chars : NULL, true, true)));
}

FILTER(f_replace)
{
    (void)args;
    int64_t count = a[2].kind > NB_J_NONE ? nb_jneed_int(j, a[2], "replace's count") : -1;
    nb_str s = nb_jto_str(j, self), old = nb_jto_str(j, a[0]), new_ = nb_jto_str(j, a[1]);
    return nb_jok(j) ? nb_jreplace(j, s, old, new_, count) : self;
}

FILTER(f_string)
{
    UNUSED_ARGS;
    return self.kind == NB_J_STR ? self : nb_jstr(nb_jto_str(j, self));
}

FILTER(f_safe)
{
    nb_jval v = f_string(j, self, a, args);
    v.safe = true;
    return v;
}

FILTER(f_escape) { return UNUSED_ARGS, nb_jescape(j, self); }

FILTER(f_forceescape)
{
    UNUSED_ARGS;
    return nb_jescape(j, nb_jstr(nb_jto_str(j, self)));
}

FILTER(f_format)
{
    (void)a;
    nb_jval with;
    if (args->kw_count && args->count)
        return nb_jfail(j, NB_ERR_ARGUMENT, "format takes positional or keyword arguments, not both");
    if (args->kw_count) {
        with = nb_jdict_new(j);
        for (size_t i = 0; i < args->kw_count && nb_jok(j); i++)
            nb_jdict_set(j, with.u.dict, nb_jstr(args->kw[i].name), args->kw[i].value);
    } else {
        with = nb_jlist_new(j, NB_J_TUPLE, args->count);
        for (size_t i = 0; i < args->count; i++)
            nb_jlist_push(j, with, args->pos[i]);
    }
    nb_str format = nb_jto_str(j, self);
    return nb_jok(j) ? nb_jformat_percent(j, format, with) : with;
}

/* A margin: a string as it is, a number of spaces. */
static nb_str margin(nb_jinja *j, nb_jval v, int64_t otherwise)
{
    if (v.kind == NB_J_STR)
        return v.u.s;
    int64_t width = v.kind == NB_J_MISSING ? otherwise : nb_jneed_int(j, v, "a width");
    nb_jval s = nb_jbinary(j, NB_JT_MUL, nb_jstr(NB_STR(" ")), nb_jint(width));
    return s.kind == NB_J_STR ? s.u.s : NB_STR("");
}

FILTER(f_indent)
{
    (void)args;
    nb_str pad = margin(j, a[0], 4), s = nb_jneed_str(j, self, "indent's input");
    nb_jval lines = nb_jsplitlines(j, s, false);
    nb_buf b = {0};
    if (nb_jok(j) && s.n && (s.p[s.n - 1] == '\n'))
        nb_jlist_push(j, lines, nb_jstr(NB_STR(""))); /* the line that starts after the last newline */
    for (size_t i = 0; nb_jok(j) && i < lines.u.list->count; i++) {
        nb_str line = lines.u.list->items[i].u.s;
        if (i)
            nb_jwrite(j, &b, NB_STR("\n"));
        if (i == 0 ? nb_jtruth(a[1]) : line.n || nb_jtruth(a[2]))
            nb_jwrite(j, &b, pad);
        nb_jwrite(j, &b, line);
    }
    if (nb_jok(j) && s.n == 0 && nb_jtruth(a[1]))
        nb_jwrite(j, &b, pad);
    return as_safe_as(self, nb_jstr_take(j, &b));
}

FILTER(f_truncate)
{
    (void)args;
    nb_str s = nb_jneed_str(j, self, "truncate's input"), end = NB_STR("...");
    int64_t length = a[0].kind ? nb_jneed_int(j, a[0], "truncate's length") : 255;
    int64_t leeway = a[3].kind > NB_J_NONE ? nb_jneed_int(j, a[3], "truncate's leeway") : 5;
    if (a[2].kind)
        end = nb_jneed_str(j, a[2], "truncate's end");
    int64_t end_chars = (int64_t)nb_jchar_count(end);
    if (!nb_jok(j) || !nb_jspend_bytes(j, s.n))
        return self;
    if (length < end_chars || leeway < 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "truncate's length must be at least %lld and its leeway not negative",
                        (long long)end_chars);
    int64_t chars = (int64_t)nb_jchar_count(s);
    if (chars - leeway <= length)
        return self;
    nb_str cut = {s.p, nb_jchar_offset(s, (size_t)(length - end_chars))};
    size_t space = nb_jtruth(a[1]) ? SIZE_MAX : nb_jfind_last(cut, NB_STR(" "));
    if (space != SIZE_MAX)
        cut.n = space;
    return nb_jbinary(j, NB_JT_ADD, nb_jstr(cut), nb_jstr(end));
}

FILTER(f_center)
{
    (void)args;
    nb_str s = nb_jto_str(j, self);
    int64_t width = a[0].kind ? nb_jneed_int(j, a[0], "center's width") : 80, n = (int64_t)nb_jchar_count(s);
    nb_buf b = {0};
    if (!nb_jok(j) || width <= n)
        return self;
    int64_t pad = width - n, left = pad / 2 + (pad & width & 1);
    nb_jwrite(j, &b, margin(j, nb_jint(left), 0));
    nb_jwrite(j, &b, s);
    nb_jwrite(j, &b, margin(j, nb_jint(pad - left), 0));
    return as_safe_as(self, nb_jstr_take(j, &b));
}

FILTER(f_wordcount)
{
    UNUSED_ARGS;
    nb_str s = nb_jto_str(j, self);
    int64_t words = 0;
    bool inside = false;
    nb_jspend(j, s.n / 8);
    for (size_t pos = 0; pos < s.n;) {
        bool word = nb_jis_word(nb_jnext_char(s, &pos));
        words += word && !inside;
        inside = word;
    }
    return nb_jint(words);
}

/* The five entities that escape() makes, and a few with other names, back to characters. */
static size_t unescape_entity(nb_str s, nb_buf *b)
{
    static const struct {
        const char *name, *text;
    } entities[] = {{"&amp;", "&"},  {"&lt;", "<"},  {"&gt;", ">"},   {"&quot;", "\""},
                    {"&#34;", "\""}, {"&#39;", "'"}, {"&apos;", "'"}, {"&nbsp;", "\xC2\xA0"}};
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
        if (nb_str_starts(s, nb_str_of(entities[i].name))) {
            nb_buf_z(b, entities[i].text);
            return strlen(entities[i].name);
        }
    nb_buf_char(b, s.p[0]);
    return 1;
}

/* The text without comments and tags. */
static void without_tags(nb_str s, nb_buf *b)
{
    for (size_t i = 0; i < s.n;) {
        nb_str rest = {s.p + i, s.n - i};
        bool comment = nb_str_starts(rest, NB_STR("<!--"));
        size_t end = SIZE_MAX;
        if (comment)
            end = nb_jfind(s, NB_STR("-->"), i + 4);
        else if (s.p[i] == '<')
            end = nb_jfind(s, NB_STR(">"), i + 1);
        if (end == SIZE_MAX) {
            nb_buf_char(b, s.p[i++]);
            if (comment || rest.p[0] == '<') { /* nothing closes any more: the rest is text */
                nb_buf_add(b, s.p + i, s.n - i);
                return;
            }
        } else {
            i = end + (comment ? 3 : 1);
        }
    }
}

FILTER(f_striptags)
{
    UNUSED_ARGS;
    nb_str s = nb_jto_str(j, self);
    nb_buf text = {0}, b = {0};
    nb_jspend_bytes(j, s.n);
    without_tags(s, &text);
    nb_str t = nb_jstrip(nb_buf_view(&text), NULL, true, true);
    bool space = false;
    for (size_t pos = 0; pos < t.n && !text.failed;) {
        size_t start = pos;
        if (nb_jis_space(nb_jnext_char(t, &pos))) {
            space = true;
            continue;
        }
        if (space)
            nb_buf_char(&b, ' ');
        space = false;
        if (t.p[start] == '&')
            pos = start + unescape_entity((nb_str){t.p + start, t.n - start}, &b);
        else
            nb_buf_add(&b, t.p + start, pos - start);
    }
    b.failed |= text.failed;
    nb_buf_free(&text);
    return nb_jstr_take(j, &b);
}

FILTER(f_urlencode)
{
    UNUSED_ARGS;
    nb_str s = nb_jto_str(j, self);
    nb_buf b = {0};
    nb_jspend(j, s.n / 8);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr("_.-~/", c));
        if (plain)
            nb_buf_char(&b, (char)c);
        else
            nb_buf_printf(&b, "%%%02X", c);
    }
    return nb_jstr_take(j, &b);
}

/* ---- JSON ---- */

static nb_str separator(nb_jinja *j, nb_jval pair, size_t at, nb_str otherwise)
{
    if (pair.kind <= NB_J_NONE)
        return otherwise;
    if ((pair.kind != NB_J_TUPLE && pair.kind != NB_J_LIST) || pair.u.list->count != 2) {
        nb_jfail(j, NB_ERR_ARGUMENT, "tojson's separators must be a pair of strings");
        return otherwise;
    }
    return nb_jneed_str(j, pair.u.list->items[at], "a separator");
}

/* As Hugging Face sets it up: json.dumps(x, ensure_ascii=False, indent, separators, sort_keys). */
FILTER(f_tojson)
{
    (void)args;
    bool pretty = a[1].kind > NB_J_NONE;
    nb_jjson style = {.pretty = pretty, .ascii = nb_jtruth(a[0]), .sort_keys = nb_jtruth(a[3])};
    style.item = separator(j, a[2], 0, pretty ? NB_STR(",") : NB_STR(", "));
    style.key = separator(j, a[2], 1, NB_STR(": "));
    if (pretty)
        style.indent = margin(j, a[1], 0);
    nb_buf b = {0};
    if (nb_jok(j))
        nb_jwrite_json(j, &b, self, &style);
    return nb_jstr_take(j, &b);
}

FILTER(f_from_json)
{
    UNUSED_ARGS;
    nb_error err;
    nb_jval v = nb_jnone();
    nb_str s = nb_jneed_str(j, self, "from_json's input");
    if (nb_jok(j) && nb_jspend_bytes(j, s.n) && !nb_jparse_json(j, s, &v, &err) && nb_jok(j))
        return nb_jfail(j, err.code, "from_json: %s", err.message);
    return v;
}

/* ---- numbers ---- */

/* s without outer whitespace and underscores between digits; false when it cannot be a number. */
static bool plain_number(nb_str s, char text[400])
{
    size_t n = 0;
    s = nb_jstrip(s, NULL, true, true);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '_' && i > 0 && i + 1 < s.n && s.p[i - 1] != '_' && s.p[i + 1] != '_')
            continue;
        if (n == 399 || s.p[i] == 0 || s.p[i] == ' ')
            return false;
        text[n++] = s.p[i];
    }
    text[n] = 0;
    return n > 0;
}

static bool parse_float(nb_jval v, double *out)
{
    char text[400], *end;
    if (nb_jis_number(v)) {
        *out = nb_jfloat_of(v);
        return true;
    }
    if (v.kind != NB_J_STR || !plain_number(v.u.s, text) || strpbrk(text, "xXpP("))
        return false;
    *out = strtod(text, &end);
    return *end == 0;
}

static bool parse_int(nb_str s, int base, int64_t *out)
{
    char text[400], *end, *digits = text;
    if (!plain_number(s, text))
        return false;
    bool minus = *digits == '-';
    digits += minus || *digits == '+';
    if (digits[0] == '0' && digits[1] && strchr("xXoObB", digits[1])) {
        int named = (digits[1] | 0x20) == 'x' ? 16 : (digits[1] | 0x20) == 'o' ? 8 : 2;
        if (base != 0 && base != named)
            return false;
        base = named;
        digits += 2;
    }
    if (*digits == '-' || *digits == '+')
        return false;
    errno = 0;
    *out = strtoll(digits, &end, base == 0 ? 10 : base);
    if (*end || end == digits || errno)
        return false;
    *out = minus ? -*out : *out;
    return true;
}

FILTER(f_int)
{
    (void)args;
    int64_t i, base = a[1].kind ? nb_jneed_int(j, a[1], "int's base") : 10;
    double f;
    if (self.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, self);
    if (nb_jis_integral(self))
        return nb_jint(nb_jint_of(self));
    if (base != 0 && (base < 2 || base > 36))
        return nb_jfail(j, NB_ERR_ARGUMENT, "int's base must be 0 or 2 to 36");
    if (self.kind == NB_J_STR && parse_int(self.u.s, (int)base, &i))
        return nb_jint(i);
    if (parse_float(self, &f) && isfinite(f)) {
        if (f >= -9.2e18 && f <= 9.2e18)
            return nb_jint((int64_t)f);
        return nb_jfail(j, NB_ERR_LIMIT, "int of a number beyond 64 bits");
    }
    return a[0].kind ? a[0] : nb_jint(0);
}

FILTER(f_float)
{
    (void)args;
    double f;
    if (self.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, self);
    if (parse_float(self, &f))
        return nb_jfloat(f);
    return a[0].kind ? a[0] : nb_jfloat(0);
}

FILTER(f_abs)
{
    UNUSED_ARGS;
    if (self.kind == NB_J_FLOAT)
        return nb_jfloat(fabs(self.u.f));
    return nb_junary(j, nb_jis_integral(self) && nb_jint_of(self) < 0, self);
}

/* value rounded to so many decimals, halves to even, as Python's round */
static double rounded(double value, int64_t precision)
{
    char text[400];
    if (!isfinite(value) || precision > 22)
        return value;
    if (precision >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)precision, value);
        return strtod(text, NULL);
    }
    double unit = pow(10, (double)-precision);
    return nearbyint(value / unit) * unit;
}

FILTER(f_round)
{
    (void)args;
    int64_t precision = a[0].kind ? nb_jneed_int(j, a[0], "round's precision") : 0;
    nb_str method = a[1].kind ? nb_jneed_str(j, a[1], "round's method") : NB_STR("common");
    bool up = nb_str_eqz(method, "ceil"), down = nb_str_eqz(method, "floor");
    if (!up && !down && !nb_str_eqz(method, "common"))
        return nb_jfail(j, NB_ERR_ARGUMENT, "round's method must be common, ceil or floor");
    if (!nb_jis_number(self))
        return nb_jneed_str(j, self, "round's input"), nb_jfail(j, NB_ERR_ARGUMENT, "round needs a number");
    if (!up && !down && nb_jis_integral(self) && precision >= 0)
        return nb_jint(nb_jint_of(self));
    double value = nb_jfloat_of(self), unit = pow(10, (double)precision);
    if (!up && !down)
        return nb_jis_integral(self) ? nb_jint((int64_t)rounded(value, precision))
                                     : nb_jfloat(rounded(value, precision));
    return nb_jfloat((up ? ceil(value * unit) : floor(value * unit)) / unit);
}

FILTER(f_filesizeformat)
{
    (void)args;
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    const char *const *prefixes = nb_jtruth(a[0]) ? binary : decimal;
    double bytes, base = nb_jtruth(a[0]) ? 1024 : 1000;
    char text[400];
    if (!parse_float(self, &bytes))
        return nb_jfail(j, NB_ERR_ARGUMENT, "filesizeformat needs a number");
    if (bytes == 1)
        return nb_jstr(NB_STR("1 Byte"));
    if (bytes < base) {
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
        return nb_jstr_copy(j, nb_str_of(text));
    }
    int i = 0;
    double unit = base * base;
    for (; i < 7 && bytes >= unit; i++)
        unit *= base;
    snprintf(text, sizeof text, "%.1f %s", base * bytes / unit, prefixes[i]);
    return nb_jstr_copy(j, nb_str_of(text));
}

const nb_jdef nb_jfilters_text[] = {{"upper", f_upper, "", 0},
                                    {"lower", f_lower, "", 0},
                                    {"capitalize", f_capitalize, "", 0},
                                    {"title", f_title, "", 0},
                                    {"trim", f_trim, "chars", 0},
                                    {"replace", f_replace, "old,new,count", 2},
                                    {"string", f_string, "", 0},
                                    {"safe", f_safe, "", 0},
                                    {"escape", f_escape, "", 0},
                                    {"e", f_escape, "", 0},
                                    {"forceescape", f_forceescape, "", 0},
                                    {"format", f_format, "*", 0},
                                    {"indent", f_indent, "width,first,blank", 0},
                                    {"truncate", f_truncate, "length,killwords,end,leeway", 0},
                                    {"center", f_center, "width", 0},
                                    {"wordcount", f_wordcount, "", 0},
                                    {"striptags", f_striptags, "", 0},
                                    {"urlencode", f_urlencode, "", 0},
                                    {"tojson", f_tojson, "ensure_ascii,indent,separators,sort_keys", 0},
                                    {"from_json", f_from_json, "", 0},
                                    {"fromjson", f_from_json, "", 0},
                                    {"int", f_int, "default,base", 0},
                                    {"float", f_float, "default", 0},
                                    {"abs", f_abs, "", 0},
                                    {"round", f_round, "precision,method", 0},
                                    {"filesizeformat", f_filesizeformat, "binary", 0},
                                    {0}};
