/* Codes and scales of Q8_0 as no rounding of numbers makes them, and queries and weights that no integers are: every level gives
 * what Algorithm 0 gives in double precision over what the page says, and nothing of one row reaches another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/cache.h"
#include "attention/kv.h"
#include "attention/spoiled.h"
#include "attention/teams.h"
#include "base/cpu.h"
#include "num/half.h"

static nb_attention_spec spec_of(int heads, int k_dim, int v_dim)
{
    return (nb_attention_spec){.heads = heads,
                               .kv_heads = 1,
                               .k_dim = k_dim,
                               .v_dim = v_dim,
                               .scale = 1.0f / sqrtf((float)k_dim),
                               .causal = true};
}

static cache normal_cache(const nb_attention_spec *spec, rng *r, size_t positions)
{
    nb_kv_layout layout = {NB_TYPE_Q8_0, 1, spec->k_dim, spec->v_dim};
    float *k = rng_normals(r, positions * (size_t)spec->k_dim), *v = rng_normals(r, positions * (size_t)spec->v_dim);
    cache c = cache_new(&layout, k, v, positions);
    free(k);
    free(v);
    return c;
}

/* What the pages hold now, as floats. */
static void read_back(cache *c)
{
    for (size_t p = 0; p < c->positions; p++)
        nb_kv_load(&c->layout, c->page[p / NB_PAGE], (int)(p % NB_PAGE), 0, c->k + p * (size_t)c->layout.k_dim,
                   c->v + p * (size_t)c->layout.v_dim);
}

static void set_scales(cache *c, size_t position, float k, float v)
{
    nb_kv_head h = nb_kv_head_at(&c->layout, c->page[position / NB_PAGE], 0);
    for (int b = 0; b < c->layout.k_dim / NB_KV_BLOCK; b++)
        h.k_scale[b * NB_PAGE + (int)(position % NB_PAGE)] = nb_f32_to_f16(k);
    for (int b = 0; b < c->layout.v_dim / NB_KV_BLOCK; b++)
        h.v_scale[b * NB_PAGE + (int)(position % NB_PAGE)] = nb_f32_to_f16(v);
}

static void check_oracle(const nb_attention_spec *spec, const cache *c, const float *q, double tolerance)
{
    size_t n = (size_t)(spec->heads * spec->v_dim);
    float *out = malloc(n * sizeof *out), *want = malloc(n * sizeof *want);
    int64_t at = (int64_t)c->positions - 1;
    nb_attention_oracle(spec, q, c->k, c->v, 1, at, c->positions, want);
    for (int exact = 0; exact < 2; exact++) {
        run_steps(spec, c, q, at, 1, 1, exact, teams[exact * 2], out);
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double)out[i] - (double)want[i]) <= tolerance))
                fail_msg("%s, %d heads of %d and %d, %zu positions: out[%zu] is %.9g, not %.9g",
                         nb_cpu_level_name(nb_cpu_current()), spec->heads, spec->k_dim, spec->v_dim, c->positions, i,
                         (double)out[i], (double)want[i]);
    }
    free(out);
    free(want);
}

/* All bytes from -128 to 127, scales from 0 to 0.02, any number of rows of a block, tiles that end anywhere. */
static void check_any_codes(void)
{
    static const int dims[] = {32, 64, 96, 128, 160};
    rng r = {31};
    for (int heads = 1; heads <= 9; heads++) {
        nb_attention_spec spec = spec_of(heads, dims[rng_int(&r, 0, 4)], dims[rng_int(&r, 0, 4)]);
        size_t positions = (size_t)rng_int(&r, 1, 600);
        cache c = normal_cache(&spec, &r, positions);
        for (size_t p = 0; p < positions; p++) {
            nb_kv_head h = nb_kv_head_at(&c.layout, c.page[p / NB_PAGE], 0);
            size_t slot = p % NB_PAGE;
            for (size_t d = 0; d < (size_t)spec.k_dim; d++)
                ((uint8_t *)h.k)[nb_kv_q8_key(slot, d, (size_t)spec.k_dim)] = (uint8_t)rng_int(&r, 0, 255);
            for (size_t d = 0; d < (size_t)spec.v_dim; d++)
                ((int8_t *)h.v)[nb_kv_q8_value(slot, d)] = (int8_t)rng_int(&r, -128, 127);
            for (size_t b = 0; b < (size_t)spec.k_dim / NB_KV_BLOCK; b++)
                h.k_scale[b * NB_PAGE + slot] = nb_f32_to_f16((float)rng_int(&r, 0, 20) / 1000);
            for (size_t b = 0; b < (size_t)spec.v_dim / NB_KV_BLOCK; b++)
                h.v_scale[b * NB_PAGE + slot] = nb_f32_to_f16((float)rng_int(&r, 0, 20) / 1000);
        }
        read_back(&c);
        float *q = rng_normals(&r, (size_t)(heads * spec.k_dim));
        check_oracle(&spec, &c, q, 2e-6);
        free(q);
        cache_free(&c);
    }
}

/* The largest sums there are: all codes at one end, against a query that is one value everywhere (a spike, rotated) and its
 * opposite. All keys are equal, so the values' mean is wanted. */
