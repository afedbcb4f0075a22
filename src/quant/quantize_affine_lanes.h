/* quantize_affine_lanes.h - x = scale l + offset with l = 0..levels in 16 (sub-)blocks side by side: errors, sums,
 * least squares, and the search over both ends of the range. */
#ifndef NB_QUANT_QUANTIZE_AFFINE_LANES_H
#define NB_QUANT_QUANTIZE_AFFINE_LANES_H

#include <stdbool.h>

#include "quant/quantize_lanes.h"

typedef struct qv_affine {
    qv scale, offset;
} qv_affine;

/* of the values alone */
typedef struct qv_affine_facts {
    qv low, high; /* the range */
    qv w, mean;   /* the sum of weights; the weighted mean */
    qv spread;    /* the sum of w (x - mean)^2 */
} qv_affine_facts;

/* of values and codes: sums of w l, w l l, w l (x - mean) */
typedef struct qv_affine_sums {
    qv l, ll, xl;
} qv_affine_sums;

/* the least-squares scale and offset of codes, and what they explain of the sum of w (x - mean)^2 */
typedef struct qv_affine_best {
    qv_affine at;
    qv explained;
} qv_affine_best;

static inline qv_affine_facts qv_affine_measure(const qv_blocks *b, size_t n)
{
    qv_affine_facts f = {b->x[0], b->x[0], qv_set(0), qv_set(0), qv_set(0)};
    qv sum = qv_set(0);
    for (size_t i = 0; i < n; i++) {
        f.low = qv_min(b->x[i], f.low);
        f.high = qv_max(b->x[i], f.high);
        f.w += b->w[i];
        sum += b->w[i] * b->x[i];
    }
    f.mean = qv_ratio(sum, f.w);
    for (size_t i = 0; i < n; i++)
        f.spread += b->w[i] * (b->x[i] - f.mean) * (b->x[i] - f.mean);
    return f;
}

/* w (x - scale l - offset)^2, summed; l the nearest code */
QV_INLINE qv qv_affine_error(const qv_blocks *b, size_t n, const qv_affine_facts *f, float levels, qv_affine a)
{
    qv sum = qv_set(0), inverse = qv_ratio(qv_set(1), a.scale), shift = a.offset * inverse;
    for (size_t i = 0; i < n; i++) {
        qv t = b->x[i] * inverse - shift, off = t - qv_round(qv_clamp(t, qv_set(0), qv_set(levels)));
        sum += b->w[i] * off * off;
    }
    qv off = f->mean - a.offset, constant = f->spread + f->w * off * off;
    return qv_select((qi)(a.scale == 0), constant, sum * a.scale * a.scale);
}

QV_INLINE qv_affine_sums qv_affine_sum(const qv_blocks *b, size_t n, const qv_affine_facts *f, float levels,
                                       qv_affine a)
{
    qv_affine_sums s = {qv_set(0), qv_set(0), qv_set(0)};
    qv inverse = qv_ratio(qv_set(1), a.scale), shift = a.offset * inverse;
    for (size_t i = 0; i < n; i++) {
        qv l = qv_round(qv_clamp(b->x[i] * inverse - shift, qv_set(0), qv_set(levels))), wl = b->w[i] * l;
        s.l += wl;
        s.ll += wl * l;
        s.xl += wl * (b->x[i] - f->mean);
    }
    return s;
}

QV_INLINE qv_affine_best qv_affine_fit(const qv_affine_facts *f, qv_affine_sums s)
{
    qv lean = qv_ratio(s.l, f->w); /* the mean code */
    qv_affine_best best;
    best.at.scale = qv_ratio(s.xl, s.ll - s.l * lean);
    best.at.offset = f->mean - best.at.scale * lean;
    best.explained = best.at.scale * s.xl;
    return best;
}

/* The best scale and offset found: both ends of the range moved in by fractions of a step, least squares for the
 * codes that gives, and from the best of them codes and least squares in turn. */
static inline qv_affine qv_affine_search(const qv_blocks *b, size_t n, const qv_affine_facts *f, float levels, qv low,
                                         qv high)
{
    /* in steps; not both large. Coarser or fewer small ones cost 0.5 to 1 % of the error; the large ones are for ends that
     * weigh little. */
    static const float moves[] = {-0.25f, -0.05f, 0.15f, 0.35f, 0.55f, 0.75f, 0.95f, 1.15f, 1.35f, 1.8f, 2.5f};
    enum { MOVES = sizeof moves / sizeof *moves, MOVES_BOTH = 10, TURNS = 3 };
    qv_affine_best best = {{qv_set(0), f->mean}, qv_set(0)};
    for (int i = 0; i < MOVES * MOVES; i++) {
        if (i / MOVES + i % MOVES > MOVES_BOTH)
            continue;
        float in = moves[i / MOVES], out = moves[i % MOVES];
        qv scale = (high - low) / (levels - in - out);
        qv_affine at = {scale, low + in * scale};
        qv_affine_best now = qv_affine_fit(f, qv_affine_sum(b, n, f, levels, at));
        qi better = (qi)(now.explained > best.explained);
        best.at.scale = qv_select(better, now.at.scale, best.at.scale);
        best.at.offset = qv_select(better, now.at.offset, best.at.offset);
        best.explained = qv_select(better, now.explained, best.explained);
    }
    for (int i = 0; i < TURNS; i++)
        best = qv_affine_fit(f, qv_affine_sum(b, n, f, levels, best.at));
    return best.at;
}

/* codes of the first `blocks` blocks one after the other */
QV_INLINE void qv_affine_codes(const qv_blocks *b, size_t n, float levels, qv_affine a, size_t blocks, uint8_t *codes)
{
    qv inverse = qv_ratio(qv_set(1), a.scale), shift = a.offset * inverse;
    for (size_t i = 0; i < n; i++) {
        int32_t l[QV_LANES];
        qi_store(l, qv_to_int(qv_round(qv_clamp(b->x[i] * inverse - shift, qv_set(0), qv_set(levels)))));
        for (size_t j = 0; j < blocks; j++)
            codes[j * n + i] = (uint8_t)l[j];
    }
}

#endif
