/* phi2: PhiForCausalLM (Phi 1, 1.5, 2). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"PhiForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embed_tokens", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_q_norm", "~layers.%d.self_attn.q_layernorm", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS},
    {"blk.%d.attn_k_norm", "~layers.%d.self_attn.k_layernorm", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS},
    {"blk.%d.attn_output", "~layers.%d.self_attn.dense", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~layers.%d.mlp.fc1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~layers.%d.mlp.fc2", NB_HF_AS_IS, NB_HF_BIAS},
    {"output_norm", "~final_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_BIAS},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size|n_inner", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_eps|layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t heads = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "gelu_new|gelu_pytorch_tanh", err));
    NB_TRY(nb_hf_config_u64(h, "num_attention_heads", 1, UINT32_MAX, &heads, err));
    NB_TRY(nb_hf_config_u64(h, "num_key_value_heads", 1, UINT32_MAX, &heads, err));
    nb_hf_put_u32(h, nb_hf_key(h, "attention.head_count_kv"), (uint32_t)heads);
    nb_hf_put_bool(h, "tokenizer.ggml.add_bos_token", false);
    return nb_hf_partial_rope(h, "partial_rotary_factor", 0.5, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "gelu_new");
    nb_json_put_uint(j, "num_key_value_heads", x->kv_heads);
    nb_hf_put_partial_rope(x, j, "partial_rotary_factor");
    nb_hf_put_flag(j, "qk_layernorm", nb_hf_export_tensor(x, "blk.%d.attn_q_norm", 0) != NULL);
}

const nb_hf_arch nb_hf_arch_phi2 = {
    .gguf = "phi2",
    .classes = classes,
    .model_type = "phi",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
