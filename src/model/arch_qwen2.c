/* qwen2: Qwen 2 and 2.5 (Yang et al. 2024): llama with biases on Q, K and V and rotary pairs (i, i + dim/2). */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    {NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB, 0},
    {NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE, 0},
    {NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB, NB_TENSOR_OPTIONAL},
    {NB_ATTN_NORM, "blk.%d.attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE, NB_TENSOR_LAYER},
    {NB_ATTN_Q, "blk.%d.attn_q.weight", NB_DIM_EMBD, NB_DIM_Q, NB_TENSOR_LAYER},
    {NB_ATTN_K, "blk.%d.attn_k.weight", NB_DIM_EMBD, NB_DIM_K, NB_TENSOR_LAYER},
    {NB_ATTN_V, "blk.%d.attn_v.weight", NB_DIM_EMBD, NB_DIM_V, NB_TENSOR_LAYER},
    {NB_ATTN_O, "blk.%d.attn_output.weight", NB_DIM_O, NB_DIM_EMBD, NB_TENSOR_LAYER},
    {NB_ATTN_Q_BIAS, "blk.%d.attn_q.bias", NB_DIM_Q, NB_DIM_NONE, NB_TENSOR_LAYER},
    {NB_ATTN_K_BIAS, "blk.%d.attn_k.bias", NB_DIM_K, NB_DIM_NONE, NB_TENSOR_LAYER},
    {NB_ATTN_V_BIAS, "blk.%d.attn_v.bias", NB_DIM_V, NB_DIM_NONE, NB_TENSOR_LAYER},
    {NB_FFN_NORM, "blk.%d.ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE, NB_TENSOR_LAYER},
    {NB_FFN_GATE, "blk.%d.ffn_gate.weight", NB_DIM_EMBD, NB_DIM_FF, NB_TENSOR_LAYER},
    {NB_FFN_UP, "blk.%d.ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF, NB_TENSOR_LAYER},
    {NB_FFN_DOWN, "blk.%d.ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD, NB_TENSOR_LAYER},
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    (void)g, (void)err;
    h->rope.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p)
{
    nb_build_decoder(m, p, (nb_block_flags){.activation = NB_SILU});
}

const nb_arch nb_arch_qwen2 = {"qwen2", tensors, read, build};
