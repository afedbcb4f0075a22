/* phi3: Phi3ForCausalLM (Phi 3, 3.5, 4 and 4 mini). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Phi3ForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_qkv", "~layers.%d.self_attn.qkv_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~layers.%d.mlp.gate_up_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, 0},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("4096"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {"attention.sliding_window", "sliding_window", NB_HF_U32, "0"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    return nb_hf_partial_rope(h, "partial_rotary_factor", 1, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_partial_rope(x, j, "partial_rotary_factor");
}

const nb_hf_arch nb_hf_arch_phi3 = {
    .gguf = "phi3",
    .classes = classes,
    .model_type = "phi3",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
