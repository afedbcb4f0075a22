/* gpt2: GPT-2 (Radford et al. 2019): learned positions, LayerNorm, q, k and v in one tensor, GELU's tanh form, biases
 * everywhere but in the head. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_POSITION_EMBD, "position_embd.weight", NB_DIM_EMBD, NB_DIM_POSITIONS),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_TENSOR(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_LAYER_OPTIONAL(NB_ATTN_Q_BIAS, "attn_q.bias", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_K_BIAS, "attn_k.bias", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_V_BIAS, "attn_v.bias", NB_DIM_V, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_O_BIAS, "attn_output.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM_BIAS, "ffn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_LAYER(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD),
    NB_LAYER(NB_FFN_UP_BIAS, "ffn_up.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER(NB_FFN_DOWN_BIAS, "ffn_down.bias", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)g, (void)err;
    h->activation = NB_GELU_TANH;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_gpt2 = {"gpt2", tensors, read, build, NB_ARCH_LAYER_NORM | NB_ARCH_POSITIONS};
