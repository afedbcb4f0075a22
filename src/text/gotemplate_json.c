/* Go's encoding/json: values to text as Marshal writes it (HTML characters escaped, keys of maps sorted), text to values of
 * a type as Unmarshal reads it (unknown keys are skipped, case does not matter, null changes nothing). */
#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/gotemplate_text.h"

/* ---- writing ---- */

static void write_string(nb_go *g, nb_buf *b, nb_str s)
{
    static const char names[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
    bool valid;
    nb_buf_char(b, '"');
    for (size_t at = 0; at < s.n;) {
        size_t before = at;
        uint32_t c = nb_go_next_char(s, &at, &valid);
        const char *simple = c && c < 0x80 ? strchr(values, (int)c) : NULL;
        if (simple)
            nb_buf_printf(b, "\\%c", names[simple - values]);
        else if (!valid)
            nb_buf_z(b, "\xEF\xBF\xBD");
        else if (c < 0x20 || c == '<' || c == '>' || c == '&' || c == 0x2028 || c == 0x2029)
            nb_buf_printf(b, "\\u%04x", c);
        else
            nb_buf_add(b, s.p + before, at - before);
    }
    nb_buf_char(b, '"');
    if (nb_go_spend(g, s.n / 8))
        nb_go_write_z(g, b, "");
}

/* As JavaScript prints them: 1e-07 is 1e-7. */
static void write_number(nb_go *g, nb_buf *b, double f)
{
    double magnitude = fabs(f);
    bool exponent = magnitude != 0 && (magnitude < 1e-6 || magnitude >= 1e21);
    nb_buf text = {0};
    if (!nb_go_spend(g, NB_GO_FLOAT_STEPS))
        return;
    nb_go_format_float(&text, f, exponent ? 'e' : 'f', -1);
    nb_str s = nb_buf_view(&text);
    if (exponent && s.n > 4 && s.p[s.n - 4] == 'e' && s.p[s.n - 3] == '-' && s.p[s.n - 2] == '0') {
        text.data[s.n - 2] = s.p[s.n - 1];
        s.n--;
    }
    if (text.failed)
        nb_go_fail_memory(g);
    nb_go_write(g, b, s);
    nb_buf_free(&text);
}

static bool is_omitted(nb_go_value v)
{
    if (nb_go_has_length(v))
        return nb_go_length(v) == 0;
    return nb_go_kind_of(v) != NB_GO_STRUCT && !nb_go_truth(v);
}

static void write_map(nb_go *g, nb_buf *b, nb_go_value v)
{
    nb_go_write_z(g, b, v.u.map ? "{" : "null");
    for (size_t i = 0; v.u.map && i < v.u.map->count && nb_go_ok(g); i++) {
        nb_go_write_z(g, b, i ? "," : "");
        write_string(g, b, v.u.map->entries[i].key);
        nb_go_write_z(g, b, ":");
        nb_go_write_json(g, b, v.u.map->entries[i].value);
    }
    nb_go_write_z(g, b, v.u.map ? "}" : "");
}

static void write_struct(nb_go *g, nb_buf *b, nb_go_value v)
{
    const char *before = "{";
    if (v.type->trait == NB_GO_ORDERED) {
        write_map(g, b, v);
        return;
    }
    for (size_t i = 0; i < v.type->field_count && nb_go_ok(g); i++) {
        const nb_go_field *f = &v.type->fields[i];
        if (f->omit_empty && is_omitted(v.u.fields[i]))
            continue;
        nb_go_write_z(g, b, before);
        write_string(g, b, nb_str_of(f->json));
        nb_go_write_z(g, b, ":");
        nb_go_write_json(g, b, v.u.fields[i]);
        before = ",";
    }
    nb_go_write_z(g, b, *before == '{' ? "{}" : "}");
}

static void write_slice(nb_go *g, nb_buf *b, nb_go_value v)
{
    if (v.type->trait == NB_GO_PROPERTY_TYPE && nb_go_length(v) == 1) {
        nb_go_write_json(g, b, nb_go_item(v, 0));
        return;
    }
    nb_go_write_z(g, b, v.u.list ? "[" : "null");
    for (size_t i = 0; i < nb_go_length(v) && nb_go_ok(g); i++) {
        nb_go_write_z(g, b, i ? "," : "");
        nb_go_write_json(g, b, nb_go_item(v, i));
    }
    nb_go_write_z(g, b, v.u.list ? "]" : "");
}

void nb_go_write_json(nb_go *g, nb_buf *b, nb_go_value v)
{
    char text[32];
    if (!nb_go_enter(g))
        return;
    switch (nb_go_kind_of(v)) {
    case NB_GO_INVALID:
    case NB_GO_INTERFACE: nb_go_write_z(g, b, "null"); break;
    case NB_GO_BOOL: nb_go_write_z(g, b, v.u.b ? "true" : "false"); break;
    case NB_GO_INT:
    case NB_GO_UINT8:
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
        nb_go_write_z(g, b, text);
        break;
    case NB_GO_FLOAT: write_number(g, b, v.u.f); break;
    case NB_GO_STRING: write_string(g, b, v.u.s); break;
    case NB_GO_SLICE: write_slice(g, b, v); break;
    case NB_GO_MAP: write_map(g, b, v); break;
    case NB_GO_STRUCT: write_struct(g, b, v); break;
    case NB_GO_POINTER: nb_go_write_json(g, b, v.u.to ? *v.u.to : nb_go_none()); break;
    }
    nb_go_leave(g);
}

/* ---- reading ---- */

typedef struct reader {
    nb_go *g;
    const char *what; /* is read, for messages */
    const char *key;  /* last seen */
} reader;

static nb_go_value read_value(reader *r, const json_t *json, const nb_go_type *type);

static nb_go_value wrong(reader *r, const char *wanted)
{
    if (r->key)
        return nb_go_fail(r->g, NB_ERR_ARGUMENT, "%s: \"%.60s\" must be %s", r->what, r->key, wanted);
    return nb_go_fail(r->g, NB_ERR_ARGUMENT, "%s must be %s", r->what, wanted);
}

static nb_go_value read_string(reader *r, const json_t *json)
{
    nb_str s = {json_string_value(json), json_string_length(json)};
    if (!json_is_string(json))
        return wrong(r, "a string");
    char *copy = nb_go_spend(r->g, s.n / 32) ? nb_arena_strdup(&r->g->arena, s) : NULL;
    return copy ? nb_go_str((nb_str){copy, s.n}) : nb_go_fail_memory(r->g);
}

static nb_go_value list_of(nb_go *g, const nb_go_type *type, const nb_go_value *items, size_t count)
{
    nb_go_list *list = nb_go_memory(g, 1, sizeof *list);
    if (!list)
        return nb_go_none();
    *list = (nb_go_list){items, count};
    return (nb_go_value){.type = type, .u.list = list};
}

static nb_go_value read_list(reader *r, const json_t *json, const nb_go_type *type)
{
    if (!json_is_array(json))
        return wrong(r, "a list");
    size_t count = json_array_size(json);
    nb_go_value *items = nb_go_memory(r->g, count, sizeof *items);
    for (size_t i = 0; i < count && nb_go_ok(r->g); i++)
        items[i] = read_value(r, json_array_get(json, i), type->elem);
    return nb_go_ok(r->g) ? list_of(r->g, type, items, count) : nb_go_none();
}

/* One name, or a list of them. */
static nb_go_value read_names(reader *r, const json_t *json, const nb_go_type *type)
{
    if (!json_is_string(json))
        return read_list(r, json, type);
    nb_go_value *item = nb_go_memory(r->g, 1, sizeof *item);
    if (!item)
        return nb_go_none();
    *item = read_string(r, json);
    return list_of(r->g, type, item, 1);
}

static nb_go_value read_map(reader *r, const json_t *json, const nb_go_type *type)
{
    if (!json_is_object(json))
        return wrong(r, "an object");
    json_t *object = (json_t *)(uintptr_t)json; /* jansson's iterators take no const */
    nb_go_entry *entries = nb_go_memory(r->g, json_object_size(json), sizeof *entries);
    size_t n = 0;
    for (void *at = json_object_iter(object); at && nb_go_ok(r->g); at = json_object_iter_next(object, at), n++) {
        r->key = json_object_iter_key(at);
        nb_str key = {r->key, json_object_iter_key_len(at)};
        char *copy = nb_arena_strdup(&r->g->arena, key);
        if (!copy)
            return nb_go_fail_memory(r->g);
        entries[n] = (nb_go_entry){{copy, key.n}, read_value(r, json_object_iter_value(at), type->elem)};
    }
    return nb_go_ok(r->g) ? nb_go_map_of(r->g, type, entries, n) : nb_go_none();
}

static bool same_key(const char *a, const char *b)
{
    for (; *a && tolower((unsigned char)*a) == tolower((unsigned char)*b); a++, b++)
        ;
    return *a == *b;
}

static nb_go_value read_struct(reader *r, const json_t *json, const nb_go_type *type)
{
    if (type->trait == NB_GO_ORDERED)
        return read_map(r, json, type);
    if (!json_is_object(json))
        return wrong(r, "an object");
    nb_go_value v = nb_go_struct(r->g, type);
    json_t *object = (json_t *)(uintptr_t)json;
    for (void *at = json_object_iter(object); at && nb_go_ok(r->g); at = json_object_iter_next(object, at)) {
        const json_t *value = json_object_iter_value(at);
        for (size_t i = 0; i < type->field_count; i++) {
            if (!type->fields[i].key || !same_key(type->fields[i].key, json_object_iter_key(at)) || json_is_null(value))
                continue;
            r->key = json_object_iter_key(at);
            nb_go_fields(v)[i] = read_value(r, value, type->fields[i].type);
        }
    }
    return v;
}

static nb_go_value read_pointer(reader *r, const json_t *json, const nb_go_type *type)
{
    nb_go_value *to = nb_go_memory(r->g, 1, sizeof *to);
    if (!to)
        return nb_go_none();
    *to = read_value(r, json, type->elem);
    return (nb_go_value){.type = type, .u.to = to};
}

/* Whatever the JSON says. */
static nb_go_value read_any(reader *r, const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT: return read_map(r, json, &nb_go_any_map_type);
    case JSON_ARRAY: return read_list(r, json, &nb_go_any_list_type);
    case JSON_STRING: return read_string(r, json);
    case JSON_INTEGER:
    case JSON_REAL: return nb_go_float(json_number_value(json));
    case JSON_TRUE: return nb_go_bool(true);
    case JSON_FALSE: return nb_go_bool(false);
    case JSON_NULL: break;
    }
    return nb_go_zero(&nb_go_interface_type);
}

