/* granite: GraniteForCausalLM (Granite 3 and 4, dense). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GraniteForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    NB_HF_ATTENTION_ROWS(NB_HF_PERMUTE_Q, NB_HF_PERMUTE_K),
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    NB_HF_MLP_ROWS,
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {"attention.scale", "attention_multiplier", NB_HF_F32, "1"},
    {"embedding_scale", "embedding_multiplier", NB_HF_F32, "1"},
    {"residual_scale", "residual_multiplier", NB_HF_F32, "1"},
    {"logit_scale", "logits_scaling", NB_HF_F32, "1"},
    {0},
};

nb_status nb_hf_configure_granite(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_expect(h, "position_embedding_type", "rope", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, true);
}

const nb_hf_arch nb_hf_arch_granite = {
    .gguf = "granite",
    .classes = classes,
    .model_type = "granite",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = nb_hf_configure_granite,
    .put = put,
};
