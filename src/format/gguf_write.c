#include "format/gguf_write.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "format/gguf_parse.h"

typedef struct entry {
    nb_str key; /* in the arena, like the value */
    nb_str encoded;
} entry;

typedef struct declared {
    nb_str name;
    const nb_type_info *type;
    uint32_t n_dims;
    uint64_t dims[4];
    size_t bytes;
    uint64_t offset; /* of data behind the header */
} declared;

struct nb_gguf_writer {
    nb_writer *file; /* NULL: only measured */
    char *path;
    size_t alignment;
    nb_arena arena;
    entry *entries;
    size_t entry_count, entry_cap;
    declared *tensors;
    size_t tensor_count, tensor_cap;
    nb_status status; /* the first failure of a put */
    nb_error error;
    bool header_written;
    uint64_t data_start;  /* of the first tensor's data, once the header is written */
    atomic_ullong placed; /* bytes that came by nb_gguf_writer_place */
    size_t current;       /* the tensor whose data comes */
    size_t written;       /* of it */
};

enum { MAX_ALIGNMENT = 1 << 20 };

static const nb_str alignment_key = {"general.alignment", sizeof "general.alignment" - 1};

nb_status nb_gguf_writer_open(const char *path, size_t alignment, nb_gguf_writer **out, nb_error *err)
{
    *out = NULL;
    if (alignment != 0 &&
        (alignment < NB_GGUF_MIN_ALIGNMENT || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1))))
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: alignment %zu is not a power of two from %d to %d", path, alignment,
                       NB_GGUF_MIN_ALIGNMENT, MAX_ALIGNMENT);
    nb_gguf_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->path = nb_arena_strdup(&w->arena, nb_str_of(path)))) {
        free(w);
        return nb_fail_memory(err, path, sizeof *w);
    }
    nb_status status = nb_writer_open(path, &w->file, err);
    if (status != NB_OK) {
        nb_gguf_writer_abort(w);
        return status;
    }
    w->alignment = alignment ? alignment : NB_GGUF_DEFAULT_ALIGNMENT;
    *out = w;
    return NB_OK;
}

void nb_gguf_writer_abort(nb_gguf_writer *w)
{
    if (!w)
        return;
    nb_writer_abort(w->file);
    nb_arena_free(&w->arena);
    free(w->entries);
    free(w->tensors);
    free(w);
}

/* ---- puts ---- */

static void no_memory(nb_gguf_writer *w, size_t bytes)
{
    if (w->status == NB_OK)
        w->status = nb_fail_memory(&w->error, w->path, bytes);
}

/* Room for one more item; false (and the failure is kept) when there is none. */
static bool grow(nb_gguf_writer *w, void **items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 64;
    void *p = realloc(*items, more * size);
    if (!p) {
        no_memory(w, more * size);
        return false;
    }
    *items = p;
    *cap = more;
    return true;
}

static bool may_put(nb_gguf_writer *w, const char *what, nb_str name, size_t limit)
{
    const char *problem = nb_gguf_name_problem(name, limit);
    if (w->status == NB_OK && problem)
        w->status = nb_fail(&w->error, NB_ERR_ARGUMENT, "%s: %s %s (%zu bytes; 1 to %zu are allowed)", w->path, what,
                            problem, name.n, limit);
    if (w->status == NB_OK && nb_str_eq(name, alignment_key))
        w->status = nb_fail(&w->error, NB_ERR_ARGUMENT, "%s: give the alignment to nb_gguf_writer_open", w->path);
    if (w->status == NB_OK && w->header_written)
        w->status = nb_fail(&w->error, NB_ERR_ARGUMENT, "%s: '%.*s' comes after tensor data", w->path,
                            NB_STR_ARG(name));
    return w->status == NB_OK;
}

