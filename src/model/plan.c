#include "model/adapt.h"

#include <stdlib.h>

static const nb_op empty_op = {.layer = -1, .in = -1, .in2 = -1, .out = -1, .weight = -1, .bias = -1};

static int weight_or_none(const nb_model_def *m, int layer, nb_role role)
{
    return role == NB_ROLES ? -1 : nb_model_weight(m, layer, role);
}

void nb_emit_op(nb_plan *p, nb_op op)
{
    if (p->op_count == p->op_cap) {
        size_t cap = p->op_cap ? p->op_cap * 2 : 256;
        nb_op *ops = realloc(p->ops, cap * sizeof *ops);
        if (!ops) {
            p->failed = true;
            return;
        }
        p->ops = ops;
        p->op_cap = cap;
    }
    p->ops[p->op_count++] = op;
}

int nb_plan_buffer_new(nb_plan *p, const char *name, size_t width, bool outputs)
{
    if ((size_t)p->buffer_count == sizeof p->buffers / sizeof *p->buffers) {
        p->failed = true;
        return 0;
    }
    p->buffers[p->buffer_count] = (nb_plan_buffer){name, width, outputs};
    return p->buffer_count++;
}

void nb_emit_embed(nb_plan *p, const nb_model_def *m, nb_role weight, nb_embed_row row, float scale, int out)
{
    nb_op op = empty_op;
    op.kind = NB_OP_EMBED;
    op.out = out;
    op.weight = nb_model_weight(m, -1, weight);
    op.row = row;
    op.scale = scale;
    nb_emit_op(p, op);
}

void nb_emit_norm(nb_plan *p, const nb_model_def *m, int layer, nb_role weight, nb_role bias, int in, int out,
                  size_t group)
{
    nb_op op = empty_op;
    op.kind = m->arch->traits & NB_ARCH_LAYER_NORM ? NB_OP_LAYERNORM : NB_OP_RMSNORM;
    op.layer = layer;
    op.in = in;
    op.out = out;
    op.weight = nb_model_weight(m, layer, weight);
    op.bias = weight_or_none(m, layer, bias);
    op.group = group;
    if (op.weight >= 0)
        op.each = m->weights[op.weight].tensor->dims[0] * m->weights[op.weight].tensor->dims[1] > group;
    op.scale = m->h.norm_eps;
    nb_emit_op(p, op);
}

void nb_emit_matmul(nb_plan *p, const nb_model_def *m, int layer, nb_role weight, nb_role bias, int in, int out,
                    bool add)
{
    nb_op op = empty_op;
    op.kind = NB_OP_MATMUL;
    op.layer = layer;
    op.in = in;
    op.out = out;
    op.weight = nb_model_weight(m, layer, weight);
    op.bias = weight_or_none(m, layer, bias);
    op.add = add;
    nb_emit_op(p, op);
    nb_emit_adapted(p, m, &op);
}

void nb_emit_rope(nb_plan *p, const nb_model_def *m, int layer, int buffer, size_t head)
{
    nb_op op = empty_op;
    op.kind = NB_OP_ROPE;
    op.layer = layer;
    op.in = op.out = buffer;
    op.group = head;
    op.local = nb_model_layer_is_local(m, layer);
    nb_emit_op(p, op);
}

int nb_op_matrices(const nb_op *op, int weights[3])
{
    int n = 0;
    if (op->kind == NB_OP_MATMUL)
        weights[n++] = op->weight;
    if (op->kind == NB_OP_EXPERTS) {
        weights[n++] = op->experts.up;
        weights[n++] = op->experts.down;
        if (op->experts.gate >= 0)
            weights[n++] = op->experts.gate;
    }
    return n;
}

nb_status nb_plan_build(const nb_model_def *model, nb_plan *plan, nb_error *err)
{
    *plan = (nb_plan){.logits = -1, .hidden = -1};
    model->arch->build(model, plan);
    if (plan->failed) {
        nb_plan_free(plan);
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory for the plan", nb_gguf_path(model->gguf));
    }
    nb_status status = nb_plan_check_adapted(plan, model, err);
    if (status != NB_OK)
        nb_plan_free(plan);
    return status;
}

void nb_plan_free(nb_plan *plan)
{
    free(plan->ops);
    *plan = (nb_plan){.logits = -1, .hidden = -1};
}
