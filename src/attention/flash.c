#include "attention/flash.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/cpu.h"

static const nb_flash_table *const tables[NB_CPU_LEVELS] = {
    [NB_CPU_REF] = &nb_flash_table_ref,
#if defined(__x86_64__)
    [NB_CPU_AVX2] = &nb_flash_table_avx2,     [NB_CPU_FMA] = &nb_flash_table_fma,
    [NB_CPU_AVX512] = &nb_flash_table_avx512, [NB_CPU_BF16] = &nb_flash_table_avx512,
#endif
};

const nb_flash_table *nb_flash_table_current(void) { return tables[nb_cpu_current()]; }

/* ---- scratch ---- */

/* From here on huge pages pay (a tenth of a call at 2048 keys); below, the heap, which keeps memory for the next call: fresh
 * pages took a sixth of a call at 512 keys. */
#define PAGES_FROM ((size_t)4 << 20)

float *nb_flash_floats(size_t n)
{
    size_t bytes = nb_round_up((n ? n : 1) * sizeof(float), 64);
    return bytes < PAGES_FROM ? aligned_alloc(64, bytes) : nb_pages_alloc(bytes);
}

void nb_flash_floats_free(float *p, size_t n)
{
    size_t bytes = nb_round_up((n ? n : 1) * sizeof(float), 64);
    if (bytes < PAGES_FROM)
        free(p);
    else if (p)
        nb_pages_free(p, bytes);
}

size_t nb_flash_max_rows(const nb_attention_params *p)
{
    nb_attention_spec spec = {.k_dim = (int)p->k_dim, .v_dim = (int)p->v_dim};
    return nb_attend_max_rows(&spec);
}

nb_flash_areas nb_flash_areas_of(const nb_attention_params *p)
{
    size_t rows = nb_max_size(nb_flash_max_rows(p), NB_PAGE), square = NB_PAGE * NB_PAGE;
    size_t k_pad = nb_attend_v_pad((int)p->k_dim), v_pad = nb_attend_v_pad((int)p->v_dim);
    nb_flash_areas a = {.scores = nb_round_up(rows * p->k_dim, 16)};
    a.states = a.scores + (size_t)8 * NB_PAGE;
    a.end = a.states + rows * nb_attend_state_floats((int)p->v_dim);
    a.plain_q = a.scores; /* backward needs no states */
    a.dout = a.plain_q + NB_PAGE * k_pad;
    a.p = a.dout + NB_PAGE * v_pad;
    a.ds = a.p + square;
    a.pt = a.ds + square;
    a.dst = a.pt + square;
    a.sum_k = a.dst + square;
    a.sum_v = a.sum_k + NB_PAGE * k_pad;
    a.backward_end = a.sum_v + NB_PAGE * v_pad;
    return a;
}

/* ---- the order of keys and queries ---- */

static size_t class_of(const nb_attention_params *p, int64_t position)
{
    int64_t step = (int64_t)p->dilation, rest = position % step;
    return (size_t)(rest < 0 ? rest + step : rest);
}

static void *take(nb_flash_plan *plan, size_t count, size_t size)
{
    size_t bytes;
    if (!nb_mul(count, size, &bytes))
        return NULL;
    plan->bytes += bytes;
    return malloc(bytes ? bytes : 1);
}

/* Places by counting: special keys first, then each residue's, ascending. */
static bool order_keys(nb_flash_plan *plan)
{
    const nb_attention_params *p = plan->p;
    size_t *next = take(plan, p->dilation + 1, sizeof *next);
    plan->key_at = take(plan, plan->tiles * NB_PAGE, sizeof *plan->key_at);
    plan->class_begin = take(plan, p->dilation + 1, sizeof *plan->class_begin);
    bool taken = next && plan->key_at && plan->class_begin;
    for (size_t c = 0; taken && c <= p->dilation; c++)
        next[c] = 0;
    for (int counting = 1; taken && counting >= 0; counting--) {
        size_t specials = 0;
        for (size_t key = 0; key < p->keys; key++) {
            bool special = key < p->sink_tokens || nb_rule_is_global(p, (int64_t)key);
            size_t c = class_of(p, (int64_t)key);
            if (counting)
                special ? specials++ : next[c + 1]++;
            else
                plan->key_at[special ? specials++ : next[c]++] = (uint32_t)key;
        }
        plan->specials = next[0] = specials;
        for (size_t c = 0; counting && c <= p->dilation; c++) {
            next[c] += c ? next[c - 1] : 0;
            plan->class_begin[c] = (uint32_t)next[c];
        }
        if (counting) /* places begin where the classes do */
            for (size_t c = 0; c <= p->dilation; c++)
                next[c] = plan->class_begin[c];
    }
    free(next);
    return taken;
}

