/* mistral3: Mistral Small 3.1 and 3.2, Ministral 3, Devstral (Mistral AI 2025): llama; in the newer ones scores grow with the position beyond
 * the length of the first training. */
#include "model/plan.h"

#include <math.h>

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_OPTIONAL(NB_ROPE_FREQS, "rope_freqs.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_OPTIONAL(NB_ROPE_FACTORS_SHORT, "rope_factors_short.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_OPTIONAL(NB_ROPE_FACTORS_LONG, "rope_factors_long.weight", NB_DIM_ROPE, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
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
    double temperature = 0;
    NB_TRY(nb_arch_get_f64(g, "attention.temperature_scale", false, &temperature, err));
    h->temperature = (float)temperature;
    h->temperature_length = (size_t)fmin(h->rope.original_context, (double)((int64_t)1 << 40));
    if (h->temperature != 0 && h->temperature_length == 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: rope.scaling.original_context_length must be 1 or more",
                       nb_gguf_path(g));
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_mistral3 = {"mistral3", tensors, read, build, 0};
