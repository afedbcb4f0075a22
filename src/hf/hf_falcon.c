/* falcon: FalconForCausalLM (7B, 40B, 180B, 11B, and Falcon-RW, which has ALiBi and one branch after the other). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"FalconForCausalLM", "RWForCausalLM", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~word_embeddings", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~h.%d.input_layernorm", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS},
    {"blk.%d.attn_norm", "~h.%d.ln_mlp", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS},
    {"blk.%d.attn_norm_2", "~h.%d.ln_attn", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS},
    {"blk.%d.ffn_norm", "~h.%d.post_attention_layernorm", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS},
    {"blk.%d.attn_qkv", "~h.%d.self_attention.query_key_value", NB_HF_GROUPED, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~h.%d.self_attention.dense", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_up", "~h.%d.mlp.dense_h_to_4h", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_down", "~h.%d.mlp.dense_4h_to_h", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"output_norm", "~ln_f", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"attention.head_count", "num_attention_heads|n_head", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {"hidden_activation", "activation", NB_HF_STR, "gelu"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t heads = 0, dim = 0, width = 0;
    bool older = nb_hf_config(h, "n_head_kv") != NULL; /* RWForCausalLM's config.json of the 40B */
    bool grouped = nb_hf_config_flag(h, "new_decoder_architecture", older);
    bool alibi = nb_hf_config_flag(h, "alibi", false);
    NB_TRY(nb_hf_expect(h, "activation", NB_HF_ACTIVATIONS, err));
    if (alibi)
        nb_hf_put_f32(h, nb_hf_key(h, "attention.max_alibi_bias"), 8);
    if (!nb_hf_config_flag(h, "parallel_attn", true) && !grouped)
        nb_hf_put_bool(h, nb_hf_key(h, "use_parallel_residual"), false);
    NB_TRY(nb_hf_config_u64(h, "hidden_size|n_embd", 1, 1 << 20, &width, err));
    NB_TRY(nb_hf_config_u64(h, "num_attention_heads|n_head", 1, UINT32_MAX, &heads, err));
    if (grouped)
        NB_TRY(nb_hf_config_u64(h, "num_kv_heads|n_head_kv", 1, UINT32_MAX, &heads, err));
    else if (nb_hf_config_flag(h, "multi_query", true)) /* whatever num_kv_heads says */
        heads = 1;
    nb_hf_put_u32(h, nb_hf_key(h, "attention.head_count_kv"), (uint32_t)heads);
    width *= 4;
    NB_TRY(nb_hf_config_u64(h, "ffn_hidden_size", 1, UINT32_MAX, &width, err));
    nb_hf_put_u32(h, nb_hf_key(h, "feed_forward_length"), (uint32_t)width);
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    return alibi ? NB_OK : nb_hf_rope(h, dim, 10000, err);
}

/* 40B's blocks have a norm for each branch; in 11B's, of the same kind, both read one */
static bool passes(nb_hf_exporter *x, const nb_hf_tensor_row *row, uint64_t block)
{
    bool two = nb_hf_export_tensor(x, "blk.%d.attn_norm_2", block) != NULL;
    return strcmp(row->gguf, "blk.%d.attn_norm") == 0 && two == (strstr(row->hf, "input_layernorm") != NULL);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    bool two = nb_hf_export_tensor(x, "blk.%d.attn_norm_2", 0) != NULL,
         grouped = two || (x->kv_heads > 1 && x->kv_heads < x->heads);
    uint64_t inner = 4 * x->width;
    double alibi = 0;
    nb_hf_export_u64(x, ".feed_forward_length", &inner);
    nb_json_put_uint(j, "ffn_hidden_size", inner);
    nb_json_put_uint(j, "num_kv_heads", x->kv_heads);
    nb_hf_put_flag(j, "new_decoder_architecture", grouped);
    if (grouped)
        nb_json_put_uint(j, "num_ln_in_parallel_attn", two ? 2 : 1);
    nb_hf_put_flag(j, "multi_query", x->kv_heads == 1);
    nb_hf_put_flag(j, "parallel_attn", nb_hf_export_flag(x, ".use_parallel_residual", true));
    nb_hf_put_flag(j, "alibi", nb_hf_export_f64(x, ".attention.max_alibi_bias", &alibi) && alibi > 0);
    nb_hf_put_flag(j, "bias", x->attention_bias || x->mlp_bias);
}

const nb_hf_arch nb_hf_arch_falcon = {
    .gguf = "falcon",
    .classes = classes,
    .model_type = "falcon",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
    .passes = passes,
};
