/* starcoder: GPTBigCodeForCausalLM (StarCoder, SantaCoder). With one key head its queries come first already; without, q, k and
 * v of each head are together. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GPTBigCodeForCausalLM", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"position_embd", "~wpe", NB_HF_AS_IS, NB_HF_ALL_F32},
    {"blk.%d.attn_norm", "~h.%d.ln_1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_qkv", "~h.%d.attn.c_attn", NB_HF_GROUPED, NB_HF_BIAS},
    {"blk.%d.attn_output", "~h.%d.attn.c_proj", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_norm", "~h.%d.ln_2", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~h.%d.mlp.c_fc", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~h.%d.mlp.c_proj", NB_HF_AS_IS, NB_HF_BIAS},
    {"output_norm", "~ln_f", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("1024"),
    {"attention.head_count", "n_head|num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {"hidden_activation", "activation_function", NB_HF_STR, "gelu_pytorch_tanh"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t heads = 0, width = 0;
    NB_TRY(nb_hf_expect(h, "activation_function", NB_HF_ACTIVATIONS, err));
    NB_TRY(nb_hf_config_u64(h, "n_head|num_attention_heads", 1, UINT32_MAX, &heads, err));
    NB_TRY(nb_hf_config_u64(h, "n_embd|hidden_size", 1, 1 << 20, &width, err));
    width *= 4;
    NB_TRY(nb_hf_config_u64(h, "n_inner", 1, UINT32_MAX, &width, err));
    nb_hf_put_u32(h, nb_hf_key(h, "feed_forward_length"), (uint32_t)width);
    nb_hf_put_u32(h, nb_hf_key(h, "attention.head_count_kv"),
                  nb_hf_config_flag(h, "multi_query", true) ? 1 : (uint32_t)heads);
    if (!nb_hf_config_flag(h, "scale_attn_weights", true))
        nb_hf_put_f32(h, nb_hf_key(h, "attention.scale"), 1);
    return NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    double scale = 0;
    uint64_t inner = 4 * x->width;
    nb_hf_export_u64(x, ".feed_forward_length", &inner);
    nb_json_put_uint(j, "n_inner", inner);
    nb_hf_put_flag(j, "multi_query", x->kv_heads == 1);
    nb_hf_put_flag(j, "scale_attn_weights", !nb_hf_export_f64(x, ".attention.scale", &scale) || scale != 1);
}

const nb_hf_arch nb_hf_arch_starcoder = {
    .gguf = "starcoder",
    .classes = classes,
    .model_type = "gpt_bigcode",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
