/* gpt-oss: OpenAI's models with experts (2025): heads with sinks, every other layer with a window, YaRN, biases everywhere, and
 * a softmax over the chosen experts' logits. Its YaRN does not round, which files may leave unsaid. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER_OPTIONAL(NB_ATTN_SINKS, "attn_sinks.weight", NB_DIM_HEADS, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "post_attention_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_ROUTER, "ffn_gate_inp.weight", NB_DIM_EMBD, NB_DIM_EXPERTS), /* all layers have experts */
    NB_EXPERTS,
    NB_EXPERT_BIASES,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    bool rounded = false;
    NB_TRY(nb_arch_get_bool(g, "rope.scaling.yarn_truncate", &rounded, err));
    h->activation = NB_CLAMPED_SWIGLU;
    h->expert_gating = NB_GATING_SOFTMAX_CHOSEN;
    h->expert_norm = false; /* their sum is 1 */
    h->rope.neox = true;
    h->rope.yarn_exact = !rounded;
    h->rope_local = h->rope;
    return nb_arch_get_window_pattern(g, 2, h, err);
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_gpt_oss = {"gpt-oss", tensors, read, build, NB_ARCH_EXPERTS};
