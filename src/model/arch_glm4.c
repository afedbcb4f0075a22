/* glm4: GLM-4-0414 (GLM Team 2025): chatglm with norms after attention and MLP, too. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_ATTN_POST_NORM, "post_attention_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_GATE_UP,
    NB_GATED_MLP_ROWS,
    NB_LAYER(NB_FFN_POST_NORM, "post_ffw_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_glm4 = {"glm4", tensors, NULL, build, 0};
