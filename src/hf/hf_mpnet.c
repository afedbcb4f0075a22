/* mpnet: MPNetModel (Song et al. 2020; all-mpnet-base-v2): BERT without token types, whose scores gain by the distance between two
 * tokens. Positions count from 2 on. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"MPNetModel", "MPNetForMaskedLM", NULL};
static const char *const prefixes[] = {"", "mpnet.", NULL};
static const char *const ignored[] = {"pooler.", "mpnet.pooler.", "lm_head.", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~embeddings.word_embeddings", NB_HF_AS_IS, 0},
    {"position_embd", "~embeddings.position_embeddings", NB_HF_SKIP_2, NB_HF_ALL_F32},
    {"token_embd_norm", "~embeddings.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"attn_rel_b", "~encoder.relative_attention_bias", NB_HF_AS_IS, NB_HF_ALL_F32},
    {"blk.%d.attn_q", "~encoder.layer.%d.attention.attn.q", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_k", "~encoder.layer.%d.attention.attn.k", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_v", "~encoder.layer.%d.attention.attn.v", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_output", "~encoder.layer.%d.attention.attn.o", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_output_norm", "~encoder.layer.%d.attention.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~encoder.layer.%d.intermediate.dense", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~encoder.layer.%d.output.dense", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.layer_output_norm", "~encoder.layer.%d.output.LayerNorm", NB_HF_AS_IS, NB_HF_BIAS},
    {0},
};

static const nb_hf_key_row keys[] = {
    {"block_count", NB_HF_BLOCKS, NB_HF_U32, NULL},
    {"embedding_length", "hidden_size", NB_HF_U32, NULL},
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_eps", NB_HF_F32, "1e-12"},
    {"hidden_activation", "hidden_act", NB_HF_STR, "gelu"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t buckets = 32, positions = 512;
    NB_TRY(nb_hf_expect(h, "hidden_act", NB_HF_ACTIVATIONS, err));
    NB_TRY(nb_hf_config_u64(h, "relative_attention_num_buckets", 32, 32, &buckets, err));
    NB_TRY(nb_hf_config_u64(h, "max_position_embeddings", 3, UINT32_MAX, &positions, err));
    nb_hf_put_u32(h, nb_hf_key(h, "context_length"), (uint32_t)positions - 2);
    nb_hf_put_bool(h, nb_hf_key(h, "attention.causal"), false);
    return NB_OK;
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t positions = 510;
    nb_hf_export_u64(x, ".context_length", &positions);
    nb_json_put_uint(j, "max_position_embeddings", positions + 2);
    nb_json_put_uint(j, "relative_attention_num_buckets", 32);
    x->pad = 1; /* positions are counted from it on */
}

const nb_hf_arch nb_hf_arch_mpnet = {
    .gguf = "mpnet",
    .classes = classes,
    .model_type = "mpnet",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .ignored = ignored,
    .tied = true,
    .configure = configure,
    .put = put,
};
