/* olmo2: OLMo 2 and 3 (OLMo team 2024, 2025). Norms come after attention and MLP only; queries and keys are normed
 * across all heads. The third has a window in three layers of four, and scales rotary positions in the others alone.
 * */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_POST_NORM, "post_attention_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    NB_LAYER(NB_FFN_POST_NORM, "post_ffw_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    double local_base = h->rope.base;
    NB_TRY(nb_arch_get_f64(g, "rope.freq_base_swa", false, &local_base, err));
    if (local_base <= 1)
        return nb_fail(err, NB_ERR_FORMAT, "%s: rope.freq_base_swa is %g; it must be above 1", nb_gguf_path(g),
                       local_base);
    h->rope.neox = true;
    h->rope_local = (nb_rope){.dim = h->rope.dim, .neox = true, .base = local_base, .factor = 1};
    return nb_arch_get_window_pattern(g, 4, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_olmo2 = {"olmo2", tensors, read, build, 0};
