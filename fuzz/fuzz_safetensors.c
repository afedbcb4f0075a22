/* The checkpoint reader on any bytes, as safetensors or whatever else they look like: it refuses, or its tensors lie within
 * them. Values are read through every path. */
#include <stdlib.h>

#include "format/checkpoint_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink; /* what was read is used */

static void read_values(const nb_checkpoint_tensor *t)
{
    enum { SOME = 64 };
    float x[SOME];
    unsigned char raw[SOME * 8];
    uint64_t n = t->values < SOME ? t->values : SOME, last = t->values - n;
    nb_checkpoint_read_f32(t, 0, n, x);
    nb_checkpoint_read_raw(t, 0, n, raw);
    nb_checkpoint_read_f32(t, last, n, x);
    nb_checkpoint_read_raw(t, last, n, raw);
    sink = raw[0] + (n > 0 && x[0] > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_checkpoint *c;
    nb_error err;
    if (nb_checkpoint_open_memory("fuzz", data, size, &c, &err) != NB_OK)
        return c == NULL && err.code != NB_OK && err.message[0] ? 0 : (abort(), 0);
    for (size_t i = 0; i < nb_checkpoint_count(c); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i);
        size_t reach = t->values > 0;
        for (uint32_t k = 0; k < t->n_dims && reach; k++)
            reach += (t->dims[k] - 1) * t->stride[k];
        const uint8_t *p = t->data;
        if (p < data || p > data + size || reach * nb_dtype_bytes(t->dtype) > (size_t)(data + size - p))
            abort();
        if (nb_checkpoint_find(c, t->name) != t)
            abort();
        read_values(t);
    }
    nb_checkpoint_close(c);
    return 0;
}
