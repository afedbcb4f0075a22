#define _GNU_SOURCE
#include "format/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/gguf_parse.h"

static const nb_gguf_value *find_in(const nb_gguf_file *f, nb_str key)
{
    size_t i = nb_gguf_find_name(&f->values->key, sizeof *f->values, f->order, f->value_count, key);
    return i < f->value_count ? &f->values[i] : NULL;
}

static uint64_t position(const nb_gguf_file *f, const void *p)
{
    return (uint64_t)((const unsigned char *)p - f->map.data);
}

/* ---- numbers ---- */

/* An integer of any kind as sign and magnitude's two's complement; false for other kinds. */
static bool integer(nb_gguf_kind kind, const unsigned char *p, uint64_t *bits, bool *negative)
{
    size_t bytes = nb_gguf_kind_bytes(kind);
    bool is_signed = kind == NB_GGUF_I8 || kind == NB_GGUF_I16 || kind == NB_GGUF_I32 || kind == NB_GGUF_I64;
    if (kind == NB_GGUF_F32 || kind == NB_GGUF_F64 || kind == NB_GGUF_BOOL || bytes == 0)
        return false;
    *bits = 0;
    memcpy(bits, p, bytes);
    *negative = is_signed && *bits >> (8 * bytes - 1) != 0;
    if (*negative && bytes < 8)
        *bits |= ~(uint64_t)0 << (8 * bytes);
    return true;
}

static const unsigned char *element(const nb_gguf_value *v, size_t i)
{
    return v->data + i * nb_gguf_kind_bytes(v->element);
}

uint64_t nb_gguf_elem_u64(const nb_gguf_value *v, size_t i)
{
    uint64_t bits = 0;
    bool negative;
    if (v->element == NB_GGUF_BOOL)
        return *element(v, i) != 0;
    if (!integer(v->element, element(v, i), &bits, &negative))
        return (uint64_t)nb_gguf_elem_i64(v, i);
    return bits;
}

int64_t nb_gguf_elem_i64(const nb_gguf_value *v, size_t i)
{
    uint64_t bits = 0;
    bool negative;
    if (integer(v->element, element(v, i), &bits, &negative))
        return (int64_t)bits;
    double x = nb_gguf_elem_f64(v, i);
    return x >= -0x1p63 && x < 0x1p63 ? (int64_t)x : 0;
}

double nb_gguf_elem_f64(const nb_gguf_value *v, size_t i)
{
    uint64_t bits = 0;
    bool negative = false;
    float f;
    double d = 0;
    if (v->element == NB_GGUF_F32) {
        memcpy(&f, element(v, i), sizeof f);
        return (double)f;
    }
    if (v->element == NB_GGUF_F64)
        memcpy(&d, element(v, i), sizeof d);
    else if (v->element == NB_GGUF_BOOL)
        d = *element(v, i) != 0;
    else if (integer(v->element, element(v, i), &bits, &negative))
        d = negative ? (double)(int64_t)bits : (double)bits;
    return d;
}

/* ---- shards ---- */

enum {
    SHARD_TAIL = 20, /* "-00001-of-00003.gguf" */
    MAX_SHARDS = 99999
};

static bool five_digits(const char *p, int *out)
{
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *out = *out * 10 + (p[i] - '0');
    }
    return true;
}

/* The number of files that path's name speaks of: 1 when it is not a shard's. */
static int shards_in_name(const char *path)
{
    size_t n = strlen(path);
    int no, count;
    if (n <= SHARD_TAIL)
        return 1;
    const char *tail = path + n - SHARD_TAIL;
    bool is = tail[0] == '-' && five_digits(tail + 1, &no) && strncmp(tail + 6, "-of-", 4) == 0 &&
              five_digits(tail + 10, &count) && strcmp(tail + 15, ".gguf") == 0;
    return is && no >= 1 && no <= count ? count : 1;
}

static char *shard_path(const char *path, int shard, int count)
{
    char *s;
    if (count == 1)
        return strdup(path);
    return asprintf(&s, "%.*s-%05d-of-%05d.gguf", (int)(strlen(path) - SHARD_TAIL), path, shard + 1, count) < 0 ? NULL
                                                                                                                : s;
}

