#include "measure/calibrate.h"

#include <math.h>
#include <stdlib.h>

#include "measure/moments.h"
#include "measure/windows.h"

enum { ROWS = NB_MOMENTS_ROWS }; /* tokens a step */

typedef struct sums { /* of one weight */
    size_t columns, matrices;
    double *squares; /* [matrices][columns]; NULL: not collected */
    double *count;   /* [matrices] */
    int reads;       /* the first weight that reads the same: it has the moments */
} sums;

typedef struct calibration {
    const nb_model *model;
    const nb_calibrate_params *params;
    nb_session *session;
    nb_windows windows;
    int32_t *tokens;
    sums *sums; /* [weight_count] */
    nb_moments_sums *moments;
    nb_arena arena;
} calibration;

static void collect(void *user, int weight, size_t matrix, const float *x, size_t stride, size_t rows, size_t first,
                    size_t columns)
{
    calibration *c = user;
    const sums *s = &c->sums[weight];
    if (!s->squares)
        return;
    const float *x_first = x;
    double *squares = s->squares + matrix * s->columns + first;
    for (size_t i = 0; i < rows; i++, x += stride)
        for (size_t j = 0; j < columns; j++)
            squares[j] += (double)x[j] * (double)x[j];
    if (first == 0)
        s->count[matrix] += (double)rows;
    nb_moments_take(c->moments, weight, x_first, stride, rows, first, columns);
}

static bool wanted(const calibration *c, nb_str name)
{
    return nb_str_starts(name, NB_STR("blk.")) || (c->params->output && nb_str_eqz(name, "output.weight"));
}

/* Queries, keys and values, or gate and up, may be parts of one tensor: it is one entry, and the first part's input is all. */
static bool is_another_part(const calibration *c, int weight)
{
    const nb_model_def *def = c->model->def;
    for (size_t i = 0; i < def->weight_count; i++)
        if (c->sums[i].squares && nb_str_eq(def->weights[i].tensor->name, def->weights[weight].tensor->name))
            return true;
    return false;
}

static nb_status make_sum(calibration *c, int weight, nb_error *err)
{
    const nb_gguf_tensor *t = c->model->def->weights[weight].tensor;
    sums *s = &c->sums[weight];
    if (!wanted(c, t->name) || is_another_part(c, weight))
        return NB_OK;
    s->columns = (size_t)t->dims[0];
    s->matrices = (size_t)(t->dims[2] * t->dims[3]);
    s->squares = NB_ARRAY(&c->arena, double, s->columns * s->matrices);
    s->count = NB_ARRAY(&c->arena, double, s->matrices);
    if (!s->squares || !s->count)
        return nb_fail_memory(err, "sums", s->columns * s->matrices * sizeof *s->squares);
    return NB_OK;
}

/* Matrices that read one buffer between two writes to it read the same: the first of them keeps the moments of all. */
static nb_status make_moments(calibration *c, nb_error *err)
{
    const nb_plan *plan = &c->model->plan;
    int reader[NB_PLAN_BUFFERS];
    for (int i = 0; i < NB_PLAN_BUFFERS; i++)
        reader[i] = -1;
    for (size_t i = 0; i < plan->op_count; i++) {
        const nb_op *op = &plan->ops[i];
        sums *s = op->kind == NB_OP_MATMUL ? &c->sums[op->weight] : NULL;
        if (s && s->squares && s->matrices == 1) {
            size_t block = nb_moments_block(s->columns, c->params->moments);
            if (reader[op->in] < 0 && block)
                NB_TRY(nb_moments_sums_add(c->moments, (size_t)op->weight, s->columns, block, err));
            reader[op->in] = reader[op->in] < 0 ? op->weight : reader[op->in];
            s->reads = reader[op->in];
        }
        if (op->out >= 0)
            reader[op->out] = -1;
    }
    return NB_OK;
}

static nb_status make_sums(calibration *c, nb_error *err)
{
    const nb_model_def *def = c->model->def;
    int weights[3];
    c->sums = NB_ARRAY(&c->arena, sums, def->weight_count);
    if (!c->sums)
        return nb_fail_memory(err, "sums", def->weight_count * sizeof *c->sums);
    for (size_t i = 0; i < c->model->plan.op_count; i++)
        for (int n = nb_op_matrices(&c->model->plan.ops[i], weights); n > 0; n--)
            NB_TRY(make_sum(c, weights[n - 1], err));
    if (c->params->moments == 0)
        return NB_OK;
    NB_TRY(nb_moments_sums_new(def->weight_count, c->model->weights_params.threads, &c->moments, err));
    return make_moments(c, err);
}

