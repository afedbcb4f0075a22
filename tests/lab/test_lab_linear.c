/* Topic linear against the lecture's formulas in PyTorch (tools/make_lab_vectors.py). */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "support/lab.h"

static nb_lab_views run(const char *matrix)
{
    nb_lab_params p = nb_lab_defaults();
    p.matrix = matrix;
    return nb_lab_views_of("linear", &p);
}

static void close_to(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-6 * fabs(want)))
        fail_msg("%s: %.9g, not %.9g", what, got, want);
}

static const json_t *row_of(const json_t *table, const json_t *want)
{
    const json_t *row;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)table, i,
                       row) if (nb_lab_number(row, "bits") == nb_lab_number(want, "bits") &&
                                json_equal(json_object_get(row, "form"), json_object_get(want, "form"))) return row;
    fail();
    return NULL;
}

static void check_matrix(const char *matrix, const json_t *cases)
{
    nb_lab_views v = run(matrix);
    const json_t *table = nb_lab_find(&v, "bits", "tables", "bits"), *want;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)cases, i, want)
    {
        const json_t *row = row_of(table, want);
        const char *form = json_string_value(json_object_get(want, "form"));
        char shown[64];
        close_to(nb_lab_number(row, "scale"), nb_lab_number(want, "scale"), "scale");
        assert_true(nb_lab_number(row, "zero_point") == nb_lab_number(want, "zero_point"));
        close_to(nb_lab_number(row, "mean_square_error"), nb_lab_number(want, "mean_square_error"), "mean square");
        close_to(nb_lab_number(row, "largest_error"), nb_lab_number(want, "largest_error"), "largest");
        if (nb_lab_number(want, "bits") != 8)
            continue;
        close_to(nb_lab_fact_of(&v, form, "scale"), nb_lab_number(want, "scale"), "scale");
        const json_t *codes = json_object_get(nb_lab_find(&v, form, "figures", "quantized"), "values");
        const json_t *expected = json_object_get(want, "codes");
        for (size_t r = 0; r < json_array_size(expected); r++)
            for (size_t c = 0; c < json_array_size(json_array_get(expected, r)); c++)
                assert_true(json_number_value(json_array_get(json_array_get(codes, r), c)) ==
                            (double)json_integer_value(json_array_get(json_array_get(expected, r), c)));
        snprintf(shown, sizeof shown, "= %.8g\n", nb_lab_number(row, "scale"));
        nb_lab_expect_text(&v, shown);
    }
    nb_lab_views_free(&v);
}

static void matrices(void **state)
{
    (void)state;
    json_t *root = json_load_file(NB_TEST_DATA "/lab/linear.json", 0, NULL), *cases;
    const char *matrix;
    assert_non_null(root);
    assert_int_equal(json_object_size(root), 3);
    json_object_foreach(root, matrix, cases) check_matrix(matrix, cases);
    json_decref(root);
}

/* The worked example as courses print it. */
static void worked_example(void **state)
{
    (void)state;
    nb_lab_views v = run(NULL);
    nb_lab_expect_text(&v, "(728.6 - -184) / (127 - -128) = 3.5788233");
    nb_lab_expect_text(&v, "= round(-76.5865) = -77");
    assert_true(nb_lab_fact_of(&v, "affine", "zero_point") == -77);
    nb_lab_expect_text(&v, "2 bits: 1 0 3 2  ->  10110001 = 177");
    nb_lab_expect_text(&v, "4 bits: 9 4 15 0  ->  01001001 = 73, 00001111 = 15");
    nb_lab_views_free(&v);
}

static double of(const json_t *table, const char *column, const char *row, const char *key)
{
    return nb_lab_number(nb_lab_row(table, column, row), key);
}

/* What the sentences claim. */
static void claims(void **state)
{
    (void)state;
    nb_lab_views v = run(NULL);
    const json_t *t = nb_lab_find(&v, "granularity", "tables", "granularity");
    static const char *const keys[] = {"error_8", "error_4", "error_2"};
    for (size_t i = 0; i < 3; i++) {
        double tensor = of(t, "scales_for", "tensor", keys[i]), row = of(t, "scales_for", "row", keys[i]);
        assert_true(tensor > row && row > of(t, "scales_for", "group of 16", keys[i]));
    }
    assert_true(of(t, "scales_for", "row", "scales") == 16 && of(t, "scales_for", "group of 16", "scales") == 64);
    assert_true(of(t, "scales_for", "group of 16", "extra_bits") == 1);
    t = nb_lab_find(&v, "outlier", "tables", "outliers");
    size_t n = json_array_size(t);
    const json_t *first = json_array_get(t, 0), *last = json_array_get(t, n - 1);
    assert_true(nb_lab_number(last, "error_tensor") > 50 * nb_lab_number(first, "error_tensor"));
    assert_true(nb_lab_number(last, "error_tensor") > 3 * nb_lab_number(last, "error_row"));
    assert_true(nb_lab_number(last, "scale") * 127 - 300 < 1e-3);
    t = nb_lab_find(&v, "layer", "tables", "layers");
    double w8 = of(t, "layer", "W8A32", "error");
    assert_true(w8 > 0 && w8 < 0.02 && of(t, "layer", "W8A8 dynamic", "error") > w8);
    assert_true(of(t, "layer", "W4A32, groups of 16", "error") > 5 * w8);
    assert_true(of(t, "layer", "W8A32", "bytes") == 1024 + 16 * 4);
    nb_lab_views_free(&v);
}

static void bad_matrices(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "1 2; 3", "1 2; 3 4 5",       "1 x", "1;;2", "1 2;", "1 2 3 4 5 6 7 8 9",
                                      "nan", "1 1e99", "1;2;3;4;5;6;7;8;9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nb_lab_params p = nb_lab_defaults();
        nb_lab *lab;
        nb_error err;
        p.matrix = bad[i];
        if (nb_lab_run(nb_lab_topic_named("linear"), &p, &lab, &err) != NB_ERR_ARGUMENT)
            fail_msg("'%s' was taken", bad[i]);
        assert_non_null(strstr(err.message, "--matrix"));
    }
    nb_lab_views v = run("1, -2, 3, 4, 5, 6, 7, 8");
    nb_lab_views_free(&v);
    v = run("7");
    nb_lab_views_free(&v);
    v = run("1;2;3;4;5;6;7;-8");
    nb_lab_views_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matrices), cmocka_unit_test(worked_example),
                                       cmocka_unit_test(claims), cmocka_unit_test(bad_matrices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
