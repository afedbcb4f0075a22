/* Attention over pages against Algorithm 0 in double precision, and against itself cut in other ways, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/cache.h"
#include "attention/teams.h"
#include "base/cpu.h"

static const nb_type kv_types[] = {NB_TYPE_F32, NB_TYPE_F16, NB_TYPE_BF16, NB_TYPE_Q8_0, NB_TYPE_Q4_0};

typedef struct problem {
    nb_attention_spec spec;
    nb_kv_layout layout;
    int64_t position;
    size_t queries, positions;
    float sinks[64], slopes[64], near[64 * 11];
} problem;

static void describe(const problem *p, const char *what)
{
    const nb_attention_spec *s = &p->spec;
    print_error("%s at level %s: heads %d/%d dim %d/%d type %d window %ld causal %d cap %g sinks %d, %zu queries at "
                "%ld of %zu; slopes %d (%g), reach %d\n",
                what, nb_cpu_level_name(nb_cpu_current()), s->heads, s->kv_heads, s->k_dim, s->v_dim,
                (int)p->layout.type, (long)s->window, s->causal, (double)s->softcap, s->sinks != NULL, p->queries,
                (long)p->position, p->positions, s->bias.slopes != NULL, (double)s->bias.rounded, s->bias.reach);
}

static problem random_problem(rng *r, nb_type type)
{
    static const int dims[] = {64, 128, 32, 96, 80, 256, 1, 5, 17, 33, 70, 1024};
    problem p = {0};
    int kv_heads = rng_int(r, 1, 3), group = rng_int(r, 1, rng_int(r, 0, 5) ? 4 : 13);
    int k_dim = dims[rng_int(r, 0, 11)], v_dim = rng_int(r, 0, 2) ? k_dim : dims[rng_int(r, 0, 11)];
    if (type == NB_TYPE_Q8_0 || type == NB_TYPE_Q4_0) {
        k_dim = (k_dim + 31) / 32 * 32;
        v_dim = (v_dim + 31) / 32 * 32;
    }
    p.queries = (size_t)rng_int(r, 1, rng_int(r, 0, 3) ? 9 : 90);
    p.position = rng_int(r, 0, rng_int(r, 0, 4) ? 150 : 1300);
    if (k_dim + v_dim > 600)
        p.position %= 600;
    bool causal = rng_int(r, 0, 4) > 0;
    p.positions = (size_t)p.position + p.queries + (causal ? 0 : (size_t)rng_int(r, 0, 100));
    p.spec = (nb_attention_spec){.heads = kv_heads * group,
                                 .kv_heads = kv_heads,
                                 .k_dim = k_dim,
                                 .v_dim = v_dim,
                                 .scale = 1.0f / sqrtf((float)k_dim),
                                 .causal = causal};
    if (rng_int(r, 0, 3) == 0)
        p.spec.softcap = rng_int(r, 0, 1) ? 50.0f : 2.0f;
    if (rng_int(r, 0, 2) == 0)
        p.spec.window = rng_int(r, 1, rng_int(r, 0, 1) ? 20 : 700);
    p.layout = (nb_kv_layout){type, kv_heads, k_dim, v_dim};
    return p;
}

static float *standard(const problem *p, const cache *c, const float *q)
{
    float *out = malloc(p->queries * (size_t)(p->spec.heads * p->spec.v_dim) * sizeof *out);
    nb_attention_oracle(&p->spec, q, c->k, c->v, p->queries, p->position, p->positions, out);
    return out;
}

static double worst(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - (double)b[i]);
        most = e > most || isnan(e) ? e : most;
        if (isnan(most))
            return INFINITY;
    }
    return most;
}

/* One problem at one level: near the oracle, and cut into steps of queries and among members the same bit for bit. */
static void check_level(const problem *p, const cache *c, const float *q, const float *expected, rng *r)
{
    static const size_t steps[] = {1, 1, 7, 64, 512};
    const nb_attention_spec *s = &p->spec;
    size_t n = p->queries * (size_t)(s->heads * s->v_dim);
    float *out = malloc(n * sizeof *out), *again = malloc(n * sizeof *out);
    double tolerance = 2e-6 * sqrt(fmax(1, s->k_dim / 128.0)); /* a score is a sum of k_dim rounded products */
    bool exact = rng_int(r, 0, 1);
    run_steps(s, c, q, p->position, p->queries, p->queries, exact, NULL, out);
    double error = worst(out, expected, n);
    if (!(error <= tolerance))
        describe(p, "not Algorithm 0");
    assert_true(error <= tolerance);
    for (int cut = 0; cut < 2; cut++) {
        memset(again, 0xff, n * sizeof *again);
        run_steps(s, c, q, p->position, p->queries, steps[rng_int(r, 0, 4)], exact, teams[(cut + rng_int(r, 0, 1)) % 3],
                  again);
        if (memcmp(out, again, n * sizeof *out) != 0)
            describe(p, "the cut shows");
        assert_memory_equal(out, again, n * sizeof *out);
    }
    free(out);
    free(again);
}

