#include "text/gotemplate_value.h"

#include <stdio.h>
#include <stdlib.h>

#include "text/gotemplate_node.h"
#include "text/gotemplate_text.h"

const nb_go_type nb_go_interface_type = {.kind = NB_GO_INTERFACE, .name = "interface {}"};
const nb_go_type nb_go_bool_type = {.kind = NB_GO_BOOL, .name = "bool"};
const nb_go_type nb_go_int_type = {.kind = NB_GO_INT, .name = "int"};
const nb_go_type nb_go_uint8_type = {.kind = NB_GO_UINT8, .name = "uint8"};
const nb_go_type nb_go_float_type = {.kind = NB_GO_FLOAT, .name = "float64"};
const nb_go_type nb_go_string_type = {.kind = NB_GO_STRING, .name = "string"};
const nb_go_type nb_go_any_list_type = {.kind = NB_GO_SLICE, .name = "[]interface {}", .elem = &nb_go_interface_type};
const nb_go_type nb_go_any_map_type = {
    .kind = NB_GO_MAP, .name = "map[string]interface {}", .elem = &nb_go_interface_type};

/* ---- errors and limits ---- */

nb_go_value nb_go_fail(nb_go *g, nb_status code, const char *format, ...)
{
    char text[512];
    va_list args;
    if (g->status != NB_OK)
        return nb_go_none();
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (g->node) {
        nb_str at = g->node->source;
        int shown = (int)nb_min_size(at.n, 60);
        g->status = nb_fail(g->err, code, "template line %u, at <%.*s%s>: %s", g->node->line, shown, at.p,
                            at.n > 60 ? "..." : "", text);
    } else /* still preparing its data */
        g->status = nb_fail(g->err, code, "%s", text);
    return nb_go_none();
}

nb_go_value nb_go_fail_memory(nb_go *g)
{
    return nb_go_fail(g, NB_ERR_MEMORY, "out of memory (%zu bytes used; the limit is %zu)", g->arena.used,
                      g->arena.limit);
}

bool nb_go_spend(nb_go *g, size_t units)
{
    if (g->status != NB_OK)
        return false;
    if (g->steps < units) {
        nb_go_fail(g, NB_ERR_LIMIT, "the template does not end within %llu steps", NB_GO_STEPS);
        return false;
    }
    g->steps -= units;
    return true;
}

bool nb_go_enter(nb_go *g)
{
    if (!nb_go_spend(g, 1))
        return false;
    if (g->depth >= NB_GO_DEPTH) {
        nb_go_fail(g, NB_ERR_LIMIT, "nested more than %d deep", NB_GO_DEPTH);
        return false;
    }
    g->depth++;
    return true;
}

void nb_go_write(nb_go *g, nb_buf *b, nb_str s)
{
    if (!nb_go_spend(g, s.n / 32))
        return;
    if (b->len > g->out_limit || s.n > g->out_limit - b->len) {
        nb_go_fail(g, NB_ERR_LIMIT, "more than %zu bytes of text", NB_GO_OUTPUT);
        return;
    }
    nb_buf_str(b, s);
    if (b->failed)
        nb_go_fail_memory(g);
}

void nb_go_write_z(nb_go *g, nb_buf *b, const char *z) { nb_go_write(g, b, nb_str_of(z)); }

/* ---- making values ---- */

void *nb_go_memory(nb_go *g, size_t count, size_t size)
{
    if (!nb_go_spend(g, count / 32))
        return NULL;
    void *p = nb_arena_array(&g->arena, count ? count : 1, size);
    if (!p)
        nb_go_fail_memory(g);
    return p;
}

nb_go_value nb_go_str_take(nb_go *g, nb_buf *b)
{
    nb_str s = nb_buf_view(b);
    char *copy = NULL;
    if (b->failed || (nb_go_spend(g, s.n / 32) && !(copy = nb_arena_strdup(&g->arena, s))))
        nb_go_fail_memory(g);
    nb_buf_free(b);
    return copy ? nb_go_str((nb_str){copy, s.n}) : nb_go_none();
}

nb_go_value nb_go_zero(const nb_go_type *type)
{
    nb_go_value v = {.type = type};
    if (type->kind == NB_GO_STRING)
        v.u.s = NB_STR("");
    return v;
}

nb_go_value nb_go_struct(nb_go *g, const nb_go_type *type)
{
    nb_go_value *fields = nb_go_memory(g, type->field_count, sizeof *fields);
    if (!fields)
        return nb_go_none();
    for (size_t i = 0; i < type->field_count; i++) {
        const nb_go_type *t = type->fields[i].type;
        fields[i] = t->kind == NB_GO_STRUCT ? nb_go_struct(g, t) : nb_go_zero(t);
    }
    return (nb_go_value){.type = type, .u.fields = fields};
}

nb_go_value *nb_go_fields(nb_go_value v) { return (nb_go_value *)(uintptr_t)v.u.fields; }

