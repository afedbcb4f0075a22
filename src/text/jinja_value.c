#include "text/jinja_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "text/jinja_text.h"

/* ---- errors and limits ---- */

nb_jval nb_jfail(nb_jinja *j, nb_status code, const char *format, ...)
{
    if (j->status != NB_OK)
        return nb_jundefined(NB_STR(""));
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (j->line)
        j->status = nb_fail(j->err, code, "template line %u: %s", j->line, text);
    else /* still preparing its variables */
        j->status = nb_fail(j->err, code, "%s", text);
    return nb_jundefined(NB_STR(""));
}

nb_jval nb_jfail_memory(nb_jinja *j)
{
    return nb_jfail(j, NB_ERR_MEMORY, "out of memory (%zu bytes used; the limit is %zu)", j->arena.used,
                    j->arena.limit);
}

bool nb_jspend(nb_jinja *j, size_t units)
{
    if (j->status != NB_OK)
        return false;
    if (j->steps < units) {
        nb_jfail(j, NB_ERR_LIMIT, "the template does not end within %llu steps", NB_JINJA_STEPS);
        return false;
    }
    j->steps -= units;
    return true;
}

bool nb_jspend_bytes(nb_jinja *j, size_t bytes) { return nb_jspend(j, bytes / 32); }

bool nb_jenter(nb_jinja *j)
{
    if (!nb_jspend(j, 1))
        return false;
    if (j->depth >= NB_JINJA_DEPTH) {
        nb_jfail(j, NB_ERR_LIMIT, "nested more than %d deep", NB_JINJA_DEPTH);
        return false;
    }
    j->depth++;
    return true;
}

nb_jval nb_jfail_undefined(nb_jinja *j, nb_jval v)
{
    nb_str of = nb_jtype_name((nb_jval){.kind = v.of});
    if (v.of)
        return nb_jfail(j, NB_ERR_ARGUMENT, "'%.*s object' has no attribute '%.*s'", NB_STR_ARG(of), NB_STR_ARG(v.u.s));
    return nb_jfail(j, NB_ERR_ARGUMENT, "'%.*s' is undefined", NB_STR_ARG(v.u.s));
}

/* ---- making values ---- */

const char nb_jgroup_label[] = "group";

nb_jval nb_jstr_copy(nb_jinja *j, nb_str s)
{
    char *copy = nb_jspend_bytes(j, s.n) ? nb_arena_strdup(&j->arena, s) : NULL;
    return copy ? nb_jstr((nb_str){copy, s.n}) : nb_jfail_memory(j);
}

nb_jval nb_jstr_take(nb_jinja *j, nb_buf *b)
{
    nb_jval v = b->failed ? nb_jfail_memory(j) : nb_jstr_copy(j, nb_buf_view(b));
    nb_buf_free(b);
    return v;
}

nb_jval nb_jlist_new(nb_jinja *j, nb_jkind kind, size_t cap)
{
    nb_jlist *list = nb_jok(j) ? NB_NEW(&j->arena, nb_jlist) : NULL;
    if (!list)
        return nb_jfail_memory(j);
    if (cap) {
        list->items = NB_ARRAY(&j->arena, nb_jval, cap);
        if (!list->items)
            return nb_jfail_memory(j);
        list->cap = cap;
    }
    list->label = "generator object";
    return (nb_jval){.kind = (uint8_t)kind, .u.list = list};
}

void nb_jlist_push(nb_jinja *j, nb_jval v, nb_jval item)
{
    if (!nb_jok(j) || !nb_jis_list(v))
        return;
    nb_jlist *list = v.u.list;
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        nb_jval *items = NB_ARRAY(&j->arena, nb_jval, cap);
        if (!items) {
            nb_jfail_memory(j);
            return;
        }
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = item;
}

nb_jval nb_jpair(nb_jinja *j, nb_jval a, nb_jval b)
{
    nb_jval pair = nb_jlist_new(j, NB_J_TUPLE, 2);
    nb_jlist_push(j, pair, a);
    nb_jlist_push(j, pair, b);
    return pair;
}

