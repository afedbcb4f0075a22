#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>

#include "base/json_read.h"
#include "format/checkpoint_parse.h"
#include "format/gguf_parse.h"

/* Eight bytes of length, a JSON object {"NAME": {"dtype", "shape", "data_offsets": [begin, end]}, ..., "__metadata__": {...}}, then
 * the data. As the format's own reader does, data is taken to be without holes and overlaps, so that a file has one meaning
 * and hides nothing. */

enum { LENGTH_BYTES = 8 };

typedef struct span {
    uint64_t begin, end; /* behind the header */
    size_t at;           /* of the tensor's name, for messages */
    uint32_t tensor;
} span;

typedef struct header {
    nb_checkpoint *c;
    const nb_checkpoint_file *file;
    nb_json_reader json;
    span *spans;
    size_t count, capacity;
    uint64_t data_at; /* in the file */
} header;

typedef struct entry {
    nb_str name;
    size_t at; /* of the name in the text */
    bool dtype, shape, offsets;
} entry;

#define FAIL(h, e, code, what, ...)                                                                                    \
    nb_json_read_fail(&(h)->json, (e)->at, code, "tensor '%.*s' " what, NB_STR_ARG((e)->name), __VA_ARGS__)

/* ---- one tensor ---- */

static void read_dtype(header *h, entry *e, nb_checkpoint_tensor *t)
{
    size_t at = h->json.at;
    nb_str name = nb_json_read_str(&h->json);
    if (h->json.status == NB_OK && !nb_dtype_by_name(name, &t->dtype))
        nb_json_read_fail(&h->json, at, NB_ERR_UNSUPPORTED,
                          "tensor '%.*s' has the dtype '%.*s', which is not read here; save it as F32, F16 or BF16",
                          NB_STR_ARG(e->name), (int)nb_min_size(name.n, 20), name.p);
    e->dtype = true;
}

static void read_shape(header *h, entry *e, nb_checkpoint_tensor *t)
{
    nb_json_read_enter(&h->json, '[');
    while (nb_json_read_more(&h->json)) {
        uint64_t n = nb_json_read_u64(&h->json);
        if (t->n_dims == NB_CHECKPOINT_DIMS)
            FAIL(h, e, NB_ERR_UNSUPPORTED, "has more than %d dimensions" NB_CHECKPOINT_WRITER, NB_CHECKPOINT_DIMS);
        else
            t->dims[t->n_dims++] = n;
        if (h->json.status != NB_OK)
            return;
    }
    e->shape = true;
}

static void read_offsets(header *h, entry *e, span *s)
{
    uint64_t ends[2] = {0, 0};
    size_t n = 0;
    nb_json_read_enter(&h->json, '[');
    while (nb_json_read_more(&h->json)) {
        uint64_t x = nb_json_read_u64(&h->json);
        if (n < 2)
            ends[n] = x;
        n++;
    }
    if (n != 2)
        FAIL(h, e, NB_ERR_FORMAT, "has %zu data_offsets, not 2" NB_CHECKPOINT_DAMAGED, n);
    s->begin = ends[0];
    s->end = ends[1];
    e->offsets = true;
}

static void check_entry(header *h, const entry *e, nb_checkpoint_tensor *t, const span *s)
{
    uint64_t room = h->file->map.size - h->data_at;
    if (!e->dtype || !e->shape || !e->offsets)
        FAIL(h, e, NB_ERR_FORMAT, "has no %s" NB_CHECKPOINT_DAMAGED,
             !e->dtype   ? "dtype"
             : !e->shape ? "shape"
                         : "data_offsets");
    else if (!nb_checkpoint_shape(t))
        FAIL(h, e, NB_ERR_FORMAT, "has a shape that is too large%s", NB_CHECKPOINT_DAMAGED);
    else if (s->begin > s->end)
        FAIL(h, e, NB_ERR_FORMAT, "ends at %" PRIu64 ", before it begins at %" PRIu64 NB_CHECKPOINT_DAMAGED, s->end,
             s->begin);
    else if (s->end - s->begin != t->values * nb_dtype_bytes(t->dtype))
        FAIL(h, e, NB_ERR_FORMAT,
             "has %" PRIu64 " bytes, but its shape and dtype %s make %" PRIu64 NB_CHECKPOINT_DAMAGED, s->end - s->begin,
             nb_dtype_name(t->dtype), t->values * nb_dtype_bytes(t->dtype));
    else if (s->end > room)
        FAIL(h, e, NB_ERR_FORMAT, "ends at %" PRIu64 " of the data, but the file has %" PRIu64 NB_CHECKPOINT_TRUNCATED,
             s->end, room);
}

