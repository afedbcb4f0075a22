/* mistral3: Ministral3ForCausalLM. Mistral Small 3.1 is MistralForCausalLM behind a tower for pictures, and read as llama. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Ministral3ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS, NB_HF_NORM_ROWS(0), NB_HF_ATTENTION_ROWS(NB_HF_PERMUTE_Q, NB_HF_PERMUTE_K),
    NB_HF_MLP_ROWS,   NB_HF_END_ROWS,     {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("262144"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, ""},
    {"attention.key_length", "head_dim", NB_HF_U32, "128"},
    {"attention.value_length", "head_dim", NB_HF_U32, "128"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    const nb_node *params = nb_hf_config(h, "rope_parameters|rope_scaling");
    const nb_node *beta = params && params->kind == '{' ? nb_node_get_kind(params, "llama_4_scaling_beta", '0') : NULL;
    uint64_t dim = 128;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    if (nb_hf_config(h, "sliding_window"))
        return nb_tree_bad(&h->config, nb_hf_config(h, "sliding_window"), err, NB_ERR_UNSUPPORTED,
                           "is set, which no released model has");
    if (!beta)
        return nb_tree_bad(&h->config, params, err, NB_ERR_FORMAT, "has no llama_4_scaling_beta, a number");
    nb_hf_put_f32(h, nb_hf_key(h, "attention.temperature_scale"), beta->num);
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 1000000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    (void)x;
    nb_json_put_z(j, "hidden_act", "silu");
    nb_json_key(j, "sliding_window");
    nb_json_null(j);
}

const nb_hf_arch nb_hf_arch_mistral3 = {
    .gguf = "mistral3",
    .classes = classes,
    .model_type = "ministral3",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
