/* sampler.h - from logits to a token: a chain of stages in llama.cpp's default order. Deterministic: the same seed,
 * parameters and logits give the same token everywhere. */
#ifndef NB_ENGINE_SAMPLER_H
#define NB_ENGINE_SAMPLER_H

#include "text/tokenizer.h"

typedef struct nb_sampler nb_sampler;

/* tokenizer: for DRY's sequence breakers; may be NULL when dry_multiplier is 0, or when there are none (dry_breakers
 * not NULL, dry_breaker_count 0). Parameters are copied. vocabulary: 1 to 4,194,304.
 * order: names separated by ';', each at most once; "" runs none. Stages that are off by their value are skipped.
 * A temperature of 0 or less keeps the best token where the order has it; without that stage there is no temperature.
 * Mirostat: penalties, DRY and temperature as ordered, its own cut in place of the others.
 * The windows of penalties and DRY: at most 131,072 tokens; -1 is all for penalties, 131,072 for DRY. */
nb_status nb_sampler_new(const nb_sampler_params *params, size_t vocabulary, const nb_tokenizer *tokenizer,
                         nb_sampler **out, nb_error *err);
void nb_sampler_free(nb_sampler *s);
/* Chooses a token; logits[vocabulary] is read only. Allocates nothing. NaN counts as -inf; several +inf share all the
 * probability; when all are -inf, all are equally likely. Of equal logits the lower id is the better one. */
int32_t nb_sampler_pick(nb_sampler *s, const float *logits);
/* The same among the tokens whose bit is set (id & 31 of word id / 32) alone, as if there were no others: for grammars
 * (text/grammar.h). At least one bit must be set, and none beyond the vocabulary. */
int32_t nb_sampler_pick_allowed(nb_sampler *s, const float *logits, const uint32_t *allowed);
/* Tells the history (penalties, DRY) of a token: the prompt's and each chosen one. */
void nb_sampler_accept(nb_sampler *s, int32_t id);
void nb_sampler_reset(nb_sampler *s);
uint64_t nb_sampler_seed(const nb_sampler *s); /* the one in use, when it was random */

#endif