static void check_ends(void)
{
    enum { DIM = 128, POSITIONS = 200 };
    nb_attention_spec spec = spec_of(4, DIM, DIM);
    rng r = {32};
    cache c = normal_cache(&spec, &r, POSITIONS);
    float q[4 * DIM];
    for (int end = 0; end < 2; end++) {
        for (size_t p = 0; p < POSITIONS; p++) {
            nb_kv_head h = nb_kv_head_at(&c.layout, c.page[p / NB_PAGE], 0);
            for (size_t d = 0; d < DIM; d++) {
                ((uint8_t *)h.k)[nb_kv_q8_key(p % NB_PAGE, d, DIM)] = end ? 255 : 0;
                ((int8_t *)h.v)[nb_kv_q8_value(p % NB_PAGE, d)] = end ? 127 : -128;
            }
            set_scales(&c, p, 0.01f, 0.01f);
        }
        for (int i = 0; i < 4 * DIM; i++) /* rotated: all one value, all another, both signs, one dim alone */
            q[i] = i / DIM == 3 ? 0.3f : i % DIM == 5 ? (float)(1 - i / DIM) * 3.0f : 0;
        read_back(&c);
        check_oracle(&spec, &c, q, 7e-5); /* of values up to 14.5 */
    }
    cache_free(&c);
}

/* Keys or values of nothing; a value a million times the others whose weight is nothing; and queries from far below to far above
 * what a score can tell apart. */
static void check_scales(void)
{
    enum { DIM = 64, POSITIONS = 150 };
    nb_attention_spec spec = spec_of(5, DIM, DIM);
    rng r = {33};
    float *q = rng_normals(&r, 5 * DIM);
    cache c = normal_cache(&spec, &r, POSITIONS);
    for (int d = 0; d < DIM; d++) {
        q[d] *= 1e-38f;
        q[DIM + d] *= 1e-30f;
        q[2 * DIM + d] *= 1e6f;
        q[3 * DIM + d] *= 1e30f;
    }
    check_oracle(&spec, &c, q, 4e-6);
    for (size_t p = 0; p < POSITIONS; p++)
        set_scales(&c, p, p % 3 ? 0.02f : 0, p % 2 ? 0.02f : 0);
    read_back(&c);
    check_oracle(&spec, &c, q, 4e-6);
    for (size_t p = 0; p < POSITIONS; p++)
        set_scales(&c, p, p == 77 ? 60000 : 0.001f, p == 77 ? 60000 : 0.02f);
    read_back(&c);
    for (int h = 0; h < 5; h++) /* key 77 is opposite to every query */
        for (int d = 0; d < DIM; d++)
            q[h * DIM + d] = -c.k[77 * DIM + d] * 1e-9f;
    check_oracle(&spec, &c, q, 4e-6);
    cache_free(&c);
    free(q);
}

/* Position 150 has a scale that is infinite or NaN: queries that see it give NaN, the others what they give without it, bit for
 * bit, in any block. */
static void check_position(float k_scale, float v_scale)
{
    enum { DIM = 32, POSITIONS = 300, ROW = 3 * DIM };
    nb_attention_spec spec = spec_of(3, DIM, DIM);
    spec.window = 60;
    rng r = {6};
    cache c = normal_cache(&spec, &r, POSITIONS);
    float *q = rng_normals(&r, POSITIONS * ROW), *clean = malloc(POSITIONS * ROW * sizeof *clean);
    run_steps(&spec, &c, q, 0, POSITIONS, POSITIONS, false, NULL, clean);
    set_scales(&c, 150, k_scale, v_scale);
    check_spoiled(&spec, &c, q, 150, clean);
    cache_free(&c);
    free(q);
    free(clean);
}

static void check_not_numbers(void)
{
    check_position(NAN, 0.01f);
    check_position(0.01f, NAN);
    check_position(0.01f, INFINITY); /* both signs of it, which meet when the output is rotated back */
}

/* A query that is infinite or NaN among others. */
static void check_odd_queries(void)
{
    enum { DIM = 96, POSITIONS = 130, HEADS = 6 };
    nb_attention_spec spec = spec_of(HEADS, DIM, DIM);
    rng r = {34};
    cache c = normal_cache(&spec, &r, POSITIONS);
    float *q = rng_normals(&r, HEADS * DIM), out[HEADS * DIM], clean[HEADS * DIM];
    run_steps(&spec, &c, q, POSITIONS - 1, 1, 1, false, NULL, clean);
    for (int odd = 0; odd < HEADS; odd++) {
        float was = q[odd * DIM + 7];
        q[odd * DIM + 7] = odd % 2 ? NAN : INFINITY;
        run_steps(&spec, &c, q, POSITIONS - 1, 1, 1, false, teams[odd % 3], out);
        for (int i = 0; i < HEADS * DIM; i++)
            assert_true(i / DIM == odd ? isnan(out[i]) : out[i] == clean[i]);
        q[odd * DIM + 7] = was;
    }
    cache_free(&c);
    free(q);
}

static void test_any_codes(void **state) { (void)state, each_level(check_any_codes); }
static void test_ends(void **state) { (void)state, each_level(check_ends); }
static void test_scales(void **state) { (void)state, each_level(check_scales); }
static void test_not_numbers(void **state) { (void)state, each_level(check_not_numbers); }
static void test_odd_queries(void **state) { (void)state, each_level(check_odd_queries); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_codes), cmocka_unit_test(test_ends),
                                       cmocka_unit_test(test_scales), cmocka_unit_test(test_not_numbers),
                                       cmocka_unit_test(test_odd_queries)};
    return cmocka_run_group_tests(tests, teams_new, teams_free);
}