/* The key must hold `expected`; missing is an error when it is required. */
static nb_status check_split(const nb_gguf_file *f, const char *key, bool required, uint64_t expected, nb_error *err)
{
    const nb_gguf_value *v = find_in(f, nb_str_of(key));
    uint64_t got;
    bool negative;
    if (!v)
        return !required
                   ? NB_OK
                   : nb_gguf_fail(f->path, 16, err, NB_ERR_FORMAT,
                                  "the name says shard, but the metadata key '%s' is missing; rename the file, or get "
                                  "all shards again",
                                  key);
    if (!integer(v->kind, v->data, &got, &negative))
        return nb_gguf_fail(f->path, position(f, v->data), err, NB_ERR_FORMAT,
                            "'%s' has type %s, not an integer; get all shards again", key, nb_gguf_kind_name(v->kind));
    if (got != expected)
        return nb_gguf_fail(f->path, position(f, v->data), err, NB_ERR_FORMAT,
                            "'%s' is %" PRId64 ", but should be %" PRIu64
                            "; the shards do not belong together or were renamed: get all of them again",
                            key, (int64_t)got, expected);
    return NB_OK;
}

static nb_status check_shards(const nb_gguf *g, nb_error *err)
{
    const nb_gguf_file *first = &g->files[0];
    const nb_gguf_value *count = find_in(first, NB_STR("split.count"));
    if (g->file_count == 1) {
        uint64_t n;
        bool negative;
        if (!count || !integer(count->kind, count->data, &n, &negative) || n <= 1)
            return NB_OK; /* a merged file keeps the keys, with a count of 0 */
        if (n > MAX_SHARDS)
            return check_split(first, "split.count", true, 1, err);
        return nb_gguf_fail(first->path, position(first, count->data), err, NB_ERR_FORMAT,
                            "this is one of %" PRIu64 " shards, but the name does not end in -00001-of-%05" PRIu64
                            ".gguf; give all shards their own names back",
                            n, n);
    }
    for (int i = 0; i < g->file_count; i++) {
        const nb_gguf_file *f = &g->files[i];
        NB_TRY(check_split(f, "split.count", true, (uint64_t)g->file_count, err));
        NB_TRY(check_split(f, "split.no", true, (uint64_t)i, err));
        NB_TRY(check_split(f, "split.tensors.count", i == 0, g->tensor_count, err));
    }
    return NB_OK;
}

/* ---- open and close ---- */

static nb_status index_tensors(nb_gguf *g, nb_error *err)
{
    const nb_gguf_tensor *t = g->tensors;
    g->order = nb_gguf_sort_names(&t->name, sizeof *t, g->tensor_count);
    if (!g->order)
        return nb_fail_memory(err, g->path, g->tensor_count * sizeof *g->order);
    for (size_t i = 1; i < g->tensor_count; i++) {
        uint32_t a = g->order[i - 1], b = g->order[i];
        if (nb_str_eq(t[a].name, t[b].name)) {
            const nb_gguf_tensor *later = &t[a > b ? a : b];
            const nb_gguf_file *f = &g->files[later->shard];
            return nb_gguf_fail(f->path, position(f, later->name.p), err, NB_ERR_FORMAT,
                                "tensor '%.*s' is there twice; the file was written wrongly: convert the model again",
                                NB_STR_ARG(later->name));
        }
    }
    return NB_OK;
}

static nb_status open_shard(nb_gguf *g, int shard, nb_error *err)
{
    nb_gguf_file *f = &g->files[shard];
    f->path = shard_path(g->path, shard, g->file_count);
    if (!f->path)
        return nb_fail_memory(err, g->path, strlen(g->path));
    nb_status status = nb_map_open(f->path, &f->map, err);
    if (status != NB_OK)
        return g->file_count == 1 ? status
                                  : nb_fail_prefix(err, status, "shard %d of %d cannot be opened, and all are needed",
                                                   shard + 1, g->file_count);
    f->mapped = true;
    return nb_gguf_parse(g, shard, err);
}

static nb_gguf *new_gguf(const char *path, int files)
{
    nb_gguf *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->path = strdup(path);
    g->files = calloc((size_t)files, sizeof *g->files);
    g->file_count = files;
    if (g->path && g->files)
        return g;
    g->file_count = 0;
    nb_gguf_close(g);
    return NULL;
}

static nb_status finish_open(nb_gguf *g, nb_status status, nb_gguf **out, nb_error *err)
{
    if (status == NB_OK)
        status = check_shards(g, err);
    if (status == NB_OK)
        status = index_tensors(g, err);
    if (status == NB_OK)
        *out = g;
    else
        nb_gguf_close(g);
    return status;
}

