/* baichuan: Baichuan and Baichuan2 (Yang et al. 2023): llama. The 13B of both, which are those of 40 layers, have ALiBi instead of
 * rotary positions. */
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
    (void)g;
    (void)err;
    if (h->layers == 40) {
        h->alibi = 8;
        h->rope = h->rope_local = (nb_rope){0};
    }
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_baichuan = {"baichuan", tensors, read, build, 0};
