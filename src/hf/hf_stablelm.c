/* stablelm: StableLmForCausalLM (StableLM 3B, Zephyr 3B, StableLM 2 1.6B and 12B). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"StableLmForCausalLM", "StableLMEpochForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    NB_HF_QKV_ROWS(NB_HF_BIAS_OPTIONAL),
    {"blk.%d.attn_q_norm", "~layers.%d.self_attn.q_layernorm.norms.%e", NB_HF_HEADS, NB_HF_OPTIONAL},
    {"blk.%d.attn_k_norm", "~layers.%d.self_attn.k_layernorm.norms.%e", NB_HF_HEADS, NB_HF_OPTIONAL},
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS},
    NB_HF_PLAIN_MLP_ROWS,
    {"output_norm", "~norm", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("4096"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, "32"},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, "32"},
    {"attention.layer_norm_epsilon", "layer_norm_eps|norm_eps", NB_HF_F32, "1e-5"},
    {"use_parallel_residual", "use_parallel_residual", NB_HF_BOOL, "false"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    return nb_hf_partial_rope(h, "partial_rotary_factor|rope_pct", 0.25, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_partial_rope(x, j, "partial_rotary_factor");
    nb_hf_put_flag(j, "use_qkv_bias", x->attention_bias);
    nb_hf_put_flag(j, "qk_layernorm", nb_hf_export_tensor(x, "blk.%d.attn_q_norm", 0) != NULL);
}

const nb_hf_arch nb_hf_arch_stablelm = {
    .gguf = "stablelm",
    .classes = classes,
    .model_type = "stablelm",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
