/* nomic-bert: Nomic Embed (Nussbaum et al. 2024). BERT with rotary positions and a gated MLP; queries, keys and values in one
 * matrix; no biases but those of the norms, which come after the sums. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_TOKEN_TYPES, "token_types.weight", NB_DIM_EMBD, NB_DIM_ANY),
    NB_TENSOR(NB_EMBD_NORM, "token_embd_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_TENSOR(NB_EMBD_NORM_BIAS, "token_embd_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_LAYER_OPTIONAL(NB_ATTN_O_BIAS, "attn_output.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    NB_LAYER_OPTIONAL(NB_FFN_GATE_BIAS, "ffn_gate.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_UP_BIAS, "ffn_up.bias", NB_DIM_FF, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_DOWN_BIAS, "ffn_down.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "layer_output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM_BIAS, "layer_output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)g, (void)err;
    h->activation = NB_SILU;
    h->norm_first = false;
    h->rope.neox = h->rope_local.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){.headless = true}); }

const nb_arch nb_arch_nomic_bert = {"nomic-bert", tensors, read, build, NB_ARCH_LAYER_NORM | NB_ARCH_BIDIRECTIONAL};
