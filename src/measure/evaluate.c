#include "measure/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "kernel/vec.h"

enum { ROWS = 64 }; /* rows of logits at a time */

typedef struct evaluation {
    nb_session *session, *base;
    size_t vocabulary, window, windows;
    int32_t *tokens;             /* of one window */
    float *scratch, *difference; /* [vocabulary] */
    float *kl;                   /* [windows * scored a window] */
    size_t scored, same_top;
    double nll, nll_squared, base_nll, kl_sum, kl_squared, probability_squared;
} evaluation;

typedef struct distribution { /* of one row of logits */
    size_t top;
    double log_sum; /* of exp(logit) */
} distribution;

static distribution describe(evaluation *e, const float *row)
{
    distribution d = {0};
    float max = nb_vec_max(row, e->vocabulary);
    while (d.top + 1 < e->vocabulary && row[d.top] != max)
        d.top++;
    d.log_sum = (double)max + log((double)nb_vec_exp_sum(row, max, e->vocabulary, e->scratch));
    return d;
}

/* KL(base || model) = sum p_base (log p_base - log p_model) */
static double divergence(evaluation *e, const float *base, const float *row, distribution db, distribution d)
{
    float max = base[db.top];
    double total = (double)nb_vec_exp_sum(base, max, e->vocabulary, e->scratch);
    for (size_t i = 0; i < e->vocabulary; i++)
        e->difference[i] = base[i] - row[i];
    double mean = 0; /* in parts, so that a float sum stays accurate */
    for (size_t i = 0; i < e->vocabulary; i += 4096)
        mean += (double)nb_vec_dot(e->scratch + i, e->difference + i, nb_min_size(4096, e->vocabulary - i));
    double kl = mean / total - (db.log_sum - d.log_sum);
    return kl > 0 ? kl : 0;
}

static void score(evaluation *e, const float *row, const float *base, int32_t next)
{
    distribution d = describe(e, row);
    double nll = d.log_sum - (double)row[next];
    e->nll += nll;
    e->nll_squared += nll * nll;
    if (base) {
        distribution db = describe(e, base);
        double base_nll = db.log_sum - (double)base[next], kl = divergence(e, base, row, db, d);
        double change = exp(-nll) - exp(-base_nll);
        e->base_nll += base_nll;
        e->kl_sum += kl;
        e->kl_squared += kl * kl;
        e->kl[e->scored] = (float)kl;
        e->same_top += d.top == db.top;
        e->probability_squared += change * change;
    }
    e->scored++;
}

static nb_status start_window(nb_session *s, const int32_t *tokens, size_t first, nb_error *err)
{
    NB_TRY(nb_session_rewind(s, 0, err));
    return first ? nb_session_eval(s, tokens, first, NB_LOGITS_NONE, err) : NB_OK;
}

static nb_status run_window(evaluation *e, nb_error *err)
{
    size_t first = e->window / 2;
    NB_TRY(start_window(e->session, e->tokens, first, err));
    if (e->base)
        NB_TRY(start_window(e->base, e->tokens, first, err));
    for (size_t at = first; at + 1 < e->window;) {
        size_t n = nb_min_size(e->window - 1 - at, ROWS);
        NB_TRY(nb_session_eval(e->session, e->tokens + at, n, NB_LOGITS_ALL, err));
        if (e->base)
            NB_TRY(nb_session_eval(e->base, e->tokens + at, n, NB_LOGITS_ALL, err));
        for (size_t i = 0; i < n; i++)
            score(e, nb_session_row(e->session, i), e->base ? nb_session_row(e->base, i) : NULL, e->tokens[at + i + 1]);
        at += n;
    }
    return NB_OK;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double standard_error(double sum, double squared, double n)
{
    double variance = squared / n - sum / n * (sum / n);
    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) : 0;
}

static void summarize(evaluation *e, nb_evaluation *out)
{
    double n = (double)e->scored;
    size_t last = e->scored - 1;
    *out = (nb_evaluation){
        .windows = e->windows, .scored = e->scored, .nll = e->nll / n, .perplexity = exp(e->nll / n)};
    out->perplexity_error = out->perplexity * standard_error(e->nll, e->nll_squared, n);
    if (!e->base)
        return;
    qsort(e->kl, e->scored, sizeof *e->kl, by_size);
    out->has_base = true;
    out->base_perplexity = exp(e->base_nll / n);
    out->kl_mean = e->kl_sum / n;
    out->kl_error = standard_error(e->kl_sum, e->kl_squared, n);
    out->kl_median = (double)e->kl[last / 2];
    out->kl_90 = (double)e->kl[(size_t)((double)last * 0.9)];
    out->kl_99 = (double)e->kl[(size_t)((double)last * 0.99)];
    out->kl_999 = (double)e->kl[(size_t)((double)last * 0.999)];
    out->kl_max = (double)e->kl[last];
    out->same_top = (double)e->same_top / n;
    out->probability_rms = sqrt(e->probability_squared / n);
}

