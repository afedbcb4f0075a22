/* granite: GraniteMoeHybridForCausalLM whose layers are all attention and have no experts (Granite 4 350M, 1B and Micro). Gate and
 * up are halves of one tensor. */
#include "hf/hf_rows.h"

static const char *const classes[] = {"GraniteMoeHybridForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    NB_HF_NORM_ROWS(0),
    NB_HF_ATTENTION_ROWS(NB_HF_PERMUTE_Q, NB_HF_PERMUTE_K),
    {"blk.%d.ffn_gate", "~layers.%d.shared_mlp.input_linear", NB_HF_EXPERTS_GATE, 0},
    {"blk.%d.ffn_up", "~layers.%d.shared_mlp.input_linear", NB_HF_EXPERTS_UP, 0},
    {"blk.%d.ffn_down", "~layers.%d.shared_mlp.output_linear", NB_HF_AS_IS, 0},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "shared_intermediate_size", NB_HF_U32, "1024"},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {"attention.scale", "attention_multiplier", NB_HF_F32, "1"},
    {"embedding_scale", "embedding_multiplier", NB_HF_F32, "1"},
    {"residual_scale", "residual_multiplier", NB_HF_F32, "1"},
    {"logit_scale", "logits_scaling", NB_HF_F32, "1"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t experts = 8;
    const nb_node *types = nb_hf_config(h, "layer_types|layers_block_type");
    NB_TRY(nb_hf_config_u64(h, "num_local_experts", 0, UINT32_MAX, &experts, err));
    for (const nb_node *n = types && types->kind == '[' ? types->list.first : NULL; n; n = n->next)
        if (n->kind != '"' || (!nb_str_eqz(n->str, "attention") && !nb_str_eqz(n->str, "full_attention")))
            return nb_tree_bad(&h->config, types, err, NB_ERR_UNSUPPORTED,
                               "has layers of Mamba; those of attention alone are supported");
    if (!types || experts > 0)
        return nb_tree_bad(&h->config, types, err, NB_ERR_UNSUPPORTED,
                           "is of a model with Mamba or experts; dense ones of attention alone are supported");
    if (!nb_hf_config(h, "position_embedding_type"))
        return nb_tree_bad(&h->config, NULL, err, NB_ERR_UNSUPPORTED,
                           "has no position_embedding_type; models with \"rope\" are supported");
    return nb_hf_configure_granite(h, err);
}

const nb_hf_arch nb_hf_arch_granitehybrid = {
    .gguf = "granite",
    .classes = classes,
    .model_type = "granitemoehybrid",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
};
