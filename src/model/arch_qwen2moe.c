/* qwen2moe: Qwen 1.5 and 2 with experts (Yang et al. 2024): qwen2, of whose layers some or all have small experts and one
 * that all tokens pass. The weights of the chosen ones are not scaled to a sum of 1. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_LAYER_OPTIONAL(NB_ATTN_Q_BIAS, "attn_q.bias", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_K_BIAS, "attn_k.bias", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_V_BIAS, "attn_v.bias", NB_DIM_V, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_EXPERTS,
    NB_SHARED_EXPERT(0),
    NB_SPARSE(NB_FFN_SHARED_ROUTER, "ffn_gate_inp_shexp.weight", NB_DIM_EMBD, NB_DIM_ONE, 0),
    NB_DENSE(NB_FFN_GATE, "ffn_gate.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    if (h->experts && h->expert_ff == 0)
        h->expert_ff = h->ff / h->experts_used;
    if (h->shared_ff == 0)
        h->shared_ff = h->ff;
    h->expert_norm = false;
    h->rope.neox = true;
    return nb_arch_get_window_pattern(g, 0, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_qwen2moe = {"qwen2moe", tensors, read, build, NB_ARCH_EXPERTS};
