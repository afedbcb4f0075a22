/* Metadata of a source, encoded as in a GGUF file. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "hf/hf_internal.h"

static nb_gguf_value *slot(nb_hf *h, const char *key)
{
    for (size_t i = 0; i < h->source.value_count; i++)
        if (nb_str_eqz(h->values[i].key, key))
            return &h->values[i];
    if (h->source.value_count == h->value_cap) {
        size_t cap = h->value_cap ? h->value_cap * 2 : 64;
        nb_gguf_value *grown = realloc(h->values, cap * sizeof *grown);
        if (!grown)
            return NULL;
        h->values = grown;
        h->value_cap = cap;
        h->source.values = grown;
    }
    char *name = nb_arena_strdup(&h->arena, nb_str_of(key));
    if (!name)
        return NULL;
    nb_gguf_value *v = &h->values[h->source.value_count++];
    *v = (nb_gguf_value){.key = nb_str_of(name)};
    return v;
}

static void put(nb_hf *h, const char *key, nb_gguf_kind kind, nb_gguf_kind element, const void *bytes, size_t n,
                size_t count)
{
    unsigned char *data = nb_arena_alloc(&h->arena, n ? n : 1, 8);
    nb_gguf_value *v = data ? slot(h, key) : NULL;
    if (!v) {
        h->failed = true;
        return;
    }
    if (n)
        memcpy(data, bytes, n);
    v->kind = kind;
    v->element = element;
    v->count = count;
    v->data = data;
    v->bytes = n;
}

void nb_hf_put_u32(nb_hf *h, const char *key, uint32_t value)
{
    put(h, key, NB_GGUF_U32, NB_GGUF_U32, &value, sizeof value, 1);
}

void nb_hf_put_f32(nb_hf *h, const char *key, double value)
{
    float f = (float)value;
    put(h, key, NB_GGUF_F32, NB_GGUF_F32, &f, sizeof f, 1);
}

void nb_hf_put_bool(nb_hf *h, const char *key, bool value)
{
    unsigned char b = value;
    put(h, key, NB_GGUF_BOOL, NB_GGUF_BOOL, &b, 1, 1);
}

void nb_hf_put_str(nb_hf *h, const char *key, nb_str value)
{
    put(h, key, NB_GGUF_STRING, NB_GGUF_STRING, value.p, value.n, 1);
}

void nb_hf_put_strings(nb_hf *h, const char *key, const nb_str *values, size_t count)
{
    size_t bytes = 0, at = 0;
    for (size_t i = 0; i < count; i++)
        if (!nb_add(bytes, values[i].n + 8, &bytes)) {
            h->failed = true;
            return;
        }
    unsigned char *data = nb_arena_alloc(&h->arena, bytes ? bytes : 1, 8);
    nb_gguf_value *v = data ? slot(h, key) : NULL;
    if (!v) {
        h->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t n = values[i].n;
        memcpy(data + at, &n, 8);
        if (n)
            memcpy(data + at + 8, values[i].p, n);
        at += 8 + n;
    }
    v->kind = NB_GGUF_ARRAY;
    v->element = NB_GGUF_STRING;
    v->count = count;
    v->data = data;
    v->bytes = bytes;
}

void nb_hf_put_array(nb_hf *h, const char *key, nb_gguf_kind element, const void *values, size_t count, size_t size)
{
    put(h, key, NB_GGUF_ARRAY, element, values, count * size, count);
}

const char *nb_hf_key(nb_hf *h, const char *name)
{
    int n = snprintf(h->key, sizeof h->key, "%s.%s", h->arch->gguf, name);
    assert(n > 0 && (size_t)n < sizeof h->key);
    (void)n;
    return h->key;
}

bool nb_hf_has(const nb_hf *h, const char *key)
{
    for (size_t i = 0; i < h->source.value_count; i++)
        if (nb_str_eqz(h->values[i].key, key))
            return true;
    return false;
}
