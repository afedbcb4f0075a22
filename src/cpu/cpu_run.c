/* Runs the steps of a program on the members of a team. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/cpu_internal.h"
#include "kernel/vec.h"

typedef struct part { /* what falls to one member of a step */
    nb_context *x;
    const nb_step *step;
    size_t rows;       /* of the step: tokens or wanted outputs */
    size_t begin, end; /* of the split: rows, or columns */
    int member, members;
} part;

static float *row(const part *p, int buffer, size_t i)
{
    return p->x->buffer[buffer] + i * p->x->weights->plan->buffers[buffer].width;
}

static size_t width(const part *p, int buffer) { return p->x->weights->plan->buffers[buffer].width; }

static const float *vector(const part *p, int weight) { return weight < 0 ? NULL : p->x->weights->weight[weight].data; }

static const nb_gguf_tensor *tensor(const part *p, int weight) { return p->x->weights->model->weights[weight].tensor; }

/* ---- the ops, each on its part ---- */

static void run_embed(const part *p)
{
    const nb_op *op = p->step->op;
    const nb_gguf_tensor *t = tensor(p, op->weight);
    size_t n = width(p, op->out), bytes = t->bytes / (size_t)(t->dims[1] * t->dims[2] * t->dims[3]);
    for (size_t i = p->begin; i < p->end; i++) {
        float *out = row(p, op->out, i);
        size_t at = op->row == NB_EMBED_TOKEN      ? (size_t)p->x->batch->tokens[i]
                    : op->row == NB_EMBED_POSITION ? (size_t)p->x->token_position[i]
                    : p->x->batch->types           ? p->x->batch->types[i]
                                                   : 0;
        t->type->dequantize((const char *)t->data + at * bytes, out, n);
        if (op->scale != 1)
            nb_vec_scale(out, op->scale, n, out);
    }
}

static void run_rmsnorm(const part *p)
{
    const nb_op *op = p->step->op;
    const float *w = vector(p, op->weight);
    size_t n = width(p, op->in);
    for (size_t i = p->begin; i < p->end; i++)
        for (size_t g = 0; g < n; g += op->group)
            nb_vec_rmsnorm(row(p, op->in, i) + g, w + (op->each ? g : 0), op->group, op->scale, row(p, op->out, i) + g);
}

static void run_layernorm(const part *p)
{
    const nb_op *op = p->step->op;
    const float *w = vector(p, op->weight), *b = vector(p, op->bias);
    size_t n = width(p, op->in);
    for (size_t i = p->begin; i < p->end; i++)
        for (size_t g = 0; g < n; g += op->group)
            nb_vec_layernorm(row(p, op->in, i) + g, w ? w + (op->each ? g : 0) : NULL,
                             b ? b + (op->each ? g : 0) : NULL, op->group, op->scale, row(p, op->out, i) + g);
}

static void run_matmul(const part *p)
{
    const nb_op *op = p->step->op;
    const nb_gguf_tensor *t = tensor(p, op->weight);
    const nb_cpu_weight *w = &p->x->weights->weight[op->weight];
    nb_matmul m = {.type = (nb_type)t->type->id,
                   .packed = w->packed,
                   .weights = w->data,
                   .rows = width(p, op->out),
                   .k = width(p, op->in),
                   .format = p->x->weights->program.panels[p->step->panels].format,
                   .act = p->x->panels[p->step->panels],
                   .n_tokens = p->rows,
                   .y = p->x->buffer[op->out],
                   .y_stride = width(p, op->out),
                   .bias = vector(p, op->bias),
                   .add = op->add,
                   .scratch = p->x->scratch + (size_t)p->member * p->x->scratch_bytes};
    nb_matmul_run(&m, p->begin, p->end);
}

static void run_rope(const part *p)
{
    const nb_op *op = p->step->op;
    const nb_hparams *h = &p->x->weights->model->h;
    const nb_rope *rope = op->local ? &h->rope_local : &h->rope;
    const nb_rope_table *table = &p->x->rope[op->local ? NB_GROUP_LOCAL : NB_GROUP_GLOBAL];
    size_t n = width(p, op->in);
    for (size_t i = p->begin; i < p->end; i++)
        for (size_t head = 0; head < n; head += op->group)
            nb_vec_rope(row(p, op->in, i) + head, table->cos_sin + i * table->pairs * 2, rope->dim, rope->neox);
}

