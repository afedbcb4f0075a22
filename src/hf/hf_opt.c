/* opt: OPTForCausalLM (Zhang et al. 2022). The names are our own: docs/gguf-keys.md. The first two rows of its table of
 * positions are for padding. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"OPTForCausalLM", "OPTModel", NULL};
static const char *const prefixes[] = {"model.decoder.", "decoder.", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embed_tokens", NB_HF_AS_IS, 0},
    {"token_embd_proj_in", "~project_in", NB_HF_AS_IS, NB_HF_OPTIONAL},
    {"position_embd", "~embed_positions", NB_HF_SKIP_2, NB_HF_ALL_F32},
    {"blk.%d.attn_norm", "~layers.%d.self_attn_layer_norm", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~layers.%d.self_attn.out_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_norm", "~layers.%d.final_layer_norm", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_up", "~layers.%d.fc1", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_down", "~layers.%d.fc2", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"output_norm", "~final_layer_norm", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS_OPTIONAL},
    {"output_proj", "~project_out", NB_HF_AS_IS, NB_HF_OPTIONAL},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "ffn_dim", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"norm_first", "do_layer_norm_before", NB_HF_BOOL, "true"},
    {"activation", "activation_function", NB_HF_STR, "relu"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t width = 0, columns;
    NB_TRY(nb_hf_expect(h, "activation_function", "relu|gelu", err));
    NB_TRY(nb_hf_config_u64(h, "hidden_size", 1, UINT32_MAX, &width, err));
    columns = width;
    NB_TRY(nb_hf_config_u64(h, "word_embed_proj_dim", 1, UINT32_MAX, &columns, err));
    if (columns != width)
        nb_hf_put_u32(h, nb_hf_key(h, "token_embedding_length"), (uint32_t)columns);
    nb_hf_put_f32(h, nb_hf_key(h, "attention.layer_norm_epsilon"), 1e-5);
    if (nb_hf_config_flag(h, "_remove_final_layer_norm", false))
        return nb_tree_bad(
            &h->config, nb_hf_config(h, "_remove_final_layer_norm"), err, NB_ERR_UNSUPPORTED,
            "is true, which only checkpoints from before 2022 have; use a newer conversion of the model");
    return NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t columns = x->width;
    nb_hf_export_u64(x, ".token_embedding_length", &columns);
    nb_json_put_uint(j, "word_embed_proj_dim", columns);
    nb_hf_put_flag(j, "enable_bias", nb_source_find_tensor(x->s, NB_STR("blk.0.ffn_up.bias")) != NULL);
    nb_hf_put_flag(j, "layer_norm_elementwise_affine", true);
}

const nb_hf_arch nb_hf_arch_opt = {
    .gguf = "opt",
    .classes = classes,
    .model_type = "opt",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
