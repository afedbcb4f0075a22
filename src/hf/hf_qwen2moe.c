/* qwen2moe: Qwen2MoeForCausalLM (Qwen 1.5 and 2 with experts, and one that all tokens pass). */
#include "hf/hf_rows.h"

static const char *const classes[] = {"Qwen2MoeForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    NB_HF_QKV_ROWS(NB_HF_BIAS_OPTIONAL),
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    NB_HF_EXPERT_ROWS("~layers.%d.mlp.gate", "~layers.%d.mlp.experts", "gate_proj", "up_proj", "down_proj"),
    {"blk.%d.ffn_gate_shexp", "~layers.%d.mlp.shared_expert.gate_proj", NB_HF_AS_IS, NB_HF_SPARSE},
    {"blk.%d.ffn_up_shexp", "~layers.%d.mlp.shared_expert.up_proj", NB_HF_AS_IS, NB_HF_SPARSE},
    {"blk.%d.ffn_down_shexp", "~layers.%d.mlp.shared_expert.down_proj", NB_HF_AS_IS, NB_HF_SPARSE},
    {"blk.%d.ffn_gate_inp_shexp", "~layers.%d.mlp.shared_expert_gate", NB_HF_AS_IS, NB_HF_SPARSE | NB_HF_ALL_F32},
    {"blk.%d.ffn_gate", "~layers.%d.mlp.gate_proj", NB_HF_AS_IS, NB_HF_DENSE},
    {"blk.%d.ffn_up", "~layers.%d.mlp.up_proj", NB_HF_AS_IS, NB_HF_DENSE},
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, NB_HF_DENSE},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("32768"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {"expert_count", "num_experts|num_local_experts", NB_HF_U32, NULL},
    {"expert_used_count", "num_experts_per_tok", NB_HF_U32, "4"},
    {"expert_feed_forward_length", "moe_intermediate_size", NB_HF_U32, "1408"},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size", NB_HF_U32, "5632"},
    {"expert_weights_norm", "norm_topk_prob", NB_HF_BOOL, "false"},
    {0},
};

nb_status nb_hf_configure_qwen_moe(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_moe_windows(h, err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    return nb_hf_rope(h, dim, 10000, err);
}

const nb_hf_arch nb_hf_arch_qwen2moe = {
    .gguf = "qwen2moe",
    .classes = classes,
    .model_type = "qwen2_moe",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = nb_hf_configure_qwen_moe,
    .put = nb_hf_put_qwen_moe,
};
