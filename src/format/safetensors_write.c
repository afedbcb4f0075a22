#define _GNU_SOURCE
#include "format/safetensors_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json_write.h"
#include "format/checkpoint_parse.h"
#include "format/gguf_parse.h"

/* All files are written under temporary names and appear together at the end, the index last: until then a model that was there
 * before stays as it is, and what is left by a failure is no model. */

typedef struct tensor {
    nb_str name;
    nb_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[NB_CHECKPOINT_DIMS];
    uint64_t bytes;
    size_t shard;
} tensor;

typedef struct shard {
    char *path;
    nb_writer *file;
    size_t first, end; /* its tensors */
    uint64_t left;     /* bytes of data to come */
    bool there;        /* under its name */
} shard;

struct nb_safetensors_writer {
    char *dir;
    uint64_t shard_bytes;
    nb_arena arena;
    tensor *tensors;
    size_t count, capacity;
    shard *shards;
    size_t shard_count, at; /* at: that is being written */
    bool frozen;
    nb_status status; /* of the puts */
    nb_error err;
};

nb_status nb_safetensors_writer_open(const char *dir, uint64_t shard_bytes, nb_safetensors_writer **out, nb_error *err)
{
    nb_safetensors_writer *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w || !(w->dir = strdup(dir))) {
        free(w);
        return nb_fail_memory(err, dir, sizeof *w);
    }
    w->shard_bytes = shard_bytes;
    *out = w;
    return NB_OK;
}

/* ---- declarations ---- */

static tensor *new_tensor(nb_safetensors_writer *w)
{
    if (w->count == w->capacity) {
        size_t capacity = w->capacity ? w->capacity * 2 : 256;
        tensor *grown = realloc(w->tensors, capacity * sizeof *grown);
        if (!grown) {
            w->status = nb_fail_memory(&w->err, w->dir, capacity * sizeof *grown);
            return NULL;
        }
        w->tensors = grown;
        w->capacity = capacity;
    }
    return &w->tensors[w->count];
}

void nb_safetensors_put(nb_safetensors_writer *w, nb_str name, nb_dtype dtype, uint32_t n_dims, const uint64_t *dims)
{
    nb_checkpoint_tensor shape = {.dtype = dtype, .n_dims = n_dims};
    const char *problem = nb_gguf_name_problem(name, NB_CHECKPOINT_MAX_NAME);
    if (w->status != NB_OK)
        return;
    if (problem || n_dims > NB_CHECKPOINT_DIMS || w->frozen || nb_dtype_bytes(dtype) == 0) {
        w->status = nb_fail(&w->err, NB_ERR_ARGUMENT, "%s: tensor '%.*s' %s", w->dir, NB_STR_ARG(name),
                            problem                       ? problem
                            : n_dims > NB_CHECKPOINT_DIMS ? "has more than 8 dimensions"
                            : w->frozen                   ? "is declared after data was written"
                                                          : "has no known dtype");
        return;
    }
    for (uint32_t i = 0; i < n_dims; i++)
        shape.dims[i] = dims[i];
    if (!nb_checkpoint_shape(&shape)) {
        w->status = nb_fail(&w->err, NB_ERR_LIMIT, "%s: tensor '%.*s' is too large", w->dir, NB_STR_ARG(name));
        return;
    }
    tensor *t = new_tensor(w);
    if (!t)
        return;
    *t = (tensor){.dtype = dtype, .n_dims = n_dims, .bytes = shape.values * nb_dtype_bytes(dtype)};
    memcpy(t->dims, shape.dims, sizeof t->dims);
    t->name = (nb_str){nb_arena_strdup(&w->arena, name), name.n};
    if (t->name.p)
        w->count++;
    else
        w->status = nb_fail_memory(&w->err, w->dir, name.n);
}

static nb_status check_names(nb_safetensors_writer *w, nb_error *err)
{
    nb_status status = NB_OK;
    uint32_t *order = nb_gguf_sort_names(&w->tensors->name, sizeof *w->tensors, w->count);
    if (!order)
        return nb_fail_memory(err, w->dir, w->count * sizeof *order);
    for (size_t i = 1; i < w->count && status == NB_OK; i++)
        if (nb_str_eq(w->tensors[order[i]].name, w->tensors[order[i - 1]].name))
            status = nb_fail(err, NB_ERR_ARGUMENT, "%s: tensor '%.*s' is declared twice", w->dir,
                             NB_STR_ARG(w->tensors[order[i]].name));
    free(order);
    return status;
}

