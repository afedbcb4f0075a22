/* Topic attention: the lecture's head against PyTorch (tools/make_lab_vectors.py); alphas of real models against what the models
 * themselves computed with theirs. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "lab/lab_alphas.h"
#include "support/lab.h"

#define ARCH(name) NB_TEST_DATA "/archs/" name ".gguf"
#define TEXT "hello world, what is this"

static void same_matrix(const nb_lab_views *v, const char *section, const char *figure, const json_t *want)
{
    const json_t *got = json_object_get(nb_lab_find(v, section, "figures", figure), "values");
    assert_int_equal(json_array_size(want), 5);
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++) {
            double a = json_number_value(json_array_get(json_array_get(got, i), j));
            double b = json_number_value(json_array_get(json_array_get(want, i), j));
            if (fabs(a - b) > 1e-6)
                fail_msg("%s [%zu][%zu]: %.8f, not %.8f", figure, i, j, a, b);
        }
}

static void lecture(void **state)
{
    (void)state;
    static const char *const masks[] = {"causal", "window", "sink", "padding"};
    json_t *want = json_load_file(NB_TEST_DATA "/lab/attention.json", 0, NULL);
    nb_lab_params p = nb_lab_defaults();
    p.model = ARCH("qwen2");
    p.text = TEXT;
    nb_lab_views v = nb_lab_views_of("attention", &p);
    assert_non_null(want);
    same_matrix(&v, "head", "scores", json_object_get(want, "scores"));
    same_matrix(&v, "head", "alphas", json_object_get(want, "alphas"));
    for (size_t i = 0; i < 4; i++)
        same_matrix(&v, "masks", masks[i], json_object_get(want, masks[i]));
    nb_lab_expect_text(&v, "Q.K = 0.79 x 0.94 + 0.23 x 0.36 = 0.8254");
    json_decref(want);
    nb_lab_views_free(&v);
}

static void variance(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    p.model = ARCH("qwen2");
    p.text = TEXT;
    nb_lab_views v = nb_lab_views_of("attention", &p);
    const json_t *rows = nb_lab_find(&v, "variance", "tables", "draws"), *row;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        double d = nb_lab_number(row, "d_k");
        /* variance of the variance: kurtosis of a sum of d products is 3 + 6 / d */
        assert_true(fabs(nb_lab_number(row, "variance") / d - 1) < 5 * sqrt((2 + 6 / d) / 10000));
        assert_true(nb_lab_number(row, "scaled") * d == nb_lab_number(row, "variance") ||
                    fabs(nb_lab_number(row, "scaled") * d / nb_lab_number(row, "variance") - 1) < 1e-12);
    }
    const json_t *first = json_array_get(rows, 0), *last = json_array_get(rows, json_array_size(rows) - 1);
    assert_true(nb_lab_number(last, "share") > 2 * nb_lab_number(first, "share"));
    assert_true(fabs(nb_lab_number(last, "share_scaled") - nb_lab_number(first, "share_scaled")) < 0.1);
    nb_lab_views_free(&v);
}

/* Rotary positions, norms of queries and keys, biases, soft caps, windows, ALiBi, fused projections. */
static void models(void **state)
{
    (void)state;
    static const char *const paths[] = {ARCH("llama-3.2-rope-scaled"),
                                        ARCH("qwen2"),
                                        ARCH("qwen3"),
                                        ARCH("gemma-2"),
                                        ARCH("gemma-3"),
                                        ARCH("gpt2"),
                                        ARCH("phi-2"),
                                        ARCH("bloom"),
                                        ARCH("mistral-sliding")};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        nb_lab_reading r;
        nb_error err = {0};
        if (nb_lab_reading_open(paths[i], TEXT, 6, true, &r, &err) != NB_OK)
            fail_msg("%s", err.message);
        for (int layer = 0; layer < r.model->def->h.layers; layer++) {
            nb_lab_alphas a;
            if (nb_lab_alphas_of(&r, layer, &a, &err) != NB_OK)
                fail_msg("%s: %s", paths[i], err.message);
            if (!(a.error < 1e-5))
                fail_msg("%s, layer %d: off by %g", paths[i], layer, a.error);
            for (size_t row = 0; row < a.heads * a.tokens; row++) {
                double sum = 0;
                for (size_t j = 0; j < a.tokens; j++)
                    sum += (double)a.alphas[row * a.tokens + j];
                assert_true(fabs(sum - 1) < 1e-5);
            }
        }
        nb_lab_reading_close(&r);
    }
}

static void choices(void **state)
{
    (void)state;
    nb_lab *lab;
    nb_error err;
    nb_lab_params p = nb_lab_defaults();
    p.model = ARCH("qwen2");
    p.text = TEXT;
    p.layer = 0;
    p.head = 1;
    nb_lab_views v = nb_lab_views_of("attention", &p);
    assert_true(nb_lab_fact_of(&v, "model", "layer") == 0 && nb_lab_fact_of(&v, "model", "head") == 1);
    assert_true((double)json_array_size(nb_lab_find(&v, "model", "tables", "heads")) ==
                nb_lab_fact_of(&v, "model", "head_count"));
    nb_lab_views_free(&v);
    p.layer = 99;
    assert_int_equal(nb_lab_run(nb_lab_topic_named("attention"), &p, &lab, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "--layer 99"));
    p.layer = 0;
    p.head = 99;
    assert_int_equal(nb_lab_run(nb_lab_topic_named("attention"), &p, &lab, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "--head 99"));
    p.head = -1;
    p.model = ARCH("gpt-oss-plain"); /* sinks */
    v = nb_lab_views_of("attention", &p);
    nb_lab_expect_text(&v, "does not follow");
    nb_lab_views_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lecture), cmocka_unit_test(variance), cmocka_unit_test(models),
                                       cmocka_unit_test(choices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
