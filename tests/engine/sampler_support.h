/* What the tests of the sampler share: random numbers and logits, a sampler, the beginning of a pick. */
#ifndef TESTS_ENGINE_SAMPLER_SUPPORT_H
#define TESTS_ENGINE_SAMPLER_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/sampler_impl.h"

static uint64_t state = 88172645463325252u;
static inline uint64_t any(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}
static inline double uniform(void) { return (double)any(1u << 30) / (1u << 30); }

enum { MOST = 5000 };

/* kind 0: smooth; 1: tied; 2: with infinities and NaN; 3: all the same */
static inline void fill(float *x, size_t n, int kind)
{
    static const double scales[] = {0.1, 1, 3, 10};
    double scale = scales[any(4)];
    for (size_t i = 0; i < n; i++) {
        double sum = -3;
        for (int j = 0; j < 6; j++)
            sum += uniform();
        x[i] = (float)(sum * scale);
        if (kind == 1)
            x[i] = roundf(x[i]) / 2;
        if (kind == 3)
            x[i] = 1.5f;
        if (kind == 2 && any(4) == 0) {
            const float odd[] = {NAN, -INFINITY, -INFINITY, 0.0f, -0.0f, 3e38f, -3e38f, 1e-40f};
            x[i] = odd[any(8)];
        }
        if (kind == 2 && any(n * 2) == 0)
            x[i] = INFINITY;
    }
}

static inline nb_sampler_params off(void)
{
    nb_sampler_params p = nb_sampler_defaults();
    p.seed = 1;
    p.temperature = 1;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    return p;
}

static inline nb_sampler *make(const nb_sampler_params *p, size_t vocabulary)
{
    nb_sampler *s;
    nb_error err;
    if (nb_sampler_new(p, vocabulary, NULL, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

static inline bool near(double a, double b, double tolerance) { return fabs(a - b) <= tolerance * (1 + fabs(b)); }

static inline void start(nb_sampler *s, const float *x)
{
    s->x = x;
    s->n = s->vocabulary;
    s->whole = true;
    s->scanned = false;
}

static const char *const no_breakers[] = {NULL};

static inline nb_sampler_params dry_params(void)
{
    nb_sampler_params p = off();
    p.dry_multiplier = 0.5f;
    p.dry_base = 2;
    p.dry_breakers = no_breakers;
    return p;
}

/* ---- a tokenizer of a few tokens ---- */

enum { A, B, C, NEWLINE, C_NEWLINE, DASH, X_A, DASHES, X, A_DASH, WHOLE, TOKENS };

static inline nb_tokenizer *make_tokenizer(void)
{
    static const nb_str tokens[TOKENS] = {{"a", 1},  {"b", 1},  {"c", 1}, {"\xC4\x8A", 2}, {"c\xC4\x8A", 3}, {"-", 1},
                                          {"xa", 2}, {"--", 2}, {"x", 1}, {"a-", 2},       {"xa--bx", 6}};
    static const nb_str merges[] = {{"- -", 3}};
    nb_vocab vocab;
    nb_vocab_defaults(&vocab, NB_STR("gpt2"));
    vocab.tokens = tokens;
    vocab.count = TOKENS;
    vocab.merges = merges;
    vocab.merge_count = 1;
    nb_tokenizer *tokenizer;
    nb_error err;
    if (nb_tokenizer_new(&vocab, &tokenizer, &err) != NB_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}

#endif
