/* The transformer's block, written once for all families; what a family adds shows in its tensors and hyperparameters. */
#include "model/plan.h"

#include <math.h>

typedef struct rows { /* buffers that exist twice: a row a token, and a row a wanted output */
    int x, normed, heads, values, branch, gate, up, token;
    int router, shared_gate, shared_up, shared, shared_router; /* of layers with experts */
} rows;

typedef struct transformer {
    const nb_model_def *m;
    nb_plan *p;
    nb_block_flags flags;
    rows all, wanted;
    int q, k, v;
    int q_low, q_made, k_rope; /* of latent attention */
} transformer;

static bool has(const transformer *t, int layer, nb_role role) { return nb_model_weight(t->m, layer, role) >= 0; }

static bool has_norm(const transformer *t, int layer, nb_role role)
{
    return t->m->h.bare_norms || has(t, layer, role);
}

static nb_op op_of(nb_op_kind kind, int layer, int in, int in2, int out) /* without weights */
{
    return (nb_op){.kind = kind, .layer = layer, .in = in, .in2 = in2, .out = out, .weight = -1, .bias = -1};
}

static void emit_norm(transformer *t, int layer, nb_role weight, nb_role bias, int in, int out)
{
    nb_emit_norm(t->p, t->m, layer, weight, bias, in, out, (size_t)t->m->h.embd);
}

/* of queries or keys: a weight for each value of a head, of all heads, or of each head its own */
static void emit_head_norm(transformer *t, int layer, nb_role weight, nb_role bias, int buffer)
{
    if (has(t, layer, weight))
        nb_emit_norm(t->p, t->m, layer, weight, bias, buffer, buffer,
                     t->m->weights[nb_model_weight(t->m, layer, weight)].tensor->dims[0]);
}

static void emit_head_norms(transformer *t, int layer)
{
    emit_head_norm(t, layer, NB_ATTN_Q_NORM, NB_ATTN_Q_NORM_BIAS, t->q);
    emit_head_norm(t, layer, NB_ATTN_K_NORM, NB_ATTN_K_NORM_BIAS, t->k);
}

static void emit_temperature(transformer *t, int layer)
{
    nb_op op = op_of(NB_OP_TEMPERATURE, layer, t->q, -1, t->q);
    op.scale = t->m->h.temperature;
    op.group = t->m->h.temperature_length;
    nb_emit_op(t->p, op);
}

static void emit_clamps(transformer *t, int layer)
{
    const int buffers[] = {t->q, t->k, t->v};
    for (int i = 0; t->m->h.qkv_clamp > 0 && i < 3; i++) {
        nb_op clamp = op_of(NB_OP_CLAMP, layer, buffers[i], -1, buffers[i]);
        clamp.scale = t->m->h.qkv_clamp;
        nb_emit_op(t->p, clamp);
    }
}

/* of a head's matrices; keys: those of its keys, else of its values */
static nb_op latent_op(transformer *t, int layer, bool keys, int in, int out)
{
    const nb_hparams *h = &t->m->h;
    size_t latent = (size_t)h->latent, plain = (size_t)h->key_plain, value = (size_t)h->head_value;
    nb_op op = op_of(keys ? NB_OP_LATENT_QUERY : NB_OP_LATENT_VALUE, layer, in, -1, out);
    op.weight = nb_model_weight(t->m, layer, keys ? NB_ATTN_K_B : NB_ATTN_V_B);
    op.latent = (nb_op_latent){.latent = latent,
                               .plain = keys ? plain : value,
                               .rotated = h->rope.dim,
                               .stride = keys ? latent : value,
                               .turned = keys};
    if (op.weight < 0) { /* both in one */
        op.weight = nb_model_weight(t->m, layer, NB_ATTN_KV_B);
        op.latent.stride = plain + value;
        op.latent.first = keys ? 0 : plain;
        op.latent.turned = false;
    }
    return op;
}

/* The norms of latents have an epsilon of their own. */
static void emit_latent_norm(transformer *t, int layer, nb_role weight, int buffer, int width)
{
    nb_emit_norm(t->p, t->m, layer, weight, NB_ROLES, buffer, buffer, (size_t)width);
    if (!t->p->failed)
        t->p->ops[t->p->op_count - 1].scale = 1e-6f;
}

/* Queries and keys of latent attention (DeepSeek-V2, section 2.1): what all heads share is kept, [part that turns, latent], and a
 * head's own matrix is applied to its query instead of to all keys. */
