/* granite: Granite 3 and 4, dense (IBM 2024): llama with factors on the embedding, what each branch adds, the scores and the
 * logits. */
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

nb_status nb_arch_read_granite(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    double embd = 0, residual = 0, logits = 0;
    NB_TRY(nb_arch_get_f64(g, "embedding_scale", false, &embd, err));
    NB_TRY(nb_arch_get_f64(g, "residual_scale", false, &residual, err));
    NB_TRY(nb_arch_get_f64(g, "logit_scale", true, &logits, err));
    if (!(logits > 0))
        return nb_fail(err, NB_ERR_FORMAT, "%s: logit_scale is %g; logits are divided by it: it must be above 0",
                       nb_gguf_path(g), logits);
    h->embd_scale = embd != 0 ? (float)embd : 1; /* 0 stands for none */
    h->residual_scale = residual != 0 ? (float)residual : 1;
    h->logit_scale = (float)(1 / logits);
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_granite = {"granite", tensors, nb_arch_read_granite, build, 0};
