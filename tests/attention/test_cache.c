/* The library's cache and decode against the definition in float64 over the values as they are stored: every type, level, team. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/specs.h"
#include "attention/teams.h"
#include "base/cpu.h"

static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};

typedef struct filled {
    nb_kv_cache *cache;
    float *k, *v; /* as stored, [length][kv_heads][dim] */
} filled;

static filled fill(const char *type, size_t kv_heads, size_t k_dim, size_t v_dim, size_t length, uint64_t seed)
{
    filled f;
    size_t k_row = kv_heads * k_dim, v_row = kv_heads * v_dim, first = length / 3;
    f.k = inputs(seed, length * k_row, NB_FLOAT_F32);
    f.v = inputs(seed + 1, length * v_row, NB_FLOAT_F32);
    assert_int_equal(nb_kv_cache_new(type, kv_heads, k_dim, v_dim, length, &f.cache, NULL), NB_OK);
    assert_int_equal(nb_kv_cache_append(f.cache, f.k, f.v, first, NULL), NB_OK);
    assert_int_equal(nb_kv_cache_append(f.cache, f.k + first * k_row, f.v + first * v_row, length - first, NULL),
                     NB_OK);
    assert_int_equal(nb_kv_cache_length(f.cache), length);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(nb_kv_cache_read(f.cache, i, f.k + i * k_row, f.v + i * v_row, NULL), NB_OK);
    return f;
}

static void filled_free(filled *f)
{
    nb_kv_cache_free(f->cache);
    free(f->k);
    free(f->v);
}

static void check(const filled *f, nb_attention_params p, uint64_t seed, const char *what)
{
    size_t n = p.queries * p.out.row, rows = p.heads * p.queries;
    float *q = inputs(seed + 9, p.queries * p.q.row, NB_FLOAT_F32), *out = calloc(n + 1, sizeof *out);
    float *lse = calloc(rows, sizeof *lse);
    double *want = calloc(n + 1, sizeof *want), *want_lse = calloc(rows, sizeof *want_lse);
    p.causal = true;
    assert_int_equal(nb_attention_exact(&p, q, f->k, f->v, want, want_lse, NULL), NB_OK);
    for (int threads = 0; threads < 2; threads++) {
        memset(out, 0, n * sizeof *out);
        memset(lse, 0, rows * sizeof *lse);
        assert_int_equal(nb_attention_decode(f->cache, &p, q, out, lse, threads ? teams[2] : NULL, NULL), NB_OK);
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double)out[i] - want[i]) <= 2e-6))
                fail_msg("%s, %s: out[%zu] is %.9g, not %.9g", what, nb_cpu_level_name(nb_cpu_current()), i,
                         (double)out[i], want[i]);
        for (size_t i = 0; i < rows; i++)
            if (!(fabs((double)lse[i] - want_lse[i]) <= 2e-6))
                fail_msg("%s, %s: lse[%zu] is %.9g, not %.9g", what, nb_cpu_level_name(nb_cpu_current()), i,
                         (double)lse[i], want_lse[i]);
    }
    free(q);
    free(out);
    free(lse);
    free(want);
    free(want_lse);
}

static void check_type(const char *type)
{
    static const size_t shapes[][5] = {/* heads, kv heads, dims, length */
                                       {4, 4, 64, 64, 700},
                                       {8, 2, 64, 32, 1300},
                                       {8, 1, 128, 128, 600},
                                       {6, 3, 96, 64, 77}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i];
        filled f = fill(type, s[1], s[2], s[3], s[4], i);
        nb_attention_params p = nb_attention_defaults(s[0], s[1], s[2], 1 + i % 2 * 2, s[4]);
        p.v_dim = s[3];
        p.v = (nb_attention_stride){0, s[3], s[1] * s[3]};
        p.out = (nb_attention_stride){0, s[3], s[0] * s[3] + i};
        p.q.row += i;
        check(&f, p, i, type);
        float slopes[8], sinks[8];
        nb_attention_slopes((int)s[0], 8, slopes);
        for (size_t h = 0; h < s[0]; h++)
            sinks[h] = (float)h / 4;
        p.softcap = 3;
        p.slopes = slopes;
        p.sinks = sinks;
        p.left = 65;
        check(&f, p, i, type);
        filled_free(&f);
    }
}

static void at_all_levels(void (*each)(const char *type))
{
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (size_t t = 0; t < sizeof types / sizeof *types; t++)
            each(types[t]);
    }
    nb_cpu_set_level(nb_cpu_best());
}

static void test_types(void **state)
{
    (void)state;
    at_all_levels(check_type);
}

/* Keys and values of zeros, subnormal and huge beside ordinary ones, and a key that is no number: it spoils the queries that see
 * it and no other. */
