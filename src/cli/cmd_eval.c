/* nibble eval MODEL --text F: perplexity, and against a base model the divergence from it. */
#include <stdio.h>

#include "base/file.h"
#include "base/json_write.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "measure/evaluate.h"

enum { DEFAULT_WINDOW = 512 };

typedef struct eval_options {
    nb_model_options model;
    const char *text, *base;
    int64_t chunks;
    bool base_exact, json;
} eval_options;

static int on_window(void *user, size_t done, size_t all)
{
    nb_progress **p = user;
    if (!*p)
        *p = nb_progress_start("evaluating", all, "windows");
    nb_progress_at(*p, done);
    return nb_interrupted();
}

static void print_text(const nb_evaluation *e)
{
    printf("perplexity      %.4f +- %.4f   (%zu tokens in %zu windows)\n", e->perplexity, e->perplexity_error,
           e->scored, e->windows);
    if (!e->has_base)
        return;
    printf("base            %.4f   (ratio %.5f)\n", e->base_perplexity, e->perplexity / e->base_perplexity);
    printf("KL divergence   %.6f +- %.6f\n", e->kl_mean, e->kl_error);
    printf("  median        %.6f\n  90 %%          %.6f\n  99 %%          %.6f\n  99.9 %%        %.6f\n  maximum       "
           "%.6f\n",
           e->kl_median, e->kl_90, e->kl_99, e->kl_999, e->kl_max);
    printf("same top token  %.3f %%\n", 100 * e->same_top);
    printf("RMS change in p %.3f %%\n", 100 * e->probability_rms);
}

static nb_status print_json(const nb_evaluation *e, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    struct {
        const char *key;
        double value;
    } rows[] = {
        {"nll", e->nll},
        {"perplexity", e->perplexity},
        {"perplexity_error", e->perplexity_error},
        {"base_perplexity", e->base_perplexity},
        {"kl_mean", e->kl_mean},
        {"kl_error", e->kl_error},
        {"kl_median", e->kl_median},
        {"kl_90", e->kl_90},
        {"kl_99", e->kl_99},
        {"kl_999", e->kl_999},
        {"kl_max", e->kl_max},
        {"same_top", e->same_top},
        {"probability_rms", e->probability_rms},
    };
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "windows", e->windows);
    nb_json_put_uint(&j, "scored", e->scored);
    for (size_t i = 0; i < (e->has_base ? sizeof rows / sizeof *rows : 3); i++) {
        nb_json_put_num(&j, rows[i].key, rows[i].value);
    }
    nb_json_close(&j, '}');
    return nb_print_json(&b, err);
}

static nb_status run_eval(const char *path, const eval_options *o, nb_error *err)
{
    nb_model *m = NULL, *base = NULL;
    nb_buf text = {0};
    nb_evaluation e;
    nb_progress *progress = NULL;
    nb_model_params base_params = o->model.model;
    base_params.exact = o->base_exact;
    nb_status status = nb_file_read(o->text, (size_t)1 << 30, &text, err);
    if (status == NB_OK)
        status = nb_model_open(path, &o->model.model, &m, err);
    if (status == NB_OK && o->base)
        status = nb_model_open(o->base, &base_params, &base, err);
    if (status == NB_OK) {
        size_t window = o->model.session.context ? o->model.session.context
                                                 : nb_min_size(DEFAULT_WINDOW, nb_model_context(m));
        status = nb_evaluate(m, base, nb_buf_view(&text), window, (size_t)o->chunks, &o->model.session, on_window,
                             &progress, &e, err);
    }
    nb_progress_end(progress, status == NB_OK);
    if (status == NB_OK && o->json)
        status = print_json(&e, err);
    else if (status == NB_OK)
        print_text(&e);
    nb_model_close(base);
    nb_model_close(m);
    nb_buf_free(&text);
    return status;
}

int nb_cmd_eval(int argc, char **argv)
{
    eval_options o = {.model = nb_model_options_defaults()};
    nb_option options[] = {
        {"text", 0, NB_OPTION_STRING, &o.text, "FILE", "the text to predict"},
        {"chunks", 0, NB_OPTION_I64, &o.chunks, "N", "only the first N windows"},
        {"base", 0, NB_OPTION_STRING, &o.base, "MODEL", "compare with this model, token by token"},
        {"base-exact", 0, NB_OPTION_FLAG, &o.base_exact, NULL, "compute the base in float32"},
        {"json", 0, NB_OPTION_FLAG, &o.json, NULL, "machine-readable"},
        NB_MODEL_OPTION_ROWS(o.model),
        {.name = ""},
    };
    int code = nb_options_parse("eval", options, &argc, argv);
    if (code < 0)
        code = nb_model_options_finish("eval", &o.model);
    if (code >= 0)
        return code;
    if (argc != 2 || !o.text)
        return nb_report_usage("eval", "give one model and --text FILE");
    if (o.chunks < 0)
        return nb_report_usage("eval", "--chunks %lld: give a number of windows", (long long)o.chunks);
    nb_error err;
    nb_interrupt_watch();
    return run_eval(argv[1], &o, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
