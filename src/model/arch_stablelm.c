/* stablelm: StableLM 3B, Zephyr, StableLM 2 (Bellagente et al. 2024). LayerNorm, SiLU with a gate, a part of each head rotated.
 * The 12B has a norm for each head of queries and keys, and attention and MLP read one norm's result: it has no ffn_norm (its
 * key use_parallel_residual is true in files of others, too, and says nothing). */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_TENSOR(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_FUSED_QKV,
    NB_ATTENTION_ROWS,
    NB_LAYER_OPTIONAL(NB_ATTN_Q_BIAS, "attn_q.bias", NB_DIM_Q, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_K_BIAS, "attn_k.bias", NB_DIM_K, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_V_BIAS, "attn_v.bias", NB_DIM_V, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_K_HEAD, NB_DIM_HEADS),
    NB_LAYER_OPTIONAL(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K_HEAD, NB_DIM_KV_HEADS),
    NB_LAYER_OPTIONAL(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_NORM_BIAS, "ffn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)err;
    h->parallel = !nb_gguf_find_tensor(g, NB_STR("blk.0.ffn_norm.weight"));
    h->rope.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_stablelm = {"stablelm", tensors, read, build, NB_ARCH_LAYER_NORM};
