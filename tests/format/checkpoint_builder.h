/* checkpoint_builder.h - builds checkpoints byte by byte, right or wrong, for the tests; shares nothing with the product's writer.
 * `bad` is the byte an error has to name. */
#ifndef NB_TESTS_CHECKPOINT_BUILDER_H
#define NB_TESTS_CHECKPOINT_BUILDER_H

#include "gguf_builder.h"

/* ---- safetensors: length, header, data; '@' in the header is taken out and marks the byte ---- */
static inline void put_safetensors(builder *x, const char *header, size_t data)
{
    put_u64(x, strlen(header) - (strchr(header, '@') != NULL));
    for (const char *p = header; *p; p++) {
        if (*p == '@')
            mark(x);
        else
            nb_buf_char(&x->b, *p);
    }
    put_data(x, 1, data);
}

/* ---- zip archives ---- */
typedef struct zip_entry {
    const char *name;
    const char *data;
    size_t bytes;
    /* what may be wrong: */
    unsigned flags, method;
    uint32_t packed;   /* 0: bytes */
    uint32_t begin;    /* 0: where it is */
    const char *local; /* name in its own header; NULL: the same */
    const char *extra; /* in the directory */
    size_t extra_bytes;
    size_t at;         /* out: of its data */
    size_t central_at; /* out: in the directory */
} zip_entry;

static inline void put_u16(builder *x, unsigned v)
{
    uint16_t u = (uint16_t)v;
    put_bytes(x, &u, 2);
}

static inline void put_zip_local(builder *x, zip_entry *e)
{
    const char *name = e->local ? e->local : e->name;
    e->begin = e->begin ? e->begin : (uint32_t)x->b.len;
    put_bytes(x, "PK\3\4\0\0", 6);
    put_u16(x, e->flags);
    put_u16(x, e->method);
    put_bytes(x, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    put_u16(x, (unsigned)strlen(name));
    put_u16(x, 0);
    put_bytes(x, name, strlen(name));
    e->at = x->b.len;
    put_bytes(x, e->data, e->bytes);
}

static inline void put_zip_central(builder *x, zip_entry *e)
{
    e->central_at = x->b.len;
    put_bytes(x, "PK\1\2\0\0\0\0", 8);
    put_u16(x, e->flags);
    put_u16(x, e->method);
    put_bytes(x, "\0\0\0\0\0\0\0\0", 8);
    put_u32(x, e->packed ? e->packed : (uint32_t)e->bytes);
    put_u32(x, (uint32_t)e->bytes);
    put_u16(x, (unsigned)strlen(e->name));
    put_u16(x, (unsigned)e->extra_bytes);
    put_bytes(x, "\0\0\0\0\0\0\0\0\0\0", 10);
    put_u32(x, e->begin);
    put_bytes(x, e->name, strlen(e->name));
    put_bytes(x, e->extra, e->extra_bytes);
}

static inline void put_zip_end(builder *x, unsigned count, size_t at, size_t bytes)
{
    put_bytes(x, "PK\5\6\0\0\0\0", 8);
    put_u16(x, count);
    put_u16(x, count);
    put_u32(x, (uint32_t)bytes);
    put_u32(x, (uint32_t)at);
    put_u16(x, 0);
}

static inline void put_zip(builder *x, zip_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_zip_local(x, &entries[i]);
    size_t at = x->b.len;
    for (size_t i = 0; i < count; i++)
        put_zip_central(x, &entries[i]);
    put_zip_end(x, (unsigned)count, at, x->b.len - at);
}

/* ---- pickles ---- */
static inline void put_op(builder *x, const char *ops) { put_bytes(x, ops, strlen(ops)); }

static inline void put_text(builder *x, const char *s)
{
    nb_buf_char(&x->b, 'X');
    put_u32(x, (uint32_t)strlen(s));
    put_op(x, s);
}

static inline void put_int(builder *x, int64_t i)
{
    put_bytes(x, "\x8a\x08", 2);
    put_bytes(x, &i, 8);
}

static inline void put_tuple(builder *x, const int64_t *v, size_t n)
{
    put_op(x, "(");
    for (size_t i = 0; i < n; i++)
        put_int(x, v[i]);
    put_op(x, "t");
}

/* a storage by its persistent id */
static inline void put_storage(builder *x, const char *type, const char *key, int64_t values)
{
    put_op(x, "(");
    put_text(x, "storage");
    put_op(x, "ctorch\n");
    put_op(x, type);
    put_op(x, "\n");
    put_text(x, key);
    put_text(x, "cpu");
    put_int(x, values);
    put_op(x, "tQ");
}

/* a tensor of two dimensions over that storage; marks the byte of the call that makes it */
static inline void put_tensor(builder *x, const char *key, int64_t values, int64_t offset, int64_t rows,
                              int64_t columns, int64_t row_step, int64_t column_step)
{
    put_op(x, "ctorch._utils\n_rebuild_tensor_v2\n(");
    put_storage(x, "FloatStorage", key, values);
    put_int(x, offset);
    put_tuple(x, (int64_t[]){rows, columns}, 2);
    put_tuple(x, (int64_t[]){row_step, column_step}, 2);
    put_op(x, "\x89}t");
    mark(x);
    put_op(x, "R");
}

/* The archive of a pickle and a storage "0" of six floats; `bad` becomes a byte of the file. */
static inline void put_torch(builder *x, const builder *pickle)
{
    static const char floats[24];
    zip_entry entries[] = {
        {.name = "m/data.pkl", .data = pickle->b.data ? pickle->b.data : "", .bytes = pickle->b.len},
        {.name = "m/data/0", .data = floats, .bytes = sizeof floats},
    };
    put_zip(x, entries, 2);
    x->bad = entries[0].at + pickle->bad;
}

#endif
