#include "attention/attend.h"

#include "base/cpu.h"

/* How a call is cut into jobs. All cuts give the same bits. A single query's jobs are of several kv heads where few query heads
 * share one and enough jobs are left: what follows in memory is read by the same member right after, which the hardware
 * sees and runs ahead of. More rows are slower so: their states do not stay in the first-level cache meanwhile.
 *   blocks: a job is a block of queries and a kv head, over all its chunks. Prefill, and many sessions.
 *   heads:  a member takes a range of the query heads. Few jobs and one chunk (short contexts): no barrier.
 *   chunks: a job is one chunk of a block's keys; states meet in scratch and are merged after a barrier. */

#define CHUNK_CUT_ROWS                                                                                                 \
    32 /* rows a member, at most, whose partial states have room in scratch (or all heads of one query) */

static const nb_attend_table *const tables[NB_CPU_LEVELS] = {
    [NB_CPU_REF] = &nb_attend_table_ref,
#if defined(__x86_64__)
    [NB_CPU_AVX2] = &nb_attend_table_avx2,     [NB_CPU_FMA] = &nb_attend_table_fma,
    [NB_CPU_AVX512] = &nb_attend_table_avx512, [NB_CPU_BF16] = &nb_attend_table_avx512,
#endif
};

const nb_attend_table *nb_attend_table_current(void) { return tables[nb_cpu_current()]; }

typedef struct run {
    const nb_attention_spec *spec;
    const nb_attend_table *table;
    const nb_attention_span *spans;
    size_t n_spans;
    int member, members;
    size_t group;      /* query heads a kv head */
    size_t part_heads; /* query heads a job, of one group */
    size_t parts;      /* jobs a group */
    size_t wide;       /* kv heads a job of a single query */
    size_t block;      /* queries a job */
    float *partial;
    nb_attend_job job;  /* what all jobs share; fields of the one at hand are set in copies */
    uint64_t load[256]; /* work given to each member so far */
    uint64_t all, past; /* of a cut by chunks: all work, what came before the job at hand */
} run;

static size_t chunk_cut_rows(const nb_attention_spec *spec, int members)
{
    return nb_max_size((size_t)spec->heads, (size_t)members * CHUNK_CUT_ROWS);
}

size_t nb_attention_scratch(const nb_attention_spec *spec, const nb_kv_layout *layout, size_t max_spans,
                            size_t max_queries, size_t max_positions, int members)
{
    (void)layout;
    (void)max_spans;
    size_t rows = chunk_cut_rows(spec, members), chunks = max_positions / NB_ATTENTION_CHUNK + 2, partial = 0;
    rows = nb_min_size(rows, max_queries * (size_t)spec->heads);
    if (members > 1 && max_positions > NB_ATTENTION_CHUNK)
        partial = rows * chunks * nb_attend_state_floats(spec->v_dim);
    return ((size_t)members * nb_attend_areas_of(spec).end + partial) * sizeof(float);
}

static void chunks_seen(const run *r, nb_attend_job *job)
{
    int64_t begin, end, unused, first = job->span->position + (int64_t)job->query;
    nb_attend_seen(r->spec, job->span, first, &begin, &unused);
    nb_attend_seen(r->spec, job->span, first + (int64_t)job->queries - 1, &unused, &end);
    job->chunk_begin = begin / NB_ATTENTION_CHUNK;
    job->chunk_end = end > begin ? (end - 1) / NB_ATTENTION_CHUNK + 1 : job->chunk_begin;
}

/* The member with the least work so far takes the next job (largest first, so the end is even): every member keeps
 * the same account and does its own jobs. */
static bool is_mine(run *r, uint64_t cost)
{
    int least = 0;
    for (int m = 1; m < r->members; m++)
        if (r->load[m] < r->load[least])
            least = m;
    r->load[least] += cost;
    return least == r->member;
}

static bool is_wide(const run *r, const nb_attention_span *span) { return r->wide > 1 && span->n_queries == 1; }

static size_t parts_of(const run *r, const nb_attention_span *span)
{
    size_t kv_heads = (size_t)r->spec->kv_heads;
    return is_wide(r, span) ? (kv_heads + r->wide - 1) / r->wide : kv_heads * r->parts;
}

static nb_attend_job job_of(const run *r, const nb_attention_span *span, size_t block, size_t part)
{
    nb_attend_job job = r->job;
    size_t within = part % r->parts * r->part_heads, group = part / r->parts, heads = r->wide * r->group;
    job.span = span;
    job.query = block * r->block;
    job.queries = nb_min_size(r->block, span->n_queries - job.query);
    job.head = (int)(group * r->group + within);
    job.heads = (int)nb_min_size(r->part_heads, r->group - within);
    if (is_wide(r, span)) {
        job.head = (int)(part * heads);
        job.heads = (int)nb_min_size(heads, (size_t)r->spec->heads - part * heads);
    }
    chunks_seen(r, &job);
    return job;
}