nb_status nb_gguf_open(const char *path, nb_gguf **out, nb_error *err)
{
    nb_status status = NB_OK;
    *out = NULL;
    nb_gguf *g = new_gguf(path, shards_in_name(path));
    if (!g)
        return nb_fail_memory(err, path, sizeof *g);
    for (int i = 0; i < g->file_count && status == NB_OK; i++)
        status = open_shard(g, i, err);
    return finish_open(g, status, out, err);
}

nb_status nb_gguf_open_memory(const char *name, const void *bytes, size_t size, nb_gguf **out, nb_error *err)
{
    *out = NULL;
    nb_gguf *g = new_gguf(name, 1);
    if (!g || !(g->files[0].path = strdup(name))) {
        nb_gguf_close(g);
        return nb_fail_memory(err, name, sizeof *g);
    }
    g->files[0].map = (nb_map){bytes, size};
    return finish_open(g, nb_gguf_parse(g, 0, err), out, err);
}

void nb_gguf_close(nb_gguf *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->file_count; i++) {
        nb_gguf_file *f = &g->files[i];
        if (f->mapped)
            nb_map_close(&f->map);
        free(f->path);
        free(f->values);
        free(f->order);
    }
    free(g->files);
    free(g->tensors);
    free(g->order);
    free(g->path);
    if (g->release)
        g->release(g->owner);
    free(g);
}

/* ---- made in memory ---- */

nb_status nb_gguf_new(const char *name, size_t tensor_count, nb_gguf **out, nb_error *err)
{
    nb_gguf *g = *out = new_gguf(name, 1);
    if (g && (g->files[0].path = strdup(name)) && (g->tensors = calloc(tensor_count + 1, sizeof *g->tensors))) {
        g->tensor_count = tensor_count;
        g->files[0].tensor_count = tensor_count;
        g->files[0].version = 3;
        g->files[0].alignment = NB_GGUF_DEFAULT_ALIGNMENT;
        return NB_OK;
    }
    nb_gguf_close(g);
    *out = NULL;
    return nb_fail_memory(err, name, tensor_count * sizeof *g->tensors);
}

void nb_gguf_own(nb_gguf *g, void *owner, void (*release)(void *owner))
{
    g->owner = owner;
    g->release = release;
}

nb_status nb_gguf_finish(nb_gguf *g, const nb_gguf_value *values, size_t count, nb_error *err)
{
    nb_gguf_file *f = &g->files[0];
    f->values = malloc((count + 1) * sizeof *f->values);
    if (!f->values)
        return nb_fail_memory(err, g->path, count * sizeof *f->values);
    if (count > 0)
        memcpy(f->values, values, count * sizeof *f->values);
    f->value_count = count;
    f->order = nb_gguf_sort_names(&f->values->key, sizeof *f->values, count);
    if (!f->order)
        return nb_fail_memory(err, g->path, count * sizeof *f->order);
    return index_tensors(g, err);
}

/* ---- questions ---- */

const char *nb_gguf_path(const nb_gguf *g) { return g->path; }
uint32_t nb_gguf_version(const nb_gguf *g) { return g->files[0].version; }
size_t nb_gguf_alignment(const nb_gguf *g) { return g->files[0].alignment; }
int nb_gguf_shards(const nb_gguf *g) { return g->file_count; }
const nb_map *nb_gguf_map(const nb_gguf *g, int shard) { return &g->files[shard].map; }
size_t nb_gguf_value_count(const nb_gguf *g) { return g->files[0].value_count; }
const nb_gguf_value *nb_gguf_value_at(const nb_gguf *g, size_t i) { return &g->files[0].values[i]; }
const nb_gguf_value *nb_gguf_find(const nb_gguf *g, const char *key) { return find_in(&g->files[0], nb_str_of(key)); }
size_t nb_gguf_tensor_count(const nb_gguf *g) { return g->tensor_count; }
const nb_gguf_tensor *nb_gguf_tensor_at(const nb_gguf *g, size_t i) { return &g->tensors[i]; }

uint64_t nb_gguf_file_bytes(const nb_gguf *g)
{
    uint64_t bytes = 0;
    for (int i = 0; i < g->file_count; i++)
        bytes += g->files[i].map.size;
    return bytes;
}

const nb_gguf_tensor *nb_gguf_find_tensor(const nb_gguf *g, nb_str name)
{
    size_t i = nb_gguf_find_name(&g->tensors->name, sizeof *g->tensors, g->order, g->tensor_count, name);
    return i < g->tensor_count ? &g->tensors[i] : NULL;
}