static void check_problem(const problem *p, rng *r)
{
    const nb_attention_spec *s = &p->spec;
    float *k = rng_normals(r, p->positions * (size_t)(s->kv_heads * s->k_dim));
    float *v = rng_normals(r, p->positions * (size_t)(s->kv_heads * s->v_dim));
    float *q = rng_normals(r, p->queries * (size_t)(s->heads * s->k_dim)), *expected = NULL;
    cache first = {0};
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        cache c = cache_new(&p->layout, k, v, p->positions);
        if (!expected) {
            first = c;
            expected = standard(p, &c, q);
        }
        for (size_t page = 0; page < c.pages; page++)
            assert_memory_equal(c.page[page], first.page[page], nb_kv_page_bytes(&p->layout));
        check_level(p, &c, q, expected, r);
        if (c.page != first.page)
            cache_free(&c);
    }
    nb_cpu_set_level(NB_CPU_LEVELS);
    cache_free(&first);
    free(expected);
    free(k);
    free(v);
    free(q);
}

/* in a third of the problems: ALiBi, Falcon's, or a table */
static void random_bias(rng *r, problem *p)
{
    int heads = p->spec.heads, kind = rng_int(r, 0, 8), reach = rng_int(r, 1, 5);
    if (kind < 2) {
        nb_attention_slopes(heads, 8, p->slopes);
        p->spec.bias.slopes = p->slopes;
        p->spec.bias.rounded = kind == 1 ? p->spec.scale : 0;
    }
    if (kind == 2) {
        for (int i = 0; i < heads * (2 * reach + 1); i++)
            p->near[i] = rng_normal(r);
        p->spec.bias.near = p->near;
        p->spec.bias.reach = reach;
    }
}

/* 320 problems, each KV type in turn, at every level */
static void test_random_problems(void **state)
{
    (void)state;
    rng r = {2024};
    for (int i = 0; i < 320; i++) {
        problem p = random_problem(&r, kv_types[i % 5]);
        if (rng_int(&r, 0, 3) == 0) {
            for (int h = 0; h < p.spec.heads; h++)
                p.sinks[h] = rng_normal(&r);
            p.spec.sinks = p.sinks;
        }
        random_bias(&r, &p);
        check_problem(&p, &r);
    }
}

/* The shapes of real models at real lengths: several chunks, decode and prefill, groups past a block of rows. */
static void test_model_shapes(void **state)
{
    (void)state;
    static const struct {
        int heads, kv_heads, dim, window, position, queries;
    } shapes[] = {{9, 3, 64, 0, 1500, 3},    {14, 2, 64, 0, 700, 40}, {12, 2, 128, 0, 1100, 1},
                  {4, 1, 256, 512, 1200, 2}, {32, 1, 64, 0, 1030, 2}, {9, 3, 64, 0, 0, 130},
                  {4, 1, 256, 100, 300, 64}, {16, 1, 64, 0, 600, 20}};
    rng r = {7};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int dim = shapes[i].dim;
        problem p = {.position = shapes[i].position, .queries = (size_t)shapes[i].queries};
        p.positions = (size_t)p.position + p.queries;
        p.spec = (nb_attention_spec){.heads = shapes[i].heads,
                                     .kv_heads = shapes[i].kv_heads,
                                     .k_dim = dim,
                                     .v_dim = dim,
                                     .scale = 1.0f / sqrtf((float)dim),
                                     .causal = true,
                                     .window = shapes[i].window};
        p.layout = (nb_kv_layout){kv_types[i % 5], shapes[i].kv_heads, dim, dim};
        check_problem(&p, &r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_problems), cmocka_unit_test(test_model_shapes)};
    return cmocka_run_group_tests(tests, teams_new, teams_free);
}
