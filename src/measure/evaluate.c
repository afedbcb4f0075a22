#include "measure/evaluate.h"

#include <stdlib.h>

#include "measure/logits_file.h"
#include "measure/score.h"
#include "measure/windows.h"

enum { ROWS = 64 }; /* rows of logits at a time */

typedef struct evaluation {
    nb_model *const *models;
    size_t count;
    const nb_evaluate_params *params;
    size_t vocabulary;
    nb_windows windows;
    nb_session **sessions; /* [count] */
    nb_session *base;
    nb_logits_file *file;
    nb_logits_writer *save;
    nb_scores *scores; /* [count] */
    int32_t *tokens;   /* of one window */
    float *scratch;    /* [3 vocabulary]: two for scores, one for a row of a file */
    nb_arena arena;
} evaluation;

static bool has_base(const evaluation *e) { return e->base || e->file; }

/* ---- one window ---- */

static nb_status start_window(const evaluation *e, nb_session *s, size_t first, nb_error *err)
{
    NB_TRY(nb_session_rewind(s, 0, err));
    return nb_session_eval(s, e->tokens, first, NB_LOGITS_NONE, err);
}

/* row i of the step, which is row `at` of window w */
static nb_status score_row(evaluation *e, size_t w, size_t at, size_t i, int32_t next, nb_error *err)
{
    size_t n = e->vocabulary;
    nb_prediction base = {0};
    if (e->base)
        base = nb_predict(nb_session_row(e->base, i), n, false, e->scratch);
    if (e->file) {
        NB_TRY(nb_logits_file_row(e->file, w, at, e->scratch + 2 * n, err));
        base = nb_predict(e->scratch + 2 * n, n, true, e->scratch);
    }
    for (size_t m = 0; m < e->count; m++) {
        nb_prediction p = nb_predict(nb_session_row(e->sessions[m], i), n, false, e->scratch);
        nb_scores_add(&e->scores[m], &p, has_base(e) ? &base : NULL, n, next, e->scratch);
    }
    return e->save ? nb_logits_writer_add(e->save, nb_session_row(e->sessions[0], i), err) : NB_OK;
}

static nb_status run_window(evaluation *e, size_t w, nb_error *err)
{
    size_t first = e->windows.window / 2, last = e->windows.window - 1;
    nb_windows_get(&e->windows, w, e->tokens);
    for (size_t m = 0; m < e->count; m++)
        NB_TRY(start_window(e, e->sessions[m], first, err));
    if (e->base)
        NB_TRY(start_window(e, e->base, first, err));
    for (size_t at = first; at < last; at += ROWS) {
        size_t n = nb_min_size(last - at, ROWS);
        for (size_t m = 0; m < e->count; m++)
            NB_TRY(nb_session_eval(e->sessions[m], e->tokens + at, n, NB_LOGITS_ALL, err));
        if (e->base)
            NB_TRY(nb_session_eval(e->base, e->tokens + at, n, NB_LOGITS_ALL, err));
        for (size_t i = 0; i < n; i++)
            NB_TRY(score_row(e, w, at - first + i, i, e->tokens[at + i + 1], err));
    }
    return NB_OK;
}

static nb_status run_windows(evaluation *e, nb_error *err)
{
    const nb_evaluate_params *p = e->params;
    for (size_t w = 0; w < e->windows.count; w++) {
        NB_TRY(run_window(e, w, err));
        if (p->progress && p->progress(p->user, w + 1, e->windows.count))
            return nb_fail(err, NB_ERR_CANCELLED, "stopped after %zu of %zu windows", w + 1, e->windows.count);
    }
    return NB_OK;
}

/* ---- before and after ---- */

static nb_status check_vocabulary(const evaluation *e, size_t vocabulary, nb_error *err)
{
    if (vocabulary == e->vocabulary)
        return NB_OK;
    return nb_fail(err, NB_ERR_ARGUMENT, "vocabularies of %zu and %zu tokens cannot be compared; they must be equal",
                   e->vocabulary, vocabulary);
}

static nb_status check_models(const evaluation *e, size_t window, nb_error *err)
{
    for (size_t i = 0; i <= e->count; i++) {
        const nb_model *m = i < e->count ? e->models[i] : e->params->base;
        if (!m)
            continue;
        NB_TRY(check_vocabulary(e, nb_model_vocabulary(m), err));
        if (window > nb_model_context(m))
            return nb_fail(err, NB_ERR_LIMIT,
                           "windows of %zu tokens are longer than the context of %s; give --ctx %zu or less", window,
                           nb_gguf_path(m->gguf), nb_model_context(m));
    }
    return NB_OK;
}

