/* Real models against what transformers computes in float32 from the same files (tests/data/real), and the fast mode against
 * our own exact one. NIBBLE_TEST_ALL=1 takes the two larger models and all sixteen windows. */
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "base/file.h"
#include "measure/evaluate.h"
#include "support/cached.h"

enum { ROWS = 32 };

static void must(nb_status status, const nb_error *err)
{
    if (status != NB_OK)
        fail_msg("%s", err->message);
}

static nb_model *open_model(const char *name, bool exact)
{
    char path[1024];
    nb_error err;
    nb_model *m;
    nb_model_params p = nb_model_defaults();
    p.exact = exact;
    nb_cached("models", name, path);
    must(nb_model_open(path, &p, &m, &err), &err);
    return m;
}

/* ---- the oracle's vectors ---- */

static double nll_of(const float *row, size_t vocabulary, int32_t id)
{
    float max = row[0];
    double sum = 0;
    for (size_t i = 1; i < vocabulary; i++)
        max = row[i] > max ? row[i] : max;
    for (size_t i = 0; i < vocabulary; i++)
        sum += exp((double)row[i] - (double)max);
    return (double)max + log(sum) - (double)row[id];
}

static int32_t argmax_of(const float *row, size_t vocabulary)
{
    size_t best = 0;
    for (size_t i = 1; i < vocabulary; i++)
        if (row[i] > row[best])
            best = i;
    return (int32_t)best;
}

static int32_t item(const json_t *array, size_t i) { return (int32_t)json_integer_value(json_array_get(array, i)); }
static double number(const json_t *array, size_t i) { return json_number_value(json_array_get(array, i)); }

static void check_prompt_tokens(nb_model *m, const json_t *c)
{
    const char *prompt = json_string_value(json_object_get(c, "prompt"));
    const json_t *ids = json_object_get(c, "ids");
    int32_t got[4096];
    size_t count;
    nb_error err;
    must(nb_tokenize(m, prompt, strlen(prompt), NB_TEXT_ADD_SPECIAL, got, 4096, &count, &err), &err);
    assert_int_equal(count, json_array_size(ids));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(got[i], item(ids, i));
}

static void check_greedy(nb_session *s, const json_t *c)
{
    const json_t *greedy = json_object_get(c, "greedy");
    size_t vocabulary = nb_model_vocabulary(s->model);
    nb_error err;
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        int32_t id = argmax_of(nb_session_row(s, i ? 0 : s->rows - 1), vocabulary);
        assert_int_equal(id, item(greedy, i));
        must(nb_session_eval(s, &id, 1, NB_LOGITS_LAST, &err), &err);
        if (nb_model_ends_reply(s->model, id))
            break;
    }
}

static void check_case(nb_session *s, const json_t *c)
{
    const json_t *ids = json_object_get(c, "ids"), *top = json_object_get(c, "argmax_each_position");
    const json_t *margin = json_object_get(c, "margin_each_position"), *nll = json_object_get(c, "nll_each_position");
    size_t count = json_array_size(ids), vocabulary = nb_model_vocabulary(s->model), judged = 0;
    double sum = 0, worst = 0;
    nb_error err;
    must(nb_session_rewind(s, 0, &err), &err);
    for (size_t at = 0; at < count; at += ROWS) {
        int32_t chunk[ROWS];
        size_t n = nb_min_size(ROWS, count - at);
        for (size_t i = 0; i < n; i++)
            chunk[i] = item(ids, at + i);
        must(nb_session_eval(s, chunk, n, NB_LOGITS_ALL, &err), &err);
        for (size_t i = 0; i < n; i++) {
            const float *row = nb_session_row(s, i);
            if (number(margin, at + i) > 1e-3) {
                assert_int_equal(argmax_of(row, vocabulary), item(top, at + i));
                judged++;
            }
            if (at + i + 1 < count) {
                double got = nll_of(row, vocabulary, item(ids, at + i + 1));
                worst = fmax(worst, fabs(got - number(nll, at + i)));
                sum += got;
            }
        }
    }
    double mean = sum / (double)(count - 1), want = json_real_value(json_object_get(c, "mean_nll"));
    printf("  %4zu tokens: mean nll %.6f, the oracle %.6f; worst single difference %.1e; argmax equal at %zu\n", count,
           mean, want, worst, judged);
    assert_true(fabs(mean - want) < 1e-4);
    assert_true(judged > 0);
    check_greedy(s, c);
}

static void check_vectors(const char *file, const char *vectors)
{
    char path[1024];
    nb_error err;
    json_error_t json_err;
    nb_session *s;
    snprintf(path, sizeof path, "%s/real/%s", NB_TEST_DATA, vectors);
    json_t *root = json_load_file(path, 0, &json_err), *c;
    assert_non_null(root);
    nb_model *m = open_model(file, true);
    nb_session_params p = {.context = 2048, .batch = ROWS, .outputs = ROWS};
    must(nb_session_open(m, &p, &s, &err), &err);
    size_t i;
    printf("%s\n", file);
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        check_prompt_tokens(m, c);
        check_case(s, c);
    }
    assert_int_equal(i, 4);
    nb_session_close(s);
    nb_model_close(m);
    json_decref(root);
}

