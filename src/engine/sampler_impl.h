/* sampler_impl.h - what the sampler's files share: the state, the candidates, and the few operations on them.
 *
 * Candidates are always in ascending order of token id: no stage sorts. A cut keeps the best k, or the best that
 * together weigh enough; equal logits fall to the lower id. Probabilities are whole-number weights, 2^40 for the best
 * candidate, so that their sums are exact in any order and the draw is a comparison of integers. */
#ifndef NB_ENGINE_SAMPLER_IMPL_H
#define NB_ENGINE_SAMPLER_IMPL_H

#include "engine/sampler.h"
#include "engine/sampler_math.h"

enum {
    SAMPLER_BLOCK = 64,               /* logits that share one maximum in `block` */
    SAMPLER_BINS = 1024,              /* of a histogram of distances */
    SAMPLER_VOCABULARY_MAX = 1 << 22, /* keeps the sum of all weights below 2^62 */
    SAMPLER_HISTORY_MAX = 1 << 17     /* tokens that penalties and DRY look back at most */
};

typedef enum stage {
    STAGE_PENALTIES,
    STAGE_DRY,
    STAGE_TOP_N_SIGMA,
    STAGE_TOP_K,
    STAGE_TYPICAL,
    STAGE_TOP_P,
    STAGE_MIN_P,
    STAGE_XTC,
    STAGE_TEMPERATURE,
    STAGES
} stage;

/* The last `window` tokens, oldest overwritten. */
typedef struct ring {
    int32_t *token; /* [window] */
    size_t window, count, next;
} ring;

typedef struct penalties {
    bool all; /* the whole history counts: no ring */
    ring recent;
    uint32_t *count;   /* [vocabulary] in the window */
    int32_t *distinct; /* [distinct_count] ids with count > 0 */
    uint32_t *slot;    /* [vocabulary] where in distinct */
    size_t distinct_count;
} penalties;

/* A sequence that ends a repetition: token head, then the tail. */
typedef struct breaker {
    int32_t head;
    uint32_t tail_count;
    size_t tail; /* into dry.tails */
} breaker;

typedef struct dry {
    ring recent;
    int32_t *reversed;     /* [window] the history, newest first */
    uint32_t *overlap;     /* [window] Z-array of reversed */
    uint32_t *longest;     /* [vocabulary] the longest repetition the token would extend; zero between picks */
    unsigned char *breaks; /* [vocabulary] the token alone is a breaker */
    breaker *breakers;     /* longer ones, by head */
    size_t breaker_count;
    int32_t *tails;
    unsigned max_exponent; /* keeps base^exponent inside float; 0: no limit */
} dry;

struct nb_sampler {
    nb_sampler_params p; /* its pointers are dropped */
    nb_arena arena;
    size_t vocabulary;
    nb_logit_bias *bias;
    stage stages[STAGES];
    int stage_count;
    double log_min_p;
    nb_rng rng, xtc_rng; /* two streams: XTC's coin says nothing about the draw */
    double mu;           /* mirostat */
    penalties penalties;
    dry dry;

    /* the candidates: token i when whole, else token id[i], ascending */
    const struct nb_sampler_lanes *lanes;
    const float *x; /* [n] the caller's logits until something is changed, then `logit` */
    size_t n;
    bool whole, scanned; /* scanned: block and max are true of x */
    float max;
    float *logit;           /* [vocabulary] */
    int32_t *id;            /* [vocabulary] */
    uint64_t *key, *weight; /* [vocabulary] scratch of the cuts */
    float *block;           /* [blocks] the largest logit of each; NaN counts as -inf */
    uint64_t *block_weight; /* [blocks] the sum of each, from nb_sampler_total */
};

/* ---- sampler_lanes*.c: the largest of every whole block and of all; a block's weights and their sum; the bins of a
 * block's distances from max + centre ---- */
typedef struct nb_sampler_lanes {
    float (*scan)(const float *x, size_t blocks, float *block);
    uint64_t (*weigh)(const float *x, float max, uint64_t *weight);
    void (*bins)(const float *x, float max, double centre, int32_t *bin);
} nb_sampler_lanes;
extern const nb_sampler_lanes nb_sampler_lanes_ref, nb_sampler_lanes_avx2;

