#include "convert/merge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "convert/open.h"

typedef struct addend { /* a pair on a tensor */
    const nb_adapter_pair *pair;
    float scale;
    uint64_t first;      /* the row of the tensor that B's first is added to: queries, keys and values may be in one */
    struct addend *next; /* of the same tensor */
} addend;

typedef struct merged {
    nb_source source; /* the first member: a source is cast to its merged */
    nb_source *base;
    nb_adapter **adapters;
    size_t adapter_count;
    nb_source_tensor *tensors;
    size_t *from;     /* [tensor] of the base */
    addend **addends; /* [tensor] NULL: as it is in the base */
    nb_arena arena;
    bool keep;
} merged;

/* ---- rows ---- */

/* y += scale * B A in rows [row, row + count) of the tensor; coefficients: [count][rank]; line: [columns] */
static void add_product(const addend *a, uint64_t row, uint64_t count, size_t columns, float *coefficients, float *line,
                        float *delta)
{
    const nb_gguf_tensor *A = a->pair->a, *B = a->pair->b;
    size_t rank = (size_t)A->dims[1], a_row = A->bytes / rank, b_row = B->bytes / (size_t)B->dims[1];
    uint64_t end = row + count < a->first + B->dims[1] ? row + count : a->first + B->dims[1];
    if (row < a->first) { /* other rows' */
        delta += (size_t)(a->first - row) * columns;
        row = a->first;
    }
    if (row >= end)
        return;
    count = end - row;
    for (uint64_t r = 0; r < count; r++)
        B->type->dequantize((const char *)B->data + (row - a->first + r) * b_row, coefficients + r * rank, rank);
    for (size_t k = 0; k < rank; k++) {
        A->type->dequantize((const char *)A->data + k * a_row, line, columns);
        for (uint64_t r = 0; r < count; r++) {
            float c = a->scale * coefficients[r * rank + k], *d = delta + r * columns;
            for (size_t i = 0; i < columns; i++)
                d[i] += c * line[i];
        }
    }
}

typedef struct room { /* of one read */
    float *w, *delta, *line, *coefficients;
    void *rows; /* of the base */
} room;

static nb_status make_room(const merged *m, size_t i, uint64_t count, void **memory, room *r, nb_error *err)
{
    size_t columns = (size_t)m->tensors[i].dims[0], rank = 0, row = 0, floats = 0, bytes = 0;
    for (const addend *a = m->addends[i]; a; a = a->next)
        rank = nb_max_size(rank, (size_t)a->pair->a->dims[1]);
    bool fits = nb_type_row_bytes(m->base->tensors[m->from[i]].type, columns, &row) &&
                nb_mul((size_t)count, 2 * columns + rank, &floats) && nb_add(floats, columns, &floats) &&
                nb_mul(floats, sizeof(float), &bytes) && nb_add(bytes, (size_t)count * row + 64, &bytes);
    *memory = fits ? malloc(bytes) : NULL;
    if (!*memory)
        return nb_fail_memory(err, m->source.path, bytes);
    r->w = *memory;
    r->delta = r->w + count * columns;
    r->line = r->delta + count * columns;
    r->coefficients = r->line + columns;
    r->rows = (void *)(((uintptr_t)(r->coefficients + count * rank) + 15) & ~(uintptr_t)15);
    return NB_OK;
}

static nb_status not_finite(const merged *m, size_t i, uint64_t row, nb_error *err)
{
    return nb_fail(
        err, NB_ERR_FORMAT,
        "%s: tensor '%.*s', row %llu: with its adapters it has a value that is no finite number; the adapter or "
        "the model is damaged, or the scale too large",
        m->source.path, NB_STR_ARG(m->tensors[i].name), (unsigned long long)row);
}

static nb_status merge_rows(const merged *m, size_t i, uint64_t row, uint64_t count, const room *r, void *dst,
                            nb_error *err)
{
    const nb_source_tensor *from = &m->base->tensors[m->from[i]], *to = &m->tensors[i];
    size_t columns = (size_t)to->dims[0], in = 0, out = 0;
    nb_type_row_bytes(from->type, columns, &in);
    nb_type_row_bytes(to->type, columns, &out);
    NB_TRY(m->base->read(m->base, m->from[i], row, count, r->rows, err));
    memset(r->delta, 0, count * columns * sizeof(float));
    for (const addend *a = m->addends[i]; a; a = a->next)
        add_product(a, row, count, columns, r->coefficients, r->line, r->delta);
    for (uint64_t k = 0; k < count; k++) {
        float *x = r->w + k * columns;
        from->type->dequantize((const char *)r->rows + k * in, x, columns);
        for (size_t c = 0; c < columns; c++) {
            x[c] += r->delta[k * columns + c];
            if (!isfinite(x[c]))
                return not_finite(m, i, row + k, err);
        }
        to->type->quantize(x, NULL, columns, NB_ROUND_SEARCH, (char *)dst + k * out);
    }
    return NB_OK;
}

