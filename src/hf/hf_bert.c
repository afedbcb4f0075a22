/* bert: BertModel and what wraps it, sentence-transformers' directories too (Devlin et al. 2018). Only the encoder: heads for
 * pre-training and the pooler do nothing for embeddings. */
#include "hf/hf_rows.h"

#include <stdio.h>

static const char *const classes[] = {"BertModel", "BertForMaskedLM", NULL};
static const char *const prefixes[] = {"", "bert.", NULL};
static const char *const ignored[] = {"pooler.", "bert.pooler.", "cls.predictions", "cls.seq_relationship", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embeddings.word_embeddings", NB_HF_AS_IS, 0},
    {"token_types", "~embeddings.token_type_embeddings", NB_HF_AS_IS, NB_HF_ALL_F32},
    {"position_embd", "~embeddings.position_embeddings", NB_HF_AS_IS, NB_HF_ALL_F32},
    {"token_embd_norm", "~embeddings.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_q", "~encoder.layer.%d.attention.self.query", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_k", "~encoder.layer.%d.attention.self.key", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_v", "~encoder.layer.%d.attention.self.value", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_output", "~encoder.layer.%d.attention.output.dense", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_output_norm", "~encoder.layer.%d.attention.output.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~encoder.layer.%d.intermediate.dense", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~encoder.layer.%d.output.dense", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.layer_output_norm", "~encoder.layer.%d.output.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("512"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_eps", NB_HF_F32, "1e-12"},
    {0},
};

/* What sentence-transformers does with the tokens' rows: modules.json names the modules, N_Pooling/config.json says which. */
static nb_status read_pooling(nb_hf *h, nb_str path, nb_error *err)
{
    static const struct {
        const char *flag, *mode;
        uint32_t type;
    } types[] = {{"pooling_mode_mean_tokens", "mean", 1},
                 {"pooling_mode_cls_token", "cls", 2},
                 {"pooling_mode_lasttoken", "lasttoken", 3}};
    nb_tree tree;
    char name[256];
    if (path.n == 0 || path.n > 64 || memchr(path.p, '/', path.n) || path.p[0] == '.' || memchr(path.p, 0, path.n))
        return nb_fail(err, NB_ERR_FORMAT, "%s/modules.json: the path of its pooling is no folder beside it", h->dir);
    snprintf(name, sizeof name, "%.*s/config.json", (int)path.n, path.p);
    NB_TRY(nb_tree_open(h->dir, name, NB_HF_CONFIG_BYTES, false, &tree, err));
    uint32_t type = 0;
    for (size_t i = sizeof types / sizeof *types; i-- > 0;)
        if (nb_node_flag(tree.root, types[i].flag, false) || nb_node_is(tree.root, "pooling_mode", types[i].mode))
            type = types[i].type;
    nb_status status = NB_OK;
    if (type)
        nb_hf_put_u32(h, nb_hf_key(h, "pooling_type"), type);
    else
        status = nb_tree_bad(&tree, NULL, err, NB_ERR_UNSUPPORTED,
                             "asks for a pooling that is none of mean, cls and lasttoken");
    nb_tree_free(&tree);
    return status;
}

static bool ends_in(nb_str s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

nb_status nb_hf_pooling(nb_hf *h, nb_error *err)
{
    nb_tree modules;
    bool pooled = false, normalized = false;
    nb_status status = NB_OK;
    NB_TRY(nb_tree_open_any(h->dir, "modules.json", NB_HF_CONFIG_BYTES, true, &modules, err));
    if (!modules.root || modules.root->kind != '[') {
        nb_tree_free(&modules);
        return NB_OK;
    }
    for (const nb_node *m = modules.root->list.first; m && status == NB_OK; m = m->next) {
        const nb_node *type = nb_node_get_kind(m, "type", '"'), *path = nb_node_get_kind(m, "path", '"');
        if (type && path && ends_in(type->str, "Pooling") && !pooled) {
            status = read_pooling(h, path->str, err);
            pooled = true;
        } else if (type && ends_in(type->str, "Dense")) {
            status = nb_tree_bad(&modules, type, err, NB_ERR_UNSUPPORTED,
                                 "is a Dense module, which changes the embeddings and is not supported");
        }
        normalized = normalized || (type && ends_in(type->str, "Normalize"));
    }
    if (pooled && !normalized)
        nb_hf_put_bool(h, nb_hf_key(h, "embedding_normalize"), false);
    nb_tree_free(&modules);
    return status;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t types = 2;
    NB_TRY(nb_hf_expect(h, "hidden_act", "gelu", err));
    NB_TRY(nb_hf_expect(h, "position_embedding_type", "absolute", err));
    if (nb_hf_config_flag(h, "is_decoder", false))
        return nb_tree_bad(&h->config, nb_hf_config(h, "is_decoder"), err, NB_ERR_UNSUPPORTED,
                           "is true: only encoders are supported");
    NB_TRY(nb_hf_config_u64(h, "type_vocab_size", 1, UINT32_MAX, &types, err));
    nb_hf_put_bool(h, nb_hf_key(h, "attention.causal"), false);
    nb_hf_put_u32(h, "tokenizer.ggml.token_type_count", (uint32_t)types);
    return nb_hf_pooling(h, err);
}

const nb_hf_arch nb_hf_arch_bert = {
    .gguf = "bert",
    .classes = classes,
    .model_type = "bert",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .ignored = ignored,
    .tied = true,
    .configure = configure,
};