static void run_unbias(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = p->begin; i < p->end; i++)
        nb_vec_add_scaled(row(p, op->in, i), p->x->weights->shared_key[op->layer], -1, width(p, op->in),
                          row(p, op->out, i));
}

static void run_kv_store(const part *p)
{
    const nb_op *op = p->step->op;
    nb_context *x = p->x;
    for (size_t i = p->begin; i < p->end; i++) {
        const nb_attention_span *span = &x->attention[(size_t)op->layer * x->params.max_spans + x->token_span[i]];
        size_t position = (size_t)x->token_position[i];
        nb_kv_store(&x->kv, span->pages[position / NB_PAGE % span->page_count], (int)(position % NB_PAGE),
                    row(p, op->in, i), row(p, op->in2, i), 0, x->kv.kv_heads);
    }
}

static void run_attention(const part *p)
{
    const nb_op *op = p->step->op;
    nb_context *x = p->x;
    nb_attention_spec spec = nb_model_attention(x->weights->model, op->layer);
    spec.sinks = vector(p, op->weight);
    nb_attention_span *spans = x->attention + (size_t)op->layer * x->params.max_spans;
    nb_attention_run(&spec, &x->kv, spans, x->batch->n_spans, x->weights->params.exact, x->attention_scratch,
                     x->weights->team, p->member, p->members);
}

void nb_cpu_activate(nb_activation activation, const float *gate, const float *up, size_t n, float *y)
{
    static void (*const functions[])(const float *, const float *, size_t, float *) = {
        [NB_SILU] = nb_vec_silu_mul,
        [NB_GELU_TANH] = nb_vec_gelu_tanh_mul,
        [NB_GELU_ERF] = nb_vec_gelu_erf_mul,
        [NB_RELU] = nb_vec_relu_mul,
        [NB_RELU_SQUARED] = nb_vec_relu2_mul,
        [NB_CLAMPED_SWIGLU] = nb_vec_clamped_mul,
    };
    functions[activation](gate, up, n, y);
}

static void run_gated(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = 0; op->activation == NB_XIELU && i < p->rows; i++)
        nb_vec_xielu(row(p, op->in, i) + p->begin, op->xielu, p->end - p->begin, row(p, op->out, i) + p->begin);
    for (size_t i = 0; op->activation != NB_XIELU && i < p->rows; i++)
        nb_cpu_activate(op->activation, row(p, op->in, i) + p->begin,
                        op->in2 < 0 ? NULL : row(p, op->in2, i) + p->begin, p->end - p->begin,
                        row(p, op->out, i) + p->begin);
}

static void run_experts(const part *p) { nb_cpu_run_experts(p->x, p->step->op, p->rows, p->member, p->members); }

static void run_row_gate(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = p->begin; i < p->end; i++)
        nb_vec_scale(row(p, op->in, i), 1 / (1 + expf(-*row(p, op->in2, i))), width(p, op->in), row(p, op->out, i));
}

static void run_add(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = p->begin; i < p->end; i++)
        nb_vec_add_scaled(row(p, op->in, i), row(p, op->in2, i), op->scale, width(p, op->out), row(p, op->out, i));
}

static void run_gather(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = p->begin; i < p->end; i++)
        memcpy(row(p, op->out, i), row(p, op->in, p->x->batch->outputs[i]), width(p, op->out) * sizeof(float));
}

static void run_softcap(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = 0; i < p->rows; i++)
        nb_vec_softcap(row(p, op->in, i) + p->begin, op->scale, p->end - p->begin, row(p, op->out, i) + p->begin);
}

static void run_scale(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = 0; i < p->rows; i++)
        nb_vec_scale(row(p, op->in, i) + p->begin, op->scale, p->end - p->begin, row(p, op->out, i) + p->begin);
}

static void run_temperature(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = p->begin; i < p->end; i++) {
        float length = floorf((float)p->x->token_position[i] / (float)op->group);
        nb_vec_scale(row(p, op->in, i), 1 + op->scale * logf(1 + length), width(p, op->in), row(p, op->out, i));
    }
}

static void run_clamp(const part *p)
{
    const nb_op *op = p->step->op;
    for (size_t i = 0; i < p->rows; i++) {
        const float *in = row(p, op->in, i);
        float *out = row(p, op->out, i);
        for (size_t c = p->begin; c < p->end; c++)
            out[c] = in[c] < -op->scale ? -op->scale : in[c] > op->scale ? op->scale : in[c];
    }
}

