/* gptneox: GPTNeoXForCausalLM (GPT-NeoX-20B, Pythia, Dolly, RedPajama-INCITE). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GPTNeoXForCausalLM", NULL};
static const char *const prefixes[] = {"gpt_neox.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embed_in", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_qkv", "~layers.%d.attention.query_key_value", NB_HF_GROUPED, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~layers.%d.attention.dense", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~layers.%d.mlp.dense_h_to_4h", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~layers.%d.mlp.dense_4h_to_h", NB_HF_AS_IS, NB_HF_BIAS},
    {"output_norm", "~final_layer_norm", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "embed_out", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, "24576"},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_eps", NB_HF_F32, "1e-5"},
    {"use_parallel_residual", "use_parallel_residual", NB_HF_BOOL, "true"},
    {"hidden_activation", "hidden_act", NB_HF_STR, "gelu"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    NB_TRY(nb_hf_expect(h, "hidden_act", NB_HF_ACTIVATIONS, err));
    return nb_hf_partial_rope(h, "rotary_pct|partial_rotary_factor", 0.25, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    double base = 10000;
    nb_hf_export_f64(x, ".rope.freq_base", &base);
    nb_json_key(j, "rotary_emb_base"); /* the family's word for rope_theta */
    nb_hf_export_float(j, base);
    nb_hf_put_partial_rope(x, j, "rotary_pct");
    nb_hf_put_biases(x, j, false);
}

const nb_hf_arch nb_hf_arch_gptneox = {
    .gguf = "gptneox",
    .classes = classes,
    .model_type = "gpt_neox",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
