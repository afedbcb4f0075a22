/* The restricted pickle machine behind a zip archive that is always whole: the bytes are data.pkl, beside it lie storages "0" and
 * "1" of 64 bytes. */
#include <stdlib.h>

#include "format/checkpoint_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink; /* what was read is used */

static void put(nb_buf *b, uint64_t v, size_t bytes) { nb_buf_add(b, &v, bytes); }

static void put_entry(nb_buf *b, nb_buf *directory, const char *name, const void *data, size_t size)
{
    size_t begin = b->len, n = strlen(name);
    nb_buf_add(b, "PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 26);
    put(b, n, 4);
    nb_buf_add(b, name, n);
    nb_buf_add(b, data, size);
    nb_buf_add(directory, "PK\1\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    put(directory, size, 4);
    put(directory, size, 4);
    put(directory, n, 4);
    put(directory, 0, 8);
    put(directory, 0, 2);
    put(directory, begin, 4);
    nb_buf_add(directory, name, n);
}

static void put_archive(nb_buf *b, const uint8_t *pickle, size_t size)
{
    static const unsigned char storage[64];
    nb_buf directory = {0};
    put_entry(b, &directory, "m/data.pkl", pickle, size);
    put_entry(b, &directory, "m/data/0", storage, sizeof storage);
    put_entry(b, &directory, "m/data/1", storage, sizeof storage);
    size_t at = b->len;
    nb_buf_str(b, nb_buf_view(&directory));
    nb_buf_add(b, "PK\5\6\0\0\0\0\3\0\3\0", 12);
    put(b, directory.len, 4);
    put(b, at, 4);
    put(b, 0, 2);
    nb_buf_free(&directory);
}

static void check(const nb_checkpoint_tensor *t, const nb_buf *b)
{
    float x[32];
    const char *p = t->data;
    size_t reach = t->values > 0;
    for (uint32_t k = 0; k < t->n_dims && reach; k++)
        reach += (t->dims[k] - 1) * t->stride[k];
    if (p < b->data || p > b->data + b->len || reach * nb_dtype_bytes(t->dtype) > (size_t)(b->data + b->len - p) ||
        reach * nb_dtype_bytes(t->dtype) > 64)
        abort();
    uint64_t n = t->values < 32 ? t->values : 32;
    nb_checkpoint_read_f32(t, t->values - n, n, x);
    sink = n > 0 && x[0] > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_buf b = {0};
    nb_checkpoint *c;
    nb_error err;
    put_archive(&b, data, size);
    nb_status status = nb_checkpoint_open_memory("fuzz", b.data, b.len, &c, &err);
    if (status != NB_OK && (c || err.code == NB_OK || !err.message[0]))
        abort();
    for (size_t i = 0; status == NB_OK && i < nb_checkpoint_count(c); i++)
        check(nb_checkpoint_at(c, i), &b);
    nb_checkpoint_close(c);
    nb_buf_free(&b);
    return 0;
}
