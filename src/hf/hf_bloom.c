/* bloom: BloomForCausalLM (BLOOM, BLOOMZ, Tigerbot and others made of them). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"BloomForCausalLM", "BloomModel", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~word_embeddings", NB_HF_AS_IS, 0},
    {"token_embd_norm", "~word_embeddings_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_norm", "~h.%d.input_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_qkv", "~h.%d.self_attention.query_key_value", NB_HF_GROUPED, NB_HF_BIAS},
    {"blk.%d.attn_output", "~h.%d.self_attention.dense", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_norm", "~h.%d.post_attention_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~h.%d.mlp.dense_h_to_4h", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~h.%d.mlp.dense_4h_to_h", NB_HF_AS_IS, NB_HF_BIAS},
    {"output_norm", "~ln_f", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED | NB_HF_OPTIONAL},
    {0},
};

static const nb_hf_key_row keys[] = {
    {"block_count", NB_HF_BLOCKS, NB_HF_U32, NULL},
    {"context_length", "seq_length", NB_HF_U32, "2048"}, /* of the training: ALiBi has no end */
    {"embedding_length", "hidden_size|n_embed", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads|n_head", NB_HF_U32, NULL},
    {"attention.head_count_kv", "num_attention_heads|n_head", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t width = 0;
    if (nb_hf_config_flag(h, "apply_residual_connection_post_layernorm", false))
        return nb_tree_bad(&h->config, nb_hf_config(h, "apply_residual_connection_post_layernorm"), err,
                           NB_ERR_UNSUPPORTED, "is true, which no published model has: it is not supported");
    NB_TRY(nb_hf_config_u64(h, "hidden_size|n_embed", 1, 1 << 20, &width, err));
    nb_hf_put_u32(h, nb_hf_key(h, "feed_forward_length"), (uint32_t)width * 4);
    return NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    (void)x;
    nb_hf_put_flag(j, "apply_residual_connection_post_layernorm", false);
}

const nb_hf_arch nb_hf_arch_bloom = {
    .gguf = "bloom",
    .classes = classes,
    .model_type = "bloom",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
