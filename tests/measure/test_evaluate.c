/* Perplexity and divergence against what llama-perplexity printed for the same models, text and base file: qwen2 (float32
 * matrices) and a copy of it whose matrices keep the upper 12 bits of each float, made here as it was for llama.cpp.
 * Windows of 32, float32 cache. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/file.h"
#include "format/gguf_write.h"
#include "measure/evaluate.h"
#include "measure/logits_file.h"
#include "support/folder.h"

#define SOURCE NB_TEST_DATA "/archs/qwen2.gguf"
#define BASE NB_TEST_DATA "/measure/qwen2.logits" /* llama-perplexity --kl-divergence-base, 3 windows */

static nb_buf text;
static nb_model *source, *cut;

static nb_status write_cut_tensor(nb_gguf_writer *w, const nb_gguf_tensor *t, nb_error *err)
{
    uint32_t *bits = malloc(t->bytes);
    memcpy(bits, t->data, t->bytes);
    for (size_t i = 0; t->n_dims == 2 && i < t->bytes / 4; i++)
        bits[i] = (bits[i] + 0x80000) & 0xFFF00000;
    nb_status status = nb_gguf_writer_data(w, bits, t->bytes, err);
    free(bits);
    return status;
}

static nb_status write_cut(const char *path, nb_error *err)
{
    nb_gguf *g;
    nb_gguf_writer *w;
    NB_TRY(nb_gguf_open(SOURCE, &g, err));
    NB_TRY(nb_gguf_writer_open(path, 0, &w, err));
    for (size_t i = 0; i < nb_gguf_value_count(g); i++)
        nb_gguf_put_value(w, nb_gguf_value_at(g, i));
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        nb_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims);
    }
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++)
        NB_TRY(write_cut_tensor(w, nb_gguf_tensor_at(g, i), err));
    nb_gguf_close(g);
    return nb_gguf_writer_commit(w, err);
}

