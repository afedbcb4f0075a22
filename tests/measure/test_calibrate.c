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
#include "num/half.h"

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

/* ---- second moments ---- */

enum { COLUMNS = 64 }; /* of qwen2.gguf's attention */

typedef struct seen { /* what one weight read */
    int weight;
    double product[COLUMNS][COLUMNS];
} seen;

static void look(void *user, int weight, size_t matrix, const float *x, size_t stride, size_t rows, size_t first,
                 size_t columns)
{
    seen *s = user;
    (void)matrix;
    if (weight != s->weight)
        return;
    assert_true(first == 0 && columns == COLUMNS); /* one thread */
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < COLUMNS; i++)
            for (size_t j = 0; j < COLUMNS; j++)
                s->product[i][j] += (double)x[r * stride + i] * (double)x[r * stride + j];
}

static nb_imatrix *calibrate_moments(nb_model *model, bool with)
{
    nb_imatrix *m = NULL;
    nb_error err = {0};
    nb_calibrate_params p = {.window = 48, .windows = 1, .moments = with ? 256 : 0, .text_name = "text.txt"};
    if (nb_calibrate(model, nb_buf_view(&text), &p, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    return m;
}

static nb_model *open_model(int threads)
{
    nb_model *model = NULL;
    nb_model_params open = nb_model_defaults();
    open.exact = true;
    open.threads = threads;
    assert_int_equal(nb_model_open(ARCHS "qwen2.gguf", &open, &model, NULL), NB_OK);
    return model;
}

/* Correlations are those of what the matrix read, summed here in double; sums stay what they are without moments; what reads
 * the same shares them; any number of threads gives the same. */
static void moments(void **state)
{
    static seen s;
    (void)state;
    nb_model *model = open_model(1);
    nb_imatrix *m = calibrate_moments(model, true), *plain = calibrate_moments(model, false);
    const nb_imatrix_entry *k = nb_imatrix_find(m, NB_STR("blk.1.attn_k.weight"));
    nb_str name = NB_STR("blk.1.attn_k.weight");
    s.weight = -1;
    for (size_t i = 0; i < model->def->weight_count; i++)
        if (nb_str_eq(model->def->weights[i].tensor->name, name))
            s.weight = (int)i;
    assert_true(s.weight >= 0 && k && k->moments && k->columns == COLUMNS);
    nb_session *session;
    nb_session_params options = nb_session_defaults();
    options.context = options.batch = options.outputs = 48;
    int32_t ids[4096];
    size_t count;
    assert_int_equal(nb_session_open(model, &options, &session, NULL), NB_OK);
    assert_int_equal(
        nb_tokenize(model, text.data, text.len, NB_TEXT_ADD_SPECIAL | NB_TEXT_PARSE_SPECIAL, ids, 4096, &count, NULL),
        NB_OK);
    model->backend->tap(session->context, look, &s);
    assert_int_equal(nb_session_eval(session, ids, 48, NB_LOGITS_ALL, NULL), NB_OK);
    nb_session_close(session);
    for (size_t i = 0, at = 0; i < COLUMNS; i++)
        for (size_t j = 0; j <= i; j++, at++) {
            double expected = s.product[i][j] / sqrt(s.product[i][i] * s.product[j][j]);
            assert_true(fabs((double)nb_f16_to_f32(k->moments->correlation[at]) - expected) < 6e-4);
        }
    assert_ptr_equal(nb_imatrix_find(m, NB_STR("blk.1.attn_q.weight"))->moments, k->moments);
    assert_ptr_equal(nb_imatrix_find(m, NB_STR("blk.1.attn_v.weight"))->moments, k->moments);
    assert_true(nb_imatrix_find(m, NB_STR("blk.1.attn_output.weight"))->moments != k->moments);
    nb_model_close(model);
    model = open_model(3);
    nb_imatrix *threads = calibrate_moments(model, true);
    nb_model_close(model);
    for (size_t i = 0; i < nb_imatrix_count(m); i++) {
        const nb_imatrix_entry *a = nb_imatrix_at(m, i), *b = nb_imatrix_at(threads, i);
        assert_true((a->moments != NULL) == (a->columns % 32 == 0) && (b->moments != NULL) == (a->moments != NULL));
        assert_memory_equal(a->sum, nb_imatrix_at(plain, i)->sum, a->columns * sizeof *a->sum);
        if (a->moments)
            assert_memory_equal(a->moments->correlation, b->moments->correlation,
                                nb_moments_values(a->columns, a->moments->block) * sizeof(uint16_t));
    }
    nb_imatrix_free(m);
    nb_imatrix_free(plain);
    nb_imatrix_free(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_llama_imatrix),
        cmocka_unit_test(fused_and_experts),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(output_matrix),
        cmocka_unit_test(moments),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, load_text, free_text);
}
