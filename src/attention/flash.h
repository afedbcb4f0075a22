/* flash.h - attention over plain arrays: the plan that flash.c and standard.c make of the parameters, and what they ask of
 * the code of one instruction-set level (flash_lanes.h).
 *
 * Keys and queries are put in an order in which a row sees two ranges of keys at most: first the special keys (global tokens,
 * sinks), then the others by residue of the dilation, ascending. So a dilated window is as cheap as a plain one.
 * Queries go likewise, global ones last. Keys and values are copied once into tiles of NB_PAGE keys, as floats. */
#ifndef NB_ATTENTION_FLASH_H
#define NB_ATTENTION_FLASH_H

#include "attention/attend.h"
#include "attention/rule.h"

typedef struct nb_flash_row { /* what a query sees, in the plan's order of keys */
    int64_t position;
    uint32_t specials;   /* keys [0, specials) */
    uint32_t begin, end; /* and [begin, end) */
    uint32_t before;     /* scattered: instead all keys whose own number is less */
    bool scattered;
} nb_flash_row;

typedef struct nb_flash_plan {
    const nb_attention_params *p;
    size_t tiles, specials;
    size_t plain_queries;      /* queries before the global ones */
    uint32_t *key_at;          /* [tiles * NB_PAGE] the key at a place; NULL: itself */
    uint32_t *query_at;        /* [queries]; NULL: itself */
    uint32_t *class_begin;     /* [dilation + 1] first place of a residue's keys */
    nb_flash_row *rows;        /* [row_batches][queries] by place */
    size_t row_batches;        /* batch, or 1 where all are alike */
    size_t k_pad, v_pad;       /* dims in whole vectors */
    bool pairs;                /* bfloat16 queries and keys stay what they are, two dims a float's place */
    float *k_tiles, *v_tiles;  /* [batch][kv_heads][tiles] of [depth][NB_PAGE]; of [NB_PAGE][v_pad] */
    float *k_rows, *v_columns; /* backward: of [NB_PAGE][k_pad]; of [v_dim][NB_PAGE] */
    size_t bytes;              /* taken so far */
} nb_flash_plan;

static inline size_t nb_flash_query(const nb_flash_plan *plan, size_t place)
{
    return plan->query_at ? plan->query_at[place] : place;
}
static inline size_t nb_flash_key(const nb_flash_plan *plan, size_t place)
{
    return plan->key_at ? plan->key_at[place] : place;
}
static inline const nb_flash_row *nb_flash_row_of(const nb_flash_plan *plan, size_t batch, size_t place)
{
    return plan->rows + (plan->row_batches > 1 ? batch * plan->p->queries : 0) + place;
}
/* Rows of a tile of keys, and places of a query in scratch. */
static inline size_t nb_flash_depth(const nb_flash_plan *plan)
{
    return plan->pairs ? (plan->p->k_dim + 1) / 2 : plan->p->k_dim;
}
static inline size_t nb_flash_tile(const nb_flash_plan *plan, size_t batch, size_t kv_head, size_t tile)
{
    return (batch * plan->p->kv_heads + kv_head) * plan->tiles + tile;
}

/* What a row's weights are made of: exp2(score - top) scale; and out . dout, the mean of their gradients. */
typedef struct nb_flash_sum {
    float top, scale, mean;
} nb_flash_sum;

/* What any of some rows may see. */
typedef struct nb_flash_range {
    size_t specials, begin, end, tiles; /* tiles: of the plan, where one row's keys are scattered; else 0 */
} nb_flash_range;

nb_flash_range nb_flash_range_of(const nb_flash_plan *plan, size_t batch, size_t query, size_t queries);

/* The first tile from `tile` on that they may see a key of; SIZE_MAX: none. */
static inline size_t nb_flash_next(const nb_flash_range *r, size_t tile)
{
    if (tile * NB_PAGE < r->specials || tile < r->tiles)
        return tile;
    tile = nb_max_size(tile, r->begin / NB_PAGE);
    return tile * NB_PAGE < r->end ? tile : SIZE_MAX;
}

/* Queries [query, query + queries) by place, heads [head, head + heads) of one kv head: row r is query r / heads and
 * head r % heads. */
typedef struct nb_flash_job {
    const nb_flash_plan *plan;
    const void *q, *k, *v;
    float *out, *lse;
    size_t batch, head, heads, query, queries, tile;
    float *scratch;
    uint64_t visited; /* out: tiles */
    /* standard */
    float *matrix, *scores,
        *alphas; /* matrix: [queries][tiles * NB_PAGE] of this job; the others NULL or the caller's */
    /* backward */
    const float *dout;
    nb_flash_sum *sums; /* [batch][heads][queries]; forward without `out` sets top and scale */
    float *dq, *dk, *dv;
    bool merged; /* backward_kv adds to dq, too */
} nb_flash_job;

typedef struct nb_flash_table {
    void (*pack)(const nb_flash_job *job); /* one tile of one kv head */
    void (*forward)(nb_flash_job *job);
    void (*standard)(nb_flash_job *job);
    void (*backward_q)(nb_flash_job *job);  /* dq of the job's rows: at most NB_PAGE, one head */
    void (*backward_kv)(nb_flash_job *job); /* dk and dv of the job's tile */
    /* Both for all of the job's kv head: five products instead of seven. For whole vectors of k_dim, and queries in their own
     * order. */
    void (*backward_head)(nb_flash_job *job);
} nb_flash_table;

extern const nb_flash_table nb_flash_table_ref;
#if defined(__x86_64__)
extern const nb_flash_table nb_flash_table_avx2, nb_flash_table_fma, nb_flash_table_avx512;
#endif
const nb_flash_table *nb_flash_table_current(void);

/* The areas of a thread's scratch, in floats. Rows: as many as attention over a cache takes. */
typedef struct nb_flash_areas {
    size_t q, scores, states, end; /* forward: [rows][k_dim], [8][NB_PAGE], [rows] states */
    /* backward: a block of queries [NB_PAGE][k_dim] scaled and [k_pad] as they are, of dout [v_pad], weights and gradients
     * [NB_PAGE][NB_PAGE] as they come and transposed, sums */
    size_t plain_q, dout, p, ds, pt, dst, sum_k, sum_v, backward_end;
} nb_flash_areas;

float *nb_flash_floats(size_t n); /* aligned to 64 bytes; NULL: no room */
void nb_flash_floats_free(float *p, size_t n);
size_t nb_flash_max_rows(const nb_attention_params *p);
nb_flash_areas nb_flash_areas_of(const nb_attention_params *p);

nb_status nb_flash_plan_new(const nb_attention_params *p, bool backward, nb_flash_plan *plan, nb_error *err);
void nb_flash_plan_free(nb_flash_plan *plan);
/* Copies keys and values into tiles. */
void nb_flash_pack(const nb_flash_plan *plan, const void *k, const void *v, nb_team *team);
#endif
