/* phi3: Phi-3, 3.5 and 4 (Abdin et al. 2024): llama with q, k and v in one tensor, gate and up in another, a window in some
 * and long contexts by factors for each frequency. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_ROPE_FACTORS_SHORT, "rope_factors_short.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_OPTIONAL(NB_ROPE_FACTORS_LONG, "rope_factors_long.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_GATE_UP,
    NB_GATED_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)g, (void)err;
    h->rope.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_phi3 = {"phi3", tensors, read, build, 0};