/* ---- shards ---- */

/* A tensor that is larger than a shard gets one of its own. */
static nb_status cut_shards(nb_safetensors_writer *w, nb_error *err)
{
    size_t n = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < w->count; i++) {
        tensor *t = &w->tensors[i];
        if (i > 0 && w->shard_bytes > 0 && bytes > 0 &&
            t->bytes > w->shard_bytes - nb_min_size(bytes, w->shard_bytes)) {
            n++;
            bytes = 0;
        }
        t->shard = n;
        if (__builtin_add_overflow(bytes, t->bytes, &bytes))
            return nb_fail(err, NB_ERR_LIMIT, "%s: all tensors together are too large", w->dir);
    }
    w->shards = calloc(n + 1, sizeof *w->shards);
    if (!w->shards)
        return nb_fail_memory(err, w->dir, n * sizeof *w->shards);
    w->shard_count = n + 1;
    for (size_t i = 0; i < w->count; i++) {
        shard *s = &w->shards[w->tensors[i].shard];
        s->first = s->end ? s->first : i;
        s->end = i + 1;
        s->left += w->tensors[i].bytes;
    }
    return NB_OK;
}

static void shard_name(const nb_safetensors_writer *w, size_t i, char name[64])
{
    if (w->shard_count == 1)
        snprintf(name, 64, "model.safetensors");
    else
        snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", i + 1, w->shard_count);
}

static void put_header(const nb_safetensors_writer *w, const shard *s, nb_buf *b)
{
    uint64_t at = 0, length;
    nb_json j = nb_json_begin(b, false);
    nb_buf_add(b, "\0\0\0\0\0\0\0", 8);
    nb_json_open(&j, '{');
    nb_json_key(&j, "__metadata__");
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "format", "pt");
    nb_json_close(&j, '}');
    for (size_t i = s->first; i < s->end; i++) {
        const tensor *t = &w->tensors[i];
        nb_json_key_str(&j, t->name);
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "dtype", nb_dtype_name(t->dtype));
        nb_json_key(&j, "shape");
        nb_json_open(&j, '[');
        for (uint32_t d = 0; d < t->n_dims; d++)
            nb_json_uint(&j, t->dims[d]);
        nb_json_close(&j, ']');
        nb_json_key(&j, "data_offsets");
        nb_json_open(&j, '[');
        nb_json_uint(&j, at);
        nb_json_uint(&j, at += t->bytes);
        nb_json_close(&j, ']');
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, '}');
    while (b->len % 8) /* data begins aligned */
        nb_buf_char(b, ' ');
    length = b->len - 8;
    if (!b->failed)
        memcpy(b->data, &length, sizeof length);
}

static nb_status open_shard(nb_safetensors_writer *w, size_t i, nb_error *err)
{
    shard *s = &w->shards[i];
    char name[64];
    nb_buf b = {0};
    shard_name(w, i, name);
    if (asprintf(&s->path, "%s/%s", w->dir, name) < 0) {
        s->path = NULL;
        return nb_fail_memory(err, w->dir, sizeof name);
    }
    put_header(w, s, &b);
    nb_status status = b.failed ? nb_fail_memory(err, s->path, b.len) : nb_writer_open(s->path, &s->file, err);
    if (status == NB_OK)
        status = nb_writer_write(s->file, b.data, b.len, err);
    nb_buf_free(&b);
    return status;
}

/* Beside a whole model of one file, readers would not look at an index. */
static nb_status check_directory(const nb_safetensors_writer *w, nb_error *err)
{
    char *path;
    if (w->shard_count == 1)
        return NB_OK;
    if (asprintf(&path, "%s/model.safetensors", w->dir) < 0)
        return nb_fail_memory(err, w->dir, strlen(w->dir));
    nb_status status = access(path, F_OK) != 0
                           ? NB_OK
                           : nb_fail(err, NB_ERR_ARGUMENT,
                                     "%s: is there already, and would be read instead of the shards; remove it", path);
    free(path);
    return status;
}

