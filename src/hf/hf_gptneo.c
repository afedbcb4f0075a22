/* gptneo: GPTNeoForCausalLM. */
#include "hf/export_internal.h"
#include "hf/hf_rows.h"

static const char *const classes[] = {"GPTNeoForCausalLM", NULL};
static const char *const prefixes[] = {"transformer.", "", NULL};

static const nb_hf_tensor_row tensors[] = {
    {"token_embd", "~wte", NB_HF_AS_IS, 0},
    {"position_embd", "~wpe", NB_HF_AS_IS, NB_HF_ALL_F32},
    {"blk.%d.attn_norm", "~h.%d.ln_1", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.attn_q", "~h.%d.attn.attention.q_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_k", "~h.%d.attn.attention.k_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_v", "~h.%d.attn.attention.v_proj", NB_HF_AS_IS, 0},
    {"blk.%d.attn_output", "~h.%d.attn.attention.out_proj", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_norm", "~h.%d.ln_2", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_up", "~h.%d.mlp.c_fc", NB_HF_AS_IS, NB_HF_BIAS},
    {"blk.%d.ffn_down", "~h.%d.mlp.c_proj", NB_HF_AS_IS, NB_HF_BIAS},
    {"output_norm", "~ln_f", NB_HF_AS_IS, NB_HF_BIAS},
    {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED},
    {0},
};

static const nb_hf_key_row keys[] = {
    {"block_count", "num_layers|num_hidden_layers", NB_HF_U32, NULL},
    {"context_length", "max_position_embeddings", NB_HF_U32, "2048"},
    {"embedding_length", "hidden_size", NB_HF_U32, NULL},
    {"attention.head_count", "num_heads", NB_HF_U32, NULL},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", NB_HF_F32, "1e-5"},
    {"attention.sliding_window", "window_size", NB_HF_U32, "256"},
    {"hidden_activation", "activation_function", NB_HF_STR, "gelu_new"},
    {0},
};

/* attention_types: pairs of some kinds of layers and how often they follow each other, [[["global", "local"], 12]] */
static nb_status put_windows(nb_hf *h, nb_error *err)
{
    enum { BLOCKS_MOST = 4096 };
    bool windows[BLOCKS_MOST];
    uint64_t blocks = 0, n = 0;
    const nb_node *types = nb_hf_config(h, "attention_types");
    NB_TRY(nb_hf_config_u64(h, NB_HF_BLOCKS, 1, BLOCKS_MOST, &blocks, err));
    for (const nb_node *pair = types && types->kind == '[' ? types->list.first : NULL; pair; pair = pair->next) {
        const nb_node *kinds = pair->kind == '[' ? pair->list.first : NULL, *times = kinds ? kinds->next : NULL;
        if (!times || kinds->kind != '[' || times->kind != '0' || !(times->num >= 0 && times->num <= BLOCKS_MOST))
            return nb_tree_bad(&h->config, types, err, NB_ERR_FORMAT, "has a pair that is not [[kinds], times]");
        for (uint64_t i = 0; i < (uint64_t)times->num; i++)
            for (const nb_node *kind = kinds->list.first; kind && n < blocks; kind = kind->next) {
                windows[n] = kind->kind == '"' && nb_str_eqz(kind->str, "local");
                if (!windows[n++] && !(kind->kind == '"' && nb_str_eqz(kind->str, "global")))
                    return nb_tree_bad(&h->config, types, err, NB_ERR_UNSUPPORTED,
                                       "has another kind of layer than global and local");
            }
    }
    for (; !types && n < blocks; n++)
        windows[n] = n % 2 == 1;
    if (n < blocks)
        return nb_tree_bad(&h->config, types, err, NB_ERR_FORMAT, "has %llu values for %llu layers; correct it",
                           (unsigned long long)n, (unsigned long long)blocks);
    nb_hf_put_array(h, nb_hf_key(h, "attention.sliding_window_pattern"), NB_GGUF_BOOL, windows, (size_t)blocks,
                    sizeof *windows);
    return NB_OK;
}

static nb_status configure(nb_hf *h, nb_error *err)
{
    uint64_t width = 0;
    NB_TRY(nb_hf_expect(h, "activation_function", NB_HF_ACTIVATIONS, err));
    NB_TRY(nb_hf_config_u64(h, "hidden_size", 1, 1 << 20, &width, err));
    width *= 4;
    NB_TRY(nb_hf_config_u64(h, "intermediate_size", 1, UINT32_MAX, &width, err));
    nb_hf_put_u32(h, nb_hf_key(h, "feed_forward_length"), (uint32_t)width);
    return put_windows(h, err);
}

/* attention_types: one pair a layer */
static void put(nb_hf_exporter *x, nb_json *j)
{
    const nb_gguf_value *v = nb_hf_export_find(x, ".attention.sliding_window_pattern");
    bool list = v && v->kind == NB_GGUF_ARRAY && v->element == NB_GGUF_BOOL && v->count >= x->blocks;
    uint64_t inner = 4 * x->width;
    nb_hf_export_u64(x, ".feed_forward_length", &inner);
    nb_json_put_uint(j, "intermediate_size", inner);
    nb_json_key(j, "attention_types");
    nb_json_open(j, '[');
    for (uint64_t i = 0; i < x->blocks; i++) {
        nb_json_open(j, '[');
        nb_json_open(j, '[');
        nb_json_z(j, (list ? v->data[i] != 0 : i % 2 == 1) ? "local" : "global");
        nb_json_close(j, ']');
        nb_json_uint(j, 1);
        nb_json_close(j, ']');
    }
    nb_json_close(j, ']');
}

const nb_hf_arch nb_hf_arch_gptneo = {
    .gguf = "gptneo",
    .classes = classes,
    .model_type = "gpt_neo",
    .prefixes = prefixes,
    .tensors = tensors,
    .keys = keys,
    .tied = true,
    .configure = configure,
    .put = put,
};
