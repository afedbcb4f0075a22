/* compressed-tensors, as LLM Compressor saves it: integers packed in int32 (MODULE.weight_packed, weight_shape) or one a byte,
 * or FP8; weight_scale a tensor, channel, group or block; weight_zero_point when asymmetric; weight_g_idx, the group of each
 * column. Which scheme a module has is in config_groups; a module that is ignored has a plain weight. Scales of activations
 * and of the cache are not used. Source: the compressors of compressed-tensors 0.20. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "hf/hf_codes.h"

enum { MATCH_LIMIT = 100000, MATCH_HEAP = 1 << 16 /* KiB */ };

typedef struct settings {
    const nb_tree *tree;
    const nb_node *groups; /* config_groups */
} settings;

typedef struct scheme {
    uint64_t bits, group, block[2];
    bool symmetric, is_float;
    char strategy; /* of "tensor", "channel", "group", "block": the first letter */
} scheme;

/* ---- config.json ---- */

static nb_status refuse(const nb_tree *tree, const nb_node *n, nb_str what, nb_error *err)
{
    return nb_tree_bad(
        tree, n, err, NB_ERR_UNSUPPORTED,
        "is %.*s; of compressed-tensors, pack-quantized, int-quantized, naive-quantized and float-quantized are "
        "read: take a checkpoint of these, or the one it was made from",
        NB_STR_ARG(what));
}

static nb_status check_format(const nb_tree *tree, const nb_node *q, nb_error *err)
{
    static const char *const known[] = {"pack-quantized",  "int-quantized", "naive-quantized",
                                        "float-quantized", "dense",         "mixed-precision"};
    const nb_node *format = nb_node_get_kind(q, "format", '"');
    for (size_t i = 0; format && i < sizeof known / sizeof *known; i++)
        if (nb_str_eqz(format->str, known[i]))
            return NB_OK;
    return format ? refuse(tree, format, format->str, err) : NB_OK;
}

static nb_status configure(nb_hf *h, const nb_tree *tree, const nb_node *q, nb_error *err)
{
    const nb_node *sparsity = nb_node_get_kind(q, "sparsity_config", '{'), *sparse, *turned;
    settings *s = NB_NEW(&h->arena, settings);
    if (!s)
        return nb_fail_memory(err, h->dir, sizeof *s);
    *s = (settings){tree, nb_node_get_kind(q, "config_groups", '{')};
    if (!s->groups)
        return nb_tree_bad(tree, q, err, NB_ERR_FORMAT, "has no config_groups; download the file again");
    NB_TRY(check_format(tree, q, err));
    for (const nb_node *g = s->groups->list.first; g; g = g->next)
        NB_TRY(check_format(tree, g, err));
    sparse = nb_node_get_kind(sparsity, "format", '"');
    if (sparse && !nb_str_eqz(sparse->str, "dense"))
        return refuse(tree, sparse, sparse->str, err);
    turned = nb_node_get(nb_node_get_kind(q, "transform_config", '{'), "config_groups");
    if (turned && turned->kind == '{' && turned->list.count)
        return refuse(tree, turned, NB_STR("of weights that are rotated"), err);
    h->quant_state = s;
    return NB_OK;
}

/* ---- the scheme of a module ---- */

static nb_status bad_pattern(const nb_tree *tree, const nb_node *target, int code, nb_error *err)
{
    PCRE2_UCHAR message[120] = "";
    pcre2_get_error_message(code, message, sizeof message);
    return nb_tree_bad(tree, target, err, NB_ERR_FORMAT, "the target '%.*s': %s; correct it",
                       (int)nb_min_size(target->str.n, 100), target->str.p, (const char *)message);
}

static nb_status fits(const nb_tree *tree, const nb_node *target, nb_str module, bool *is, nb_error *err)
{
    int code = 0;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)target->str.p + 3, target->str.n - 3, PCRE2_ANCHORED, &code, &at, NULL);
    if (!re)
        return bad_pattern(tree, target, code, err);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(re, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    nb_status status = match && limits ? NB_OK : nb_fail_memory(err, "the name of a module", 0);
    if (status == NB_OK) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        pcre2_set_heap_limit(limits, MATCH_HEAP);
        code = pcre2_match(re, (PCRE2_SPTR)module.p, module.n, 0, 0, match, limits);
        *is = code >= 0;
        if (code < 0 && code != PCRE2_ERROR_NOMATCH)
            status = bad_pattern(tree, target, code, err);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return status;
}

/* 3: its own name, 2: an expression ("re:...") that its name begins with, 1: the name of a class, 0: none */
static nb_status rank_of(const nb_tree *tree, const nb_node *target, nb_str module, int *rank, nb_error *err)
{
    bool is = false;
    if (target->kind != '"')
        return nb_tree_bad(tree, target, err, NB_ERR_FORMAT, "is a target that is no string; correct it");
    if (nb_str_starts(target->str, NB_STR("re:")))
        NB_TRY(fits(tree, target, module, &is, err));
    *rank = nb_str_eq(target->str, module) ? 3 : is ? 2 : 0;
    if (*rank == 0 && !memchr(target->str.p, ':', target->str.n) && !memchr(target->str.p, '.', target->str.n))
        *rank = 1;
    return NB_OK;
}

