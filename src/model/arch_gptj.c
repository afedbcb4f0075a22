/* gptj: GPT-J (Wang & Komatsuzaki 2021). Attention and MLP read one norm's result and are added together; only the first values of
 * each head are rotated, neighbours as pairs; biases in the MLP and the head alone. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_TENSOR(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT_BIAS, "output.bias", NB_DIM_VOCAB, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->activation = NB_GELU_TANH;
    h->parallel = true;
    return nb_arch_get_activation(g, &h->activation, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_gptj = {"gptj", tensors, read, build, NB_ARCH_LAYER_NORM};
