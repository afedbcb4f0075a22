/* A context: cache, buffers, panels and scratch in one allocation, laid out by one function that also counts them. */
#include "cpu/cpu.h"
#include "cpu/cpu_internal.h"

#include <stdlib.h>

void nb_cache_groups(const nb_model_def *model, size_t layers[NB_GROUPS])
{
    layers[NB_GROUP_GLOBAL] = layers[NB_GROUP_LOCAL] = 0;
    for (int i = 0; i < model->h.layers; i++)
        layers[nb_model_layer_is_local(model, i) ? NB_GROUP_LOCAL : NB_GROUP_GLOBAL]++;
}

nb_kv_layout nb_cache_layout(const nb_model_def *model, nb_type type)
{
    return (nb_kv_layout){type, model->h.kv_heads, model->h.k_dim, model->h.v_dim};
}

void *nb_carve(nb_carver *c, size_t count, size_t size, size_t *total)
{
    size_t bytes, used;
    if (!nb_mul(count, size, &bytes) || bytes > SIZE_MAX / 2 || !nb_add(c->used, nb_round_up(bytes, 64), &used)) {
        c->failed = true;
        return NULL;
    }
    void *p = c->base ? c->base + c->used : NULL;
    *total += used - c->used;
    c->used = used;
    return p;
}

typedef struct layout_input {
    const nb_model_def *model;
    const nb_plan *plan;
    const nb_program *program;
    const nb_context_params *params;
    const nb_weights_params *weights;
    int members;
} layout_input;

static size_t ops_of(const layout_input *in) { return in->params->hidden ? in->plan->hidden_ops : in->plan->op_count; }

/* 0: no op that this context runs touches it */
static size_t rows_of_buffer(const layout_input *in, int buffer)
{
    bool used = false;
    for (size_t i = 0; i < ops_of(in) && !used; i++) {
        const nb_op *op = &in->plan->ops[i];
        used = op->in == buffer || op->in2 == buffer || op->out == buffer;
    }
    if (!used)
        return 0;
    return in->plan->buffers[buffer].outputs ? in->params->max_outputs : in->params->max_tokens;
}

static size_t scratch_bytes(const layout_input *in)
{
    size_t most = 0;
    for (size_t i = 0; i < ops_of(in); i++) {
        const nb_op *op = &in->plan->ops[i];
        int weights[3];
        for (int w = 0, n = nb_op_matrices(op, weights); w < n; w++) {
            const nb_gguf_tensor *t = in->model->weights[weights[w]].tensor;
            size_t bytes = nb_matmul_scratch((nb_type)t->type->id,
                                             nb_cpu_weight_format(in->model, weights[w], in->weights),
                                             (size_t)t->dims[0], rows_of_buffer(in, op->in));
            most = nb_max_size(most, bytes);
        }
    }
    return nb_round_up(most, 64);
}

static size_t attention_bytes(const layout_input *in)
{
    size_t most = 0;
    nb_kv_layout kv = nb_cache_layout(in->model, in->params->kv_type);
    for (int i = 0; i < in->model->h.layers; i++) {
        nb_attention_spec spec = nb_model_attention(in->model, i);
        most = nb_max_size(most, nb_attention_scratch(&spec, &kv, in->params->max_spans, in->params->max_tokens,
                                                      in->params->max_positions, in->members));
    }
    return most;
}

static void layout_rope(nb_carver *c, const layout_input *in, nb_context *x, nb_memory *m)
{
    for (int g = 0; g < NB_GROUPS; g++) {
        const nb_rope *rope = g == NB_GROUP_LOCAL ? &in->model->h.rope_local : &in->model->h.rope;
        size_t pairs = x->group_layers[g] ? rope->dim / 2 : 0;
        x->rope[g].pairs = pairs;
        x->rope[g].slots = nb_rope_varies(rope) ? in->params->max_spans : 1;
        x->rope[g].frequency = nb_carve(c, x->rope[g].slots, pairs * sizeof(float), &m->tables);
        x->rope[g].kind = nb_carve(c, x->rope[g].slots, sizeof(size_t), &m->tables);
        x->rope[g].cos_sin = nb_carve(c, in->params->max_tokens, pairs * 2 * sizeof(float), &m->tables);
    }
}

