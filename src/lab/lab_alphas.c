#include "lab/lab_alphas.h"

#include "kernel/vec.h"

typedef struct walk {
    nb_lab_reading *r;
    const nb_model_def *def;
    const nb_plan *plan;
    int layer;
} walk;

static float *rows_of(walk *w, size_t width, nb_error *err)
{
    float *x = NB_ARRAY(&w->r->arena, float, w->r->tokens.count *width);
    if (!x)
        nb_fail_memory(err, "queries and keys", w->r->tokens.count * width * sizeof *x);
    return x;
}

/* A row of a weight as floats. */
static void weight_row(const nb_gguf_tensor *t, size_t row, float *out)
{
    size_t bytes = 0;
    nb_type_row_bytes(t->type, t->dims[0], &bytes);
    t->type->dequantize((const char *)t->data + row * bytes, out, (size_t)t->dims[0]);
}

static nb_status multiply(walk *w, const nb_op *op, float *out, nb_error *err)
{
    const nb_gguf_tensor *t = w->def->weights[op->weight].tensor;
    size_t columns = (size_t)t->dims[0], rows = (size_t)t->dims[1];
    float *row = NB_ARRAY(&w->r->arena, float, columns + rows), *bias = row ? row + columns : NULL;
    if (!row)
        return nb_fail_memory(err, "a row", (columns + rows) * sizeof *row);
    if (!w->r->inputs[op->weight].values)
        NB_TRY(nb_lab_reading_keep(w->r, (size_t)op->weight, err));
    if (op->bias >= 0)
        weight_row(w->def->weights[op->bias].tensor, 0, bias);
    for (size_t i = 0; i < rows; i++) {
        weight_row(t, i, row);
        for (size_t k = 0; k < w->r->tokens.count; k++) {
            const float *x = w->r->inputs[op->weight].values + k * columns;
            double sum = (double)bias[i];
            for (size_t j = 0; j < columns; j++)
                sum += (double)row[j] * (double)x[j];
            out[k * rows + i] = (float)sum;
        }
    }
    return NB_OK;
}

static nb_status norm(walk *w, const nb_op *op, float *x, size_t width, nb_error *err)
{
    size_t group = op->group ? op->group : width;
    float *weight = NB_ARRAY(&w->r->arena, float, width);
    if (!weight)
        return nb_fail_memory(err, "a norm", width * sizeof *weight);
    if (op->weight >= 0)
        weight_row(w->def->weights[op->weight].tensor, 0, weight);
    for (size_t at = 0; at < w->r->tokens.count * width; at += group) {
        double squares = 0;
        for (size_t j = 0; j < group; j++)
            squares += (double)x[at + j] * (double)x[at + j];
        double scale = 1 / sqrt(squares / (double)group + (double)op->scale);
        for (size_t j = 0; j < group; j++) {
            float own = op->weight < 0 ? 1 : weight[op->each ? (at + j) % width : j];
            x[at + j] = (float)((double)x[at + j] * scale * (double)own);
        }
    }
    return NB_OK;
}

static nb_status turn(walk *w, const nb_op *op, float *x, size_t width, nb_error *err)
{
    const nb_rope *rope = op->local ? &w->def->h.rope_local : &w->def->h.rope;
    size_t pairs = rope->dim / 2;
    float magnitude, *frequency = NB_ARRAY(&w->r->arena, float, 3 * pairs),
                     *angles = frequency ? frequency + pairs : NULL;
    if (!frequency)
        return nb_fail_memory(err, "angles", 3 * pairs * sizeof *frequency);
    nb_rope_frequencies(rope, w->r->tokens.count, frequency, &magnitude);
    for (size_t k = 0; k < w->r->tokens.count; k++) {
        nb_rope_angles(frequency, magnitude, pairs, (int64_t)k, angles);
        for (size_t head = 0; head < width; head += op->group)
            nb_vec_rope(x + k * width + head, angles, rope->dim, rope->neox);
    }
    return NB_OK;
}

static bool writes(const nb_op *op, int layer, int buffer) { return op->layer == layer && op->out == buffer; }