nb_jval nb_jdict_new(nb_jinja *j)
{
    nb_jdict *dict = nb_jok(j) ? NB_NEW(&j->arena, nb_jdict) : NULL;
    return dict ? (nb_jval){.kind = NB_J_DICT, .u.dict = dict} : nb_jfail_memory(j);
}

nb_jval nb_jobject_new(nb_jinja *j, nb_jobject object)
{
    nb_jobject *o = nb_jok(j) ? NB_NEW(&j->arena, nb_jobject) : NULL;
    if (!o)
        return nb_jfail_memory(j);
    *o = object;
    return (nb_jval){.kind = NB_J_OBJECT, .u.object = o};
}

/* ---- dicts ---- */

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdull;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ull;
    return h ^ h >> 33;
}

static uint64_t hash_bytes(nb_str s)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3ull;
    return mix(h);
}

bool nb_jhash(nb_jinja *j, nb_jval key, uint64_t *hash)
{
    *hash = 0;
    switch ((nb_jkind)key.kind) {
    case NB_J_NONE: *hash = mix(1); return true;
    case NB_J_BOOL:
    case NB_J_INT: *hash = mix((uint64_t)nb_jint_of(key)); return true;
    case NB_J_FLOAT: /* equal numbers hash alike, whatever their type */
        if (key.u.f >= -9e18 && key.u.f <= 9e18 && key.u.f == floor(key.u.f))
            *hash = mix((uint64_t)(int64_t)key.u.f);
        else
            memcpy(hash, &key.u.f, sizeof *hash);
        return true;
    case NB_J_STR: *hash = hash_bytes(key.u.s); return nb_jspend_bytes(j, key.u.s.n);
    case NB_J_TUPLE:
        if (!nb_jenter(j))
            return false;
        for (size_t i = 0; i < key.u.list->count; i++) {
            uint64_t h;
            if (!nb_jspend(j, 1) || !nb_jhash(j, key.u.list->items[i], &h))
                break;
            *hash = mix(*hash * 31 + h);
        }
        nb_jleave(j);
        return nb_jok(j);
    case NB_J_UNDEFINED:
    case NB_J_RANGE:
    case NB_J_NAMESPACE:
    case NB_J_OBJECT: *hash = mix(key.kind); return true;
    default: break;
    }
    nb_str type = nb_jtype_name(key);
    nb_jfail(j, NB_ERR_ARGUMENT, "unhashable type: '%.*s'", NB_STR_ARG(type));
    return false;
}

static nb_jentry *find_hashed(nb_jinja *j, const nb_jdict *d, nb_jval key, uint64_t hash)
{
    if (!d->index) {
        for (size_t i = 0; i < d->count; i++)
            if (d->entries[i].hash == hash && d->entries[i].key.kind && nb_jequal(j, d->entries[i].key, key))
                return &d->entries[i];
        return NULL;
    }
    for (size_t i = (size_t)hash & (d->index_cap - 1); d->index[i]; i = (i + 1) & (d->index_cap - 1)) {
        nb_jentry *e = &d->entries[d->index[i] - 1];
        if (e->hash == hash && e->key.kind && nb_jequal(j, e->key, key))
            return e;
        if (!nb_jok(j))
            return NULL;
    }
    return NULL;
}

nb_jentry *nb_jdict_find(nb_jinja *j, const nb_jdict *d, nb_jval key)
{
    uint64_t hash;
    return nb_jhash(j, key, &hash) ? find_hashed(j, d, key, hash) : NULL;
}

nb_jentry *nb_jdict_findz(nb_jinja *j, const nb_jdict *d, nb_str key) { return nb_jdict_find(j, d, nb_jstr(key)); }

static void index_entry(nb_jdict *d, size_t entry)
{
    size_t i = (size_t)d->entries[entry].hash & (d->index_cap - 1);
    while (d->index[i])
        i = (i + 1) & (d->index_cap - 1);
    d->index[i] = (uint32_t)(entry + 1);
}

