#include "format/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

nb_status nb_adapter_new(const char *path, nb_str architecture, nb_adapter **out, nb_error *err)
{
    nb_adapter *a = *out = calloc(1, sizeof *a);
    if (!a)
        return nb_fail_memory(err, path, sizeof *a);
    a->path = nb_arena_strdup(&a->arena, nb_str_of(path));
    a->architecture = (nb_str){nb_arena_strdup(&a->arena, architecture), architecture.n};
    if (a->path && a->architecture.p)
        return NB_OK;
    nb_adapter_free(a);
    *out = NULL;
    return nb_fail_memory(err, path, strlen(path));
}

void nb_adapter_free(nb_adapter *a)
{
    if (!a)
        return;
    free(a->pairs);
    nb_arena_free(&a->arena);
    if (a->release)
        a->release(a->owner);
    free(a);
}

/* ---- pairs ---- */

static nb_status check_matrix(const nb_adapter *a, const nb_gguf_tensor *t, nb_error *err)
{
    if (t->n_dims != 2 || t->dims[0] == 0 || t->dims[1] == 0 || t->dims[0] > INT32_MAX || t->dims[1] > INT32_MAX)
        return nb_fail(
            err, NB_ERR_FORMAT,
            "%s: tensor '%.*s' has %u dimensions, the first of %llu: a matrix with values is expected; adapters "
            "of expert tensors are not supported, others are damaged: get the file again",
            a->path, NB_STR_ARG(t->name), t->n_dims, (unsigned long long)t->dims[0]);
    if (!t->type->dequantize)
        return nb_fail(
            err, NB_ERR_UNSUPPORTED,
            "%s: tensor '%.*s' has type %s, which cannot be computed with; convert the adapter to F32, F16 or "
            "BF16",
            a->path, NB_STR_ARG(t->name), t->type->name);
    return NB_OK;
}

nb_status nb_adapter_add(nb_adapter *a, nb_adapter_pair pair, nb_error *err)
{
    NB_TRY(check_matrix(a, pair.a, err));
    NB_TRY(check_matrix(a, pair.b, err));
    if (pair.a->dims[1] != pair.b->dims[0])
        return nb_fail(
            err, NB_ERR_FORMAT,
            "%s: tensor '%.*s' has rank %llu, but '%.*s' has %llu columns; the file is damaged or of another "
            "form: get it again",
            a->path, NB_STR_ARG(pair.a->name), (unsigned long long)pair.a->dims[1], NB_STR_ARG(pair.b->name),
            (unsigned long long)pair.b->dims[0]);
    if (!isfinite(pair.scale))
        return nb_fail(err, NB_ERR_FORMAT, "%s: the scale of tensor '%.*s' is %g; alpha must be a number", a->path,
                       NB_STR_ARG(pair.a->name), (double)pair.scale);
    if (a->count == a->capacity) {
        size_t capacity = a->capacity ? 2 * a->capacity : 256;
        nb_adapter_pair *pairs = realloc(a->pairs, capacity * sizeof *pairs);
        if (!pairs)
            return nb_fail_memory(err, a->path, capacity * sizeof *pairs);
        a->pairs = pairs;
        a->capacity = capacity;
    }
    a->pairs[a->count++] = pair;
    return NB_OK;
}

/* ---- the model it is for ---- */

static const nb_gguf_value *find(const nb_gguf_value *values, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (nb_str_eqz(values[i].key, key))
            return &values[i];
    return NULL;
}

static const nb_gguf_value *find_of(const nb_gguf_value *values, size_t count, nb_str architecture, const char *name)
{
    char key[128];
    int n = snprintf(key, sizeof key, "%.*s.%s", NB_STR_ARG(architecture), name);
    return n > 0 && (size_t)n < sizeof key ? find(values, count, key) : NULL;
}

/* 0: no number, or one a layer */
static uint64_t number_of(const nb_gguf_value *v)
{
    if (!v || v->kind == NB_GGUF_STRING || v->kind == NB_GGUF_ARRAY)
        return 0;
    nb_gguf_value one = *v;
    one.element = v->kind;
    double x = nb_gguf_elem_f64(&one, 0);
    return x >= 1 && x <= 1 << 20 ? (uint64_t)x : 0;
}

nb_status nb_adapter_base_of(const nb_gguf_value *values, size_t count, const char *path, nb_adapter_base *out,
                             nb_error *err)
{
    const nb_gguf_value *v = find(values, count, "general.architecture");
    *out = (nb_adapter_base){0};
    if (!v || v->kind != NB_GGUF_STRING)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: general.architecture is missing: this file does not say what model it holds", path);
    out->architecture = (nb_str){(const char *)v->data, v->bytes};
    const nb_gguf_value *kv = find_of(values, count, out->architecture, "attention.head_count_kv");
    out->heads = number_of(find_of(values, count, out->architecture, "attention.head_count"));
    out->kv_heads = kv ? number_of(kv) : out->heads;
    return NB_OK;
}

/* ---- GGUF ---- */

