/* From the plan to steps: panels where matrices read, barriers where members' parts cross. */
#include "cpu/cpu_internal.h"

#include <stdlib.h>

enum { MAX_PANELS = 128 };

/* who touched a buffer (or panels, or the cache) since the last barrier */
typedef struct touch {
    bool written, read;
    nb_split writer, reader;
    bool read_by_all; /* read whole, or by several splits: nobody may overwrite it before a barrier */
} touch;

typedef struct lowering {
    const nb_model_def *model;
    const nb_plan *plan;
    const nb_weights_params *params;
    bool failed;
    nb_program *program;
    size_t step_cap;
    touch buffers[NB_PLAN_BUFFERS], panels[MAX_PANELS], cache;
    bool panels_valid[MAX_PANELS];
    nb_split last_writer[NB_PLAN_BUFFERS]; /* of each buffer, across barriers */
    bool pending_barrier;
    size_t since_barrier; /* steps */
} lowering;

static bool same_split(nb_split a, nb_split b)
{
    return a.kind == b.kind && a.kind != NB_SPLIT_OWN && (a.kind != NB_SPLIT_COLUMNS || a.width == b.width);
}

nb_act_format nb_cpu_weight_format(const nb_model_def *model, int weight, const nb_weights_params *params)
{
    const nb_weight *w = &model->weights[weight];
    const nb_gguf_tensor *t = w->tensor;
    /* a logit that is rounded may choose another expert */
    if (params->exact || w->role == NB_FFN_ROUTER)
        return NB_ACT_F32;
    if (t->type->id == NB_TYPE_INT8 && params->int8_threshold != 0 && t->dims[2] > 1)
        return NB_ACT_F32; /* outliers are listed by tokens, experts' rows are not tokens */
    if (t->type->id == NB_TYPE_INT8 && params->int8_threshold < 0)
        return NB_ACT_F32;
    if (t->type->id == NB_TYPE_INT8 && params->int8_threshold > 0)
        return NB_ACT_INT8;
    return nb_matmul_act_format((nb_type)t->type->id, (size_t)t->dims[0]);
}

static void need_read(lowering *l, touch *t, nb_split split, bool whole)
{
    if (t->written && (whole || !same_split(t->writer, split)))
        l->pending_barrier = true;
}

static void need_write(lowering *l, touch *t, nb_split split)
{
    if ((t->written && !same_split(t->writer, split)) || t->read_by_all || (t->read && !same_split(t->reader, split)))
        l->pending_barrier = true;
}

static void did_read(touch *t, nb_split split, bool whole)
{
    if (whole || split.kind == NB_SPLIT_OWN || (t->read && !same_split(t->reader, split)))
        t->read_by_all = true;
    t->read = true;
    t->reader = split;
}

static void did_write(touch *t, nb_split split)
{
    t->written = true;
    t->writer = split;
}

static void forget_touches(lowering *l)
{
    memset(l->buffers, 0, sizeof l->buffers);
    memset(l->panels, 0, sizeof l->panels);
    l->cache = (touch){0};
}

static void close_touch(touch *t)
{
    if (t->written && t->writer.kind == NB_SPLIT_COLUMNS)
        t->writer.kind = NB_SPLIT_OWN;
    if (t->read && t->reader.kind == NB_SPLIT_COLUMNS)
        t->read_by_all = true;
}

/* Before a step of this split: columns are shared out anew for each chain of steps, so once a chain is over its columns
 * are nobody's in particular. */
static void enter_split(lowering *l, nb_split split)
{
    size_t n = l->program->step_count;
    if (n == 0 || l->program->steps[n - 1].split.kind != NB_SPLIT_COLUMNS ||
        same_split(l->program->steps[n - 1].split, split))
        return;
    for (int i = 0; i < l->plan->buffer_count; i++)
        close_touch(&l->buffers[i]);
    for (size_t i = 0; i < l->program->panels_count; i++)
        close_touch(&l->panels[i]);
    close_touch(&l->cache);
}

/* bytes of weights that a column of a step reads */
static size_t column_bytes(const lowering *l, const nb_op *op)
{
    if (!op || op->kind != NB_OP_MATMUL)
        return 0;
    const nb_gguf_tensor *t = l->model->weights[op->weight].tensor;
    return t->bytes / l->plan->buffers[op->out].width;
}

static void add_step(lowering *l, const nb_op *op, int panels, nb_split split)
{
    nb_program *p = l->program;
    l->since_barrier = l->pending_barrier ? 0 : l->since_barrier + 1;
    if (l->since_barrier == NB_CLAIMS / 4) {
        l->pending_barrier = true;
        l->since_barrier = 0;
    }
    if (p->step_count == l->step_cap) {
        l->step_cap = l->step_cap ? l->step_cap * 2 : 512;
        nb_step *steps = realloc(p->steps, l->step_cap * sizeof *steps);
        if (!steps) {
            l->failed = true;
            return;
        }
        p->steps = steps;
    }
    if (l->pending_barrier)
        forget_touches(l);
    p->steps[p->step_count++] = (nb_step){op, panels, split, l->pending_barrier, column_bytes(l, op)};
    l->pending_barrier = false;
}

static int find_panels(lowering *l, int buffer, nb_act_format format)
{
    nb_program *p = l->program;
    for (size_t i = 0; i < p->panels_count; i++)
        if (p->panels[i].buffer == buffer && p->panels[i].format == format)
            return (int)i;
    if (p->panels_count == MAX_PANELS) {
        l->failed = true;
        return 0;
    }
    p->panels[p->panels_count] = (nb_panels){.buffer = buffer, .format = format};
    return (int)p->panels_count++;
}

