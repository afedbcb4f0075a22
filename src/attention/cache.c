/* A cache of one sequence's keys and values for callers of the library, and attention of its last positions. */
#include <stdlib.h>

#include "attention/flash.h"
#include "attention/kv.h"
#include "attention/rule.h"

struct nb_kv_cache {
    nb_kv_layout layout;
    size_t capacity, length, page_bytes, page_count;
    char *store;
    void **pages;
};

nb_status nb_kv_cache_new(const char *type, size_t kv_heads, size_t k_dim, size_t v_dim, size_t capacity,
                          nb_kv_cache **cache, nb_error *err)
{
    static const struct {
        const char *name;
        nb_type type;
    } types[] = {{"f32", NB_TYPE_F32},
                 {"f16", NB_TYPE_F16},
                 {"bf16", NB_TYPE_BF16},
                 {"q8_0", NB_TYPE_Q8_0},
                 {"q4_0", NB_TYPE_Q4_0}};
    *cache = NULL;
    nb_kv_layout layout = {NB_TYPE_F32, (int)nb_min_size(kv_heads, 1 << 20), (int)nb_min_size(k_dim, 1 << 20),
                           (int)nb_min_size(v_dim, 1 << 20)};
    size_t i = 0, count = sizeof types / sizeof *types;
    while (i < count && strcmp(types[i].name, type) != 0)
        i++;
    if (i == count)
        return nb_fail(err, NB_ERR_ARGUMENT, "cache: '%.32s' is not a type; give f32, f16, bf16, q8_0 or q4_0", type);
    layout.type = types[i].type;
    if (!nb_kv_layout_ok(&layout))
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "cache: %zu heads of %zu and %zu in %s: give 1 or more heads, dims of 1 to 1024, for q8_0 "
                       "and q4_0 multiples of 32",
                       kv_heads, k_dim, v_dim, type);
    size_t bytes, pages = capacity / NB_PAGE + (capacity % NB_PAGE != 0), page_bytes = nb_kv_page_bytes(&layout);
    if (capacity < 1 || capacity > (size_t)1 << 40 || !nb_mul(pages, page_bytes, &bytes))
        return nb_fail(err, NB_ERR_ARGUMENT, "cache: a capacity of %zu positions", capacity);
    nb_kv_cache *c = calloc(1, sizeof *c);
    void **list = malloc(pages * sizeof *list);
    char *store = nb_pages_alloc(bytes);
    if (!c || !list || !store) {
        free(c);
        free(list);
        if (store)
            nb_pages_free(store, bytes);
        return nb_fail_memory(err, "a cache of keys and values", bytes);
    }
    *c = (nb_kv_cache){layout, capacity, 0, page_bytes, pages, store, list};
    for (size_t p = 0; p < pages; p++)
        list[p] = store + p * page_bytes;
    *cache = c;
    return NB_OK;
}

void nb_kv_cache_free(nb_kv_cache *cache)
{
    if (!cache)
        return;
    nb_pages_free(cache->store, cache->page_count * cache->page_bytes);
    free(cache->pages);
    free(cache);
}

nb_status nb_kv_cache_append(nb_kv_cache *cache, const float *k, const float *v, size_t count, nb_error *err)
{
    size_t heads = (size_t)cache->layout.kv_heads;
    size_t k_row = heads * (size_t)cache->layout.k_dim, v_row = heads * (size_t)cache->layout.v_dim;
    if (count > cache->capacity - cache->length)
        return nb_fail(err, NB_ERR_LIMIT, "cache: %zu positions more do not fit: %zu of %zu are taken", count,
                       cache->length, cache->capacity);
    for (size_t i = 0; i < count; i++, cache->length++)
        nb_kv_store(&cache->layout, cache->pages[cache->length / NB_PAGE], (int)(cache->length % NB_PAGE),
                    k + i * k_row, v + i * v_row, 0, cache->layout.kv_heads);
    return NB_OK;
}

size_t nb_kv_cache_length(const nb_kv_cache *cache) { return cache->length; }

size_t nb_kv_cache_bytes(const nb_kv_cache *cache)
{
    return (cache->length + NB_PAGE - 1) / NB_PAGE * cache->page_bytes;
}

void nb_kv_cache_truncate(nb_kv_cache *cache, size_t length) { cache->length = nb_min_size(cache->length, length); }

