/* gemma3 (text): Gemma Team 2025. Five window layers to one global one, each kind with its own rotary base; norms before
 * and after attention and MLP, norms of queries and keys; embeddings scaled by sqrt(width). The converter has added 1 to
 * the norm weights. */
#include "model/plan.h"

#include <math.h>

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_LAYER(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_POST_NORM, "post_attention_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_GATED_MLP_ROWS,
    NB_LAYER(NB_FFN_POST_NORM, "post_ffw_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t window = 0;
    double local_base = 10000, softcap = 0;
    NB_TRY(nb_arch_get_i64(g, "attention.sliding_window", true, 1, INT32_MAX, &window, err));
    NB_TRY(nb_arch_get_window_pattern(g, 6, h, err));
    NB_TRY(nb_arch_get_f64(g, "rope.freq_base_swa", false, &local_base, err));
    NB_TRY(nb_arch_get_f64(g, "final_logit_softcapping", false, &softcap, err));
    if (local_base <= 1)
        return nb_fail(err, NB_ERR_FORMAT, "%s: rope.freq_base_swa is %g; it must be above 1", nb_gguf_path(g),
                       local_base);
    h->activation = NB_GELU_TANH;
    h->window = window;
    h->output_softcap = (float)softcap;
    h->embd_scale = sqrtf((float)h->embd);
    h->rope.neox = true;
    h->rope_local = (nb_rope){.dim = h->rope.dim, .neox = true, .base = local_base, .factor = 1};
    if (h->layers == 62 && h->embd >= h->heads) /* the 27B scales by width / heads, not by the head's size */
        h->attention_scale = 1 / sqrtf((float)(h->embd / h->heads));
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_gemma3 = {"gemma3", tensors, read, build, 0};