static void emit_latents(transformer *t, int layer, int in)
{
    int source = in;
    if (t->m->h.q_rank) {
        nb_emit_matmul(t->p, t->m, layer, NB_ATTN_Q_A, NB_ROLES, in, t->q_low, false);
        emit_latent_norm(t, layer, NB_ATTN_Q_A_NORM, t->q_low, t->m->h.q_rank);
        source = t->q_low;
    }
    nb_emit_matmul(t->p, t->m, layer, NB_ATTN_Q, NB_ROLES, source, t->q_made, false);
    nb_emit_matmul(t->p, t->m, layer, NB_ATTN_LATENT, NB_ROLES, in, t->v, false);
    nb_emit_matmul(t->p, t->m, layer, NB_ATTN_LATENT_ROPE, NB_ROLES, in, t->k_rope, false);
    emit_latent_norm(t, layer, NB_ATTN_LATENT_NORM, t->v, t->m->h.latent);
    nb_emit_op(t->p, op_of(NB_OP_JOIN, layer, t->k_rope, t->v, t->k));
    nb_emit_op(t->p, latent_op(t, layer, true, t->q_made, t->q));
}

static void emit_queries(transformer *t, int layer, int in)
{
    nb_emit_matmul(t->p, t->m, layer, NB_ATTN_Q, NB_ATTN_Q_BIAS, in, t->q, false);
    nb_emit_matmul(t->p, t->m, layer, NB_ATTN_K, NB_ATTN_K_BIAS, in, t->k, false);
    nb_emit_matmul(t->p, t->m, layer, NB_ATTN_V, NB_ATTN_V_BIAS, in, t->v, false);
}

/* Keys are kept without what they all share, unless something beside them in the softmax would notice. */
static void emit_unbias(transformer *t, int layer)
{
    const nb_hparams *h = &t->m->h;
    if (!has(t, layer, NB_ATTN_K_BIAS) || has(t, layer, NB_ATTN_K_NORM) || has(t, layer, NB_ATTN_SINKS) || h->latent ||
        h->attention_softcap > 0 || h->qkv_clamp > 0 || nb_rope_varies(nb_model_layer_rope(t->m, layer)))
        return;
    nb_op op = op_of(NB_OP_UNBIAS, layer, t->k, -1, t->k);
    op.bias = nb_model_weight(t->m, layer, NB_ATTN_K_BIAS);
    nb_emit_op(t->p, op);
}

/* t->all.heads = attention of `in` */
static void emit_attention(transformer *t, int layer, int in)
{
    size_t head = (size_t)t->m->h.k_dim;
    if (t->m->h.latent)
        emit_latents(t, layer, in);
    else
        emit_queries(t, layer, in);
    if (!t->m->h.clamp_normed)
        emit_clamps(t, layer);
    if (!t->m->h.rope_first)
        emit_head_norms(t, layer);
    if (t->m->h.clamp_normed)
        emit_clamps(t, layer);
    if (nb_model_layer_rotates(t->m, layer)) {
        nb_emit_rope(t->p, t->m, layer, t->q, head);
        nb_emit_rope(t->p, t->m, layer, t->k, head);
    }
    if (t->m->h.rope_first)
        emit_head_norms(t, layer);
    if (t->m->h.temperature != 0)
        emit_temperature(t, layer);
    emit_unbias(t, layer);
    nb_emit_op(t->p, op_of(NB_OP_KV_STORE, layer, t->k, t->v, -1));
    nb_op attention = op_of(NB_OP_ATTENTION, layer, t->q, -1, t->all.heads);
    attention.weight = nb_model_weight(t->m, layer, NB_ATTN_SINKS);
    nb_emit_op(t->p, attention);
}

/* x += scale * branch */
static void emit_add(transformer *t, int layer, float scale, const rows *r)
{
    nb_op add = op_of(NB_OP_ADD, layer, r->x, r->branch, r->x);
    add.scale = scale;
    nb_emit_op(t->p, add);
}

/* x += scale * branch, through its norm where the family has one */
static void emit_branch(transformer *t, int layer, nb_role post_norm, const rows *r)
{
    if (has(t, layer, post_norm))
        emit_norm(t, layer, post_norm, NB_ROLES, r->branch, r->branch);
    emit_add(t, layer, t->m->h.residual_scale, r);
}

