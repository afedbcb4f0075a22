/* llama: HeliumForCausalLM (Helium 1). Its rotary pairs are side by side already. */
#include "hf/hf_rows.h"

static const char *const classes[] = {"HeliumForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS, NB_HF_NORM_ROWS(0), NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    NB_HF_MLP_ROWS,   NB_HF_END_ROWS,     {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("4096"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, "20"},
    {"attention.key_length", "head_dim", NB_HF_U32, "128"},
    {"attention.value_length", "head_dim", NB_HF_U32, "128"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-8"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 128;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 100000, err);
}

const nb_hf_arch nb_hf_arch_helium = {
    .gguf = "llama",
    .classes = classes,
    .model_type = "helium",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
};