static void run_blocks(run *r)
{
    for (size_t s = 0; s < r->n_spans; s++) {
        const nb_attention_span *span = &r->spans[s];
        size_t parts = parts_of(r, span);
        for (size_t block = (span->n_queries + r->block - 1) / r->block; block-- > 0;)
            for (size_t part = 0; part < parts; part++) {
                nb_attend_job job = job_of(r, span, block, part);
                int64_t begin, end;
                nb_attend_seen(r->spec, span, span->position + (int64_t)(job.query + job.queries / 2), &begin, &end);
                if (is_mine(r, ((uint64_t)(end - begin) + NB_PAGE) * job.queries * (uint64_t)job.heads))
                    r->table->attend(&job);
            }
    }
}

/* The query heads of all spans in a row, cut into equal shares; a share's heads of one kv head go together. */
static void run_heads(run *r)
{
    size_t heads = (size_t)r->spec->heads, begin, end;
    nb_team_share(r->n_spans * heads, 1, r->member, r->members, &begin, &end);
    while (begin < end) {
        const nb_attention_span *span = &r->spans[begin / heads];
        size_t head = begin % heads, left = r->group - head % r->group;
        size_t take = nb_min_size(nb_min_size(left, end - begin), r->part_heads);
        for (size_t query = 0; query < span->n_queries; query += r->block) {
            nb_attend_job job = r->job;
            job.span = span;
            job.query = query;
            job.queries = nb_min_size(r->block, span->n_queries - query);
            job.head = (int)head;
            job.heads = (int)take;
            chunks_seen(r, &job);
            r->table->attend(&job);
        }
        begin += take;
    }
}

static uint64_t keys_in_chunk(const run *r, const nb_attend_job *job)
{
    int64_t begin, end, from = job->chunk_begin * NB_ATTENTION_CHUNK, to = from + NB_ATTENTION_CHUNK;
    nb_attend_seen(r->spec, job->span, job->span->position + (int64_t)job->query, &begin, &end);
    begin = begin > from ? begin : from;
    end = end < to ? end : to;
    return end > begin ? (uint64_t)(end - begin) : 1;
}

typedef enum phase { WEIGH, ATTEND, MERGE } phase;

/* Members take chunks that lie side by side. */
static bool lies_in_my_share(run *r, uint64_t cost)
{
    uint64_t middle = r->past + cost / 2;
    r->past += cost;
    return middle * (uint64_t)r->members / r->all == (uint64_t)r->member;
}

static void run_chunk(run *r, phase now, const nb_attend_job *job)
{
    uint64_t cost = keys_in_chunk(r, job) * (uint64_t)job->heads;
    if (now == WEIGH)
        r->all += cost;
    else if (lies_in_my_share(r, cost))
        r->table->attend(job);
}

/* Visits the jobs of the cut by chunks: to weigh or to attend, each chunk of each in the order of memory; or each as a whole. */
static void run_chunks(run *r, phase now)
{
    size_t row_floats = nb_attend_state_floats(r->spec->v_dim);
    float *partial = r->partial;
    for (size_t s = 0; s < r->n_spans; s++) {
        const nb_attention_span *span = &r->spans[s];
        size_t parts = parts_of(r, span);
        for (size_t block = 0; block * r->block < span->n_queries; block++) {
            nb_attend_job job = job_of(r, span, block, 0);
            int64_t first = job.chunk_begin, last = job.chunk_end > first ? job.chunk_end : first + 1;
            size_t chunk_floats = job.queries * (size_t)r->spec->heads * row_floats;
            for (size_t i = 0; i < (now == MERGE ? 1 : (size_t)(last - first)) * parts; i++) {
                job = job_of(r, span, block, i % parts);
                job.partial = partial + job.queries * (size_t)job.head * row_floats;
                job.partial_chunk = chunk_floats;
                if (now == MERGE) {
                    if (is_mine(r, job.queries * (uint64_t)job.heads))
                        r->table->merge(&job);
                    continue;
                }
                job.partial += i / parts * chunk_floats;
                job.chunk_begin = first + (int64_t)(i / parts);
                job.chunk_end = job.chunk_begin + 1;
                run_chunk(r, now, &job);
            }
            partial += (size_t)(last - first) * chunk_floats;
        }
    }
}

static void run_begin(run *r, size_t max_rows)
{
    r->group = (size_t)(r->spec->heads / r->spec->kv_heads);
    r->part_heads = nb_min_size(r->group, max_rows);
    r->parts = (r->group + r->part_heads - 1) / r->part_heads;
    size_t block = nb_min_size(max_rows / r->part_heads, NB_PAGE);
    r->block = block >= 8 ? block / 8 * 8 : block;
    for (int m = 0; m < r->members; m++)
        r->load[m] = 0;
}

