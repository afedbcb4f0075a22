/* gpt2: GPT2LMHeadModel. Its matrices but the embeddings are Conv1D's, whose columns are the outputs. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GPT2LMHeadModel", "GPT2Model", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"position_embd", "~wpe", NB_HF_AS_IS, NB_HF_ALL_F32},
    {"blk.%d.attn_norm", "~h.%d.ln_1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_qkv", "~h.%d.attn.c_attn", NB_HF_TRANSPOSE, NB_HF_BIAS},
    {"blk.%d.attn_output", "~h.%d.attn.c_proj", NB_HF_TRANSPOSE, NB_HF_BIAS},
    {"blk.%d.ffn_norm", "~h.%d.ln_2", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~h.%d.mlp.c_fc", NB_HF_TRANSPOSE, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~h.%d.mlp.c_proj", NB_HF_TRANSPOSE, NB_HF_BIAS},
    {"output_norm", "~ln_f", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    {"block_count", "n_layer|num_hidden_layers", NB_HF_U32, NULL},
    {"context_length", "n_positions|n_ctx|max_position_embeddings", NB_HF_U32, "1024"},
    {"embedding_length", "n_embd|hidden_size", NB_HF_U32, NULL},
    {"attention.head_count", "n_head|num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon|layer_norm_eps", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status refuse(const nb_hf *h, const char *key, bool is, nb_error *err)
{
    if (nb_hf_config_flag(h, key, !is) != is)
        return NB_OK;
    return nb_tree_bad(&h->config, nb_hf_config(h, key), err, NB_ERR_UNSUPPORTED, "is %s, which is not supported",
                       is ? "true" : "false");
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t width = 0, heads = 0;
    NB_TRY(nb_hf_expect(h, "activation_function", "gelu_new|gelu_pytorch_tanh|gelu_fast", err));
    NB_TRY(refuse(h, "scale_attn_weights", false, err));
    NB_TRY(refuse(h, "scale_attn_by_inverse_layer_idx", true, err));
    NB_TRY(refuse(h, "add_cross_attention", true, err));
    NB_TRY(nb_hf_config_u64(h, "n_embd|hidden_size", 1, 1 << 20, &width, err));
    width *= 4;
    NB_TRY(nb_hf_config_u64(h, "n_inner", 1, UINT32_MAX, &width, err));
    nb_hf_put_u32(h, nb_hf_key(h, "feed_forward_length"), (uint32_t)width);
    NB_TRY(nb_hf_config_u64(h, "n_head|num_attention_heads", 1, UINT32_MAX, &heads, err));
    nb_hf_put_u32(h, nb_hf_key(h, "attention.head_count_kv"), (uint32_t)heads);
    return NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t inner = 4 * x->width;
    nb_hf_export_u64(x, ".feed_forward_length", &inner);
    nb_json_put_uint(j, "n_inner", inner);
    nb_json_put_z(j, "activation_function", "gelu_new");
}

const nb_hf_arch nb_hf_arch_gpt2 = {
    .gguf = "gpt2",
    .classes = classes,
    .model_type = "gpt2",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