/* A value's type, then for an array the element's type and the count, then the bytes. */
static void put_encoded(nb_gguf_writer *w, nb_str key, nb_gguf_kind kind, nb_gguf_kind element, uint64_t count,
                        const void *bytes, size_t n)
{
    uint32_t types[2] = {kind, element};
    size_t head = kind == NB_GGUF_ARRAY ? 16 : 4, total;
    char *p = NULL;
    if (!may_put(w, "a metadata key", key, NB_GGUF_MAX_KEY))
        return;
    if (nb_add(head, n, &total))
        p = nb_arena_alloc(&w->arena, total, 8);
    if (!p) {
        no_memory(w, n);
        return;
    }
    memcpy(p, types, kind == NB_GGUF_ARRAY ? 8 : 4);
    if (kind == NB_GGUF_ARRAY)
        memcpy(p + 8, &count, 8);
    if (n)
        memcpy(p + head, bytes, n);
    for (size_t i = 0; i < w->entry_count; i++)
        if (nb_str_eq(w->entries[i].key, key)) {
            w->entries[i].encoded = (nb_str){p, total};
            return;
        }
    char *copy = nb_arena_strdup(&w->arena, key);
    if (!copy)
        no_memory(w, key.n);
    else if (grow(w, (void **)&w->entries, w->entry_count, &w->entry_cap, sizeof *w->entries))
        w->entries[w->entry_count++] = (entry){{copy, key.n}, {p, total}};
}

static void put_scalar(nb_gguf_writer *w, const char *key, nb_gguf_kind kind, const void *value)
{
    put_encoded(w, nb_str_of(key), kind, kind, 1, value, nb_gguf_kind_bytes(kind));
}

void nb_gguf_put_u8(nb_gguf_writer *w, const char *key, uint8_t value) { put_scalar(w, key, NB_GGUF_U8, &value); }
void nb_gguf_put_i8(nb_gguf_writer *w, const char *key, int8_t value) { put_scalar(w, key, NB_GGUF_I8, &value); }
void nb_gguf_put_u16(nb_gguf_writer *w, const char *key, uint16_t value) { put_scalar(w, key, NB_GGUF_U16, &value); }
void nb_gguf_put_i16(nb_gguf_writer *w, const char *key, int16_t value) { put_scalar(w, key, NB_GGUF_I16, &value); }
void nb_gguf_put_u32(nb_gguf_writer *w, const char *key, uint32_t value) { put_scalar(w, key, NB_GGUF_U32, &value); }
void nb_gguf_put_i32(nb_gguf_writer *w, const char *key, int32_t value) { put_scalar(w, key, NB_GGUF_I32, &value); }
void nb_gguf_put_u64(nb_gguf_writer *w, const char *key, uint64_t value) { put_scalar(w, key, NB_GGUF_U64, &value); }
void nb_gguf_put_i64(nb_gguf_writer *w, const char *key, int64_t value) { put_scalar(w, key, NB_GGUF_I64, &value); }
void nb_gguf_put_f32(nb_gguf_writer *w, const char *key, float value) { put_scalar(w, key, NB_GGUF_F32, &value); }
void nb_gguf_put_f64(nb_gguf_writer *w, const char *key, double value) { put_scalar(w, key, NB_GGUF_F64, &value); }

void nb_gguf_put_bool(nb_gguf_writer *w, const char *key, bool value)
{
    uint8_t byte = value;
    put_scalar(w, key, NB_GGUF_BOOL, &byte);
}

static void add_string(nb_buf *b, nb_str s)
{
    uint64_t n = s.n;
    nb_buf_add(b, &n, sizeof n);
    nb_buf_str(b, s);
}

/* one string, or an array of them */
static void put_strings(nb_gguf_writer *w, nb_str key, nb_gguf_kind kind, const nb_str *values, size_t count)
{
    nb_buf b = {0};
    for (size_t i = 0; i < count; i++)
        add_string(&b, values[i]);
    if (b.failed)
        no_memory(w, b.len);
    else
        put_encoded(w, key, kind, NB_GGUF_STRING, count, b.data, b.len);
    nb_buf_free(&b);
}

void nb_gguf_put_str(nb_gguf_writer *w, const char *key, nb_str value)
{
    put_strings(w, nb_str_of(key), NB_GGUF_STRING, &value, 1);
}

