/* mpt: MPT (MosaicML 2023). ALiBi, or learned positions; queries, keys and values in one tensor, cut to a range in some; no biases
 * as a rule, exact GELU, queries and keys normed across their heads in some. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_POSITION_EMBD, "position_embd.weight", NB_DIM_EMBD, NB_DIM_POSITIONS),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER_OPTIONAL(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_Q_NORM_BIAS, "attn_q_norm.bias", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_K_NORM_BIAS, "attn_k_norm.bias", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_NORM_BIAS, "ffn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->activation = NB_GELU_ERF;
    NB_TRY(nb_arch_get_alibi(g, h, err));
    NB_TRY(nb_arch_get_clamp(g, h, err));
    return nb_arch_get_activation(g, &h->activation, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_mpt = {"mpt", tensors, read, build, NB_ARCH_LAYER_NORM | NB_ARCH_POSITIONS};