/* Doubles the room, drops removed entries, and rebuilds the index once there are more than 8. */
static bool grow(nb_jinja *j, nb_jdict *d)
{
    size_t cap = d->live < 4 ? 8 : d->live * 2, used = 0;
    nb_jentry *entries = cap < UINT32_MAX / 4 ? NB_ARRAY(&j->arena, nb_jentry, cap) : NULL;
    size_t index_cap = 16;
    while (index_cap < cap * 2)
        index_cap *= 2;
    uint32_t *index = entries && cap > 8 ? NB_ARRAY(&j->arena, uint32_t, index_cap) : NULL;
    if (!entries || (cap > 8 && !index)) {
        nb_jfail_memory(j);
        return false;
    }
    for (size_t i = 0; i < d->count; i++)
        if (d->entries[i].key.kind)
            entries[used++] = d->entries[i];
    *d = (nb_jdict){.entries = entries,
                    .count = used,
                    .cap = cap,
                    .live = used,
                    .index = index,
                    .index_cap = index ? index_cap : 0};
    for (size_t i = 0; index && i < used; i++)
        index_entry(d, i);
    return true;
}

void nb_jdict_set(nb_jinja *j, nb_jdict *d, nb_jval key, nb_jval value)
{
    uint64_t hash;
    if (!nb_jok(j) || !nb_jhash(j, key, &hash))
        return;
    nb_jentry *e = find_hashed(j, d, key, hash);
    if (e) {
        e->value = value;
        return;
    }
    if (!nb_jok(j) || (d->count == d->cap && !grow(j, d)))
        return;
    d->entries[d->count++] = (nb_jentry){key, value, hash};
    d->live++;
    if (d->index)
        index_entry(d, d->count - 1);
}

void nb_jdict_setz(nb_jinja *j, nb_jdict *d, const char *key, nb_jval value)
{
    nb_jdict_set(j, d, nb_jstr(nb_str_of(key)), value);
}

void nb_jdict_remove(nb_jdict *d, nb_jentry *entry)
{
    entry->key.kind = NB_J_MISSING;
    d->live--;
}

nb_jentry *nb_jdict_next(const nb_jdict *d, size_t *at)
{
    while (*at < d->count) {
        nb_jentry *e = &d->entries[(*at)++];
        if (e->key.kind)
            return e;
    }
    return NULL;
}

/* ---- asking ---- */

nb_str nb_jtype_name(nb_jval v)
{
    static const char *const names[] = {"missing",    "Undefined", "NoneType", "bool",      "int",
                                        "float",      "str",       "list",     "tuple",     "range",
                                        "dict_items", "generator", "dict",     "Namespace", "function"};
    return nb_str_of(v.kind == NB_J_VIEW && v.u.list ? v.u.list->label : names[v.kind]);
}

bool nb_jtruth(nb_jval v)
{
    switch ((nb_jkind)v.kind) {
    case NB_J_BOOL: return v.u.b;
    case NB_J_INT: return v.u.i != 0;
    case NB_J_FLOAT: return v.u.f != 0;
    case NB_J_STR: return v.u.s.n != 0;
    case NB_J_LIST:
    case NB_J_TUPLE:
    case NB_J_RANGE:
    case NB_J_VIEW: return v.u.list->count != 0;
    case NB_J_DICT: return v.u.dict->live != 0;
    case NB_J_ITER:
    case NB_J_NAMESPACE:
    case NB_J_OBJECT: return true;
    default: return false;
    }
}

static bool equal_lists(nb_jinja *j, const nb_jlist *a, const nb_jlist *b)
{
    if (a == b)
        return true;
    if (a->count != b->count || !nb_jenter(j))
        return false;
    bool same = true;
    for (size_t i = 0; i < a->count && same; i++)
        same = nb_jequal(j, a->items[i], b->items[i]);
    nb_jleave(j);
    return same;
}

static bool equal_dicts(nb_jinja *j, const nb_jdict *a, const nb_jdict *b)
{
    if (a == b)
        return true;
    if (a->live != b->live || !nb_jenter(j))
        return false;
    bool same = true;
    nb_jentry *e;
    for (size_t at = 0; same && (e = nb_jdict_next(a, &at)) != NULL;) {
        nb_jentry *other = find_hashed(j, b, e->key, e->hash);
        same = other && nb_jequal(j, e->value, other->value);
    }
    nb_jleave(j);
    return same;
}

