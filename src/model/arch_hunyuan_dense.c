/* hunyuan-dense: Hunyuan 0.5B to 7B, dense (Tencent 2025): llama with queries and keys normed head by head after they are rotated. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)g, (void)err;
    h->rope.neox = true;
    h->rope_first = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_hunyuan_dense = {"hunyuan-dense", tensors, read, build, 0};