static void read_fields(header *h, entry *e, nb_checkpoint_tensor *t, span *s)
{
    nb_json_read_enter(&h->json, '{');
    while (nb_json_read_more(&h->json)) {
        size_t at = h->json.at;
        nb_str key = nb_json_read_key(&h->json);
        bool dtype = nb_str_eqz(key, "dtype"), shape = nb_str_eqz(key, "shape"),
             offsets = nb_str_eqz(key, "data_offsets");
        if ((dtype && e->dtype) || (shape && e->shape) || (offsets && e->offsets))
            nb_json_read_fail(&h->json, at, NB_ERR_FORMAT, "tensor '%.*s' has '%.*s' twice" NB_CHECKPOINT_DAMAGED,
                              NB_STR_ARG(e->name), NB_STR_ARG(key));
        else if (dtype)
            read_dtype(h, e, t);
        else if (shape)
            read_shape(h, e, t);
        else if (offsets)
            read_offsets(h, e, s);
        else
            nb_json_read_skip(&h->json); /* as the format's own reader does */
    }
}

static span *new_span(header *h)
{
    if (h->count == h->capacity) {
        size_t capacity = h->capacity ? h->capacity * 2 : 256;
        span *grown = realloc(h->spans, capacity * sizeof *grown);
        if (!grown) {
            h->json.status = nb_fail_memory(h->json.err, h->file->path, capacity * sizeof *grown);
            return NULL;
        }
        h->spans = grown;
        h->capacity = capacity;
    }
    return &h->spans[h->count++];
}

static void read_tensor(header *h, nb_str name, size_t at)
{
    entry e = {.name = name, .at = at};
    const char *problem = nb_gguf_name_problem(name, NB_CHECKPOINT_MAX_NAME);
    if (problem) {
        nb_json_read_fail(&h->json, at, NB_ERR_FORMAT, "the tensor name that starts here %s" NB_CHECKPOINT_WRITER,
                          problem);
        return;
    }
    nb_checkpoint_tensor *t = nb_checkpoint_add(h->c, h->file, h->json.base + at, &h->json.status, h->json.err);
    span *s = t ? new_span(h) : NULL;
    if (!s)
        return;
    t->name = name;
    *s = (span){.at = h->json.base + at, .tensor = (uint32_t)(h->c->count - 1)};
    read_fields(h, &e, t, s);
    if (h->json.status == NB_OK)
        check_entry(h, &e, t, s);
    if (h->json.status == NB_OK)
        t->data = h->file->map.data + h->data_at + s->begin;
}

/* ---- metadata ---- */

static void read_metadata(header *h, size_t at)
{
    nb_checkpoint *c = h->c;
    bool first = h->file == c->files;
    size_t n = 0;
    if (first && !c->metadata)
        c->metadata = nb_arena_array(&c->arena, NB_CHECKPOINT_MAX_METADATA, sizeof *c->metadata);
    nb_json_read_enter(&h->json, '{');
    while (nb_json_read_more(&h->json)) {
        size_t key_at = h->json.at;
        nb_str key = nb_json_read_key(&h->json), value = nb_json_read_str(&h->json);
        if (n == NB_CHECKPOINT_MAX_METADATA)
            nb_json_read_fail(&h->json, at, NB_ERR_LIMIT, "__metadata__ has more than %d keys" NB_CHECKPOINT_WRITER,
                              NB_CHECKPOINT_MAX_METADATA);
        for (size_t i = 0; first && c->metadata && i < c->metadata_count && h->json.status == NB_OK; i++)
            if (nb_str_eq(c->metadata[i].key, key))
                nb_json_read_fail(&h->json, key_at, NB_ERR_FORMAT, "a key of __metadata__ is there twice%s",
                                  NB_CHECKPOINT_DAMAGED);
        if (h->json.status == NB_OK && first && c->metadata)
            c->metadata[c->metadata_count++] = (nb_checkpoint_pair){key, value};
        n++;
    }
    if (first && !c->metadata && h->json.status == NB_OK)
        h->json.status = nb_fail_memory(h->json.err, h->file->path, NB_CHECKPOINT_MAX_METADATA * sizeof *c->metadata);
}

