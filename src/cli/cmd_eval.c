/* nibble eval MODEL... --text F: perplexity, and against a base the divergence from it; of several models, which is nearer. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json_write.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "measure/evaluate.h"
#include "measure/logits_file.h"

enum { DEFAULT_WINDOW = 512 };

typedef struct eval_options {
    nb_model_options model;
    const char *text, *base, *save;
    int64_t chunks;
    bool base_exact, json;
} eval_options;

typedef struct evaluated { /* models and what was found */
    char **paths;
    size_t count;
    nb_model **models;
    nb_evaluation *found;
} evaluated;

static int on_window(void *user, size_t done, size_t all)
{
    nb_progress **p = user;
    if (!*p)
        *p = nb_progress_start("evaluating", all, "windows");
    nb_progress_at(*p, done);
    return nb_interrupted();
}

/* ---- text ---- */

static void print_text(const nb_evaluation *e)
{
    printf("perplexity      %.4f +- %.4f   (%zu tokens in %zu windows)\n", e->perplexity, e->perplexity_error,
           e->scored, e->windows);
    if (!e->has_base)
        return;
    printf("base            %.4f   (ratio %.5f +- %.5f)\n", e->base_perplexity, e->ratio, e->ratio_error);
    printf("KL divergence   %.6f +- %.6f\n", e->kl_mean, e->kl_error);
    printf("  median        %.6f\n  90 %%          %.6f\n  99 %%          %.6f\n  99.9 %%        %.6f\n  maximum       "
           "%.6f\n",
           e->kl_median, e->kl_90, e->kl_99, e->kl_999, e->kl_max);
    printf("same top token  %.3f +- %.3f %%\n", 100 * e->same_top, 100 * e->same_top_error);
    for (size_t k = 1; k < NB_AGREE_KS; k++)
        printf("  of the top %-2zu %.3f %% kept\n", nb_agree_k[k], 100 * e->agree[k]);
    printf("RMS change in p %.3f +- %.3f %%\n", 100 * e->probability_rms, 100 * e->probability_rms_error);
}

static void print_difference(const evaluated *all, size_t i)
{
    const nb_evaluation *e = &all->found[i];
    double errors = e->kl_more_error > 0 ? e->kl_more / e->kl_more_error : 0;
    printf("KL against %s: %+.6f +- %.6f (%+.1f standard errors, token by token; %+.1f %%)\n", all->paths[0],
           e->kl_more, e->kl_more_error, errors, 100 * e->kl_more / all->found[0].kl_mean);
}

static void print_all_text(const evaluated *all)
{
    for (size_t i = 0; i < all->count; i++) {
        if (all->count > 1)
            printf("%s%s\n", i ? "\n" : "", all->paths[i]);
        print_text(&all->found[i]);
        if (i > 0 && all->found[i].has_base)
            print_difference(all, i);
    }
}

/* ---- JSON ---- */

static void put_fields(nb_json *j, const nb_evaluation *e)
{
    const struct {
        const char *key;
        double value;
    } rows[] = {
        {"nll", e->nll},
        {"perplexity", e->perplexity},
        {"perplexity_error", e->perplexity_error},
        {"base_perplexity", e->base_perplexity},
        {"perplexity_ratio", e->ratio},
        {"perplexity_ratio_error", e->ratio_error},
        {"kl_mean", e->kl_mean},
        {"kl_error", e->kl_error},
        {"kl_median", e->kl_median},
        {"kl_90", e->kl_90},
        {"kl_99", e->kl_99},
        {"kl_999", e->kl_999},
        {"kl_max", e->kl_max},
        {"same_top", e->same_top},
        {"same_top_error", e->same_top_error},
        {"top_5", e->agree[1]},
        {"top_10", e->agree[2]},
        {"probability_rms", e->probability_rms},
        {"probability_rms_error", e->probability_rms_error},
    };
    nb_json_put_uint(j, "windows", e->windows);
    nb_json_put_uint(j, "scored", e->scored);
    for (size_t i = 0; i < (e->has_base ? sizeof rows / sizeof *rows : 3); i++)
        nb_json_put_num(j, rows[i].key, rows[i].value);
}

