/* hunyuan-dense: HunYuanDenseV1ForCausalLM. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"HunYuanDenseV1ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    NB_HF_NORM_ROWS(0),
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.attn_q_norm", "~layers.%d.self_attn.query_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_k_norm", "~layers.%d.self_attn.key_layernorm", NB_HF_AS_IS, 0},
    NB_HF_MLP_ROWS,
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
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    if (nb_hf_config_flag(h, "use_cla", false))
        return nb_tree_bad(&h->config, nb_hf_config(h, "use_cla"), err, NB_ERR_UNSUPPORTED,
                           "is true: layers that share keys and values are not supported");
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
}

const nb_hf_arch nb_hf_arch_hunyuan_dense = {
    .gguf = "hunyuan-dense",
    .classes = classes,
    .model_type = "hunyuan_v1_dense",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
