/* nemotron: NemotronForCausalLM (Nemotron 3 and 4, Minitron). Its norms multiply by 1 + weight: the 1 is added here. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"NemotronForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_ADD_1, NB_HF_BIAS},
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_ADD_1, NB_HF_BIAS},
    NB_HF_UP_DOWN_ROWS,
    {"output_norm", "~norm", NB_HF_ADD_1, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("4096"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_epsilon", "norm_eps|layer_norm_eps|layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    NB_TRY(nb_hf_expect(h, "hidden_act", "relu2", err));
    return nb_hf_partial_rope(h, "partial_rotary_factor|rope_percent|rope_percentage", 0.5, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "relu2");
    nb_hf_put_biases(x, j, true);
    nb_hf_put_partial_rope(x, j, "partial_rotary_factor");
}

const nb_hf_arch nb_hf_arch_nemotron = {
    .gguf = "nemotron",
    .classes = classes,
    .model_type = "nemotron",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
