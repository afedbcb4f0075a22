/* smollm3: SmolLM3 (Hugging Face 2025): llama without rotary positions in every fourth layer. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_ROPE_FREQS, "rope_freqs.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    NB_LAYER_OPTIONAL(NB_FFN_GATE_BIAS, "ffn_gate.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_UP_BIAS, "ffn_up.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_DOWN_BIAS, "ffn_down.bias", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t step = 4;
    NB_TRY(nb_arch_get_i64(g, "rope.skip_interval", false, 0, NB_LAYERS_MOST, &step, err));
    h->rope_skip = (int)step;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_smollm3 = {"smollm3", tensors, read, build, 0};
