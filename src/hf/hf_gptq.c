/* GPTQ, as AutoGPTQ and GPTQModel save it: MODULE.qweight, codes down the columns of [inputs, outputs]; qzeros, a zero point
 * a group and output, less 1 unless the format is gptq_v2; scales [groups, outputs]; g_idx, the group of each input.
 * x = (code - zero point) * scale. Layout: AutoGPTQ's QuantLinear.pack; Frantar et al., arXiv:2210.17323. */
#include "hf/hf_codes.h"

typedef struct settings {
    uint64_t bits, group; /* group 0: all inputs are one */
    bool v2, desc_act;
    bool dynamic; /* some modules have their own bits and groups, which their shapes tell */
} settings;

static nb_status configure(nb_hf *h, const nb_tree *tree, const nb_node *q, nb_error *err)
{
    const nb_node *bits = nb_node_get(q, "bits"), *pack = nb_node_get_kind(q, "pack_dtype", '"');
    const nb_node *format = nb_node_get_kind(q, "checkpoint_format", '"');
    settings *s = NB_NEW(&h->arena, settings);
    if (!s)
        return nb_fail_memory(err, h->dir, sizeof *s);
    *s = (settings){.v2 = format && nb_str_eqz(format->str, "gptq_v2"),
                    .desc_act = nb_node_flag(q, "desc_act", false),
                    .dynamic = nb_node_get_kind(q, "dynamic", '{')};
    if (format && !s->v2 && !nb_str_eqz(format->str, "gptq"))
        return nb_tree_bad(tree, format, err, NB_ERR_UNSUPPORTED,
                           "is \"%.*s\"; of GPTQ, gptq and gptq_v2 are read: save the checkpoint so",
                           NB_STR_ARG(format->str));
    if (nb_node_flag(q, "is_marlin_format", false) || (pack && !nb_str_eqz(pack->str, "int32")))
        return nb_tree_bad(tree, pack ? pack : q, err, NB_ERR_UNSUPPORTED,
                           "is packed for Marlin or in other words than int32; save the checkpoint as gptq");
    if (!bits)
        return nb_tree_bad(tree, q, err, NB_ERR_FORMAT, "has no bits; download the file again");
    NB_TRY(nb_node_u64(tree, bits, 2, 8, &s->bits, err));
    if (s->bits > 4 && s->bits < 8)
        return nb_tree_bad(tree, bits, err, NB_ERR_UNSUPPORTED, "is not 2, 3, 4 or 8, which are read");
    NB_TRY(nb_hf_group_size(tree, nb_node_get(q, "group_size"), 128, &s->group, err));
    h->quant_state = s;
    return NB_OK;
}

typedef struct parts {
    const nb_checkpoint_tensor *weight, *zeros, *scales, *order;
} parts;

static nb_status find_parts(const nb_hf *h, nb_str module, parts *p, nb_error *err)
{
    const settings *s = h->quant_state;
    NB_TRY(nb_hf_need(h, p->weight, module, ".qzeros", &p->zeros, err));
    NB_TRY(nb_hf_need(h, p->weight, module, ".scales", &p->scales, err));
    if (s->desc_act)
        NB_TRY(nb_hf_need(h, p->weight, module, ".g_idx", &p->order, err));
    p->order = nb_hf_beside(h, module, ".g_idx");
    if (p->weight->dtype != NB_DTYPE_I32 || p->weight->n_dims != 2 || p->weight->values == 0)
        return nb_hf_bad_part(p->weight, err, "is not a matrix of I32");
    if (p->zeros->dtype != NB_DTYPE_I32 || p->zeros->n_dims != 2)
        return nb_hf_bad_part(p->zeros, err, "is not a matrix of I32");
    if (p->scales->n_dims != 2 || p->scales->values == 0)
        return nb_hf_bad_part(p->scales, err, "is not a matrix");
    return NB_OK;
}

/* bits, inputs and groups of a module */
static nb_status measure(const settings *s, const parts *p, uint64_t *bits, nb_hf_linear *l, nb_hf_codes *c,
                         nb_error *err)
{
    uint64_t words = p->weight->dims[0];
    l->rows = p->weight->dims[1];
    *bits = s->dynamic ? p->zeros->dims[1] * 32 / l->rows : s->bits;
    if (*bits < 2 || *bits > 8)
        return nb_hf_bad_part(p->zeros, err, "is not as wide as codes of 2 to 8 bits make it");
    l->columns = p->order && p->order->n_dims == 1 ? p->order->dims[0] : words * 32 / *bits;
    if (l->columns == 0)
        return nb_hf_bad_part(p->weight, err, "has no columns");
    c->groups = (size_t)p->scales->dims[0];
    c->group = (size_t)(s->group && s->group < l->columns ? s->group : l->columns);
    if (s->dynamic && c->groups <= l->columns)
        c->group = (size_t)((l->columns + c->groups - 1) / c->groups);
    if ((l->columns + c->group - 1) / c->group != c->groups)
        return nb_hf_bad_part(p->scales, err, "has %zu groups, not one for each %zu of %llu columns", c->groups,
                              c->group, (unsigned long long)l->columns);
    return NB_OK;
}

static nb_status find(nb_hf *h, const nb_checkpoint_tensor *w, const nb_hf_linear **out, nb_error *err)
{
    const settings *s = h->quant_state;
    nb_str module = w->name;
    parts p = {.weight = w};
    uint64_t bits = 0;
    if (!nb_hf_strip(&module, ".qweight"))
        return NB_OK;
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    nb_hf_codes *c = NB_NEW(&h->arena, nb_hf_codes);
    if (!l || !c)
        return nb_fail_memory(err, w->file, sizeof *l);
    *c = (nb_hf_codes){.has_zeros = true, .zero_add = s->v2 ? 0 : 1, .block_rows = 1};
    l->weight = w;
    NB_TRY(find_parts(h, module, &p, err));
    NB_TRY(measure(s, &p, &bits, l, c, err));
    c->zeros = p.zeros;
    c->zero_mask = (1u << bits) - 1;
    NB_TRY(nb_hf_packed_of(w, (unsigned)bits, l->rows, l->columns, true, &c->code, err));
    NB_TRY(nb_hf_packed_of(p.zeros, (unsigned)bits, c->groups, l->rows, false, &c->zero, err));
    NB_TRY(nb_hf_codes_scales(c, p.scales, l->rows, c->groups, true, err));
    if (p.order)
        NB_TRY(nb_hf_codes_order(h, c, p.order, l->columns, err));
    *out = l;
    return nb_hf_codes_finish(l, c, err);
}

/* Linear layers without a bias are saved with one of zeros at times. */
static bool is_zero(const nb_checkpoint_tensor *t)
{
    float x;
    for (uint64_t i = 0; t && i < t->values; i++) {
        nb_checkpoint_read_f32(t, i, 1, &x);
        if (x != 0)
            return false;
    }
    return t;
}

static bool is_part(const nb_hf *h, nb_str name)
{
    nb_str module = name;
    if (nb_hf_strip(&module, ".bias"))
        return nb_hf_beside(h, module, ".qweight") && is_zero(nb_checkpoint_find(h->checkpoint, name));
    return (nb_hf_strip(&module, ".qzeros") || nb_hf_strip(&module, ".scales") || nb_hf_strip(&module, ".g_idx")) &&
           nb_hf_beside(h, module, ".qweight");
}

static const char *const ends[] = {".qweight", NULL};
const nb_hf_quant nb_hf_quant_gptq = {"GPTQ", ends, configure, find, is_part};