/* the windows of the file; a text has to give the same */
static nb_status take_file_windows(evaluation *e, nb_str text, nb_error *err)
{
    const nb_evaluate_params *p = e->params;
    nb_logits_shape s = nb_logits_file_shape(e->file);
    const nb_vocab *vocab = nb_tokenizer_vocab(e->models[0]->tokenizer);
    nb_windows *w = &e->windows;
    NB_TRY(check_vocabulary(e, s.vocabulary, err));
    if (p->window && p->window != s.window)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s was made with windows of %zu tokens; give --ctx %zu", p->base_file,
                       s.window, s.window);
    if (text.p)
        NB_TRY(nb_windows_cut(e->models[0], text, s.window, s.windows, w, err));
    nb_ids ids = {calloc(s.windows * s.window, sizeof(int32_t)), s.windows * s.window, s.windows * s.window};
    if (!ids.id)
        return nb_fail_memory(err, p->base_file, ids.count * sizeof *ids.id);
    for (size_t i = 0; i < s.windows; i++)
        nb_logits_file_tokens(e->file, i, ids.id + i * s.window);
    bool same = !text.p || (w->count == s.windows && memcmp(w->ids.id, ids.id, ids.count * sizeof *ids.id) == 0);
    nb_ids_free(&w->ids);
    *w = (nb_windows){.ids = ids, .window = s.window, .count = s.windows, .bos = vocab->add_bos ? vocab->bos : -1};
    if (!same)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s was made from another text, or with another tokenizer", p->base_file);
    if (p->windows)
        w->count = nb_min_size(w->count, p->windows);
    return NB_OK;
}

static nb_status open_sessions(evaluation *e, nb_error *err)
{
    nb_session_params p = e->params->options ? *e->params->options : nb_session_defaults();
    p.context = e->windows.window;
    p.batch = 0;
    p.outputs = ROWS;
    for (size_t m = 0; m < e->count; m++)
        NB_TRY(nb_session_open(e->models[m], &p, &e->sessions[m], err));
    return e->params->base ? nb_session_open(e->params->base, &p, &e->base, err) : NB_OK;
}

static nb_status allocate(evaluation *e, nb_error *err)
{
    size_t rows = e->windows.count * e->windows.window;
    e->tokens = NB_ARRAY(&e->arena, int32_t, e->windows.window);
    e->scratch = NB_ARRAY(&e->arena, float, 3 * e->vocabulary);
    e->sessions = NB_ARRAY(&e->arena, nb_session *, e->count);
    e->scores = NB_ARRAY(&e->arena, nb_scores, e->count);
    bool failed = !e->tokens || !e->scratch || !e->sessions || !e->scores;
    for (size_t m = 0; m < e->count && !failed; m++) {
        e->scores[m].each = NB_ARRAY(&e->arena, double, rows);
        failed = !e->scores[m].each;
    }
    return failed ? nb_fail_memory(err, "an evaluation", rows * sizeof(double)) : NB_OK;
}

static nb_status start_saving(evaluation *e, nb_error *err)
{
    size_t window = e->windows.window;
    nb_logits_shape s = {window, e->vocabulary, e->windows.count, window - 1 - window / 2};
    return e->params->save ? nb_logits_writer_open(e->params->save, &s, e->windows.ids.id, &e->save, err) : NB_OK;
}

static nb_status prepare(evaluation *e, nb_str text, nb_error *err)
{
    const nb_evaluate_params *p = e->params;
    e->vocabulary = nb_model_vocabulary(e->models[0]);
    if (p->base_file) {
        NB_TRY(nb_logits_file_open(p->base_file, &e->file, err));
        NB_TRY(take_file_windows(e, text, err));
    } else {
        NB_TRY(check_models(e, p->window, err));
        NB_TRY(nb_windows_cut(e->models[0], text, p->window, p->windows, &e->windows, err));
    }
    NB_TRY(check_models(e, e->windows.window, err));
    NB_TRY(allocate(e, err));
    NB_TRY(open_sessions(e, err));
    return start_saving(e, err);
}

static nb_status finish(evaluation *e, nb_evaluation *out, nb_error *err)
{
    for (size_t m = 0; m < e->count; m++) {
        out[m] = (nb_evaluation){.windows = e->windows.count};
        if (has_base(e))
            nb_scores_compare(&e->scores[m], &e->scores[0], &out[m]);
    }
    for (size_t m = 0; m < e->count; m++)
        nb_scores_summarize(&e->scores[m], has_base(e), &out[m]);
    nb_logits_writer *save = e->save;
    e->save = NULL;
    return save ? nb_logits_writer_commit(save, err) : NB_OK;
}

static void clean_up(evaluation *e)
{
    for (size_t m = 0; e->sessions && m < e->count; m++)
        nb_session_close(e->sessions[m]);
    nb_session_close(e->base);
    nb_logits_file_close(e->file);
    nb_logits_writer_abort(e->save);
    nb_windows_free(&e->windows);
    nb_arena_free(&e->arena);
}

nb_status nb_evaluate_models(nb_model *const *models, size_t count, nb_str text, const nb_evaluate_params *params,
                             nb_evaluation *out, nb_error *err)
{
    evaluation e = {.models = models, .count = count, .params = params};
    nb_status status = prepare(&e, text, err);
    if (status == NB_OK)
        status = run_windows(&e, err);
    if (status == NB_OK)
        status = finish(&e, out, err);
    clean_up(&e);
    return status;
}

nb_status nb_evaluate(nb_model *model, nb_model *base, nb_str text, size_t window, size_t windows,
                      const nb_session_params *options, nb_evaluate_fn *progress, void *user, nb_evaluation *out,
                      nb_error *err)
{
    nb_evaluate_params p = {
        .window = window, .windows = windows, .options = options, .base = base, .progress = progress, .user = user};
    return nb_evaluate_models(&model, 1, text, &p, out, err);
}
