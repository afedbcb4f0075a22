/* Choosing among the tokens of a mask: the same choice, draw by draw, as when the logits of all others are -inf. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/sampler.h"
#include "support/cases.h"

enum { COUNT = 1003, WORDS = (COUNT + 31) / 32, DRAWS = 300 };

static uint64_t seed = 7;

/* few: only a handful is allowed */
static void fill(float *logits, float *masked, uint32_t *bits, bool few)
{
    memset(bits, 0, WORDS * sizeof *bits);
    for (uint32_t i = 0; i < COUNT; i++) {
        logits[i] = (float)(nb_random(&seed) % 20000) / 1000;
        if (nb_random(&seed) % (few ? 300 : 3) == 0 || i == 500 || i == 501) /* two: one alone takes no random number */
            bits[i / 32] |= 1u << i % 32;
        masked[i] = bits[i / 32] >> i % 32 & 1 ? logits[i] : -INFINITY;
    }
}

static nb_sampler *sampler(const nb_sampler_params *p)
{
    nb_sampler *s;
    nb_error err;
    if (nb_sampler_new(p, COUNT, NULL, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

static void compare(nb_sampler_params p)
{
    static float logits[COUNT], masked[COUNT];
    uint32_t bits[WORDS];
    p.seed = 11;
    nb_sampler *a = sampler(&p), *b = sampler(&p);
    for (int i = 0; i < DRAWS; i++) {
        fill(logits, masked, bits, i % 2);
        int32_t id = nb_sampler_pick_allowed(a, logits, bits);
        assert_true(id >= 0 && id < COUNT && (bits[id / 32] >> id % 32 & 1));
        assert_int_equal(id, nb_sampler_pick(b, masked));
        nb_sampler_accept(a, id);
        nb_sampler_accept(b, id);
    }
    nb_sampler_free(a);
    nb_sampler_free(b);
}

static void same_as_without_the_others(void **state)
{
    static const nb_logit_bias bias[] = {{3, 4}, {500, -2}, {700, 9}};
    nb_sampler_params p = nb_sampler_defaults();
    (void)state;
    compare(p);
    p.temperature = 0;
    compare(p);
    p.temperature = 2;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    compare(p);
    p.repeat_penalty = 1.3f;
    p.presence_penalty = 0.5f;
    p.bias = bias;
    p.bias_count = 3;
    compare(p);
    p.top_n_sigma = 1.5f;
    compare(p);
    p.top_n_sigma = -1;
    p.typical_p = 0.7f;
    p.xtc_probability = 0.5f;
    compare(p);
}

static void one_token(void **state)
{
    static float logits[COUNT];
    uint32_t bits[WORDS] = {0};
    nb_sampler_params p = nb_sampler_defaults();
    nb_sampler *s = sampler(&p);
    (void)state;
    bits[COUNT / 32] = 1u << (COUNT - 1) % 32;
    for (int i = 0; i < COUNT; i++)
        logits[i] = i == COUNT - 1 ? -INFINITY : 5;
    assert_int_equal(nb_sampler_pick_allowed(s, logits, bits), COUNT - 1);
    nb_sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_without_the_others), cmocka_unit_test(one_token)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