static nb_status find_group(const settings *s, nb_str module, const nb_node **out, nb_error *err)
{
    int best = 0, rank = 0;
    *out = NULL;
    for (const nb_node *g = s->groups->list.first; g; g = g->next) {
        const nb_node *targets = nb_node_get_kind(g, "targets", '[');
        for (const nb_node *t = targets ? targets->list.first : NULL; t; t = t->next) {
            NB_TRY(rank_of(s->tree, t, module, &rank, err));
            if (rank > best) {
                best = rank;
                *out = g;
            }
        }
    }
    if (*out)
        return NB_OK;
    return nb_tree_bad(s->tree, s->groups, err, NB_ERR_FORMAT, "has no group for %.*s, which is quantized; %s",
                       (int)nb_min_size(module.n, 200), module.p, "download the file again");
}

static nb_status read_strategy(const nb_tree *tree, const nb_node *weights, scheme *out, nb_error *err)
{
    static const char *const names[] = {"tensor", "channel", "group", "block"};
    const nb_node *strategy = nb_node_get_kind(weights, "strategy", '"');
    const nb_node *block = nb_node_get(weights, "block_structure");
    NB_TRY(nb_hf_group_size(tree, nb_node_get(weights, "group_size"), 0, &out->group, err));
    out->strategy = strategy ? 0 : out->group ? 'g' : 't';
    for (size_t i = 0; strategy && i < sizeof names / sizeof *names; i++)
        if (nb_str_eqz(strategy->str, names[i]))
            out->strategy = names[i][0];
    if (out->strategy == 0)
        return nb_tree_bad(
            tree, strategy, err, NB_ERR_UNSUPPORTED,
            "is none of tensor, channel, group and block, which are read; take the checkpoint it was made from");
    if (out->strategy == 'g' && !out->group)
        return nb_tree_bad(tree, weights, err, NB_ERR_FORMAT, "has groups but no group_size; download the file again");
    if (out->strategy != 'b')
        return NB_OK;
    if (!block || block->kind != '[' || block->list.count != 2)
        return nb_tree_bad(tree, weights, err, NB_ERR_FORMAT, "has no block_structure of rows and columns; correct it");
    NB_TRY(nb_node_u64(tree, block->list.first, 1, 1 << 20, &out->block[0], err));
    return nb_node_u64(tree, block->list.first->next, 1, 1 << 20, &out->block[1], err);
}

static nb_status read_scheme(const settings *s, nb_str module, scheme *out, nb_error *err)
{
    const nb_node *group, *weights, *bits;
    *out = (scheme){.bits = 8};
    NB_TRY(find_group(s, module, &group, err));
    weights = nb_node_get_kind(group, "weights", '{');
    if (!weights)
        return nb_tree_bad(s->tree, group, err, NB_ERR_FORMAT, "says nothing about weights; download the file again");
    out->symmetric = nb_node_flag(weights, "symmetric", true);
    out->is_float = nb_node_is(weights, "type", "float");
    bits = nb_node_get(weights, "num_bits");
    if (bits)
        NB_TRY(nb_node_u64(s->tree, bits, 1, 16, &out->bits, err));
    if (out->is_float ? out->bits != 8 : out->bits > 8 || out->bits < 2)
        return nb_tree_bad(s->tree, bits, err, NB_ERR_UNSUPPORTED,
                           "is not 8 of float or 2 to 8 of int, which are read; take the checkpoint it was made from");
    return read_strategy(s->tree, weights, out, err);
}

/* ---- the parts of a module ---- */

static nb_status read_shape(const nb_hf *h, nb_str module, nb_hf_linear *l, nb_error *err)
{
    const nb_checkpoint_tensor *t;
    int64_t wide[2];
    int32_t narrow[2];
    NB_TRY(nb_hf_need(h, l->weight, module, ".weight_shape", &t, err));
    if (t->values != 2 || !t->contiguous || (t->dtype != NB_DTYPE_I64 && t->dtype != NB_DTYPE_I32))
        return nb_hf_bad_part(t, err, "is not two values of I64 or I32");
    memcpy(narrow, t->data, sizeof narrow);
    if (t->dtype == NB_DTYPE_I64)
        memcpy(wide, t->data, sizeof wide);
    for (int i = 0; i < 2 && t->dtype == NB_DTYPE_I32; i++)
        wide[i] = narrow[i];
    if (wide[0] < 1 || wide[1] < 1 || wide[0] > 1 << 28 || wide[1] > 1 << 28)
        return nb_hf_bad_part(t, err, "is %lld x %lld, no shape of a matrix", (long long)wide[0], (long long)wide[1]);
    l->rows = (uint64_t)wide[0];
    l->columns = (uint64_t)wide[1];
    return NB_OK;
}

static void set_grid(const scheme *s, const nb_hf_linear *l, nb_hf_codes *c)
{
    uint64_t group = s->strategy == 'g' ? s->group : s->strategy == 'b' ? s->block[1] : l->columns;
    c->block_rows = s->strategy == 't' ? l->rows : s->strategy == 'b' ? s->block[0] : 1;
    c->group = (size_t)(group < l->columns ? group : l->columns);
    c->groups = (size_t)((l->columns + c->group - 1) / c->group);
}

