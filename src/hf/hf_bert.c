/* bert: BertModel and what wraps it (Devlin et al. 2018), RoBERTa, XLM-RoBERTa and CamemBERT (Liu et al. 2019), the same model
 * whose positions begin behind the padding's. Heads for pre-training do nothing for embeddings and are left out. */
#include <stdio.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

/* clang-format off */
#define EMBEDDINGS(POSITIONS)                                                                                          \
    {"token_embd", "~embeddings.word_embeddings", NB_HF_AS_IS, 0},                                                     \
    {"token_types", "~embeddings.token_type_embeddings", NB_HF_AS_IS, NB_HF_ALL_F32},                                  \
    {"position_embd", "~embeddings.position_embeddings", POSITIONS, NB_HF_ALL_F32},                                    \
    {"token_embd_norm", "~embeddings.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS}
#define LAYERS                                                                                                         \
    {"blk.%d.attn_q", "~encoder.layer.%d.attention.self.query", NB_HF_AS_IS, NB_HF_BIAS},                              \
    {"blk.%d.attn_k", "~encoder.layer.%d.attention.self.key", NB_HF_AS_IS, NB_HF_BIAS},                                \
    {"blk.%d.attn_v", "~encoder.layer.%d.attention.self.value", NB_HF_AS_IS, NB_HF_BIAS},                              \
    {"blk.%d.attn_output", "~encoder.layer.%d.attention.output.dense", NB_HF_AS_IS, NB_HF_BIAS},                       \
    {"blk.%d.attn_output_norm", "~encoder.layer.%d.attention.output.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},              \
    {"blk.%d.ffn_up", "~encoder.layer.%d.intermediate.dense", NB_HF_AS_IS, NB_HF_BIAS},                                \
    {"blk.%d.ffn_down", "~encoder.layer.%d.output.dense", NB_HF_AS_IS, NB_HF_BIAS},                                    \
    {"blk.%d.layer_output_norm", "~encoder.layer.%d.output.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS}
/* clang-format on */

static const nb_hf_tensor_row bert_tensors[] = {EMBEDDINGS(NB_HF_AS_IS), LAYERS, {0}};
static const nb_hf_tensor_row roberta_tensors[] = {EMBEDDINGS(NB_HF_SKIP_2), LAYERS, {0}};
static const nb_hf_tensor_row bert_ranker_tensors[] = {EMBEDDINGS(NB_HF_AS_IS),
                                                       LAYERS,
                                                       {"cls", "~pooler.dense", NB_HF_AS_IS, NB_HF_BIAS},
                                                       {"cls.output", "classifier", NB_HF_AS_IS, NB_HF_BIAS},
                                                       {0}};
static const nb_hf_tensor_row ranker_tensors[] = {EMBEDDINGS(NB_HF_SKIP_2),
                                                  LAYERS,
                                                  {"cls", "classifier.dense", NB_HF_AS_IS, NB_HF_BIAS},
                                                  {"cls.output", "classifier.out_proj", NB_HF_AS_IS, NB_HF_BIAS},
                                                  {0}};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("512"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_eps", NB_HF_F32, "1e-12"},
    {0},
};

/* the same without positions, of which two are nobody's */
static const nb_hf_key_row roberta_keys[] = {
    {"block_count", NB_HF_BLOCKS, NB_HF_U32, NULL},
    {"embedding_length", "hidden_size", NB_HF_U32, NULL},
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_eps", NB_HF_F32, "1e-12"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t types = 2;
    const nb_node *activation = nb_hf_config(h, "hidden_act");
    NB_TRY(nb_hf_expect(h, "hidden_act", NB_HF_ACTIVATIONS, err));
    NB_TRY(nb_hf_expect(h, "position_embedding_type", "absolute", err));
    if (nb_hf_config_flag(h, "is_decoder", false))
        return nb_tree_bad(&h->config, nb_hf_config(h, "is_decoder"), err, NB_ERR_UNSUPPORTED,
                           "is true: only encoders are supported");
    NB_TRY(nb_hf_config_u64(h, "type_vocab_size", 1, UINT32_MAX, &types, err));
    if (activation && !nb_node_is(h->text, "hidden_act", "gelu"))
        nb_hf_put_str(h, nb_hf_key(h, "hidden_activation"), activation->str);
    nb_hf_put_bool(h, nb_hf_key(h, "attention.causal"), false);
    nb_hf_put_u32(h, "tokenizer.ggml.token_type_count", (uint32_t)types);
    return NB_OK;
}

/* Positions count from pad_token_id + 1 on: the rows before are nobody's. */
static nb_status configure_roberta(nb_hf *h, nb_error *err)
{
    uint64_t pad = 1, positions = 512;
    NB_TRY(nb_hf_config_u64(h, "pad_token_id", 0, UINT32_MAX, &pad, err));
    if (pad != 1)
        return nb_tree_bad(&h->config, nb_hf_config(h, "pad_token_id"), err, NB_ERR_UNSUPPORTED,
                           "is not 1, as in all published models of this class");
    NB_TRY(nb_hf_config_u64(h, "max_position_embeddings", 3, UINT32_MAX, &positions, err));
    nb_hf_put_u32(h, nb_hf_key(h, "context_length"), (uint32_t)positions - 2);
    return configure(h, err);
}

/* The classifier reads the first token. Its labels are named where config.json names them. */
static void configure_labels(nb_hf *h)
{
    enum { LABELS_MOST = 64 };
    nb_str labels[LABELS_MOST];
    size_t count = 0;
    const nb_node *names = nb_hf_config(h, "id2label");
    for (const nb_node *n = names && names->kind == '{' ? names->list.first : NULL; n && count < LABELS_MOST;
         n = n->next)
        if (n->kind == '"')
            labels[count++] = n->str;
    if (count)
        nb_hf_put_strings(h, nb_hf_key(h, "classifier.output_labels"), labels, count);
    nb_hf_put_u32(h, nb_hf_key(h, "pooling_type"), 4);
}

static nb_status configure_ranker(nb_hf *h, nb_error *err)
{
    configure_labels(h);
    return configure_roberta(h, err);
}

static nb_status configure_bert_ranker(nb_hf *h, nb_error *err)
{
    configure_labels(h);
    return configure(h, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_str activation = NB_STR("gelu");
    const nb_source_tensor *types = nb_source_find_tensor(x->s, NB_STR("token_types.weight"));
    nb_hf_export_str(x, ".hidden_activation", &activation);
    nb_json_key(j, "hidden_act");
    nb_json_str(j, activation);
    nb_json_put_uint(j, "type_vocab_size", types ? types->dims[1] : 1);
}

static void put_roberta(nb_hf_exporter *x, nb_json *j)
{
    uint64_t positions = 512;
    nb_hf_export_u64(x, ".context_length", &positions);
    nb_json_put_uint(j, "max_position_embeddings", positions + 2);
    x->pad = 1; /* positions are counted from it on */
    put(x, j);
}

static void put_labels(nb_json *j, const nb_str *labels, size_t named, uint64_t count, bool inverse)
{
    nb_json_key(j, inverse ? "label2id" : "id2label");
    nb_json_open(j, '{');
    for (uint64_t i = 0; i < count; i++) {
        char text[32];
        snprintf(text, sizeof text, inverse ? "LABEL_%llu" : "%llu", (unsigned long long)i);
        nb_str label = i < named ? labels[i] : nb_str_of(text);
        if (inverse) {
            nb_json_key_str(j, label);
            nb_json_uint(j, i);
        } else {
            nb_json_key(j, text);
            snprintf(text, sizeof text, "LABEL_%llu", (unsigned long long)i);
            nb_json_str(j, i < named ? labels[i] : nb_str_of(text));
        }
    }
    nb_json_close(j, '}');
}

static void put_all_labels(nb_hf_exporter *x, nb_json *j)
{
    nb_str *labels = NULL;
    size_t named = 0;
    nb_error unread;
    const nb_source_tensor *out = nb_source_find_tensor(x->s, NB_STR("cls.output.weight"));
    if (nb_hf_export_strings(x, ".classifier.output_labels", &labels, &named, &unread) != NB_OK)
        named = 0;
    put_labels(j, labels, named, out ? out->dims[1] : 1, false);
    put_labels(j, labels, named, out ? out->dims[1] : 1, true);
}

static void put_ranker(nb_hf_exporter *x, nb_json *j)
{
    put_all_labels(x, j);
    put_roberta(x, j);
}

static void put_bert_ranker(nb_hf_exporter *x, nb_json *j)
{
    put_all_labels(x, j);
    put(x, j);
}

static const char *const bert_classes[] = {"BertModel", "BertForMaskedLM", "BertForPreTraining", NULL};
static const char *const bert_prefixes[] = {"", "bert.", NULL};
static const char *const bert_ignored[] = {"pooler.", "bert.pooler.", "cls.predictions", "cls.seq_relationship", NULL};

const nb_hf_arch nb_hf_arch_bert = {
    .gguf = "bert",
    .classes = bert_classes,
    .model_type = "bert",
    .prefixes = bert_prefixes,
    .tensors = bert_tensors,
    .keys = keys,
    .ignored = bert_ignored,
    .tied = true,
    .configure = configure,
    .put = put,
};

static const char *const bert_ranker_classes[] = {"BertForSequenceClassification", NULL};
static const char *const bert_ranker_ignored[] = {"cls.predictions", "cls.seq_relationship", NULL};

const nb_hf_arch nb_hf_arch_bert_ranker = {
    .gguf = "bert",
    .classes = bert_ranker_classes,
    .model_type = "bert",
    .prefixes = bert_prefixes,
    .tensors = bert_ranker_tensors,
    .keys = keys,
    .ignored = bert_ranker_ignored,
    .tied = true,
    .configure = configure_bert_ranker,
    .put = put_bert_ranker,
};

static const char *const roberta_classes[] = {"RobertaModel",
                                              "RobertaForMaskedLM",
                                              "XLMRobertaModel",
                                              "XLMRobertaForMaskedLM",
                                              "CamembertModel",
                                              "CamembertForMaskedLM",
                                              NULL};
static const char *const roberta_prefixes[] = {"", "roberta.", NULL};
static const char *const roberta_ignored[] = {"pooler.", "roberta.pooler.", "lm_head.", NULL};

const nb_hf_arch nb_hf_arch_roberta = {
    .gguf = "bert",
    .classes = roberta_classes,
    .model_type = "roberta",
    .prefixes = roberta_prefixes,
    .tensors = roberta_tensors,
    .keys = roberta_keys,
    .ignored = roberta_ignored,
    .tied = true,
    .configure = configure_roberta,
    .put = put_roberta,
};

static const char *const ranker_classes[] = {"XLMRobertaForSequenceClassification", "RobertaForSequenceClassification",
                                             "CamembertForSequenceClassification", NULL};

const nb_hf_arch nb_hf_arch_roberta_ranker = {
    .gguf = "bert",
    .classes = ranker_classes,
    .model_type = "roberta",
    .prefixes = roberta_prefixes,
    .tensors = ranker_tensors,
    .keys = roberta_keys,
    .ignored = roberta_ignored,
    .tied = true,
    .configure = configure_ranker,
    .put = put_ranker,
};
