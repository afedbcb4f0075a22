/* 8-bit optimizers against bitsandbytes 0.50 (tests/data/bitsandbytes: optimizers.safetensors by tools/make_bnb_vectors.py,
 * adam8bit.safetensors with a float32 run beside), at every level this machine has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/cpu.h"
#include "base/team.h"
#include "support/cases.h"
#include "support/safetensors.h"

enum { MOST = 8192 };
static nb_team *team;
static float p[MOST], g[MOST];

static const struct {
    const char *name;
    nb_optimizer_kind kind;
    double decay;
    int states;
} kinds[] = {{"adam", NB_OPTIMIZER_ADAM, 0, 2},         {"adamw", NB_OPTIMIZER_ADAMW, 0.1, 2},
             {"lion", NB_OPTIMIZER_LION, 0.1, 1},       {"momentum", NB_OPTIMIZER_MOMENTUM, 0.1, 1},
             {"rmsprop", NB_OPTIMIZER_RMSPROP, 0.1, 1}, {"adagrad", NB_OPTIMIZER_ADAGRAD, 0.1, 1}};

static nb_optimizer *make(size_t kind, size_t n)
{
    nb_optimizer *o;
    nb_optimizer_params params = nb_optimizer_defaults(kinds[kind].kind);
    params.learning_rate = 1e-3;
    params.weight_decay = kinds[kind].decay;
    assert_int_equal(nb_optimizer_new(kinds[kind].kind, &params, n, &o, NULL), NB_OK);
    return o;
}

/* what a step leaves as a state before it is encoded, in double, from the decoded state before it */
static double exact_state(size_t kind, int which, double m, double grad, double value)
{
    double d = grad + kinds[kind].decay * value;
    switch (kinds[kind].kind) {
    case NB_OPTIMIZER_LION: return 0.99 * m + 0.01 * grad;
    case NB_OPTIMIZER_MOMENTUM: return 0.9 * m + d;
    case NB_OPTIMIZER_RMSPROP: return 0.99 * m + 0.01 * d * d;
    case NB_OPTIMIZER_ADAGRAD: return m + d * d;
    default: return which == 1 ? 0.9 * m + 0.1 * grad : 0.999 * m + 0.001 * grad * grad;
    }
}

typedef struct found {
    size_t equal, beside, n;
    int farthest;
    double square, square_theirs;
} found;

/* Codes of one state after the third step against bitsandbytes': the share of equal ones, the greatest distance. Ours of
 * state 2 is never farther from the exact value than its own, ours of state 1 not in the mean square. */
static found compare_state(const nb_vectors *v, size_t kind, int which, nb_optimizer_state got, const float *grads,
                           size_t n)
{
    char stem[64], end[16];
    found f = {.n = n};
    const float *map = nb_bnb_map8(which == 1);
    snprintf(stem, sizeof stem, "%s.state%d", kinds[kind].name, which);
    const uint8_t *before = nb_vectors_need(v, stem, ".2").p, *want = nb_vectors_need(v, stem, ".3").p;
    snprintf(stem, sizeof stem, "%s.absmax%d", kinds[kind].name, which);
    const float *scale_before = nb_vectors_need(v, stem, ".2").p, *scale = nb_vectors_need(v, stem, ".3").p;
    snprintf(end, sizeof end, ".p.%d", 2);
    const float *values = nb_vectors_need(v, kinds[kind].name, end).p;
    for (size_t i = 0; i < n; i++) {
        float theirs = scale[i / 256], ours = got.absmax[i / 256];
        assert_true(fabsf(ours - theirs) <= (which == 1 ? 1e-2f : 1e-6f) * theirs); /* ours of state 1 is fitted */
        double m = (double)(map[before[i]] * scale_before[i / 256]);
        double exact = exact_state(kind, which, m, (double)grads[i], (double)values[i]);
        double error = fabs((double)map[got.codes[i]] * (double)ours - exact);
        double error_theirs = fabs((double)map[want[i]] * (double)theirs - exact);
        if (which == 2 && !(error <= error_theirs + 2e-6 * (double)theirs))
            fail_msg("%s: state %d of value %zu is %g away, bitsandbytes' %g", kinds[kind].name, which, i, error,
                     error_theirs);
        int distance = abs(got.codes[i] - want[i]);
        f.square += error * error;
        f.square_theirs += error_theirs * error_theirs;
        f.equal += distance == 0;
        f.beside += distance == 1;
        f.farthest = distance > f.farthest ? distance : f.farthest;
    }
    if (!(f.square <= f.square_theirs))
        fail_msg("%s: state %d is %g away in squares, bitsandbytes' %g", kinds[kind].name, which, f.square,
                 f.square_theirs);
    return f;
}