nb_status nb_kv_cache_read(const nb_kv_cache *cache, size_t position, float *k, float *v, nb_error *err)
{
    if (position >= cache->length)
        return nb_fail(err, NB_ERR_ARGUMENT, "cache: position %zu of %zu", position, cache->length);
    for (int h = 0; h < cache->layout.kv_heads; h++)
        nb_kv_load(&cache->layout, cache->pages[position / NB_PAGE], (int)(position % NB_PAGE), h,
                   k + (size_t)h * (size_t)cache->layout.k_dim, v + (size_t)h * (size_t)cache->layout.v_dim);
    return NB_OK;
}

static nb_status check_decode(const nb_kv_cache *cache, const nb_attention_params *p, nb_error *err)
{
    const nb_kv_layout *l = &cache->layout;
    NB_TRY(nb_rule_check(p, err));
    if (p->kv_heads != (size_t)l->kv_heads || p->k_dim != (size_t)l->k_dim || p->v_dim != (size_t)l->v_dim ||
        p->keys != cache->length || p->queries > p->keys || p->batch != 1)
        return nb_fail(
            err, NB_ERR_ARGUMENT,
            "decode: %zu kv heads of %zu and %zu, %zu keys, %zu queries, batch %zu; the cache has %d of %d and "
            "%d, %zu positions, one sequence",
            p->kv_heads, p->k_dim, p->v_dim, p->keys, p->queries, p->batch, l->kv_heads, l->k_dim, l->v_dim,
            cache->length);
    if (p->type != NB_FLOAT_F32 || p->q.head != p->k_dim || p->out.head != p->v_dim)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "decode: queries must be float32 and heads adjacent");
    if (p->offset != (int64_t)p->keys - (int64_t)p->queries || p->right > 0 || p->dilation != 1 || p->global_count ||
        p->sink_tokens || p->key_lengths || p->mask || p->bias || p->dropout > 0)
        return nb_fail(
            err, NB_ERR_UNSUPPORTED,
            "decode: offset, right, dilation, global tokens, sink tokens, key lengths, mask, bias and dropout "
            "are not for a cache; use nb_attention_flash");
    return NB_OK;
}

typedef struct decode {
    nb_attention_spec spec;
    nb_kv_layout layout;
    nb_attention_span span;
    void *scratch;
    nb_team *team;
} decode;

static void run_member(void *context, int member, int members)
{
    decode *d = context;
    nb_attention_run(&d->spec, &d->layout, &d->span, 1, false, d->scratch, d->team, member, members);
}

nb_status nb_attention_decode(const nb_kv_cache *cache, const nb_attention_params *p, const float *q, float *out,
                              float *lse, nb_team *team, nb_error *err)
{
    NB_TRY(check_decode(cache, p, err));
    if (p->queries == 0)
        return NB_OK;
    int members = team ? nb_team_size(team) : 1;
    decode d = {.layout = cache->layout, .team = team};
    d.spec = (nb_attention_spec){.heads = (int)p->heads,
                                 .kv_heads = (int)p->kv_heads,
                                 .k_dim = (int)p->k_dim,
                                 .v_dim = (int)p->v_dim,
                                 .scale = p->scale,
                                 .softcap = p->softcap,
                                 .window = p->left >= 0 ? p->left + 1 : 0,
                                 .causal = true,
                                 .bias = {.slopes = p->slopes},
                                 .sinks = p->sinks};
    d.span = (nb_attention_span){.pages = cache->pages,
                                 .page_count = cache->page_count,
                                 .position = (int64_t)(p->keys - p->queries),
                                 .n_positions = (int64_t)p->keys,
                                 .n_queries = p->queries,
                                 .q = q,
                                 .out = out,
                                 .lse = lse,
                                 .q_stride = p->q.row,
                                 .out_stride = p->out.row};
    size_t bytes = nb_attention_scratch(&d.spec, &d.layout, 1, p->queries, p->keys, members);
    d.scratch = nb_flash_floats(bytes / sizeof(float));
    if (!d.scratch)
        return nb_fail_memory(err, "scratch of attention", bytes);
    if (team)
        nb_team_run(team, run_member, &d);
    else
        run_member(&d, 0, 1);
    nb_flash_floats_free(d.scratch, bytes / sizeof(float));
    return NB_OK;
}
