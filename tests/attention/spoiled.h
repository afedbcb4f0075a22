/* spoiled.h - a position whose key or value is no number spoils the queries that see it, and no others. */
#ifndef NB_TEST_SPOILED_H
#define NB_TEST_SPOILED_H

#include "attention/cache.h"
#include "attention/teams.h"

/* Queries [positions][heads][k_dim] of a causal window that see position `at` give NaN, the others `clean` bit for bit, in any
 * block and team. */
static inline void check_spoiled(const nb_attention_spec *spec, const cache *c, const float *q, size_t at,
                                 const float *clean)
{
    size_t row = (size_t)spec->heads * (size_t)spec->v_dim, last = at + (size_t)spec->window;
    float *out = malloc(c->positions * row * sizeof *out);
    for (size_t step = 1; step <= c->positions; step = step * 5 + 1) {
        run_steps(spec, c, q, 0, c->positions, step, false, teams[step % 3], out);
        for (size_t i = 0; i < c->positions * row; i++)
            if (i / row >= at && i / row < last)
                assert_true(isnan(out[i]));
            else
                assert_true(out[i] == clean[i]);
    }
    free(out);
}

#endif
