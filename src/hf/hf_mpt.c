/* mpt: MPTForCausalLM of the checkpoints, MptForCausalLM of transformers (MPT-7B, MPT-30B, and what was made of them). What
 * attention is made of is in attn_config. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"MPTForCausalLM", "MptForCausalLM", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"position_embd", "~wpe", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_ALL_F32},
    {"blk.%d.attn_norm", "~blocks.%d.norm_1", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_qkv", "~blocks.%d.attn.Wqkv", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_q_norm", "~blocks.%d.attn.q_ln", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_k_norm", "~blocks.%d.attn.k_ln", NB_HF_AS_IS, NB_HF_OPTIONAL | NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~blocks.%d.attn.out_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_norm", "~blocks.%d.norm_2", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_up", "~blocks.%d.ffn.up_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_down", "~blocks.%d.ffn.down_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"output_norm", "~norm_f", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED | NB_HF_OPTIONAL},
    {0},
};

static const nb_hf_key_row keys[] = {
    {"block_count", "n_layers|num_hidden_layers", NB_HF_U32, NULL},
    {"context_length", "max_seq_len", NB_HF_U32, "2048"},
    {"embedding_length", "d_model|hidden_size", NB_HF_U32, NULL},
    {"attention.head_count", "n_heads|num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status refuse_flag(const nb_hf *h, const nb_node *attention, const char *key, nb_error *err)
{
    if (!nb_node_flag(attention, key, false))
        return NB_OK;
    return nb_tree_bad(&h->config, nb_node_get(attention, key), err, NB_ERR_UNSUPPORTED,
                       "is true: it is not supported");
}

/* a number of attn_config; null and absent keep *out */
static nb_status take_number(const nb_hf *h, const nb_node *attention, const char *key, double *out, nb_error *err)
{
    const nb_node *n = nb_node_get(attention, key);
    if (n && n->kind != '0')
        return nb_tree_bad(&h->config, n, err, NB_ERR_FORMAT, "is not a number");
    if (n)
        *out = n->num;
    return NB_OK;
}

static nb_status configure_attention(nb_hf *h, const nb_node *attention, nb_error *err)
{
    double most = 8, clip = 0, scale = 0;
    uint64_t kv_heads = nb_node_is(attention, "attn_type", "multiquery_attention") ? 1 : 0;
    const nb_node *groups = nb_node_get(attention, "kv_n_heads");
    NB_TRY(refuse_flag(h, attention, "prefix_lm", err));
    NB_TRY(refuse_flag(h, attention, "attn_uses_sequence_id", err));
    NB_TRY(refuse_flag(h, attention, "rope", err));
    NB_TRY(take_number(h, attention, "alibi_bias_max", &most, err));
    NB_TRY(take_number(h, attention, "clip_qkv", &clip, err));
    NB_TRY(take_number(h, attention, "softmax_scale", &scale, err));
    if (groups)
        NB_TRY(nb_node_u64(&h->config, groups, 1, UINT32_MAX, &kv_heads, err));
    if (kv_heads)
        nb_hf_put_u32(h, nb_hf_key(h, "attention.head_count_kv"), (uint32_t)kv_heads);
    if (clip != 0)
        nb_hf_put_f32(h, nb_hf_key(h, "attention.clamp_kqv"), clip);
    if (scale != 0)
        nb_hf_put_f32(h, nb_hf_key(h, "attention.scale"), scale);
    bool alibi = nb_node_flag(attention, "alibi", h->class_name.n && nb_str_eqz(h->class_name, "MptForCausalLM"));
    nb_hf_put_f32(h, nb_hf_key(h, "attention.max_alibi_bias"), alibi ? most : 0);
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t width = 0, ratio = 4;
    NB_TRY(nb_hf_expect(h, "norm_type", "low_precision_layernorm|layernorm", err));
    if (nb_hf_config(h, "logit_scale"))
        return nb_tree_bad(&h->config, nb_hf_config(h, "logit_scale"), err, NB_ERR_UNSUPPORTED,
                           "is given: scaled logits are not supported");
    NB_TRY(nb_hf_config_u64(h, "d_model|hidden_size", 1, 1 << 20, &width, err));
    NB_TRY(nb_hf_config_u64(h, "expansion_ratio", 1, 64, &ratio, err));
    nb_hf_put_u32(h, nb_hf_key(h, "feed_forward_length"), (uint32_t)(width * ratio));
    return configure_attention(h, nb_hf_config(h, "attn_config"), err);
}

static void put_number(const nb_hf_exporter *x, nb_json *j, const char *name, const char *key)
{
    double value = 0;
    nb_json_key(j, key);
    if (nb_hf_export_f64(x, name, &value) && value != 0)
        nb_hf_export_float(j, value);
    else
        nb_json_null(j);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    double most = 0;
    uint64_t inner = 4 * x->width;
    nb_hf_export_u64(x, ".feed_forward_length", &inner);
    nb_hf_export_f64(x, ".attention.max_alibi_bias", &most);
    nb_json_put_uint(j, "expansion_ratio", inner / x->width);
    nb_hf_put_flag(j, "no_bias", !x->attention_bias && !x->mlp_bias);
    nb_json_put_z(j, "norm_type", "low_precision_layernorm");
    nb_json_key(j, "attn_config");
    nb_json_open(j, '{');
    nb_hf_put_flag(j, "alibi", most > 0);
    nb_json_put_uint(j, "alibi_bias_max", most > 0 ? (uint64_t)most : 8);
    nb_json_put_uint(j, "kv_n_heads", x->kv_heads);
    nb_hf_put_flag(j, "qk_ln", nb_hf_export_tensor(x, "blk.%d.attn_q_norm", 0) != NULL);
    put_number(x, j, ".attention.clamp_kqv", "clip_qkv");
    put_number(x, j, ".attention.scale", "softmax_scale");
    nb_json_close(j, '}');
}

const nb_hf_arch nb_hf_arch_mpt = {
    .gguf = "mpt",
    .classes = classes,
    .model_type = "mpt",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