/* The end of the declarations: headers are known and written. */
static nb_status freeze(nb_safetensors_writer *w, nb_error *err)
{
    if (w->frozen)
        return w->status == NB_OK ? NB_OK : nb_fail(err, w->status, "%s", w->err.message);
    w->frozen = true;
    nb_status status = w->status == NB_OK ? check_names(w, err) : nb_fail(err, w->status, "%s", w->err.message);
    if (status == NB_OK)
        status = cut_shards(w, err);
    if (status == NB_OK)
        status = check_directory(w, err);
    for (size_t i = 0; i < w->shard_count && status == NB_OK; i++)
        status = open_shard(w, i, err);
    if (status != NB_OK && w->status == NB_OK)
        w->status = nb_fail(&w->err, status, "%s", err ? err->message : "an earlier call failed");
    return status;
}

/* ---- data ---- */

nb_status nb_safetensors_data(nb_safetensors_writer *w, const void *bytes, size_t n, nb_error *err)
{
    const char *p = bytes;
    NB_TRY(freeze(w, err));
    while (n > 0) {
        while (w->at < w->shard_count && w->shards[w->at].left == 0)
            w->at++;
        if (w->at == w->shard_count)
            return nb_fail(err, NB_ERR_ARGUMENT, "%s: more data than the declared tensors have", w->dir);
        shard *s = &w->shards[w->at];
        size_t part = nb_min_size(n, s->left);
        NB_TRY(nb_writer_write(s->file, p, part, err));
        s->left -= part;
        p += part;
        n -= part;
    }
    return NB_OK;
}

/* ---- the end ---- */

static nb_status write_index(const nb_safetensors_writer *w, nb_error *err)
{
    char name[64], *path;
    uint64_t bytes = 0;
    nb_buf b = {0};
    nb_writer *file;
    nb_json j = nb_json_begin(&b, true);
    for (size_t i = 0; i < w->count; i++)
        bytes += w->tensors[i].bytes;
    nb_json_open(&j, '{');
    nb_json_key(&j, "metadata");
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "total_size", bytes);
    nb_json_close(&j, '}');
    nb_json_key(&j, "weight_map");
    nb_json_open(&j, '{');
    for (size_t i = 0; i < w->count; i++) {
        shard_name(w, w->tensors[i].shard, name);
        nb_json_key_str(&j, w->tensors[i].name);
        nb_json_z(&j, name);
    }
    nb_json_close(&j, '}');
    nb_json_close(&j, '}');
    nb_buf_char(&b, '\n');
    if (asprintf(&path, "%s/model.safetensors.index.json", w->dir) < 0)
        path = NULL;
    nb_status status = path && !b.failed ? nb_writer_open(path, &file, err) : nb_fail_memory(err, w->dir, b.len);
    if (status == NB_OK) {
        status = nb_writer_write(file, b.data, b.len, err);
        if (status == NB_OK)
            status = nb_writer_commit(file, err);
        else
            nb_writer_abort(file);
    }
    nb_buf_free(&b);
    free(path);
    return status;
}

static nb_status commit_all(nb_safetensors_writer *w, nb_error *err)
{
    NB_TRY(freeze(w, err));
    for (size_t i = 0; i < w->shard_count; i++)
        if (w->shards[i].left > 0)
            return nb_fail(err, NB_ERR_ARGUMENT, "%s: %" PRIu64 " bytes of tensor data are missing", w->shards[i].path,
                           w->shards[i].left);
    for (size_t i = 0; i < w->shard_count; i++) {
        nb_writer *file = w->shards[i].file;
        w->shards[i].file = NULL;
        NB_TRY(nb_writer_commit(file, err));
        w->shards[i].there = true;
    }
    return w->shard_count > 1 ? write_index(w, err) : NB_OK;
}

static void writer_free(nb_safetensors_writer *w, bool failed)
{
    for (size_t i = 0; i < w->shard_count; i++) {
        nb_writer_abort(w->shards[i].file);
        if (failed && w->shards[i].there)
            unlink(w->shards[i].path);
        free(w->shards[i].path);
    }
    free(w->shards);
    free(w->tensors);
    nb_arena_free(&w->arena);
    free(w->dir);
    free(w);
}

nb_status nb_safetensors_writer_commit(nb_safetensors_writer *w, nb_error *err)
{
    nb_status status = commit_all(w, err);
    writer_free(w, status != NB_OK);
    return status;
}

void nb_safetensors_writer_abort(nb_safetensors_writer *w)
{
    if (w)
        writer_free(w, true);
}
