/* exaone4: EXAONE 4 (LG AI Research 2025). Norms come after attention and MLP only, queries and keys are normed head by head.
 * The 32B has a window in three layers of four, and no rotary positions in the others; the 1.2B has neither. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_OPTIONAL(NB_ROPE_FREQS, "rope_freqs.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_LAYER(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_POST_NORM, "post_attention_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    NB_LAYER(NB_FFN_POST_NORM, "post_ffw_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->rope.neox = true;
    h->rope_local = h->rope;
    h->rope_window_only = h->window > 0;
    return nb_arch_get_window_pattern(g, 4, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_exaone4 = {"exaone4", tensors, read, build, 0};