void nb_gguf_put_strings(nb_gguf_writer *w, const char *key, const nb_str *values, size_t count)
{
    put_strings(w, nb_str_of(key), NB_GGUF_ARRAY, values, count);
}

void nb_gguf_put_array(nb_gguf_writer *w, const char *key, nb_gguf_kind element, const void *values, size_t count)
{
    size_t size = nb_gguf_kind_bytes(element), bytes = 0;
    if (w->status == NB_OK && (size == 0 || !nb_mul(size, count, &bytes)))
        w->status = nb_fail(&w->error, NB_ERR_ARGUMENT, "%s: '%s' cannot be an array of %zu values of type %s", w->path,
                            key, count, nb_gguf_kind_name(element));
    if (w->status == NB_OK)
        put_encoded(w, nb_str_of(key), NB_GGUF_ARRAY, element, count, values, bytes);
}

void nb_gguf_put_value(nb_gguf_writer *w, const nb_gguf_value *v)
{
    if (nb_str_eq(v->key, alignment_key))
        return;
    if (v->kind == NB_GGUF_STRING) {
        nb_str s = {(const char *)v->data, v->bytes};
        put_strings(w, v->key, NB_GGUF_STRING, &s, 1);
    } else {
        put_encoded(w, v->key, v->kind, v->element, v->count, v->data, v->bytes);
    }
}

/* of all tensors, padding included */
static uint64_t data_bytes(const nb_gguf_writer *w)
{
    const declared *last = w->tensor_count ? &w->tensors[w->tensor_count - 1] : NULL;
    return last ? last->offset + nb_round_up(last->bytes, w->alignment) : 0;
}

void nb_gguf_put_tensor(nb_gguf_writer *w, nb_str name, const nb_type_info *type, uint32_t n_dims, const uint64_t *dims)
{
    declared t = {.type = type, .n_dims = n_dims, .dims = {1, 1, 1, 1}};
    bool fits = n_dims >= 1 && n_dims <= 4;
    if (!may_put(w, "a tensor's name", name, NB_GGUF_MAX_TENSOR_NAME))
        return;
    for (uint32_t i = 0; fits && i < n_dims; i++) {
        t.dims[i] = dims[i];
        fits = dims[i] > 0 && dims[i] <= INT64_MAX;
    }
    fits = fits && type->id < NB_TYPE_FILE_LIMIT && nb_type_row_bytes(type, t.dims[0], &t.bytes);
    for (int i = 1; i < 4; i++)
        fits = fits && nb_mul(t.bytes, (size_t)t.dims[i], &t.bytes);
    uint64_t data = data_bytes(w);
    t.offset = data;
    if (!fits || t.bytes > INT64_MAX / 2 || data > INT64_MAX / 2) {
        w->status = nb_fail(&w->error, NB_ERR_ARGUMENT,
                            "%s: tensor '%.*s' of type %s cannot have %u dimensions, %" PRIu64 " x %" PRIu64
                            " x %" PRIu64 " x %" PRIu64,
                            w->path, NB_STR_ARG(name), type->name, n_dims, t.dims[0], t.dims[1], t.dims[2], t.dims[3]);
        return;
    }
    char *copy = nb_arena_strdup(&w->arena, name);
    if (!copy)
        no_memory(w, name.n);
    else if (grow(w, (void **)&w->tensors, w->tensor_count, &w->tensor_cap, sizeof *w->tensors)) {
        t.name = (nb_str){copy, name.n};
        w->tensors[w->tensor_count++] = t;
    }
}

/* ---- the file ---- */

