/* orion: OrionForCausalLM. Its norms are LayerNorm, whatever config.json calls their epsilon. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"OrionForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    NB_HF_NORM_ROWS(NB_HF_BIAS),
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    NB_HF_MLP_ROWS,
    {"output_norm", "~norm", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("4096"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    (void)x;
    nb_json_put_z(j, "hidden_act", "silu");
}

const nb_hf_arch nb_hf_arch_orion = {
    .gguf = "orion",
    .classes = classes,
    .model_type = "orion",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
