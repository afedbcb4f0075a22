/* Topic dtypes against numpy and ml_dtypes (tools/make_lab_vectors.py). */
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

#define MODEL NB_TEST_DATA "/types/F16.gguf"

static json_t *load(void)
{
    json_t *root = json_load_file(NB_TEST_DATA "/lab/dtypes.json", 0, NULL);
    assert_non_null(root);
    return root;
}

static void same_field(const json_t *ours, const json_t *expected, const char *key, const char *what)
{
    const json_t *a = json_object_get(ours, key), *b = json_object_get(expected, key);
    bool same = json_is_number(b) ? json_is_number(a) && json_number_value(a) == json_number_value(b)
                : json_is_null(b) ? a && (json_is_null(a))
                                  : a && b && json_equal(a, b);
    if (!same)
        fail_msg("%s, %s: %s is %s, not %s", what, json_string_value(json_object_get(expected, "format")), key,
                 json_dumps(a, JSON_ENCODE_ANY), json_dumps(b, JSON_ENCODE_ANY));
}

static void values(void **state)
{
    (void)state;
    json_t *root = load(), *all = json_object_get(root, "values"), *formats;
    const char *value;
    char *arguments[32];
    size_t count = 0, index, rows = 0;
    json_object_foreach(all, value, formats) arguments[count++] = strdup(value);
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    p.arguments = arguments;
    p.argument_count = count;
    nb_lab_views v = nb_lab_views_of("dtypes", &p);
    for (size_t i = 0; i < count; i++) {
        char section[32], shown[64];
        json_t *expected;
        snprintf(section, sizeof section, "value_%zu", i + 1);
        json_array_foreach(json_object_get(all, arguments[i]), index, expected)
        {
            const char *format = json_string_value(json_object_get(expected, "format"));
            const json_t *row = nb_lab_row(nb_lab_find(&v, section, "tables", "formats"), "format", format);
            const json_t *near = nb_lab_row(nb_lab_find(&v, section, "tables", "neighbours"), "format", format);
            same_field(row, expected, "stored", arguments[i]);
            same_field(row, expected, "kind", arguments[i]);
            same_field(near, expected, "below", arguments[i]);
            same_field(near, expected, "above", arguments[i]);
            if (json_is_number(json_object_get(row, "stored"))) {
                snprintf(shown, sizeof shown, " %.9g ", nb_lab_number(row, "stored"));
                nb_lab_expect_text(&v, shown);
            }
            rows++;
        }
        free(arguments[i]);
    }
    assert_int_equal(rows, 12 * 8);
    nb_lab_views_free(&v);
    json_decref(root);
}

static void limits(void **state)
{
    (void)state;
    static const char *const keys[] = {"bits",         "exponent_bits", "fraction_bits", "max",
                                       "least_normal", "least",         "epsilon"};
    json_t *root = load(), *expected;
    size_t index;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    nb_lab_views v = nb_lab_views_of("dtypes", &p);
    json_array_foreach(json_object_get(root, "finfo"), index, expected)
    {
        const json_t *row = nb_lab_row(nb_lab_find(&v, "finfo", "tables", "finfo"), "format",
                                       json_string_value(json_object_get(expected, "format")));
        for (size_t i = 0; i < 7; i++)
            same_field(row, expected, keys[i], "finfo");
    }
    const json_t *u8 = nb_lab_row(nb_lab_find(&v, "iinfo", "tables", "iinfo"), "format", "u8"); /* the lecture's */
    assert_string_equal(json_string_value(json_object_get(u8, "max")), "255");
    const json_t *i8 = nb_lab_row(nb_lab_find(&v, "iinfo", "tables", "iinfo"), "format", "i8");
    assert_string_equal(json_string_value(json_object_get(i8, "min")), "-128");
    nb_lab_views_free(&v);
    json_decref(root);
}

/* The lecture's picture of three formats: how the bits are shared out. */
static void bits(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    char *arguments[] = {"-0.15625"};
    p.model = MODEL;
    p.arguments = arguments;
    p.argument_count = 1;
    p.format = "f8_e4m3";
    nb_lab_views v = nb_lab_views_of("dtypes", &p);
    nb_lab_expect_text(&v, "f32      1 01111100 01000000000000000000000 ");
    nb_lab_expect_text(&v, "f16      1 01100 0100000000 ");
    nb_lab_expect_text(&v, "bf16     1 01111100 0100000 ");
    nb_lab_expect_text(&v, "f8_e4m3  1 0100 010 ");
    nb_lab_expect_text(&v, "f32: (-1)^1 (1 + F) 2^(E - 127), F = 0.25, E = 124: -0.15625");
    nb_lab_views_free(&v);
}

