/* granitemoe: Granite 3 with experts (IBM 2024), and one that all tokens pass where a file has it. */
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
    NB_EXPERTS,
    NB_SHARED_EXPERT(NB_TENSOR_OPTIONAL),
    NB_DENSE(NB_FFN_GATE, "ffn_gate.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD),
    {0},
};

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_granitemoe = {"granitemoe", tensors, nb_arch_read_granite, build, NB_ARCH_EXPERTS};
