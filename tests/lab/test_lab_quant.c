/* Topic quant against bitsandbytes, gguf-py and numpy (tools/make_lab_vectors.py). */
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
#define TENSOR "blk.1.ffn_down.weight"

static json_t *wanted;
static nb_lab_views v;

static int run(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    p.tensor = TENSOR;
    p.text = "a few words";
    v = nb_lab_views_of("quant", &p);
    wanted = json_load_file(NB_TEST_DATA "/lab/quant.json", 0, NULL);
    return wanted ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    nb_lab_views_free(&v);
    json_decref(wanted);
    return 0;
}

static void near(double got, double want, double by, const char *what)
{
    if (!(fabs(got - want) <= by * fabs(want)))
        fail_msg("%s: %.9g, not %.9g", what, got, want);
}

static double type_number(const char *type, const char *key)
{
    return nb_lab_number(nb_lab_row(nb_lab_find(&v, "types", "tables", "types"), "type", type), key);
}

static void types(void **state)
{
    (void)state;
    const char *type;
    json_t *error;
    json_object_foreach(json_object_get(wanted, "errors"), type, error)
    {
        double want = json_number_value(error), got = type_number(type, "error");
        if (type[0] == 'Q' &&
            strcmp(type, "Q8_0") != 0) /* gguf-py rounds by the plain formula; ours looks for better */
            assert_true(got <= 1.001 * want && got > 0.7 * want);
        else
            near(got, want, strcmp(type, "Q8_0") == 0 ? 0.05 : strncmp(type, "NF4 n", 5) == 0 ? 1e-3 : 1e-4, type);
    }
    assert_int_equal(json_object_size(json_object_get(wanted, "errors")), 11);
    assert_true(type_number("Q4_0", "bits") == 4.5 && type_number("Q8_0", "bits") == 8.5);
    assert_true(type_number("NF4", "bits") == 4.5 && type_number("NF4 nested", "bits") < 4.14);
    assert_true(type_number("F16", "quantize") > 1e6 && type_number("NF4", "dequantize") > 1e6);
    nb_lab_expect_text(&v, "not whole blocks of these types: Q2_K,"); /* 160 columns */
    nb_lab_expect_text(&v, "Q4_0                4.500 ");
}

static void check_spectrum(const char *of, const char *key)
{
    static const char *const columns[] = {"first", "middle", "last"};
    const json_t *row = nb_lab_row(nb_lab_find(&v, "spectrum", "tables", "spectra"), "of", of);
    for (size_t i = 0; i < 3; i++)
        near(nb_lab_number(row, columns[i]), json_number_value(json_array_get(json_object_get(wanted, key), i)), 1e-4,
             of);
}

static void spectra(void **state)
{
    (void)state;
    check_spectrum("the weights", "weights");
    check_spectrum("the error of NF4", "nf4_error");
}

static void levels(void **state)
{
    (void)state;
    const json_t *rows = nb_lab_find(&v, "nf4", "tables", "levels");
    double all = 0, bits = 0;
    assert_int_equal(json_array_size(rows), 16);
    for (size_t i = 0; i < 16; i++) {
        const json_t *row = json_array_get(rows, i);
        double level = json_number_value(json_array_get(json_object_get(wanted, "nf4_map"), i));
        double used = json_number_value(json_array_get(json_object_get(wanted, "nf4_used"), i));
        assert_true(nb_lab_number(row, "level") == level);
        assert_true(fabs(nb_lab_number(row, "quantile") - level) < 5e-7); /* bitsandbytes stores float32 */
        assert_true(fabs(nb_lab_number(row, "used") - used) < 1e-4);
        all += nb_lab_number(row, "fp4_used");
        bits -= used > 0 ? used * log2(used) : 0;
    }
    assert_true(fabs(all - 1) < 1e-9);
    assert_true(fabs(nb_lab_fact_of(&v, "nf4", "entropy_nf4") - bits) < 1e-3);
    assert_true(nb_lab_fact_of(&v, "nf4", "off") < 5e-7);
}

static void double_quantization(void **state)
{
    (void)state;
    near(nb_lab_fact_of(&v, "double_quantization", "saved_bits"), 0.5 - 0.125 - 1.0 / 512, 1e-12, "saved");
    double values = nb_lab_fact_of(&v, "double_quantization", "values");
    near(nb_lab_fact_of(&v, "double_quantization", "saved_bytes"), values * (0.375 - 1.0 / 512) / 8, 1e-12, "bytes");
    assert_true(nb_lab_fact_of(&v, "double_quantization", "error") == type_number("NF4", "error"));
    assert_true(nb_lab_fact_of(&v, "double_quantization", "nested_error") == type_number("NF4 nested", "error"));
    nb_lab_expect_text(&v, "8 / 64 + 32 / (64 x 256) = 0.1270 bits a weight");
}

/* Rounding x and y to 11 and 8 significant bits: relative 2^-12 and 2^-9, a few times over. */
static void compute_types(void **state)
{
    (void)state;
    static const double most[] = {1e-6, 1e-3, 1e-2};
    static const char *const names[] = {"F32", "F16", "BF16"};
    const json_t *rows = nb_lab_find(&v, "compute", "tables", "compute");
    for (size_t i = 0; i < 3; i++) {
        double error = nb_lab_number(nb_lab_row(rows, "type", names[i]), "error");
        if (!(error > most[i] / 100 && error < most[i]) && i > 0)
            fail_msg("%s: %g", names[i], error);
        assert_true(error < most[i]);
        assert_true(nb_lab_number(nb_lab_row(rows, "type", names[i]), "seconds") > 0);
    }
}

static void refusals(void **state)
{
    (void)state;
    nb_lab *lab;
    nb_error err;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    p.tensor = "blk.9.ffn_down.weight";
    assert_int_equal(nb_lab_run(nb_lab_topic_named("quant"), &p, &lab, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "blk.9.ffn_down.weight"));
    p.tensor = "blk.0.attn_norm.weight"; /* a vector */
    assert_int_equal(nb_lab_run(nb_lab_topic_named("quant"), &p, &lab, &err), NB_ERR_ARGUMENT);
    p.tensor = NULL;
    p.threshold = -1;
    assert_int_equal(nb_lab_run(nb_lab_topic_named("quant"), &p, &lab, &err), NB_ERR_ARGUMENT);
}

/* A model that cannot be run still has weights; a stored type that is quantized is pointed out. */
static void other_models(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    p.model = NB_TEST_DATA "/types/Q4_0.gguf";
    nb_lab_views w = nb_lab_views_of("quant", &p);
    nb_lab_expect_text(&w, "This file is quantized already");
    nb_lab_views_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(types),         cmocka_unit_test(spectra),
                                       cmocka_unit_test(levels),        cmocka_unit_test(double_quantization),
                                       cmocka_unit_test(compute_types), cmocka_unit_test(refusals),
                                       cmocka_unit_test(other_models)};
    return cmocka_run_group_tests(tests, run, end);
}