static nb_split by_rows_of(const lowering *l, int buffer)
{
    return (nb_split){l->plan->buffers[buffer].outputs ? NB_SPLIT_OUTPUTS : NB_SPLIT_TOKENS, 0};
}

/* writes the panels of a buffer, split as the buffer was made where that is possible */
static void write_panels(lowering *l, int panels)
{
    int buffer = l->program->panels[panels].buffer;
    nb_split split = l->last_writer[buffer];
    /* outliers are listed by whole tokens */
    if (split.kind == NB_SPLIT_OWN || l->program->panels[panels].format == NB_ACT_INT8)
        split = by_rows_of(l, buffer);
    enter_split(l, split);
    need_read(l, &l->buffers[buffer], split, false);
    need_write(l, &l->panels[panels], split);
    add_step(l, NULL, panels, split);
    did_read(&l->buffers[buffer], split, false);
    did_write(&l->panels[panels], split);
    l->panels_valid[panels] = true;
}

static void wrote_buffer(lowering *l, int buffer, nb_split split)
{
    did_write(&l->buffers[buffer], split);
    l->last_writer[buffer] = split;
    for (size_t i = 0; i < l->program->panels_count; i++)
        if (l->program->panels[i].buffer == buffer)
            l->panels_valid[i] = false;
}

static void lower_matmul(lowering *l, const nb_op *op)
{
    int panels = find_panels(l, op->in, nb_cpu_weight_format(l->model, op->weight, l->params));
    nb_split split = {NB_SPLIT_COLUMNS, l->plan->buffers[op->out].width};
    if (l->failed)
        return;
    if (!l->panels_valid[panels])
        write_panels(l, panels);
    enter_split(l, split);
    need_read(l, &l->panels[panels], split, true);
    if (op->add)
        need_read(l, &l->buffers[op->out], split, false);
    need_write(l, &l->buffers[op->out], split);
    add_step(l, op, panels, split);
    did_read(&l->panels[panels], split, true);
    wrote_buffer(l, op->out, split);
}

static nb_split natural_split(const lowering *l, const nb_op *op)
{
    switch (op->kind) {
    case NB_OP_GATED:
    case NB_OP_SOFTCAP:
    case NB_OP_CLAMP:
    case NB_OP_SCALE: return (nb_split){NB_SPLIT_COLUMNS, l->plan->buffers[op->out].width};
    case NB_OP_ATTENTION:
    case NB_OP_LATENT_QUERY:
    case NB_OP_LATENT_VALUE:
    case NB_OP_EXPERTS: return (nb_split){NB_SPLIT_OWN, 0};
    case NB_OP_KV_STORE: return by_rows_of(l, op->in);
    default: return by_rows_of(l, op->out);
    }
}

static void lower_op(lowering *l, const nb_op *op)
{
    nb_split split = natural_split(l, op);
    bool whole = op->kind == NB_OP_GATHER || split.kind == NB_SPLIT_OWN;
    bool attention = op->kind == NB_OP_ATTENTION, store = op->kind == NB_OP_KV_STORE;
    enter_split(l, split);
    if (op->in >= 0)
        need_read(l, &l->buffers[op->in], split, whole);
    if (op->in2 >= 0)
        need_read(l, &l->buffers[op->in2], split, whole);
    if (op->out >= 0)
        need_write(l, &l->buffers[op->out], split);
    if (attention)
        need_read(l, &l->cache, split, true);
    if (store)
        need_write(l, &l->cache, split);
    add_step(l, op, -1, split);
    if (op->in >= 0)
        did_read(&l->buffers[op->in], split, whole);
    if (op->in2 >= 0)
        did_read(&l->buffers[op->in2], split, whole);
    if (attention)
        did_read(&l->cache, split, true);
    if (store)
        did_write(&l->cache, split);
    if (op->out >= 0)
        wrote_buffer(l, op->out, split);
}

nb_status nb_cpu_lower(const nb_model_def *model, const nb_plan *plan, const nb_weights_params *params,
                       nb_program *program, nb_error *err)
{
    *program = (nb_program){.panels = calloc(MAX_PANELS, sizeof(nb_panels))};
    lowering *l = calloc(1, sizeof *l);
    if (!l || !program->panels) {
        free(l);
        nb_program_free(program);
        return nb_fail(err, NB_ERR_MEMORY, "out of memory for the plan");
    }
    *l = (lowering){.model = model, .plan = plan, .params = params, .program = program};
    for (size_t i = 0; i < plan->op_count && !l->failed; i++) {
        if (i == plan->hidden_ops)
            program->hidden_steps = program->step_count;
        if (plan->ops[i].kind == NB_OP_MATMUL)
            lower_matmul(l, &plan->ops[i]);
        else
            lower_op(l, &plan->ops[i]);
    }
    if (plan->hidden_ops == plan->op_count)
        program->hidden_steps = program->step_count;
    bool failed = l->failed;
    free(l);
    if (failed) {
        nb_program_free(program);
        return nb_fail(err, NB_ERR_MEMORY, "out of memory for the plan");
    }
    return NB_OK;
}

void nb_program_free(nb_program *program)
{
    free(program->steps);
    free(program->panels);
    *program = (nb_program){0};
}
