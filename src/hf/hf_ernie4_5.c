/* ernie4_5: Ernie4_5ForCausalLM, dense. Rotary pairs are side by side already. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS, NB_HF_NORM_ROWS(0), NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    NB_HF_MLP_ROWS,   NB_HF_END_ROWS,     {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("131072"),
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
    uint64_t dim = 128;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    return nb_hf_rope(h, dim, 500000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_json_key(j, "use_bias");
    nb_json_bool(j, x->attention_bias);
}

const nb_hf_arch nb_hf_arch_ernie4_5 = {
    .gguf = "ernie4_5",
    .classes = classes,
    .model_type = "ernie4_5",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