static nb_status run_windows(evaluation *e, const nb_ids *ids, int32_t bos, nb_evaluate_fn *progress, void *user,
                             nb_error *err)
{
    for (size_t w = 0; w < e->windows; w++) {
        memcpy(e->tokens, ids->id + w * e->window, e->window * sizeof *e->tokens);
        if (bos >= 0)
            e->tokens[0] = bos;
        NB_TRY(run_window(e, err));
        if (progress && progress(user, w + 1, e->windows))
            return nb_fail(err, NB_ERR_CANCELLED, "stopped after %zu of %zu windows", w + 1, e->windows);
    }
    return NB_OK;
}

static nb_status open_sessions(evaluation *e, nb_model *model, nb_model *base, const nb_session_params *options,
                               nb_error *err)
{
    nb_session_params p = *options;
    p.context = e->window;
    p.batch = 0;
    p.outputs = ROWS;
    NB_TRY(nb_session_open(model, &p, &e->session, err));
    return base ? nb_session_open(base, &p, &e->base, err) : NB_OK;
}

static nb_status check_models(const evaluation *e, const nb_model *model, const nb_model *base, nb_error *err)
{
    size_t most = nb_model_context(model);
    if (base && nb_model_vocabulary(base) != e->vocabulary)
        return nb_fail(err, NB_ERR_ARGUMENT, "the two models have vocabularies of %zu and %zu; they must be equal",
                       e->vocabulary, nb_model_vocabulary(base));
    if (base)
        most = nb_min_size(most, nb_model_context(base));
    if (e->window < 4)
        return nb_fail(err, NB_ERR_ARGUMENT, "windows of %zu tokens are too short; give 4 or more", e->window);
    if (e->window > most)
        return nb_fail(err, NB_ERR_LIMIT,
                       "windows of %zu tokens are longer than the model's context; give --ctx %zu or less", e->window,
                       most);
    return NB_OK;
}

static nb_status prepare(evaluation *e, nb_model *model, nb_model *base, nb_str text, size_t windows, nb_ids *ids,
                         nb_error *err)
{
    e->vocabulary = nb_model_vocabulary(model);
    NB_TRY(check_models(e, model, base, err));
    NB_TRY(nb_tokenizer_encode(model->tokenizer, text, NB_ENCODE_ADD_SPECIAL, ids, err));
    e->windows = ids->count / e->window;
    if (windows && windows < e->windows)
        e->windows = windows;
    if (e->windows == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "the text has %zu tokens, less than one window of %zu", ids->count,
                       e->window);
    e->tokens = calloc(e->window, sizeof *e->tokens);
    e->scratch = calloc(2 * e->vocabulary, sizeof *e->scratch);
    e->kl = calloc(e->windows * e->window, sizeof *e->kl);
    if (!e->tokens || !e->scratch || !e->kl)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    e->difference = e->scratch + e->vocabulary;
    return NB_OK;
}

nb_status nb_evaluate(nb_model *model, nb_model *base, nb_str text, size_t window, size_t windows,
                      const nb_session_params *options, nb_evaluate_fn *progress, void *user, nb_evaluation *out,
                      nb_error *err)
{
    evaluation e = {.window = window};
    nb_ids ids = {0};
    const nb_vocab *vocab = nb_tokenizer_vocab(model->tokenizer);
    nb_status status = prepare(&e, model, base, text, windows, &ids, err);
    if (status == NB_OK)
        status = open_sessions(&e, model, base, options, err);
    if (status == NB_OK)
        status = run_windows(&e, &ids, vocab->add_bos ? vocab->bos : -1, progress, user, err);
    if (status == NB_OK)
        summarize(&e, out);
    nb_session_close(e.session);
    nb_session_close(e.base);
    nb_ids_free(&ids);
    free(e.tokens);
    free(e.scratch);
    free(e.kl);
    return status;
}
