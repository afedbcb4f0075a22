/* exaone: ExaoneForCausalLM (EXAONE 3, 3.5, Deep). */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"ExaoneForCausalLM", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"blk.%d.attn_norm", "~h.%d.ln_1", NB_HF_AS_IS, 0},
    {"blk.%d.attn_q", "~h.%d.attn.attention.q_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_k", "~h.%d.attn.attention.k_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_v", "~h.%d.attn.attention.v_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_output", "~h.%d.attn.attention.out_proj", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~h.%d.ln_2", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_gate", "~h.%d.mlp.c_fc_0", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_up", "~h.%d.mlp.c_fc_1", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_down", "~h.%d.mlp.c_proj", NB_HF_AS_IS, 0},
    {"output_norm", "~ln_f", NB_HF_AS_IS, 0},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("2048"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "layer_norm_epsilon|rms_norm_eps", NB_HF_F32, "1e-5"},
    {0},
};

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "activation_function", "silu|swish", err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    (void)x;
    nb_json_put_z(j, "activation_function", "silu");
}

const nb_hf_arch nb_hf_arch_exaone = {
    .gguf = "exaone",
    .classes = classes,
    .model_type = "exaone",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
