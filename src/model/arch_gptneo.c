/* gptneo: GPT-Neo (Black et al. 2021): gpt2 with a window in every other layer and scores that are not scaled. llama.cpp has no name
 * for it: docs/gguf-keys.md. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_TENSOR(NB_POSITION_EMBD, "position_embd.weight", NB_DIM_EMBD, NB_DIM_POSITIONS),
    NB_TENSOR(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM_BIAS, "ffn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->activation = NB_GELU_TANH;
    h->attention_scale = 1;
    NB_TRY(nb_arch_get_activation(g, &h->activation, err));
    return nb_arch_get_window_pattern(g, 0, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_gptneo = {"gptneo", tensors, read, build, NB_ARCH_LAYER_NORM | NB_ARCH_POSITIONS};
