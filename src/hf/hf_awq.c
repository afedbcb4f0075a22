/* AWQ, as AutoAWQ saves it for its GEMM kernels: MODULE.qweight [inputs, outputs / 8], eight outputs of 4 bits in a word in the
 * order 0 2 4 6 1 3 5 7; qzeros [groups, outputs / 8] so, too; scales [groups, outputs]. x = (code - zero point) * scale.
 * Layout: AutoAWQ's WQLinear_GEMM; Lin et al., arXiv:2306.00978. */
#include <strings.h>

#include "hf/hf_codes.h"

typedef struct settings {
    uint64_t group; /* 0: all inputs are one */
} settings;

static const uint8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static const nb_node *either(const nb_node *q, const char *a, const char *b)
{
    const nb_node *n = nb_node_get(q, a);
    return n ? n : nb_node_get(q, b);
}

static nb_status configure(nb_hf *h, const nb_tree *tree, const nb_node *q, nb_error *err)
{
    const nb_node *version = either(q, "version", "format"), *bits = either(q, "bits", "w_bit");
    uint64_t four = 4;
    settings *s = NB_NEW(&h->arena, settings);
    if (!s)
        return nb_fail_memory(err, h->dir, sizeof *s);
    if (nb_node_is(q, "backend", "llm-awq") ||
        (version && version->kind == '"' && (version->str.n != 4 || strncasecmp(version->str.p, "gemm", 4) != 0)))
        return nb_tree_bad(tree, version ? version : q, err, NB_ERR_UNSUPPORTED,
                           "is \"%.*s\"; of AWQ, gemm is read: take the checkpoint that was saved so, or make it with "
                           "version gemm",
                           NB_STR_ARG(version && version->kind == '"' ? version->str : NB_STR("llm-awq")));
    if (bits)
        NB_TRY(nb_node_u64(tree, bits, 1, 16, &four, err));
    if (four != 4)
        return nb_tree_bad(tree, bits, err, NB_ERR_UNSUPPORTED, "is not 4, which alone is read of AWQ");
    NB_TRY(nb_hf_group_size(tree, either(q, "group_size", "q_group_size"), 128, &s->group, err));
    h->quant_state = s;
    return NB_OK;
}

static nb_status fill(nb_hf *h, const nb_checkpoint_tensor *w, nb_str module, nb_hf_linear *l, nb_hf_codes *c,
                      nb_error *err)
{
    const settings *s = h->quant_state;
    const nb_checkpoint_tensor *scales;
    NB_TRY(nb_hf_need(h, w, module, ".qzeros", &c->zeros, err));
    NB_TRY(nb_hf_need(h, w, module, ".scales", &scales, err));
    if (w->dtype != NB_DTYPE_I32 || w->n_dims != 2 || w->values == 0)
        return nb_hf_bad_part(w, err, "is not a matrix of I32");
    if (c->zeros->dtype != NB_DTYPE_I32)
        return nb_hf_bad_part(c->zeros, err, "is not a matrix of I32");
    l->weight = w;
    l->columns = w->dims[0];
    l->rows = w->dims[1] * 8;
    c->group = (size_t)(s->group && s->group < l->columns ? s->group : l->columns);
    c->groups = (size_t)((l->columns + c->group - 1) / c->group);
    NB_TRY(nb_hf_packed_of(w, 4, l->columns, l->rows, false, &c->code, err));
    NB_TRY(nb_hf_packed_of(c->zeros, 4, c->groups, l->rows, false, &c->zero, err));
    c->code.place = c->zero.place = place;
    NB_TRY(nb_hf_codes_scales(c, scales, l->rows, c->groups, true, err));
    return nb_hf_codes_finish(l, c, err);
}

static nb_status find(nb_hf *h, const nb_checkpoint_tensor *w, const nb_hf_linear **out, nb_error *err)
{
    nb_str module = w->name;
    if (!nb_hf_strip(&module, ".qweight"))
        return NB_OK;
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    nb_hf_codes *c = NB_NEW(&h->arena, nb_hf_codes);
    if (!l || !c)
        return nb_fail_memory(err, w->file, sizeof *l);
    *c = (nb_hf_codes){.by_column = true, .has_zeros = true, .zero_mask = 15, .block_rows = 1};
    *out = l;
    return fill(h, w, module, l, c, err);
}

static bool is_part(const nb_hf *h, nb_str name)
{
    return (nb_hf_strip(&name, ".qzeros") || nb_hf_strip(&name, ".scales")) && nb_hf_beside(h, name, ".qweight");
}

static const char *const ends[] = {".qweight", NULL};
const nb_hf_quant nb_hf_quant_awq = {"AWQ", ends, configure, find, is_part};