typedef enum cut { BY_BLOCKS, BY_HEADS, BY_CHUNKS } cut;

static size_t count_blocks(const run *r)
{
    size_t jobs = 0;
    for (size_t s = 0; s < r->n_spans; s++)
        jobs += (r->spans[s].n_queries + r->block - 1) / r->block * parts_of(r, &r->spans[s]);
    return jobs;
}

/* 0: the partial states have no room, or there are no chunks to cut at. */
static size_t count_chunks(const run *r)
{
    size_t jobs = 0, uncut = 0, rows = 0;
    for (size_t s = 0; s < r->n_spans; s++) {
        nb_attend_job whole = {.span = &r->spans[s], .queries = r->spans[s].n_queries};
        size_t parts = parts_of(r, whole.span);
        chunks_seen(r, &whole);
        jobs += (size_t)(whole.chunk_end - whole.chunk_begin) * parts;
        uncut += parts;
        rows += whole.queries * (size_t)r->spec->heads;
    }
    return jobs > uncut && rows <= chunk_cut_rows(r->spec, r->members) ? jobs : 0;
}

/* Codes: a job is all kv heads of a member, if that is even. Turning their queries takes too long for a job a chunk. */
static bool choose_even(run *r)
{
    size_t kv_heads = (size_t)r->spec->kv_heads, members = (size_t)r->members, each = kv_heads / members;
    bool even = nb_kv_scaled(r->job.layout->type) && kv_heads % members == 0;
    for (size_t s = 0; s < r->n_spans; s++)
        even = even && r->spans[s].n_queries == 1;
    r->wide = even ? nb_min_size(each, nb_max_size(nb_attend_max_rows(r->spec) / r->group, 1)) : 1;
    while (each % r->wide != 0)
        r->wide--;
    return even;
}

/* With as many kv heads a job as leave four jobs a member. */
static bool choose_wide(run *r, cut *how)
{
    bool waits = r->group <= NB_ATTEND_ROWS_FEW && !nb_kv_scaled(r->job.layout->type); /* codes take their time */
    size_t most = 1, wanted = r->members == 1 ? 1 : 4 * (size_t)r->members;
    for (size_t s = 0; s < r->n_spans; s++)
        if (waits && r->spans[s].n_queries == 1)
            most = nb_min_size(nb_attend_max_rows(r->spec) / r->group, (size_t)r->spec->kv_heads);
    for (r->wide = most; r->wide > 1; r->wide /= 2) {
        *how = count_blocks(r) >= wanted ? BY_BLOCKS : BY_CHUNKS;
        if (*how == BY_BLOCKS || count_chunks(r) >= wanted)
            return true;
    }
    r->wide = 1;
    return false;
}

/* Blocks when they make four jobs a member, smaller ones if need be; else chunks when these make two (and all partial
 * states have room); else heads. */
static cut choose_cut(run *r)
{
    cut how;
    size_t wanted = (size_t)r->members;
    if (choose_even(r))
        return BY_BLOCKS;
    if (choose_wide(r, &how))
        return how;
    if (r->members == 1)
        return BY_BLOCKS;
    for (;; r->block /= 2) {
        if (count_blocks(r) >= 4 * wanted)
            return BY_BLOCKS;
        if (r->block < 16)
            break;
    }
    return count_chunks(r) >= 2 * wanted ? BY_CHUNKS : BY_HEADS;
}

void nb_attention_run(const nb_attention_spec *spec, const nb_kv_layout *layout, const nb_attention_span *spans,
                      size_t n_spans, bool exact, void *scratch, nb_team *team, int member, int members)
{
    size_t thread_floats = nb_attend_areas_of(spec).end;
    run r;
    r.spec = spec;
    r.table = nb_attend_table_current();
    r.spans = spans;
    r.n_spans = n_spans;
    r.member = member;
    r.members = members;
    r.partial = (float *)scratch + (size_t)members * thread_floats;
    r.job = (nb_attend_job){
        .spec = spec, .layout = layout, .exact = exact, .scratch = (float *)scratch + (size_t)member * thread_floats};
    run_begin(&r, nb_attend_max_rows(spec));
    switch (choose_cut(&r)) {
    case BY_BLOCKS: run_blocks(&r); break;
    case BY_HEADS: run_heads(&r); break;
    case BY_CHUNKS:
        r.all = r.past = 0;
        run_chunks(&r, WEIGH);
        run_chunks(&r, ATTEND);
        nb_team_barrier(team);
        run_chunks(&r, MERGE);
    }
}