/* what the reader would refuse is not written */
static nb_status check_table(const nb_gguf_writer *w, nb_error *err)
{
    if (w->entry_count >= NB_GGUF_MAX_VALUES || w->tensor_count > NB_GGUF_MAX_TENSORS)
        return nb_fail(err, NB_ERR_LIMIT,
                       "%s: %zu metadata values and %zu tensors; less than %d and at most %d can be read", w->path,
                       w->entry_count, w->tensor_count, NB_GGUF_MAX_VALUES, NB_GGUF_MAX_TENSORS);
    if (w->tensor_count == 0)
        return NB_OK;
    uint32_t *order = nb_gguf_sort_names(&w->tensors->name, sizeof *w->tensors, w->tensor_count);
    nb_status status = order ? NB_OK : nb_fail_memory(err, w->path, w->tensor_count * sizeof *order);
    for (size_t i = 1; i < w->tensor_count && status == NB_OK; i++) {
        nb_str name = w->tensors[order[i]].name;
        if (nb_str_eq(w->tensors[order[i - 1]].name, name))
            status = nb_fail(err, NB_ERR_ARGUMENT, "%s: tensor '%.*s' is declared twice", w->path, NB_STR_ARG(name));
    }
    free(order);
    return status;
}

static void encode_tensors(const nb_gguf_writer *w, nb_buf *b)
{
    for (size_t i = 0; i < w->tensor_count; i++) {
        const declared *t = &w->tensors[i];
        add_string(b, t->name);
        nb_buf_add(b, &t->n_dims, 4);
        nb_buf_add(b, t->dims, 8 * t->n_dims);
        nb_buf_add(b, &t->type->id, 4);
        nb_buf_add(b, &t->offset, 8);
    }
}

static nb_status write_zeros(nb_gguf_writer *w, size_t n, nb_error *err)
{
    static const char zeros[256];
    for (size_t piece; n > 0; n -= piece) {
        piece = nb_min_size(n, sizeof zeros);
        NB_TRY(nb_writer_write(w->file, zeros, piece, err));
    }
    return NB_OK;
}

static nb_status write_header(nb_gguf_writer *w, nb_error *err)
{
    nb_buf b = {0};
    bool own_alignment = w->alignment != NB_GGUF_DEFAULT_ALIGNMENT;
    uint32_t version = 3, alignment[2] = {NB_GGUF_U32, (uint32_t)w->alignment};
    uint64_t counts[2] = {w->tensor_count, w->entry_count + own_alignment};
    NB_TRY(check_table(w, err));
    nb_buf_add(&b, "\0\0\0", 4); /* the magic comes at the end: what is killed on the way is no model */
    nb_buf_add(&b, &version, sizeof version);
    nb_buf_add(&b, counts, sizeof counts);
    if (own_alignment) {
        add_string(&b, alignment_key);
        nb_buf_add(&b, alignment, sizeof alignment);
    }
    for (size_t i = 0; i < w->entry_count; i++) {
        add_string(&b, w->entries[i].key);
        nb_buf_str(&b, w->entries[i].encoded);
    }
    encode_tensors(w, &b);
    nb_status status = b.failed ? nb_fail_memory(err, w->path, b.len) : nb_writer_write(w->file, b.data, b.len, err);
    if (status == NB_OK && w->tensor_count > 0)
        status = write_zeros(w, nb_round_up(b.len, w->alignment) - b.len, err);
    w->header_written = status == NB_OK;
    w->data_start = nb_round_up(b.len, w->alignment);
    nb_buf_free(&b);
    return status;
}

/* The header comes before the first data; a failure is kept, so that nothing is written after a hole. */
static nb_status start(nb_gguf_writer *w, nb_error *err)
{
    if (w->status == NB_OK && !w->header_written)
        w->status = write_header(w, &w->error);
    if (w->status != NB_OK && err)
        *err = w->error;
    return w->status;
}

nb_status nb_gguf_writer_data(nb_gguf_writer *w, const void *bytes, size_t n, nb_error *err)
{
    NB_TRY(start(w, err));
    const declared *t = w->current < w->tensor_count ? &w->tensors[w->current] : NULL;
    if (!t || n > t->bytes - w->written)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: %zu bytes of data, where %s%.*s has room for %zu", w->path, n,
                       t ? "tensor " : "no tensor is left, which", t ? (int)t->name.n : 0, t ? t->name.p : "",
                       t ? t->bytes - w->written : 0);
    w->status = nb_writer_write(w->file, bytes, n, &w->error);
    w->written += n;
    if (w->status == NB_OK && w->written == t->bytes) {
        w->status = write_zeros(w, nb_round_up(t->bytes, w->alignment) - t->bytes, &w->error);
        w->current++;
        w->written = 0;
    }
    return start(w, err);
}

