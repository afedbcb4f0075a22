/* xverse: XVERSE 7B, 13B and 65B, dense (2023): llama. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,        NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,        NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES, NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,   {0},
};

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_xverse = {"xverse", tensors, NULL, build, 0};
