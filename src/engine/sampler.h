/* sampler.h - from logits to a token: a chain of stages in llama.cpp's default order. Deterministic: the same seed,
 * parameters and logits give the same token everywhere. */
#ifndef NB_ENGINE_SAMPLER_H
#define NB_ENGINE_SAMPLER_H

#include "text/tokenizer.h"

typedef struct nb_logit_bias { int32_t id; float bias; } nb_logit_bias;

typedef struct nb_sampler_params {
    uint64_t seed;             /* NB_SEED_RANDOM: a fresh one */
    float temperature;         /* <= 0: greedy */
    float dynatemp_range, dynatemp_exponent;
    int top_k;                 /* <= 0: off */
    float top_p;               /* >= 1: off */
    float min_p;               /* <= 0: off */
    float typical_p;           /* >= 1: off */
    float top_n_sigma;         /* < 0: off */
    float xtc_probability, xtc_threshold;
    int repeat_last_n;         /* 0: off, -1: all */
    float repeat_penalty;      /* 1: off */
    float frequency_penalty, presence_penalty; /* 0: off */
    float dry_multiplier;      /* 0: off */
    float dry_base;
    int dry_allowed_length, dry_penalty_last_n;
    const char *const *dry_breakers; /* NULL: the default four */
    size_t dry_breaker_count;
    int mirostat;              /* 0, 1 or 2 */
    float mirostat_tau, mirostat_eta;
    const nb_logit_bias *bias;
    size_t bias_count;
    int min_keep;
    const char *order;         /* semicolon-separated stage names; NULL: the default order */
} nb_sampler_params;

#define NB_SEED_RANDOM UINT64_MAX

nb_sampler_params nb_sampler_defaults(void);

typedef struct nb_sampler nb_sampler;

/* tokenizer: for DRY's sequence breakers; may be NULL when dry_multiplier is 0. Parameters are copied. */
nb_status nb_sampler_new(const nb_sampler_params *params, size_t vocabulary, const nb_tokenizer *tokenizer, nb_sampler **out,
                         nb_error *err);
void nb_sampler_free(nb_sampler *s);
/* Chooses a token; logits[vocabulary] is read only. Allocates nothing. */
int32_t nb_sampler_pick(nb_sampler *s, const float *logits);
/* Tells the history (penalties, DRY) of a token: the prompt's and each chosen one. */
void nb_sampler_accept(nb_sampler *s, int32_t id);
void nb_sampler_reset(nb_sampler *s);
uint64_t nb_sampler_seed(const nb_sampler *s); /* the one in use, when it was random */

#endif
