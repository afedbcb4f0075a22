/* baichuan: BaiChuanForCausalLM (Baichuan 7B) and BaichuanForCausalLM (Baichuan 13B, Baichuan2). W_pack holds all queries, then all
 * keys, then all values. The second generation's code scales the rows of its head to length 1 before it uses them: here they are. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"BaiChuanForCausalLM", NULL};
static const char *const second_classes[] = {"BaichuanForCausalLM", NULL};
static const char *const prefixes[] = {"model.", NULL};

/* clang-format off */
#define ROWS_BUT_HEAD \
    NB_HF_BEGIN_ROWS, \
    NB_HF_NORM_ROWS(0), \
    {"blk.%d.attn_q", "~layers.%d.self_attn.W_pack", NB_HF_SPLIT_Q, NB_HF_IN_ORDER}, \
    {"blk.%d.attn_k", "~layers.%d.self_attn.W_pack", NB_HF_SPLIT_K, NB_HF_IN_ORDER}, \
    {"blk.%d.attn_v", "~layers.%d.self_attn.W_pack", NB_HF_SPLIT_V, NB_HF_IN_ORDER}, \
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0}, \
    NB_HF_MLP_ROWS, \
    {"output_norm", "~norm", NB_HF_AS_IS, 0}
/* clang-format on */

static const nb_hf_tensor_row tensors[] = {ROWS_BUT_HEAD, {"output", "lm_head", NB_HF_AS_IS, 0}, {0}};
static const nb_hf_tensor_row second_tensors[] = {ROWS_BUT_HEAD, {"output", "lm_head", NB_HF_UNIT_ROWS, 0}, {0}};

enum { ALIBI_BLOCKS = 40 }; /* of the 13B */

static const nb_hf_key_row keys[] = {
    {"block_count", "num_hidden_layers", NB_HF_U32, NULL},
    {"context_length", "max_position_embeddings|model_max_length", NB_HF_U32, "4096"},
    {"embedding_length", "hidden_size", NB_HF_U32, NULL},
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0, blocks = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "silu|swish", err));
    NB_TRY(nb_hf_config_u64(h, NB_HF_BLOCKS, 1, 4096, &blocks, err));
    if (blocks == ALIBI_BLOCKS)
        return NB_OK;
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    uint64_t length = 4096;
    nb_json_put_z(j, "hidden_act", "silu");
    if (x->blocks != ALIBI_BLOCKS)
        return;
    nb_hf_export_u64(x, ".context_length", &length);
    nb_json_put_uint(j, "model_max_length", length);
}

const nb_hf_arch nb_hf_arch_baichuan = {
    .gguf = "baichuan",
    .classes = classes,
    .model_type = "baichuan",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .configure = configure,
    .put = put,
};

/* Baichuan 13B has the second generation's class, but not its head, nor the loss on it in its configuration. */
static const nb_hf_arch *first_generation(const nb_hf *h)
{
    const nb_node *blocks = nb_hf_config(h, NB_HF_BLOCKS);
    bool large = blocks && blocks->kind == '0' && blocks->num == ALIBI_BLOCKS;
    return large && !nb_hf_config(h, "z_loss_weight") ? &nb_hf_arch_baichuan : NULL;
}

const nb_hf_arch nb_hf_arch_baichuan2 = {
    .gguf = "baichuan",
    .classes = second_classes,
    .model_type = "baichuan",
    .prefixes = prefixes,
    .tensors = second_tensors,
    .keys = keys,
    .configure = configure,
    .instead = first_generation,
};