static void downcasting(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    nb_lab_views v = nb_lab_views_of("dtypes", &p);
    const json_t *range = nb_lab_find(&v, "range", "tables", "casts");
    assert_true(nb_lab_number(nb_lab_row(range, "format", "bf16"), "overflow") == 0);
    /* sizes are even in the exponent from 1e-8 to 1e8: log10(1e8 / 65504) / 16 = 19.9 % are past F16, were they all 1 */
    double over = nb_lab_number(nb_lab_row(range, "format", "f16"), "overflow");
    assert_true(over > 0.16 && over < 0.21);
    const json_t *product = nb_lab_find(&v, "precision", "tables", "products");
    assert_true(nb_lab_number(nb_lab_row(product, "format", "f32"), "relative_error") < 1e-7);
    assert_true(nb_lab_number(nb_lab_row(product, "format", "bf16"), "relative_error") < 1.0 / 256);
    nb_lab_params other = p;
    other.seed = 7;
    nb_lab_views w = nb_lab_views_of("dtypes", &other);
    const json_t *product_w = nb_lab_find(&w, "precision", "tables", "products");
    assert_true(nb_lab_number(nb_lab_row(product_w, "format", "f32"), "product") !=
                nb_lab_number(nb_lab_row(product, "format", "f32"), "product"));
    nb_lab_views_free(&w);
    nb_lab_views_free(&v);
}

static void model(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    nb_lab_views v = nb_lab_views_of("dtypes", &p);
    const json_t *types = nb_lab_find(&v, "model", "tables", "types"), *row;
    double values = 0, bytes = 0;
    size_t index;
    json_array_foreach((json_t *)(uintptr_t)types, index, row)
    {
        values += nb_lab_number(row, "values");
        bytes += nb_lab_number(row, "bytes");
        int size = strcmp(json_string_value(json_object_get(row, "dtype")), "F16") == 0 ? 2 : 4;
        assert_true(nb_lab_number(row, "bytes") == size * nb_lab_number(row, "values"));
    }
    assert_true(values > 0 && nb_lab_fact_of(&v, "model", "values") == values);
    assert_true(nb_lab_fact_of(&v, "model", "bytes") == bytes);
    assert_true(nb_lab_number(nb_lab_row(nb_lab_find(&v, "model", "tables", "casts"), "format", "f16"),
                              "relative_error") == 0); /* they are F16 */
    nb_lab_views_free(&v);
}

static void gain(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    nb_lab_views v = nb_lab_views_of("dtypes", &p);
    const json_t *rows = nb_lab_find(&v, "gain", "tables", "formats");
    double f32 = nb_lab_number(nb_lab_row(rows, "format", "f32"), "seconds");
    assert_true(nb_lab_number(nb_lab_row(rows, "format", "f32"), "bytes") == 4e9);
    assert_true(fabs(f32 * nb_lab_fact_of(&v, "gain", "read") - 4e9) < 1);
    assert_true(fabs(nb_lab_number(nb_lab_row(rows, "format", "i4"), "seconds") * 8 - f32) < 1e-9 * f32);
    assert_true(nb_lab_number(nb_lab_row(rows, "format", "f32"), "operations") >= 1);
    nb_lab_views_free(&v);
}

static void refusals(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    nb_lab *lab;
    nb_error err;
    char *arguments[] = {"0.1x"};
    p.arguments = arguments;
    p.argument_count = 1;
    assert_int_equal(nb_lab_run(nb_lab_topic_named("dtypes"), &p, &lab, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "0.1x"));
    p = nb_lab_defaults();
    p.format = "f17";
    assert_int_equal(nb_lab_run(nb_lab_topic_named("dtypes"), &p, &lab, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "f17"));
    p = nb_lab_defaults();
    p.model = "/nowhere.gguf";
    assert_int_not_equal(nb_lab_run(nb_lab_topic_named("dtypes"), &p, &lab, &err), NB_OK);
    assert_null(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values),      cmocka_unit_test(limits), cmocka_unit_test(bits),
                                       cmocka_unit_test(downcasting), cmocka_unit_test(model),  cmocka_unit_test(gain),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