/* Fills the pointers of x from c (all NULL while counting) and the byte counts of m. */
static nb_status layout(nb_carver *c, const layout_input *in, nb_context *x, nb_memory *m, nb_error *err)
{
    const nb_context_params *p = in->params;
    size_t layers = (size_t)in->model->h.layers, members = (size_t)in->members;
    size_t most_pages = nb_max_size(p->max_pages[0], p->max_pages[1]);
    x->kv = nb_cache_layout(in->model, p->kv_type);
    if (!nb_kv_layout_ok(&x->kv))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "cache type %s: use f32, f16 or bf16, or q8_0 where heads are multiples of 32 (here %d)",
                       nb_type_get(p->kv_type)->name, x->kv.k_dim);
    if (nb_model_weight(in->model, -1, NB_POSITION_EMBD) >= 0 && p->max_positions > in->model->h.context)
        return nb_fail(err, NB_ERR_LIMIT, "a context of %zu positions: this model has vectors for %zu",
                       p->max_positions, in->model->h.context);
    nb_cache_groups(in->model, x->group_layers);
    x->page_bytes = nb_kv_page_bytes(&x->kv);
    for (int g = 0; g < NB_GROUPS; g++) {
        size_t pages;
        if (!nb_mul(x->group_layers[g], p->pages[g], &pages))
            c->failed = true;
        x->pool[g] = nb_carve(c, pages, x->page_bytes, &m->cache);
    }
    for (int b = 0; b < in->plan->buffer_count; b++)
        x->buffer[b] = nb_carve(c, rows_of_buffer(in, b), in->plan->buffers[b].width * sizeof(float), &m->buffers);
    for (size_t i = 0; i < in->program->panels_count; i++) {
        const nb_panels *panels = &in->program->panels[i];
        size_t bytes = nb_act_bytes(panels->format, in->plan->buffers[panels->buffer].width,
                                    rows_of_buffer(in, panels->buffer));
        x->panels[i] = nb_carve(c, 1, bytes, &m->buffers);
    }
    layout_rope(c, in, x, m);
    x->layer_slot = nb_carve(c, layers, sizeof(int), &m->tables);
    x->token_position = nb_carve(c, p->max_tokens, sizeof *x->token_position, &m->tables);
    x->token_span = nb_carve(c, p->max_tokens, sizeof *x->token_span, &m->tables);
    x->page_pointers = nb_carve(c, layers * p->max_spans, most_pages * sizeof(void *), &m->tables);
    x->attention = nb_carve(c, layers, p->max_spans * sizeof *x->attention, &m->tables);
    x->claims = nb_carve(c, members, NB_CLAIMS * sizeof *x->claims, &m->tables);
    x->scratch_bytes = scratch_bytes(in);
    x->scratch = nb_carve(c, members, x->scratch_bytes, &m->scratch);
    x->attention_scratch = nb_carve(c, 1, attention_bytes(in), &m->scratch);
    nb_experts_need experts = {in->model, in->plan, in->weights, ops_of(in), p->max_tokens, p->max_outputs, in->members};
    nb_experts_layout(c, &experts, &x->experts, &m->buffers);
    if (c->failed)
        return nb_fail(err, NB_ERR_LIMIT, "a context of %zu positions does not fit any memory", p->max_positions);
    return NB_OK;
}

static int team_size(int threads) { return threads > 0 ? threads : nb_cpu_count(); }

nb_status nb_cpu_context_memory(const nb_model_def *model, const nb_plan *plan, const nb_weights_params *weights,
                                const nb_context_params *params, nb_memory *memory, nb_error *err)
{
    nb_program program;
    NB_TRY(nb_cpu_lower(model, plan, weights, &program, err));
    nb_context *x = calloc(1, sizeof *x);
    nb_carver c = {0};
    layout_input in = {model, plan, &program, params, weights, team_size(weights->threads)};
    nb_status status = x ? layout(&c, &in, x, memory, err) : nb_fail(err, NB_ERR_MEMORY, "out of memory");
    free(x);
    nb_program_free(&program);
    return status;
}

void nb_cpu_context_free(nb_context *x)
{
    if (!x)
        return;
    nb_pages_free(x->memory, x->bytes);
    free(x);
}

static void fill_tables(nb_context *x)
{
    const nb_model_def *model = x->weights->model;
    int next[NB_GROUPS] = {0};
    for (int i = 0; i < model->h.layers; i++)
        x->layer_slot[i] = next[nb_model_layer_is_local(model, i) ? NB_GROUP_LOCAL : NB_GROUP_GLOBAL]++;
}

static nb_status context_fill(nb_context *x, const layout_input *in, nb_error *err)
{
    nb_carver counting = {0}, placing = {0};
    nb_memory memory = {0}, again = {0};
    NB_TRY(layout(&counting, in, x, &memory, err));
    x->bytes = counting.used;
    x->memory = nb_pages_alloc(x->bytes);
    if (!x->memory)
        return nb_fail(err, NB_ERR_MEMORY, "no memory for a context of %zu positions (%zu bytes); try a smaller --ctx",
                       in->params->max_positions, x->bytes);
    placing.base = x->memory;
    NB_TRY(layout(&placing, in, x, &again, err));
    fill_tables(x);
    return NB_OK;
}

nb_status nb_cpu_context_new(nb_weights *w, const nb_context_params *params, nb_context **out, nb_error *err)
{
    *out = NULL;
    nb_context *x = calloc(1, sizeof *x);
    if (!x)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    x->weights = w;
    x->params = *params;
    layout_input in = {w->model, w->plan, &w->program, &x->params, &w->params, nb_team_size(w->team)};
    nb_status status = context_fill(x, &in, err);
    if (status != NB_OK) {
        nb_cpu_context_free(x);
        return status;
    }
    *out = x;
    return NB_OK;
}
