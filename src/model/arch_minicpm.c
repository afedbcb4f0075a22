/* minicpm: MiniCPM 1, 2 and 4, dense (Hu et al. 2024): llama with factors on the embedding, what each branch adds, and the logits. Older
 * files do not have them: they are of the 2B, whose factors these are. */
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
    double embd = 12, residual = 1.4 / sqrt((double)h->layers), logits = (double)h->embd / 256;
    NB_TRY(nb_arch_get_f64(g, "embedding_scale", false, &embd, err));
    NB_TRY(nb_arch_get_f64(g, "residual_scale", false, &residual, err));
    NB_TRY(nb_arch_get_f64(g, "logit_scale", false, &logits, err));
    if (!(logits > 0))
        return nb_fail(err, NB_ERR_FORMAT, "%s: logit_scale is %g; logits are divided by it: it must be above 0",
                       nb_gguf_path(g), logits);
    h->embd_scale = (float)embd;
    h->residual_scale = (float)residual;
    h->logit_scale = (float)(1 / logits);
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_minicpm = {"minicpm", tensors, read, build, 0};
