#include "store/options.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/json_read.h"
#include "base/json_write.h"

#define MOST 10000 /* parameters; arrays of stop strings are the only ones that grow */

/* ---- reading ---- */

typedef struct list {
    nb_param *items;
    size_t count, cap;
} list;

static void push(nb_json_reader *r, list *l, nb_param p)
{
    if (l->count == MOST) {
        nb_json_read_fail(r, r->at, NB_ERR_LIMIT, "there are more than %d parameters", MOST);
        return;
    }
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        nb_param *bigger = realloc(l->items, cap * sizeof *bigger);
        if (!bigger) {
            nb_json_read_fail(r, r->at, NB_ERR_MEMORY, "out of memory for %zu parameters", cap);
            return;
        }
        l->items = bigger;
        l->cap = cap;
    }
    l->items[l->count++] = p;
}

static nb_param scalar(nb_json_reader *r, nb_str key, bool in_array)
{
    nb_param p = {.key = key, .kind = NB_PARAM_OTHER, .in_array = in_array};
    switch (nb_json_read_peek(r)) {
    case '0':
        p.kind = NB_PARAM_NUMBER;
        p.number = nb_json_read_num(r);
        break;
    case '"':
        p.kind = NB_PARAM_TEXT;
        p.text = nb_json_read_str(r);
        break;
    case 't':
    case 'f':
        p.kind = NB_PARAM_BOOL;
        p.yes = nb_json_read_bool(r);
        break;
    case 'n': p.kind = NB_PARAM_NULL; /* fall through */
    default: nb_json_read_skip(r);
    }
    return p;
}

static void read_all(nb_json_reader *r, list *l)
{
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        size_t at = r->at;
        nb_str key = nb_json_read_key(r);
        for (size_t i = 0; i < l->count; i++)
            if (nb_str_eq(l->items[i].key, key)) {
                nb_json_read_fail(r, at, NB_ERR_FORMAT, "the parameter %.*s is there twice; keep one", NB_STR_ARG(key));
                break;
            }
        if (nb_json_read_peek(r) != '[') {
            push(r, l, scalar(r, key, false));
            continue;
        }
        size_t before = l->count;
        nb_json_read_enter(r, '[');
        while (nb_json_read_more(r))
            push(r, l, scalar(r, key, true));
        if (l->count == before) /* an empty array says something, too: no stop strings */
            push(r, l, (nb_param){.key = key, .kind = NB_PARAM_NULL, .in_array = true});
    }
    nb_json_read_end(r);
}

/* by key; what is equal stays in order, for an insertion sort does not move it */
static void sort(nb_param *p, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        nb_param x = p[i];
        size_t j = i;
        for (; j > 0; j--) {
            size_t m = nb_min_size(p[j - 1].key.n, x.key.n);
            int order = m ? memcmp(p[j - 1].key.p, x.key.p, m) : 0;
            if (order < 0 || (order == 0 && p[j - 1].key.n <= x.key.n))
                break;
            p[j] = p[j - 1];
        }
        p[j] = x;
    }
}

nb_status nb_params_read(const char *name, nb_str json, nb_arena *arena, nb_param **out, size_t *count, nb_error *err)
{
    *out = NULL;
    *count = 0;
    char *copy = nb_arena_strdup(arena, json); /* values point into it */
    if (!copy)
        return nb_fail_memory(err, "parameters", json.n);
    nb_json_reader r = nb_json_read_begin(name, (nb_str){copy, json.n}, arena, err);
    list l = {0};
    read_all(&r, &l);
    nb_status status = r.status;
    nb_param *kept = status == NB_OK && l.count ? NB_ARRAY(arena, nb_param, l.count) : NULL;
    if (kept) {
        memcpy(kept, l.items, l.count * sizeof *kept);
        sort(kept, l.count);
        *out = kept;
        *count = l.count;
    } else if (status == NB_OK && l.count) {
        status = nb_fail_memory(err, "parameters", l.count * sizeof *kept);
    }
    free(l.items);
    return status;
}

/* ---- printing ---- */

static void print_number(double v, nb_buf *out)
{
    char text[32];
    if (v == trunc(v) && fabs(v) < 1e15) {
        nb_buf_printf(out, "%lld", (long long)v);
    } else {
        nb_format_double(v, text);
        nb_buf_z(out, text);
    }
}

void nb_param_value(const nb_param *p, nb_buf *out)
{
    switch (p->kind) {
    case NB_PARAM_NUMBER: print_number(p->number, out); break;
    case NB_PARAM_BOOL: nb_buf_z(out, p->yes ? "true" : "false"); break;
    case NB_PARAM_TEXT: nb_buf_str(out, p->text); break;
    case NB_PARAM_NULL:
    case NB_PARAM_OTHER: break;
    }
}

