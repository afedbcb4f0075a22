/* specs.h - what the tests of attention over plain arrays share: seeded parameters of every kind, and inputs made by a hash that
 * tools/make_attention_cases.py computes likewise. */
#ifndef NB_TEST_SPECS_H
#define NB_TEST_SPECS_H

#include "attention/cache.h"
#include "num/half.h"

static inline uint64_t hash_at(uint64_t seed, uint64_t i) /* splitmix64, number i of a stream */
{
    rng r = {seed + i * 0x9e3779b97f4a7c15u};
    return rng_next(&r);
}

/* About N(0, 1): the sum of four uniform numbers of 16 bits; exact in double, so the same everywhere. */
static inline float normal_at(uint64_t seed, uint64_t i)
{
    uint64_t h = hash_at(seed, i);
    double sum = (double)(h & 0xffff) + (double)(h >> 16 & 0xffff) + (double)(h >> 32 & 0xffff) + (double)(h >> 48);
    return (float)((sum - 131070) / 37837.2275);
}

/* n values of a type; the caller frees them */
static inline void *inputs(uint64_t seed, size_t n, nb_float type)
{
    float *x = malloc((n + 1) * sizeof *x);
    uint16_t *narrow = (uint16_t *)x;
    for (size_t i = 0; i < n; i++) {
        float y = normal_at(seed, i);
        if (type == NB_FLOAT_F32)
            x[i] = y;
        else
            narrow[i] = type == NB_FLOAT_F16 ? nb_f32_to_f16(y) : nb_f32_to_bf16(y);
    }
    return x;
}

/* Parameters and what they point to. */
typedef struct spec {
    nb_attention_params p;
    size_t q_count, k_count, v_count, out_count; /* values of the arrays */
    size_t *lengths;
    uint32_t *globals;
    uint8_t *mask;
    float *bias, *slopes, *sinks;
    uint64_t seed;
} spec;

/* Rows of [heads][dim], or heads of [rows][dim], with gaps now and then: packed projections. */
static inline size_t random_stride(rng *r, size_t batch, size_t heads, size_t rows, size_t dim, nb_attention_stride *s)
{
    size_t gap = rng_int(r, 0, 3) ? 0 : (size_t)rng_int(r, 1, 9), width = heads * dim + gap;
    if (rng_int(r, 0, 2)) {
        *s = (nb_attention_stride){rows * width, dim, width};
        return batch * rows * width;
    }
    *s = (nb_attention_stride){heads * (rows * dim + gap), rows * dim + gap, dim};
    return batch * heads * (rows * dim + gap);
}

static inline void random_shape(rng *r, spec *s)
{
    static const int dims[] = {1, 2, 3, 5, 8, 16, 17, 24, 32, 33, 40, 64, 80, 96, 128, 200, 256, 512};
    nb_attention_params *p = &s->p;
    size_t kv = (size_t)rng_int(r, 1, 3), group = (size_t)rng_int(r, 1, rng_int(r, 0, 5) ? 3 : 9);
    size_t dim = (size_t)dims[rng_int(r, 0, rng_int(r, 0, 5) ? 11 : 17)];
    size_t most = dim > 64 ? 60 : rng_int(r, 0, 9) ? 150 : 400;
    *p = nb_attention_defaults(kv * group, kv, dim, (size_t)rng_int(r, 1, (int)most), (size_t)rng_int(r, 1, (int)most));
    p->batch = (size_t)rng_int(r, 1, 2);
    p->v_dim = rng_int(r, 0, 2) ? dim : (size_t)dims[rng_int(r, 0, 11)];
    p->type = (nb_float)rng_int(r, 0, 2);
    s->q_count = random_stride(r, p->batch, p->heads, p->queries, p->k_dim, &p->q);
    s->k_count = random_stride(r, p->batch, p->kv_heads, p->keys, p->k_dim, &p->k);
    s->v_count = random_stride(r, p->batch, p->kv_heads, p->keys, p->v_dim, &p->v);
    s->out_count = random_stride(r, p->batch, p->heads, p->queries, p->v_dim, &p->out);
}

