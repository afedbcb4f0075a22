/* gemma: Gemma 1 and Code Gemma (Gemma Team 2024): heads of a size of their own, GELU, embeddings scaled by sqrt(width). The
 * converter has added 1 to the norm weights. */
#include "model/plan.h"

#include <math.h>

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)g, (void)err;
    h->activation = NB_GELU_TANH;
    h->embd_scale = sqrtf((float)h->embd);
    h->rope.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_gemma = {"gemma", tensors, read, build, 0};
