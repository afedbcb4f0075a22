/* cache.h - what the attention tests share: seeded numbers, a sequence's pages, and a call cut in any way. */
#ifndef NB_TEST_CACHE_H
#define NB_TEST_CACHE_H

#include <math.h>
#include <stdlib.h>

#include "attention/attention.h"
#include "base/cpu.h"

static inline void each_level(void (*check)(void))
{
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        check();
    }
    nb_cpu_set_level(NB_CPU_LEVELS);
}

typedef struct rng {
    uint64_t state;
} rng;

static inline uint64_t rng_next(rng *r) /* splitmix64 (Steele et al. 2014) */
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int rng_int(rng *r, int low, int high) { return low + (int)(rng_next(r) % (uint64_t)(high - low + 1)); }

static inline float rng_normal(rng *r)
{
    double u = ((double)(rng_next(r) >> 11) + 0.5) * 0x1p-53, v = (double)(rng_next(r) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static inline float *rng_normals(rng *r, size_t n)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = rng_normal(r);
    return x;
}

/* One sequence's keys and values, as given and as stored. */
typedef struct cache {
    nb_kv_layout layout;
    size_t positions, pages;
    void **page;
    float *k, *v; /* [positions][kv_heads][dim], as read back */
} cache;

/* Slots that no position fills hold NaNs: nothing may come of them. */
static inline cache cache_new(const nb_kv_layout *layout, const float *k, const float *v, size_t positions)
{
    size_t pages = positions / NB_PAGE + 1, bytes = nb_kv_page_bytes(layout), k_row, v_row;
    cache c = {.layout = *layout, .positions = positions, .pages = pages, .page = malloc(pages * sizeof(void *))};
    k_row = (size_t)layout->kv_heads * (size_t)layout->k_dim;
    v_row = (size_t)layout->kv_heads * (size_t)layout->v_dim;
    for (size_t p = 0; p < pages; p++) {
        c.page[p] = aligned_alloc(64, bytes);
        memset(c.page[p], 0xff, bytes);
    }
    c.k = malloc((positions * k_row + 1) * sizeof(float));
    c.v = malloc((positions * v_row + 1) * sizeof(float));
    for (size_t p = 0; p < positions; p++) {
        int middle = layout->kv_heads / 2;
        nb_kv_store(layout, c.page[p / NB_PAGE], (int)(p % NB_PAGE), k + p * k_row, v + p * v_row, 0, middle);
        nb_kv_store(layout, c.page[p / NB_PAGE], (int)(p % NB_PAGE), k + p * k_row, v + p * v_row, middle,
                    layout->kv_heads);
        for (int h = 0; h < layout->kv_heads; h++)
            nb_kv_load(layout, c.page[p / NB_PAGE], (int)(p % NB_PAGE), h,
                       c.k + p * k_row + (size_t)h * (size_t)layout->k_dim,
                       c.v + p * v_row + (size_t)h * (size_t)layout->v_dim);
    }
    return c;
}

static inline void cache_free(cache *c)
{
    for (size_t p = 0; p < c->pages; p++)
        free(c->page[p]);
    free(c->page);
    free(c->k);
    free(c->v);
}

typedef struct call {
    const nb_attention_spec *spec;
    const nb_kv_layout *layout;
    const nb_attention_span *spans;
    size_t n_spans;
    bool exact;
    void *scratch;
    nb_team *team;
} call;

static inline void call_member(void *context, int member, int members)
{
    const call *c = context;
    nb_attention_run(c->spec, c->layout, c->spans, c->n_spans, c->exact, c->scratch, c->team, member, members);
}

/* One nb_attention_run over `spans` on `team` (NULL: this thread), with scratch of exactly the promised size. */
static inline void run_spans(const nb_attention_spec *spec, const nb_kv_layout *layout, const nb_attention_span *spans,
                             size_t n_spans, bool exact, nb_team *team)
{
    size_t queries = 0, positions = 0;
    for (size_t s = 0; s < n_spans; s++) {
        queries += spans[s].n_queries;
        positions = nb_max_size(positions, (size_t)spans[s].n_positions);
    }
    int members = team ? nb_team_size(team) : 1;
    size_t bytes = nb_attention_scratch(spec, layout, n_spans, queries, positions, members);
    void *scratch = malloc(bytes);
    memset(scratch, 0xff, bytes);
    call c = {spec, layout, spans, n_spans, exact, scratch, team};
    if (team)
        nb_team_run(team, call_member, &c);
    else
        call_member(&c, 0, 1);
    free(scratch);
}

/* Queries position .. position + n - 1 of one sequence, `step` at a time. Keys after a step's last query are hidden
 * from it (n_positions) when the spec is causal, as they are in a real run. */
static inline void run_steps(const nb_attention_spec *spec, const cache *c, const float *q, int64_t position, size_t n,
                             size_t step, bool exact, nb_team *team, float *out)
{
    size_t q_row = (size_t)spec->heads * (size_t)spec->k_dim, out_row = (size_t)spec->heads * (size_t)spec->v_dim;
    for (size_t i = 0; i < n; i += step) {
        size_t count = nb_min_size(step, n - i);
        int64_t stored = spec->causal ? position + (int64_t)(i + count) : (int64_t)c->positions;
        nb_attention_span span = {.pages = c->page,
                                  .page_count = c->pages,
                                  .position = position + (int64_t)i,
                                  .n_positions = stored,
                                  .n_queries = count,
                                  .q = q + i * q_row,
                                  .out = out + i * out_row,
                                  .q_stride = q_row,
                                  .out_stride = out_row};
        run_spans(spec, &c->layout, &span, 1, exact, team);
    }
}

#endif
