#include <inttypes.h>
#include <stdio.h>

#include "format/gguf_parse.h"
#include "format/torch_pickle.h"
#include "format/torch_zip.h"

/* A checkpoint of torch.save: a zip archive with NAME/data.pkl, which says what the tensors are, and NAME/data/KEY, the bytes of
 * each storage. Tensors may share a storage and be views of it with any strides. */

enum {
    OBJECT_BYTES = 24 << 20, /* that a pickle may make */
    PICKLE_BYTES = 8 << 20,
    MAX_DEPTH = 16,
    MAX_VISITS = 1 << 18 /* of dictionaries' items: those may hold each other */
};

typedef struct reader {
    nb_checkpoint *c;
    const nb_checkpoint_file *file;
    nb_zip zip;
    nb_str folder; /* "NAME/" */
    uint64_t pickle_at;
    size_t visits;
    nb_error *err;
} reader;

#define ADVICE "load it with torch in a place you trust it in, and save it as safetensors"

static nb_status not_zip(const nb_checkpoint_file *f, nb_error *err)
{
    static const char legacy[] = "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19."; /* the number 0x1950a86a20f9469cfc6c */
    bool old = f->map.size >= sizeof legacy - 1 && memcmp(f->map.data, legacy, sizeof legacy - 1) == 0;
    return nb_fail_at(f->path, 0, err, NB_ERR_UNSUPPORTED, "this is %s, which is not read; " ADVICE,
                      old                      ? "the form of torch.save from before version 1.6"
                      : f->map.data[0] == 0x80 ? "a bare pickle"
                                               : "the tar form of torch.save from before version 0.1.10");
}

/* ---- the archive ---- */

static bool ends_with(nb_str s, const char *end, size_t n) { return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0; }

static const nb_zip_entry *find_beside(const reader *r, const char *part, nb_str name)
{
    char text[2 * NB_CHECKPOINT_MAX_NAME];
    int n = snprintf(text, sizeof text, "%.*s%s%.*s", (int)r->folder.n, r->folder.p, part, (int)name.n, name.p);
    return n > 0 && (size_t)n < sizeof text ? nb_zip_find(&r->zip, (nb_str){text, (size_t)n}) : NULL;
}

static nb_status find_pickle(reader *r, const nb_zip_entry **pickle)
{
    static const char end[] = "/data.pkl";
    const char *path = r->file->path;
    for (size_t i = 0; i < r->zip.count; i++) {
        const nb_zip_entry *e = &r->zip.entries[i];
        if (!ends_with(e->name, end, sizeof end - 1) ||
            memchr(e->name.p, '/', e->name.n) != e->name.p + e->name.n - (sizeof end - 1))
            continue;
        if (*pickle)
            return nb_fail_at(path, e->begin, r->err, NB_ERR_FORMAT, "a second data.pkl%s", NB_CHECKPOINT_DAMAGED);
        *pickle = e;
        r->folder = (nb_str){e->name.p, e->name.n - (sizeof end - 2)};
    }
    if (!*pickle)
        return nb_fail_at(
            path, 0, r->err, NB_ERR_FORMAT,
            "this zip archive has no data.pkl: it is not a checkpoint of torch.save; give a model's file");
    if (find_beside(r, "constants.pkl", NB_STR("")))
        return nb_fail_at(path, 0, r->err, NB_ERR_UNSUPPORTED,
                          "this is a TorchScript program, not a checkpoint; " ADVICE);
    const nb_zip_entry *order = find_beside(r, "byteorder", NB_STR(""));
    if (order && !nb_str_eqz((nb_str){(const char *)order->data, order->bytes}, "little"))
        return nb_fail_at(path, order->begin, r->err, NB_ERR_UNSUPPORTED,
                          "the values are not little-endian; load it with torch and save it on another machine");
    r->c->header_bytes += nb_min_size((*pickle)->bytes, PICKLE_BYTES);
    if ((*pickle)->bytes > PICKLE_BYTES || r->c->header_bytes > NB_CHECKPOINT_MAX_HEADERS)
        return nb_fail_at(path, (*pickle)->begin, r->err, NB_ERR_LIMIT,
                          "data.pkl has %zu bytes; %d of one file and %d of all shards are read" NB_CHECKPOINT_WRITER,
                          (*pickle)->bytes, PICKLE_BYTES, NB_CHECKPOINT_MAX_HEADERS);
    return NB_OK;
}

