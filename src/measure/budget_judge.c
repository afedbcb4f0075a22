/* Divergence of whole models from the source: each is quantized into memory and reads the text. What the source predicted
 * is computed once and kept in a file that has no name. */
#include <stdlib.h>

#include "convert/open.h"
#include "measure/budget_internal.h"
#include "measure/kept.h"
#include "measure/windows.h"

typedef struct part { /* of the text */
    nb_str text;
    size_t windows;
    nb_kept kept;
} part;

struct nb_budget_judge {
    const nb_budget *budget;
    size_t window;
    part parts[2];  /* what is used for choices; what is held back */
    nb_model *base; /* NULL when all is kept */
};

/* ---- the text ---- */

/* The beginning of the last tenth, at the end of a line or else of a word or else of a code point. */
static size_t cut_of(nb_str text)
{
    size_t from = text.n - text.n / 10;
    for (const char *end = "\n "; *end; end++)
        for (size_t i = from; i < text.n - text.n / 20; i++)
            if (text.p[i] == *end)
                return i + 1;
    while (from < text.n && ((unsigned char)text.p[from] & 0xC0) == 0x80)
        from++;
    return from;
}

static nb_status cut_part(nb_budget_judge *j, bool held_back, size_t most, nb_error *err)
{
    part *p = &j->parts[held_back];
    nb_windows windows = {0};
    nb_status status = nb_windows_cut(j->base, p->text, j->window, most, &windows, err);
    p->windows = windows.count;
    nb_windows_free(&windows);
    if (status == NB_OK)
        return NB_OK;
    return nb_fail_prefix(err, status, held_back ? "the tenth of the text that is held back" : "the text");
}

static nb_status cut_text(nb_budget_judge *j, nb_error *err)
{
    const nb_budget_params *p = j->budget->params;
    size_t cut = cut_of(p->text), held_back = (p->windows + 9) / 10;
    size_t used = p->windows > 1 ? p->windows - held_back : p->windows;
    j->parts[0].text = (nb_str){p->text.p, cut};
    j->parts[1].text = (nb_str){p->text.p + cut, p->text.n - cut};
    if (!(p->divergence > 0)) /* only sensitivities are measured */
        return cut_part(j, false, used ? nb_min_size(used, NB_BUDGET_WINDOWS) : NB_BUDGET_WINDOWS, err);
    NB_TRY(cut_part(j, false, used, err));
    return cut_part(j, true, held_back, err);
}

/* ---- the source ---- */

static int on_window(void *user, size_t done, size_t all)
{
    const void *const *context = user;
    return nb_budget_progress(context[0], context[1], done, all, NULL) != NB_OK;
}

static nb_evaluate_params params_of(const nb_budget_judge *j, const void *const context[2], size_t windows)
{
    return (nb_evaluate_params){.window = j->window,
                                .windows = windows,
                                .options = &j->budget->params->session,
                                .progress = on_window,
                                .user = (void *)(uintptr_t)context};
}

static nb_status keep(nb_budget_judge *j, part *p, const char *what, nb_error *err)
{
    const void *context[] = {j->budget, what};
    nb_evaluate_params e = params_of(j, context, p->windows);
    return nb_kept_make(j->base, p->text, &e, &p->kept, err);
}

static nb_status keep_all(nb_budget_judge *j, nb_error *err)
{
    if (!nb_kept_fits(j->base, j->parts[0].windows + j->parts[1].windows, j->window))
        return NB_OK;
    NB_TRY(keep(j, &j->parts[0], "reading the text", err));
    if (j->parts[1].windows)
        NB_TRY(keep(j, &j->parts[1], "reading the text held back", err));
    nb_model_close(j->base);
    j->base = NULL;
    return NB_OK;
}

/* ---- judging ---- */

nb_status nb_budget_judge_new(const nb_budget *b, nb_budget_judge **out, nb_error *err)
{
    enum { DEFAULT_WINDOW = 512 };
    const nb_budget_params *p = b->params;
    nb_budget_judge *j = calloc(1, sizeof *j);
    *out = NULL;
    if (!j)
        return nb_fail_memory(err, p->in, sizeof *j);
    j->budget = b;
    nb_status status = nb_model_open(p->in, &p->model, &j->base, err);
    if (status == NB_OK) {
        j->window = p->window ? p->window : nb_min_size(DEFAULT_WINDOW, nb_model_context(j->base));
        status = cut_text(j, err);
    }
    if (status == NB_OK)
        status = keep_all(j, err);
    if (status == NB_OK)
        *out = j;
    else
        nb_budget_judge_free(j);
    return status;
}

void nb_budget_judge_free(nb_budget_judge *j)
{
    if (!j)
        return;
    for (int i = 0; i < 2; i++)
        nb_kept_close(&j->parts[i].kept);
    nb_model_close(j->base);
    free(j);
}

size_t nb_budget_judge_windows(const nb_budget_judge *j, bool held_back) { return j->parts[held_back].windows; }

static nb_status open_types(const nb_budget *b, const nb_type_info *const *types, nb_model **out, nb_error *err)
{
    nb_quantize_params q = *b->params->quantize;
    nb_source *s;
    nb_gguf *g;
    q.mix = NULL;
    q.types = types;
    q.dry_run = false;
    q.keep_split = false;
    q.split_bytes = 0;
    q.override_count = 0; /* what is written into the file's metadata is not what is measured */
    NB_TRY(nb_source_open(b->params->in, &s, err));
    NB_TRY(nb_quantize_to_memory(s, &q, &g, err));
    return nb_model_open_gguf(g, &b->params->model, out, err);
}

nb_status nb_budget_judge_types(nb_budget_judge *j, const nb_type_info *const *types, bool held_back, size_t windows,
                                const char *what, double *divergence, nb_error *err)
{
    const part *p = &j->parts[held_back];
    const void *context[] = {j->budget, what};
    nb_model *model;
    nb_evaluation found;
    nb_evaluate_params e = params_of(j, context, windows ? nb_min_size(windows, p->windows) : p->windows);
    bool kept = p->kept.path[0];
    e.base = j->base;
    e.base_file = kept ? p->kept.path : NULL;
    NB_TRY(open_types(j->budget, types, &model, err));
    nb_status status = nb_evaluate_models(&model, 1, kept ? (nb_str){0} : p->text, &e, &found, err);
    nb_model_close(model);
    if (status == NB_OK)
        *divergence = found.kl_mean;
    return status;
}
