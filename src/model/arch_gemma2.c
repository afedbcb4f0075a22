/* gemma2: Gemma 2 (Gemma Team 2024). A window in every other layer, soft caps on scores and logits, norms before and after
 * attention and MLP. The converter has added 1 to the norm weights. */
#include "model/plan.h"

#include <math.h>

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_LAYER(NB_ATTN_POST_NORM, "post_attention_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    NB_LAYER(NB_FFN_POST_NORM, "post_ffw_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t window = 4096;
    double scores = 50, logits = 30;
    NB_TRY(nb_arch_get_i64(g, "attention.sliding_window", false, 1, INT32_MAX, &window, err));
    NB_TRY(nb_arch_get_window_pattern(g, 2, h, err));
    NB_TRY(nb_arch_get_f64(g, "attn_logit_softcapping", false, &scores, err));
    NB_TRY(nb_arch_get_f64(g, "final_logit_softcapping", false, &logits, err));
    h->activation = NB_GELU_TANH;
    h->window = window;
    h->attention_softcap = (float)scores;
    h->output_softcap = (float)logits;
    h->embd_scale = sqrtf((float)h->embd);
    h->rope.neox = true;
    if (h->layers == 46 && h->embd >= h->heads) /* the 27B scales by width / heads, not by the head's size */
        h->attention_scale = 1 / sqrtf((float)(h->embd / h->heads));
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_gemma2 = {"gemma2", tensors, read, build, 0};
