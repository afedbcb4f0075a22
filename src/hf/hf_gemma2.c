/* gemma2: Gemma 2. Its norms multiply by 1 + weight: the 1 is added here. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Gemma2ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_ADD_1, 0},
    NB_HF_QKV_ROWS(0),
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    {"blk.%d.post_attention_norm", "~layers.%d.post_attention_layernorm", NB_HF_ADD_1, 0},
    {"blk.%d.ffn_norm", "~layers.%d.pre_feedforward_layernorm", NB_HF_ADD_1, 0},
    NB_HF_PLAIN_MLP_ROWS,
    {"blk.%d.post_ffw_norm", "~layers.%d.post_feedforward_layernorm", NB_HF_ADD_1, 0},
    {"output_norm", "~norm", NB_HF_ADD_1, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("8192"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, "8"},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, "4"},
    {"attention.key_length", "head_dim", NB_HF_U32, "256"},
    {"attention.value_length", "head_dim", NB_HF_U32, "256"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {"attention.sliding_window", "sliding_window", NB_HF_U32, "4096"},
    {0},
};

/* null: none, which 0 says in GGUF; absent: what transformers takes */
static nb_status put_cap(nb_hf *h, const char *name, double usual, nb_error *err)
{
    double cap = nb_hf_config_is_null(h, name) ? 0 : usual;
    NB_TRY(nb_hf_config_f64(h, name, &cap, err));
    nb_hf_put_f32(h, nb_hf_key(h, name), cap);
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 256;
    NB_TRY(nb_hf_expect(h, "hidden_activation|hidden_act", "gelu_pytorch_tanh", err));
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    NB_TRY(put_cap(h, "attn_logit_softcapping", 50, err));
    NB_TRY(put_cap(h, "final_logit_softcapping", 30, err));
    NB_TRY(nb_hf_query_scale(h, 46, err));
    NB_TRY(nb_hf_window_layers(h, 2, err));
    return nb_hf_rope(h, dim, 10000, err);
}

static void put_back(const nb_hf_exporter *x, nb_json *j, const char *key, const char *name, double cap)
{
    nb_hf_export_f64(x, key, &cap);
    nb_json_key(j, name);
    if (cap > 0)
        nb_hf_export_float(j, cap);
    else
        nb_json_null(j);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_activation", "gelu_pytorch_tanh");
    put_back(x, j, ".attn_logit_softcapping", "attn_logit_softcapping", 50);
    put_back(x, j, ".final_logit_softcapping", "final_logit_softcapping", 30);
    nb_hf_put_query_scale(x, j, 46);
    nb_hf_put_layer_types(x, j, 2);
}

const nb_hf_arch nb_hf_arch_gemma2 = {
    .gguf = "gemma2",
    .classes = classes,
    .model_type = "gemma2",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
