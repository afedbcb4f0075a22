/* The functions that templates call: Go's, and Ollama's json, currentDate, yesterdayDate and toTypeScriptType. */
#include <stdio.h>
#include <time.h>

#include "text/gotemplate_exec.h"
#include "text/gotemplate_text.h"

#define FUNCTION(name) static nb_go_value name(nb_go *g, const nb_go_value *args, size_t count)
#define UNUSED (void)g, (void)args, (void)count

/* ---- looking into values ---- */

/* An index up to and with `limit`; -1 and an error for anything else. */
static int64_t index_of(nb_go *g, nb_go_value v, size_t limit)
{
    v = nb_go_unwrap(v);
    if (!v.type)
        nb_go_fail(g, NB_ERR_ARGUMENT, "cannot index slice/array with nil");
    else if (!nb_go_is_integer(v))
        nb_go_fail(g, NB_ERR_ARGUMENT, "cannot index slice/array with type %s", nb_go_type_name(v));
    else if (v.u.i < 0 || (uint64_t)v.u.i > limit)
        nb_go_fail(g, NB_ERR_ARGUMENT, "index out of range: %lld", (long long)v.u.i);
    else
        return v.u.i;
    return -1;
}

static nb_go_value index_once(nb_go *g, nb_go_value item, nb_go_value key)
{
    bool nil;
    nb_go_value found;
    item = nb_go_indirect(item, &nil);
    key = nb_go_unwrap(key);
    if (nil)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "index of nil pointer");
    nb_go_kind kind = nb_go_kind_of(item);
    if (kind == NB_GO_MAP) {
        if (nb_go_kind_of(key) != NB_GO_STRING)
            return nb_go_fail(g, NB_ERR_ARGUMENT, "value has type %s; should be string", nb_go_type_name(key));
        if (nb_go_find(item, key.u.s, &found))
            return found;
        return item.type->elem->kind == NB_GO_STRUCT ? nb_go_struct(g, item.type->elem) : nb_go_zero(item.type->elem);
    }
    if (kind != NB_GO_SLICE && kind != NB_GO_STRING)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "can't index item of type %s", nb_go_type_name(item));
    size_t n = nb_go_length(item);
    int64_t i = index_of(g, key, n);
    if (i >= 0 && (size_t)i == n)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "index out of range: %lld", (long long)i);
    return i >= 0 ? nb_go_item(item, (size_t)i) : nb_go_none();
}

FUNCTION(f_index)
{
    nb_go_value item = nb_go_unwrap(args[0]);
    if (!item.type)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "index of untyped nil");
    for (size_t i = 1; i < count && nb_go_ok(g); i++)
        item = index_once(g, item, args[i]);
    return item;
}

static nb_go_value part(nb_go *g, nb_go_value v, size_t from, size_t to)
{
    if (v.type->kind == NB_GO_STRING) {
        v.u.s = (nb_str){v.u.s.p + from, to - from};
        return v;
    }
    if (!v.u.list)
        return v;
    nb_go_list *list = nb_go_memory(g, 1, sizeof *list);
    if (!list)
        return nb_go_none();
    *list = (nb_go_list){v.u.list->items + from, to - from};
    v.u.list = list;
    return v;
}

FUNCTION(f_slice)
{
    bool nil;
    nb_go_value item = nb_go_unwrap(args[0]);
    if (!item.type)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "slice of untyped nil");
    item = nb_go_indirect(item, &nil);
    nb_go_kind kind = nb_go_kind_of(item);
    if (nil)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "slice of nil pointer");
    if (count > 4)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "too many slice indexes: %zu", count - 1);
    if (kind == NB_GO_STRING && count == 4)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "cannot 3-index slice a string");
    if (kind != NB_GO_STRING && kind != NB_GO_SLICE)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "can't slice item of type %s", nb_go_type_name(item));
    int64_t n = (int64_t)nb_go_length(item), at[3] = {0, n, n};
    for (size_t i = 1; i < count; i++)
        if ((at[i - 1] = index_of(g, args[i], (size_t)n)) < 0)
            return nb_go_none();
    for (size_t i = 0; i < (count == 4 ? 2 : 1); i++)
        if (at[i] > at[i + 1])
            return nb_go_fail(g, NB_ERR_ARGUMENT, "invalid slice index: %lld > %lld", (long long)at[i],
                              (long long)at[i + 1]);
    return part(g, item, (size_t)at[0], (size_t)at[1]);
}