/* A string key must be there and say `wanted`. */
static nb_status expect(const nb_gguf *g, const char *key, const char *wanted, const char *remedy, nb_error *err)
{
    nb_str value = {0};
    if (nb_gguf_get_str(g, key, &value, NULL) != NB_OK)
        return nb_fail(err, NB_ERR_FORMAT, "%s: has no %s: this GGUF file is no adapter; %s", nb_gguf_path(g), key,
                       remedy);
    if (!nb_str_eqz(value, wanted))
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: %s is \"%.*s\", not \"%s\"; %s", nb_gguf_path(g), key,
                       NB_STR_ARG(value), wanted, remedy);
    return NB_OK;
}

static nb_status check_metadata(const nb_gguf *g, const nb_adapter_base *base, double *alpha, nb_error *err)
{
    nb_str architecture = {0};
    NB_TRY(expect(g, "general.type", "adapter", "give a model as the model, and its adapters with --adapter", err));
    NB_TRY(expect(g, "adapter.type", "lora", "only LoRA adapters are applied", err));
    if (nb_gguf_get_str(g, "general.architecture", &architecture, NULL) != NB_OK)
        return nb_fail(err, NB_ERR_FORMAT, "%s: general.architecture is missing; convert the adapter again",
                       nb_gguf_path(g));
    if (!nb_str_eq(architecture, base->architecture))
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "%s: is an adapter of a %.*s model, and this model is %.*s; give the one it "
                       "was trained on",
                       nb_gguf_path(g), NB_STR_ARG(architecture), NB_STR_ARG(base->architecture));
    if (nb_gguf_find(g, "adapter.alora.invocation_tokens"))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: has adapter.alora.invocation_tokens: it is active only after these tokens, which is not "
                       "supported; train a plain LoRA",
                       nb_gguf_path(g));
    NB_TRY(nb_gguf_get_f64(g, "adapter.lora.alpha", alpha, err));
    if (!isfinite(*alpha))
        return nb_fail(err, NB_ERR_FORMAT, "%s: adapter.lora.alpha is %g, not a number; convert the adapter again",
                       nb_gguf_path(g), *alpha);
    return NB_OK;
}

/* The tensor of that name and end. */
static const nb_gguf_tensor *find_part(const nb_gguf *g, nb_str name, const char *end)
{
    char full[256];
    int n = snprintf(full, sizeof full, "%.*s%s", NB_STR_ARG(name), end);
    return n > 0 && (size_t)n < sizeof full ? nb_gguf_find_tensor(g, (nb_str){full, (size_t)n}) : NULL;
}

static nb_status add_tensor(nb_adapter *a, const nb_gguf *g, const nb_gguf_tensor *t, double alpha, nb_error *err)
{
    static const char a_end[] = ".lora_a", b_end[] = ".lora_b";
    size_t end = sizeof a_end - 1;
    nb_str name = {t->name.p, t->name.n > end ? t->name.n - end : 0};
    bool is_a = name.n && memcmp(name.p + name.n, a_end, end) == 0;
    bool is_b = name.n && memcmp(name.p + name.n, b_end, end) == 0;
    if (!is_a && !is_b)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: tensor '%.*s' is no .lora_a or .lora_b: whole tensors in adapters are not supported; merge "
                       "the adapter where it was trained, and convert the model",
                       nb_gguf_path(g), NB_STR_ARG(t->name));
    const nb_gguf_tensor *other = find_part(g, name, is_a ? b_end : a_end);
    if (!other)
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' is there, but '%.*s%s' is not; get the adapter again",
                       nb_gguf_path(g), NB_STR_ARG(t->name), NB_STR_ARG(name), is_a ? b_end : a_end);
    if (is_b)
        return NB_OK; /* with its A */
    double rank = (double)(t->dims[1] ? t->dims[1] : 1);
    float scale = alpha == 0 ? 1 : (float)(alpha / rank); /* 0 stands for "not given", as llama.cpp has it */
    return nb_adapter_add(a, (nb_adapter_pair){name, t, other, scale}, err);
}

static void close_gguf(void *owner) { nb_gguf_close(owner); }

static nb_status fill(nb_adapter *a, const nb_gguf *g, double alpha, nb_error *err)
{
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++)
        NB_TRY(add_tensor(a, g, nb_gguf_tensor_at(g, i), alpha, err));
    if (a->count == 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensors; convert the adapter again", a->path);
    return NB_OK;
}

nb_status nb_adapter_open_gguf(const char *path, const nb_adapter_base *base, nb_adapter **out, nb_error *err)
{
    nb_gguf *g;
    double alpha = 0;
    *out = NULL;
    NB_TRY(nb_gguf_open(path, &g, err));
    nb_status status = check_metadata(g, base, &alpha, err);
    nb_adapter *a = NULL;
    if (status == NB_OK)
        status = nb_adapter_new(path, base->architecture, &a, err);
    if (status != NB_OK) {
        nb_gguf_close(g);
        return status;
    }
    a->owner = g;
    a->release = close_gguf;
    status = fill(a, g, alpha, err);
    if (status == NB_OK)
        *out = a;
    else
        nb_adapter_free(a);
    return status;
}