bool nb_jequal(nb_jinja *j, nb_jval a, nb_jval b)
{
    if (!nb_jspend(j, 1))
        return false;
    if (nb_jis_number(a) && nb_jis_number(b)) {
        if (a.kind == NB_J_FLOAT || b.kind == NB_J_FLOAT)
            return nb_jfloat_of(a) == nb_jfloat_of(b);
        return nb_jint_of(a) == nb_jint_of(b);
    }
    if (a.kind != b.kind)
        return false;
    switch ((nb_jkind)a.kind) {
    case NB_J_STR: return nb_jspend_bytes(j, a.u.s.n) && nb_str_eq(a.u.s, b.u.s);
    case NB_J_LIST:
    case NB_J_TUPLE:
    case NB_J_RANGE: return equal_lists(j, a.u.list, b.u.list);
    case NB_J_DICT: return equal_dicts(j, a.u.dict, b.u.dict);
    case NB_J_VIEW:
    case NB_J_ITER: return a.u.list == b.u.list;
    case NB_J_NAMESPACE: return a.u.dict == b.u.dict;
    case NB_J_OBJECT: return a.u.object == b.u.object;
    default: return true;
    }
}

static int compare_bytes(nb_str a, nb_str b)
{
    size_t n = nb_min_size(a.n, b.n);
    int order = n ? memcmp(a.p, b.p, n) : 0; /* UTF-8 sorts as its code points do */
    return order ? (order > 0) - (order < 0) : (a.n > b.n) - (a.n < b.n);
}

static int compare_lists(nb_jinja *j, const nb_jlist *a, const nb_jlist *b)
{
    int order = (a->count > b->count) - (a->count < b->count);
    if (!nb_jenter(j))
        return 0;
    for (size_t i = 0; i < a->count && i < b->count; i++)
        if (!nb_jequal(j, a->items[i], b->items[i])) {
            order = nb_jcompare(j, a->items[i], b->items[i]);
            break;
        }
    nb_jleave(j);
    return order;
}

int nb_jcompare(nb_jinja *j, nb_jval a, nb_jval b)
{
    if (!nb_jspend(j, 1))
        return 0;
    if (nb_jis_number(a) && nb_jis_number(b)) {
        if (a.kind == NB_J_FLOAT || b.kind == NB_J_FLOAT) {
            double x = nb_jfloat_of(a), y = nb_jfloat_of(b);
            return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
        }
        int64_t x = nb_jint_of(a), y = nb_jint_of(b);
        return (x > y) - (x < y);
    }
    if (a.kind == NB_J_STR && b.kind == NB_J_STR) {
        nb_jspend_bytes(j, nb_min_size(a.u.s.n, b.u.s.n));
        return compare_bytes(a.u.s, b.u.s);
    }
    if (a.kind == b.kind && (a.kind == NB_J_LIST || a.kind == NB_J_TUPLE))
        return compare_lists(j, a.u.list, b.u.list);
    if (a.kind == NB_J_UNDEFINED || b.kind == NB_J_UNDEFINED) {
        nb_jfail_undefined(j, a.kind == NB_J_UNDEFINED ? a : b);
        return 0;
    }
    nb_str ta = nb_jtype_name(a), tb = nb_jtype_name(b);
    nb_jfail(j, NB_ERR_ARGUMENT, "'%.*s' and '%.*s' cannot be ordered", NB_STR_ARG(ta), NB_STR_ARG(tb));
    return 0;
}

