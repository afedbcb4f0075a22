/* opt: OPT, Zhang et al. 2022, and Galactica. Learned positions, ReLU, LayerNorm with biases. The 350M has its norms after
 * the sums, none at the end, and token vectors of half the model's width with a projection at either end. */
#include "model/plan.h"

static const nb_tensor_row tensors[] = {
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_TOKEN, NB_DIM_VOCAB),
    NB_OPTIONAL(NB_TOKEN_PROJ, "token_embd_proj_in.weight", NB_DIM_TOKEN, NB_DIM_EMBD),
    NB_TENSOR(NB_POSITION_EMBD, "position_embd.weight", NB_DIM_EMBD, NB_DIM_POSITIONS),
    NB_OPTIONAL(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT_NORM_BIAS, "output_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_OPTIONAL(NB_OUTPUT_PROJ, "output_proj.weight", NB_DIM_EMBD, NB_DIM_TOKEN),
    NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_TOKEN, NB_DIM_VOCAB),
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_NORM_BIAS, "attn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_ATTENTION_ROWS,
    NB_ATTENTION_BIASES,
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_FFN_NORM_BIAS, "ffn_norm.bias", NB_DIM_EMBD, NB_DIM_NONE),
    NB_MLP_ROWS,
    {0},
};

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t width = h->embd;
    nb_str activation = NB_STR("relu");
    NB_TRY(nb_arch_get_i64(g, "token_embedding_length", false, 1, 1 << 20, &width, err));
    NB_TRY(nb_arch_get_bool(g, "norm_first", &h->norm_first, err));
    NB_TRY(nb_arch_get_str(g, "activation", &activation, err));
    h->token_width = (int)width;
    if (nb_str_eqz(activation, "gelu"))
        h->activation = NB_GELU_ERF;
    else if (nb_str_eqz(activation, "relu"))
        h->activation = NB_RELU;
    else
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: opt.activation is \"%.*s\"; relu and gelu are known",
                       nb_gguf_path(g), NB_STR_ARG(activation));
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_opt = {"opt", tensors, read, build, NB_ARCH_LAYER_NORM | NB_ARCH_POSITIONS};