/* ---- typed reads ---- */

static nb_status find_value(const nb_gguf *g, const char *key, const nb_gguf_value **v, nb_error *err)
{
    *v = nb_gguf_find(g, key);
    return *v ? NB_OK
              : nb_gguf_fail(g->files[0].path, 16, err, NB_ERR_NOT_FOUND,
                             "the metadata that starts here has no key '%s'; convert the model again", key);
}

static nb_status wrong_kind(const nb_gguf *g, const nb_gguf_value *v, const char *wanted, nb_error *err)
{
    const nb_gguf_file *f = &g->files[0];
    return nb_gguf_fail(f->path, position(f, v->data), err, NB_ERR_FORMAT,
                        "'%.*s' is %s%s%s, where %s is wanted; convert the model again", NB_STR_ARG(v->key),
                        nb_gguf_kind_name(v->kind), v->kind == NB_GGUF_ARRAY ? " of " : "",
                        v->kind == NB_GGUF_ARRAY ? nb_gguf_kind_name(v->element) : "", wanted);
}

static nb_status get_integer(const nb_gguf *g, const char *key, bool want_signed, uint64_t *bits, nb_error *err)
{
    const nb_gguf_value *v;
    bool negative;
    uint64_t x;
    NB_TRY(find_value(g, key, &v, err));
    if (!integer(v->kind, v->data, &x, &negative))
        return wrong_kind(g, v, "an integer", err);
    if (want_signed ? !negative && x > INT64_MAX : negative)
        return nb_gguf_fail(g->files[0].path, position(&g->files[0], v->data), err, NB_ERR_FORMAT,
                            "'%s' is %s; convert the model again", key, negative ? "negative" : "too large");
    *bits = x;
    return NB_OK;
}

nb_status nb_gguf_get_u64(const nb_gguf *g, const char *key, uint64_t *out, nb_error *err)
{
    return get_integer(g, key, false, out, err);
}

nb_status nb_gguf_get_i64(const nb_gguf *g, const char *key, int64_t *out, nb_error *err)
{
    uint64_t bits = 0;
    NB_TRY(get_integer(g, key, true, &bits, err));
    *out = (int64_t)bits;
    return NB_OK;
}

nb_status nb_gguf_get_f64(const nb_gguf *g, const char *key, double *out, nb_error *err)
{
    const nb_gguf_value *v;
    NB_TRY(find_value(g, key, &v, err));
    if (v->kind == NB_GGUF_BOOL || nb_gguf_kind_bytes(v->kind) == 0)
        return wrong_kind(g, v, "a number", err);
    *out = nb_gguf_elem_f64(v, 0);
    return NB_OK;
}

nb_status nb_gguf_get_bool(const nb_gguf *g, const char *key, bool *out, nb_error *err)
{
    const nb_gguf_value *v;
    NB_TRY(find_value(g, key, &v, err));
    if (v->kind != NB_GGUF_BOOL)
        return wrong_kind(g, v, "a bool", err);
    *out = v->data[0] != 0;
    return NB_OK;
}

nb_status nb_gguf_get_str(const nb_gguf *g, const char *key, nb_str *out, nb_error *err)
{
    const nb_gguf_value *v;
    NB_TRY(find_value(g, key, &v, err));
    if (v->kind != NB_GGUF_STRING)
        return wrong_kind(g, v, "a string", err);
    *out = (nb_str){(const char *)v->data, v->bytes};
    return NB_OK;
}

nb_status nb_gguf_get_strings(const nb_gguf *g, const char *key, nb_arena *arena, nb_str **out, size_t *count,
                              nb_error *err)
{
    const nb_gguf_value *v;
    NB_TRY(find_value(g, key, &v, err));
    if (v->kind != NB_GGUF_ARRAY || v->element != NB_GGUF_STRING)
        return wrong_kind(g, v, "an array of strings", err);
    nb_str *table = NB_ARRAY(arena, nb_str, v->count);
    if (!table)
        return nb_fail_memory(err, key, v->count * sizeof *table);
    const unsigned char *p = v->data;
    for (size_t i = 0; i < v->count; i++) {
        uint64_t n;
        memcpy(&n, p, sizeof n);
        table[i] = (nb_str){(const char *)p + 8, (size_t)n};
        p += 8 + n;
    }
    *out = table;
    *count = v->count;
    return NB_OK;
}
