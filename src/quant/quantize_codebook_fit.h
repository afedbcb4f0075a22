/* quantize_codebook_fit.h - the bodies of nb_codebook_fit_* and nb_codebook_codes_*: include with FIT and CODES defined
 * as their names. */
#include "quant/quant_lanes.h"
#include "quant/quantize_codebook.h"

/* a + b where x > edge, else a */
QV_INLINE qv add_above(qv a, float b, qv x, float edge)
{
#if defined(__AVX512F__)
    return _mm512_mask_add_ps(a, _mm512_cmp_ps_mask(x, qv_set(edge), _CMP_GT_OQ), a, qv_set(b));
#else
    return a + (qv)((qi)(x > edge) & (qi)qv_set(b));
#endif
}

QV_INLINE void fit_values(const codebook *c, const codebook_batch *b, const float *scale, int edges, codebook_fit *fit)
{
    qv s = qv_load(scale), inverse = qv_ratio(qv_set(1), s), cost = qv_set(0), xv = cost, vv = cost;
    for (int i = 0; i < c->values; i++) {
        qv x = qv_load(b->x[i]), w = qv_load(b->w[i]), q = x * inverse, v = qv_set(c->level[0]);
        for (int k = 0; k < edges; k++)
            v = add_above(v, c->step[k], q, c->edge[k]);
        qv wv = w * v, e = x - s * v;
        cost += w * e * e;
        xv += wv * x;
        vv += wv * v;
    }
    qv_store(fit->cost, cost);
    qv_store(fit->xv, xv);
    qv_store(fit->vv, vv);
}

void FIT(const codebook *c, const codebook_batch *b, const float scale[CODEBOOK_LANES], codebook_fit *fit)
{
    if (c->levels == 16)
        fit_values(c, b, scale, 15, fit);
    else
        fit_values(c, b, scale, 7, fit);
}

void CODES(const codebook *c, const codebook_batch *b, const float scale[CODEBOOK_LANES],
           float code[CODEBOOK_VALUES][CODEBOOK_LANES])
{
    qv inverse = qv_ratio(qv_set(1), qv_load(scale));
    for (int i = 0; i < c->values; i++) {
        qv q = qv_load(b->x[i]) * inverse, n = qv_set(0);
        for (int k = 0; k < c->levels - 1; k++)
            n = add_above(n, 1, q, c->edge[k]);
        qv_store(code[i], n);
    }
}