/* x += scale (weight in (+ bias)), through a norm of the branch where the family has one */
static void emit_residual(transformer *t, int layer, nb_role weight, nb_role bias, nb_role post_norm, int in,
                          const rows *r)
{
    bool post = has(t, layer, post_norm);
    if (!post && t->m->h.residual_scale == 1) {
        nb_emit_matmul(t->p, t->m, layer, weight, bias, in, r->x, true);
        return;
    }
    nb_emit_matmul(t->p, t->m, layer, weight, bias, in, r->branch, false);
    emit_branch(t, layer, post_norm, r);
}

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

/* the layer's own numbers */
static void set_xielu(const nb_hparams *h, int layer, float out[4])
{
    double p[4];
    for (int i = 0; i < 4; i++)
        p[i] = nb_gguf_elem_f64(h->xielu[i], h->xielu[i]->kind == NB_GGUF_ARRAY ? (size_t)layer : 0);
    out[0] = (float)softplus(p[0]);
    out[1] = (float)(p[2] + softplus(p[1]));
    out[2] = (float)p[2];
    out[3] = (float)p[3];
}

static void emit_activation(transformer *t, int layer, int in, int in2, int out)
{
    nb_op activation = op_of(NB_OP_GATED, layer, in, in2, out);
    activation.activation = t->m->h.activation;
    if (activation.activation == NB_XIELU)
        set_xielu(&t->m->h, layer, activation.xielu);
    nb_emit_op(t->p, activation);
}

/* branch += the expert that all tokens pass, as much of it as its own router says */
static void emit_shared_expert(transformer *t, int layer, int in, const rows *r)
{
    nb_emit_matmul(t->p, t->m, layer, NB_FFN_GATE_SHARED, NB_ROLES, in, r->shared_gate, false);
    nb_emit_matmul(t->p, t->m, layer, NB_FFN_UP_SHARED, NB_ROLES, in, r->shared_up, false);
    emit_activation(t, layer, r->shared_gate, r->shared_up, r->shared_gate);
    if (!has(t, layer, NB_FFN_SHARED_ROUTER)) {
        nb_emit_matmul(t->p, t->m, layer, NB_FFN_DOWN_SHARED, NB_ROLES, r->shared_gate, r->branch, true);
        return;
    }
    nb_emit_matmul(t->p, t->m, layer, NB_FFN_DOWN_SHARED, NB_ROLES, r->shared_gate, r->shared, false);
    nb_emit_matmul(t->p, t->m, layer, NB_FFN_SHARED_ROUTER, NB_ROLES, in, r->shared_router, false);
    nb_emit_op(t->p, op_of(NB_OP_ROW_GATE, layer, r->shared, r->shared_router, r->shared));
    nb_op add = op_of(NB_OP_ADD, layer, r->branch, r->shared, r->branch);
    add.scale = 1;
    nb_emit_op(t->p, add);
}

static void emit_experts(transformer *t, int layer, int in, const rows *r)
{
    nb_emit_matmul(t->p, t->m, layer, NB_FFN_ROUTER, NB_FFN_ROUTER_BIAS, in, r->router, false);
    nb_op experts = op_of(NB_OP_EXPERTS, layer, in, r->router, r->branch);
    experts.activation = t->m->h.activation;
    experts.experts = (nb_op_experts){nb_model_weight(t->m, layer, NB_FFN_GATE_EXPERTS),
                                      nb_model_weight(t->m, layer, NB_FFN_UP_EXPERTS),
                                      nb_model_weight(t->m, layer, NB_FFN_DOWN_EXPERTS),
                                      nb_model_weight(t->m, layer, NB_FFN_GATE_EXPERTS_BIAS),
                                      nb_model_weight(t->m, layer, NB_FFN_UP_EXPERTS_BIAS),
                                      nb_model_weight(t->m, layer, NB_FFN_DOWN_EXPERTS_BIAS),
                                      nb_model_weight(t->m, layer, NB_FFN_ROUTER_CHOICE)};
    nb_emit_op(t->p, experts);
    if (has(t, layer, NB_FFN_UP_SHARED))
        emit_shared_expert(t, layer, in, r);
    emit_branch(t, layer, NB_FFN_POST_NORM, r);
}

/* x += down (activation(gate in) * up in), or without a gate down (activation(up in)) */
static void emit_mlp(transformer *t, int layer, int in, const rows *r)
{
    if (has(t, layer, NB_FFN_ROUTER)) {
        emit_experts(t, layer, in, r);
        return;
    }
    bool gated = has(t, layer, NB_FFN_GATE);
    int middle = gated ? r->gate : r->up;
    if (gated)
        nb_emit_matmul(t->p, t->m, layer, NB_FFN_GATE, NB_FFN_GATE_BIAS, in, r->gate, false);
    nb_emit_matmul(t->p, t->m, layer, NB_FFN_UP, NB_FFN_UP_BIAS, in, r->up, false);
    emit_activation(t, layer, middle, gated ? r->up : -1, middle);
    emit_residual(t, layer, NB_FFN_DOWN, NB_FFN_DOWN_BIAS, NB_FFN_POST_NORM, middle, r);
}