/* What is in a buffer before op `end`: the ops that filled it, from the last matrix on. */
static nb_status fill(walk *w, int buffer, size_t end, float *x, nb_error *err)
{
    size_t width = w->plan->buffers[buffer].width, first = end;
    while (first > 0 &&
           !(writes(&w->plan->ops[first - 1], w->layer, buffer) && w->plan->ops[first - 1].kind == NB_OP_MATMUL))
        first--;
    if (first == 0 || w->plan->ops[first - 1].add)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "layer %d makes its queries and keys in a way that the lab does not follow", w->layer);
    NB_TRY(multiply(w, &w->plan->ops[first - 1], x, err));
    for (size_t i = first; i < end; i++) {
        const nb_op *op = &w->plan->ops[i];
        if (!writes(op, w->layer, buffer))
            continue;
        if (op->kind == NB_OP_RMSNORM && op->in == buffer)
            NB_TRY(norm(w, op, x, width, err));
        else if (op->kind == NB_OP_ROPE)
            NB_TRY(turn(w, op, x, width, err));
        else if (op->kind == NB_OP_UNBIAS) /* alphas are the same with it and without */
            continue;
        else
            return nb_fail(err, NB_ERR_UNSUPPORTED, "layer %d does more to its queries and keys than the lab follows",
                           w->layer);
    }
    return NB_OK;
}

static size_t find(const walk *w, nb_op_kind kind)
{
    size_t i = 0;
    while (i < w->plan->op_count && (w->plan->ops[i].kind != kind || w->plan->ops[i].layer != w->layer))
        i++;
    return i;
}

/* The contexts made with these alphas beside what the output matrix really read. */
static nb_status compare(walk *w, size_t attention, const float *contexts, double *error, nb_error *err)
{
    int out = w->plan->ops[attention].out;
    size_t width = w->plan->buffers[out].width, next = attention + 1;
    double sum = 0, all = 0;
    *error = NAN;
    for (; next < w->plan->op_count && w->plan->ops[next].kind == NB_OP_GATHER;
         next++) /* of the last layer: all rows are wanted */
        out = w->plan->ops[next].in == out ? w->plan->ops[next].out : out;
    if (next == w->plan->op_count || w->plan->ops[next].kind != NB_OP_MATMUL || w->plan->ops[next].in != out ||
        w->r->inputs[w->plan->ops[next].weight].columns != width)
        return NB_OK;
    NB_TRY(nb_lab_reading_keep(w->r, (size_t)w->plan->ops[next].weight, err));
    const float *real = w->r->inputs[w->plan->ops[next].weight].values;
    for (size_t i = 0; i < w->r->tokens.count * width; i++) {
        sum += ((double)contexts[i] - (double)real[i]) * ((double)contexts[i] - (double)real[i]);
        all += (double)real[i] * (double)real[i];
    }
    *error = all > 0 ? sqrt(sum / all) : NAN;
    return NB_OK;
}

nb_status nb_lab_alphas_of(nb_lab_reading *r, int layer, nb_lab_alphas *out, nb_error *err)
{
    walk w = {r, r->model->def, &r->model->plan, layer};
    size_t attention = find(&w, NB_OP_ATTENTION), store = find(&w, NB_OP_KV_STORE), n = r->tokens.count;
    nb_attention_spec spec = nb_model_attention(w.def, layer);
    if (attention == w.plan->op_count || store == w.plan->op_count || w.plan->ops[attention].weight >= 0 ||
        spec.sinks || spec.bias.near || spec.bias.rounded > 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "layer %d has attention of a kind that the lab does not follow", layer);
    nb_attention_params p = nb_attention_defaults((size_t)spec.heads, (size_t)spec.kv_heads, (size_t)spec.k_dim, n, n);
    size_t q_width = (size_t)(spec.heads * spec.k_dim), k_width = (size_t)(spec.kv_heads * spec.k_dim);
    float *q = rows_of(&w, q_width, err), *k = rows_of(&w, k_width, err),
          *v = rows_of(&w, (size_t)(spec.kv_heads * spec.v_dim), err);
    float *contexts = rows_of(&w, (size_t)(spec.heads * spec.v_dim), err);
    *out = (nb_lab_alphas){(size_t)spec.heads, (size_t)spec.kv_heads, n, rows_of(&w, n * (size_t)spec.heads, err), NAN};
    if (!q || !k || !v || !contexts || !out->alphas || spec.k_dim != spec.v_dim)
        return spec.k_dim != spec.v_dim ? nb_fail(err, NB_ERR_UNSUPPORTED, "keys and values differ in width")
                                        : NB_ERR_MEMORY;
    NB_TRY(fill(&w, w.plan->ops[attention].in, attention, q, err));
    NB_TRY(fill(&w, w.plan->ops[store].in, store, k, err));
    NB_TRY(fill(&w, w.plan->ops[store].in2, store, v, err));
    p.scale = spec.scale;
    p.softcap = spec.softcap;
    p.causal = spec.causal;
    p.left = spec.window ? spec.window - 1 : -1;
    p.right = spec.window && !spec.causal ? spec.window - 1 : -1;
    p.slopes = spec.bias.slopes;
    NB_TRY(nb_attention_standard(&p, q, k, v, contexts, NULL, NULL, out->alphas, NULL, NULL, err));
    return compare(&w, attention, contexts, &out->error, err);
}