/* Zero points are codes, too: packed down the rows, or an int8 each, and then less what packed ones count from. */
static nb_status take_zeros(const nb_hf *h, nb_str module, const scheme *s, const nb_hf_linear *l, nb_hf_codes *c,
                            nb_error *err)
{
    uint64_t blocks = (l->rows + c->block_rows - 1) / c->block_rows;
    unsigned half = 1u << (c->code.bits - 1);
    c->middle = half;
    if (s->symmetric)
        return NB_OK;
    NB_TRY(nb_hf_need(h, l->weight, module, ".weight_zero_point", &c->zeros, err));
    bool bytes = c->zeros->dtype == NB_DTYPE_I8;
    c->has_zeros = true;
    c->zero_add = bytes ? (half + 128) & 255 : 0;
    c->zero_mask = bytes ? 255 : 2 * half - 1;
    return nb_hf_packed_of(c->zeros, bytes ? 8 : c->code.bits, c->groups, blocks, true, &c->zero, err);
}

/* -1 everywhere: there is no order */
static nb_status take_order(nb_hf *h, nb_str module, const nb_hf_linear *l, nb_hf_codes *c, nb_error *err)
{
    const nb_checkpoint_tensor *order = nb_hf_beside(h, module, ".weight_g_idx");
    int32_t first = 0;
    if (order && order->dtype == NB_DTYPE_I32 && order->values)
        memcpy(&first, order->data, sizeof first);
    return order && first != -1 ? nb_hf_codes_order(h, c, order, l->columns, err) : NB_OK;
}

static nb_status fill(nb_hf *h, nb_str module, bool packed, nb_hf_linear *l, nb_hf_codes *c, nb_error *err)
{
    const settings *all = h->quant_state;
    const nb_checkpoint_tensor *w = l->weight, *scale;
    scheme s;
    NB_TRY(read_scheme(all, module, &s, err));
    NB_TRY(nb_hf_need(h, w, module, ".weight_scale", &scale, err));
    if (s.is_float != (w->dtype == NB_DTYPE_F8_E4M3 || w->dtype == NB_DTYPE_F8_E5M2) ||
        (packed && w->dtype != NB_DTYPE_I32))
        return nb_hf_bad_part(w, err, "holds %s, which its config group does not say", nb_dtype_name(w->dtype));
    if (s.is_float)
        return nb_hf_float_grid(l, c, scale, s.strategy == 'b' ? s.block : (uint64_t[2]){0}, err);
    if (packed)
        NB_TRY(read_shape(h, module, l, err));
    if (w->n_dims != 2 || w->values == 0)
        return nb_hf_bad_part(w, err, "is not a matrix");
    if (!packed) {
        l->rows = w->dims[0];
        l->columns = w->dims[1];
    }
    set_grid(&s, l, c);
    NB_TRY(nb_hf_packed_of(w, packed ? (unsigned)s.bits : 8, l->rows, l->columns, false, &c->code, err));
    NB_TRY(take_zeros(h, module, &s, l, c, err));
    NB_TRY(nb_hf_codes_scales(c, scale, (l->rows + c->block_rows - 1) / c->block_rows, c->groups, false, err));
    NB_TRY(take_order(h, module, l, c, err));
    return nb_hf_codes_finish(l, c, err);
}

static nb_status find(nb_hf *h, const nb_checkpoint_tensor *w, const nb_hf_linear **out, nb_error *err)
{
    nb_str module = w->name;
    bool packed = nb_hf_strip(&module, ".weight_packed");
    bool bytes = w->dtype == NB_DTYPE_I8 || w->dtype == NB_DTYPE_F8_E4M3 || w->dtype == NB_DTYPE_F8_E5M2;
    if (!packed && (!bytes || !nb_hf_strip(&module, ".weight")))
        return NB_OK;
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    nb_hf_codes *c = NB_NEW(&h->arena, nb_hf_codes);
    if (!l || !c)
        return nb_fail_memory(err, w->file, sizeof *l);
    l->weight = w;
    *c = (nb_hf_codes){0};
    *out = l;
    return fill(h, module, packed, l, c, err);
}

static bool is_part(const nb_hf *h, nb_str name)
{
    static const char *const parts[] = {".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx",
                                        ".input_scale",  ".input_zero_point",  ".output_scale", ".output_zero_point"};
    static const char *const cache[] = {".k_scale", ".v_scale", ".q_scale"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (nb_hf_strip(&name, parts[i]))
            return nb_hf_beside(h, name, ".weight_packed") || nb_hf_beside(h, name, ".weight");
    for (size_t i = 0; i < sizeof cache / sizeof *cache; i++)
        if (nb_hf_strip(&name, cache[i]))
            return true;
    return false;
}

static const char *const ends[] = {".weight_packed", NULL};
const nb_hf_quant nb_hf_quant_compressed = {"compressed-tensors", ends, configure, find, is_part};
