/* gpt-oss: GptOssForCausalLM. Experts are in one tensor, as floats inputs by outputs, in MXFP4 (hf_mxfp4.c) outputs by inputs; of
 * its rows the even ones are the gate's. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GptOssForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

enum { BARE_BIASED = NB_HF_BIAS_OPTIONAL | NB_HF_BARE };

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embed_tokens", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_sinks", "~layers.%d.self_attn.sinks", NB_HF_AS_IS, NB_HF_BARE},
    {"blk.%d.post_attention_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_gate_inp", "~layers.%d.mlp.router", NB_HF_AS_IS, NB_HF_ALL_F32 | NB_HF_BIAS},
    {"blk.%d.ffn_gate_exps", "~layers.%d.mlp.experts.gate_up_proj", NB_HF_EXPERTS_EVEN, BARE_BIASED},
    {"blk.%d.ffn_up_exps", "~layers.%d.mlp.experts.gate_up_proj", NB_HF_EXPERTS_ODD, BARE_BIASED},
    {"blk.%d.ffn_down_exps", "~layers.%d.mlp.experts.down_proj", NB_HF_EXPERTS_TURNED, BARE_BIASED},
    {"output_norm", "~norm", NB_HF_AS_IS, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("131072"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {"expert_count", "num_local_experts|num_experts", NB_HF_U32, NULL},
    {"expert_used_count", "num_experts_per_tok|experts_per_token", NB_HF_U32, "4"},
    {"expert_feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {0},
};

/* the one activation that its experts are run with */
static nb_status check_activation(const nb_hf *h, nb_error *err)
{
    double alpha = 1.702, limit = 7;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_config_f64(h, "swiglu_alpha", &alpha, err));
    NB_TRY(nb_hf_config_f64(h, "swiglu_limit", &limit, err));
    if (alpha == 1.702 && limit == 7)
        return NB_OK;
    return nb_fail(err, NB_ERR_UNSUPPORTED,
                   "%s: swiglu_alpha is %g and swiglu_limit %g; models of this architecture are run with 1.702 and 7 "
                   "only",
                   h->config.path, alpha, limit);
}

/* What transformers takes where config.json has nothing; and readers of gpt-oss take yarn_truncate for false. */
static nb_status configure_rope(nb_hf *h, uint64_t dim, nb_error *err)
{
    const nb_node *params = nb_hf_config(h, "rope_parameters|rope_scaling");
    NB_TRY(nb_hf_rope(h, dim, 150000, err));
    if (!params) {
        nb_hf_put_str(h, nb_hf_key(h, "rope.scaling.type"), NB_STR("yarn"));
        nb_hf_put_f32(h, nb_hf_key(h, "rope.scaling.factor"), 32);
        nb_hf_put_u32(h, nb_hf_key(h, "rope.scaling.original_context_length"), 4096);
    }
    if (params && !nb_hf_has(h, nb_hf_key(h, "rope.scaling.yarn_truncate")))
        nb_hf_put_bool(h, nb_hf_key(h, "rope.scaling.yarn_truncate"), true);
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 64, window = 128;
    NB_TRY(check_activation(h, err));
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "attention.key_length"), (uint32_t)dim);
    nb_hf_put_u32(h, nb_hf_key(h, "attention.value_length"), (uint32_t)dim);
    if (!nb_hf_config_is_null(h, "sliding_window")) {
        NB_TRY(nb_hf_config_u64(h, "sliding_window", 1, INT32_MAX, &window, err));
        nb_hf_put_u32(h, nb_hf_key(h, "attention.sliding_window"), (uint32_t)window);
        NB_TRY(nb_hf_window_layers(h, 2, err));
    }
    return configure_rope(h, dim, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t window = 0;
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
    nb_json_key(j, "swiglu_limit");
    nb_hf_export_float(j, 7);
    nb_json_key(j, "sliding_window");
    if (nb_hf_export_u64(x, ".attention.sliding_window", &window) && window > 0) {
        nb_json_uint(j, window);
        nb_hf_put_layer_types(x, j, 2);
        return;
    }
    nb_json_null(j);
    nb_hf_put_all_full(x, j);
}

const nb_hf_arch nb_hf_arch_gpt_oss = {
    .gguf = "gpt-oss",
    .classes = classes,
    .model_type = "gpt_oss",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
