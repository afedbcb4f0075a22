/* phi2: Phi-1, 1.5 and 2 (Li et al. 2023). Attention and MLP read one norm's result and are added together; only the first
 * values of each head are rotated; GELU's tanh form, LayerNorm, biases everywhere, the head's included. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_TENSOR(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_OUTPUT_BIAS, "output.bias", NB_DIM_VOCAB, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_LAYER(NB_ATTN_Q, "attn_q.weight", NB_DIM_EMBD, NB_DIM_Q),
    NB_LAYER(NB_ATTN_K, "attn_k.weight", NB_DIM_EMBD, NB_DIM_K),
    NB_LAYER(NB_ATTN_V, "attn_v.weight", NB_DIM_EMBD, NB_DIM_V),
    NB_LAYER_OPTIONAL(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_Q_NORM_BIAS, "attn_q_norm.bias", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_K_NORM_BIAS, "attn_k_norm.bias", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_O, "attn_output.weight", NB_DIM_O, NB_DIM_EMBD),
    NB_ATTENTION_BIASES,
    NB_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)g, (void)err;
    h->activation = NB_GELU_TANH;
    h->parallel = true;
    h->rope.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_phi2 = {"phi2", tensors, read, build, NB_ARCH_LAYER_NORM};