static void emit_gather(transformer *t, int in, int out) { nb_emit_op(t->p, op_of(NB_OP_GATHER, -1, in, -1, out)); }

/* the buffer that a branch reads: the norm of x, or x itself where there is none before the branch */
static int emit_branch_norm(transformer *t, int layer, nb_role weight, nb_role bias, const rows *r)
{
    if (!t->m->h.norm_first || !has_norm(t, layer, weight))
        return r->x;
    emit_norm(t, layer, weight, bias, r->x, r->normed);
    return r->normed;
}

/* attention and MLP read the same norm of x: there is one for both */
static bool shares_norm(const transformer *t, int layer)
{
    int own = nb_model_weight(t->m, layer, NB_FFN_NORM), first = nb_model_weight(t->m, layer, NB_ATTN_NORM);
    bool same = own < 0 || (first >= 0 && t->m->weights[own].tensor == t->m->weights[first].tensor);
    return t->m->h.parallel && t->m->h.norm_first && same;
}

static void emit_layer(transformer *t, int layer)
{
    bool first = t->m->h.norm_first, parallel = t->m->h.parallel;
    bool shared = shares_norm(t, layer);
    rows *r = &t->all;
    int in = emit_branch_norm(t, layer, NB_ATTN_NORM, NB_ATTN_NORM_BIAS, r);
    emit_attention(t, layer, in);
    if (layer == t->m->h.layers - 1) { /* from here on only the wanted outputs matter */
        r = &t->wanted;
        emit_gather(t, t->all.x, r->x);
        emit_gather(t, t->all.heads, r->heads);
        if (shared)
            emit_gather(t, t->all.normed, r->normed);
    }
    in = shared ? r->normed : r->x;
    if (parallel && !shared)
        in = emit_branch_norm(t, layer, NB_FFN_NORM, NB_FFN_NORM_BIAS, r);
    if (t->m->h.latent)
        nb_emit_op(t->p, latent_op(t, layer, false, r->heads, r->values));
    emit_residual(t, layer, NB_ATTN_O, NB_ATTN_O_BIAS, NB_ATTN_POST_NORM, t->m->h.latent ? r->values : r->heads, r);
    if (!first)
        emit_norm(t, layer, NB_ATTN_NORM, NB_ATTN_NORM_BIAS, r->x, r->x);
    if (!parallel)
        in = emit_branch_norm(t, layer, NB_FFN_NORM, NB_FFN_NORM_BIAS, r);
    emit_mlp(t, layer, in, r);
    if (!first)
        emit_norm(t, layer, NB_FFN_NORM, NB_FFN_NORM_BIAS, r->x, r->x);
}

/* x += a row of a table, through the branch's buffer */
static void emit_embed_more(transformer *t, nb_role role, nb_embed_row row)
{
    if (!has(t, -1, role))
        return;
    nb_emit_embed(t->p, t->m, role, row, 1, t->all.branch);
    emit_add(t, -1, 1, &t->all);
}

static void emit_embedding(transformer *t)
{
    bool projected = has(t, -1, NB_TOKEN_PROJ);
    nb_emit_embed(t->p, t->m, NB_TOKEN_EMBD, NB_EMBED_TOKEN, t->m->h.embd_scale, projected ? t->all.token : t->all.x);
    if (projected)
        nb_emit_matmul(t->p, t->m, -1, NB_TOKEN_PROJ, NB_ROLES, t->all.token, t->all.x, false);
    emit_embed_more(t, NB_TOKEN_TYPES, NB_EMBED_TYPE);
    emit_embed_more(t, NB_POSITION_EMBD, NB_EMBED_POSITION);
    if (has(t, -1, NB_EMBD_NORM))
        emit_norm(t, -1, NB_EMBD_NORM, NB_EMBD_NORM_BIAS, t->all.x, t->all.x);
}