static void run_join(const part *p)
{
    const nb_op *op = p->step->op;
    size_t n = width(p, op->in);
    for (size_t i = p->begin; i < p->end; i++) {
        memcpy(row(p, op->out, i), row(p, op->in, i), n * sizeof(float));
        memcpy(row(p, op->out, i) + n, row(p, op->in2, i), width(p, op->in2) * sizeof(float));
    }
}

/* out[l] = sum of x[k] w[k][l], or w's rows are the latent's values */
static void to_latent(const nb_op_latent *l, const float *w, const float *x, float *out)
{
    for (size_t i = 0; l->turned && i < l->latent; i++)
        out[i] = nb_vec_dot(w + i * l->plain, x, l->plain);
    if (l->turned)
        return;
    memset(out, 0, l->latent * sizeof *out);
    for (size_t i = 0; i < l->plain; i++)
        nb_vec_add_scaled(out, w + i * l->latent, x[i], l->latent, out);
}

/* Each member has some heads: a head's matrix stays in its cache for all rows. */
static void run_latent_query(const part *p)
{
    const nb_op *op = p->step->op;
    const nb_op_latent *l = &op->latent;
    size_t begin, end, in = l->plain + l->rotated, out = l->rotated + l->latent, columns = l->turned ? l->plain : l->latent;
    nb_team_share(width(p, op->out) / out, 1, p->member, p->members, &begin, &end);
    for (size_t h = begin; h < end; h++)
        for (size_t i = 0; i < p->rows; i++) {
            const float *x = row(p, op->in, i) + h * in;
            float *y = row(p, op->out, i) + h * out;
            memcpy(y, x + l->plain, l->rotated * sizeof *y);
            to_latent(l, vector(p, op->weight) + (h * l->stride + l->first) * columns, x, y + l->rotated);
        }
}

static void run_latent_value(const part *p)
{
    const nb_op *op = p->step->op;
    const nb_op_latent *l = &op->latent;
    size_t begin, end;
    nb_team_share(width(p, op->out) / l->plain, 1, p->member, p->members, &begin, &end);
    for (size_t h = begin; h < end; h++)
        for (size_t i = 0; i < p->rows; i++) {
            const float *w = vector(p, op->weight) + (h * l->stride + l->first) * l->latent;
            for (size_t v = 0; v < l->plain; v++)
                row(p, op->out, i)[h * l->plain + v] =
                    nb_vec_dot(w + v * l->latent, row(p, op->in, i) + h * l->latent, l->latent);
        }
}

static void run_panels(const part *p)
{
    const nb_panels *panels = &p->x->weights->program.panels[p->step->panels];
    size_t n = width(p, panels->buffer), count = nb_act_panels(p->rows);
    bool columns = p->step->split.kind == NB_SPLIT_COLUMNS;
    size_t first = columns ? 0 : p->begin / NB_PANEL_TOKENS;
    size_t last = columns ? count : (p->end + NB_PANEL_TOKENS - 1) / NB_PANEL_TOKENS;
    if (panels->format == NB_ACT_INT8) {
        nb_act_write_int8(p->x->buffer[panels->buffer], n, p->rows, n, first, last,
                          p->x->weights->params.int8_threshold, p->x->panels[p->step->panels]);
        return;
    }
    nb_act_write(panels->format, p->x->buffer[panels->buffer], n, p->rows, n, first, last, columns ? p->begin : 0,
                 columns ? p->end : n, p->x->panels[p->step->panels]);
}

typedef void run_fn(const part *p);

static run_fn *const run_op[NB_OP_KINDS] = {
    [NB_OP_EMBED] = run_embed,
    [NB_OP_RMSNORM] = run_rmsnorm,
    [NB_OP_LAYERNORM] = run_layernorm,
    [NB_OP_MATMUL] = run_matmul,
    [NB_OP_ROPE] = run_rope,
    [NB_OP_UNBIAS] = run_unbias,
    [NB_OP_KV_STORE] = run_kv_store,
    [NB_OP_ATTENTION] = run_attention,
    [NB_OP_GATED] = run_gated,
    [NB_OP_ADD] = run_add,
    [NB_OP_GATHER] = run_gather,
    [NB_OP_SOFTCAP] = run_softcap,
    [NB_OP_SCALE] = run_scale,
    [NB_OP_CLAMP] = run_clamp,
    [NB_OP_EXPERTS] = run_experts,
    [NB_OP_ROW_GATE] = run_row_gate,
    [NB_OP_TEMPERATURE] = run_temperature,
    [NB_OP_JOIN] = run_join,
    [NB_OP_LATENT_QUERY] = run_latent_query,
    [NB_OP_LATENT_VALUE] = run_latent_value,
};

