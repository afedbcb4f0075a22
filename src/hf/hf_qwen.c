/* qwen: QWenLMHeadModel (Qwen 1). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"QWenLMHeadModel", NULL};
static const char *const prefixes[] = {"transformer.", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~h.%d.ln_1", NB_HF_AS_IS, 0},
    {"blk.%d.attn_qkv", "~h.%d.attn.c_attn", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_output", "~h.%d.attn.c_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_norm", "~h.%d.ln_2", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_gate", "~h.%d.mlp.w2", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~h.%d.mlp.w1", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~h.%d.mlp.c_proj", NB_HF_AS_IS, 0},
    {"output_norm", "~ln_f", NB_HF_AS_IS, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("8192"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_rms_epsilon", "layer_norm_epsilon", NB_HF_F32, "1e-6"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, length = 0;
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    /* beyond the length of its training the model's code scales frequencies and scores by the length of the text */
    NB_TRY(nb_hf_config_u64(h, "seq_length", 0, UINT32_MAX, &length, err));
    if (length > 0 && (nb_hf_config_flag(h, "use_dynamic_ntk", true) || nb_hf_config_flag(h, "use_logn_attn", true)))
        nb_hf_put_u32(h, nb_hf_key(h, "context_length"), (uint32_t)length);
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t length = 8192;
    double base = 10000;
    nb_hf_export_u64(x, ".context_length", &length);
    nb_hf_export_f64(x, ".rope.freq_base", &base);
    nb_json_put_uint(j, "seq_length", length);
    nb_json_put_uint(j, "kv_channels", x->head_dim);
    nb_json_key(j, "rotary_emb_base");
    nb_hf_export_float(j, base);
    nb_hf_put_flag(j, "no_bias", !x->attention_bias);
}

const nb_hf_arch nb_hf_arch_qwen = {
    .gguf = "qwen",
    .classes = classes,
    .model_type = "qwen",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
