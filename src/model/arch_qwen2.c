/* qwen2: Qwen 2 and 2.5 (Yang et al. 2024): llama with biases on Q, K and V and rotary pairs (i, i + dim/2). */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_LAYER(NB_ATTN_Q_BIAS, "attn_q.bias", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_K_BIAS, "attn_k.bias", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_V_BIAS, "attn_v.bias", NB_DIM_V, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->rope.neox = true;
    return nb_arch_get_window_pattern(g, 0, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_qwen2 = {"qwen2", tensors, read, build, 0};
