/* baichuan: Baichuan 7B and Baichuan2 7B (Yang et al. 2023): llama. The 13B, of 40 layers, has no rotary positions. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    if (h->layers == 40)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: Baichuan 13B (block_count 40) is not supported; the 7B is",
                       nb_gguf_path(g));
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_baichuan = {"baichuan", tensors, read, build, 0};
