/* What scores gain by distance, against PyTorch and transformers (tools/make_bias_vectors.py): ALiBi's slopes, and attention with
 * them, with Falcon's and with MPNet's table, by the oracle and by every level's own code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/cache.h"
#include "attention/teams.h"
#include "base/cpu.h"

static float *read_numbers(FILE *f, size_t n)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fscanf(f, "%f", &x[i]), 1);
    return x;
}

static void check_slopes(int heads, double most, const float *want)
{
    float got[128];
    nb_attention_slopes(heads, most, got);
    for (int h = 0; h < heads; h++)
        assert_true(fabsf(got[h] - want[h]) <= 3e-6f * want[h]); /* theirs are powers of a rounded base */
}

static void check_output(const float *got, const float *want, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        assert_true(fabs((double)got[i] - (double)want[i]) <= tolerance * (1 + fabs((double)want[i])));
}

typedef struct bias_case {
    nb_attention_spec spec;
    int kind, queries, position, positions;
    float *q, *k, *v, *bias, *want;
} bias_case;

static bool read_case(FILE *f, bias_case *c)
{
    int window, causal;
    nb_attention_spec *s = &c->spec;
    *c = (bias_case){0};
    if (fscanf(f, "%d %d %d %d %d %d %d %d %f %f %d %d %d", &c->kind, &s->heads, &s->kv_heads, &s->k_dim, &s->v_dim,
               &c->queries, &c->position, &c->positions, &s->scale, &s->softcap, &window, &causal,
               &s->bias.reach) != 13)
        return false;
    s->window = window;
    s->causal = causal != 0;
    size_t n = (size_t)c->queries, m = (size_t)c->positions, heads = (size_t)s->heads;
    c->q = read_numbers(f, n * heads * (size_t)s->k_dim);
    c->k = read_numbers(f, m * (size_t)(s->kv_heads * s->k_dim));
    c->v = read_numbers(f, m * (size_t)(s->kv_heads * s->v_dim));
    c->bias = read_numbers(f, c->kind == 2 ? heads * (size_t)(2 * s->bias.reach + 1) : heads);
    c->want = read_numbers(f, n * heads * (size_t)s->v_dim);
    if (c->kind == 2)
        s->bias.near = c->bias;
    else
        s->bias.slopes = c->bias;
    s->bias.rounded = c->kind == 1 ? s->scale : 0;
    return true;
}

static void check_case(const bias_case *c)
{
    const nb_attention_spec *s = &c->spec;
    size_t n = (size_t)c->queries, m = (size_t)c->positions, width = n * (size_t)(s->heads * s->v_dim);
    float *out = malloc(width * sizeof *out);
    nb_attention_oracle(s, c->q, c->k, c->v, n, c->position, m, out);
    check_output(out, c->want, width, 2e-7);
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        nb_kv_layout layout = {NB_TYPE_F32, s->kv_heads, s->k_dim, s->v_dim};
        cache stored = cache_new(&layout, c->k, c->v, m);
        for (int team = 0; team < 2; team++) {
            memset(out, 0xff, width * sizeof *out);
            run_steps(s, &stored, c->q, c->position, n, team ? 1 : n, true, team ? teams[1] : NULL, out);
            check_output(out, c->want, width, 2e-6);
        }
        cache_free(&stored);
    }
    nb_cpu_set_level(NB_CPU_LEVELS);
    free(out);
}

static void test_torch(void **state)
{
    (void)state;
    int heads, most, checked = 0;
    FILE *f = fopen(NB_TEST_DATA "/attention/bias.txt", "r");
    bias_case c;
    assert_non_null(f);
    while (fscanf(f, "%d %d", &heads, &most) == 2 && heads > 0) {
        float *want = read_numbers(f, (size_t)heads);
        check_slopes(heads, most, want);
        free(want);
        checked++;
    }
    assert_int_equal(checked, 27);
    for (; read_case(f, &c); checked++) {
        check_case(&c);
        free(c.q), free(c.k), free(c.v), free(c.bias), free(c.want);
    }
    assert_int_equal(checked, 27 + 10);
    fclose(f);
}

/* Scores are equal but for the distance: each key further away weighs 2^-slope of the one before. */
static void test_halves(void **state)
{
    (void)state;
    const float slope[] = {0.69314718056f}, q[] = {0}, k[] = {1, 1, 1}, v[] = {7, 14, 28};
    nb_attention_spec s = {.heads = 1, .kv_heads = 1, .k_dim = 1, .v_dim = 1, .scale = 1, .bias.slopes = slope};
    float out[1];
    nb_attention_oracle(&s, q, k, v, 1, 2, 3, out);
    assert_true(fabsf(out[0] - 21) < 1e-5f); /* (7/4 + 14/2 + 28) / (7/4) */
    nb_attention_oracle(&s, q, k, v, 1, 1, 3, out);
    assert_true(fabsf(out[0] - 15.75f) < 1e-5f); /* (7/2 + 14 + 28/2) / 2: to both sides */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_torch), cmocka_unit_test(test_halves)};
    return cmocka_run_group_tests(tests, teams_new, teams_free);
}
