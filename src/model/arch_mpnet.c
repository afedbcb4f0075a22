/* mpnet: MPNet (Song et al. 2020; all-mpnet-base-v2). BERT's block; scores gain by the distance between two tokens, which is a table
 * of 32 ranges of distances that all layers share. There is no head: what it gives are embeddings. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_POSITION_EMBD, "position_embd.weight", NB_DIM_EMBD, NB_DIM_POSITIONS),
    NB_TENSOR(NB_EMBD_NORM, "token_embd_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_TENSOR(NB_EMBD_NORM_BIAS, "token_embd_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_TENSOR(NB_ATTN_RELATIVE, "attn_rel_b.weight", NB_DIM_HEADS, NB_DIM_RANGES),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_ATTN_NORM, "attn_output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_MLP_ROWS,
    NB_LAYER(NB_FFN_NORM, "layer_output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM_BIAS, "layer_output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->activation = NB_GELU_ERF;
    h->norm_first = false;
    return nb_arch_get_activation(g, &h->activation, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){.headless = true}); }

const nb_arch nb_arch_mpnet = {"mpnet", tensors, read, build,
                               NB_ARCH_LAYER_NORM | NB_ARCH_POSITIONS | NB_ARCH_BIDIRECTIONAL};