static int compare_keys(nb_str a, nb_str b)
{
    size_t n = nb_min_size(a.n, b.n);
    int order = n ? memcmp(a.p, b.p, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static int compare_entries(const void *a, const void *b)
{
    return compare_keys(((const nb_go_entry *)a)->key, ((const nb_go_entry *)b)->key);
}

nb_go_value nb_go_map_of(nb_go *g, const nb_go_type *type, nb_go_entry *entries, size_t count)
{
    nb_go_map *map = nb_go_memory(g, 1, sizeof *map);
    if (!map || !nb_go_spend(g, count))
        return nb_go_none();
    if (type->trait != NB_GO_ORDERED && count)
        qsort(entries, count, sizeof *entries, compare_entries);
    *map = (nb_go_map){entries, count};
    return (nb_go_value){.type = type, .u.map = map};
}

/* ---- asking ---- */

const char *nb_go_type_name(nb_go_value v) { return v.type ? v.type->name : "<nil>"; }

bool nb_go_has_length(nb_go_value v)
{
    nb_go_kind k = nb_go_kind_of(v);
    return k == NB_GO_STRING || k == NB_GO_SLICE || k == NB_GO_MAP;
}

size_t nb_go_length(nb_go_value v)
{
    switch (nb_go_kind_of(v)) {
    case NB_GO_STRING: return v.u.s.n;
    case NB_GO_SLICE: return v.u.list ? v.u.list->count : 0;
    case NB_GO_MAP: return v.u.map ? v.u.map->count : 0;
    default: return 0;
    }
}

nb_go_value nb_go_item(nb_go_value v, size_t i)
{
    if (v.type->kind == NB_GO_STRING)
        return (nb_go_value){.type = &nb_go_uint8_type, .u.i = (unsigned char)v.u.s.p[i]};
    return v.u.list->items[i];
}

bool nb_go_find(nb_go_value map, nb_str key, nb_go_value *out)
{
    size_t low = 0, high = nb_go_length(map);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const nb_go_entry *e = &map.u.map->entries[middle];
        int order = compare_keys(e->key, key);
        if (order == 0) {
            *out = e->value;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

nb_go_value nb_go_indirect(nb_go_value v, bool *nil)
{
    *nil = false;
    while (nb_go_kind_of(v) == NB_GO_POINTER) {
        if (!v.u.to) {
            *nil = true;
            return v;
        }
        v = *v.u.to;
    }
    *nil = nb_go_kind_of(v) == NB_GO_INTERFACE;
    return v;
}

bool nb_go_truth(nb_go_value v)
{
    switch (nb_go_kind_of(v)) {
    case NB_GO_INVALID:
    case NB_GO_INTERFACE: return false;
    case NB_GO_BOOL: return v.u.b;
    case NB_GO_INT:
    case NB_GO_UINT8: return v.u.i != 0;
    case NB_GO_FLOAT: return v.u.f != 0;
    case NB_GO_STRING:
    case NB_GO_SLICE:
    case NB_GO_MAP: return nb_go_length(v) > 0;
    case NB_GO_STRUCT: return true;
    case NB_GO_POINTER: return v.u.to != NULL;
    }
    return false;
}

bool nb_go_is_nil(nb_go_value v)
{
    switch (nb_go_kind_of(v)) {
    case NB_GO_INVALID:
    case NB_GO_INTERFACE: return true;
    case NB_GO_SLICE: return v.u.list == NULL;
    case NB_GO_MAP: return v.u.map == NULL;
    case NB_GO_POINTER: return v.u.to == NULL;
    default: return false;
    }
}

static nb_str json_text(nb_go *g, nb_go_value v)
{
    nb_buf b = {0};
    nb_go_write_json(g, &b, v);
    nb_go_value text = nb_go_str_take(g, &b);
    return text.type ? text.u.s : NB_STR("");
}

static nb_str names_text(nb_go *g, nb_go_value v)
{
    nb_buf b = {0};
    size_t n = nb_go_length(v);
    if (n != 1)
        nb_go_write_z(g, &b, n ? "[" : "");
    for (size_t i = 0; i < n && nb_go_ok(g); i++) {
        nb_go_write_z(g, &b, i ? " " : "");
        nb_go_write(g, &b, nb_go_item(v, i).u.s);
    }
    if (n > 1)
        nb_go_write_z(g, &b, "]");
    nb_go_value text = nb_go_str_take(g, &b);
    return text.type ? text.u.s : NB_STR("");
}

bool nb_go_text_of(nb_go *g, nb_go_value v, nb_str *text)
{
    nb_go_trait trait = v.type ? v.type->trait : NB_GO_PLAIN;
    if (trait == NB_GO_JSON_TEXT)
        *text = nb_go_kind_of(v) == NB_GO_MAP && !v.u.map ? NB_STR("{}") : json_text(g, v);
    else if (trait == NB_GO_PROPERTY_TYPE)
        *text = names_text(g, v);
    else
        return false;
    return true;
}

static const char *typescript_name(nb_str type)
{
    static const char *const names[][2] = {
        {"string", "string"},
        {"number", "number"},
        {"integer", "number"},
        {"boolean", "boolean"},
        {"array", "any[]"},
        {"null", "null"},
        {"object", "Record<string, any>"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (nb_str_eqz(type, names[i][0]))
            return names[i][1];
    return "any";
}

static void write_typescript(nb_go *g, nb_buf *b, nb_go_value property)
{
    const nb_go_value *fields = property.u.fields;
    nb_go_value any_of = fields[NB_GO_PROPERTY_ANY_OF], types = fields[NB_GO_PROPERTY_TYPES];
    nb_go_value list = nb_go_length(any_of) ? any_of : types;
    if (!nb_go_enter(g))
        return;
    if (nb_go_length(list) == 0)
        nb_go_write_z(g, b, "any");
    for (size_t i = 0; i < nb_go_length(list) && nb_go_ok(g); i++) {
        nb_go_write_z(g, b, i ? " | " : "");
        if (nb_go_length(any_of))
            write_typescript(g, b, nb_go_item(list, i));
        else
            nb_go_write_z(g, b, typescript_name(nb_go_item(list, i).u.s));
    }
    nb_go_leave(g);
}

nb_str nb_go_typescript(nb_go *g, nb_go_value property)
{
    nb_buf b = {0};
    write_typescript(g, &b, property);
    nb_go_value text = nb_go_str_take(g, &b);
    return text.type ? text.u.s : NB_STR("");
}