/* loads the states that bitsandbytes had after two steps, and takes the third */
static void check_one_step(const nb_vectors *v, size_t kind)
{
    const char *name = kinds[kind].name;
    nb_vector grads = nb_vectors_need(v, "grads", ""), p0 = nb_vectors_need(v, "p0", "");
    size_t n = p0.n;
    const float *last = (const float *)grads.p + 2 * n, *want = nb_vectors_need(v, name, ".p.3").p;
    nb_optimizer *o = make(kind, n);
    nb_optimizer_set_steps(o, 2);
    memcpy(p, nb_vectors_need(v, name, ".p.2").p, n * sizeof *p);
    for (int which = 1; which <= kinds[kind].states; which++) {
        nb_optimizer_state state = nb_optimizer_state_of(o, which);
        assert_non_null(state.codes);
        assert_null(state.values);
        memcpy(state.codes, nb_vectors_need(v, name, which == 1 ? ".state1.2" : ".state2.2").p, n);
        nb_vector absmax = nb_vectors_need(v, name, which == 1 ? ".absmax1.2" : ".absmax2.2");
        assert_int_equal(absmax.n, nb_bnb_blocks(n, 256));
        memcpy(state.absmax, absmax.p, absmax.n * sizeof(float));
    }
    assert_null(nb_optimizer_state_of(o, kinds[kind].states + 1).codes);
    assert_int_equal(nb_optimizer_step(o, p, last, team, NULL), NB_OK);
    assert_int_equal(nb_optimizer_steps(o), 3);
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(p[i] - want[i]) <= 1e-6f))
            fail_msg("%s: value %zu is %.9g instead of %.9g", name, i, (double)p[i], (double)want[i]);
    found one = compare_state(v, kind, 1, nb_optimizer_state_of(o, 1), last, n);
    if (!(one.equal * 1000 >= n * 995 && one.farthest <= 1))
        fail_msg("%s: %zu of %zu codes of state 1 are equal, one is %d away", name, one.equal, n, one.farthest);
    if (kinds[kind].states == 2) {
        found two = compare_state(v, kind, 2, nb_optimizer_state_of(o, 2), last, n);
        if (!(two.equal * 100 >= n * 95 && two.farthest <= 7))
            fail_msg("%s: %zu of %zu codes of state 2 are equal, one is %d away", name, two.equal, n, two.farthest);
    }
    nb_optimizer_free(o);
}

/* fewer than 4096 values: float32 states, three steps */
static void check_small(const nb_vectors *v, size_t kind)
{
    char name[32];
    snprintf(name, sizeof name, "small.%s", kinds[kind].name);
    nb_vector grads = nb_vectors_need(v, "grads", ""), p0 = nb_vectors_need(v, "p0", "");
    const float *want = nb_vectors_need(v, name, ".p.3").p;
    nb_optimizer *o = make(kind, 300);
    assert_null(nb_optimizer_state_of(o, 1).codes);
    assert_non_null(nb_optimizer_state_of(o, 1).values);
    memcpy(p, p0.p, 300 * sizeof *p);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(nb_optimizer_step(o, p, (const float *)grads.p + i * p0.n, team, NULL), NB_OK);
    for (size_t i = 0; i < 300; i++)
        if (!(fabsf(p[i] - want[i]) <= 1e-6f))
            fail_msg("%s: value %zu is %.9g instead of %.9g", name, i, (double)p[i], (double)want[i]);
    nb_optimizer_free(o);
}

static void test_bitsandbytes(void **state)
{
    (void)state;
    nb_vectors v;
    assert_true(nb_vectors_open(&v, "bitsandbytes/optimizers.safetensors"));
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        check_one_step(&v, kind);
        check_small(&v, kind);
    }
    nb_vectors_close(&v);
}

typedef struct distance {
    double mean, square, most;
} distance;

static distance distance_of(const float *a, const float *b, size_t n)
{
    distance d = {0};
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - (double)b[i]);
        d.mean += e / (double)n;
        d.square += e * e;
        d.most = e > d.most ? e : d.most;
    }
    return d;
}

/* ten steps of Adam from the same start: no farther from the float32 run than bitsandbytes' */
static void test_ten_steps(void **state)
{
    (void)state;
    nb_vectors v;
    assert_true(nb_vectors_open(&v, "bitsandbytes/adam8bit.safetensors"));
    nb_vector grads = nb_vectors_need(&v, "grads", ""), p0 = nb_vectors_need(&v, "p0", "");
    assert_memory_equal(nb_vectors_need(&v, "state.qmap1", "").p, nb_bnb_map8(true), 1024);
    assert_memory_equal(nb_vectors_need(&v, "state.qmap2", "").p, nb_bnb_map8(false), 1024);
    nb_optimizer *o = make(0, p0.n);
    memcpy(p, p0.p, p0.n * sizeof *p);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(nb_optimizer_step(o, p, (const float *)grads.p + i * p0.n, team, NULL), NB_OK);
        if (i == 0) { /* the first step knows no codes yet */
            distance d = distance_of(p, nb_vectors_need(&v, "p_1", "").p, p0.n);
            assert_true(d.most <= 1e-6);
        }
    }
    const float *exact = nb_vectors_need(&v, "p32_10", "").p;
    distance ours = distance_of(p, exact, p0.n), theirs = distance_of(nb_vectors_need(&v, "p_10", "").p, exact, p0.n);
    if (!(ours.mean <= theirs.mean && ours.square <= theirs.square && ours.most <= theirs.most))
        fail_msg("mean %g against bitsandbytes' %g, root mean square %g against %g, most %g against %g", ours.mean,
                 theirs.mean, sqrt(ours.square / (double)p0.n), sqrt(theirs.square / (double)p0.n), ours.most,
                 theirs.most);
    nb_optimizer_free(o);
    nb_vectors_close(&v);
}

