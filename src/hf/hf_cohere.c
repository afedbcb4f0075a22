/* cohere: CohereForCausalLM (Command R, R+, Aya 23), in GGUF command-r. Rotary pairs are neighbours already. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"CohereForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    NB_HF_QKV_ROWS(NB_HF_BIAS_OPTIONAL),
    NB_HF_QK_NORM_ROWS(NB_HF_AS_IS, NB_HF_OPTIONAL),
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    NB_HF_MLP_ROWS,
    {"output_norm", "~norm", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("8192"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, ""},
    {"attention.layer_norm_epsilon", "layer_norm_eps", NB_HF_F32, "1e-5"},
    {"logit_scale", "logit_scale", NB_HF_F32, "0.0625"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, context = 8192;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    /* what they were trained for, where it is said */
    NB_TRY(nb_hf_config_u64(h, "model_max_length|max_position_embeddings", 1, UINT32_MAX, &context, err));
    nb_hf_put_u32(h, nb_hf_key(h, "context_length"), (uint32_t)context);
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    return nb_hf_rope(h, dim, 500000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
    nb_json_key(j, "use_qk_norm");
    nb_json_bool(j, nb_source_find_tensor(x->s, NB_STR("blk.0.attn_q_norm.weight")) != NULL);
}

const nb_hf_arch nb_hf_arch_cohere = {
    .gguf = "command-r",
    .classes = classes,
    .model_type = "cohere",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
