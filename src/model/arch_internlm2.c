/* internlm2: InternLM 2 and 2.5 (Cai et al. 2024): llama; its checkpoints keep each key head's queries, key and value together. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_OPTIONAL(NB_ROPE_FREQS, "rope_freqs.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    {0},
};

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_internlm2 = {"internlm2", tensors, NULL, build, 0};
