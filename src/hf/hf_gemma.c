/* gemma: Gemma 1 and Code Gemma. Their norms multiply by 1 + weight: the 1 is added here. What they call "gelu" is
 * its tanh form. */
#include <math.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GemmaForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_ADD_1, 0},
    NB_HF_QKV_ROWS(0),
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_ADD_1, 0},
    NB_HF_PLAIN_MLP_ROWS,
    {"output_norm", "~norm", NB_HF_ADD_1, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("8192"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_attention_heads", NB_HF_U32, "16"},
    {"attention.head_count_kv", "num_key_value_heads", NB_HF_U32, "16"},
    {"attention.key_length", "head_dim", NB_HF_U32, "256"},
    {"attention.value_length", "head_dim", NB_HF_U32, "256"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-6"},
    {0},
};

nb_status nb_hf_query_scale(nb_hf *h, uint64_t large, nb_error *err)
{
    uint64_t dim = 256, blocks = 0, width = 0, heads = 8;
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    NB_TRY(nb_hf_config_u64(h, NB_HF_BLOCKS, 1, UINT32_MAX, &blocks, err));
    NB_TRY(nb_hf_config_u64(h, "hidden_size", 1, UINT32_MAX, &width, err));
    NB_TRY(nb_hf_config_u64(h, "num_attention_heads", 1, UINT32_MAX, &heads, err));
    double scalar = 256, known = blocks == large ? (double)(width / heads) : (double)dim;
    NB_TRY(nb_hf_config_f64(h, "query_pre_attn_scalar", &scalar, err));
    if (!(scalar > 0))
        return nb_tree_bad(&h->config, nb_hf_config(h, "query_pre_attn_scalar"), err, NB_ERR_FORMAT,
                           "is %g; it must be above 0", scalar);
    if (scalar != known)
        nb_hf_put_f32(h, nb_hf_key(h, "attention.scale"), 1 / sqrt(scalar));
    return NB_OK;
}

void nb_hf_put_query_scale(const nb_hf_exporter *x, nb_json *j, uint64_t large)
{
    double scale = 0, scalar = (double)(x->blocks == large ? x->width / x->heads : x->head_dim);
    if (nb_hf_export_f64(x, ".attention.scale", &scale) && scale > 0)
        scalar = 1 / (scale * scale);
    nb_json_key(j, "query_pre_attn_scalar");
    if (fabs(scalar - round(scalar)) <= 1e-5 * scalar) /* a whole number but for the float in between */
        nb_json_uint(j, (uint64_t)round(scalar));
    else
        nb_hf_export_float(j, scalar);
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 256;
    NB_TRY(nb_hf_expect(h, "hidden_activation", "gelu_pytorch_tanh", err));
    NB_TRY(nb_hf_expect(h, "hidden_act", "gelu_pytorch_tanh|gelu", err));
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, &dim, err));
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    (void)x;
    nb_json_put_z(j, "hidden_act", "gelu_pytorch_tanh");
    nb_json_put_z(j, "hidden_activation", "gelu_pytorch_tanh");
}

const nb_hf_arch nb_hf_arch_gemma = {
    .gguf = "gemma",
    .classes = classes,
    .model_type = "gemma",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
