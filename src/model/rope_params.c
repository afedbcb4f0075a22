/* Rotary positions as the caller wants them, instead of what the file says. */
#include <math.h>

#include "model/model.h"

static nb_status choose_scaling(nb_rope *r, const nb_rope_params *p, nb_error *err)
{
    static const struct {
        const char *name;
        nb_rope_scaling scaling;
    } names[] = {
        {"none", NB_ROPE_NONE}, {"linear", NB_ROPE_LINEAR}, {"yarn", NB_ROPE_YARN}, {"dynamic", NB_ROPE_DYNAMIC}};
    size_t i = 0;
    if (!p->scaling && p->factor > 0 && r->scaling == NB_ROPE_NONE)
        r->scaling = NB_ROPE_LINEAR; /* what a factor alone means */
    if (!p->scaling)
        return NB_OK;
    while (i < sizeof names / sizeof *names && strcmp(p->scaling, names[i].name) != 0)
        i++;
    if (i == sizeof names / sizeof *names)
        return nb_fail(err, NB_ERR_ARGUMENT, "rope scaling \"%.40s\" is not one of none, linear, yarn, dynamic",
                       p->scaling);
    r->scaling = names[i].scaling;
    return NB_OK;
}

static nb_status check(const nb_hparams *h, const nb_rope_params *p, nb_error *err)
{
    const double numbers[] = {p->factor, p->base, p->attention_factor, p->beta_fast, p->beta_slow};
    if (h->rope.dim == 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "this model has no rotary positions that could be scaled");
    if (h->rope.scaling == NB_ROPE_LONGROPE)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "this model has a factor for each frequency (longrope): its positions "
                       "cannot be scaled otherwise");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(numbers[i] >= 0) || !isfinite(numbers[i]))
            return nb_fail(err, NB_ERR_ARGUMENT, "rope scaling: %g is not a number above 0", numbers[i]);
    if ((p->factor > 0 && p->factor < 1) || (p->base > 0 && p->base <= 1))
        return nb_fail(err, NB_ERR_ARGUMENT, "rope scaling: a factor is 1 or more, a base more than 1");
    return NB_OK;
}

nb_status nb_hparams_scale_rope(nb_hparams *h, const nb_rope_params *p, nb_error *err)
{
    NB_TRY(check(h, p, err));
    nb_rope *r = &h->rope;
    bool same = h->rope_local.base == r->base && h->rope_local.scaling == r->scaling; /* window layers turn alike */
    double trained = r->scaling == NB_ROPE_LINEAR                                  ? (double)h->context / r->factor
                     : r->scaling == NB_ROPE_YARN || r->scaling == NB_ROPE_DYNAMIC ? r->original_context
                                                                                   : (double)h->context;
    NB_TRY(choose_scaling(r, p, err));
    if (r->scaling == NB_ROPE_NONE)
        r->factor = 1;
    else if (p->factor > 0)
        r->factor = p->factor;
    if (p->base > 0)
        r->base = p->base;
    r->original_context = p->original_context ? (double)p->original_context : trained;
    r->beta_fast = p->beta_fast > 0 ? p->beta_fast : r->beta_fast;
    r->beta_slow = p->beta_slow > 0 ? p->beta_slow : r->beta_slow;
    if (p->attention_factor > 0 || p->factor > 0 || p->scaling)
        r->attention_factor = p->attention_factor; /* 0: the scaling's own rule */
    h->context = nb_rope_stretched(r);
    if (same)
        h->rope_local = *r;
    return NB_OK;
}
