/* deepseek2: DeepseekV3ForCausalLM (V3, R1) and DeepseekV2ForCausalLM (V2, V2-Lite, Coder-V2). What predicts further tokens, the
 * layers behind the last of num_hidden_layers, is passed over (hf_bind.c). */
#include <math.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"DeepseekV3ForCausalLM", NULL};
static const char *const second_classes[] = {"DeepseekV2ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};
static const char *const ignored[] = {"*.rotary_emb.inv_freq", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    NB_HF_NORM_ROWS(0),
    {"blk.%d.attn_q_a", "~layers.%d.self_attn.q_a_proj", NB_HF_AS_IS, NB_HF_OPTIONAL},
    {"blk.%d.attn_q_a_norm", "~layers.%d.self_attn.q_a_layernorm", NB_HF_AS_IS, NB_HF_OPTIONAL},
    {"blk.%d.attn_q_b", "~layers.%d.self_attn.q_b_proj", NB_HF_AS_IS, NB_HF_OPTIONAL},
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_AS_IS, NB_HF_OPTIONAL},
    {"blk.%d.attn_kv_a_mqa", "~layers.%d.self_attn.kv_a_proj_with_mqa", NB_HF_AS_IS, 0},
    {"blk.%d.attn_kv_a_norm", "~layers.%d.self_attn.kv_a_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_kv_b", "~layers.%d.self_attn.kv_b_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    NB_HF_EXPERT_ROWS("~layers.%d.mlp.gate", "~layers.%d.mlp.experts", "gate_proj", "up_proj", "down_proj"),
    {"blk.%d.exp_probs_b", "~layers.%d.mlp.gate.e_score_correction", NB_HF_AS_IS,
     NB_HF_SPARSE | NB_HF_OPTIONAL | NB_HF_BIAS_OPTIONAL | NB_HF_BARE},
    {"blk.%d.ffn_gate_shexp", "~layers.%d.mlp.shared_experts.gate_proj", NB_HF_AS_IS, NB_HF_SPARSE | NB_HF_OPTIONAL},
    {"blk.%d.ffn_up_shexp", "~layers.%d.mlp.shared_experts.up_proj", NB_HF_AS_IS, NB_HF_SPARSE | NB_HF_OPTIONAL},
    {"blk.%d.ffn_down_shexp", "~layers.%d.mlp.shared_experts.down_proj", NB_HF_AS_IS, NB_HF_SPARSE | NB_HF_OPTIONAL},
    {"blk.%d.ffn_gate", "~layers.%d.mlp.gate_proj", NB_HF_AS_IS, NB_HF_DENSE},
    {"blk.%d.ffn_up", "~layers.%d.mlp.up_proj", NB_HF_AS_IS, NB_HF_DENSE},
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, NB_HF_DENSE},
    NB_HF_END_ROWS,
    {0},
};

/* clang-format off */
#define KEYS(CONTEXT, DENSE, SCALE)                                                                                    \
    NB_HF_SIZE_KEYS(CONTEXT),                                                                                          \
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},                                                     \
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},                                                  \
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, ""},                                                 \
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},                                           \
    {"attention.q_lora_rank", "q_lora_rank", NB_HF_U32, ""},                                                           \
    {"attention.kv_lora_rank", "kv_lora_rank", NB_HF_U32, "512"},                                                      \
    {"attention.value_length", "v_head_dim", NB_HF_U32, "128"},                                                        \
    {"rope.dimension_count", "qk_rope_head_dim", NB_HF_U32, "64"},                                                     \
    {"leading_dense_block_count", "first_k_dense_replace", NB_HF_U32, DENSE},                                          \
    {"expert_count", "n_routed_experts", NB_HF_U32, NULL},                                                             \
    {"expert_used_count", "num_experts_per_tok", NB_HF_U32, NULL},                                                     \
    {"expert_shared_count", "n_shared_experts", NB_HF_U32, "0"},                                                       \
    {"expert_feed_forward_length", "moe_intermediate_size", NB_HF_U32, NULL},                                          \
    {"expert_weights_scale", "routed_scaling_factor", NB_HF_F32, SCALE},                                               \
    {0}
/* clang-format on */

static const nb_hf_key_row keys[] = {KEYS("4096", "3", "2.5")};
static const nb_hf_key_row second_keys[] = {KEYS("2048", "0", "1")};

static nb_status put_groups(nb_hf *h, nb_error *err)
{
    uint64_t groups = 8, used = 4;
    NB_TRY(nb_hf_config_u64(h, "n_group", 1, 256, &groups, err));
    NB_TRY(nb_hf_config_u64(h, "topk_group", 1, groups, &used, err));
    nb_hf_put_u32(h, nb_hf_key(h, "expert_group_count"), (uint32_t)groups);
    nb_hf_put_u32(h, nb_hf_key(h, "expert_group_used_count"), (uint32_t)used);
    return NB_OK;
}

