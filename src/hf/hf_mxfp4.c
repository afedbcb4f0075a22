/* MXFP4 as gpt-oss has it: NAME_blocks [experts, rows, groups, 16] of U8, two values of E2M1 a byte, the low one first, and
 * NAME_scales [experts, rows, groups] of U8, powers of two. Here a matrix of experts * rows rows.
 * Source: OCP Microscaling Formats 1.0; transformers' integrations/mxfp4.py. */
#include "hf/hf_codes.h"

static nb_status configure(nb_hf *h, const nb_tree *tree, const nb_node *q, nb_error *err)
{
    (void)h, (void)tree, (void)q, (void)err;
    return NB_OK;
}

/* as a matrix of so many columns: all dimensions but the last `inner` are rows */
static nb_checkpoint_tensor flat(const nb_checkpoint_tensor *t, uint32_t inner)
{
    nb_checkpoint_tensor m = *t;
    m.n_dims = 2;
    m.dims[0] = m.dims[1] = 1;
    for (uint32_t d = 0; d < t->n_dims; d++)
        m.dims[d + inner >= t->n_dims] *= t->dims[d];
    return m;
}

static nb_status fill(nb_hf *h, nb_str name, nb_hf_linear *l, nb_hf_codes *c, nb_error *err)
{
    const nb_checkpoint_tensor *w = l->weight, *scales;
    nb_checkpoint_tensor *m = NB_ARRAY(&h->arena, nb_checkpoint_tensor, 2);
    if (!m)
        return nb_fail_memory(err, w->file, 2 * sizeof *m);
    NB_TRY(nb_hf_need(h, w, name, "_scales", &scales, err));
    if (w->dtype != NB_DTYPE_U8 || w->n_dims < 3 || w->values == 0 || w->dims[w->n_dims - 1] != 16)
        return nb_hf_bad_part(w, err, "is not bytes in blocks of 16");
    if (scales->dtype != NB_DTYPE_U8 || scales->n_dims + 1 != w->n_dims || scales->values * 16 != w->values)
        return nb_hf_bad_part(scales, err, "is not a byte for each block");
    m[0] = flat(w, 2);
    m[1] = flat(scales, 1);
    l->rows = m[0].dims[0];
    l->columns = m[0].dims[1] * 2;
    *c = (nb_hf_codes){.kind = NB_HF_E2M1, .exponents = true, .block_rows = 1, .group = 32};
    c->groups = (size_t)(l->columns / 32);
    NB_TRY(nb_hf_packed_of(&m[0], 4, l->rows, l->columns, false, &c->code, err));
    NB_TRY(nb_hf_codes_scales(c, &m[1], l->rows, c->groups, false, err));
    return nb_hf_codes_finish(l, c, err);
}

static nb_status find(nb_hf *h, const nb_checkpoint_tensor *w, const nb_hf_linear **out, nb_error *err)
{
    nb_str name = w->name;
    if (!nb_hf_strip(&name, "_blocks"))
        return NB_OK;
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    nb_hf_codes *c = NB_NEW(&h->arena, nb_hf_codes);
    if (!l || !c)
        return nb_fail_memory(err, w->file, sizeof *l);
    l->weight = w;
    *out = l;
    return fill(h, name, l, c, err);
}

static bool is_part(const nb_hf *h, nb_str name)
{
    return nb_hf_strip(&name, "_scales") && nb_hf_beside(h, name, "_blocks");
}

static const char *const ends[] = {"_blocks", NULL};
const nb_hf_quant nb_hf_quant_mxfp4 = {"MXFP4", ends, configure, find, is_part};
