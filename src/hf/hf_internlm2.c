/* internlm2: InternLM2ForCausalLM (InternLM 2 and 2.5). wqkv holds each key head's queries, then it, then its values. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"InternLM2ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~tok_embeddings", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~layers.%d.attention_norm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_q", "~layers.%d.attention.wqkv", NB_HF_SPLIT_Q, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_k", "~layers.%d.attention.wqkv", NB_HF_SPLIT_K, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_v", "~layers.%d.attention.wqkv", NB_HF_SPLIT_V, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~layers.%d.attention.wo", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_norm", "~layers.%d.ffn_norm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_gate", "~layers.%d.feed_forward.w1", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~layers.%d.feed_forward.w3", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~layers.%d.feed_forward.w2", NB_HF_AS_IS, 0},
    {"output_norm", "~norm", NB_HF_AS_IS, 0},
    {"output", "output", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_flag(j, "bias", x->attention_bias);
}

const nb_hf_arch nb_hf_arch_internlm2 = {
    .gguf = "internlm2",
    .classes = classes,
    .model_type = "internlm2",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
