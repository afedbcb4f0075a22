/* llama: LlamaForCausalLM (Llama 1 to 3.x, SmolLM, TinyLlama, Yi), MistralForCausalLM, whose window stays in the file, and
 * MinistralForCausalLM, which has it in some layers. The others are llama under names of their own. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {
    "LlamaForCausalLM",     "LLaMAForCausalLM",  "MistralForCausalLM", "MinistralForCausalLM",   "InternLMForCausalLM",
    "InternLM3ForCausalLM", "AquilaForCausalLM", "SkyworkForCausalLM", "IQuestCoderForCausalLM", NULL};
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
    {"vocab_size", "vocab_size", NB_HF_U32, ""},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, window = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "attention.key_length"), (uint32_t)dim);
    nb_hf_put_u32(h, nb_hf_key(h, "attention.value_length"), (uint32_t)dim);
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    NB_TRY(nb_hf_rope(h, dim, 10000, err));
    bool some = nb_str_eqz(h->class_name, "MinistralForCausalLM");
    if (some || nb_str_eqz(h->class_name, "MistralForCausalLM"))
        NB_TRY(nb_hf_config_u64(h, "sliding_window", 0, INT32_MAX, &window, err));
    if (window)
        nb_hf_put_u32(h, nb_hf_key(h, "attention.sliding_window"), (uint32_t)window);
    return window && some && nb_hf_config(h, "layer_types") ? nb_hf_window_layers(h, 0, err) : NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t window = 0;
    nb_json_put_z(j, "hidden_act", "silu");
    if (!x->mistral) {
        nb_hf_put_biases(x, j, true);
        return;
    }
    nb_hf_export_u64(x, ".attention.sliding_window", &window);
    nb_json_put_uint(j, "sliding_window", window);
    if (nb_hf_export_find(x, ".attention.sliding_window_pattern"))
        nb_hf_put_layer_types(x, j, 0);
}

const nb_hf_arch nb_hf_arch_llama = {
    .gguf = "llama",
    .classes = classes,
    .model_type = "llama",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};
