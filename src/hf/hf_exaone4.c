/* exaone4: Exaone4ForCausalLM. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Exaone4ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.attn_q_norm", "~layers.%d.self_attn.q_norm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_k_norm", "~layers.%d.self_attn.k_norm", NB_HF_AS_IS, 0},
    {"blk.%d.post_attention_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    NB_HF_MLP_ROWS,
    {"blk.%d.post_ffw_norm", "~layers.%d.post_feedforward_layernorm", NB_HF_AS_IS, 0},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, window = 4096;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    if (!nb_hf_config_is_null(h, "sliding_window")) {
        NB_TRY(nb_hf_config_u64(h, "sliding_window", 1, INT32_MAX, &window, err));
        nb_hf_put_u32(h, nb_hf_key(h, "attention.sliding_window"), (uint32_t)window);
        NB_TRY(nb_hf_window_layers(h, 4, err));
    }
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t window = 0;
    nb_json_put_z(j, "hidden_act", "silu");
    nb_json_key(j, "sliding_window");
    if (!nb_hf_export_u64(x, ".attention.sliding_window", &window)) {
        nb_json_null(j);
        nb_hf_put_all_full(x, j);
        return;
    }
    nb_json_uint(j, window);
    nb_json_put_z(j, "sliding_window_pattern", "LLLG");
    nb_hf_put_layer_types(x, j, 4);
}

const nb_hf_arch nb_hf_arch_exaone4 = {
    .gguf = "exaone4",
    .classes = classes,
    .model_type = "exaone4",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
