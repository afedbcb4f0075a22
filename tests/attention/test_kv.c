/* Pages: what is stored comes back as its type can hold it, in its place and nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/cache.h"
#include "attention/kv.h"
#include "base/cpu.h"

static void test_layout(void **state)
{
    (void)state;
    nb_kv_layout ok = {NB_TYPE_F16, 3, 64, 64}, odd = {NB_TYPE_Q8_0, 3, 64, 80}, type = {NB_TYPE_Q4_K, 1, 256, 256};
    nb_kv_layout none = {NB_TYPE_F32, 1, 0, 1}, big = {NB_TYPE_F32, 1, 1, 1025}, heads = {NB_TYPE_F32, 0, 1, 1};
    assert_true(nb_kv_layout_ok(&ok));
    assert_false(nb_kv_layout_ok(&odd) || nb_kv_layout_ok(&type) || nb_kv_layout_ok(&none) || nb_kv_layout_ok(&big) ||
                 nb_kv_layout_ok(&heads));
    nb_kv_layout q8 = {NB_TYPE_Q8_0, 2, 64, 96}, f32 = {NB_TYPE_F32, 1, 3, 5}, bf16 = {NB_TYPE_BF16, 1, 1, 1};
    assert_int_equal(nb_kv_page_bytes(&ok), 64 * 3 * (64 + 64) * 2);
    assert_int_equal(nb_kv_page_bytes(&q8), 64 * 2 * (64 + 96 + 2 * (2 + 3)));
    assert_int_equal(nb_kv_page_bytes(&f32), 64 * 8 * 4);
    assert_int_equal(nb_kv_page_bytes(&bf16), 64 * 2 * 2);
}

/* the error that storing x beside `top`, the largest of its block, may make */
static double rounding(nb_type type, double x, double top)
{
    switch ((int)type) {
    case NB_TYPE_F16: return fmax(fabs(x) * 0x1p-11, 0x1p-25);
    case NB_TYPE_BF16: return fabs(x) * 0x1p-8;
    case NB_TYPE_Q8_0: return top / 127 * (0.5 + 127 * 0x1p-11) * (1 + 1e-5);
    default: return 0;
    }
}

/* Q4_0: what storing does to a head keeps its length, so its whole error is that of 4-bit codes of N(0, 1), whatever outliers
 * there are: rounding by steps of at most 3.5 / 8 or so, and the cut of the positive end. */
static void check_rotated(const float *stored, const float *given, int dim)
{
    double error = 0, squares = 0;
    for (int d = 0; d < dim; d++) {
        error += ((double)stored[d] - (double)given[d]) * ((double)stored[d] - (double)given[d]);
        squares += (double)given[d] * (double)given[d];
    }
    assert_true(error > 0 && error < 0.025 * squares);
}

static void check_values(nb_type type, const float *stored, const float *given, int dim)
{
    float back[1024], turned[1024];
    if (type == NB_TYPE_Q4_0) {
        check_rotated(stored, given, dim);
        return;
    }
    if (type == NB_TYPE_Q8_0) { /* its steps are those of the rotated head */
        stored = memcpy(back, stored, (size_t)dim * sizeof *back);
        given = memcpy(turned, given, (size_t)dim * sizeof *turned);
        nb_kv_rotate(back, (size_t)dim);
        nb_kv_rotate(turned, (size_t)dim);
    }
    for (int d = 0; d < dim; d++) {
        double top = 0;
        for (int i = d / 32 * 32; i < (d / 32 + 1) * 32 && i < dim; i++)
            top = fmax(top, fabs((double)given[i]));
        assert_true(fabs((double)stored[d] - (double)given[d]) <= rounding(type, (double)given[d], top));
    }
}

static void check_slots(nb_type type, int k_dim, int v_dim)
{
    nb_kv_layout l = {type, 3, k_dim, v_dim};
    rng r = {(uint64_t)type};
    float *k = rng_normals(&r, (size_t)(NB_PAGE * 3 * k_dim)), *v = rng_normals(&r, (size_t)(NB_PAGE * 3 * v_dim));
    float k_back[1024], v_back[1024];
    char *page = aligned_alloc(64, nb_kv_page_bytes(&l));
    memset(page, 0, nb_kv_page_bytes(&l));
    for (int i = 0; i < NB_PAGE; i++) { /* in a scattered order, head by head */
        int slot = i * 37 % NB_PAGE;
        for (int h = 2; h >= 0; h--)
            nb_kv_store(&l, page, slot, k + slot * 3 * k_dim, v + slot * 3 * v_dim, h, h + 1);
    }
    for (int slot = 0; slot < NB_PAGE; slot++)
        for (int h = 0; h < 3; h++) {
            nb_kv_load(&l, page, slot, h, k_back, v_back);
            check_values(type, k_back, k + (slot * 3 + h) * k_dim, k_dim);
            check_values(type, v_back, v + (slot * 3 + h) * v_dim, v_dim);
        }
    free(page);
    free(k);
    free(v);
}

