/* starcoder2: Starcoder2ForCausalLM (3B, 7B, 15B). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Starcoder2ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~layers.%d.mlp.c_fc", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_down", "~layers.%d.mlp.c_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"output_norm", "~norm", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("4096"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, "24"},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, "2"},
    {"attention.key_length", "head_dim", NB_HF_U32, ""},
    {"attention.value_length", "head_dim", NB_HF_U32, ""},
    {"attention.layer_norm_epsilon", "norm_epsilon", NB_HF_F32, "1e-5"},
    {"attention.sliding_window", "sliding_window", NB_HF_U32, ""},
    {"hidden_activation", "hidden_act", NB_HF_STR, "gelu_pytorch_tanh"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", NB_HF_ACTIVATIONS, err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j) { nb_hf_put_flag(j, "use_bias", x->attention_bias || x->mlp_bias); }

const nb_hf_arch nb_hf_arch_starcoder2 = {
    .gguf = "starcoder2",
    .classes = classes,
    .model_type = "starcoder2",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
