/* Rounding with error feedback on a real model: SmolLM2 in Q4_0 with and without the second moments of the same calibration
 * text, judged on another part of the Debian Policy Manual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "convert/open.h"
#include "convert/quantize.h"
#include "measure/calibrate.h"
#include "measure/evaluate.h"
#include "support/cached.h"

enum { WINDOW = 512, CALIBRATED = 8, JUDGED = 4 };

static void must(nb_status status, const nb_error *err)
{
    if (status != NB_OK)
        fail_msg("%s", err->message);
}

static nb_model *quantized(const char *path, const nb_imatrix *m, bool feedback)
{
    nb_quantize_params p = nb_quantize_defaults();
    nb_source *source;
    nb_gguf *g;
    nb_model *model;
    nb_model_params open = nb_model_defaults();
    nb_error err = {0};
    p.mix = nb_mix_by_name(NB_STR("Q4_0"));
    p.imatrix = m;
    p.imatrix_name = "test";
    p.allow_requantize = true;
    p.feedback = feedback;
    must(nb_source_open(path, &source, &err), &err);
    must(nb_quantize_to_memory(source, &p, &g, &err), &err);
    must(nb_model_open_gguf(g, &open, &model, &err), &err);
    return model;
}

static void feedback_helps(void **state)
{
    char path[1024], text_path[1024];
    nb_buf text = {0};
    nb_model *base, *models[2];
    nb_imatrix *m;
    nb_evaluation e[2];
    nb_error err = {0};
    (void)state;
    nb_cached("models", "smollm2-135m-instruct-q4_1.gguf", path);
    nb_cached("text", "policy.txt", text_path);
    must(nb_file_read(text_path, 1 << 24, &text, &err), &err);
    nb_model_params open = nb_model_defaults();
    must(nb_model_open(path, &open, &base, &err), &err);
    nb_str all = nb_buf_view(&text), tail = {all.p + all.n / 2, all.n - all.n / 2};
    nb_calibrate_params c = {.window = WINDOW, .windows = CALIBRATED, .moments = 1024, .text_name = "policy.txt"};
    must(nb_calibrate(base, tail, &c, &m, &err), &err);
    for (int i = 0; i < 2; i++)
        models[i] = quantized(path, m, i > 0);
    nb_evaluate_params p = {.window = WINDOW, .windows = JUDGED, .base = base};
    must(nb_evaluate_models(models, 2, all, &p, e, &err), &err);
    printf("SmolLM2 in Q4_0: KL %.5f by search, %.5f with feedback\n", e[0].kl_mean, e[1].kl_mean);
    assert_true(e[0].kl_mean > 0.01 && e[1].kl_mean < 0.75 * e[0].kl_mean);
    assert_true(e[1].kl_more < -5 * e[1].kl_more_error);
    for (int i = 0; i < 2; i++)
        nb_model_close(models[i]);
    nb_model_close(base);
    nb_imatrix_free(m);
    nb_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(feedback_helps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