static const merged *of(const nb_source *s) { return (const merged *)(const void *)s; }

static nb_status read_rows(const nb_source *s, size_t i, uint64_t row, uint64_t count, void *dst, nb_error *err)
{
    const merged *m = of(s);
    void *memory = NULL;
    room r = {0};
    if (!m->addends[i])
        return m->base->read(m->base, m->from[i], row, count, dst, err);
    NB_TRY(make_room(m, i, count, &memory, &r, err));
    nb_status status = merge_rows(m, i, row, count, &r, dst, err);
    free(memory);
    return status;
}

static void forget(const nb_source *s, size_t i, uint64_t row, uint64_t count)
{
    const merged *m = of(s);
    if (m->base->forget)
        m->base->forget(m->base, m->from[i], row, count);
}

/* ---- which tensors ---- */

static nb_status wrong_shape(const merged *m, const nb_adapter *a, const nb_adapter_pair *pair, size_t i, nb_error *err)
{
    return nb_fail(
        err, NB_ERR_FORMAT,
        "%s: tensors '%.*s' and '%.*s' make a matrix of %llu x %llu, but '%.*s' of %s is %llu x %llu; give the "
        "model that the adapter was trained on",
        a->path, NB_STR_ARG(pair->a->name), NB_STR_ARG(pair->b->name), (unsigned long long)pair->a->dims[0],
        (unsigned long long)pair->b->dims[1], NB_STR_ARG(pair->name), m->base->path,
        (unsigned long long)m->tensors[i].dims[0], (unsigned long long)m->tensors[i].dims[1]);
}

static nb_status refuse(const nb_adapter *a, const nb_adapter_pair *pair, nb_error *err, const char *why)
{
    return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor '%.*s' is for '%.*s': %s", a->path, NB_STR_ARG(pair->a->name),
                   NB_STR_ARG(pair->name), why);
}

static size_t find(const merged *m, nb_str name)
{
    size_t i = 0;
    while (i < m->source.tensor_count && !nb_str_eq(m->tensors[i].name, name))
        i++;
    return i;
}

/* The tensor of that name; a head that is tied to the embedding is made one of its own. */
static size_t find_or_untie(merged *m, nb_str name)
{
    size_t i = find(m, name), n = m->source.tensor_count;
    if (i < n || !nb_str_eqz(name, "output.weight"))
        return i;
    size_t embedding = find(m, NB_STR("token_embd.weight"));
    if (embedding == n)
        return i;
    m->tensors[n] = m->tensors[embedding];
    m->tensors[n].name = NB_STR("output.weight");
    m->from[n] = m->from[embedding];
    m->source.tensor_count++;
    return n;
}

/* Of a file that has queries, keys and values in one: the tensor, and which of its rows the pair's are. The count of tensors: it
 * has none. */
static size_t find_fused(const merged *m, const nb_adapter_pair *pair, const nb_adapter_base *base, uint64_t *first,
                         uint64_t *rows)
{
    static const char *const ends[] = {".attn_q.weight", ".attn_k.weight", ".attn_v.weight"};
    char name[128];
    uint64_t heads = base->heads, kv_heads = base->kv_heads, all = heads + 2 * kv_heads;
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(ends[i]);
        if (pair->name.n <= n || pair->name.n >= 100 || memcmp(pair->name.p + pair->name.n - n, ends[i], n) != 0)
            continue;
        snprintf(name, sizeof name, "%.*s.attn_qkv.weight", (int)(pair->name.n - n), pair->name.p);
        size_t k = find(m, nb_str_of(name));
        if (k == m->source.tensor_count || heads == 0 || kv_heads == 0 || m->tensors[k].dims[1] % all != 0)
            break;
        uint64_t head = m->tensors[k].dims[1] / all;
        *first = i == 0 ? 0 : (heads + (i == 2 ? kv_heads : 0)) * head;
        *rows = (i == 0 ? heads : kv_heads) * head;
        return k;
    }
    return m->source.tensor_count;
}