/* ---- a step ---- */

/* the rows of a step: those of the buffer it writes, or reads */
static size_t step_rows(const nb_context *x, const nb_step *step)
{
    const nb_plan_buffer *buffers = x->weights->plan->buffers;
    int buffer = !step->op            ? x->weights->program.panels[step->panels].buffer
                 : step->op->out >= 0 ? step->op->out
                                      : step->op->in;
    return buffers[buffer].outputs ? x->batch->n_outputs : x->batch->n_tokens;
}

static void run_part(part *p)
{
    if (p->begin == p->end && p->step->split.kind != NB_SPLIT_OWN)
        return;
    if (p->step->op)
        run_op[p->step->op->kind](p);
    else
        run_panels(p);
}

static void run_step(nb_context *x, const nb_step *step, int member, int members)
{
    part p = {.x = x, .step = step, .rows = step_rows(x, step), .member = member, .members = members};
    if (p.rows == 0 && step->split.kind != NB_SPLIT_OWN)
        return;
    nb_team_share(p.rows, NB_PANEL_TOKENS, member, members, &p.begin, &p.end);
    run_part(&p);
}

/* ---- chains: steps that split the same columns with no barrier between (gate, up, activation, panels) ----
 *
 * A chain is run block of columns by block, so that what one step writes the next finds in the cache: 512 tokens of 128
 * columns are 256 KB. Each member has its share of the columns, one stretch of memory; who is done early takes blocks
 * from the end of another's. (Before, Gemma's decode spent 7 % of its samples waiting at barriers.) */
enum { CHAIN_COLUMNS = 128, BLOCK_BYTES = 64 << 10 };

static size_t step_count(const nb_context *x)
{
    const nb_program *program = &x->weights->program;
    return x->params.hidden ? program->hidden_steps : program->step_count;
}

typedef struct chain {
    const nb_step *steps;
    size_t count, block; /* steps; columns */
} chain;

static chain chain_at(const nb_context *x, size_t first)
{
    const nb_program *program = &x->weights->program;
    chain c = {.steps = program->steps + first, .count = 1};
    const nb_split *split = &c.steps->split;
    size_t bytes = c.steps->column_bytes;
    for (; first + c.count < step_count(x); c.count++) {
        const nb_step *next = &c.steps[c.count];
        if (next->barrier || next->split.kind != NB_SPLIT_COLUMNS || next->split.width != split->width)
            break;
        bytes += next->column_bytes;
    }
    c.block = CHAIN_COLUMNS;
    if (step_rows(x, c.steps) <= NB_PANEL_TOKENS && bytes > 0)
        c.block = nb_round_up(BLOCK_BYTES / bytes + 1, 32);
    return c;
}

static void run_columns(nb_context *x, const chain *c, size_t begin, size_t end, int member, int members)
{
    for (size_t i = 0; i < c->count; i++) {
        part p = {.x = x,
                  .step = &c->steps[i],
                  .rows = step_rows(x, &c->steps[i]),
                  .begin = begin,
                  .end = end,
                  .member = member,
                  .members = members};
        if (p.rows > 0)
            run_part(&p);
    }
}

/* the next block of a share of `blocks`, from the front for its owner, else from the back; false: none is left */
static bool take_block(nb_claim *claim, size_t blocks, bool owner, size_t *block)
{
    uint_fast64_t taken = atomic_load_explicit(&claim->taken, memory_order_relaxed);
    size_t front, back;
    do {
        front = (size_t)(taken & UINT32_MAX);
        back = (size_t)(taken >> 32);
        if (front + back >= blocks)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&claim->taken, &taken, taken + (owner ? 1 : UINT64_C(1) << 32),
                                                    memory_order_relaxed, memory_order_relaxed));
    *block = owner ? front : blocks - 1 - back;
    return true;
}

