/* olmoe: OLMoE (Muennighoff et al. 2024). Experts in every layer, whose weights are not scaled to a sum of 1; queries and keys
 * normed across their heads. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_EXPERTS,
    NB_DENSE(NB_FFN_GATE, "ffn_gate.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->rope.neox = true;
    h->expert_norm = false;
    h->clamp_normed = true;
    return nb_arch_get_clamp(g, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_olmoe = {"olmoe", tensors, read, build, NB_ARCH_EXPERTS};