/* ---- tensors ---- */

static nb_status bind_data(reader *r, const nb_pickle_tensor *from, nb_checkpoint_tensor *t)
{
    const nb_pickle_storage *s = from->storage;
    uint64_t bytes = s->values * nb_dtype_bytes(s->dtype), at = r->pickle_at + from->at;
    const nb_zip_entry *e = s->key.n < NB_CHECKPOINT_MAX_NAME ? find_beside(r, "data/", s->key) : NULL;
    if (!e)
        return nb_fail_at(r->file->path, at, r->err, NB_ERR_FORMAT, "the data of tensor '%.*s' is not in the archive%s",
                          NB_STR_ARG(t->name), NB_CHECKPOINT_DAMAGED);
    if (e->bytes != bytes)
        return nb_fail_at(r->file->path, at, r->err, NB_ERR_FORMAT,
                          "the storage of tensor '%.*s' has %zu bytes, but should have %" PRIu64 "%s",
                          NB_STR_ARG(t->name), e->bytes, bytes, NB_CHECKPOINT_DAMAGED);
    t->data = e->data + from->offset * nb_dtype_bytes(t->dtype);
    return NB_OK;
}

static nb_status add_tensor(reader *r, nb_str name, const nb_pickle_tensor *from)
{
    nb_status status = NB_OK;
    const char *problem = nb_gguf_name_problem(name, NB_CHECKPOINT_MAX_NAME);
    if (problem)
        return nb_fail_at(r->file->path, r->pickle_at + from->at, r->err, NB_ERR_FORMAT, "the name of this tensor %s%s",
                          problem, NB_CHECKPOINT_WRITER);
    nb_checkpoint_tensor *t = nb_checkpoint_add(r->c, r->file, (size_t)r->pickle_at + from->at, &status, r->err);
    if (!t)
        return status;
    t->name = name;
    t->dtype = from->dtype;
    t->n_dims = from->n_dims;
    memcpy(t->dims, from->dims, sizeof t->dims);
    if (!nb_checkpoint_shape(t))
        return nb_fail_at(r->file->path, r->pickle_at + from->at, r->err, NB_ERR_FORMAT, "a tensor that is too large%s",
                          NB_CHECKPOINT_DAMAGED);
    for (uint32_t i = 0; i < t->n_dims; i++)
        t->contiguous = t->contiguous && (t->values == 0 || t->dims[i] <= 1 || t->stride[i] == from->stride[i]);
    memcpy(t->stride, from->stride, sizeof t->stride);
    return bind_data(r, from, t);
}

/* "PREFIX.KEY", in the arena of the checkpoint */
static nb_status join(reader *r, nb_str prefix, const nb_pickle_value *key, nb_str *out)
{
    char number[24];
    nb_str k = key->s;
    if (key->kind == NB_PICKLE_INT)
        k = (nb_str){number, (size_t)snprintf(number, sizeof number, "%" PRId64, key->i)};
    if (prefix.n == 0 && key->kind == NB_PICKLE_STR) {
        *out = k; /* lies in the file */
        return NB_OK;
    }
    if (prefix.n + k.n > NB_CHECKPOINT_MAX_NAME)
        return nb_fail_at(r->file->path, r->pickle_at, r->err, NB_ERR_FORMAT, "a tensor's name has %zu bytes%s",
                          prefix.n + k.n + 1, NB_CHECKPOINT_WRITER);
    char *p = nb_arena_alloc(&r->c->arena, prefix.n + k.n + 1, 1);
    if (!p)
        return nb_fail_memory(r->err, r->file->path, prefix.n + k.n + 1);
    size_t n = 0;
    if (prefix.n) {
        memcpy(p, prefix.p, prefix.n);
        p[prefix.n] = '.';
        n = prefix.n + 1;
    }
    memcpy(p + n, k.p, k.n);
    *out = (nb_str){p, n + k.n};
    return NB_OK;
}

