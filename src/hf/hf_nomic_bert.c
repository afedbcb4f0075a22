/* nomic-bert: NomicBertModel (nomic-embed-text-v1, v1.5), configured in GPT-2's words by the model's own code on the hub and in
 * BERT's by transformers 5; the tensors have the same names in both. */
#include <math.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"NomicBertModel", "NomicBertForPreTraining", "NomicBertForMaskedLM", NULL};
static const char *const prefixes[] = {"", "bert.", "nomic_bert.", NULL};
static const char *const ignored[] = {"pooler.", "bert.pooler.", "cls.predictions", "cls.seq_relationship", "lm_head",
                                      NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embeddings.word_embeddings", NB_HF_AS_IS, 0},
    {"token_types", "~embeddings.token_type_embeddings", NB_HF_AS_IS, NB_HF_ALL_F32 | NB_HF_OPTIONAL},
    {"token_embd_norm", "~emb_ln", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_qkv", "~encoder.layers.%d.attn.Wqkv", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output", "~encoder.layers.%d.attn.out_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.attn_output_norm", "~encoder.layers.%d.norm1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~encoder.layers.%d.mlp.fc11", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_gate", "~encoder.layers.%d.mlp.fc12", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.ffn_down", "~encoder.layers.%d.mlp.fc2", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},
    {"blk.%d.layer_output_norm", "~encoder.layers.%d.norm2", NB_HF_AS_IS, NB_HF_BIAS},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size|n_inner", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads|n_head", NB_HF_U32, NULL},
    {"attention.key_length", "head_dim", NB_HF_U32, ""},
    {"attention.value_length", "head_dim", NB_HF_U32, ""},
    {"attention.layer_norm_epsilon", "layer_norm_eps|layer_norm_epsilon", NB_HF_F32, "1e-12"},
    {0},
};

/* what the model's own code can be asked for, and no published model of this class is */
static nb_status check_kind(const nb_hf *h, nb_error *err)
{
    static const char *const flags[] = {"prenorm", "rotary_emb_interleaved", "use_rms_norm", "parallel_block",
                                        "causal"};
    uint64_t experts = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act|activation_function", "silu|swiglu", err));
    NB_TRY(nb_hf_config_u64(h, "moe_every_n_layers", 0, UINT32_MAX, &experts, err));
    if (experts)
        return nb_tree_bad(&h->config, nb_hf_config(h, "moe_every_n_layers"), err, NB_ERR_UNSUPPORTED,
                           "is set: the mixture of experts of nomic-embed-text-v2 is not supported");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (nb_hf_config_flag(h, flags[i], false))
            return nb_tree_bad(&h->config, nb_hf_config(h, flags[i]), err, NB_ERR_UNSUPPORTED,
                               "is true: only Nomic Embed's kind of model, where it is false, is supported");
    if (nb_hf_config(h, "rotary_emb_scale_base"))
        return nb_tree_bad(&h->config, nb_hf_config(h, "rotary_emb_scale_base"), err, NB_ERR_UNSUPPORTED,
                           "is set: positions with decay (xPos) are not supported");
    return NB_OK;
}

/* n_positions is what can be reached by rotary_scaling_factor, which changes nothing within the trained ones */
static nb_status put_context(nb_hf *h, nb_error *err)
{
    uint64_t positions = 2048, trained = UINT32_MAX;
    if (nb_hf_config(h, "n_positions"))
        trained = 2048;
    NB_TRY(nb_hf_config_u64(h, "max_position_embeddings|n_positions", 1, UINT32_MAX, &positions, err));
    NB_TRY(nb_hf_config_u64(h, "max_trained_positions", 1, UINT32_MAX, &trained, err));
    nb_hf_put_u32(h, nb_hf_key(h, "context_length"), (uint32_t)(positions < trained ? positions : trained));
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, types = 2;
    double part = 1;
    NB_TRY(check_kind(h, err));
    NB_TRY(put_context(h, err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    NB_TRY(nb_hf_config_f64(h, "rotary_emb_fraction", &part, err));
    if (!(part > 0 && part <= 1) || (uint64_t)(part * (double)dim) % 2 || part * (double)dim < 2)
        return nb_tree_bad(&h->config, nb_hf_config(h, "rotary_emb_fraction"), err, NB_ERR_UNSUPPORTED,
                           "is %g: an even number of each head's %llu values must turn", part, (unsigned long long)dim);
    if (part < 1)
        nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)(part * (double)dim));
    NB_TRY(nb_hf_config_u64(h, "type_vocab_size", 0, UINT32_MAX, &types, err));
    nb_hf_put_bool(h, nb_hf_key(h, "attention.causal"), false);
    nb_hf_put_u32(h, "tokenizer.ggml.token_type_count", (uint32_t)types);
    return nb_hf_rope(h, part < 1 ? (uint64_t)(part * (double)dim) : dim, 1000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    const nb_source_tensor *types = nb_source_find_tensor(x->s, NB_STR("token_types.weight"));
    nb_json_put_z(j, "hidden_act", "silu");
    nb_json_put_uint(j, "type_vocab_size", types ? types->dims[1] : 0);
    nb_hf_put_partial_rope(x, j, "rotary_emb_fraction");
}

const nb_hf_arch nb_hf_arch_nomic_bert = {
    .gguf = "nomic-bert",
    .classes = classes,
    .model_type = "nomic_bert",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .ignored = ignored,
    .tied = true,
    .configure = configure,
    .put = put,
};