static void test_slots(void **state)
{
    (void)state;
    static const nb_type types[] = {NB_TYPE_F32, NB_TYPE_F16, NB_TYPE_BF16, NB_TYPE_Q8_0, NB_TYPE_Q4_0};
    for (int level = 0; level <= (int)nb_cpu_best(); level++)
        for (int t = 0; t < 5; t++) {
            nb_cpu_set_level((nb_cpu_level)level);
            check_slots(types[t], 64, 64);
            check_slots(types[t], 96, 32);
            if (types[t] != NB_TYPE_Q8_0 && types[t] != NB_TYPE_Q4_0)
                for (int dim = 1; dim <= 40; dim++)
                    check_slots(types[t], dim, 41 - dim);
        }
    nb_cpu_set_level(NB_CPU_LEVELS);
}

/* A block of zeros, of subnormals, past F16's range, and with what is no number. */
static void test_q8_extremes(void **state)
{
    (void)state;
    nb_kv_layout l = {NB_TYPE_Q8_0, 1, 32, 32};
    char *page = aligned_alloc(64, nb_kv_page_bytes(&l));
    float k[32], back[32], v[32] = {0};
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        static const float fills[] = {0.0f, 1e-40f, 1e-9f, 3e38f, INFINITY, NAN};
        for (int f = 0; f < 6; f++) {
            for (int d = 0; d < 32; d++)
                k[d] = d == 5 ? fills[f] : 0.0f;
            nb_kv_store(&l, page, 0, k, v, 0, 1);
            nb_kv_load(&l, page, 0, 0, back, v);
            for (int d = 0; d < 32; d++)
                assert_true(f < 3 ? fabsf(back[d]) <= 1e-6f : f == 3 ? !isnan(back[d]) : isnan(back[d]));
            assert_true(f != 3 || (back[5] > 8e6f && back[4] == 0));
            memset(v, 0, sizeof v);
        }
    }
    nb_cpu_set_level(NB_CPU_LEVELS);
    free(page);
}

/* The rotation is its own inverse, keeps products, and makes one outlier a flat vector: what 4 bits then lose is little. */
static void test_rotation(void **state)
{
    (void)state;
    static const size_t dims[] = {32, 64, 96, 128, 160, 256, 1024};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        rng r = {dims[i]};
        float *x = rng_normals(&r, dims[i]), *y = rng_normals(&r, dims[i]), *z = malloc(dims[i] * sizeof *z);
        double before = 0, after = 0;
        memcpy(z, x, dims[i] * sizeof *z);
        for (size_t d = 0; d < dims[i]; d++)
            before += (double)x[d] * (double)y[d];
        nb_kv_rotate(x, dims[i]);
        nb_kv_rotate(y, dims[i]);
        for (size_t d = 0; d < dims[i]; d++)
            after += (double)x[d] * (double)y[d];
        assert_true(fabs(before - after) < 2e-5);
        nb_kv_rotate(x, dims[i]);
        for (size_t d = 0; d < dims[i]; d++)
            assert_true(fabsf(x[d] - z[d]) < 2e-6f);
        free(x);
        free(y);
        free(z);
    }
    float spike[64] = {[9] = 8.0f};
    nb_kv_rotate(spike, 64);
    for (size_t d = 0; d < 64; d++)
        assert_true(fabsf(spike[d]) == 1.0f);
}

/* One dimension that is far beyond the others, as the biases of Qwen 2 make them: without a rotation it would cost its block
 * steps of 400 / 127, ten times as wide. */
static void test_outlier(void **state)
{
    (void)state;
    rng r = {5};
    float *x = rng_normals(&r, 64), k[64], v[64];
    for (int t = 0; t < 2; t++) {
        nb_kv_layout l = {t ? NB_TYPE_Q8_0 : NB_TYPE_Q4_0, 1, 64, 64};
        char *page = aligned_alloc(64, nb_kv_page_bytes(&l));
        x[17] = t ? 400 : 20;
        nb_kv_store(&l, page, 3, x, x, 0, 1);
        nb_kv_load(&l, page, 3, 0, k, v);
        assert_memory_equal(k, v, sizeof k);
        if (t == 0)
            check_rotated(k, x, 64);
        else
            for (int d = 0; d < 64; d++)
                assert_true(fabsf(k[d] - x[d]) < 0.8f);
        x[20] = NAN;
        nb_kv_store(&l, page, 3, x, x, 0, 1);
        nb_kv_load(&l, page, 3, 0, k, v);
        assert_true(isnan(k[0]) && isnan(v[63]));
        x[20] = 1;
        free(page);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layout), cmocka_unit_test(test_slots),
                                       cmocka_unit_test(test_q8_extremes), cmocka_unit_test(test_rotation),
                                       cmocka_unit_test(test_outlier)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
