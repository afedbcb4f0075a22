/* falcon: Falcon (Almazrouei et al. 2023). Attention and MLP are added together. In the 7B and the 11B both read one norm's
 * result; the 40B and the 180B have two, and there attn_norm is the MLP's. No biases as a rule, exact GELU, a single key head
 * (7B) or a few. Falcon-RW has ALiBi instead of rotary positions, one branch after the other, biases and all heads. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_TENSOR(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER_OPTIONAL(NB_ATTN_NORM, "attn_norm_2.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_NORM_BIAS, "attn_norm_2.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_NORM_BIAS, "ffn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    h->activation = NB_GELU_ERF;
    h->parallel = true;
    h->rope.neox = true;
    h->alibi_rounded = true;
    NB_TRY(nb_arch_get_bool(g, "use_parallel_residual", &h->parallel, err));
    NB_TRY(nb_arch_get_alibi(g, h, err));
    if (h->alibi > 0)
        h->rope.dim = h->rope_local.dim = 0;
    return nb_arch_get_activation(g, &h->activation, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_falcon = {"falcon", tensors, read, build, NB_ARCH_LAYER_NORM};