static nb_status print_json(const evaluated *all, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    if (all->count == 1) {
        put_fields(&j, &all->found[0]);
    } else {
        nb_json_key(&j, "models");
        nb_json_open(&j, '[');
        for (size_t i = 0; i < all->count; i++) {
            nb_json_open(&j, '{');
            nb_json_put_z(&j, "model", all->paths[i]);
            put_fields(&j, &all->found[i]);
            if (all->found[i].has_base) {
                nb_json_put_num(&j, "kl_more", all->found[i].kl_more);
                nb_json_put_num(&j, "kl_more_error", all->found[i].kl_more_error);
            }
            nb_json_close(&j, '}');
        }
        nb_json_close(&j, ']');
    }
    nb_json_close(&j, '}');
    return nb_print_json(&b, err);
}

/* ---- the work ---- */

static nb_status evaluate(const eval_options *o, evaluated *all, nb_model *base, nb_str text, nb_error *err)
{
    nb_progress *progress = NULL;
    bool file = o->base && !base;
    nb_evaluate_params p = {.window = o->model.session.context,
                            .windows = (size_t)o->chunks,
                            .options = &o->model.session,
                            .base = base,
                            .base_file = file ? o->base : NULL,
                            .save = o->save,
                            .progress = on_window,
                            .user = &progress};
    if (!p.window && !file)
        p.window = nb_min_size(DEFAULT_WINDOW, nb_model_context(all->models[0]));
    nb_status status = nb_evaluate_models(all->models, all->count, text, &p, all->found, err);
    nb_progress_end(progress, status == NB_OK);
    return status;
}

static nb_status run_eval(const eval_options *o, evaluated *all, nb_error *err)
{
    nb_model *base = NULL;
    nb_buf text = {0};
    nb_model_params base_params = o->model.model;
    base_params.exact |= o->base_exact;
    base_params.load = NULL; /* the loss of quantizing is what is asked for */
    nb_status status = o->text ? nb_file_read(o->text, (size_t)1 << 30, &text, err) : NB_OK;
    for (size_t i = 0; i < all->count && status == NB_OK; i++)
        status = nb_model_open(all->paths[i], &o->model.model, &all->models[i], err);
    if (status == NB_OK && o->base && !nb_logits_file_is(o->base))
        status = nb_model_open(o->base, &base_params, &base, err);
    if (status == NB_OK)
        status = evaluate(o, all, base, o->text ? nb_buf_view(&text) : (nb_str){0}, err);
    if (status == NB_OK && o->json)
        status = print_json(all, err);
    else if (status == NB_OK)
        print_all_text(all);
    nb_model_close(base);
    nb_buf_free(&text);
    return status;
}

static int run_models(const eval_options *o, char **paths, size_t count)
{
    nb_error err;
    evaluated all = {.paths = paths,
                     .count = count,
                     .models = calloc(count, sizeof *all.models),
                     .found = calloc(count, sizeof *all.found)};
    nb_status status = all.models && all.found ? NB_OK : nb_fail(&err, NB_ERR_MEMORY, "out of memory");
    nb_interrupt_watch();
    if (status == NB_OK)
        status = run_eval(o, &all, &err);
    for (size_t i = 0; all.models && i < count; i++)
        nb_model_close(all.models[i]);
    free(all.models);
    free(all.found);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}

int nb_cmd_eval(int argc, char **argv)
{
    eval_options o = {.model = nb_model_options_defaults()};
    nb_option options[] = {
        {"text", 0, NB_OPTION_STRING, &o.text, "FILE", "the text to predict"},
        {"chunks", 0, NB_OPTION_I64, &o.chunks, "N", "only the first N windows"},
        {"base", 0, NB_OPTION_STRING, &o.base, "MODEL|LOGITS", "compare with this model, or with its saved logits"},
        {"base-exact", 0, NB_OPTION_FLAG, &o.base_exact, NULL, "compute the base in float32"},
        {"save-logits", 0, NB_OPTION_STRING, &o.save, "FILE",
         "keep the logits of the (first) model, as llama-perplexity does"},
        {"json", 0, NB_OPTION_FLAG, &o.json, NULL, "machine-readable"},
        NB_MODEL_OPTION_ROWS(o.model),
        {.name = ""},
    };
    int code = nb_options_parse("eval", options, &argc, argv);
    if (code < 0)
        code = nb_model_options_finish("eval", &o.model);
    if (code >= 0)
        return code;
    if (argc < 2 || (!o.text && !(o.base && nb_logits_file_is(o.base))))
        return nb_report_usage("eval", "give one model or more and --text FILE");
    if (o.chunks < 0)
        return nb_report_usage("eval", "--chunks %lld: give a number of windows", (long long)o.chunks);
    return run_models(&o, argv + 1, (size_t)argc - 1);
}
