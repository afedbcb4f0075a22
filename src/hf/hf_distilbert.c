/* distilbert: DistilBertModel (Sanh et al. 2019), BERT without token types under names of its own; "bert" in GGUF, as llama.cpp has
 * it. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"DistilBertModel", "DistilBertForMaskedLM", NULL};
static const char *const prefixes[] = {"", "distilbert.", NULL};
static const char *const ignored[] = {"vocab_", NULL}; /* the head for pre-training */

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embeddings.word_embeddings", NB_HF_AS_IS, 0},
    {"position_embd", "~embeddings.position_embeddings", NB_HF_AS_IS, NB_HF_ALL_F32},
    {"token_embd_norm", "~embeddings.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_q", "~transformer.layer.%d.attention.q_lin", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_k", "~transformer.layer.%d.attention.k_lin", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_v", "~transformer.layer.%d.attention.v_lin", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_output", "~transformer.layer.%d.attention.out_lin", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_output_norm", "~transformer.layer.%d.sa_layer_norm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~transformer.layer.%d.ffn.lin1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~transformer.layer.%d.ffn.lin2", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.layer_output_norm", "~transformer.layer.%d.output_layer_norm", NB_HF_AS_IS, NB_HF_BIAS},
    {0},
};

static const nb_hf_key_row keys[] = {
    {"block_count", "n_layers|num_hidden_layers", NB_HF_U32, NULL},
    {"context_length", "max_position_embeddings", NB_HF_U32, "512"},
    {"embedding_length", "dim|hidden_size", NB_HF_U32, NULL},
    {"feed_forward_length", "hidden_dim", NB_HF_U32, NULL},
    {"attention.head_count", "n_heads|num_attention_heads", NB_HF_U32, NULL},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    const nb_node *activation = nb_hf_config(h, "activation");
    NB_TRY(nb_hf_expect(h, "activation", NB_HF_ACTIVATIONS, err));
    if (activation && !nb_node_is(h->text, "activation", "gelu"))
        nb_hf_put_str(h, nb_hf_key(h, "hidden_activation"), activation->str);
    nb_hf_put_f32(h, nb_hf_key(h, "attention.layer_norm_epsilon"), 1e-12); /* transformers' own constant */
    nb_hf_put_bool(h, nb_hf_key(h, "attention.causal"), false);
    return NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_str activation = NB_STR("gelu");
    nb_hf_export_str(x, ".hidden_activation", &activation);
    nb_json_key(j, "activation");
    nb_json_str(j, activation);
}

const nb_hf_arch nb_hf_arch_distilbert = {
    .gguf = "bert",
    .classes = classes,
    .model_type = "distilbert",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .ignored = ignored,
    .tied = true,
    .configure = configure,
    .put = put,
};