/* YaRN's factor is in the scores (mscale_all_dim), and in cos and sin what of mscale is left */
static nb_status put_rope(nb_hf *h, uint64_t rotated, nb_error *err)
{
    const nb_node *params = nb_hf_config(h, "rope_parameters|rope_scaling");
    const nb_node *all = params && params->kind == '{' ? nb_node_get_kind(params, "mscale_all_dim", '0') : NULL;
    NB_TRY(nb_hf_rope(h, rotated, 10000, err));
    if (!all || !(all->num > 0) || !nb_hf_has(h, nb_hf_key(h, "rope.scaling.type")))
        return NB_OK;
    nb_hf_put_f32(h, nb_hf_key(h, "rope.scaling.yarn_log_multiplier"), 0.1 * all->num);
    const nb_node *factor = nb_node_get_kind(params, "factor", '0'), *scale = nb_node_get_kind(params, "mscale", '0'),
                  *own = nb_node_get_kind(params, "attention_factor", '0');
    double logarithm = factor && factor->num > 1 ? 0.1 * log(factor->num) : 0;
    double attention = own                          ? own->num
                       : scale && scale->num > 0 ? (scale->num * logarithm + 1) / (all->num * logarithm + 1)
                                                    : logarithm + 1;
    nb_hf_put_f32(h, nb_hf_key(h, "rope.scaling.attn_factor"), attention);
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t plain = 128, rotated = 64;
    bool second = h->arch->classes == second_classes;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_expect(h, "topk_method", second ? "greedy|group_limited_greedy" : "noaux_tc", err));
    NB_TRY(nb_hf_expect(h, "scoring_func", second ? "softmax" : "sigmoid", err));
    NB_TRY(nb_hf_config_u64(h, "qk_nope_head_dim", 1, 1 << 10, &plain, err));
    NB_TRY(nb_hf_config_u64(h, "qk_rope_head_dim", 2, 1 << 10, &rotated, err));
    if (!nb_hf_config_flag(h, "rope_interleave", true) || (second && nb_hf_config_flag(h, "norm_topk_prob", false)))
        return nb_tree_bad(&h->config, nb_hf_config(h, second ? "norm_topk_prob" : "rope_interleave"), err,
                           NB_ERR_UNSUPPORTED, "is %s, which no released model has", second ? "true" : "false");
    nb_hf_put_u32(h, nb_hf_key(h, "attention.key_length"), (uint32_t)(plain + rotated));
    nb_hf_put_u32(h, nb_hf_key(h, "expert_gating_func"), second ? 1 : 2);
    nb_hf_put_bool(h, nb_hf_key(h, "expert_weights_norm"), !second && nb_hf_config_flag(h, "norm_topk_prob", true));
    const nb_node *method = nb_hf_config(h, "topk_method");
    if (!second || (method && method->kind == '"' && nb_str_eqz(method->str, "group_limited_greedy")))
        NB_TRY(put_groups(h, err));
    return put_rope(h, rotated, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t rotated = 64, rank = 0, groups = 0, used = 0;
    bool second = strcmp(x->model_type, "deepseek_v2") == 0;
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_export_u64(x, ".rope.dimension_count", &rotated);
    nb_json_put_uint(j, "qk_nope_head_dim", x->head_dim - rotated);
    if (!nb_hf_export_u64(x, ".attention.q_lora_rank", &rank) || rank == 0) {
        nb_json_key(j, "q_lora_rank");
        nb_json_null(j);
    }
    bool grouped = nb_hf_export_u64(x, ".expert_group_count", &groups) &&
                   nb_hf_export_u64(x, ".expert_group_used_count", &used);
    nb_json_put_z(j, "topk_method", !second ? "noaux_tc" : grouped ? "group_limited_greedy" : "greedy");
    nb_json_put_z(j, "scoring_func", second ? "softmax" : "sigmoid");
    nb_hf_put_flag(j, "norm_topk_prob", nb_hf_export_flag(x, ".expert_weights_norm", false));
    if (grouped || !second) {
        nb_json_put_uint(j, "n_group", grouped ? groups : 1);
        nb_json_put_uint(j, "topk_group", grouped ? used : 1);
    }
    nb_hf_put_flag(j, "attention_bias", false);
}

const nb_hf_arch nb_hf_arch_deepseek3 = {
    .gguf = "deepseek2",
    .classes = classes,
    .model_type = "deepseek_v3",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .ignored = ignored,
    .configure = configure,
    .put = put,
};

const nb_hf_arch nb_hf_arch_deepseek2 = {
    .gguf = "deepseek2",
    .classes = second_classes,
    .model_type = "deepseek_v2",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = second_keys,
    .ignored = ignored,
    .configure = configure,
    .put = put,
};
