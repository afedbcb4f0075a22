/* Topic heads: parameters and bytes by hand, of random layers and of models whose numbers are known. */
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

enum { LENGTHS = 8 };

static void expect(const json_t *row, const char *key, double want)
{
    double got = nb_lab_number(row, key);
    if (got != want)
        fail_msg("%s: %g, not %g", key, got, want);
}

static void parameters(const nb_lab_views *v)
{
    const json_t *t = nb_lab_find(v, "projections", "tables", "parameters");
    const json_t *mha = nb_lab_row(t, "kind", "MHA"), *gqa = nb_lab_row(t, "kind", "GQA");
    const json_t *mqa = nb_lab_row(t, "kind", "MQA");
    /* width 128, 4 heads of 32 */
    expect(mha, "q", 16384), expect(mha, "k", 16384), expect(mha, "v", 16384), expect(mha, "all", 65536);
    expect(gqa, "q", 16384), expect(gqa, "k", 8192), expect(gqa, "v", 8192), expect(gqa, "all", 49152);
    expect(mqa, "q", 16384), expect(mqa, "k", 4096), expect(mqa, "v", 4096), expect(mqa, "all", 40960);
    expect(mha, "o", 16384), expect(gqa, "o", 16384), expect(mqa, "o", 16384);
    expect(mha, "cache", 512), expect(gqa, "cache", 256), expect(mqa, "cache", 128);
}

static void times(const nb_lab_views *v)
{
    const json_t *t = nb_lab_find(v, "time", "tables", "times"), *c = nb_lab_find(v, "time", "tables", "caches");
    assert_true(json_array_size(t) == LENGTHS && json_array_size(c) == LENGTHS);
    for (size_t i = 0; i < LENGTHS; i++) {
        const json_t *row = json_array_get(c, i);
        double length = 128 << i;
        /* pages of 64 positions, all full */
        expect(row, "length", length), expect(row, "MHA", 512 * length);
        expect(row, "GQA", 256 * length), expect(row, "MQA", 128 * length);
        row = json_array_get(t, i);
        expect(row, "length", length);
        assert_true(nb_lab_number(row, "decode_mha") > 0 && nb_lab_number(row, "decode_mqa") > 0);
    }
    /* sixteen times the tokens are more than sixteen times the products */
    const json_t *few = json_array_get(t, 0), *many = json_array_get(t, 4);
    assert_true(nb_lab_number(many, "prefill_gqa") > 8 * nb_lab_number(few, "prefill_gqa"));
    const json_t *last = json_array_get(t, LENGTHS - 1);
    assert_true(fabs(nb_lab_fact_of(v, "time", "decode_gqa") -
                     nb_lab_number(last, "decode_mha") / nb_lab_number(last, "decode_gqa")) < 1e-9);
}

static nb_lab_views views_of(const char *path)
{
    nb_lab_params p = nb_lab_defaults();
    p.model = path;
    return nb_lab_views_of("heads", &p);
}

/* 3 layers of width 64, 4 heads of 16, 2 kv heads; 37,248 values in attn_q, k, v (with biases) and output */
static void grouped(void **state)
{
    (void)state;
    nb_lab_views v = views_of(NB_TEST_DATA "/archs/qwen2.gguf");
    parameters(&v);
    times(&v);
    assert_string_equal(json_string_value(nb_lab_find(&v, "model", "facts", "kind")), "GQA");
    assert_true(nb_lab_fact_of(&v, "model", "parameters") == 37248);
    assert_true(fabs(nb_lab_fact_of(&v, "model", "share") - 37248.0 / 144192) < 1e-12);
    nb_lab_expect_text(&v, "cache: 3 layers x 2 kv heads x (16 + 16) x 2 bytes = 384 bytes a token");
    const json_t *t = nb_lab_find(&v, "model", "tables", "lengths");
    for (size_t i = 0; i < LENGTHS; i++) {
        const json_t *row = json_array_get(t, i);
        double length = 128 << i;
        expect(row, "cache", 384 * length), expect(row, "mha", 768 * length), expect(row, "mqa", 192 * length);
    }
    nb_lab_views_free(&v);
}

/* 7 layers of width 64, 4 heads of 32 that share one; the sixth layer is global, the others see 16 tokens; a norm of 32 for
 * queries and one for keys in each */
static void windowed(void **state)
{
    (void)state;
    nb_lab_views v = views_of(NB_TEST_DATA "/archs/gemma-3.gguf");
    assert_string_equal(json_string_value(nb_lab_find(&v, "model", "facts", "kind")), "MQA");
    assert_true(nb_lab_fact_of(&v, "model", "window") == 16);
    assert_true(nb_lab_fact_of(&v, "model", "parameters") == 7 * (2 * 64 * 4 * 32 + 2 * 64 * 32 + 2 * 32));
    const json_t *t = nb_lab_find(&v, "model", "tables", "lengths");
    for (size_t i = 0; i < LENGTHS; i++)
        expect(json_array_get(t, i), "cache", (6 * 16 + (128 << i)) * (32 + 32) * 2);
    nb_lab_views_free(&v);
}

/* Latent attention, and models without a cache, have numbers but no such tables. */
static void others(void **state)
{
    (void)state;
    nb_lab_views v = views_of(NB_TEST_DATA "/archs/deepseek-v2.gguf");
    assert_string_equal(json_string_value(nb_lab_find(&v, "model", "facts", "kind")), "latent");
    nb_lab_expect_text(&v, "latent attention keeps one vector");
    nb_lab_views_free(&v);
}

static void without(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    nb_lab *lab;
    nb_error err;
    p.model = NB_TEST_DATA "/archs/none-of-this-name.gguf";
    assert_int_not_equal(nb_lab_run(nb_lab_topic_named("heads"), &p, &lab, &err), NB_OK);
    assert_non_null(strstr(err.message, "none-of-this-name"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(grouped), cmocka_unit_test(windowed), cmocka_unit_test(others),
                                       cmocka_unit_test(without)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