static nb_status walk(reader *r, nb_str prefix, const nb_pickle_items *dict, int depth)
{
    if (depth == MAX_DEPTH)
        return nb_fail_at(r->file->path, r->pickle_at, r->err, NB_ERR_LIMIT, "dictionaries nest deeper than %d%s",
                          MAX_DEPTH, NB_CHECKPOINT_WRITER);
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        const nb_pickle_value *key = &dict->at[i], *v = &dict->at[i + 1];
        nb_str name;
        if (++r->visits > MAX_VISITS)
            return nb_fail_at(r->file->path, r->pickle_at, r->err, NB_ERR_LIMIT, "more than %d items in dictionaries%s",
                              MAX_VISITS, NB_CHECKPOINT_WRITER);
        if ((v->kind != NB_PICKLE_TENSOR && v->kind != NB_PICKLE_DICT) ||
            (key->kind != NB_PICKLE_STR && key->kind != NB_PICKLE_INT))
            continue;
        NB_TRY(join(r, prefix, key, &name));
        NB_TRY(v->kind == NB_PICKLE_TENSOR ? add_tensor(r, name, v->tensor) : walk(r, name, v->items, depth + 1));
    }
    return NB_OK;
}

/* What trainers save beside the model (epoch, optimizer) is not part of it. */
static const nb_pickle_items *model_of(const nb_pickle_items *dict)
{
    static const char *const keys[] = {"state_dict", "model_state_dict", "model", "module"};
    for (size_t i = 0; i + 1 < dict->count; i += 2)
        if (dict->at[i + 1].kind == NB_PICKLE_TENSOR)
            return dict;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t i = 0; i + 1 < dict->count; i += 2)
            if (dict->at[i].kind == NB_PICKLE_STR && nb_str_eqz(dict->at[i].s, keys[k]) &&
                dict->at[i + 1].kind == NB_PICKLE_DICT)
                return dict->at[i + 1].items;
    return dict;
}

static nb_status read_archive(reader *r, nb_arena *objects)
{
    const nb_zip_entry *pickle = NULL;
    nb_pickle_value root;
    NB_TRY(find_pickle(r, &pickle));
    r->pickle_at = (uint64_t)(pickle->data - r->file->map.data);
    NB_TRY(nb_pickle_read(r->file->path, (nb_str){(const char *)pickle->data, pickle->bytes}, r->pickle_at, objects,
                          &root, r->err));
    if (root.kind != NB_PICKLE_DICT)
        return nb_fail_at(r->file->path, r->pickle_at, r->err, NB_ERR_UNSUPPORTED,
                          "the file holds no dictionary of tensors; save the model's state_dict()");
    size_t before = r->c->count;
    NB_TRY(walk(r, NB_STR(""), model_of(root.items), 0));
    return r->c->count > before ? NB_OK
                                : nb_fail_at(r->file->path, r->pickle_at, r->err, NB_ERR_FORMAT,
                                             "the file holds no tensors; save the model's state_dict()");
}

nb_status nb_torch_parse(nb_checkpoint *c, const nb_checkpoint_file *f, nb_error *err)
{
    reader r = {.c = c, .file = f, .err = err};
    nb_arena objects = {.limit = OBJECT_BYTES};
    if (memcmp(f->map.data, "PK", 2) != 0)
        return not_zip(f, err);
    nb_status status = nb_zip_open(f, &r.zip, err);
    if (status == NB_OK)
        status = read_archive(&r, &objects);
    nb_zip_close(&r.zip);
    nb_arena_free(&objects);
    return status;
}