static void test_oracle(void **state)
{
    (void)state;
    check_vectors("smollm2-135m-instruct-q4_1.gguf", "smollm2-135m.json");
    check_vectors("gemma-3-270m-q4_k_m.gguf", "gemma-3-270m-q4_k_m.json");
    if (all_models())
        check_vectors("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.json");
}

/* ---- perplexity and the fast mode ---- */

static void read_policy(nb_buf *text)
{
    char path[1024];
    nb_error err;
    nb_cached("text", "policy.txt", path);
    must(nb_file_read(path, 1 << 24, text, &err), &err);
}

/* llama.cpp's figures for the same windows: facts about the files, measured once (16 windows of 512) */
static void check_perplexity(const char *file, double want)
{
    nb_buf text = {0};
    nb_error err;
    nb_evaluation e;
    nb_session_params p = nb_session_defaults();
    nb_model *m = open_model(file, false);
    read_policy(&text);
    must(nb_evaluate(m, NULL, nb_buf_view(&text), 512, 16, &p, NULL, NULL, &e, &err), &err);
    printf("%s: perplexity %.4f, llama.cpp %.4f\n", file, e.perplexity, want);
    assert_int_equal(e.scored, 16 * 255);
    assert_true(fabs(e.perplexity / want - 1) < 0.005);
    nb_model_close(m);
    nb_buf_free(&text);
}

static void test_perplexity(void **state)
{
    (void)state;
    check_perplexity("smollm2-135m-instruct-q4_1.gguf", 6.5038);
    check_perplexity("gemma-3-270m-q4_k_m.gguf", 6.2823);
}

static void check_fast(const char *file)
{
    nb_buf text = {0};
    nb_error err;
    nb_evaluation e;
    nb_session_params p = nb_session_defaults();
    nb_model *fast = open_model(file, false), *exact = open_model(file, true);
    read_policy(&text);
    must(nb_evaluate(fast, exact, nb_buf_view(&text), 512, all_models() ? 16 : 3, &p, NULL, NULL, &e, &err), &err);
    printf("%s: fast against exact at %zu places: KL %.6f +- %.6f, same top %.2f %%, perplexity %.4f against %.4f\n",
           file, e.scored, e.kl_mean, e.kl_error, 100 * e.same_top, e.perplexity, e.base_perplexity);
    assert_true(e.kl_mean <= 0.003);
    assert_true(e.same_top >= 0.97);
    assert_true(fabs(e.perplexity / e.base_perplexity - 1) < 0.005);
    nb_model_close(fast);
    nb_model_close(exact);
    nb_buf_free(&text);
}

static void test_fast(void **state)
{
    (void)state;
    check_fast("smollm2-135m-instruct-q4_1.gguf");
    check_fast("gemma-3-270m-q4_k_m.gguf");
    if (all_models()) {
        check_fast("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
        check_fast("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf");
    }
}

/* ---- the same seed, the same text ---- */

static int collect(void *user, const char *text, size_t bytes)
{
    nb_buf_add(user, text, bytes);
    return 0;
}

static void sample(int threads, size_t batch, nb_buf *text)
{
    char path[1024];
    int32_t ids[64];
    size_t count;
    nb_error err;
    nb_model *m;
    nb_session *s;
    nb_model_params params = nb_model_defaults();
    nb_generate_params g = nb_generate_defaults();
    nb_generate_stats stats;
    params.threads = threads;
    g.sampling.seed = 42;
    g.sampling.temperature = 0.9f;
    g.max_tokens = 48;
    g.ignore_end = true;
    g.on_text = collect;
    g.user = text;
    nb_cached("models", "smollm2-135m-instruct-q4_1.gguf", path);
    must(nb_model_open(path, &params, &m, &err), &err);
    must(nb_session_open(m, &(nb_session_params){.context = 256, .batch = batch}, &s, &err), &err);
    must(nb_tokenize(m, "Once upon a time", 16, NB_TEXT_ADD_SPECIAL, ids, 64, &count, &err), &err);
    must(nb_generate(s, ids, count, &g, &stats, &err), &err);
    assert_int_equal(stats.tokens, 48);
    assert_int_equal(stats.reason, NB_STOP_LENGTH);
    nb_session_close(s);
    nb_model_close(m);
}

static void test_same_seed_same_text(void **state)
{
    (void)state;
    nb_buf one = {0}, two = {0}, three = {0};
    sample(1, 0, &one);
    sample(2, 0, &two);
    sample(3, 2, &three);
    printf("%s\n", one.data);
    assert_true(one.len > 40);
    assert_string_equal(one.data, two.data);
    assert_string_equal(one.data, three.data);
    nb_buf_free(&one);
    nb_buf_free(&two);
    nb_buf_free(&three);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_text),
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_perplexity),
        cmocka_unit_test(test_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
