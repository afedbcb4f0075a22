#include "format/source.h"

#include <stdlib.h>

#include "format/gguf_parse.h"

uint64_t nb_source_rows(const nb_source_tensor *t) { return t->dims[1] * t->dims[2] * t->dims[3]; }

const nb_gguf_value *nb_source_find(const nb_source *s, const char *key)
{
    nb_str name = nb_str_of(key);
    for (size_t i = 0; i < s->value_count; i++)
        if (nb_str_eq(s->values[i].key, name))
            return &s->values[i];
    return NULL;
}

nb_str nb_source_text(const nb_source *s, const char *key)
{
    const nb_gguf_value *v = nb_source_find(s, key);
    return v && v->kind == NB_GGUF_STRING ? (nb_str){(const char *)v->data, v->bytes} : NB_STR("");
}

const nb_source_tensor *nb_source_find_tensor(const nb_source *s, nb_str name)
{
    for (size_t i = 0; i < s->tensor_count; i++)
        if (nb_str_eq(s->tensors[i].name, name))
            return &s->tensors[i];
    return NULL;
}

void nb_source_free(nb_source *s)
{
    if (s)
        s->free(s);
}

/* ---- a GGUF file ---- */

typedef struct gguf_source {
    nb_source source; /* first: the two addresses are the same */
    nb_gguf *gguf;
    nb_source_tensor *tensors;
    const char **files;
} gguf_source;

static const gguf_source *of_gguf(const nb_source *s) { return (const gguf_source *)(const void *)s; }

/* The rows in the mapped file; NULL when they are not all there. */
static const unsigned char *rows_at(const nb_source_tensor *t, uint64_t row, uint64_t count, size_t *bytes)
{
    size_t row_bytes;
    uint64_t rows = nb_source_rows(t);
    if (row > rows || count > rows - row || !nb_type_row_bytes(t->type, t->dims[0], &row_bytes))
        return NULL;
    *bytes = row_bytes * (size_t)count;
    return (const unsigned char *)t->data + row_bytes * (size_t)row;
}

static nb_status read_gguf(const nb_source *s, size_t i, uint64_t row, uint64_t count, void *dst, nb_error *err)
{
    size_t bytes;
    const unsigned char *rows = i < s->tensor_count ? rows_at(&s->tensors[i], row, count, &bytes) : NULL;
    if (!rows)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: tensor %zu has no rows from %llu on for %llu", s->path, i,
                       (unsigned long long)row, (unsigned long long)count);
    if (bytes)
        memcpy(dst, rows, bytes);
    return NB_OK;
}

static void forget_gguf(const nb_source *s, size_t i, uint64_t row, uint64_t count)
{
    const nb_gguf_tensor *t = nb_gguf_tensor_at(of_gguf(s)->gguf, i);
    size_t bytes;
    const unsigned char *rows = rows_at(&s->tensors[i], row, count, &bytes);
    if (rows)
        nb_map_dont_need(nb_gguf_map(of_gguf(s)->gguf, t->shard),
                         (size_t)t->offset + (size_t)(rows - (const unsigned char *)t->data), bytes);
}

static void free_gguf(nb_source *s)
{
    gguf_source *g = (gguf_source *)(void *)s;
    nb_gguf_close(g->gguf);
    free(g->tensors);
    free(g->files);
    free(g);
}

static nb_status fill_gguf(gguf_source *g, nb_error *err)
{
    size_t n = nb_gguf_tensor_count(g->gguf);
    int files = nb_gguf_shards(g->gguf);
    g->tensors = calloc(n + 1, sizeof *g->tensors);
    g->files = calloc((size_t)files, sizeof *g->files);
    if (!g->tensors || !g->files)
        return nb_fail_memory(err, nb_gguf_path(g->gguf), (n + 1) * sizeof *g->tensors);
    for (size_t i = 0; i < n; i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g->gguf, i);
        g->tensors[i] = (nb_source_tensor){t->name, t->type, t->n_dims, {0}, t->data, t->shard};
        memcpy(g->tensors[i].dims, t->dims, sizeof t->dims);
    }
    for (int i = 0; i < files; i++)
        g->files[i] = g->gguf->files[i].path;
    g->source = (nb_source){
        .path = nb_gguf_path(g->gguf),
        .values = nb_gguf_value_count(g->gguf) ? nb_gguf_value_at(g->gguf, 0) : NULL,
        .value_count = nb_gguf_value_count(g->gguf),
        .tensors = g->tensors,
        .tensor_count = n,
        .files = g->files,
        .file_count = files,
        .read = read_gguf,
        .forget = forget_gguf,
        .free = free_gguf,
    };
    return NB_OK;
}

nb_status nb_source_open_gguf(const char *path, nb_source **out, nb_error *err)
{
    *out = NULL;
    gguf_source *g = calloc(1, sizeof *g);
    if (!g)
        return nb_fail_memory(err, path, sizeof *g);
    nb_status status = nb_gguf_open(path, &g->gguf, err);
    if (status == NB_OK)
        status = fill_gguf(g, err);
    if (status == NB_OK)
        *out = &g->source;
    else
        free_gguf(&g->source);
    return status;
}
