/* Topic kvcache: bytes by hand; perplexity and divergence in float64 from logits of sessions made here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "nibble.h"
#include "support/lab.h"

/* 2 layers, 1 kv head, 32 values of a key and of a value */
#define MODEL NB_TEST_DATA "/types/F16.gguf"
#define TEXT                                                                                                           \
    "hello world, what is this? it is a text that is long enough to be read by a small model, token after token"
enum { MOST = 512 };

static nb_lab_views views_of(const char *path)
{
    nb_lab_params p = nb_lab_defaults();
    p.model = path;
    p.text = TEXT;
    return nb_lab_views_of("kvcache", &p);
}

static void close_to(double got, double want, double tolerance, const char *what)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s: %.12g, not %.12g", what, got, want);
}

static void bytes(const nb_lab_views *v)
{
    static const struct {
        const char *type;
        double bits;
    } want[] = {{"f32", 32}, {"f16", 16}, {"bf16", 16}, {"q8_0", 8 + 16.0 / 32}, {"q4_0", 4 + 16.0 / 32}};
    const json_t *t = nb_lab_find(v, "bytes", "tables", "types");
    double values = 2 * 1 * (32 + 32), context = nb_lab_fact_of(v, "bytes", "context");
    assert_true(nb_lab_fact_of(v, "bytes", "values") == values);
    assert_int_equal(json_array_size(t), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *row = nb_lab_row(t, "type", want[i].type);
        double token = values * want[i].bits / 8;
        close_to(nb_lab_number(row, "bits"), want[i].bits, 1e-9, want[i].type);
        close_to(nb_lab_number(row, "token"), token, 1e-9, want[i].type);
        close_to(nb_lab_number(row, "page"), 64 * token, 1e-9, want[i].type);
        close_to(nb_lab_number(row, "context"), ceil(context / 64) * 64 * token, 1e-9, want[i].type);
    }
}

static void pages(const nb_lab_views *v)
{
    static const int positions[] = {1, 63, 64, 65, 1000, 4096}, count[] = {1, 1, 1, 2, 16, 64};
    const json_t *t = nb_lab_find(v, "pages", "tables", "pages");
    assert_int_equal(json_array_size(t), 6);
    for (size_t i = 0; i < 6; i++) {
        const json_t *row = json_array_get(t, i);
        assert_true(nb_lab_number(row, "positions") == positions[i] && nb_lab_number(row, "pages") == count[i]);
        assert_true(nb_lab_number(row, "bytes") == count[i] * 64 * (32 + 32) * 2);
        close_to(nb_lab_number(row, "unused"), 1 - positions[i] / (64.0 * count[i]), 1e-12, "unused");
    }
}

static void speed(const nb_lab_views *v)
{
    const json_t *t = nb_lab_find(v, "speed", "tables", "speed");
    assert_true(json_array_size(t) >= 2);
    for (size_t i = 0; i < json_array_size(t); i++) {
        const json_t *row = json_array_get(t, i);
        double with = nb_lab_number(row, "with"), without = nb_lab_number(row, "without");
        assert_true(nb_lab_number(row, "length") == 16 << i && with > 0 && without > 0);
        close_to(nb_lab_number(row, "speed_with") * with, 1, 1e-9, "tokens a second");
        close_to(nb_lab_number(row, "gain"), without / with, 1e-6 * without / with, "gain");
    }
    nb_lab_expect_text(v, "1 + 2 + ... + 512 = 131328");
}

static void prefix(const nb_lab_views *v)
{
    double all = nb_lab_fact_of(v, "prefix", "tokens");
    assert_true(all > 10 && nb_lab_fact_of(v, "prefix", "shared") == all - floor(all / 10));
    assert_true(nb_lab_fact_of(v, "prefix", "difference") ==
                0); /* a token's numbers hang on nothing but the tokens before */
}

