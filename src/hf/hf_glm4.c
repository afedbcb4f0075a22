/* glm4: Glm4ForCausalLM (GLM-4-0414, GLM-Z1). Rotary pairs are side by side already. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Glm4ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.post_attention_norm", "~layers.%d.post_self_attn_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~layers.%d.mlp.gate_up_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, 0},
    {"blk.%d.post_ffw_norm", "~layers.%d.post_mlp_layernorm", NB_HF_AS_IS, 0},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("131072"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1.5625e-7"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    return nb_hf_partial_rope(h, "partial_rotary_factor", 0.5, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, false);
    nb_hf_put_partial_rope(x, j, "partial_rotary_factor");
}

const nb_hf_arch nb_hf_arch_glm4 = {
    .gguf = "glm4",
    .classes = classes,
    .model_type = "glm4",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