FUNCTION(f_len)
{
    bool nil;
    nb_go_value v = nb_go_indirect(args[0], &nil);
    (void)count;
    if (nil)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "len of nil pointer");
    if (!nb_go_has_length(v))
        return nb_go_fail(g, NB_ERR_ARGUMENT, "len of type %s", nb_go_type_name(v));
    return nb_go_int((int64_t)nb_go_length(v));
}

/* Templates are given no functions to call. */
FUNCTION(f_call)
{
    nb_go_value v = nb_go_unwrap(args[0]);
    (void)count;
    if (!v.type)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "call of nil");
    return nb_go_fail(g, NB_ERR_ARGUMENT, "call: a value of type %s is no function", nb_go_type_name(v));
}

/* ---- comparing ---- */

FUNCTION(f_not) { return UNUSED, nb_go_bool(!nb_go_truth(args[0])); }

/* Bytes of strings and other integers compare with each other. */
static nb_go_kind basic_kind(nb_go_value v)
{
    nb_go_kind k = nb_go_kind_of(v);
    if (k == NB_GO_UINT8)
        return NB_GO_INT;
    return k == NB_GO_BOOL || k == NB_GO_INT || k == NB_GO_FLOAT || k == NB_GO_STRING ? k : NB_GO_INVALID;
}

static nb_go_value incomparable(nb_go *g, nb_go_value a, nb_go_value b)
{
    return nb_go_fail(g, NB_ERR_ARGUMENT, "incompatible types for comparison: %s and %s", nb_go_type_name(a),
                      nb_go_type_name(b));
}

/* Values that are neither numbers, strings nor bools: only nil, and pointers to the same thing, are equal. */
static bool equal_others(nb_go *g, nb_go_value a, nb_go_value b)
{
    nb_go_kind ka = nb_go_kind_of(a), kb = nb_go_kind_of(b);
    if (ka != kb && ka != NB_GO_INVALID && kb != NB_GO_INVALID)
        incomparable(g, a, b);
    else if (nb_go_is_nil(a) || nb_go_is_nil(b))
        return nb_go_is_nil(a) == nb_go_is_nil(b);
    else if (kb != NB_GO_POINTER)
        nb_go_fail(g, NB_ERR_ARGUMENT, "non-comparable type %s", nb_go_type_name(b));
    else
        return a.u.to == b.u.to;
    return false;
}

static bool equal(nb_go *g, nb_go_value a, nb_go_value b)
{
    nb_go_kind ka = basic_kind(a), kb = basic_kind(b);
    if (ka != kb) {
        if (a.type && b.type)
            incomparable(g, a, b);
        return false;
    }
    switch (ka) {
    case NB_GO_BOOL: return a.u.b == b.u.b;
    case NB_GO_INT: return a.u.i == b.u.i;
    case NB_GO_FLOAT: return a.u.f == b.u.f;
    case NB_GO_STRING: return nb_go_spend(g, nb_min_size(a.u.s.n, b.u.s.n) / 32) && nb_str_eq(a.u.s, b.u.s);
    default: return equal_others(g, a, b);
    }
}

FUNCTION(f_eq)
{
    if (count < 2)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "missing argument for comparison");
    for (size_t i = 1; i < count && nb_go_ok(g); i++)
        if (equal(g, nb_go_unwrap(args[0]), nb_go_unwrap(args[i])))
            return nb_go_bool(true);
    return nb_go_bool(false);
}

FUNCTION(f_ne) { return UNUSED, nb_go_bool(!equal(g, nb_go_unwrap(args[0]), nb_go_unwrap(args[1]))); }

