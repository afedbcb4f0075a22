/* apertus: ApertusForCausalLM. The four numbers of each layer's activation are tensors there and metadata in GGUF. */
#include <stdio.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"ApertusForCausalLM", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

static const char *const ignored[] = {"*.mlp.act_fn.alpha_p", "*.mlp.act_fn.alpha_n", "*.mlp.act_fn.beta",
                                      "*.mlp.act_fn.eps", NULL};

static const nb_hf_tensor_row tensors[] = {
    NB_HF_BEGIN_ROWS,
    {"blk.%d.attn_norm", "~layers.%d.attention_layernorm", NB_HF_AS_IS, 0},
    NB_HF_ATTENTION_ROWS(NB_HF_AS_IS, NB_HF_AS_IS),
    {"blk.%d.attn_q_norm", "~layers.%d.self_attn.q_norm", NB_HF_AS_IS, 0},
    {"blk.%d.attn_k_norm", "~layers.%d.self_attn.k_norm", NB_HF_AS_IS, 0},
    {"blk.%d.ffn_norm", "~layers.%d.feedforward_layernorm", NB_HF_AS_IS, 0},
    NB_HF_UP_DOWN_ROWS,
    {"xielu.alpha_p", "~layers.%d.mlp.act_fn.alpha_p", NB_HF_NUMBERS, 0},
    {"xielu.alpha_n", "~layers.%d.mlp.act_fn.alpha_n", NB_HF_NUMBERS, 0},
    {"xielu.beta", "~layers.%d.mlp.act_fn.beta", NB_HF_NUMBERS, NB_HF_BARE},
    {"xielu.eps", "~layers.%d.mlp.act_fn.eps", NB_HF_NUMBERS, NB_HF_BARE},
    NB_HF_END_ROWS,
    {0},
};

static const nb_hf_key_row keys[] = {
    NB_HF_SIZE_KEYS("65536"),
    {"feed_forward_length", "intermediate_size", NB_HF_U32, NULL},
    NB_HF_HEAD_KEYS,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", NB_HF_F32, "1e-5"},
    {0},
};

/* one of xIELU's parameters of all layers, in a list */
static nb_status put_parameter(nb_hf *h, const char *name, nb_error *err)
{
    enum { BLOCKS_MOST = 4096 };
    float values[BLOCKS_MOST];
    char text[128];
    uint64_t blocks = 0;
    NB_TRY(nb_hf_config_u64(h, NB_HF_BLOCKS, 1, BLOCKS_MOST, &blocks, err));
    for (uint64_t i = 0; i < blocks; i++) {
        snprintf(text, sizeof text, "%slayers.%d.mlp.act_fn.%s", h->prefix, (int)i, name);
        const nb_checkpoint_tensor *t = nb_checkpoint_find(h->checkpoint, nb_str_of(text));
        if (!t || t->values != 1 || !nb_hf_type_of(t->dtype))
            return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensor '%s' of one number, which %.*s needs", h->dir, text,
                           NB_STR_ARG(h->class_name));
        nb_checkpoint_read_f32(t, 0, 1, &values[i]);
    }
    snprintf(text, sizeof text, "xielu.%s", name);
    nb_hf_put_array(h, text, NB_GGUF_F32, values, (size_t)blocks, sizeof *values);
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    static const char *const names[] = {"alpha_p", "alpha_n", "beta", "eps"};
    uint64_t dim = 0;
    NB_TRY(nb_hf_expect(h, "hidden_act", "xielu", err));
    for (int i = 0; i < 4; i++)
        NB_TRY(put_parameter(h, names[i], err));
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 12000000, err);
}

static void put(nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_z(j, "hidden_act", "xielu");
    nb_hf_put_biases(x, j, false);
}

const nb_hf_arch nb_hf_arch_apertus = {
    .gguf = "apertus",
    .classes = classes,
    .model_type = "apertus",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .ignored = ignored,
    .configure = configure,
    .put = put,
};
