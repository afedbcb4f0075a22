/* mixtral: MixtralForCausalLM, llama with experts: to GGUF it is a llama. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"MixtralForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_PERMUTE_Q, 0},
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", NB_HF_PERMUTE_K, 0},
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    NB_HF_EXPERT_ROWS("~layers.%d.block_sparse_moe.gate", "~layers.%d.block_sparse_moe.experts", "w1", "w3", "w2"),
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("131072"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {"expert_count", "num_local_experts|num_experts", NB_HF_U32, "8"},
    {"expert_used_count", "num_experts_per_tok", NB_HF_U32, "2"},
    {"attention.sliding_window", "sliding_window", NB_HF_U32, ""},
    {"vocab_size", "vocab_size", NB_HF_U32, ""},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "attention.key_length"), (uint32_t)dim);
    nb_hf_put_u32(h, nb_hf_key(h, "attention.value_length"), (uint32_t)dim);
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 1000000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    (void)x;
    nb_json_put_z(j, "hidden_act", "silu");
}

const nb_hf_arch nb_hf_arch_mixtral = {
    .gguf = "llama",
    .classes = classes,
    .model_type = "mixtral",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