static void check_extremes(const char *type)
{
    enum { DIM = 96, LENGTH = 131, BAD = 129 };
    static const float sizes[] = {0.0f, 1e-40f, 1e-6f, 1.0f, 1.0f, 30.0f};
    nb_attention_params p = nb_attention_defaults(5, 1, DIM, 3, LENGTH);
    filled f = {NULL, inputs(5, LENGTH * DIM, NB_FLOAT_F32), inputs(6, LENGTH * DIM, NB_FLOAT_F32)};
    float *q = inputs(7, 15 * DIM, NB_FLOAT_F32), out[15 * DIM], lse[15];
    double want[15 * DIM], want_lse[15];
    for (size_t i = 0; i < LENGTH * DIM; i++) {
        f.k[i] *= sizes[i / DIM % 6];
        f.v[i] *= sizes[i / 32 % 4]; /* a block of its own */
    }
    f.k[BAD * DIM + 40] = NAN;
    assert_int_equal(nb_kv_cache_new(type, 1, DIM, DIM, LENGTH, &f.cache, NULL), NB_OK);
    assert_int_equal(nb_kv_cache_append(f.cache, f.k, f.v, LENGTH, NULL), NB_OK);
    for (size_t i = 0; i < LENGTH; i++)
        assert_int_equal(nb_kv_cache_read(f.cache, i, f.k + i * DIM, f.v + i * DIM, NULL), NB_OK);
    p.causal = true;
    assert_int_equal(nb_attention_exact(&p, q, f.k, f.v, want, want_lse, NULL), NB_OK);
    assert_int_equal(nb_attention_decode(f.cache, &p, q, out, lse, NULL, NULL), NB_OK);
    for (size_t i = 0; i < 15 * DIM; i++)
        if (i < 5 * DIM ? !(fabs((double)out[i] - want[i]) <= 1e-5) : !isnan(out[i])) /* scores of 30 and more */
            fail_msg("%s, %s: out[%zu] is %.9g, not %.9g", type, nb_cpu_level_name(nb_cpu_current()), i, (double)out[i],
                     want[i]);
    for (size_t i = 0; i < 15; i++) /* [head][query] */
        if (i % 3 == 0 ? !(fabs((double)lse[i] - want_lse[i]) <= 5e-5) : !isnan(lse[i]))
            fail_msg("%s, %s: lse[%zu] is %.9g, not %.9g", type, nb_cpu_level_name(nb_cpu_current()), i, (double)lse[i],
                     want_lse[i]);
    free(q);
    filled_free(&f);
}

static void test_extremes(void **state)
{
    (void)state;
    at_all_levels(check_extremes);
}

static void test_limits(void **state)
{
    (void)state;
    nb_kv_cache *c;
    nb_error err;
    float k[64] = {0}, out[64];
    assert_int_equal(nb_kv_cache_new("q5_0", 1, 32, 32, 8, &c, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "q5_0"));
    assert_int_equal(nb_kv_cache_new("q4_0", 1, 33, 32, 8, &c, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_kv_cache_new("f16", 0, 32, 32, 8, &c, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_kv_cache_new("f16", 1, 32, 32, 0, &c, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_kv_cache_new("f16", 65536, 1024, 1024, (size_t)1 << 40, &c, &err), NB_ERR_ARGUMENT);
    assert_null(c);
    assert_int_equal(nb_kv_cache_new("q8_0", 2, 32, 32, 3, &c, NULL), NB_OK);
    assert_int_equal(nb_kv_cache_append(c, k, k, 1, NULL), NB_OK);
    assert_int_equal(nb_kv_cache_bytes(c), 64 * 2 * 2 * (32 + 2));
    assert_int_equal(nb_kv_cache_append(c, k, k, 3, &err), NB_ERR_LIMIT);
    assert_int_equal(nb_kv_cache_length(c), 1);
    assert_int_equal(nb_kv_cache_read(c, 1, k, k, &err), NB_ERR_ARGUMENT);
    nb_attention_params p = nb_attention_defaults(2, 2, 32, 1, 1), bad = p;
    assert_int_equal(nb_attention_decode(c, &p, k, out, NULL, NULL, NULL), NB_OK);
    bad.keys = 2;
    assert_int_equal(nb_attention_decode(c, &bad, k, out, NULL, NULL, &err), NB_ERR_ARGUMENT);
    bad = p, bad.sink_tokens = 1;
    assert_int_equal(nb_attention_decode(c, &bad, k, out, NULL, NULL, &err), NB_ERR_UNSUPPORTED);
    bad = p, bad.type = NB_FLOAT_F16;
    assert_int_equal(nb_attention_decode(c, &bad, k, out, NULL, NULL, &err), NB_ERR_UNSUPPORTED);
    nb_kv_cache_truncate(c, 0);
    nb_kv_cache_truncate(c, 7);
    assert_int_equal(nb_kv_cache_length(c), 0);
    nb_kv_cache_free(c);
    nb_kv_cache_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_types), cmocka_unit_test(test_extremes),
                                       cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, teams_new, teams_free);
}