static nb_status prepare(calibration *c, nb_model *model, nb_str text, nb_error *err)
{
    const nb_calibrate_params *p = c->params;
    nb_session_params options = p->options ? *p->options : nb_session_defaults();
    if (!model->backend->tap)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "the %s backend does not show what matrices read; use the cpu",
                       model->backend->name);
    NB_TRY(nb_windows_cut(model, text, p->window, p->windows, &c->windows, err));
    NB_TRY(make_sums(c, err));
    c->tokens = NB_ARRAY(&c->arena, int32_t, p->window);
    if (!c->tokens)
        return nb_fail_memory(err, "a window", p->window * sizeof *c->tokens);
    options.context = p->window;
    options.batch = options.outputs = nb_min_size(ROWS, p->window);
    NB_TRY(nb_session_open(model, &options, &c->session, err));
    model->backend->tap(c->session->context, collect, c);
    return NB_OK;
}

static nb_status run_windows(calibration *c, nb_error *err)
{
    const nb_calibrate_params *p = c->params;
    for (size_t w = 0; w < c->windows.count; w++) {
        nb_windows_get(&c->windows, w, c->tokens);
        NB_TRY(nb_session_rewind(c->session, 0, err));
        for (size_t at = 0; at < p->window; at += ROWS) {
            /* logits of all: after the last layer's attention only wanted tokens go on */
            NB_TRY(nb_session_eval(c->session, c->tokens + at, nb_min_size(ROWS, p->window - at), NB_LOGITS_ALL, err));
            if (c->moments)
                nb_moments_step(c->moments);
        }
        if (p->progress && p->progress(p->user, w + 1, c->windows.count))
            return nb_fail(err, NB_ERR_CANCELLED, "stopped after %zu of %zu windows", w + 1, c->windows.count);
    }
    return NB_OK;
}

static bool reached(const sums *s)
{
    for (size_t i = 0; s->squares && i < s->matrices; i++)
        if (s->count[i] > 0)
            return true;
    return false;
}

static nb_status add_entry(const sums *s, nb_str name, nb_imatrix *m, nb_error *err)
{
    nb_imatrix_entry *e;
    NB_TRY(nb_imatrix_add(m, name, s->columns, s->matrices, &e, err));
    for (size_t i = 0; i < s->columns * s->matrices; i++) {
        e->sum[i] = (float)s->squares[i];
        if (!isfinite(e->sum[i]))
            return nb_fail(err, NB_ERR_FORMAT, "column %zu of '%.*s' read values that are not finite; check the model",
                           i, NB_STR_ARG(name));
    }
    for (size_t i = 0; i < s->matrices; i++)
        e->count[i] = (float)s->count[i];
    return NB_OK;
}

/* Own moments, or those of the weight that has them, which has an entry by now. */
static nb_status give_moments(const calibration *c, size_t weight, nb_imatrix *m, bool own, nb_error *err)
{
    const nb_weight *weights = c->model->def->weights;
    size_t from = (size_t)c->sums[weight].reads;
    if (!reached(&c->sums[weight]) || c->sums[weight].matrices != 1 || !nb_moments_has(c->moments, from) ||
        own != (from == weight))
        return NB_OK;
    nb_imatrix_entry *e = nb_imatrix_entry_of(m, weights[weight].tensor->name);
    if (own)
        return nb_moments_give(c->moments, weight, e, err);
    return nb_imatrix_share_moments(e, nb_imatrix_find(m, weights[from].tensor->name), err);
}

static nb_status hand_over(const calibration *c, nb_imatrix *m, nb_error *err)
{
    const nb_model_def *def = c->model->def;
    for (size_t i = 0; i < def->weight_count; i++)
        if (reached(&c->sums[i]))
            NB_TRY(add_entry(&c->sums[i], def->weights[i].tensor->name, m, err));
    for (int own = 1; own >= 0; own--)
        for (size_t i = 0; i < def->weight_count; i++)
            NB_TRY(give_moments(c, i, m, own, err));
    nb_imatrix_set_origin(m, nb_str_of(c->params->text_name), (uint32_t)c->windows.count, (uint32_t)c->windows.window);
    return NB_OK;
}

nb_status nb_calibrate(nb_model *model, nb_str text, const nb_calibrate_params *params, nb_imatrix **out, nb_error *err)
{
    calibration c = {.model = model, .params = params};
    *out = NULL;
    nb_status status = prepare(&c, model, text, err);
    if (status == NB_OK)
        status = run_windows(&c, err);
    if (status == NB_OK)
        status = nb_imatrix_new(out, err);
    if (status == NB_OK)
        status = hand_over(&c, *out, err);
    if (status != NB_OK) {
        nb_imatrix_free(*out);
        *out = NULL;
    }
    nb_session_close(c.session);
    nb_moments_sums_free(c.moments);
    nb_windows_free(&c.windows);
    nb_arena_free(&c.arena);
    return status;
}