/* fifty steps downhill: bitsandbytes' own bound on how far 8-bit Adam strays from float32 */
static void test_fifty_steps(void **state)
{
    (void)state;
    uint64_t seed = 5;
    static float p32[MOST];
    nb_optimizer_params full = nb_optimizer_defaults(NB_OPTIMIZER_ADAM);
    full.min_8bit_size = SIZE_MAX;
    nb_optimizer *o = make(0, MOST), *o32;
    assert_int_equal(nb_optimizer_new(NB_OPTIMIZER_ADAM, &full, MOST, &o32, NULL), NB_OK);
    assert_non_null(nb_optimizer_state_of(o32, 2).values);
    for (size_t i = 0; i < MOST; i++)
        p[i] = p32[i] = (float)(int64_t)nb_random(&seed) * 0x1p-63f;
    double mean = 0;
    for (int step = 0; step < 50; step++) {
        for (size_t i = 0; i < MOST; i++)
            g[i] = (float)(int64_t)nb_random(&seed) * 0x1p-63f * 0.01f;
        assert_int_equal(nb_optimizer_step(o, p, g, team, NULL), NB_OK);
        assert_int_equal(nb_optimizer_step(o32, p32, g, team, NULL), NB_OK);
    }
    mean = distance_of(p, p32, MOST).mean;
    if (!(mean < 5e-4))
        fail_msg("mean distance %g", mean);
    nb_optimizer_free(o);
    nb_optimizer_free(o32);
}

static void test_every_level(void **state)
{
    nb_cpu_level best = nb_cpu_best();
    assert_int_equal(nb_team_new(2, false, &team, NULL), NB_OK);
    for (int level = NB_CPU_REF; level <= (int)best; level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        test_bitsandbytes(state);
        test_ten_steps(state);
        test_fifty_steps(state);
    }
    nb_cpu_set_level(best);
    nb_team_free(team);
}

/* all levels, with threads and without, end with the same bytes */
static void test_same_everywhere(void **state)
{
    (void)state;
    enum { N = 5000 };
    static float first[N];
    uint8_t codes[N];
    nb_cpu_level best = nb_cpu_best();
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        for (int level = NB_CPU_REF; level <= (int)best; level++) {
            uint64_t seed = 77;
            nb_optimizer *o = make(kind, N);
            nb_cpu_set_level((nb_cpu_level)level);
            for (size_t i = 0; i < N; i++)
                p[i] = (float)(int64_t)nb_random(&seed) * 0x1p-63f;
            for (int step = 0; step < 4; step++) {
                for (size_t i = 0; i < N; i++)
                    g[i] = (float)(int64_t)nb_random(&seed) * 0x1p-63f;
                assert_int_equal(nb_optimizer_step(o, p, g, NULL, NULL), NB_OK);
            }
            if (level == NB_CPU_REF) {
                memcpy(first, p, sizeof first);
                memcpy(codes, nb_optimizer_state_of(o, 1).codes, N);
            }
            assert_memory_equal(first, p, sizeof first);
            assert_memory_equal(codes, nb_optimizer_state_of(o, 1).codes, N);
            nb_optimizer_free(o);
        }
    nb_cpu_set_level(best);
}

static void test_refusals(void **state)
{
    (void)state;
    nb_error err;
    nb_optimizer *o;
    nb_optimizer_params params = nb_optimizer_defaults(NB_OPTIMIZER_ADAM);
    params.beta2 = 1;
    assert_int_equal(nb_optimizer_new(NB_OPTIMIZER_ADAM, &params, 10, &o, &err), NB_ERR_ARGUMENT);
    assert_null(o);
    params.beta2 = 0.999;
    params.learning_rate = NAN;
    assert_int_equal(nb_optimizer_new(NB_OPTIMIZER_ADAM, &params, 10, &o, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_optimizer_new((nb_optimizer_kind)99, NULL, 10, &o, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_optimizer_new(NB_OPTIMIZER_ADAM, NULL, SIZE_MAX, &o, &err), NB_ERR_MEMORY);
    assert_int_equal(nb_optimizer_new(NB_OPTIMIZER_ADAM, NULL, 5000, &o, &err), NB_OK);
    for (size_t i = 0; i < 5000; i++)
        p[i] = g[i] = 1;
    g[4321] = INFINITY;
    assert_int_equal(nb_optimizer_step(o, p, g, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "value 4321"));
    assert_int_equal(nb_optimizer_steps(o), 0);
    for (size_t i = 0; i < 5000; i++)
        assert_true(p[i] == 1);
    nb_optimizer_free(o);
    nb_optimizer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_level), cmocka_unit_test(test_same_everywhere),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