static int set_up(void **state)
{
    nb_error err = {0};
    nb_model_params exact = nb_model_defaults();
    exact.exact = true;
    if (nb_folder_make(state) || nb_file_read(NB_TEST_DATA "/measure/text.txt", 1 << 20, &text, &err) != NB_OK ||
        write_cut(nb_folder_path("cut.gguf"), &err) != NB_OK || nb_model_open(SOURCE, &exact, &source, &err) != NB_OK ||
        nb_model_open(nb_folder_path("cut.gguf"), &exact, &cut, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    nb_model_close(source);
    nb_model_close(cut);
    nb_buf_free(&text);
    unlink(nb_folder_path("cut.gguf"));
    return nb_folder_remove(state);
}

static void evaluate(nb_model *const *models, size_t count, const nb_evaluate_params *p, nb_evaluation *out)
{
    nb_error err = {0};
    nb_str no_text = {0};
    if (nb_evaluate_models(models, count, p->base_file ? no_text : nb_buf_view(&text), p, out, &err) != NB_OK)
        fail_msg("%s", err.message);
}

static void near(double got, double expected, double relative)
{
    if (!(fabs(got - expected) <= relative * fabs(expected)))
        fail_msg("%.9g, not %.9g", got, expected);
}

/* what llama-perplexity says */
static void perplexities(void **state)
{
    (void)state;
    nb_evaluation e[2];
    nb_model *models[] = {source, cut};
    evaluate(models, 2, &(nb_evaluate_params){.window = 32, .windows = 8}, e);
    assert_int_equal(e[0].windows, 8);
    assert_int_equal(e[0].scored, 120);
    near(e[0].perplexity, 440335.7989, 1e-5);
    near(e[0].perplexity_error, 150643.09212, 1e-5);
    near(e[1].perplexity, 379887.6406, 1e-5);
    near(e[1].perplexity_error, 129121.19694, 1e-5);
    assert_false(e[0].has_base);
}

/* --kl-divergence against the base file of 8 windows, which our own writer makes */
static void divergences(void **state)
{
    (void)state;
    nb_evaluation e;
    char path[400];
    snprintf(path, sizeof path, "%s", nb_folder_path("base.logits"));
    evaluate(&source, 1, &(nb_evaluate_params){.window = 32, .windows = 8, .save = path}, &e);
    evaluate(&cut, 1, &(nb_evaluate_params){.base_file = path}, &e);
    unlink(path);
    assert_true(e.has_base && e.windows == 8 && e.scored == 120);
    near(e.perplexity, 379887.659252, 1e-5);
    near(e.base_perplexity, 327871.581031, 1e-5); /* of what the file's 16 bits hold */
    near(e.ratio, 1.158648, 1e-5);
    near(e.ratio_error, 0.143220, 1e-4);
    near(e.kl_mean, 0.216760, 1e-5);
    near(e.kl_error, 0.016070, 1e-4);
    /* single places: the file's 16 bits have steps of 6e-4 */
    near(e.kl_median, 0.161638, 5e-4);
    near(e.kl_90, 0.444171, 5e-4);
    near(e.kl_99, 0.805188, 5e-4);
    near(e.kl_999, 0.977678, 5e-4);
    near(e.kl_max, 0.995153, 5e-4);
    near(e.same_top, 0.72500, 1e-6);
    near(e.same_top_error, 0.04093, 1e-3);
    near(e.probability_rms, 0.00201, 5e-3);
    near(e.probability_rms_error, 0.00066, 1e-2);
    assert_true(e.agree[0] == e.same_top && e.agree[1] > 0.5 && e.agree[2] > 0.5 && e.agree[2] < 1);
}

/* a model as the base gives what its logits do, but for the 16 bits; the text is checked against a file's tokens */
static void base_model_or_file(void **state)
{
    (void)state;
    nb_evaluation direct, stored;
    nb_error err = {0};
    evaluate(&cut, 1, &(nb_evaluate_params){.window = 32, .windows = 3, .base = source}, &direct);
    evaluate(&cut, 1, &(nb_evaluate_params){.base_file = BASE}, &stored);
    assert_int_equal(direct.scored, 45);
    near(direct.kl_mean, stored.kl_mean, 1e-3);
    near(direct.perplexity, stored.perplexity, 0);
    near(direct.kl_max, stored.kl_max, 1e-3);
    nb_evaluate_params p = {.base_file = BASE, .window = 32, .windows = 2};
    assert_int_equal(nb_evaluate_models(&cut, 1, nb_buf_view(&text), &p, &stored, &err), NB_OK);
    assert_int_equal(stored.windows, 2);
    p.window = 16;
    assert_int_equal(nb_evaluate_models(&cut, 1, nb_buf_view(&text), &p, &stored, &err), NB_ERR_ARGUMENT);
    p.window = 0;
    nb_str other = {text.data + 5, text.len - 5};
    assert_int_equal(nb_evaluate_models(&cut, 1, other, &p, &stored, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "another text"));
}

static void itself(void **state)
{
    (void)state;
    nb_evaluation e;
    evaluate(&source, 1, &(nb_evaluate_params){.window = 32, .windows = 4, .base = source}, &e);
    assert_true(e.kl_mean == 0 && e.kl_max == 0 && e.ratio == 1 && e.ratio_error < 1e-6 && e.same_top == 1);
    assert_true(e.agree[1] == 1 && e.agree[2] == 1 && e.probability_rms == 0 && e.perplexity == e.base_perplexity);
}

/* the difference of the means, with the error of the differences (not of the means) */
static void pairs(void **state)
{
    (void)state;
    nb_evaluation e[3];
    nb_model *models[] = {cut, source, cut};
    evaluate(models, 3, &(nb_evaluate_params){.window = 32, .windows = 8, .base = source}, e);
    assert_true(e[0].kl_more == 0 && e[0].kl_more_error == 0);
    near(e[1].kl_more, -e[0].kl_mean, 1e-9);
    near(e[1].kl_more_error, e[0].kl_error, 1e-9);
    assert_true(e[2].kl_more == 0 && e[2].kl_more_error == 0 && e[2].kl_mean == e[0].kl_mean);
}

/* ---- files of logits ---- */

static nb_buf read_file(const char *path)
{
    nb_buf b = {0};
    assert_int_equal(nb_file_read(path, 1 << 20, &b, NULL), NB_OK);
    return b;
}

/* ours are llama-perplexity's, up to the roundings of two programs that add in another order */
static void writes_the_form(void **state)
{
    (void)state;
    nb_evaluation e;
    char path[400];
    snprintf(path, sizeof path, "%s", nb_folder_path("ours.logits"));
    evaluate(&source, 1, &(nb_evaluate_params){.window = 32, .windows = 3, .save = path}, &e);
    nb_buf ours = read_file(path), theirs = read_file(BASE);
    unlink(path);
    size_t header = 20 + 3 * 32 * 4, far = 0;
    assert_int_equal(ours.len, theirs.len);
    assert_memory_equal(ours.data, theirs.data, header);
    for (size_t i = header; i + 1 < ours.len; i += 2) {
        uint16_t a, b;
        memcpy(&a, ours.data + i, 2);
        memcpy(&b, theirs.data + i, 2);
        far += (i - header) % 1032 >= 8 && abs((int)a - (int)b) > 1;
    }
    assert_true(far == 0);
    nb_buf_free(&ours);
    nb_buf_free(&theirs);
}

static void reads_rows(void **state)
{
    (void)state;
    nb_logits_file *f;
    nb_error err = {0};
    float row[512];
    int32_t tokens[32];
    assert_true(nb_logits_file_is(BASE));
    assert_false(nb_logits_file_is(SOURCE));
    assert_false(nb_logits_file_is("/nowhere"));
    if (nb_logits_file_open(BASE, &f, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_logits_shape s = nb_logits_file_shape(f);
    assert_true(s.window == 32 && s.vocabulary == 512 && s.windows == 3 && s.rows == 15);
    nb_logits_file_tokens(f, 2, tokens);
    for (size_t r = 0; r < 15; r++) {
        double sum = 0;
        assert_int_equal(nb_logits_file_row(f, 2, r, row, &err), NB_OK);
        for (size_t i = 0; i < 512; i++)
            sum += exp((double)row[i]);
        assert_true(fabs(sum - 1) < 1e-3);
    }
    nb_logits_file_close(f);
    nb_logits_file_close(NULL);
}

static void refused(const void *bytes, size_t size)
{
    nb_logits_file *f;
    nb_error err = {0};
    assert_int_equal(nb_logits_file_open_memory("bad", bytes, size, &f, &err), NB_ERR_FORMAT);
    assert_true(f == NULL && strstr(err.message, "bad") != NULL);
}

static void hostile_files(void **state)
{
    (void)state;
    nb_buf b = read_file(BASE);
    nb_logits_file *f;
    nb_error err = {0};
    float row[512];
    for (size_t n = 0; n < b.len; n += n < 700 ? 1 : 997)
        refused(b.data, n);
    for (int field = 0; field < 4; field++) {
        static const int32_t bad[] = {0, -1, INT32_MAX, INT32_MIN};
        for (int i = 0; i < 4; i++) {
            if (field == 3 && bad[i] == 0)
                continue;
            int32_t old;
            memcpy(&old, b.data + 8 + 4 * field, 4);
            memcpy(b.data + 8 + 4 * field, &bad[i], 4); /* window, vocabulary, windows, the first token */
            refused(b.data, b.len);
            memcpy(b.data + 8 + 4 * field, &old, 4);
        }
    }
    float bad = NAN;
    memcpy(b.data + 20 + 3 * 32 * 4 + 4, &bad, 4); /* the first row's lowest value */
    assert_int_equal(nb_logits_file_open_memory("bad", b.data, b.len, &f, &err), NB_OK);
    assert_int_equal(nb_logits_file_row(f, 0, 0, row, &err), NB_ERR_FORMAT);
    assert_int_equal(nb_logits_file_row(f, 0, 1, row, &err), NB_OK);
    nb_logits_file_close(f);
    nb_buf_free(&b);
}

static void refuses_models(void **state)
{
    (void)state;
    nb_model *other;
    nb_evaluation e;
    nb_error err = {0};
    char path[400];
    snprintf(path, sizeof path, "%s", nb_folder_path("not.logits"));
    assert_int_equal(nb_model_open(NB_TEST_DATA "/types/F16.gguf", NULL, &other, &err), NB_OK);
    nb_evaluate_params p = {.window = 32, .base = other, .save = path};
    assert_int_equal(nb_evaluate_models(&cut, 1, nb_buf_view(&text), &p, &e, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "vocabularies of 512 and 300"));
    p = (nb_evaluate_params){.base_file = BASE, .save = path};
    assert_int_equal(nb_evaluate_models(&other, 1, (nb_str){0}, &p, &e, &err), NB_ERR_ARGUMENT);
    assert_int_equal(access(path, F_OK), -1);
    nb_model_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perplexities), cmocka_unit_test(divergences),   cmocka_unit_test(base_model_or_file),
        cmocka_unit_test(itself),       cmocka_unit_test(pairs),         cmocka_unit_test(writes_the_form),
        cmocka_unit_test(reads_rows),   cmocka_unit_test(hostile_files), cmocka_unit_test(refuses_models),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
