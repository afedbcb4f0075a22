/* olmoe: OlmoeForCausalLM (OLMoE-1B-7B). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"OlmoeForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embed_tokens", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_q_norm", "~layers.%d.self_attn.q_norm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_k_norm", "~layers.%d.self_attn.k_norm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    NB_HF_EXPERT_ROWS("~layers.%d.mlp.gate", "~layers.%d.mlp.experts", "gate_proj", "up_proj", "down_proj"),
    {"output_norm", "~norm", NB_HF_AS_IS, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("4096"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {"attention.clamp_kqv", "clip_qkv", NB_HF_F32, ""},
    {"expert_count", "num_experts", NB_HF_U32, "64"},
    {"expert_used_count", "num_experts_per_tok", NB_HF_U32, "8"},
    {"expert_weights_norm", "norm_topk_prob", NB_HF_BOOL, "false"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
}

const nb_hf_arch nb_hf_arch_olmoe = {
    .gguf = "olmoe",
    .classes = classes,
    .model_type = "olmoe",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
