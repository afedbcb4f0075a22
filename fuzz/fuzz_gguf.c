/* The GGUF parser on any bytes: it refuses or it hands out values and tensors that lie within them. */
#include <stdlib.h>

#include "format/gguf_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink; /* what was read is used */

static void inside(const nb_map *map, const void *p, size_t bytes)
{
    const unsigned char *begin = p;
    if (bytes > 0 && (begin < map->data || bytes > (size_t)(map->data + map->size - begin)))
        abort();
}

/* touches the first and last byte, so that the sanitizer has its say too */
static unsigned touch(const void *p, size_t bytes)
{
    const unsigned char *q = p;
    return bytes ? q[0] + q[bytes - 1] : 0;
}

static unsigned read_value(const nb_gguf *g, const nb_gguf_value *v)
{
    unsigned sum = touch(v->key.p, v->key.n) + touch(v->data, v->bytes);
    inside(nb_gguf_map(g, 0), v->key.p, v->key.n);
    inside(nb_gguf_map(g, 0), v->data, v->bytes);
    if (v->kind == NB_GGUF_ARRAY && v->element == NB_GGUF_STRING) {
        nb_arena arena = {0};
        nb_str *strings;
        size_t n;
        char *key = nb_arena_strdup(&arena, v->key);
        if (key && nb_gguf_get_strings(g, key, &arena, &strings, &n, NULL) == NB_OK)
            for (size_t i = 0; i < n; i++)
                sum += touch(strings[i].p, strings[i].n);
        nb_arena_free(&arena);
    } else if (v->kind != NB_GGUF_STRING && v->count > 0) {
        sum += (unsigned)nb_gguf_elem_u64(v, v->count - 1) + (nb_gguf_elem_i64(v, 0) < 0) +
               (nb_gguf_elem_f64(v, 0) < 1);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_gguf *g;
    nb_error err;
    unsigned sum = 0;
    if (nb_gguf_open_memory("fuzz.gguf", data, size, &g, &err) != NB_OK)
        return g == NULL && err.code != NB_OK && err.message[0] ? 0 : (abort(), 0);
    for (size_t i = 0; i < nb_gguf_value_count(g); i++)
        sum += read_value(g, nb_gguf_value_at(g, i));
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        inside(nb_gguf_map(g, 0), t->data, t->bytes);
        sum += touch(t->data, t->bytes);
        if (nb_gguf_find_tensor(g, t->name) != t)
            abort();
    }
    nb_gguf_close(g);
    sink = sum;
    return 0;
}
