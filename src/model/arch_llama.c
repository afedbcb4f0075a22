/* llama: Llama 1 to 3.x, Code Llama, SmolLM, TinyLlama, Yi, Solar, Mistral (its window kept in the file), Mixtral.
 * Touvron et al. 2023. Rotary pairs are (2i, 2i + 1): the converter permutes the rows of wq and wk. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_ROPE_FREQS, "rope_freqs.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_OPTIONAL(NB_ROPE_FACTORS_SHORT, "rope_factors_short.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_OPTIONAL(NB_ROPE_FACTORS_LONG, "rope_factors_long.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_EXPERTS,
    NB_DENSE(NB_FFN_GATE, "ffn_gate.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD),
    NB_LAYER_OPTIONAL(NB_FFN_GATE_BIAS, "ffn_gate.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_UP_BIAS, "ffn_up.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_DOWN_BIAS, "ffn_down.bias", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    return nb_arch_get_window_pattern(g, 0, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_llama = {"llama", tensors, read, build, NB_ARCH_EXPERTS};