static bool less(nb_go *g, nb_go_value a, nb_go_value b)
{
    nb_go_kind ka = basic_kind(a), kb = basic_kind(b);
    if (ka == NB_GO_INVALID || kb == NB_GO_INVALID || (ka == kb && ka == NB_GO_BOOL)) {
        nb_go_fail(g, NB_ERR_ARGUMENT, "invalid type for comparison: %s and %s", nb_go_type_name(a),
                   nb_go_type_name(b));
        return false;
    }
    if (ka != kb) {
        incomparable(g, a, b);
        return false;
    }
    if (ka == NB_GO_INT)
        return a.u.i < b.u.i;
    if (ka == NB_GO_FLOAT)
        return a.u.f < b.u.f;
    size_t n = nb_min_size(a.u.s.n, b.u.s.n);
    int order = n && nb_go_spend(g, n / 32) ? memcmp(a.u.s.p, b.u.s.p, n) : 0;
    return order < 0 || (order == 0 && a.u.s.n < b.u.s.n);
}

static bool less_or_equal(nb_go *g, nb_go_value a, nb_go_value b) { return less(g, a, b) || equal(g, a, b); }

FUNCTION(f_lt) { return UNUSED, nb_go_bool(less(g, nb_go_unwrap(args[0]), nb_go_unwrap(args[1]))); }
FUNCTION(f_le) { return UNUSED, nb_go_bool(less_or_equal(g, nb_go_unwrap(args[0]), nb_go_unwrap(args[1]))); }
FUNCTION(f_gt) { return UNUSED, nb_go_bool(!less_or_equal(g, nb_go_unwrap(args[0]), nb_go_unwrap(args[1]))); }
FUNCTION(f_ge) { return UNUSED, nb_go_bool(!less(g, nb_go_unwrap(args[0]), nb_go_unwrap(args[1]))); }

/* ---- text ---- */

FUNCTION(f_print)
{
    nb_buf b = {0};
    nb_go_print(g, &b, args, count);
    return nb_go_str_take(g, &b);
}

FUNCTION(f_println)
{
    nb_buf b = {0};
    nb_go_println(g, &b, args, count);
    return nb_go_str_take(g, &b);
}

FUNCTION(f_printf)
{
    nb_buf b = {0};
    nb_go_printf(g, &b, args[0].u.s, args + 1, count - 1);
    return nb_go_str_take(g, &b);
}

/* What the escaping functions escape: the arguments as an action prints them, spaced as print does. */
static nb_str joined(nb_go *g, const nb_go_value *args, size_t count)
{
    bool nil;
    nb_buf b = {0};
    nb_go_value *shown = nb_go_memory(g, count, sizeof *shown);
    for (size_t i = 0; shown && i < count; i++) {
        shown[i] = nb_go_unwrap(args[i]);
        if (nb_go_kind_of(shown[i]) == NB_GO_POINTER)
            shown[i] = nb_go_indirect(shown[i], &nil);
        if (!shown[i].type)
            shown[i] = nb_go_str(NB_STR("<no value>"));
    }
    if (shown)
        nb_go_print(g, &b, shown, count);
    nb_go_value text = nb_go_str_take(g, &b);
    return text.type && nb_go_spend(g, text.u.s.n / 16) ? text.u.s : NB_STR("");
}

static const char *html_entity(char c)
{
    switch (c) {
    case 0: return "\xEF\xBF\xBD";
    case '"': return "&#34;";
    case '\'': return "&#39;";
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    default: return NULL;
    }
}

FUNCTION(f_html)
{
    nb_str s = joined(g, args, count);
    nb_buf b = {0};
    for (size_t i = 0; i < s.n; i++) {
        const char *entity = html_entity(s.p[i]);
        if (entity)
            nb_buf_z(&b, entity);
        else
            nb_buf_char(&b, s.p[i]);
    }
    return nb_go_str_take(g, &b);
}

FUNCTION(f_js)
{
    nb_str s = joined(g, args, count);
    nb_buf b = {0};
    bool valid;
    for (size_t at = 0; at < s.n;) {
        size_t before = at;
        uint32_t c = nb_go_next_char(s, &at, &valid);
        if (c == '\\' || c == '\'' || c == '"')
            nb_buf_printf(&b, "\\%c", (char)c);
        else if (c < 0x20 || c == '<' || c == '>' || c == '&' || c == '=' || (c >= 0x80 && !nb_go_is_print(c)))
            nb_buf_printf(&b, "\\u%04X", c);
        else
            nb_buf_add(&b, s.p + before, at - before);
    }
    return nb_go_str_take(g, &b);
}

