/* qwen: Qwen 1 (Bai et al. 2023): llama with biases of queries, keys and values, which are in one matrix. The MLP is half as wide as
 * its files say. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,        NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,        NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES, NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,   {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    if (h->ff % 2 != 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: feed_forward_length is %d; it is twice the width of the MLP",
                       nb_gguf_path(g), h->ff);
    h->ff /= 2;
    h->rope.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_qwen = {"qwen", tensors, read, build, 0};
