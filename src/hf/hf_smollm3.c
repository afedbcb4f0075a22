/* smollm3: SmolLM3ForCausalLM. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"SmolLM3ForCausalLM", NULL};
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
    NB_HF_SIZE_KEYS("32768"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, "4"},
    {"attention.key_length", "head_dim", NB_HF_U32, ""},
    {"attention.value_length", "head_dim", NB_HF_U32, ""},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {0},
};

/* the list of layers that rotate (1) or not (0), as every so many'th does not; 0: all do */
static nb_status read_list(const nb_hf *h, const nb_node *list, uint64_t *step, nb_error *err)
{
    uint64_t i = 0, blocks = 0;
    *step = 0;
    NB_TRY(nb_hf_config_u64(h, NB_HF_BLOCKS, 1, 4096, &blocks, err));
    for (const nb_node *n = list->list.first; n && i < blocks; n = n->next) {
        bool rotates = n->kind == '0' && n->num != 0;
        i++;
        if (!rotates && !*step)
            *step = i;
        if (rotates == (*step && i % *step == 0))
            return nb_tree_bad(&h->config, list, err, NB_ERR_UNSUPPORTED,
                               "is not one layer without rotary positions after the same number of others throughout");
    }
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, step = 4;
    const nb_node *list = nb_hf_config(h, "no_rope_layers");
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    if (nb_hf_config_flag(h, "use_sliding_window", false) && nb_hf_config(h, "sliding_window"))
        return nb_tree_bad(&h->config, nb_hf_config(h, "use_sliding_window"), err, NB_ERR_UNSUPPORTED,
                           "is true, which no released model has");
    NB_TRY(nb_hf_config_u64(h, "no_rope_layer_interval", 1, 4096, &step, err));
    if (list && list->kind == '[')
        NB_TRY(read_list(h, list, &step, err));
    if (step != 4) /* what readers take */
        nb_hf_put_u32(h, nb_hf_key(h, "rope.skip_interval"), (uint32_t)step);
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 2000000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t step = 4;
    nb_hf_export_u64(x, ".rope.skip_interval", &step);
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_biases(x, j, true);
    nb_json_key(j, "no_rope_layers");
    nb_json_open(j, '[');
    for (uint64_t i = 1; i <= x->blocks; i++)
        nb_json_uint(j, step == 0 || i % step != 0);
    nb_json_close(j, ']');
}

const nb_hf_arch nb_hf_arch_smollm3 = {
    .gguf = "smollm3",
    .classes = classes,
    .model_type = "smollm3",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
