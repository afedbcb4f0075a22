/* Flash and standard attention, forward and backward, against the definition in float64: seeded parameters of every kind, at
 * every level. test_attention_cases.c holds the definition itself to PyTorch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/specs.h"
#include "attention/teams.h"
#include "base/cpu.h"

#define SPECS (NB_TEST_SLOW ? 300 : 2000)


typedef struct tensors {
    spec s;
    void *q, *k, *v;
    double *out, *lse;
    float *got, *got_lse;
    size_t rows;
} tensors;

static void *zeros(size_t n) { return calloc(n + 1, sizeof(double)); }

static tensors tensors_new(uint64_t seed)
{
    tensors t = {.s = random_spec(seed)};
    const nb_attention_params *p = &t.s.p;
    t.q = inputs(t.s.seed, t.s.q_count, p->type);
    t.k = inputs(t.s.seed + 1, t.s.k_count, p->type);
    t.v = inputs(t.s.seed + 2, t.s.v_count, p->type);
    t.rows = p->batch * p->heads * p->queries;
    t.out = zeros(t.s.out_count);
    t.got = zeros(t.s.out_count);
    t.lse = zeros(t.rows);
    t.got_lse = zeros(t.rows);
    return t;
}

static void tensors_free(tensors *t)
{
    spec_free(&t->s);
    void *all[] = {t->q, t->k, t->v, t->out, t->lse, t->got, t->got_lse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static const char *told(uint64_t seed, const nb_attention_params *p)
{
    static char text[400];
    snprintf(
        text, sizeof text,
        "spec %llu at %s: heads %zu/%zu dims %zu %zu lengths %zu %zu type %d causal %d window %lld %lld dilation %zu "
        "globals %zu sinks %zu mask %d fill %g bias %d cap %g dropout %g lengths %d offset %lld",
        (unsigned long long)seed, nb_cpu_level_name(nb_cpu_current()), p->heads, p->kv_heads, p->k_dim, p->v_dim,
        p->queries, p->keys, (int)p->type, p->causal, (long long)p->left, (long long)p->right, p->dilation,
        p->global_count, p->sink_tokens, p->mask != NULL, (double)p->mask_fill, p->bias != NULL, (double)p->softcap,
        (double)p->dropout, p->key_lengths != NULL, (long long)p->offset);
    return text;
}

static void near_all(const double *want, const float *got, size_t n, double bound, const char *what, uint64_t seed,
                     const nb_attention_params *p)
{
    for (size_t i = 0; i < n; i++) {
        double error = want[i] == (double)got[i] ? 0 : fabs(want[i] - (double)got[i]);
        if (!(error <= bound))
            fail_msg("%s[%zu] is %.9g, not %.9g: %s", what, i, (double)got[i], want[i], told(seed, p));
    }
}

/* A log-sum-exp of -1e9 has steps of 64; out grows with dropout, whose 1 / (1 - p) is part of the weights. */
static void same_lse(const tensors *t, uint64_t seed)
{
    for (size_t i = 0; i < t->rows; i++) {
        double error = t->lse[i] == (double)t->got_lse[i] ? 0 : fabs(t->lse[i] - (double)t->got_lse[i]);
        if (!(error <= 2e-6 + 4e-7 * fabs(t->lse[i])))
            fail_msg("lse[%zu] is %.9g, not %.9g: %s", i, (double)t->got_lse[i], t->lse[i], told(seed, &t->s.p));
    }
}

/* Scores have the steps of float32 at their size, which a row's log-sum-exp tells (-1e9 replaces scores); dropout makes
 * weights grow. */
static double bound_of(const tensors *t)
{
    double most = 4;
    for (size_t i = 0; i < t->rows; i++)
        most = fabs(t->lse[i]) < 1e6 ? fmax(most, fabs(t->lse[i])) : most;
    return 2e-6 * most / 4 / (1 - (double)t->s.p.dropout);
}

static void check_forward(uint64_t seed)
{
    tensors t = tensors_new(seed);
    const nb_attention_params *p = &t.s.p;
    nb_attention_stats stats;
    nb_team *by = seed % 3 ? teams[2] : NULL;
    assert_int_equal(nb_attention_exact(p, t.q, t.k, t.v, t.out, t.lse, NULL), NB_OK);
    assert_int_equal(nb_attention_flash(p, t.q, t.k, t.v, t.got, t.got_lse, &stats, by, NULL), NB_OK);
    near_all(t.out, t.got, t.s.out_count, bound_of(&t), "flash out", seed, p);
    same_lse(&t, seed);
    assert_true(stats.tile_keys == 64 && stats.tile_rows > 0 && stats.scratch_bytes > 0);
    memset(t.got, 0, t.s.out_count * sizeof *t.got);
    if (seed % 4 == 0) {
        assert_int_equal(nb_attention_standard(p, t.q, t.k, t.v, t.got, t.got_lse, NULL, NULL, NULL, by, NULL), NB_OK);
        near_all(t.out, t.got, t.s.out_count, bound_of(&t), "standard out", seed, p);
        same_lse(&t, seed);
    }
    tensors_free(&t);
}

static double largest(const double *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

static void check_backward(uint64_t seed)
{
    tensors t = tensors_new(seed);
    const nb_attention_params *p = &t.s.p;
    float *dout = inputs(t.s.seed + 3, t.s.out_count, NB_FLOAT_F32);
    const char *names[] = {"dq", "dk", "dv"};
    size_t counts[] = {t.s.q_count, t.s.k_count, t.s.v_count};
    double *want[3];
    float *got[3];
    for (int i = 0; i < 3; i++) {
        want[i] = zeros(counts[i]);
        got[i] = zeros(counts[i]);
    }
    nb_team *by = seed % 3 ? teams[2] : NULL;
    assert_int_equal(nb_attention_exact_backward(p, t.q, t.k, t.v, dout, want[0], want[1], want[2], NULL), NB_OK);
    assert_int_equal(nb_attention_exact(p, t.q, t.k, t.v, t.out, t.lse, NULL), NB_OK);
    assert_int_equal(nb_attention_flash(p, t.q, t.k, t.v, t.got, t.got_lse, NULL, by, NULL), NB_OK);
    assert_int_equal(
        nb_attention_flash_backward(p, t.q, t.k, t.v, t.got, t.got_lse, dout, got[0], got[1], got[2], NULL, by, NULL),
        NB_OK);
    for (int i = 0; i < 3; i++) {
        near_all(want[i], got[i], counts[i], 5 * bound_of(&t) * fmax(0.5, largest(want[i], counts[i])), names[i], seed,
                 p);
        free(want[i]);
        free(got[i]);
    }
    free(dout);
    tensors_free(&t);
}

/* Each level takes every so many-th spec; the first ones are for all. */
static void at_levels(void (*check)(uint64_t seed), uint64_t specs, uint64_t for_all)
{
    uint64_t levels = (uint64_t)nb_cpu_best() + 1;
    for (uint64_t level = 0; level < levels; level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (uint64_t seed = 0; seed < specs; seed++)
            if (seed < for_all || seed % levels == level)
                check(seed);
    }
    nb_cpu_set_level(nb_cpu_best());
}

static void test_forward(void **state)
{
    (void)state;
    at_levels(check_forward, SPECS, SPECS / 20);
}

static void test_backward(void **state)
{
    (void)state;
    at_levels(check_backward, SPECS / 4, SPECS / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward), cmocka_unit_test(test_backward)};
    return cmocka_run_group_tests(tests, teams_new, teams_free);
}
