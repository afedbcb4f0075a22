/* Topic int8, and what it takes from a running model: the first matrix reads the normed embeddings, which are computed here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "convert/open.h"
#include "lab/lab_reading.h"
#include "measure/loss.h"
#include "support/lab.h"

#define MODEL NB_TEST_DATA "/types/F16.gguf"
#define TEXT "Some words that a tiny model reads, whatever they say to it."

static void row_of(const nb_source *s, const char *name, uint64_t row, float *out)
{
    const nb_source_tensor *t = nb_source_find_tensor(s, nb_str_of(name));
    assert_non_null(t);
    assert_int_equal(nb_source_floats(s, (size_t)(t - s->tensors), row, 1, out, NULL), NB_OK);
}

static void reading(void **state)
{
    (void)state;
    enum { WIDTH = 96 };
    nb_lab_reading r;
    nb_error err = {0};
    nb_source *s;
    size_t q;
    float embedding[WIDTH], norm[WIDTH];
    if (nb_lab_reading_open(MODEL, TEXT, 1.5f, false, &r, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_lab_reading_choose(&r, "blk.0.attn_q.weight", &q, NULL), NB_OK);
    assert_int_equal(nb_lab_reading_keep(&r, q, NULL), NB_OK);
    assert_int_equal(nb_source_open(MODEL, &s, NULL), NB_OK);
    const nb_lab_input *in = &r.inputs[q];
    assert_int_equal(in->columns, WIDTH);
    assert_true(r.tokens.count > 10);
    float largest[WIDTH] = {0};
    uint32_t past[WIDTH] = {0};
    row_of(s, "blk.0.attn_norm.weight", 0, norm);
    for (size_t t = 0; t < r.tokens.count; t++) {
        double squares = 0;
        row_of(s, "token_embd.weight", (uint64_t)r.tokens.id[t], embedding);
        for (size_t j = 0; j < WIDTH; j++)
            squares += (double)embedding[j] * (double)embedding[j];
        for (size_t j = 0; j < WIDTH; j++) {
            double x = (double)embedding[j] / sqrt(squares / WIDTH + 1e-5) * (double)norm[j];
            float got = in->values[t * WIDTH + j];
            if (fabs((double)got - x) > 1e-3)
                fail_msg("token %zu, column %zu: %.6f, not %.6f", t, j, (double)got, x);
            largest[j] = fmaxf(largest[j], fabsf(got));
            past[j] += fabsf(got) >= 1.5f;
        }
    }
    assert_memory_equal(largest, in->largest, sizeof largest);
    assert_memory_equal(past, in->past, sizeof past);
    assert_int_equal(nb_lab_reading_choose(&r, "blk.7.attn_q.weight", &q, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "blk.7.attn_q.weight"));
    char kind[64];
    nb_lab_input_kind(in, kind);
    assert_string_equal(kind, "attn_q");
    nb_source_free(s);
    nb_lab_reading_close(&r);
}

static double threshold_row(const json_t *t, const char *threshold, const char *key)
{
    return nb_lab_number(nb_lab_row(t, "threshold", threshold), key);
}

static void topic(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    p.text = TEXT;
    p.threshold = 2;
    p.tensor = "blk.1.attn_q.weight";
    nb_lab_views v = nb_lab_views_of("int8", &p);
    const json_t *t = nb_lab_find(&v, "decomposition", "tables", "thresholds");
    double plain = nb_lab_fact_of(&v, "decomposition", "plain_error");
    double weights = nb_lab_fact_of(&v, "decomposition", "weight_error");
    assert_true(threshold_row(t, "none: plain int8", "error") == plain);
    assert_true(threshold_row(t, "48", "columns") == 0 && threshold_row(t, "48", "error") == plain);
    assert_true(threshold_row(t, "2", "error") == nb_lab_fact_of(&v, "decomposition", "decomposed_error"));
    assert_true(threshold_row(t, "2", "columns") == nb_lab_fact_of(&v, "outliers", "outlier_columns"));
    assert_true(threshold_row(t, "1", "columns") >= threshold_row(t, "2", "columns"));
    assert_true(threshold_row(t, "1", "error") < plain);
    assert_true(weights > 0 && weights < plain && threshold_row(t, "1", "error") > 0.8 * weights);
    const json_t *kinds = nb_lab_find(&v, "layers", "tables", "kinds");
    assert_int_equal(json_array_size(kinds), 7); /* of a llama: q, k, v, output, gate, up, down */
    assert_true(nb_lab_number(nb_lab_row(kinds, "kind", "ffn_down"), "count") == 2);
    nb_lab_expect_text(&v, "matrix                        blk.1.attn_q.weight");
    nb_lab_views_free(&v);
}

static void refusals(void **state)
{
    (void)state;
    nb_lab *lab;
    nb_error err;
    nb_lab_params p = nb_lab_defaults();
    p.model = MODEL;
    p.threshold = 0;
    assert_int_equal(nb_lab_run(nb_lab_topic_named("int8"), &p, &lab, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "--threshold"));
    p = nb_lab_defaults();
    p.model = MODEL;
    p.tensor = "nothing";
    assert_int_equal(nb_lab_run(nb_lab_topic_named("int8"), &p, &lab, &err), NB_ERR_NOT_FOUND);
    p = nb_lab_defaults();
    setenv("NIBBLE_CACHE", "/nowhere", 1);
    assert_int_equal(nb_lab_run(nb_lab_topic_named("int8"), &p, &lab, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "tools/fetch-model"));
    unsetenv("NIBBLE_CACHE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reading), cmocka_unit_test(topic), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
