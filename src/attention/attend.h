/* attend.h - what the planner of attend.c asks of the code of one instruction-set level (attend_lanes.h). */
#ifndef NB_ATTENTION_ATTEND_H
#define NB_ATTENTION_ATTEND_H

#include "attention/codes.h"
#include "attention/kv.h"

#define NB_ATTEND_LANES_MAX 16
#define NB_ATTEND_ROWS_MAX 192
#define NB_ATTEND_ROWS_FEW 2 /* of a kv head: decode waits for memory, not for multiply-adds */

/* A row is one query of one head. Its *state* is the softmax over the keys it has taken so far, with scores in units
 * of log2: the values weighted by 2^(score - top) [v_pad], top, the sum of the weights, and, while a chunk is under
 * way, that sum in lanes. */
static inline size_t nb_attend_v_pad(int v_dim) { return nb_round_up((size_t)v_dim, NB_ATTEND_LANES_MAX); }
static inline size_t nb_attend_state_floats(int v_dim) { return nb_attend_v_pad(v_dim) + 2 * NB_ATTEND_LANES_MAX; }
#define NB_ATTEND_TOP 0 /* after v_pad */
#define NB_ATTEND_SUM 1
#define NB_ATTEND_SUM_LANES NB_ATTEND_LANES_MAX

/* Queries [query, query + queries) of a span, heads [head, head + heads), and chunks [chunk_begin, chunk_end): rows = queries *
 * heads, row r is query r / heads and head r % heads. The heads are of one kv head, or, of a single query, all those of one or
 * more kv heads: a page is then read from its beginning to its end. */
typedef struct nb_attend_job {
    const nb_attention_spec *spec;
    const nb_kv_layout *layout;
    const nb_attention_span *span;
    size_t query, queries;
    int head, heads;
    int64_t chunk_begin, chunk_end;
    bool exact;
    void *scratch;        /* of this thread */
    float *partial;       /* NULL: write the span's output. Else: leave the states of these rows' one chunk here, */
    size_t partial_chunk; /* and this many floats lie between two chunks of a row */
} nb_attend_job;

typedef struct nb_attend_table {
    void (*store)(const nb_kv_layout *layout, void *page, int slot, const float *k, const float *v, int head_begin,
                  int head_end);
    void (*attend)(const nb_attend_job *job);
    /* Merges the partial states of the job's rows in the order of chunks and writes the span's output. */
    void (*merge)(const nb_attend_job *job);
} nb_attend_table;

extern const nb_attend_table nb_attend_table_ref;
#if defined(__x86_64__)
extern const nb_attend_table nb_attend_table_avx2, nb_attend_table_fma, nb_attend_table_avx512;
#endif
const nb_attend_table *nb_attend_table_current(void);

/* Rows of one job: enough that converting a tile to floats is lost among them, few enough for the second-level cache. */
static inline size_t nb_attend_max_rows(const nb_attention_spec *spec)
{
    size_t rows = (96 * 1024) / ((size_t)spec->k_dim + 2 * nb_attend_v_pad(spec->v_dim));
    return rows < 24 ? 24 : rows > NB_ATTEND_ROWS_MAX ? NB_ATTEND_ROWS_MAX : rows;
}

/* A thread's scratch, in floats from its beginning. */
typedef struct nb_attend_areas {
    size_t q;            /* [rows][k_dim], scaled */
    size_t k, v;         /* a tile as floats: [k_dim][NB_PAGE], [NB_PAGE][v_pad] */
    size_t scores;       /* [rows of a block][NB_PAGE] */
    size_t weights;      /* of Q8_0 and Q4_0, with the values' scales: [v_dim / 32][rows of a block][NB_PAGE] */
    size_t steps;        /* of these in integers: [v_dim / 32][rows of a block] */
    size_t split;        /* q in integers: [rows][k_dim / 32][NB_CODES_BLOCK] */
    size_t total, chunk; /* [rows] states */
    size_t end;
} nb_attend_areas;

static inline nb_attend_areas nb_attend_areas_of(const nb_attention_spec *spec)
{
    size_t rows = nb_attend_max_rows(spec), k_dim = (size_t)spec->k_dim;
    nb_attend_areas a = {.q = 0};
    a.k = nb_round_up(rows * k_dim, 16);
    a.v = a.k + k_dim * NB_PAGE;
    a.scores = a.v + nb_attend_v_pad(spec->v_dim) * NB_PAGE;
    a.weights = a.scores + (size_t)8 * NB_PAGE;
    a.steps = a.weights + (size_t)spec->v_dim / NB_KV_BLOCK * 8 * NB_PAGE;
    a.split = nb_round_up(a.steps + (size_t)spec->v_dim / NB_KV_BLOCK * 8, 16);
    a.total = nb_round_up(a.split + rows * (k_dim / NB_KV_BLOCK) * NB_CODES_BLOCK, 16);
    a.chunk = a.total + rows * nb_attend_state_floats(spec->v_dim);
    a.end = a.chunk + rows * nb_attend_state_floats(spec->v_dim);
    return a;
}

/* Keys [*begin, *end) are seen by the query at `position`. */
static inline void nb_attend_seen(const nb_attention_spec *spec, const nb_attention_span *span, int64_t position,
                                  int64_t *begin, int64_t *end)
{
    int64_t first = spec->window > 0 ? position - spec->window + 1 : 0;
    int64_t last = span->n_positions, after = spec->causal ? 1 : spec->window;
    if (after > 0 && after < last - position)
        last = position + after;
    *begin = first > 0 ? first : 0;
    *end = last > *begin ? last : *begin;
}

#endif
