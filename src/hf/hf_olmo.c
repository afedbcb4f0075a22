/* olmo: OlmoForCausalLM (OLMo 1: 1B, 7B). Its norms have no weights. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"OlmoForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embed_tokens", NB_HF_AS_IS, 0},
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_PERMUTE_Q, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", NB_HF_PERMUTE_K, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_gate", "~layers.%d.mlp.gate_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~layers.%d.mlp.up_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.clamp_kqv", "clip_qkv", NB_HF_F32, ""},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    nb_hf_put_f32(h, nb_hf_key(h, "attention.layer_norm_epsilon"), 1e-5); /* transformers' own constant */
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
}

const nb_hf_arch nb_hf_arch_olmo = {
    .gguf = "olmo",
    .classes = classes,
    .model_type = "olmo",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
