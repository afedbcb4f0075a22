/* rule.h - what nb_attention_params say of one score, and the checks of them. */
#ifndef NB_ATTENTION_RULE_H
#define NB_ATTENTION_RULE_H

#include <math.h>

#include "base/mem.h"
#include "base/team.h"
#include "num/floats.h"

#define NB_RULE_REPLACES 1e8f /* a bias from here on leaves nothing of a score */

/* NB_ERR_ARGUMENT for parameters that make no sense. */
nb_status nb_rule_check(const nb_attention_params *p, nb_error *err);

static inline size_t nb_rule_at(const nb_attention_stride *s, size_t batch, size_t head, size_t row)
{
    return batch * s->batch + head * s->head + row * s->row;
}

static inline size_t nb_rule_kv_head(const nb_attention_params *p, size_t head)
{
    return head / (p->heads / p->kv_heads);
}

/* A window, or a dilation without one: keys are hidden by where they stand, unless they are special. */
static inline bool nb_rule_windowed(const nb_attention_params *p)
{
    return p->left >= 0 || p->right >= 0 || p->dilation > 1;
}

static inline size_t nb_rule_keys(const nb_attention_params *p, size_t batch)
{
    return p->key_lengths ? nb_min_size(p->key_lengths[batch], p->keys) : p->keys;
}

bool nb_rule_is_global(const nb_attention_params *p, int64_t position);

/* Whether the query at `position` sees a key by causality, window and padding: all but the mask. */
bool nb_rule_seen(const nb_attention_params *p, size_t batch, int64_t position, size_t key);

static inline bool nb_rule_masked(const nb_attention_params *p, size_t batch, size_t head, size_t query, size_t key)
{
    return p->mask && !p->mask[nb_rule_at(&p->mask_stride, batch, head, query) + key];
}

/* ---- dropout: a hash of seed, batch and head, query, then of the key (the last by murmur3's finalizer) ---- */

typedef struct nb_rule_dropout {
    uint32_t a, b, least; /* a weight stays when its hash is `least` or more */
    float grow;
} nb_rule_dropout;

static inline nb_rule_dropout nb_rule_dropout_of(const nb_attention_params *p, size_t batch, size_t head, size_t query)
{
    uint64_t z = p->seed;
    const uint64_t parts[] = {batch * p->heads + head, query};
    for (int i = 0; i < 2; i++) { /* splitmix64's finalizer (Steele et al. 2014) */
        z += parts[i] * 0x9e3779b97f4a7c15u + 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return (nb_rule_dropout){(uint32_t)z, (uint32_t)(z >> 32), (uint32_t)((double)p->dropout * 0x1p32),
                             1.0f / (1.0f - p->dropout)};
}

static inline float nb_rule_kept(const nb_rule_dropout *d, uint32_t key)
{
    uint32_t x = (key ^ d->a) * 0x9e3779b1u + d->b;
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    x ^= x >> 16;
    return x >= d->least ? d->grow : 0.0f;
}

#endif