static bool order_queries(nb_flash_plan *plan)
{
    const nb_attention_params *p = plan->p;
    size_t *next = take(plan, p->dilation + 2, sizeof *next);
    plan->query_at = take(plan, p->queries, sizeof *plan->query_at);
    bool taken = next && plan->query_at;
    for (size_t c = 0; taken && c < p->dilation + 2; c++)
        next[c] = 0;
    for (int counting = 1; taken && counting >= 0; counting--) {
        for (size_t i = 0; i < p->queries; i++) {
            int64_t position = (int64_t)i + p->offset;
            size_t c = nb_rule_is_global(p, position) ? p->dilation : class_of(p, position);
            if (counting)
                next[c + 1]++;
            else
                plan->query_at[next[c]++] = (uint32_t)i;
        }
        for (size_t c = 1; counting && c < p->dilation + 2; c++)
            next[c] += next[c - 1];
        if (counting)
            plan->plain_queries = next[p->dilation];
    }
    free(next);
    return taken;
}

/* The first place in [low, high), whose keys ascend, of a key that is `key` or more. */
static uint32_t place_from(const nb_flash_plan *plan, uint32_t low, uint32_t high, int64_t key)
{
    if (!plan->key_at) {
        int64_t place = key < (int64_t)low ? (int64_t)low : key;
        return place < (int64_t)high ? (uint32_t)place : high;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((int64_t)plan->key_at[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static nb_flash_row row_of(const nb_flash_plan *plan, size_t batch, size_t query)
{
    const nb_attention_params *p = plan->p;
    int64_t position = (int64_t)query + p->offset, step = (int64_t)p->dilation, from = 0;
    int64_t before = (int64_t)nb_rule_keys(p, batch);
    if (p->causal && position + 1 < before)
        before = position < 0 ? 0 : position + 1;
    nb_flash_row r = {.position = position, .before = (uint32_t)before};
    uint32_t low = (uint32_t)plan->specials, high = (uint32_t)p->keys;
    r.specials = place_from(plan, 0, low, before);
    if (nb_rule_windowed(p) && nb_rule_is_global(p, position)) {
        r.scattered = p->dilation > 1;
    } else if (nb_rule_windowed(p)) {
        from = p->left >= 0 ? position - p->left * step : 0;
        if (p->right >= 0 && position + p->right * step + 1 < before)
            before = position + p->right * step + 1;
        if (plan->class_begin) {
            size_t c = class_of(p, position);
            low = plan->class_begin[c];
            high = plan->class_begin[c + 1];
        }
    }
    r.begin = place_from(plan, low, high, from);
    r.end = place_from(plan, low, high, before);
    r.end = r.end < r.begin ? r.begin : r.end;
    return r;
}

nb_flash_range nb_flash_range_of(const nb_flash_plan *plan, size_t batch, size_t query, size_t queries)
{
    nb_flash_range range = {.begin = SIZE_MAX};
    for (size_t i = query; i < query + queries; i++) {
        const nb_flash_row *r = nb_flash_row_of(plan, batch, i);
        range.specials = nb_max_size(range.specials, r->specials);
        if (r->begin < r->end) {
            range.begin = nb_min_size(range.begin, r->begin);
            range.end = nb_max_size(range.end, r->end);
        }
        if (r->scattered)
            range.tiles = plan->tiles;
    }
    return range;
}

/* ---- the plan ---- */

static bool order(nb_flash_plan *plan)
{
    const nb_attention_params *p = plan->p;
    plan->plain_queries = p->queries;
    bool specials = nb_rule_windowed(p) && (p->global_count || p->sink_tokens);
    if ((p->dilation > 1 || specials) && (!order_keys(plan) || !order_queries(plan)))
        return false;
    plan->row_batches = p->key_lengths ? p->batch : 1;
    plan->rows = take(plan, plan->row_batches * p->queries, sizeof *plan->rows);
    for (size_t b = 0; plan->rows && b < plan->row_batches; b++)
        for (size_t i = 0; i < p->queries; i++)
            plan->rows[b * p->queries + i] = row_of(plan, b, nb_flash_query(plan, i));
    return plan->rows != NULL;
}

static float *take_tiles(nb_flash_plan *plan, size_t dim)
{
    size_t tiles, floats;
    if (!nb_mul(plan->p->batch * plan->p->kv_heads, plan->tiles, &tiles) || !nb_mul(tiles, dim * NB_PAGE, &floats) ||
        floats > SIZE_MAX / sizeof(float))
        return NULL;
    plan->bytes += floats * sizeof(float);
    return nb_flash_floats(floats);
}

nb_status nb_flash_plan_new(const nb_attention_params *p, bool backward, nb_flash_plan *plan, nb_error *err)
{
    *plan = (nb_flash_plan){.p = p, .tiles = (p->keys + NB_PAGE - 1) / NB_PAGE};
    plan->k_pad = nb_attend_v_pad((int)p->k_dim);
    plan->v_pad = nb_attend_v_pad((int)p->v_dim);
    plan->pairs = p->type == NB_FLOAT_BF16 && nb_cpu_current() == NB_CPU_BF16 && !backward;
    bool taken = order(plan) && (plan->k_tiles = take_tiles(plan, nb_flash_depth(plan))) &&
                 (plan->v_tiles = take_tiles(plan, plan->v_pad)) &&
                 (!backward ||
                  ((plan->k_rows = take_tiles(plan, plan->k_pad)) && (plan->v_columns = take_tiles(plan, p->v_dim))));
    if (taken)
        return NB_OK;
    size_t bytes = plan->bytes;
    nb_flash_plan_free(plan);
    return nb_fail_memory(err, "tiles of keys and values", bytes);
}

void nb_flash_plan_free(nb_flash_plan *plan)
{
    free(plan->key_at);
    free(plan->query_at);
    free(plan->class_begin);
    free(plan->rows);
    size_t keys = plan->p->batch * plan->p->kv_heads * plan->tiles * NB_PAGE;
    nb_flash_floats_free(plan->k_tiles, keys * nb_flash_depth(plan));
    nb_flash_floats_free(plan->v_tiles, keys * plan->v_pad);
    nb_flash_floats_free(plan->k_rows, keys * plan->k_pad);
    nb_flash_floats_free(plan->v_columns, keys * plan->p->v_dim);
}

/* ---- a call: jobs that members take from a counter, the largest first ---- */

typedef void job_fn(nb_flash_job *job);

typedef struct call {
    nb_flash_plan plan;
    nb_flash_job job; /* what all jobs share */
    job_fn *run;
    size_t block, part_heads, parts; /* queries and heads of a job; jobs a group of heads */
    size_t plain_blocks, blocks, jobs;
    bool by_tile;
    float *scratch;
    size_t scratch_floats; /* a member's */
    atomic_size_t next;
    _Atomic uint64_t visited;
} call;

static void cut(call *c, size_t max_rows, size_t members)
{
    const nb_attention_params *p = c->plan.p;
    size_t group = p->heads / p->kv_heads;
    c->part_heads = nb_min_size(group, max_rows);
    c->parts = (group + c->part_heads - 1) / c->part_heads;
    c->block = nb_max_size(max_rows / c->part_heads, 1);
    for (;; c->block = (c->block + 1) / 2) {
        size_t globals = p->queries - c->plan.plain_queries;
        c->plain_blocks = (c->plan.plain_queries + c->block - 1) / c->block;
        c->blocks = c->plain_blocks + (globals + c->block - 1) / c->block;
        c->jobs = c->blocks * c->parts * p->kv_heads * p->batch;
        if (c->jobs >= 4 * members || members == 1 || c->block * c->part_heads <= 24)
            return;
    }
}

/* Job i: later blocks first (with causality they see more), all heads and batches of one after another. */
static nb_flash_job job_of(const call *c, size_t i)
{
    const nb_attention_params *p = c->plan.p;
    nb_flash_job job = c->job;
    size_t group = p->heads / p->kv_heads, a_block = c->parts * p->kv_heads * p->batch;
    size_t block = c->blocks - 1 - i / a_block, part = i % c->parts, kv = i % a_block / c->parts % p->kv_heads;
    job.batch = i % a_block / c->parts / p->kv_heads;
    job.head = kv * group + part * c->part_heads;
    job.heads = nb_min_size(c->part_heads, group - part * c->part_heads);
    bool plain = block < c->plain_blocks;
    job.query = plain ? block * c->block : c->plan.plain_queries + (block - c->plain_blocks) * c->block;
    job.queries = nb_min_size(c->block, (plain ? c->plan.plain_queries : p->queries) - job.query);
    return job;
}

static nb_flash_job tile_job_of(const call *c, size_t i)
{
    const nb_attention_params *p = c->plan.p;
    nb_flash_job job = c->job;
    size_t heads = p->kv_heads * p->batch;
    job.tile = i / heads;
    job.batch = i % heads / p->kv_heads;
    job.head = i % p->kv_heads * (p->heads / p->kv_heads);
    job.heads = 1;
    return job;
}

static void run_jobs(void *context, int member, int members)
{
    (void)members;
    call *c = context;
    uint64_t visited = 0;
    for (size_t i; (i = atomic_fetch_add(&c->next, 1)) < c->jobs;) {
        nb_flash_job job = c->by_tile ? tile_job_of(c, i) : job_of(c, i);
        job.scratch = c->scratch + (size_t)member * c->scratch_floats;
        c->run(&job);
        visited += job.visited;
    }
    atomic_fetch_add(&c->visited, visited);
}

static size_t members_of(nb_team *team) { return team ? (size_t)nb_team_size(team) : 1; }

static void run_call(call *c, nb_team *team)
{
    atomic_store(&c->next, 0);
    if (team)
        nb_team_run(team, run_jobs, c);
    else
        run_jobs(c, 0, 1);
}

static void run_pack(void *context, int member, int members)
{
    const nb_flash_job *all = context;
    const nb_flash_plan *plan = all->plan;
    size_t begin, end;
    nb_team_share(plan->p->batch * plan->p->kv_heads * plan->tiles, 1, member, members, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        nb_flash_job job = *all;
        job.tile = i % plan->tiles;
        job.head = i / plan->tiles % plan->p->kv_heads;
        job.batch = i / plan->tiles / plan->p->kv_heads;
        nb_flash_table_current()->pack(&job);
    }
}

void nb_flash_pack(const nb_flash_plan *plan, const void *k, const void *v, nb_team *team)
{
    nb_flash_job job = {.plan = plan, .k = k, .v = v};
    if (team)
        nb_team_run(team, run_pack, &job);
    else
        run_pack(&job, 0, 1);
}

static nb_status call_begin(call *c, const nb_attention_params *p, bool backward, nb_team *team, nb_error *err)
{
    size_t members = members_of(team);
    nb_flash_areas at = nb_flash_areas_of(p);
    NB_TRY(nb_flash_plan_new(p, backward, &c->plan, err));
    c->job.plan = &c->plan;
    c->scratch_floats = nb_round_up(backward ? nb_max_size(at.end, at.backward_end) : at.end, 16);
    c->scratch = nb_flash_floats(members * c->scratch_floats);
    c->plan.bytes += members * c->scratch_floats * sizeof(float);
    if (c->scratch)
        return NB_OK;
    nb_flash_plan_free(&c->plan);
    return nb_fail_memory(err, "scratch of attention", members * c->scratch_floats * sizeof(float));
}

static void call_end(call *c, nb_team *team)
{
    nb_flash_floats_free(c->scratch, members_of(team) * c->scratch_floats);
    nb_flash_plan_free(&c->plan);
}

static void count_forward(const call *c, nb_attention_stats *stats)
{
    const nb_attention_params *p = c->plan.p;
    uint64_t rows = (uint64_t)p->batch * p->heads * p->queries, keys = (uint64_t)p->batch * p->kv_heads * p->keys;
    stats->tile_rows = nb_min_size(c->block, p->queries) * c->part_heads;
    stats->tile_keys = NB_PAGE;
    stats->tiles_visited = c->visited;
    stats->tiles_skipped = (uint64_t)c->jobs * c->plan.tiles - c->visited;
    stats->bytes_moved = rows * (p->k_dim * nb_float_bytes(p->type) + p->v_dim * 4) +
                         keys * (p->k_dim + p->v_dim) * (nb_float_bytes(p->type) + 4) +
                         c->visited * NB_PAGE * (p->k_dim + p->v_dim) * 4;
    stats->scratch_bytes = c->plan.bytes;
}

nb_status nb_attention_flash(const nb_attention_params *p, const void *q, const void *k, const void *v, float *out,
                             float *lse, nb_attention_stats *stats, nb_team *team, nb_error *err)
{
    call c = {.job = {.q = q, .out = out, .lse = lse}, .run = nb_flash_table_current()->forward};
    NB_TRY(nb_rule_check(p, err));
    NB_TRY(call_begin(&c, p, false, team, err));
    nb_flash_pack(&c.plan, k, v, team);
    cut(&c, nb_flash_max_rows(p), members_of(team));
    run_call(&c, team);
    if (stats)
        count_forward(&c, stats);
    call_end(&c, team);
    return NB_OK;
}

/* ---- backward ---- */

/* A log-sum-exp far from 0 has lost digits that weights need (of -1e9, all): such calls make their own sums. */
#define LSE_FAR 32.0f

static bool sums_of(const nb_attention_params *p, const float *out, const float *lse, const float *dout,
                    nb_flash_sum *sums)
{
    bool far = false;
    for (size_t b = 0; b < p->batch; b++)
        for (size_t h = 0; h < p->heads; h++)
            for (size_t i = 0; i < p->queries; i++, sums++) {
                size_t at = nb_rule_at(&p->out, b, h, i);
                float of = lse[(b * p->heads + h) * p->queries + i];
                double mean = 0;
                for (size_t d = 0; d < p->v_dim; d++)
                    mean += (double)out[at + d] * (double)dout[at + d];
                bool empty = of == -INFINITY;
                far = far || (!empty && !(fabsf(of) <= LSE_FAR));
                *sums = (nb_flash_sum){empty ? 0.0f : of * 1.44269504088896341f, 1.0f, (float)mean};
            }
    return far;
}

/* Whether weights are made once, a kv head a job, or twice (dq by queries, dk and dv by keys), jobs being short. The bits are
 * the same. */
static bool by_heads(const call *c, size_t members)
{
    const nb_attention_params *p = c->plan.p;
    size_t heads = p->batch * p->kv_heads;
    return p->k_dim == c->plan.k_pad && !c->plan.query_at && (heads % members == 0 || heads >= 4 * members);
}

static void count_backward(const call *c, nb_attention_stats *stats, size_t passes)
{
    const nb_attention_params *p = c->plan.p;
    uint64_t a_tile = (uint64_t)NB_PAGE * (p->k_dim + p->v_dim) * sizeof(float);
    size_t blocks = (c->plan.plain_queries + NB_PAGE - 1) / NB_PAGE +
                    (p->queries - c->plan.plain_queries + NB_PAGE - 1) / NB_PAGE;
    stats->tile_rows = stats->tile_keys = NB_PAGE;
    stats->tiles_visited = c->visited;
    stats->tiles_skipped = passes * (uint64_t)p->batch * p->heads * blocks * c->plan.tiles - c->visited;
    stats->bytes_moved = c->visited * 2 * a_tile;
    stats->scratch_bytes = c->plan.bytes;
}

static void run_backward(call *c, const float *dout, float *dq, float *dk, float *dv, nb_team *team)
{
    const nb_flash_table *table = nb_flash_table_current();
    const nb_attention_params *p = c->plan.p;
    c->job.dout = dout;
    c->job.dq = dq;
    c->job.dk = dk;
    c->job.dv = dv;
    if (by_heads(c, members_of(team))) {
        c->by_tile = true;
        c->jobs = p->kv_heads * p->batch;
        c->run = table->backward_head;
        run_call(c, team);
        return;
    }
    c->part_heads = 1;
    c->parts = p->heads / p->kv_heads;
    c->block = NB_PAGE;
    c->plain_blocks = (c->plan.plain_queries + NB_PAGE - 1) / NB_PAGE;
    c->blocks = c->plain_blocks + (p->queries - c->plan.plain_queries + NB_PAGE - 1) / NB_PAGE;
    c->jobs = c->blocks * p->heads * p->batch;
    c->run = table->backward_q;
    run_call(c, team);
    c->by_tile = true;
    c->jobs = c->plan.tiles * p->kv_heads * p->batch;
    c->run = table->backward_kv;
    run_call(c, team);
}

nb_status nb_attention_flash_backward(const nb_attention_params *p, const void *q, const void *k, const void *v,
                                      const float *out, const float *lse, const float *dout, float *dq, float *dk,
                                      float *dv, nb_attention_stats *stats, nb_team *team, nb_error *err)
{
    call c = {.job = {.q = q}, .run = nb_flash_table_current()->forward};
    NB_TRY(nb_rule_check(p, err));
    NB_TRY(call_begin(&c, p, true, team, err));
    nb_flash_sum *sums = take(&c.plan, p->batch * p->heads * p->queries, sizeof *sums);
    if (!sums) {
        call_end(&c, team);
        return nb_fail_memory(err, "sums of attention's rows", p->batch * p->heads * p->queries * sizeof *sums);
    }
    c.job.sums = sums;
    nb_flash_pack(&c.plan, k, v, team);
    if (sums_of(p, out, lse, dout, sums)) {
        cut(&c, nb_flash_max_rows(p), members_of(team));
        run_call(&c, team);
    }
    atomic_store(&c.visited, 0);
    run_backward(&c, dout, dq, dk, dv, team);
    if (stats)
        count_backward(&c, stats, by_heads(&c, members_of(team)) ? 1 : 2);
    free(sums);
    call_end(&c, team);
    return NB_OK;
}