static nb_status add_pair(merged *m, const nb_adapter *a, const nb_adapter_pair *pair, const nb_adapter_base *base,
                          float scale, nb_error *err)
{
    if (nb_str_eqz(pair->name, "token_embd.weight") || nb_str_eqz(pair->name, "position_embd.weight"))
        return refuse(a, pair, err, "adapters of embeddings are not supported; merge it where it was trained");
    uint64_t first = 0, rows = 0;
    size_t i = find_or_untie(m, pair->name);
    if (i == m->source.tensor_count)
        i = find_fused(m, pair, base, &first, &rows);
    if (i == m->source.tensor_count)
        return nb_fail(
            err, NB_ERR_ARGUMENT,
            "%s: tensor '%.*s' is for '%.*s', which %s does not have; give the model that the adapter was trained "
            "on (as a directory, where the file has several matrices in one)",
            a->path, NB_STR_ARG(pair->a->name), NB_STR_ARG(pair->name), m->base->path);
    nb_source_tensor *t = &m->tensors[i];
    if (t->n_dims != 2)
        return refuse(a, pair, err, "adapters of experts and vectors are not supported; merge it where it was trained");
    rows = rows ? rows : t->dims[1];
    if (t->dims[0] != pair->a->dims[0] || rows != pair->b->dims[1])
        return wrong_shape(m, a, pair, i, err);
    addend *add = NB_NEW(&m->arena, addend), **last = &m->addends[i];
    if (!add)
        return nb_fail_memory(err, a->path, sizeof *add);
    while (*last) /* in the order they were given */
        last = &(*last)->next;
    *last = add;
    *add = (addend){.pair = pair, .scale = scale * pair->scale, .first = first};
    t->data = NULL;
    if (!m->keep || !t->type->quantize)
        t->type = nb_type_get(NB_TYPE_F32);
    return isfinite(add->scale)
               ? NB_OK
               : nb_fail(err, NB_ERR_ARGUMENT, "%s: a scale of %g; give a number", a->path, (double)scale);
}

static nb_status add_adapters(merged *m, const nb_model_adapter *adapters, size_t count, nb_error *err)
{
    nb_adapter_base base;
    NB_TRY(nb_adapter_base_of(m->base->values, m->base->value_count, m->base->path, &base, err));
    for (size_t i = 0; i < count; i++) {
        NB_TRY(nb_adapter_open(adapters[i].path, &base, &m->adapters[i], err));
        m->adapter_count++;
        for (size_t k = 0; k < m->adapters[i]->count && adapters[i].scale != 0; k++)
            NB_TRY(add_pair(m, m->adapters[i], &m->adapters[i]->pairs[k], &base, adapters[i].scale, err));
    }
    return NB_OK;
}

/* ---- open and close ---- */

static void free_merged(nb_source *s)
{
    merged *m = (merged *)(void *)s;
    for (size_t i = 0; i < m->adapter_count; i++)
        nb_adapter_free(m->adapters[i]);
    nb_source_free(m->base);
    free(m->adapters);
    free(m->tensors);
    free(m->from);
    free(m->addends);
    nb_arena_free(&m->arena);
    free(m);
}

static nb_status fill(merged *m, size_t count, nb_error *err)
{
    size_t n = m->base->tensor_count + 1; /* a head of its own */
    m->source = *m->base;
    m->source.read = read_rows;
    m->source.forget = forget;
    m->source.free = free_merged;
    m->adapters = calloc(count + 1, sizeof *m->adapters);
    m->tensors = calloc(n, sizeof *m->tensors);
    m->from = calloc(n, sizeof *m->from);
    m->addends = calloc(n, sizeof *m->addends);
    if (!m->adapters || !m->tensors || !m->from || !m->addends)
        return nb_fail_memory(err, m->base->path, n * sizeof *m->tensors);
    for (size_t i = 0; i < m->base->tensor_count; i++) {
        m->tensors[i] = m->base->tensors[i];
        m->from[i] = i;
    }
    m->source.tensors = m->tensors;
    return NB_OK;
}

nb_status nb_source_merge(nb_source *base, const nb_model_adapter *adapters, size_t count, bool keep, nb_source **out,
                          nb_error *err)
{
    merged *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m) {
        nb_source_free(base);
        return nb_fail_memory(err, "a merged model", sizeof *m);
    }
    m->base = base;
    m->keep = keep;
    nb_status status = fill(m, count, err);
    if (status == NB_OK)
        status = add_adapters(m, adapters, count, err);
    if (status == NB_OK)
        *out = &m->source;
    else
        free_merged(&m->source);
    return status;
}
