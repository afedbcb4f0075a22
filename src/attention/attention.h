/* attention.h - the one specification of attention, the pages of the KV cache, and attention over them on the CPU.
 *
 * MHA, GQA and MQA are values of heads and kv_heads; query head h reads kv head h / (heads / kv_heads).
 *
 * The cache is made of pages of NB_PAGE positions. A page holds, for one layer and for each kv head, the keys
 * *transposed* ([k_dim][NB_PAGE]: a vector lane is a position) and the values ([NB_PAGE][v_dim]), in F32, F16, BF16
 * or Q8_0 (blocks of 32 along the head dimension, one scale a position and block, F16 scales), or Q4_0 (the same in 4 bits, after
 * a rotation of each head: kv.h).
 *
 * Batch invariance: a query's result depends on its own vector and the stored keys and values only. Keys are taken in
 * ascending tiles of NB_PAGE absolute positions with a running maximum and sum (FlashAttention, Dao 2022), inside
 * chunks of NB_ATTENTION_CHUNK absolute positions; chunks are merged in ascending order by log-sum-exp. So the result
 * is the same for one query or many, on any number of threads.
 */
#ifndef NB_ATTENTION_ATTENTION_H
#define NB_ATTENTION_ATTENTION_H

#include "base/team.h"
#include "quant/quant.h"

#define NB_PAGE 64
#define NB_ATTENTION_CHUNK 512

/* What a score gains by how far its key is from its query, after the soft cap. All zero: nothing. */
typedef struct nb_attention_bias {
    const float *slopes; /* [heads] ALiBi (Press et al. 2022): slopes[h] |i - j| less; NULL: none */
    float rounded;     /* above 0: instead this times slopes[h] j with j, then the product, in BF16, as Falcon has it */
    const float *near; /* [heads][2 reach + 1] learned (MPNet): near[h][j - i + reach], the first or the last beyond */
    int reach;         /* of near; 1 to 65536 */
} nb_attention_bias;

/* ALiBi's slopes, as all published models have them: with n the largest power of two up to `heads`, 2^(-most k / n) for
 * k = 1 .. n, then 2^(-most (2 k - 1) / (2 n)) for those that are left. most: 8 as a rule. */
void nb_attention_slopes(int heads, double most, float *slopes);

typedef struct nb_attention_spec {
    int heads, kv_heads; /* heads is a multiple of kv_heads */
    int k_dim, v_dim;    /* 1..1024 each */
    float scale;         /* of q.k */
    float softcap;       /* scores = cap tanh(scores / cap); 0: none */
    int64_t window;      /* key j is seen by query i when i - j < window, and, unless causal, j - i < window; 0: none */
    bool causal;         /* key j is seen when j <= i; else all stored positions within the window are */
    nb_attention_bias bias;
    const float *sinks; /* [heads] learned logits that join the softmax's sum without a value (gpt-oss), or NULL */
} nb_attention_spec;

typedef struct nb_kv_layout {
    nb_type type; /* F32, F16, BF16, Q8_0 or Q4_0 */
    int kv_heads, k_dim, v_dim;
} nb_kv_layout;

/* False for a type that is not one of the five; for Q8_0 and Q4_0, k_dim and v_dim must be multiples of 32. */
bool nb_kv_layout_ok(const nb_kv_layout *layout);
/* Bytes of one page of one layer (a multiple of 64). */
size_t nb_kv_page_bytes(const nb_kv_layout *layout);
/* Stores one position's keys [kv_heads][k_dim] and values [kv_heads][v_dim] at `slot` (0..NB_PAGE-1) of a page (64-byte
 * aligned), for kv heads [head_begin, head_end). */
void nb_kv_store(const nb_kv_layout *layout, void *page, int slot, const float *k, const float *v, int head_begin,
                 int head_end);
/* Reads one position of one kv head back as floats (tests, --json of the lab). */
void nb_kv_load(const nb_kv_layout *layout, const void *page, int slot, int kv_head, float *k, float *v);

/* Queries of one sequence: consecutive positions position .. position + n_queries - 1, whose keys and values (and all
 * earlier ones that are still seen) are stored already. */
typedef struct nb_attention_span {
    void *const *pages; /* pages[(p / NB_PAGE) % page_count] holds position p (a ring for window layers) */
    size_t page_count;
    int64_t position;    /* of the first query */
    int64_t n_positions; /* stored in all: keys 0 .. n_positions - 1 (only the seen ones need to be in the ring) */
    size_t n_queries;
    const float *q; /* q[i * q_stride + h * k_dim + d] */
    float *out;     /* out[i * out_stride + h * v_dim + d] */
    size_t q_stride, out_stride;
    float *lse; /* lse[h * n_queries + i], natural logarithm; NULL: nobody asks */
} nb_attention_span;

/* Scratch bytes for all members together. max_queries, max_positions: the largest any call will bring (sums over spans
 * for queries, the largest span for positions). */
size_t nb_attention_scratch(const nb_attention_spec *spec, const nb_kv_layout *layout, size_t max_spans,
                            size_t max_queries, size_t max_positions, int members);

/* Computes all spans; every member of the team calls it with equal arguments (members 1: team may be NULL). It may use
 * nb_team_barrier inside. Outputs are complete for all members only after a barrier that the caller makes. exact: float32
 * throughout (with codes of Q8_0, integers of as many bits) with the most accurate exponential (the oracle's mode); else
 * the same arithmetic may use a faster one. */
void nb_attention_run(const nb_attention_spec *spec, const nb_kv_layout *layout, const nb_attention_span *spans,
                      size_t n_spans, bool exact, void *scratch, nb_team *team, int member, int members);

/* FlashAttention's Algorithm 0 in double precision over plain arrays: the oracle of the tests. k, v: [n_positions][kv_heads][dim]. */
void nb_attention_oracle(const nb_attention_spec *spec, const float *q, const float *k, const float *v,
                         size_t n_queries, int64_t position, size_t n_positions, float *out);

#endif
