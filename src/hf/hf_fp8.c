/* Weights of FP8 (E4M3, E5M2) with scales: MODULE.weight_scale_inv, one a block of weight_block_size (DeepSeek-V3, Qwen3-FP8: it
 * multiplies, whatever its name says), or MODULE.weight_scale, one a tensor or, of FBGEMM, one a row. Experts may
 * be in one tensor. Scales of activations are not used: activations are not rounded to FP8. What is not FP8 has no scale and is as
 * it is. */
#include "hf/hf_codes.h"

typedef struct settings {
    uint64_t block[2]; /* rows, columns; 0: config.json says nothing */
} settings;

static nb_status configure(nb_hf *h, const nb_tree *tree, const nb_node *q, nb_error *err)
{
    const nb_node *block = nb_node_get(q, "weight_block_size");
    settings *s = NB_NEW(&h->arena, settings);
    if (!s)
        return nb_fail_memory(err, h->dir, sizeof *s);
    *s = (settings){0};
    if (block && (block->kind != '[' || block->list.count != 2))
        return nb_tree_bad(tree, block, err, NB_ERR_FORMAT, "is not a list of rows and columns; correct it");
    for (int i = 0; block && i < 2; i++)
        NB_TRY(nb_node_u64(tree, i ? block->list.first->next : block->list.first, 1, 1 << 20, &s->block[i], err));
    h->quant_state = s;
    return NB_OK;
}

nb_status nb_hf_float_grid(nb_hf_linear *l, nb_hf_codes *c, const nb_checkpoint_tensor *scale, const uint64_t block[2],
                           nb_error *err)
{
    bool rows = !block[0] && scale->values > 1;
    c->kind = l->weight->dtype == NB_DTYPE_F8_E5M2 ? NB_HF_E5M2 : NB_HF_E4M3;
    if (l->weight->n_dims != 2 || l->weight->values == 0)
        return nb_hf_bad_part(l->weight, err, "is not a matrix");
    l->rows = l->weight->dims[0];
    l->columns = l->weight->dims[1];
    c->block_rows = block[0] ? block[0] : rows ? 1 : l->rows;
    c->group = (size_t)(block[1] && block[1] < l->columns ? block[1] : l->columns);
    c->groups = (size_t)((l->columns + c->group - 1) / c->group);
    NB_TRY(nb_hf_packed_of(l->weight, 8, l->rows, l->columns, false, &c->code, err));
    NB_TRY(nb_hf_codes_scales(c, scale, (l->rows + c->block_rows - 1) / c->block_rows, c->groups, false, err));
    return nb_hf_codes_finish(l, c, err);
}

/* The matrices of all experts as one of all their rows, if no block goes over the end of an expert's. */
static nb_status flatten(nb_hf *h, const nb_checkpoint_tensor **weight, const nb_checkpoint_tensor **scale,
                         uint64_t block_rows, nb_error *err)
{
    const nb_checkpoint_tensor *const from[] = {*weight, *scale};
    nb_checkpoint_tensor *flat = NB_ARRAY(&h->arena, nb_checkpoint_tensor, 2);
    if (!flat)
        return nb_fail_memory(err, from[0]->file, 2 * sizeof *flat);
    for (int i = 0; i < 2; i++) {
        if (from[i]->n_dims != 3 || from[i]->values == 0)
            return nb_hf_bad_part(from[i], err, "is not a matrix for each expert");
        flat[i] = *from[i];
        flat[i].n_dims = 2;
        flat[i].dims[0] = from[i]->dims[0] * from[i]->dims[1];
        flat[i].dims[1] = from[i]->dims[2];
    }
    if (block_rows && from[0]->dims[1] % block_rows != 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: tensor '%.*s' has %llu rows an expert, which are not whole blocks of %llu; take a "
                       "checkpoint with a tensor for each expert",
                       from[0]->file, NB_STR_ARG(from[0]->name), (unsigned long long)from[0]->dims[1],
                       (unsigned long long)block_rows);
    *weight = &flat[0];
    *scale = &flat[1];
    return NB_OK;
}

static nb_status find(nb_hf *h, const nb_checkpoint_tensor *w, const nb_hf_linear **out, nb_error *err)
{
    const settings *s = h->quant_state;
    nb_str module = w->name;
    bool stack = !nb_hf_strip(&module, ".weight"); /* of experts: NAME and NAME_scale_inv, [experts, rows, columns] */
    if ((w->dtype != NB_DTYPE_F8_E4M3 && w->dtype != NB_DTYPE_F8_E5M2))
        return NB_OK;
    const char *end = stack ? "_scale_inv" : ".weight_scale_inv";
    const nb_checkpoint_tensor *scale = nb_hf_beside(h, module, end);
    if (!scale)
        NB_TRY(nb_hf_need(h, w, module, s->block[0] ? end : stack ? "_scale" : ".weight_scale", &scale, err));
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    nb_hf_codes *c = NB_NEW(&h->arena, nb_hf_codes);
    if (!l || !c)
        return nb_fail_memory(err, w->file, sizeof *l);
    l->weight = w;
    *c = (nb_hf_codes){0};
    *out = l;
    if (stack)
        NB_TRY(flatten(h, &l->weight, &scale, s->block[0], err));
    return nb_hf_float_grid(l, c, scale, s->block, err);
}

static bool is_part(const nb_hf *h, nb_str name)
{
    static const char *const parts[] = {".weight_scale_inv", ".weight_scale",   ".input_scale",
                                        ".activation_scale", ".input_scale_ub", ".output_scale"};
    static const char *const cache[] = {".k_scale", ".v_scale", ".kv_scale"};
    static const char *const stacked[] = {"_scale_inv", "_scale", "_activation_scale"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (nb_hf_strip(&name, parts[i]))
            return nb_hf_beside(h, name, ".weight");
    for (size_t i = 0; i < sizeof stacked / sizeof *stacked; i++) {
        nb_str module = name;
        if (nb_hf_strip(&module, stacked[i]) && nb_hf_beside(h, module, ""))
            return true;
    }
    for (size_t i = 0; i < sizeof cache / sizeof *cache; i++)
        if (nb_hf_strip(&name, cache[i]))
            return true;
    return false;
}

static const char *const ends[] = {NULL};
const nb_hf_quant nb_hf_quant_fp8 = {"FP8", ends, configure, find, is_part};