/* ---- pieces in any order ---- */

nb_status nb_gguf_writer_begin(nb_gguf_writer *w, nb_error *err)
{
    NB_TRY(start(w, err));
    const declared *last = w->tensor_count ? &w->tensors[w->tensor_count - 1] : NULL;
    size_t padding = last ? nb_round_up(last->bytes, w->alignment) - last->bytes : 0;
    /* A file has zeros where nothing was written, so padding needs no writing; the last byte gives the file its size. */
    return padding ? nb_writer_patch(w->file, w->data_start + last->offset + last->bytes + padding - 1, "", 1, err) : NB_OK;
}

nb_status nb_gguf_writer_place(nb_gguf_writer *w, size_t tensor, size_t offset, const void *bytes, size_t n,
                               nb_error *err)
{
    const declared *t = tensor < w->tensor_count ? &w->tensors[tensor] : NULL;
    if (!w->header_written || !t || offset > t->bytes || n > t->bytes - offset)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: tensor %zu has no room for %zu bytes at %zu", w->path, tensor, n,
                       offset);
    NB_TRY(nb_writer_patch(w->file, w->data_start + t->offset + offset, bytes, n, err));
    atomic_fetch_add(&w->placed, n);
    return NB_OK;
}

nb_status nb_gguf_writer_measure(nb_gguf_writer **out, nb_error *err)
{
    nb_gguf_writer *w = calloc(1, sizeof *w);
    *out = w;
    if (!w || !(w->path = nb_arena_strdup(&w->arena, NB_STR("a file to measure")))) {
        free(w);
        *out = NULL;
        return nb_fail_memory(err, "a file to measure", sizeof *w);
    }
    w->alignment = NB_GGUF_DEFAULT_ALIGNMENT;
    return NB_OK;
}

uint64_t nb_gguf_writer_bytes(const nb_gguf_writer *w)
{
    bool own_alignment = w->alignment != NB_GGUF_DEFAULT_ALIGNMENT;
    uint64_t header = 24 + (own_alignment ? 8 + alignment_key.n + 8 : 0);
    for (size_t i = 0; i < w->entry_count; i++)
        header += 8 + w->entries[i].key.n + w->entries[i].encoded.n;
    for (size_t i = 0; i < w->tensor_count; i++)
        header += 8 + w->tensors[i].name.n + 4 + 8 * (uint64_t)w->tensors[i].n_dims + 4 + 8;
    return w->tensor_count ? nb_round_up(header, w->alignment) + data_bytes(w) : header;
}

/* ---- the end ---- */

static nb_status check_whole(nb_gguf_writer *w, nb_error *err)
{
    uint64_t placed = atomic_load(&w->placed), all = 0;
    for (size_t i = 0; i < w->tensor_count; i++)
        all += w->tensors[i].bytes;
    if (placed > 0)
        return placed == all ? NB_OK
                             : nb_fail(err, NB_ERR_ARGUMENT, "%s: %" PRIu64 " of %" PRIu64 " bytes of data came",
                                       w->path, placed, all);
    if (w->current == w->tensor_count)
        return NB_OK;
    const declared *t = &w->tensors[w->current];
    return nb_fail(err, NB_ERR_ARGUMENT, "%s: tensor '%.*s' has %zu of its %zu bytes", w->path, NB_STR_ARG(t->name),
                   w->written, t->bytes);
}

nb_status nb_gguf_writer_commit(nb_gguf_writer *w, nb_error *err)
{
    nb_status status = start(w, err);
    if (status == NB_OK)
        status = check_whole(w, err);
    if (status == NB_OK)
        status = nb_writer_patch(w->file, 0, "GGUF", 4, err);
    if (status == NB_OK) {
        status = nb_writer_commit(w->file, err);
        w->file = NULL;
    }
    nb_gguf_writer_abort(w);
    return status;
}
