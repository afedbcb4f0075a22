/* granitemoe: GraniteMoeForCausalLM, GraniteMoeSharedForCausalLM. Gate and up are halves of one tensor. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    NB_HF_ATTENTION_ROWS(NB_HF_PERMUTE_Q, NB_HF_PERMUTE_K),
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_gate_inp", "~layers.%d.block_sparse_moe.router.layer", NB_HF_AS_IS, NB_HF_SPARSE | NB_HF_ALL_F32},
    {"blk.%d.ffn_gate_exps", "~layers.%d.block_sparse_moe.input_linear", NB_HF_EXPERTS_GATE, NB_HF_SPARSE},
    {"blk.%d.ffn_up_exps", "~layers.%d.block_sparse_moe.input_linear", NB_HF_EXPERTS_UP, NB_HF_SPARSE},
    {"blk.%d.ffn_down_exps", "~layers.%d.block_sparse_moe.output_linear", NB_HF_EXPERTS, NB_HF_SPARSE},
    {"blk.%d.ffn_gate_shexp", "~layers.%d.shared_mlp.input_linear", NB_HF_EXPERTS_GATE, NB_HF_OPTIONAL},
    {"blk.%d.ffn_up_shexp", "~layers.%d.shared_mlp.input_linear", NB_HF_EXPERTS_UP, NB_HF_OPTIONAL},
    {"blk.%d.ffn_down_shexp", "~layers.%d.shared_mlp.output_linear", NB_HF_AS_IS, NB_HF_OPTIONAL},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {"expert_count", "num_local_experts|num_experts", NB_HF_U32, "8"},
    {"expert_used_count", "num_experts_per_tok", NB_HF_U32, "2"},
    {"expert_shared_feed_forward_length", "shared_intermediate_size", NB_HF_U32, ""},
    {"embedding_scale", "embedding_multiplier", NB_HF_F32, "1"},
    {"residual_scale", "residual_multiplier", NB_HF_F32, "1"},
    {"attention.scale", "attention_multiplier", NB_HF_F32, "1"},
    {"logit_scale", "logits_scaling", NB_HF_F32, "1"},
    {0},
};

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
}

const nb_hf_arch nb_hf_arch_granitemoe = {
    .gguf = "granitemoe",
    .classes = classes,
    .model_type = "granitemoe",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = nb_hf_configure_granite,
    .put = put,
};
