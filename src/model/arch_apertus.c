/* apertus: Apertus (Swiss AI 2025): llama with queries and keys normed head by head; its MLP has no gate and an activation whose
 * parameters each layer has learned (xIELU, Huang & Schlag 2024). */
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
    NB_LAYER(NB_ATTN_Q_NORM, "attn_q_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_ATTN_K_NORM, "attn_k_norm.weight", NB_DIM_K_HEAD, NB_DIM_NONE),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_MLP_ROWS,
    {0},
};

/* a number, or a list with one for each layer; `name` as it is, without the architecture */
static nb_status find_parameter(const nb_gguf *g, const char *name, const nb_hparams *h, const nb_gguf_value **out,
                                nb_error *err)
{
    const nb_gguf_value *v = nb_gguf_find(g, name);
    if (!v)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s is missing; architecture apertus needs it", nb_gguf_path(g), name);
    if ((v->element != NB_GGUF_F32 && v->element != NB_GGUF_F64) ||
        (v->kind == NB_GGUF_ARRAY && v->count < (size_t)h->layers))
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s is neither a number nor a list of one for each of %d layers",
                       nb_gguf_path(g), name, h->layers);
    *out = v;
    for (int i = 0; i < h->layers; i++)
        if (!isfinite(nb_gguf_elem_f64(v, v->kind == NB_GGUF_ARRAY ? (size_t)i : 0)))
            return nb_fail(err, NB_ERR_FORMAT, "%s: %s has a value that is not finite", nb_gguf_path(g), name);
    return NB_OK;
}

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    static const char *const names[] = {"xielu.alpha_p", "xielu.alpha_n", "xielu.beta", "xielu.eps"};
    for (int i = 0; i < 4; i++)
        NB_TRY(find_parameter(g, names[i], h, &h->xielu[i], err));
    h->activation = NB_XIELU;
    h->rope.neox = true;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_apertus = {"apertus", tensors, read, build, 0};