/* OpenAI's clients send the arguments of a call as a string that holds JSON. */
static nb_go_value read_arguments(reader *r, const json_t *json, const nb_go_type *type)
{
    if (json_is_string(json))
        return nb_go_read_json(r->g, (nb_str){json_string_value(json), json_string_length(json)}, type,
                               "the arguments of a tool call");
    return read_map(r, json, type);
}

static nb_go_value read_int(reader *r, const json_t *json)
{
    double f = json_number_value(json);
    if (!json_is_number(json) || f != floor(f) || fabs(f) > 9e15)
        return wrong(r, "a whole number");
    return nb_go_int((int64_t)f);
}

static nb_go_value read_kind(reader *r, const json_t *json, const nb_go_type *type)
{
    switch (type->kind) {
    case NB_GO_INTERFACE: return read_any(r, json);
    case NB_GO_BOOL: return json_is_boolean(json) ? nb_go_bool(json_is_true(json)) : wrong(r, "true or false");
    case NB_GO_INT: return read_int(r, json);
    case NB_GO_STRING: return read_string(r, json);
    case NB_GO_SLICE: return type->trait == NB_GO_PROPERTY_TYPE ? read_names(r, json, type) : read_list(r, json, type);
    case NB_GO_MAP: return type == &nb_go_arguments_type ? read_arguments(r, json, type) : read_map(r, json, type);
    case NB_GO_STRUCT: return read_struct(r, json, type);
    case NB_GO_POINTER: return read_pointer(r, json, type);
    default: return nb_go_none();
    }
}

static nb_go_value read_value(reader *r, const json_t *json, const nb_go_type *type)
{
    nb_go_value v = nb_go_none();
    if (!nb_go_enter(r->g))
        return v;
    if (json_is_null(json))
        v = type->kind == NB_GO_STRUCT ? nb_go_struct(r->g, type) : nb_go_zero(type);
    else
        v = read_kind(r, json, type);
    nb_go_leave(r->g);
    return v;
}

nb_go_value nb_go_read_json(nb_go *g, nb_str text, const nb_go_type *type, const char *what)
{
    json_error_t error = {0}; /* jansson says nothing when it runs out of memory */
    reader r = {.g = g, .what = what};
    if (!nb_go_ok(g))
        return nb_go_none();
    json_t *json = json_loadb(text.p ? text.p : "", text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
                              &error);
    if (!json && (!error.text[0] || json_error_code(&error) == json_error_out_of_memory))
        return nb_go_fail(g, NB_ERR_MEMORY, "out of memory for %s", what);
    if (!json)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "%s: not valid JSON: %s (line %d, column %d)", what, error.text,
                          error.line, error.column);
    nb_go_value v = read_value(&r, json, type);
    json_decref(json);
    return v;
}
