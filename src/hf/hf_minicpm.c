/* minicpm: MiniCPMForCausalLM (MiniCPM 1B and 2B, MiniCPM4), dense. */
#include <math.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"MiniCPMForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS, NB_HF_NORM_ROWS(0), NB_HF_ATTENTION_ROWS(NB_HF_PERMUTE_Q, NB_HF_PERMUTE_K),
    NB_HF_MLP_ROWS,   NB_HF_END_ROWS,     {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {"embedding_scale", "scale_emb", NB_HF_F32, "1"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, width = 0, blocks = 1, experts = 0;
    double depth = 1, base = 1;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_config_u64(h, "num_experts", 0, UINT32_MAX, &experts, err));
    if (experts > 0)
        return nb_tree_bad(&h->config, nb_hf_config(h, "num_experts"), err, NB_ERR_UNSUPPORTED,
                           "is %llu; MiniCPM models with experts are not supported", (unsigned long long)experts);
    NB_TRY(nb_hf_config_u64(h, "hidden_size", 1, 1 << 20, &width, err));
    NB_TRY(nb_hf_config_u64(h, NB_HF_BLOCKS, 1, 4096, &blocks, err));
    NB_TRY(nb_hf_config_f64(h, "scale_depth", &depth, err));
    NB_TRY(nb_hf_config_f64(h, "dim_model_base", &base, err));
    if (!(base > 0))
        return nb_tree_bad(&h->config, nb_hf_config(h, "dim_model_base"), err, NB_ERR_FORMAT, "must be above 0");
    nb_hf_put_f32(h, nb_hf_key(h, "residual_scale"), depth / sqrt((double)blocks));
    nb_hf_put_f32(h, nb_hf_key(h, "logit_scale"), (double)width / base);
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    double scale = 0;
    nb_json_put_z(j, "hidden_act", "silu");
    if (nb_hf_export_f64(x, ".residual_scale", &scale)) {
        nb_json_key(j, "scale_depth");
        nb_hf_export_float(j, scale * sqrt((double)x->blocks));
    }
    if (nb_hf_export_f64(x, ".logit_scale", &scale) && scale > 0) {
        nb_json_key(j, "dim_model_base");
        nb_hf_export_float(j, (double)x->width / scale);
    }
}

const nb_hf_arch nb_hf_arch_minicpm = {
    .gguf = "minicpm",
    .classes = classes,
    .model_type = "minicpm",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