/* ---- the whole ---- */

static int compare_spans(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static nb_status check_spans(header *h, nb_error *err)
{
    uint64_t end = 0, size = h->file->map.size - h->data_at;
    bool sorted = true; /* as most files are */
    for (size_t i = 1; i < h->count && sorted; i++)
        sorted = compare_spans(&h->spans[i - 1], &h->spans[i]) <= 0;
    if (!sorted)
        qsort(h->spans, h->count, sizeof *h->spans, compare_spans);
    for (size_t i = 0; i < h->count; i++) {
        const span *s = &h->spans[i];
        if (s->begin != end)
            return nb_fail_at(h->file->path, s->at, err, NB_ERR_FORMAT,
                              "tensor '%.*s' begins at %" PRIu64
                              " of the data, %s the one before it that ends at %" PRIu64 NB_CHECKPOINT_DAMAGED,
                              NB_STR_ARG(h->c->tensors[s->tensor].name), s->begin,
                              s->begin < end ? "overlapping" : "with a hole behind", end);
        end = s->end;
    }
    return end == size
               ? NB_OK
               : nb_fail_at(h->file->path, h->data_at + end, err, NB_ERR_FORMAT,
                            "%" PRIu64 " bytes follow the last tensor, which no tensor owns" NB_CHECKPOINT_DAMAGED,
                            size - end);
}

static void read_header(header *h)
{
    bool metadata = false;
    if (h->json.text.n == 0 || h->json.text.p[0] != '{') /* no white space before it */
        nb_json_read_fail(&h->json, 0, NB_ERR_FORMAT, "the header does not begin with '{'%s", NB_CHECKPOINT_DAMAGED);
    nb_json_read_enter(&h->json, '{');
    while (nb_json_read_more(&h->json)) {
        nb_json_read_peek(&h->json); /* over white space: the name's own place is meant */
        size_t at = h->json.at;
        nb_str name = nb_json_read_key(&h->json);
        if (h->json.status != NB_OK)
            return;
        if (!nb_str_eqz(name, "__metadata__"))
            read_tensor(h, name, at);
        else if (metadata)
            nb_json_read_fail(&h->json, at, NB_ERR_FORMAT, "__metadata__ is there twice%s", NB_CHECKPOINT_DAMAGED);
        else
            read_metadata(h, at);
        metadata = metadata || nb_str_eqz(name, "__metadata__");
    }
    nb_json_read_end(&h->json);
}

nb_status nb_safetensors_parse(nb_checkpoint *c, const nb_checkpoint_file *f, nb_error *err)
{
    uint64_t n = 0;
    if (f->map.size < LENGTH_BYTES)
        return nb_fail_at(f->path, f->map.size, err, NB_ERR_FORMAT, "the header's length needs 8 bytes%s",
                          NB_CHECKPOINT_TRUNCATED);
    memcpy(&n, f->map.data, LENGTH_BYTES);
    if (n > f->map.size - LENGTH_BYTES)
        return nb_fail_at(f->path, 0, err, NB_ERR_FORMAT,
                          "the header has %" PRIu64
                          " bytes, but the file ends after %zu more; it is truncated or not a "
                          "safetensors file: get it again",
                          n, f->map.size - LENGTH_BYTES);
    c->header_bytes += n < NB_CHECKPOINT_MAX_HEADER ? n : 0;
    if (n > NB_CHECKPOINT_MAX_HEADER || c->header_bytes > NB_CHECKPOINT_MAX_HEADERS)
        return nb_fail_at(f->path, 0, err, NB_ERR_LIMIT,
                          "the header has %" PRIu64
                          " bytes; %d of one file and %d of all shards are read" NB_CHECKPOINT_WRITER,
                          n, NB_CHECKPOINT_MAX_HEADER, NB_CHECKPOINT_MAX_HEADERS);
    nb_str text = {(const char *)f->map.data + LENGTH_BYTES, (size_t)n};
    header h = {.c = c, .file = f, .json = nb_json_read_begin(f->path, text, &c->arena, err)};
    h.json.base = LENGTH_BYTES;
    h.data_at = LENGTH_BYTES + n;
    read_header(&h);
    nb_status status = h.json.status;
    if (status == NB_OK)
        status = check_spans(&h, err);
    free(h.spans);
    return status;
}