static void emit_end(transformer *t)
{
    nb_plan *p = t->p;
    p->hidden = t->wanted.x;
    if (has_norm(t, -1, NB_OUTPUT_NORM)) {
        emit_norm(t, -1, NB_OUTPUT_NORM, NB_OUTPUT_NORM_BIAS, t->wanted.x, t->wanted.normed);
        p->hidden = t->wanted.normed;
    }
    if (has(t, -1, NB_OUTPUT_PROJ)) {
        nb_emit_matmul(p, t->m, -1, NB_OUTPUT_PROJ, NB_ROLES, p->hidden, t->wanted.token, false);
        p->hidden = t->wanted.token;
    }
    p->hidden_ops = p->op_count;
    if (t->flags.headless)
        return;
    p->logits = nb_plan_buffer_new(p, "logits", t->m->h.vocab, true);
    nb_emit_matmul(p, t->m, -1, has(t, -1, NB_OUTPUT) ? NB_OUTPUT : NB_TOKEN_EMBD, NB_OUTPUT_BIAS, p->hidden, p->logits,
                   false);
    if (t->m->h.logit_scale != 1) {
        nb_op scale = op_of(NB_OP_SCALE, -1, p->logits, -1, p->logits);
        scale.scale = t->m->h.logit_scale;
        nb_emit_op(p, scale);
    }
    if (t->m->h.output_softcap > 0) {
        nb_op softcap = op_of(NB_OP_SOFTCAP, -1, p->logits, -1, p->logits);
        softcap.scale = t->m->h.output_softcap;
        nb_emit_op(p, softcap);
    }
}

static rows make_rows(const transformer *t, bool wanted)
{
    const nb_hparams *h = &t->m->h;
    size_t embd = (size_t)h->embd, ff = (size_t)h->ff, heads = (size_t)h->heads * (size_t)h->v_dim;
    size_t shared = (size_t)h->shared_ff;
    return (rows){.x = nb_plan_buffer_new(t->p, wanted ? "out_x" : "x", embd, wanted),
                  .normed = nb_plan_buffer_new(t->p, wanted ? "out_normed" : "normed", embd, wanted),
                  .heads = nb_plan_buffer_new(t->p, wanted ? "out_heads" : "heads", heads, wanted),
                  .values = nb_plan_buffer_new(t->p, wanted ? "out_values" : "values",
                                               (size_t)nb_model_dim(t->m, NB_DIM_HEADS_VALUE), wanted),
                  .branch = nb_plan_buffer_new(t->p, wanted ? "out_branch" : "branch", embd, wanted),
                  .gate = nb_plan_buffer_new(t->p, wanted ? "out_gate" : "gate", ff, wanted),
                  .up = nb_plan_buffer_new(t->p, wanted ? "out_up" : "up", ff, wanted),
                  .token = nb_plan_buffer_new(t->p, wanted ? "out_token" : "token", (size_t)h->token_width, wanted),
                  .router = nb_plan_buffer_new(t->p, wanted ? "out_router" : "router", (size_t)h->experts, wanted),
                  .shared_gate = nb_plan_buffer_new(t->p, wanted ? "out_shared_gate" : "shared_gate", shared, wanted),
                  .shared_up = nb_plan_buffer_new(t->p, wanted ? "out_shared_up" : "shared_up", shared, wanted),
                  .shared = nb_plan_buffer_new(t->p, wanted ? "out_shared" : "shared", embd, wanted),
                  .shared_router = nb_plan_buffer_new(t->p, wanted ? "out_shared_router" : "shared_router", 1, wanted)};
}

void nb_build_transformer(const nb_model_def *m, nb_plan *p, nb_block_flags flags)
{
    const nb_hparams *h = &m->h;
    transformer t = {.m = m, .p = p, .flags = flags};
    t.all = make_rows(&t, false);
    t.wanted = make_rows(&t, true);
    t.q = nb_plan_buffer_new(p, "q", (size_t)h->heads * (size_t)h->k_dim, false);
    t.k = nb_plan_buffer_new(p, "k", (size_t)h->kv_heads * (size_t)h->k_dim, false);
    t.v = nb_plan_buffer_new(p, "v", (size_t)h->kv_heads * (size_t)h->v_dim, false);
    t.q_low = nb_plan_buffer_new(p, "q_low", (size_t)h->q_rank, false);
    t.q_made = nb_plan_buffer_new(p, "q_made", h->latent ? (size_t)nb_model_dim(m, NB_DIM_HEADS_KEY) : 0, false);
    t.k_rope = nb_plan_buffer_new(p, "k_rope", h->latent ? h->rope.dim : 0, false);
    emit_embedding(&t);
    for (int layer = 0; layer < h->layers; layer++)
        emit_layer(&t, layer);
    emit_end(&t);
}