bool nb_jcontains(nb_jinja *j, nb_jval container, nb_jval item)
{
    switch ((nb_jkind)container.kind) {
    case NB_J_STR:
        if (item.kind == NB_J_STR)
            return nb_jspend_bytes(j, container.u.s.n) && nb_jfind(container.u.s, item.u.s, 0) != SIZE_MAX;
        nb_jfail(j, NB_ERR_ARGUMENT, "'in' a string needs a string on its left");
        return false;
    case NB_J_DICT: return nb_jdict_find(j, container.u.dict, item) != NULL;
    case NB_J_LIST:
    case NB_J_TUPLE:
    case NB_J_RANGE:
    case NB_J_VIEW:
    case NB_J_ITER: {
        nb_jlist *list = container.u.list;
        size_t i = container.kind == NB_J_ITER ? list->taken : 0;
        bool found = false;
        for (; i < list->count && !found && nb_jok(j); i++)
            found = nb_jequal(j, list->items[i], item);
        if (container.kind == NB_J_ITER)
            list->taken = i;
        return found;
    }
    case NB_J_UNDEFINED: return false;
    default: break;
    }
    nb_str type = nb_jtype_name(container);
    nb_jfail(j, NB_ERR_ARGUMENT, "argument of type '%.*s' is not iterable", NB_STR_ARG(type));
    return false;
}

bool nb_jlength(nb_jval v, size_t *n)
{
    *n = 0;
    switch ((nb_jkind)v.kind) {
    case NB_J_STR: *n = nb_jchar_count(v.u.s); return true;
    case NB_J_LIST:
    case NB_J_TUPLE:
    case NB_J_RANGE:
    case NB_J_VIEW: *n = v.u.list->count; return true;
    case NB_J_DICT: *n = v.u.dict->live; return true;
    case NB_J_UNDEFINED: return true;
    default: return false;
    }
}

bool nb_jiterable(nb_jval v)
{
    return v.kind == NB_J_UNDEFINED || v.kind == NB_J_STR || nb_jis_list(v) || v.kind == NB_J_DICT;
}

static nb_jval string_items(nb_jinja *j, nb_str s)
{
    nb_jval out = nb_jlist_new(j, NB_J_LIST, 0);
    for (size_t pos = 0; pos < s.n && nb_jspend(j, 1);) {
        size_t start = pos;
        nb_jnext_char(s, &pos);
        nb_jlist_push(j, out, nb_jstr((nb_str){s.p + start, pos - start}));
    }
    return out;
}

nb_jval nb_jitems(nb_jinja *j, nb_jval v)
{
    if (v.kind == NB_J_STR)
        return string_items(j, v.u.s);
    if (nb_jis_list(v)) {
        nb_jlist *list = v.u.list;
        size_t from = v.kind == NB_J_ITER ? list->taken : 0;
        nb_jval out = nb_jlist_new(j, NB_J_LIST, list->count - from);
        for (size_t i = from; i < list->count && nb_jspend_bytes(j, sizeof(nb_jval)); i++)
            nb_jlist_push(j, out, list->items[i]);
        if (v.kind == NB_J_ITER)
            list->taken = list->count;
        return out;
    }
    if (v.kind == NB_J_DICT) {
        nb_jval out = nb_jlist_new(j, NB_J_LIST, v.u.dict->live);
        nb_jentry *e;
        for (size_t at = 0; (e = nb_jdict_next(v.u.dict, &at)) != NULL && nb_jspend(j, 1);)
            nb_jlist_push(j, out, e->key);
        return out;
    }
    if (v.kind == NB_J_UNDEFINED)
        return nb_jlist_new(j, NB_J_LIST, 0);
    nb_str type = nb_jtype_name(v);
    return nb_jfail(j, NB_ERR_ARGUMENT, "'%.*s' object is not iterable", NB_STR_ARG(type));
}

int64_t nb_jneed_int(nb_jinja *j, nb_jval v, const char *what)
{
    if (nb_jis_integral(v))
        return nb_jint_of(v);
    nb_str type = nb_jtype_name(v);
    nb_jfail(j, NB_ERR_ARGUMENT, "%s must be an integer, not %.*s", what, NB_STR_ARG(type));
    return 0;
}

nb_str nb_jneed_str(nb_jinja *j, nb_jval v, const char *what)
{
    if (v.kind == NB_J_STR)
        return v.u.s;
    if (v.kind == NB_J_UNDEFINED) {
        nb_jfail_undefined(j, v);
        return NB_STR("");
    }
    nb_str type = nb_jtype_name(v);
    nb_jfail(j, NB_ERR_ARGUMENT, "%s must be a string, not %.*s", what, NB_STR_ARG(type));
    return NB_STR("");
}
