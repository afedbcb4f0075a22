/* gemma3: the text part of Gemma 3; gemma-embedding: EmbeddingGemma, the same without causality and head. Their norms multiply
 * by 1 + weight: the 1 is added here. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", NULL};
static const char *const prefixes[] = {"model.", "language_model.model.", "model.language_model.", NULL};
static const char *const ignored[] = {"vision_tower.",          "multi_modal_projector.",
                                      "model.vision_tower.",    "model.multi_modal_projector.",
                                      "language_model.lm_head", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_ADD_1, 0},
    NB_HF_QKV_ROWS(0),
    NB_HF_QK_NORM_ROWS(NB_HF_ADD_1, 0),
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    {"blk.%d.post_attention_norm", "~layers.%d.post_attention_layernorm", NB_HF_ADD_1, 0},
    {"blk.%d.ffn_norm", "~layers.%d.pre_feedforward_layernorm", NB_HF_ADD_1, 0},
    NB_HF_PLAIN_MLP_ROWS,
    {"blk.%d.post_ffw_norm", "~layers.%d.post_feedforward_layernorm", NB_HF_ADD_1, 0},
    {"output_norm", "~norm", NB_HF_ADD_1, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("131072"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, "8"},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, "4"},
    {"attention.key_length", "head_dim", NB_HF_U32, "256"},
    {"attention.value_length", "head_dim", NB_HF_U32, "256"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {"attention.sliding_window", "sliding_window", NB_HF_U32, "4096"},
    {"final_logit_softcapping", "final_logit_softcapping", NB_HF_F32, ""},
    {0},
};

static nb_status configure_any(nb_hf *h, nb_error *err)
{
    uint64_t dim = 256;
    NB_TRY(nb_hf_expect(h, "hidden_activation|hidden_act", "gelu_pytorch_tanh", err));
    if (nb_hf_config(h, "attn_logit_softcapping"))
        return nb_tree_bad(&h->config, nb_hf_config(h, "attn_logit_softcapping"), err, NB_ERR_UNSUPPORTED,
                           "is set, which no gemma3 model has");
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    NB_TRY(nb_hf_query_scale(h, 62, err));
    NB_TRY(nb_hf_window_layers(h, 6, err));
    return nb_hf_rope(h, dim, 1000000, err);
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    if (nb_hf_config_flag(h, "use_bidirectional_attention", false))
        return nb_tree_bad(&h->config, nb_hf_config(h, "use_bidirectional_attention"), err, NB_ERR_UNSUPPORTED,
                           "is true: such a model has no next token; Gemma3TextModel is the class of embeddings");
    return configure_any(h, err);
}

static nb_status configure_embedding(nb_hf *h, nb_error *err)
{
    if (!nb_hf_config_flag(h, "use_bidirectional_attention", false))
        return nb_tree_bad(&h->config, nb_hf_config(h, "architectures"), err, NB_ERR_UNSUPPORTED,
                           "names Gemma3TextModel without use_bidirectional_attention; only EmbeddingGemma, which has it, "
                           "is known by this class");
    nb_hf_put_bool(h, nb_hf_key(h, "attention.causal"), false);
    return configure_any(h, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_activation", "gelu_pytorch_tanh");
    nb_hf_put_query_scale(x, j, 62);
    nb_hf_put_layer_types(x, j, 6);
}

const nb_hf_arch nb_hf_arch_gemma3 = {
    .gguf = "gemma3",
    .classes = classes,
    .model_type = "gemma3_text",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .ignored = ignored,
    .tied = true,
    .configure = configure,
    .put = put,
};

static const char *const embedding_classes[] = {"Gemma3TextModel", NULL};
static const char *const embedding_prefixes[] = {"", "model.", NULL};

static void put_embedding(nb_hf_exporter *x, nb_json *j)
{
    put(x, j);
    nb_hf_put_flag(j, "use_bidirectional_attention", true);
}

const nb_hf_arch nb_hf_arch_gemma_embedding = {
    .gguf = "gemma-embedding",
    .classes = embedding_classes,
    .model_type = "gemma3_text",
    .prefixes = embedding_prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure_embedding,
    .put = put_embedding,
};
