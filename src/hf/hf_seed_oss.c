/* seed_oss: SeedOssForCausalLM. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"SeedOssForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.post_attention_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    NB_HF_MLP_ROWS,
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("524288"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, ""},
    {"attention.key_length", "head_dim", NB_HF_U32, "128"},
    {"attention.value_length", "head_dim", NB_HF_U32, "128"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 128;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, true);
    nb_json_key(j, "attention_out_bias");
    nb_json_bool(j, nb_source_find_tensor(x->s, NB_STR("blk.0.attn_output.bias")) != NULL);
}

const nb_hf_arch nb_hf_arch_seed_oss = {
    .gguf = "seed_oss",
    .classes = classes,
    .model_type = "seed_oss",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