/* The natural logarithms of the probabilities of each next token. */
static double *log_probabilities(nb_model *model, const int32_t *ids, size_t count, const char *type)
{
    nb_session_params p = nb_session_defaults();
    nb_session *s;
    size_t vocabulary = nb_model_vocabulary(model);
    double *out = malloc(count * vocabulary * sizeof *out);
    assert_non_null(out);
    p.context = 256;
    p.kv_type = type;
    assert_int_equal(nb_session_open(model, &p, &s, NULL), NB_OK);
    for (size_t i = 0; i < count; i++) { /* one by one: the topic takes several at a time */
        double sum = 0, *to = out + i * vocabulary;
        assert_int_equal(nb_session_eval(s, &ids[i], 1, NB_LOGITS_LAST, NULL), NB_OK);
        const float *row = nb_session_row(s, 0);
        for (size_t k = 0; k < vocabulary; k++)
            sum += exp((double)row[k]);
        for (size_t k = 0; k < vocabulary; k++)
            to[k] = (double)row[k] - log(sum);
    }
    nb_session_close(s);
    return out;
}

static void types(const nb_lab_views *v)
{
    static const char *const names[] = {"f32", "f16", "q8_0", "q4_0"};
    nb_model_params p = nb_model_defaults();
    nb_model *model;
    int32_t ids[MOST];
    size_t count, vocabulary;
    p.exact = true;
    assert_int_equal(nb_model_open(MODEL, &p, &model, NULL), NB_OK);
    assert_int_equal(nb_tokenize(model, TEXT, strlen(TEXT), NB_TEXT_ADD_SPECIAL, ids, MOST, &count, NULL), NB_OK);
    assert_true(count > 8 && count <= 160);
    vocabulary = nb_model_vocabulary(model);
    double *base = log_probabilities(model, ids, count, "f32"), before = 0;
    const json_t *t = nb_lab_find(v, "types", "tables", "types");
    for (size_t i = 0; i < 4; i++) {
        const json_t *row = nb_lab_row(t, "type", names[i]);
        double *got = log_probabilities(model, ids, count, names[i]), nll = 0, divergence = 0;
        for (size_t k = 0; k + 1 < count; k++) {
            nll -= got[k * vocabulary + (size_t)ids[k + 1]];
            for (size_t w = 0; w < vocabulary; w++)
                divergence += exp(base[k * vocabulary + w]) * (base[k * vocabulary + w] - got[k * vocabulary + w]);
        }
        double n = (double)count - 1, perplexity = exp(nll / n);
        close_to(nb_lab_number(row, "perplexity"), perplexity, 1e-5 * perplexity, names[i]);
        close_to(nb_lab_number(row, "divergence"), divergence / n, 1e-6 + 0.01 * divergence / n, names[i]);
        assert_true(nb_lab_number(row, "divergence") >= before); /* fewer bits, further off */
        before = nb_lab_number(row, "divergence");
        free(got);
    }
    assert_true(before > 0);
    free(base);
    nb_model_close(model);
}

static void topic(void **state)
{
    (void)state;
    nb_lab_views v = views_of(MODEL);
    bytes(&v);
    pages(&v);
    speed(&v);
    prefix(&v);
    types(&v);
    nb_lab_views_free(&v);
}

/* Heads of 16 values cannot be kept in blocks of 32: such rows stay empty. */
static void narrow(void **state)
{
    (void)state;
    nb_lab_views v = views_of(NB_TEST_DATA "/archs/qwen2.gguf");
    const json_t *bytes_of = nb_lab_find(&v, "bytes", "tables", "types"),
                 *cost = nb_lab_find(&v, "types", "tables", "types");
    assert_true(json_is_null(json_object_get(nb_lab_row(bytes_of, "type", "q8_0"), "token")));
    assert_true(json_is_null(json_object_get(nb_lab_row(cost, "type", "q8_0"), "perplexity")));
    close_to(nb_lab_number(nb_lab_row(bytes_of, "type", "f16"), "token"), 384, 1e-9, "f16");
    assert_true(json_is_number(json_object_get(nb_lab_row(cost, "type", "f16"), "perplexity")));
    nb_lab_views_free(&v);
}

static void refusals(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    nb_lab *lab;
    nb_error err;
    p.model = NB_TEST_DATA "/archs/bert.gguf";
    assert_int_not_equal(nb_lab_run(nb_lab_topic_named("kvcache"), &p, &lab, &err), NB_OK);
    assert_non_null(strstr(err.message, "no cache"));
    p.model = MODEL;
    p.text = "a";
    assert_int_equal(nb_lab_run(nb_lab_topic_named("kvcache"), &p, &lab, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "--text"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(topic), cmocka_unit_test(narrow), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
