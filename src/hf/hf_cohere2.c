/* cohere2: Cohere2ForCausalLM (Command R7B, Command A). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Cohere2ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    NB_HF_MLP_ROWS,
    {"output_norm", "~norm", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("8192"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, ""},
    {"attention.layer_norm_epsilon", "layer_norm_eps", NB_HF_F32, "1e-5"},
    {"logit_scale", "logit_scale", NB_HF_F32, "0.0625"},
    {"attention.sliding_window", "sliding_window", NB_HF_U32, "4096"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_expect(h, "order_of_interleaved_layers", "local_attn_first", err));
    NB_TRY(nb_hf_window_layers(h, 4, err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
    nb_hf_put_layer_types(x, j, 4);
}

const nb_hf_arch nb_hf_arch_cohere2 = {
    .gguf = "cohere2",
    .classes = classes,
    .model_type = "cohere2",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