FUNCTION(f_urlquery)
{
    nb_str s = joined(g, args, count);
    nb_buf b = {0};
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < 0x80 && c != '_' && nb_go_is_letter_or_digit(c)) || (c && strchr("-_.~", c)))
            nb_buf_char(&b, (char)c);
        else if (c == ' ')
            nb_buf_char(&b, '+');
        else
            nb_buf_printf(&b, "%%%02X", c);
    }
    return nb_go_str_take(g, &b);
}

/* ---- Ollama's ---- */

FUNCTION(f_json)
{
    nb_buf b = {0};
    (void)count;
    nb_go_write_json(g, &b, args[0]);
    return nb_go_str_take(g, &b);
}

static nb_go_value date(nb_go *g, int64_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm day;
    nb_buf b = {0};
    if (!localtime_r(&t, &day))
        return nb_go_fail(g, NB_ERR_ARGUMENT, "no date is %lld seconds after 1970", (long long)seconds);
    nb_buf_printf(&b, "%04d-%02d-%02d", day.tm_year + 1900, day.tm_mon + 1, day.tm_mday);
    return nb_go_str_take(g, &b);
}

FUNCTION(f_today) { return UNUSED, date(g, g->now); }

/* The day before, also where a day had 23 or 25 hours: noon of today less 24 hours. */
FUNCTION(f_yesterday)
{
    time_t t = (time_t)g->now;
    struct tm day;
    UNUSED;
    if (!localtime_r(&t, &day))
        return date(g, g->now);
    return date(g, g->now - ((int64_t)day.tm_hour - 12) * 3600 - 86400);
}

FUNCTION(f_typescript)
{
    bool nil;
    nb_go_value v = nb_go_indirect(args[0], &nil);
    (void)count;
    if (!v.type || v.type->trait != NB_GO_PROPERTY)
        return nb_go_str(NB_STR("any"));
    return nb_go_str(nb_go_typescript(g, v));
}

static const nb_go_function functions[] = {
    {"and", 1, -1, NB_GO_ARGS_ANY, 'f', NULL},
    {"call", 1, -1, NB_GO_ARGS_ANY, 0, f_call},
    {"currentDate", 0, -1, NB_GO_ARGS_TEXT, 0, f_today},
    {"eq", 1, -1, NB_GO_ARGS_ANY, 0, f_eq},
    {"ge", 2, 2, NB_GO_ARGS_ANY, 0, f_ge},
    {"gt", 2, 2, NB_GO_ARGS_ANY, 0, f_gt},
    {"html", 0, -1, NB_GO_ARGS_ANY, 0, f_html},
    {"index", 1, -1, NB_GO_ARGS_ANY, 0, f_index},
    {"js", 0, -1, NB_GO_ARGS_ANY, 0, f_js},
    {"json", 1, 1, NB_GO_ARGS_ANY, 0, f_json},
    {"le", 2, 2, NB_GO_ARGS_ANY, 0, f_le},
    {"len", 1, 1, NB_GO_ARGS_ANY, 0, f_len},
    {"lt", 2, 2, NB_GO_ARGS_ANY, 0, f_lt},
    {"ne", 2, 2, NB_GO_ARGS_ANY, 0, f_ne},
    {"not", 1, 1, NB_GO_ARGS_ANY, 0, f_not},
    {"or", 1, -1, NB_GO_ARGS_ANY, 't', NULL},
    {"print", 0, -1, NB_GO_ARGS_ANY, 0, f_print},
    {"printf", 1, -1, NB_GO_ARGS_TEXT_FIRST, 0, f_printf},
    {"println", 0, -1, NB_GO_ARGS_ANY, 0, f_println},
    {"slice", 1, -1, NB_GO_ARGS_ANY, 0, f_slice},
    {"toTypeScriptType", 1, 1, NB_GO_ARGS_ANY, 0, f_typescript},
    {"urlquery", 0, -1, NB_GO_ARGS_ANY, 0, f_urlquery},
    {"yesterdayDate", 0, -1, NB_GO_ARGS_TEXT, 0, f_yesterday},
};

const nb_go_function *nb_go_function_named(nb_str name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (nb_str_eqz(name, functions[i].name))
            return &functions[i];
    return NULL;
}
