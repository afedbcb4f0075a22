/* The decoder-only block that most families share; what a family adds shows in its tensors. */
#include "model/plan.h"

typedef struct decoder {
    const nb_model_def *m;
    nb_plan *p;
    int x, normed, q, k, v, heads_out, branch, gate, up;            /* rows a token */
    int out_x, out_heads, out_normed, out_branch, out_gate, out_up; /* rows a wanted output */
} decoder;

static bool has(const decoder *d, int layer, nb_role role) { return nb_model_weight(d->m, layer, role) >= 0; }

static nb_op op_of(nb_op_kind kind, int layer, int in, int in2, int out) /* without weights */
{
    return (nb_op){.kind = kind, .layer = layer, .in = in, .in2 = in2, .out = out, .weight = -1, .bias = -1};
}

static void emit_attention(decoder *d, int layer)
{
    const nb_hparams *h = &d->m->h;
    nb_emit_rmsnorm(d->p, d->m, layer, NB_ATTN_NORM, d->x, d->normed, (size_t)h->embd);
    nb_emit_matmul(d->p, d->m, layer, NB_ATTN_Q, NB_ATTN_Q_BIAS, d->normed, d->q, false);
    nb_emit_matmul(d->p, d->m, layer, NB_ATTN_K, NB_ATTN_K_BIAS, d->normed, d->k, false);
    nb_emit_matmul(d->p, d->m, layer, NB_ATTN_V, NB_ATTN_V_BIAS, d->normed, d->v, false);
    if (has(d, layer, NB_ATTN_Q_NORM))
        nb_emit_rmsnorm(d->p, d->m, layer, NB_ATTN_Q_NORM, d->q, d->q, (size_t)h->k_dim);
    if (has(d, layer, NB_ATTN_K_NORM))
        nb_emit_rmsnorm(d->p, d->m, layer, NB_ATTN_K_NORM, d->k, d->k, (size_t)h->k_dim);
    nb_emit_rope(d->p, d->m, layer, d->q, (size_t)h->k_dim);
    nb_emit_rope(d->p, d->m, layer, d->k, (size_t)h->k_dim);
    nb_emit_op(d->p, op_of(NB_OP_KV_STORE, layer, d->k, d->v, -1));
    nb_emit_op(d->p, op_of(NB_OP_ATTENTION, layer, d->q, -1, d->heads_out));
}

/* x += weight in (+ bias), through a norm of the branch where the family has one */
static void emit_residual(decoder *d, int layer, nb_role weight, nb_role bias, nb_role post_norm, int in, int branch,
                          int x)
{
    if (!has(d, layer, post_norm)) {
        nb_emit_matmul(d->p, d->m, layer, weight, bias, in, x, true);
        return;
    }
    nb_emit_matmul(d->p, d->m, layer, weight, bias, in, branch, false);
    nb_emit_rmsnorm(d->p, d->m, layer, post_norm, branch, branch, (size_t)d->m->h.embd);
    nb_emit_op(d->p, op_of(NB_OP_ADD, layer, x, branch, x));
}

static void emit_gather(decoder *d, int in, int out) { nb_emit_op(d->p, op_of(NB_OP_GATHER, -1, in, -1, out)); }

static void emit_mlp(decoder *d, int layer, bool last, nb_activation activation)
{
    int x = last ? d->out_x : d->x, normed = last ? d->out_normed : d->normed,
        branch = last ? d->out_branch : d->branch;
    int gate = last ? d->out_gate : d->gate, up = last ? d->out_up : d->up;
    nb_emit_rmsnorm(d->p, d->m, layer, NB_FFN_NORM, x, normed, (size_t)d->m->h.embd);
    nb_emit_matmul(d->p, d->m, layer, NB_FFN_GATE, NB_FFN_GATE_BIAS, normed, gate, false);
    nb_emit_matmul(d->p, d->m, layer, NB_FFN_UP, NB_FFN_UP_BIAS, normed, up, false);
    nb_op gated = op_of(NB_OP_GATED, layer, gate, up, gate);
    gated.activation = activation;
    nb_emit_op(d->p, gated);
    emit_residual(d, layer, NB_FFN_DOWN, NB_FFN_DOWN_BIAS, NB_FFN_POST_NORM, gate, branch, x);
}

static void make_buffers(decoder *d)
{
    const nb_hparams *h = &d->m->h;
    size_t embd = (size_t)h->embd, ff = (size_t)h->ff, o = (size_t)h->heads * (size_t)h->v_dim;
    d->x = nb_plan_buffer_new(d->p, "x", embd, false);
    d->normed = nb_plan_buffer_new(d->p, "normed", embd, false);
    d->q = nb_plan_buffer_new(d->p, "q", (size_t)h->heads * (size_t)h->k_dim, false);
    d->k = nb_plan_buffer_new(d->p, "k", (size_t)h->kv_heads * (size_t)h->k_dim, false);
    d->v = nb_plan_buffer_new(d->p, "v", (size_t)h->kv_heads * (size_t)h->v_dim, false);
    d->heads_out = nb_plan_buffer_new(d->p, "heads", o, false);
    d->branch = nb_plan_buffer_new(d->p, "branch", embd, false);
    d->gate = nb_plan_buffer_new(d->p, "gate", ff, false);
    d->up = nb_plan_buffer_new(d->p, "up", ff, false);
    d->out_x = nb_plan_buffer_new(d->p, "out_x", embd, true);
    d->out_heads = nb_plan_buffer_new(d->p, "out_heads", o, true);
    d->out_normed = nb_plan_buffer_new(d->p, "out_normed", embd, true);
    d->out_branch = nb_plan_buffer_new(d->p, "out_branch", embd, true);
    d->out_gate = nb_plan_buffer_new(d->p, "out_gate", ff, true);
    d->out_up = nb_plan_buffer_new(d->p, "out_up", ff, true);
    d->p->logits = nb_plan_buffer_new(d->p, "logits", h->vocab, true);
}

void nb_build_decoder(const nb_model_def *m, nb_plan *p, nb_block_flags flags)
{
    decoder d = {.m = m, .p = p};
    make_buffers(&d);
    nb_emit_embed(p, m, d.x);
    for (int layer = 0; layer < m->h.layers; layer++) {
        /* after the last layer's attention only the wanted outputs matter */
        bool last = layer == m->h.layers - 1;
        emit_attention(&d, layer);
        if (last) {
            emit_gather(&d, d.x, d.out_x);
            emit_gather(&d, d.heads_out, d.out_heads);
        }
        emit_residual(&d, layer, NB_ATTN_O, NB_ATTN_O_BIAS, NB_ATTN_POST_NORM, last ? d.out_heads : d.heads_out,
                      last ? d.out_branch : d.branch, last ? d.out_x : d.x);
        emit_mlp(&d, layer, last, flags.activation);
    }
    nb_emit_rmsnorm(p, m, -1, NB_OUTPUT_NORM, d.out_x, d.out_normed, (size_t)m->h.embd);
    nb_emit_matmul(p, m, -1, nb_model_weight(m, -1, NB_OUTPUT) >= 0 ? NB_OUTPUT : NB_TOKEN_EMBD, NB_ROLES, d.out_normed,
                   p->logits, false);
    if (m->h.output_softcap > 0) {
        nb_op softcap = op_of(NB_OP_SOFTCAP, -1, p->logits, -1, p->logits);
        softcap.scale = m->h.output_softcap;
        nb_emit_op(p, softcap);
    }
}