/* the nth chain of the program */
static void run_chain(nb_context *x, const chain *c, size_t n, int member, int members)
{
    nb_claim *mine = x->claims + (size_t)member * NB_CLAIMS;
    atomic_store_explicit(&mine[(n + NB_CLAIMS / 2) % NB_CLAIMS].taken, 0, memory_order_relaxed);
    for (int i = 0; i < members; i++) {
        int owner = (member + i) % members;
        nb_claim *claim = x->claims + (size_t)owner * NB_CLAIMS + n % NB_CLAIMS;
        size_t begin, end, block;
        nb_team_share(c->steps->split.width, 32, owner, members, &begin, &end);
        while (take_block(claim, (end - begin + c->block - 1) / c->block, i == 0, &block)) {
            size_t at = begin + block * c->block;
            run_columns(x, c, at, nb_min_size(end, at + c->block), member, members);
        }
    }
}

/* The tap sees what the matrices of a chain read, to each member some columns: their sums do not depend on how many
 * members there are. Nothing that a chain's matrices read is written within the chain. */
static void show_inputs(nb_context *x, const chain *c, int member, int members)
{
    size_t begin, end;
    nb_team_barrier(x->weights->team);
    for (size_t i = 0; i < c->count; i++) {
        const nb_op *op = c->steps[i].op;
        if (!op || op->kind != NB_OP_MATMUL)
            continue;
        size_t width = x->weights->plan->buffers[op->in].width;
        nb_team_share(width, 16, member, members, &begin, &end);
        if (begin < end)
            x->tap(x->tap_user, op->weight, 0, x->buffer[op->in] + begin, width, step_rows(x, &c->steps[i]), begin,
                   end - begin);
    }
    nb_team_barrier(x->weights->team);
}

/* page pointers and attention spans of every layer; positions and angles of every token */
static void prepare(nb_context *x, int member, int members)
{
    const nb_model_def *model = x->weights->model;
    const nb_plan *plan = x->weights->plan;
    size_t begin, end, most = nb_max_size(x->params.max_pages[0], x->params.max_pages[1]);
    nb_team_share(plan->op_count, 1, member, members, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const nb_op *op = &plan->ops[i];
        if (op->kind != NB_OP_ATTENTION)
            continue;
        int group = nb_model_layer_is_local(model, op->layer) ? NB_GROUP_LOCAL : NB_GROUP_GLOBAL;
        char *pool = x->pool[group] + (size_t)x->layer_slot[op->layer] * x->params.pages[group] * x->page_bytes;
        for (size_t s = 0; s < x->batch->n_spans; s++) {
            const nb_span *span = &x->batch->spans[s];
            size_t slot = (size_t)op->layer * x->params.max_spans + s;
            void **pages = x->page_pointers + slot * most;
            size_t used = ((size_t)span->position + span->count + NB_PAGE - 1) / NB_PAGE;
            for (size_t j = 0; j < span->page_count[group] && j < used; j++)
                pages[j] = pool + span->pages[group][j] * x->page_bytes;
            x->attention[slot] = (nb_attention_span){.pages = pages,
                                                     .page_count = span->page_count[group],
                                                     .position = span->position,
                                                     .n_positions = span->position + (int64_t)span->count,
                                                     .n_queries = span->count,
                                                     .q = x->buffer[op->in] + span->first * plan->buffers[op->in].width,
                                                     .out = x->buffer[op->out] +
                                                            span->first * plan->buffers[op->out].width,
                                                     .q_stride = plan->buffers[op->in].width,
                                                     .out_stride = plan->buffers[op->out].width};
        }
    }
    nb_team_share(x->batch->n_tokens, NB_PANEL_TOKENS, member, members, &begin, &end);
    for (size_t i = begin; i < end; i++)
        for (int g = 0; g < NB_GROUPS; g++) {
            const nb_rope_table *r = &x->rope[g];
            const float *frequency = r->frequency + x->token_span[i] % r->slots * r->pairs;
            nb_rope_angles(frequency, r->magnitude, r->pairs, x->token_position[i], r->cos_sin + i * r->pairs * 2);
        }
}

/* A barrier; true: the step is given up, by all members at the same one. Nobody is two barriers behind, so that two places do. */
static bool meet(nb_context *x, int member, size_t *turn)
{
    atomic_bool *halts = &x->halts[(*turn)++ % 2];
    if (member == 0 && x->given_up)
        atomic_store_explicit(halts, x->given_up(x->given_up_user), memory_order_relaxed);
    nb_team_barrier(x->weights->team);
    return x->given_up && atomic_load_explicit(halts, memory_order_relaxed);
}

