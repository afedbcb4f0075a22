/* The oracle of the other attention tests, against cases computed by hand and against numpy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/cache.h"

static void near(float got, double want) { assert_true(fabs((double)got - want) <= 2e-7 * (1 + fabs(want))); }

/* scores 0 and ln 3: weights 1/4 and 3/4 */
static void test_two_keys(void **state)
{
    (void)state;
    nb_attention_spec s = {.heads = 1, .kv_heads = 1, .k_dim = 1, .v_dim = 2, .scale = 1};
    const float q[] = {2.0f}, k[] = {0.0f, 0.5f * 1.0986122887f}, v[] = {4, 0, 8, -4};
    float out[2];
    nb_attention_oracle(&s, q, k, v, 1, 1, 2, out);
    near(out[0], 7);
    near(out[1], -3);
}

static void test_mask(void **state)
{
    (void)state;
    nb_attention_spec s = {.heads = 1, .kv_heads = 1, .k_dim = 1, .v_dim = 1, .scale = 1, .causal = true};
    const float q[] = {0, 0, 0, 0}, k[] = {1, 1, 1, 1}, v[] = {8, 4, 2, 1};
    float out[4];
    nb_attention_oracle(&s, q, k, v, 4, 0, 4, out); /* the mean of what is seen */
    near(out[0], 8), near(out[1], 6), near(out[2], 14.0 / 3), near(out[3], 3.75);
    s.window = 1;
    nb_attention_oracle(&s, q, k, v, 4, 0, 4, out);
    near(out[0], 8), near(out[1], 4), near(out[2], 2), near(out[3], 1);
    s.window = 2;
    nb_attention_oracle(&s, q, k, v, 2, 2, 4, out);
    near(out[0], 3), near(out[1], 1.5);
    s.causal = false;
    s.window = 0;
    nb_attention_oracle(&s, q, k, v, 2, 0, 4, out);
    near(out[0], 3.75), near(out[1], 3.75);
    s.window = 2; /* to both sides */
    nb_attention_oracle(&s, q, k, v, 4, 0, 4, out);
    near(out[0], 6), near(out[1], 14.0 / 3), near(out[2], 7.0 / 3), near(out[3], 1.5);
}

/* A sink of the key's own score takes half of the weight; one far above takes all. */
static void test_sinks(void **state)
{
    (void)state;
    const float sinks[] = {0, 90}, q[] = {1, 1}, k[] = {0}, v[] = {6};
    nb_attention_spec s = {.heads = 2, .kv_heads = 1, .k_dim = 1, .v_dim = 1, .scale = 1, .sinks = sinks};
    float out[2];
    nb_attention_oracle(&s, q, k, v, 1, 0, 1, out);
    near(out[0], 3), near(out[1], 0);
}

/* Scores are capped before the softmax: cap tanh(s / cap) of +-1e6 is +-cap. */
static void test_softcap(void **state)
{
    (void)state;
    nb_attention_spec s = {.heads = 1, .kv_heads = 1, .k_dim = 1, .v_dim = 1, .scale = 1, .softcap = 0.5493061443f};
    const float q[] = {1}, k[] = {1e6f, -1e6f}, v[] = {1, 0};
    float out[1];
    nb_attention_oracle(&s, q, k, v, 1, 0, 2, out);
    near(out[0], 0.75); /* e^(2 cap) = 3 */
}

/* Heads 0, 1 read kv head 0 and heads 2, 3 kv head 1. */
static void test_groups(void **state)
{
    (void)state;
    nb_attention_spec s = {.heads = 4, .kv_heads = 2, .k_dim = 1, .v_dim = 1, .scale = 1};
    const float q[] = {1, 2, 3, 4}, k[] = {1, 1}, v[] = {5, 7};
    float out[4];
    nb_attention_oracle(&s, q, k, v, 1, 0, 1, out);
    near(out[0], 5), near(out[1], 5), near(out[2], 7), near(out[3], 7);
}

static float *read_numbers(FILE *f, size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fscanf(f, "%f", &x[i]), 1);
    return x;
}

static void test_numpy(void **state)
{
    (void)state;
    FILE *f = fopen(NB_TEST_DATA "/attention/standard.txt", "r");
    assert_non_null(f);
    nb_attention_spec s = {0};
    int queries, position, positions, window, causal, sinks, cases = 0;
    while (fscanf(f, "%d %d %d %d %d %d %d %f %f %d %d %d", &s.heads, &s.kv_heads, &s.k_dim, &s.v_dim, &queries,
                  &position, &positions, &s.scale, &s.softcap, &window, &causal, &sinks) == 12) {
        size_t n = (size_t)queries, m = (size_t)positions, out_n = n * (size_t)(s.heads * s.v_dim);
        s.window = window;
        s.causal = causal != 0;
        float *q = read_numbers(f, n * (size_t)(s.heads * s.k_dim));
        float *k = read_numbers(f, m * (size_t)(s.kv_heads * s.k_dim));
        float *v = read_numbers(f, m * (size_t)(s.kv_heads * s.v_dim));
        float *sink = sinks ? read_numbers(f, (size_t)s.heads) : NULL;
        float *want = read_numbers(f, out_n), *out = malloc(out_n * sizeof *out);
        s.sinks = sink;
        nb_attention_oracle(&s, q, k, v, n, position, m, out);
        for (size_t i = 0; i < out_n; i++)
            near(out[i], (double)want[i]);
        free(q), free(k), free(v), free(sink), free(want), free(out);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_keys), cmocka_unit_test(test_mask),
                                       cmocka_unit_test(test_sinks),    cmocka_unit_test(test_softcap),
                                       cmocka_unit_test(test_groups),   cmocka_unit_test(test_numpy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
