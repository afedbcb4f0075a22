/* chatglm: GlmForCausalLM (GLM-4 9B as transformers has it), and the models' own class and names, ChatGLMModel (ChatGLM 2 and 3,
 * GLM-4 9B, CodeGeeX4). Rotary pairs are side by side already. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GlmForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    NB_HF_NORM_ROWS(0),
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.ffn_up", "~layers.%d.mlp.gate_up_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, 0},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("131072"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1.5625e-7"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    nb_hf_put_bool(h, "tokenizer.ggml.add_bos_token", false);
    return nb_hf_partial_rope(h, "partial_rotary_factor", 0.5, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
    nb_hf_put_partial_rope(x, j, "partial_rotary_factor");
}

const nb_hf_arch nb_hf_arch_chatglm = {
    .gguf = "chatglm",
    .classes = classes,
    .model_type = "glm",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};

static const char *const own_classes[] = {"ChatGLMModel", "ChatGLMForConditionalGeneration", NULL};
static const char *const own_prefixes[] = {"transformer.", NULL};

static const char *const own_ignored[] = {"rotary_pos_emb.", NULL};

static const nb_hf_tensor_row own_tensors[] = {
    {"token_embd", "~embedding.word_embeddings", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~encoder.layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_qkv", "~encoder.layers.%d.self_attention.query_key_value", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~encoder.layers.%d.self_attention.dense", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_norm", "~encoder.layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~encoder.layers.%d.mlp.dense_h_to_4h", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~encoder.layers.%d.mlp.dense_4h_to_h", NB_HF_AS_IS, 0},
    {"output_norm", "~encoder.final_layernorm", NB_HF_AS_IS, 0},
    {"output", "~output_layer", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row own_keys[] = {
    {"block_count", "num_layers", NB_HF_U32, NULL},
    {"context_length", "seq_length", NB_HF_U32, "2048"},
    {"embedding_length", "hidden_size", NB_HF_U32, NULL},
    {"feed_forward_length", "ffn_hidden_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.key_length", "kv_channels", NB_HF_U32, "128"},
    {"attention.value_length", "kv_channels", NB_HF_U32, "128"},
    {"attention.layer_norm_rms_epsilon", "layernorm_epsilon", NB_HF_F32, "1e-5"},
    {0},
};

/* the base is 10000 times rope_ratio; half of each head turns */
static nb_status configure_own(nb_hf *h, nb_error *err)
{
    uint64_t dim = 128, heads = 1;
    double ratio = 1;
    NB_TRY(nb_hf_config_u64(h, "kv_channels", 4, 1024, &dim, err));
    NB_TRY(nb_hf_config_u64(h, "num_attention_heads", 1, UINT32_MAX, &heads, err));
    if (nb_hf_config_flag(h, "multi_query_attention", false))
        NB_TRY(nb_hf_config_u64(h, "multi_query_group_num", 1, UINT32_MAX, &heads, err));
    NB_TRY(nb_hf_config_f64(h, "rope_ratio", &ratio, err));
    if (!nb_hf_config_flag(h, "rmsnorm", true) || !nb_hf_config_flag(h, "post_layer_norm", true) ||
        nb_hf_config_flag(h, "apply_residual_connection_post_layernorm", false))
        return nb_tree_bad(&h->config, NULL, err, NB_ERR_UNSUPPORTED,
                           "asks for other norms than released models have; they have \"rmsnorm\" and "
                           "\"post_layer_norm\" true, \"apply_residual_connection_post_layernorm\" false");
    nb_hf_put_u32(h, nb_hf_key(h, "attention.head_count_kv"), (uint32_t)heads);
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)(dim / 2));
    nb_hf_put_f32(h, nb_hf_key(h, "rope.freq_base"), 10000 * ratio);
    nb_hf_put_bool(h, "tokenizer.ggml.add_bos_token", false);
    return NB_OK;
}

const nb_hf_arch nb_hf_arch_chatglm_own = {
    .gguf = "chatglm",
    .classes = own_classes,
    .model_type = "chatglm",
    .prefixes = own_prefixes,
    .tensors = own_tensors,
    .keys = own_keys,
    .ignored = own_ignored,
    .configure = configure_own,
};