static void write_value(const nb_param *p, nb_json *j)
{
    switch (p->kind) {
    case NB_PARAM_NUMBER:
        if (p->number == trunc(p->number) && fabs(p->number) < 1e15)
            nb_json_int(j, (int64_t)p->number);
        else
            nb_json_num(j, p->number);
        break;
    case NB_PARAM_BOOL: nb_json_bool(j, p->yes); break;
    case NB_PARAM_TEXT: nb_json_str(j, p->text); break;
    case NB_PARAM_NULL:
    case NB_PARAM_OTHER: nb_json_null(j); break;
    }
}

/* in the quotes of a Go string literal */
static void print_quoted(nb_str s, nb_buf *out)
{
    nb_buf_char(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        const char *at = c ? strchr("\a\b\f\n\r\t\v\\\"", c) : NULL;
        if (at)
            nb_buf_printf(out, "\\%c", "abfnrtv\\\""[at - strchr("\a\b\f\n\r\t\v\\\"", '\a')]);
        else if (c < 0x20 || c == 0x7f)
            nb_buf_printf(out, "\\x%02x", c);
        else
            nb_buf_char(out, (char)c);
    }
    nb_buf_char(out, '"');
}

void nb_params_print(const nb_param *params, size_t count, nb_buf *out)
{
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        const nb_param *p = &params[i];
        if (p->kind == NB_PARAM_NULL || p->kind == NB_PARAM_OTHER)
            continue;
        if (!first)
            nb_buf_char(out, '\n');
        first = false;
        nb_buf_str(out, p->key);
        for (size_t n = p->key.n; n < 30; n++)
            nb_buf_char(out, ' ');
        nb_buf_char(out, ' ');
        if (p->kind == NB_PARAM_TEXT)
            print_quoted(p->text, out);
        else
            nb_param_value(p, out);
    }
}

void nb_params_write(const nb_param *params, size_t count, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    j.html = true;
    nb_json_open(&j, '{');
    for (size_t i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && nb_str_eq(params[i + n].key, params[i].key);)
            n++;
        nb_json_key_str(&j, params[i].key);
        if (!params[i].in_array) {
            write_value(&params[i], &j);
            continue;
        }
        nb_json_open(&j, '[');
        for (size_t k = i; k < i + n; k++)
            if (params[k].kind != NB_PARAM_NULL) /* of an empty array */
                write_value(&params[k], &j);
        nb_json_close(&j, ']');
    }
    nb_json_close(&j, '}');
    nb_buf_char(out, '\n');
}

/* ---- put together ---- */

static bool holds(const nb_param *p, size_t n, nb_str key)
{
    for (size_t i = 0; i < n; i++)
        if (nb_str_eq(p[i].key, key))
            return true;
    return false;
}

nb_status nb_params_merge(const nb_param *base, size_t base_count, const nb_param *over, size_t over_count,
                          nb_arena *arena, nb_param **out, size_t *count, nb_error *err)
{
    *count = 0;
    *out = NB_ARRAY(arena, nb_param, base_count + over_count + 1);
    if (!*out)
        return nb_fail_memory(err, "parameters", (base_count + over_count) * sizeof **out);
    for (size_t i = 0; i < over_count; i++)
        (*out)[(*count)++] = over[i];
    for (size_t i = 0; i < base_count; i++)
        if (!holds(over, over_count, base[i].key))
            (*out)[(*count)++] = base[i];
    sort(*out, *count);
    return NB_OK;
}

/* ---- typed ---- */

typedef enum kind { INT, NUMBER, BOOL, STRINGS } kind;
static const struct row {
    const char *name;
    kind kind;
    size_t offset;
} rows[] = {
#define NB_OPTION(name, kind, fallback) {#name, kind, offsetof(nb_options, name)},
#define NB_OPTION_NOTHING(name)
#include "store/options.def"
#undef NB_OPTION
#undef NB_OPTION_NOTHING
};

static const char *const nothing[] = {
#define NB_OPTION(name, kind, fallback)
#define NB_OPTION_NOTHING(name) #name,
#include "store/options.def"
#undef NB_OPTION
#undef NB_OPTION_NOTHING
};

nb_options nb_options_defaults(void)
{
    return (nb_options){
#define NB_OPTION(name, kind, fallback) .name = fallback,
#define NB_OPTION_NOTHING(name)
#include "store/options.def"
#undef NB_OPTION
#undef NB_OPTION_NOTHING
    };
}

/* ---- as texts ---- */

static bool parse_number(nb_str text, double *out)
{
    char copy[64], *end;
    if (text.n == 0 || text.n >= sizeof copy || memchr(text.p, 'x', text.n) || memchr(text.p, 'X', text.n))
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    *out = strtod(copy, &end);
    return *end == 0 && end != copy && isfinite(*out) && copy[0] != ' ';
}

/* the words of Go's ParseBool */
static bool parse_bool(nb_str text, bool *out)
{
    static const char *const words[] = {"1", "t", "T", "TRUE",  "true",  "True",
                                        "0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (nb_str_eqz(text, words[i])) {
            *out = i < 6;
            return true;
        }
    return false;
}

