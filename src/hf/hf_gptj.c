/* gptj: GPTJForCausalLM, and CodeGenForCausalLM, which is the same with queries, values and keys in one. Rotary pairs are side by
 * side already. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GPTJForCausalLM", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~h.%d.ln_1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_q", "~h.%d.attn.q_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_k", "~h.%d.attn.k_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_v", "~h.%d.attn.v_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_output", "~h.%d.attn.out_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~h.%d.mlp.fc_in", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~h.%d.mlp.fc_out", NB_HF_AS_IS, NB_HF_BIAS},
    {"output_norm", "~ln_f", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED | NB_HF_BIAS_OPTIONAL},
    {0},
};

static const char *const codegen_classes[] = {"CodeGenForCausalLM", NULL};
static const char *const codegen_ignored[] = {"*.attn.causal_mask", NULL};

static const nb_hf_tensor_row codegen_tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~h.%d.ln_1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_q", "~h.%d.attn.qkv_proj", NB_HF_SPLIT_Q, NB_HF_IN_FOURS},
    {"blk.%d.attn_k", "~h.%d.attn.qkv_proj", NB_HF_SPLIT_K, NB_HF_IN_FOURS},
    {"blk.%d.attn_v", "~h.%d.attn.qkv_proj", NB_HF_SPLIT_V, NB_HF_IN_FOURS},
    {"blk.%d.attn_output", "~h.%d.attn.out_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~h.%d.mlp.fc_in", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~h.%d.mlp.fc_out", NB_HF_AS_IS, NB_HF_BIAS},
    {"output_norm", "~ln_f", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED | NB_HF_BIAS_OPTIONAL},
    {0},
};

static const nb_hf_key_row keys[] = {
    {"block_count", "n_layer", NB_HF_U32, NULL},
    {"context_length", "n_positions", NB_HF_U32, "2048"},
    {"embedding_length", "n_embd", NB_HF_U32, NULL},
    {"attention.head_count", "n_head", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {"rope.dimension_count", "rotary_dim", NB_HF_U32, "64"},
    {"hidden_activation", "activation_function", NB_HF_STR, "gelu_new"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t width = 0, heads = 0;
    NB_TRY(nb_hf_expect(h, "activation_function", NB_HF_ACTIVATIONS, err));
    NB_TRY(nb_hf_config_u64(h, "n_embd", 1, 1 << 20, &width, err));
    width *= 4;
    NB_TRY(nb_hf_config_u64(h, "n_inner", 1, UINT32_MAX, &width, err));
    NB_TRY(nb_hf_config_u64(h, "n_head", 1, UINT32_MAX, &heads, err));
    nb_hf_put_u32(h, nb_hf_key(h, "feed_forward_length"), (uint32_t)width);
    nb_hf_put_u32(h, nb_hf_key(h, "attention.head_count_kv"), (uint32_t)heads);
    nb_hf_put_f32(h, nb_hf_key(h, "rope.freq_base"), 10000);
    return NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t inner = 4 * x->width;
    nb_hf_export_u64(x, ".feed_forward_length", &inner);
    nb_json_put_uint(j, "n_inner", inner);
}

const nb_hf_arch nb_hf_arch_gptj = {
    .gguf = "gptj",
    .classes = classes,
    .model_type = "gptj",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};

const nb_hf_arch nb_hf_arch_codegen = {
    .gguf = "gptj",
    .classes = codegen_classes,
    .model_type = "codegen",
    .prefixes = prefixes,
    .tensors = codegen_tensors,
    .keys = keys,
    .ignored = codegen_ignored,
    .configure = configure,
};
