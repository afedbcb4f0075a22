/* cohere2: Command R7B, Command A, Aya Expanse's successors (Cohere 2025). As command-r, with a window in three
 * layers of four; the others see everything and have no rotary positions. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_GATED_MLP_ROWS,
    NB_LAYER_OPTIONAL(NB_FFN_GATE_BIAS, "ffn_gate.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_UP_BIAS, "ffn_up.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_DOWN_BIAS, "ffn_down.bias", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    double logits = 0;
    NB_TRY(nb_arch_get_f64(g, "logit_scale", false, &logits, err));
    h->parallel = true;
    h->logit_scale = logits != 0 ? (float)logits : 1; /* 0 stands for none */
    h->rope_window_only = true;
    return nb_arch_get_window_pattern(g, 4, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_cohere2 = {"cohere2", tensors, read, build, NB_ARCH_LAYER_NORM};