/* Parameters that mean nothing here are kept: by what they look like. */
static nb_param parse_idle(nb_str key, nb_str text)
{
    nb_param p = {.key = key, .kind = NB_PARAM_NUMBER};
    if (parse_number(text, &p.number))
        return p;
    p.kind = parse_bool(text, &p.yes) ? NB_PARAM_BOOL : NB_PARAM_TEXT;
    p.text = text;
    return p;
}

nb_status nb_param_parse(nb_str key, nb_str text, nb_param *out, nb_error *err)
{
    size_t i = 0, j = 0;
    *out = (nb_param){.key = key, .kind = NB_PARAM_NUMBER};
    while (i < NB_OPTIONS && !nb_str_eqz(key, rows[i].name))
        i++;
    while (i == NB_OPTIONS && j < sizeof nothing / sizeof *nothing && !nb_str_eqz(key, nothing[j]))
        j++;
    if (j == sizeof nothing / sizeof *nothing)
        return nb_fail(err, NB_ERR_ARGUMENT, "unknown parameter '%.*s'", NB_STR_ARG(key));
    if (i == NB_OPTIONS) {
        *out = parse_idle(key, text);
        return NB_OK;
    }
    static const char *const kinds[] = {"int", "float", "bool", "text"};
    kind k = rows[i].kind;
    bool good = true;
    if (k == STRINGS)
        *out = (nb_param){.key = key, .kind = NB_PARAM_TEXT, .in_array = true, .text = text};
    else if (k == BOOL)
        good = parse_bool(text, &out->yes);
    else
        good = parse_number(text, &out->number) &&
               (k == NUMBER || (out->number == trunc(out->number) && fabs(out->number) < 9.2e18));
    if (k == BOOL)
        out->kind = NB_PARAM_BOOL;
    return good ? NB_OK
                : nb_fail(err, NB_ERR_ARGUMENT, "the parameter %.*s has the invalid %s value '%.*s'", NB_STR_ARG(key),
                          kinds[k], NB_STR_ARG(text));
}

/* ---- from JSON ---- */

static nb_status wrong_type(const struct row *row, nb_error *err)
{
    static const char *const words[] = {"of type integer", "of type float32", "of type boolean", "of type array"};
    return nb_fail(err, NB_ERR_ARGUMENT, "option \"%s\" must be %s", row->name, words[row->kind]);
}

static nb_status set_one(nb_options *o, const struct row *row, const nb_param *p, nb_error *err)
{
    char *field = (char *)o + row->offset;
    if (p->in_array || p->kind != (row->kind == BOOL ? NB_PARAM_BOOL : NB_PARAM_NUMBER))
        return wrong_type(row, err);
    if (row->kind == BOOL)
        *(bool *)field = p->yes;
    else if (row->kind == NUMBER)
        *(double *)field = p->number;
    else if (p->number >= -9.2e18 && p->number <= 9.2e18)
        *(int64_t *)field = (int64_t)p->number;
    else
        return nb_fail(err, NB_ERR_ARGUMENT, "option \"%s\" does not fit 64 bits", row->name);
    return NB_OK;
}

/* `count` parameters of one key */
static nb_status set_strings(nb_options *o, const struct row *row, const nb_param *p, size_t count, nb_arena *arena,
                             nb_error *err)
{
    if (count == 1 && p->in_array && p->kind == NB_PARAM_NULL)
        count = 0;
    nb_str *stops = NB_ARRAY(arena, nb_str, count);
    if (!stops && count)
        return nb_fail_memory(err, row->name, count * sizeof *stops);
    for (size_t i = 0; i < count; i++) {
        if (!p[i].in_array)
            return wrong_type(row, err);
        if (p[i].kind != NB_PARAM_TEXT)
            return nb_fail(err, NB_ERR_ARGUMENT, "option \"%s\" must be of an array of strings", row->name);
        stops[i] = p[i].text;
    }
    o->stop = stops; /* the one option of this kind */
    o->stop_count = count;
    return NB_OK;
}

static void tell_idle(nb_str key, nb_option_idle_fn *idle, void *user)
{
    bool known = false;
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++)
        known |= nb_str_eqz(key, nothing[i]);
    if (idle)
        idle(user, key, known);
}

nb_status nb_options_apply(nb_options *options, const nb_param *params, size_t count, nb_arena *arena,
                           nb_option_idle_fn *idle, void *user, nb_error *err)
{
    for (size_t i = 0, n; i < count; i += n) {
        size_t which = 0;
        for (n = 1; i + n < count && nb_str_eq(params[i + n].key, params[i].key);)
            n++;
        while (which < NB_OPTIONS && !nb_str_eqz(params[i].key, rows[which].name))
            which++;
        if (which == NB_OPTIONS) {
            tell_idle(params[i].key, idle, user);
            continue;
        }
        if (params[i].kind == NB_PARAM_NULL && !params[i].in_array)
            continue;
        NB_TRY(rows[which].kind == STRINGS ? set_strings(options, &rows[which], params + i, n, arena, err)
                                           : set_one(options, &rows[which], params + i, err));
        options->given |= (uint64_t)1 << which;
    }
    return NB_OK;
}