static inline void random_pattern(rng *r, spec *s)
{
    nb_attention_params *p = &s->p;
    p->offset = rng_int(r, 0, 2) ? p->offset : rng_int(r, -30, 60);
    p->causal = rng_int(r, 0, 1);
    if (rng_int(r, 0, 1)) {
        p->left = rng_int(r, 0, 3) ? rng_int(r, 0, 90) : -1;
        p->right = rng_int(r, 0, 1) ? rng_int(r, 0, 40) : -1;
        p->dilation = rng_int(r, 0, 1) ? 1 : (size_t)rng_int(r, 2, 9);
        p->sink_tokens = rng_int(r, 0, 2) ? 0 : (size_t)rng_int(r, 1, 70);
    }
    s->globals = malloc(8 * sizeof *s->globals);
    for (uint32_t at = (uint32_t)rng_int(r, 0, 300); at < 300 && p->global_count < 8; at += (uint32_t)rng_int(r, 1, 60))
        s->globals[p->global_count++] = at;
    p->globals = s->globals;
    if (rng_int(r, 0, 3) == 0) {
        s->lengths = malloc(p->batch * sizeof *s->lengths);
        for (size_t b = 0; b < p->batch; b++)
            s->lengths[b] = (size_t)rng_int(r, 0, (int)p->keys + 3);
        p->key_lengths = s->lengths;
    }
}

/* Masks and biases: one for all, one a head, or one a batch and head; whole rows empty or at one value now and then. */
static inline size_t random_matrix(rng *r, const nb_attention_params *p, nb_attention_stride *s)
{
    size_t one = p->queries * p->keys;
    int shared = rng_int(r, 0, 2);
    *s = (nb_attention_stride){shared == 2 ? one * p->heads : 0, shared ? one : 0, p->keys};
    return shared == 2 ? one * p->heads * p->batch : shared ? one * p->heads : one;
}

static inline void random_masks(rng *r, spec *s)
{
    nb_attention_params *p = &s->p;
    if (rng_int(r, 0, 2) == 0) {
        size_t n = random_matrix(r, p, &p->mask_stride);
        int seen = rng_int(r, 0, 9);
        p->mask = s->mask = malloc(n);
        for (size_t i = 0; i < n; i++)
            s->mask[i] = i / p->keys % 7 != 3 && rng_int(r, 0, 9) < seen ? (uint8_t)rng_int(r, 1, 255) : 0;
        p->mask_fill = rng_int(r, 0, 1) ? -INFINITY : rng_int(r, 0, 1) ? -1e9f : -1.0f;
    }
    if (rng_int(r, 0, 3) == 0) {
        size_t n = random_matrix(r, p, &p->bias_stride);
        p->bias = s->bias = malloc(n * sizeof(float));
        for (size_t i = 0; i < n; i++)
            s->bias[i] = i / p->keys % 5 == 2 ? -1e9f : rng_int(r, 0, 9) ? rng_normal(r) : -INFINITY;
    }
    if (rng_int(r, 0, 3) == 0) {
        p->slopes = s->slopes = malloc(p->heads * sizeof(float));
        nb_attention_slopes((int)p->heads, 8, s->slopes);
    }
    if (rng_int(r, 0, 3) == 0)
        p->sinks = s->sinks = rng_normals(r, p->heads);
}

static inline spec random_spec(uint64_t seed)
{
    rng r = {seed * 7919 + 1};
    spec s = {.seed = rng_next(&r)};
    random_shape(&r, &s);
    random_pattern(&r, &s);
    random_masks(&r, &s);
    s.p.softcap = rng_int(&r, 0, 4) ? 0.0f : (float)rng_int(&r, 1, 30);
    s.p.dropout = rng_int(&r, 0, 4) ? 0.0f : (float)rng_int(&r, 1, 9) / 10;
    s.p.seed = rng_next(&r);
    return s;
}

static inline void spec_free(spec *s)
{
    free(s->lengths);
    free(s->globals);
    free(s->mask);
    free(s->bias);
    free(s->slopes);
    free(s->sinks);
}

#endif