void nb_cpu_run_member(void *context, int member, int members)
{
    nb_context *x = context;
    const nb_program *program = &x->weights->program;
    for (size_t i = 0; i < NB_CLAIMS / 2; i++) /* run_chain clears the others half a turn ahead */
        atomic_store_explicit(&x->claims[(size_t)member * NB_CLAIMS + i].taken, 0, memory_order_relaxed);
    prepare(x, member, members);
    nb_team_barrier(x->weights->team);
    for (size_t i = 0, chains = 0, turn = 0; i < step_count(x);) {
        if (program->steps[i].barrier && meet(x, member, &turn)) {
            if (member == 0)
                x->batch = NULL;
            return;
        }
        if (program->steps[i].split.kind != NB_SPLIT_COLUMNS) {
            run_step(x, &program->steps[i++], member, members);
            continue;
        }
        chain c = chain_at(x, i);
        if (x->tap)
            show_inputs(x, &c, member, members);
        run_chain(x, &c, chains++, member, members);
        i += c.count;
    }
}

/* the frequencies that the step's sequences turn by, where they are not there from the step before */
static void choose_frequencies(nb_context *x, const nb_batch *batch)
{
    const nb_hparams *h = &x->weights->model->h;
    for (int g = 0; g < NB_GROUPS; g++)
        for (size_t s = 0; s < nb_min_size(batch->n_spans, x->rope[g].slots) && x->rope[g].pairs; s++) {
            nb_rope_table *r = &x->rope[g];
            const nb_rope *rope = g == NB_GROUP_LOCAL ? &h->rope_local : &h->rope;
            const nb_span *span = &batch->spans[s];
            size_t length = span->length ? span->length : (size_t)span->position + span->count;
            size_t kind = nb_rope_kind(rope, length);
            if (kind != r->kind[s])
                nb_rope_frequencies(rope, length, r->frequency + s * r->pairs, &r->magnitude);
            r->kind[s] = kind;
        }
}

static nb_status cpu_run(nb_context *x, const nb_batch *batch, nb_error *err)
{
    if (batch->n_tokens == 0 || batch->n_tokens > x->params.max_tokens || batch->n_outputs > x->params.max_outputs ||
        batch->n_spans > x->params.max_spans)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "a step of %zu tokens and %zu outputs is larger than the context was made for", batch->n_tokens,
                       batch->n_outputs);
    for (size_t s = 0; s < batch->n_spans; s++) {
        if ((size_t)batch->spans[s].position + batch->spans[s].count > x->params.max_positions)
            return nb_fail(err, NB_ERR_ARGUMENT, "a span ends past the %zu positions the context was made for",
                           x->params.max_positions);
        for (size_t i = 0; i < batch->spans[s].count; i++) {
            x->token_position[batch->spans[s].first + i] = batch->spans[s].position + (int64_t)i;
            x->token_span[batch->spans[s].first + i] = (uint32_t)s;
        }
    }
    choose_frequencies(x, batch);
    x->batch = batch;
    nb_team_run(x->weights->team, nb_cpu_run_member, x);
    if (!x->batch)
        return nb_fail(err, NB_ERR_CANCELLED, "the step was given up");
    x->batch = NULL;
    return NB_OK;
}

static void cpu_copy_page(nb_context *x, int group, uint32_t from, uint32_t to)
{
    char *pool = x->pool[group];
    for (size_t i = 0; i < x->group_layers[group]; i++, pool += x->params.pages[group] * x->page_bytes)
        memcpy(pool + to * x->page_bytes, pool + from * x->page_bytes, x->page_bytes);
}

static const float *cpu_logits(nb_context *x, size_t i)
{
    const nb_plan *plan = x->weights->plan;
    int result = x->params.hidden ? plan->hidden : plan->logits;
    return x->buffer[result] + i * plan->buffers[result].width;
}

static void cpu_tap(nb_context *x, nb_tap_fn *tap, void *user)
{
    x->tap = tap;
    x->tap_user = user;
}

static void cpu_watch(nb_context *x, bool (*given_up)(void *user), void *user)
{
    x->given_up = given_up;
    x->given_up_user = user;
}

const nb_backend nb_backend_cpu = {
    .name = "cpu",
    .weights_memory = nb_cpu_weights_memory,
    .weights_new = nb_cpu_weights_new,
    .weights_free = nb_cpu_weights_free,
    .context_memory = nb_cpu_context_memory,
    .context_new = nb_cpu_context_new,
    .context_free = nb_cpu_context_free,
    .run = cpu_run,
    .copy_page = cpu_copy_page,
    .logits = cpu_logits,
    .watch = cpu_watch,
    .tap = cpu_tap,
};