/* ---- sampler_select.c ---- */
void nb_sampler_scan(nb_sampler *s);     /* fills block and max */
size_t nb_sampler_argmax(nb_sampler *s); /* index of the best candidate */
/* Weights of the block of candidates that begins there, 2^40 e^(x - max) rounded, and their sum; those beyond the end
 * are 0. Call nb_sampler_scan before. */
uint64_t nb_sampler_weigh(const nb_sampler *s, size_t begin, uint64_t weight[SAMPLER_BLOCK]);
/* The sum of all weights. These need it, of the same candidates: the mean of x - max under the weights; the index of a
 * random candidate, and its weight. */
uint64_t nb_sampler_total(nb_sampler *s);
double nb_sampler_mean_gap(nb_sampler *s, uint64_t total);
size_t nb_sampler_draw(nb_sampler *s, uint64_t total, uint64_t *weight);

/* Sort keys: ascending means better first; the low half is the candidate's index, which makes them unique. */
uint64_t nb_sampler_key(float x, size_t index);
float nb_sampler_key_value(uint64_t key);

/* Puts the keys of all candidates with x >= least into key, with weights when sum is asked for; returns how many. Gives
 * up soon after `most`. */
size_t nb_sampler_collect(nb_sampler *s, float least, size_t most, uint64_t *sum);
/* At least the best min(k, n) candidates' keys, and not many more. */
size_t nb_sampler_collect_top(nb_sampler *s, size_t k);
/* The last key, in ascending order, of the shortest run that has min_count keys and weighs `target` (weight NULL:
 * only the count matters); UINT64_MAX when all together do not. Reorders key and weight. Linear in n. */
uint64_t nb_sampler_cut(uint64_t *key, uint64_t *weight, size_t n, uint64_t target, size_t min_count);

/* Filters in place: put candidate i at place `to` <= i, and say in the end how many there are. */
static inline void nb_sampler_put(nb_sampler *s, size_t to, size_t i)
{
    s->id[to] = s->whole ? (int32_t)i : s->id[i];
    s->logit[to] = s->x[i];
}
static inline void nb_sampler_kept(nb_sampler *s, size_t n)
{
    s->x = s->logit;
    s->n = n;
    s->whole = s->scanned = false;
}
/* Keeps the candidates whose x - max is nearest to `centre`, in a run that weighs `target` and has min_count of them;
 * all when there is no such run. Equally near: the lower id; centre 0: by x alone. */
void nb_sampler_keep_nearest(nb_sampler *s, double centre, uint64_t target, size_t min_count);
/* Keeps candidates up to this key; those with x >= least; only the one at this index; the best k. */
void nb_sampler_keep_key(nb_sampler *s, uint64_t last);
void nb_sampler_keep_least(nb_sampler *s, float least);
void nb_sampler_keep_one(nb_sampler *s, size_t index);
void nb_sampler_keep_top(nb_sampler *s, size_t k);
/* Makes the logits ours to change; the place of token id among them, or NULL when it is no candidate. */
void nb_sampler_own(nb_sampler *s);
float *nb_sampler_find(nb_sampler *s, int32_t id);

/* ---- sampler_stages.c ---- */
void nb_sampler_bias(nb_sampler *s);
void nb_sampler_stage(nb_sampler *s, stage which);
size_t nb_sampler_mirostat(nb_sampler *s); /* cuts, draws, and adapts mu; the index drawn */

/* ---- sampler_history.c ---- */
nb_status nb_sampler_penalties_new(nb_sampler *s, nb_error *err);
void nb_sampler_penalties_accept(penalties *p, int32_t id);
void nb_sampler_penalties_reset(nb_sampler *s);
void nb_sampler_penalties_apply(nb_sampler *s);
nb_status nb_sampler_dry_new(nb_sampler *s, const nb_sampler_params *params, const nb_tokenizer *tokenizer,
                             nb_error *err);
void nb_sampler_dry_accept(dry *d, int32_t id);
void nb_sampler_dry_reset(dry *d);
void nb_sampler_dry_apply(nb_sampler *s);

/* ---- sampler_breakers.c: which tokens and token sequences contain or complete a breaker string ---- */
nb_status nb_sampler_breakers_new(nb_sampler *s, const char *const *strings, size_t count,
                                  const nb_tokenizer *tokenizer, nb_error *err);

#endif
