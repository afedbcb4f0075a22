/* Importance matrices that we collect, against llama-imatrix's of the same model and text. qwen2 has float32 matrices: there
 * llama.cpp rounds nothing, and with a float32 cache both compute the same. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/file.h"
#include "base/team.h"
#include "measure/calibrate.h"

#define ARCHS NB_TEST_DATA "/archs/"

static nb_buf text;

static int load_text(void **state)
{
    (void)state;
    return nb_file_read(NB_TEST_DATA "/measure/text.txt", 1 << 20, &text, NULL) == NB_OK ? 0 : -1;
}

static int free_text(void **state)
{
    (void)state;
    nb_buf_free(&text);
    return 0;
}

static nb_imatrix *calibrate(const char *path, bool exact, int threads, bool output)
{
    nb_model *model = NULL;
    nb_imatrix *m = NULL;
    nb_error err = {0};
    nb_model_params open = nb_model_defaults();
    open.exact = exact;
    open.threads = threads;
    nb_calibrate_params p = {.window = 32, .windows = 4, .output = output, .text_name = "text.txt"};
    if (nb_model_open(path, &open, &model, &err) != NB_OK ||
        nb_calibrate(model, nb_buf_view(&text), &p, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_model_close(model);
    return m;
}

static double worst_difference(const nb_imatrix *m, const nb_imatrix *expected)
{
    double worst = 0;
    assert_int_equal(nb_imatrix_count(m), nb_imatrix_count(expected));
    for (size_t i = 0; i < nb_imatrix_count(m); i++) {
        const nb_imatrix_entry *e = nb_imatrix_at(m, i), *o = nb_imatrix_at(expected, i);
        double difference = 0, norm = 0;
        assert_true(nb_str_eq(e->name, o->name) && e->columns == o->columns && e->matrices == o->matrices);
        for (size_t j = 0; j < e->matrices; j++)
            assert_true(e->count[j] == o->count[j]);
        for (size_t j = 0; j < e->columns * e->matrices; j++) {
            difference += pow((double)e->sum[j] - (double)o->sum[j], 2);
            norm += pow((double)o->sum[j], 2);
        }
        worst = fmax(worst, sqrt(difference / norm));
    }
    return worst;
}

static void like_llama_imatrix(void **state)
{
    (void)state;
    nb_imatrix *expected, *m = calibrate(ARCHS "qwen2.gguf", true, 2, true);
    nb_error err = {0};
    if (nb_imatrix_open(NB_TEST_DATA "/measure/qwen2.imatrix.gguf", &expected, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_true(worst_difference(m, expected) < 2e-6);
    assert_int_equal(nb_imatrix_chunks(m), 4);
    assert_int_equal(nb_imatrix_chunk_tokens(m), 32);
    assert_true(nb_str_eqz(nb_imatrix_text(m, 0), "text.txt"));
    assert_null(nb_imatrix_find(m, NB_STR("token_embd.weight"))); /* tied: it has no output matrix of its own */
    nb_imatrix_free(m);
    m = calibrate(ARCHS "qwen2.gguf", false, 2, false); /* activations in int8 or bf16 where that is faster */
    assert_true(worst_difference(m, expected) < 2e-2);
    nb_imatrix_free(m);
    nb_imatrix_free(expected);
}

static nb_imatrix *peer(const char *name)
{
    nb_imatrix *m;
    nb_error err = {0};
    if (nb_imatrix_open(name, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    return m;
}

/* Of files of the same weights in float32. phi-2's GELU goes through a table of halves there, which ffn_down sees; what the
 * one tensor of queries, keys and values reads is the same, once. Experts count the tokens that are theirs. */
static void fused_and_experts(void **state)
{
    (void)state;
    nb_imatrix *m = calibrate(ARCHS "phi-2.gguf", true, 2, false);
    nb_imatrix *expected = peer(NB_TEST_DATA "/measure/phi-2.imatrix.gguf");
    const nb_imatrix_entry *e = nb_imatrix_find(m, NB_STR("blk.0.attn_qkv.weight"));
    const nb_imatrix_entry *o = nb_imatrix_find(expected, NB_STR("blk.0.attn_qkv.weight"));
    assert_true(e && o && e->count[0] == 128);
    for (size_t i = 0; i < e->columns; i++)
        assert_true(fabsf(e->sum[i] - o->sum[i]) <= 1e-5f * o->sum[i]);
    assert_true(worst_difference(m, expected) < 5e-4);
    nb_imatrix_free(m);
    nb_imatrix_free(expected);
    m = calibrate(ARCHS "phi-3-longrope.gguf", true, 2, false); /* gate and up in one, too */
    assert_int_equal(nb_imatrix_count(m), 8);
    for (size_t i = 0; i < nb_imatrix_count(m); i++)
        assert_true(nb_imatrix_at(m, i)->count[0] == 128);
    nb_imatrix_free(m);
    m = calibrate(ARCHS "mixtral.gguf", true, 2, false);
    expected = peer(NB_TEST_DATA "/measure/mixtral.imatrix.gguf");
    assert_true(worst_difference(m, expected) < 2e-6);
    nb_imatrix_free(m);
    nb_imatrix_free(expected);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    const char *paths[] = {ARCHS "gemma-3.gguf", NB_TEST_DATA "/types/Q4_K.gguf", ARCHS "phi-2.gguf",
                           ARCHS "mixtral.gguf"};
    for (int i = 0; i < 4; i++) {
        nb_imatrix *one = calibrate(paths[i], false, 1, true), *three = calibrate(paths[i], false, 3, true);
        assert_true(worst_difference(three, one) == 0);
        nb_imatrix_free(one);
        nb_imatrix_free(three);
    }
}

static void output_matrix(void **state)
{
    (void)state;
    nb_imatrix *with = calibrate(ARCHS "llama-2-mha.gguf", false, 2, true);
    nb_imatrix *without = calibrate(ARCHS "llama-2-mha.gguf", false, 2, false);
    const nb_imatrix_entry *e = nb_imatrix_find(with, NB_STR("output.weight"));
    assert_true(e && e->columns == 64 && e->count[0] == 128); /* all tokens, not only those that are scored */
    assert_null(nb_imatrix_find(without, NB_STR("output.weight")));
    assert_int_equal(nb_imatrix_count(with), 22);
    assert_int_equal(nb_imatrix_count(without), 21);
    nb_imatrix_free(with);
    nb_imatrix_free(without);
}

static int stop_after_two(void *user, size_t done, size_t all)
{
    (void)user;
    return done == 2 && all == 4;
}

static void refuses(void **state)
{
    (void)state;
    nb_model *model;
    nb_imatrix *m;
    nb_error err = {0};
    nb_calibrate_params p = {.window = 3};
    assert_int_equal(nb_model_open(ARCHS "qwen2.gguf", NULL, &model, &err), NB_OK);
    assert_int_equal(nb_calibrate(model, nb_buf_view(&text), &p, &m, &err), NB_ERR_ARGUMENT);
    p.window = 100000;
    assert_int_equal(nb_calibrate(model, nb_buf_view(&text), &p, &m, &err), NB_ERR_LIMIT);
    p.window = 32;
    assert_int_equal(nb_calibrate(model, NB_STR("too short"), &p, &m, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "less than one window"));
    p.windows = 4;
    p.progress = stop_after_two;
    assert_int_equal(nb_calibrate(model, nb_buf_view(&text), &p, &m, &err), NB_ERR_CANCELLED);
    assert_null(m);
    nb_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_llama_imatrix),
        cmocka_unit_test(fused_and_experts),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(output_matrix),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, load_text, free_text);
}
