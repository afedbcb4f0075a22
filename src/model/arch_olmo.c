/* olmo: OLMo 1 (Groeneveld et al. 2024). LayerNorm without weights, an MLP with a gate, rotary positions, no biases; queries, keys
 * and values cut to a range in the 7B. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_GATED_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->bare_norms = true;
    return nb_arch_get_clamp(g, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_olmo = {"olmo", tensors, read, build, NB_ARCH_LAYER_NORM};
