/* gguf_builder.h - builds GGUF files byte by byte, right or wrong, for the tests; shares nothing with the product's
 * writer. `bad` is the byte an error has to name. */
#ifndef NB_TESTS_GGUF_BUILDER_H
#define NB_TESTS_GGUF_BUILDER_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/folder.h"

typedef struct builder {
    nb_buf b;
    size_t bad;
    uint64_t file_bytes; /* when larger than what was built: the file is extended by a hole */
} builder;

static inline void put_u32(builder *x, uint32_t v) { nb_buf_add(&x->b, &v, 4); }
static inline void put_u64(builder *x, uint64_t v) { nb_buf_add(&x->b, &v, 8); }
static inline void put_bytes(builder *x, const void *p, size_t n) { nb_buf_add(&x->b, p, n); }
static inline void mark(builder *x) { x->bad = x->b.len; }

static inline void put_str_n(builder *x, const char *s, size_t n)
{
    put_u64(x, n);
    put_bytes(x, s, n);
}

static inline void put_str(builder *x, const char *s) { put_str_n(x, s, strlen(s)); }

static inline void put_header(builder *x, uint32_t version, uint64_t tensors, uint64_t values)
{
    put_bytes(x, "GGUF", 4);
    put_u32(x, version);
    put_u64(x, tensors);
    put_u64(x, values);
}

static inline void put_key(builder *x, const char *key, uint32_t kind)
{
    put_str(x, key);
    put_u32(x, kind);
}

static inline void put_key_u32(builder *x, const char *key, uint32_t v)
{
    put_key(x, key, 4);
    put_u32(x, v);
}

static inline void put_key_array(builder *x, const char *key, uint32_t element, uint64_t count)
{
    put_key(x, key, 9);
    put_u32(x, element);
    put_u64(x, count);
}

/* a tensor's entry of up to two dimensions; columns 0: no dimension at all */
static inline void put_info(builder *x, const char *name, uint64_t columns, uint64_t rows, uint32_t type,
                            uint64_t offset)
{
    put_str(x, name);
    put_u32(x, rows ? 2 : columns ? 1 : 0);
    if (columns)
        put_u64(x, columns);
    if (rows)
        put_u64(x, rows);
    put_u32(x, type);
    put_u64(x, offset);
}

/* zeros up to a multiple of `alignment`, then `bytes` more of them */
static inline void put_data(builder *x, size_t alignment, size_t bytes)
{
    while (x->b.len % alignment)
        nb_buf_char(&x->b, 0);
    while (bytes--)
        nb_buf_char(&x->b, 0);
}

/* false when the file could not be written */
static inline bool builder_save(const builder *x, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || x->b.failed)
        return false;
    bool ok = write(fd, x->b.data ? x->b.data : "", x->b.len) == (ssize_t)x->b.len;
    ok = ok && (x->file_bytes <= x->b.len || ftruncate(fd, (off_t)x->file_bytes) == 0);
    return close(fd) == 0 && ok;
}

#endif
