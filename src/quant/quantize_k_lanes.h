/* quantize_k_lanes.h - the searches of Q2_K to Q6_K: a block of 256 values is 8 or 16 sub-blocks, one a lane, whose
 * integer scales (and minima) multiply the block's d (and dmin). Each sub-block's best scale is found first; then d
 * is searched so that integers come near these, each sub-block tries its neighbouring integers with the codes they
 * give, and d follows from all codes by least squares, in turn. Included by the file of each instruction-set level. */
#ifndef NB_QUANT_QUANTIZE_K_LANES_H
#define NB_QUANT_QUANTIZE_K_LANES_H

#include "num/half.h"
#include "quant/quantize_affine_lanes.h"
#include "quant/quantize_pack.h"

/* rounds of integers and codes, then d by least squares; more change less than 0.1 % */
enum { K_TURNS = 4 };

/* sub-blocks of n values, `span` of them a block; codes 0..levels; integer scales and minima 0..scales, 0..mins */
typedef struct k_affine_format {
    size_t n, span;
    float levels, scales, mins;
    int d_steps;                            /* d tried: largest scale / (scales + 1), / (scales + 0.5) ... */
    int coarse, coarse_min, fine, fine_min; /* neighbours on either side tried for each d, and at last */
} k_affine_format;

/* a choice for each block; d and dmin are the same in its lanes, scale and min are integers */
typedef struct k_affine {
    qv d, dmin, scale, min;
} k_affine;

QV_INLINE k_affine k_affine_select(qi mask, k_affine yes, k_affine no)
{
    return (k_affine){qv_select(mask, yes.d, no.d), qv_select(mask, yes.dmin, no.dmin),
                      qv_select(mask, yes.scale, no.scale), qv_select(mask, yes.min, no.min)};
}

QV_INLINE qv_affine k_affine_at(k_affine c) { return (qv_affine){c.d * c.scale, -c.dmin * c.min}; }

/* The best integers within `reach` of those nearest to `wanted`, for d and dmin of *c; lean: the mean code, with
 * which a minimum follows a scale. Returns the error of each sub-block. */
static inline qv k_affine_choose(const qv_blocks *b, const qv_affine_facts *f, const k_affine_format *k, qv wanted,
                                 qv lean, int reach, int min_reach, k_affine *c)
{
    const qv zero = qv_set(0);
    qv scale0 = qv_round(qv_clamp(qv_ratio(wanted, c->d), zero, qv_set(k->scales)));
    qv best = qv_set(__builtin_inff()), best_scale = scale0, best_min = zero;
    for (int i = -reach; i <= reach; i++) {
        qv scale = qv_clamp(scale0 + (float)i, zero, qv_set(k->scales)), multiplier = c->d * scale;
        qv min0 = qv_round(qv_clamp(qv_ratio(multiplier * lean - f->mean, c->dmin), zero, qv_set(k->mins)));
        for (int j = -min_reach; j <= min_reach; j++) {
            qv min = qv_clamp(min0 + (float)j, zero, qv_set(k->mins));
            qv e = qv_affine_error(b, k->n, f, k->levels, (qv_affine){multiplier, -c->dmin * min});
            qi better = (qi)(e < best);
            best = qv_select(better, e, best);
            best_scale = qv_select(better, scale, best_scale);
            best_min = qv_select(better, min, best_min);
        }
    }
    c->scale = best_scale;
    c->min = best_min;
    return best;
}

/* d and dmin by least squares for the codes and integers of *c: x = d (scale l) - dmin min. *lean follows. */
static inline k_affine k_affine_refit(const qv_blocks *b, const qv_affine_facts *f, const k_affine_format *k,
                                      k_affine c, qv *lean)
{
    qv_affine_sums s = qv_affine_sum(b, k->n, f, k->levels, k_affine_at(c));
    *lean = qv_ratio(s.l, f->w);
    qv xl = s.xl + f->mean * s.l;
    qv dd = qv_span_sum(c.scale * c.scale * s.ll, k->span), dm = qv_span_sum(c.scale * c.min * s.l, k->span);
    qv mm = qv_span_sum(c.min * c.min * f->w, k->span), xd = qv_span_sum(c.scale * xl, k->span);
    qv xm = qv_span_sum(c.min * f->mean * f->w, k->span);
    qv det = dd * mm - dm * dm;
    qi flat = (qi)(det <= 1e-6f * dd * mm); /* also without minima */
    qv d = qv_select(flat, qv_ratio(xd + c.dmin * dm, dd), qv_ratio(xd * mm - xm * dm, det));
    qv dmin = qv_select(flat, c.dmin, qv_ratio(xd * dm - xm * dd, det));
    c.d = qv_select((qi)(d > 0), qv_storable(b, d), c.d);
    c.dmin = qv_select((qi)(dmin > 0), qv_storable(b, dmin), c.dmin);
    return c;
}

/* Searches d and dmin along lines: the largest sub-block's scale gets each of the integers near the last. */
static inline k_affine k_affine_start(const qv_blocks *b, const qv_affine_facts *f, const k_affine_format *k,
                                      qv_affine at, qv lean, qv *least)
{
    qv top = qv_span_max(at.scale, k->span), depth = qv_span_max(-at.offset, k->span);
    k_affine best = {qv_storable(b, top / k->scales), qv_storable(b, depth / k->mins), qv_set(0), qv_set(0)};
    qv error = qv_span_sum(k_affine_choose(b, f, k, at.scale, lean, k->coarse, k->coarse_min, &best), k->span);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < k->d_steps; i++) {
            float part = 1 - 0.5f * (float)i; /* steps of half an integer */
            k_affine c = best;
            if (round == 0)
                c.d = qv_storable(b, top / (k->scales + part));
            else
                c.dmin = qv_storable(b, depth / (k->mins + part));
            qv e = qv_span_sum(k_affine_choose(b, f, k, at.scale, lean, k->coarse, k->coarse_min, &c), k->span);
            qi better = (qi)(e < error);
            best = k_affine_select(better, c, best);
            error = qv_select(better, e, error);
        }
    *least = error;
    return best;
}

/* values and facts as seen in a mirror */
static inline void k_affine_mirror(qv_blocks *b, qv_affine_facts *f, float levels, qi where, qv_affine *at, qv *lean)
{
    qi sign = where & INT32_MIN;
    qv high = (qv)((qi)f->high ^ sign), low = (qv)((qi)f->low ^ sign);
    f->low = qv_select(where, high, low);
    f->high = qv_select(where, low, high);
    f->mean = (qv)((qi)f->mean ^ sign);
    for (size_t i = 0; i < b->n; i++)
        b->x[i] = (qv)((qi)b->x[i] ^ sign);
    b->unit = (qv)((qi)b->unit ^ sign);
    b->inverse_unit = (qv)((qi)b->inverse_unit ^ sign);
    at->offset = qv_select(where, -(at->offset + levels * at->scale), at->offset);
    *lean = qv_select(where, levels - *lean, *lean);
}

/* the search from one side: *error is what is left */
static inline k_affine k_affine_settle(const qv_blocks *b, const qv_affine_facts *f, const k_affine_format *k,
                                       qv_affine at, qv lean, qv *error)
{
    k_affine c = k_affine_start(b, f, k, at, lean, error), best = c;
    for (int i = 0; i < K_TURNS; i++) {
        qv wanted = i ? c.d * c.scale : at.scale;
        c = i ? k_affine_refit(b, f, k, c, &lean) : c;
        qv e = qv_span_sum(k_affine_choose(b, f, k, wanted, lean, k->fine, k->fine_min, &c), k->span);
        qi better = (qi)(e < *error);
        best = k_affine_select(better, c, best);
        *error = qv_select(better, e, *error);
    }
    return best;
}

/* Values as they are and, with d and dmin negative, in a mirror: minima are then above. The better of both; *b is
 * left as that sees it. */
static inline k_affine k_affine_search(qv_blocks *b, const k_affine_format *k)
{
    qv_affine_facts f = qv_affine_measure(b, k->n);
    qv low = qv_min(f.low, qv_set(0)), high = qv_max(f.high, qv_set(0));
    qv_affine at = qv_affine_search(b, k->n, &f, k->levels, low, high);
    qv lean = qv_ratio(qv_affine_sum(b, k->n, &f, k->levels, at).l, f.w), errors[2];
    k_affine found[2];
    for (int i = 0; i < 2; i++) {
        found[i] = k_affine_settle(b, &f, k, at, lean, &errors[i]);
        k_affine_mirror(b, &f, k->levels, qi_set(-1), &at, &lean);
    }
    qi mirrored = (qi)(errors[1] < errors[0]);
    k_affine_mirror(b, &f, k->levels, mirrored, &at, &lean);
    return k_affine_select(mirrored, found[1], found[0]);
}

/* The plain formula: the range of each sub-block (0 included) in even steps, the largest scale and minimum get the
 * last integers. */
static inline k_affine k_affine_plain(const qv_blocks *b, const k_affine_format *k)
{
    qv_affine_facts f = qv_affine_measure(b, k->n);
    qv low = qv_min(f.low, qv_set(0)), scale = qv_max(f.high - low, qv_set(0)) / k->levels;
    k_affine c;
    c.d = qv_storable(b, qv_span_max(scale, k->span) / k->scales);
    c.dmin = qv_storable(b, qv_span_max(-low, k->span) / k->mins);
    c.scale = qv_round(qv_clamp(qv_ratio(scale, c.d), qv_set(0), qv_set(k->scales)));
    c.min = qv_round(qv_clamp(qv_ratio(-low, c.dmin), qv_set(0), qv_set(k->mins)));
    return c;
}

/* what pack needs of 16 lanes */
typedef struct k_result {
    float d[QV_LANES], dmin[QV_LANES]; /* in the row's own units */
    uint8_t scales[QV_LANES], mins[QV_LANES];
    uint8_t codes[QV_LANES * 32];
} k_result;

static inline void k_affine_run(const float *x, const float *weight, const k_affine_format *k, size_t blocks,
                                bool plain, k_result *out)
{
    qv_blocks b;
    qv_load_blocks(&b, x, weight, k->n, blocks * k->span, k->span, true);
    k_affine c = plain ? k_affine_plain(&b, k) : k_affine_search(&b, k);
    qv_affine_codes(&b, k->n, k->levels, k_affine_at(c), blocks * k->span, out->codes);
    qv_store(out->d, c.d * b.unit);
    qv_store(out->dmin, c.dmin * b.unit);
    for (int j = 0; j < QV_LANES; j++) {
        out->scales[j] = (uint8_t)c.scale[j];
        out->mins[j] = (uint8_t)c.min[j];
    }
}

#define K_ROW(type, run, format, span, PACK)                                                                           \
    static void search_##type(const float *x, const float *weight, size_t n, bool plain, void *dst)                    \
    {                                                                                                                  \
        uint8_t *out = dst;                                                                                            \
        for (size_t left = n / 256, blocks; left; left -= blocks) {                                                    \
            k_result r;                                                                                                \
            blocks = left < QV_LANES / (span) ? left : QV_LANES / (span);                                              \
            run(x, weight, &format, blocks, plain, &r);                                                                \
            for (size_t j = 0; j < blocks; j++, out += sizeof(nb_block_##type)) {                                      \
                const uint8_t *codes = r.codes + j * 256;                                                              \
                const size_t at = j * (span);                                                                          \
                nb_block_##type b;                                                                                     \
                b.d = nb_f32_to_f16(r.d[at]);                                                                          \
                PACK;                                                                                                  \
                memcpy(out, &b, sizeof b);                                                                             \
            }                                                                                                          \
            x += blocks * 256;                                                                                         \
            weight = weight ? weight + blocks * 256 : NULL;                                                            \
        }                                                                                                              \
    }
#define K_AFFINE_PACK(pack) (b.dmin = nb_f32_to_f16(r.dmin[at]), pack(codes, r.scales + at, r.mins + at, &b))

static const k_affine_format format_q2_k = {16, 16, 3, 15, 15, 12, 0, 1, 2, 2};
static const k_affine_format format_q4_k = {32, 8, 15, 63, 63, 8, 0, 0, 1, 1};
static const k_affine_format format_q5_k = {32, 8, 31, 63, 63, 8, 0, 0, 1, 1};
K_ROW(q2_k, k_affine_run, format_q2_k, 16, K_AFFINE_PACK(nb_pack_q2_k))
K_ROW(q4_k, k_affine_run, format_q4_k, 8, K_AFFINE_PACK(nb_pack_q4_k))
K_ROW(q5_k, k_affine_run, format_q5_k, 8, K_AFFINE_PACK(nb_pack_q5_k))

/* 16 sub-blocks of 16: codes low..high, integer scales scale_low..scale_high, of either sign */
typedef struct k_signed_format {
    float low, high, scale_low, scale_high;
    float from, ratio; /* scales tried: largest / t, t from `from` on, each
                        `ratio` times the last */
    int steps, d_steps, sides, coarse, fine;
} k_signed_format;

typedef struct k_signed {
    qv d, scale;
} k_signed;

/* The best integers within `reach` of those nearest to either wanted scale. */
static inline qv k_signed_choose(const qv_blocks *b, const k_signed_format *k, qv all, const qv *wanted, int sides,
                                 int reach, k_signed *c)
{
    const qv low = qv_set(k->scale_low), high = qv_set(k->scale_high);
    qv best = qv_set(__builtin_inff()), best_scale = qv_set(0);
    for (int side = 0; side < sides; side++) {
        qv scale0 = qv_round(qv_clamp(qv_ratio(wanted[side], c->d), low, high));
        for (int i = -reach; i <= reach; i++) {
            qv scale = qv_clamp(scale0 + (float)i, low, high);
            qv e = qv_scale_error(b, 16, all, c->d * scale, k->low, k->high);
            qi better = (qi)(e < best);
            best = qv_select(better, e, best);
            best_scale = qv_select(better, scale, best_scale);
        }
    }
    c->scale = best_scale;
    return best;
}

static inline k_signed k_signed_refit(const qv_blocks *b, const k_signed_format *k, k_signed c)
{
    qv_scale_sums s = qv_sum_scale(b, 16, qv_ratio(qv_set(1), c.d * c.scale), k->low, k->high);
    qv xd = qv_span_sum(c.scale * s.xl, 16), dd = qv_span_sum(c.scale * c.scale * s.ll, 16);
    c.d = qv_select((qi)(dd > 0), qv_storable(b, qv_ratio(xd, dd)), c.d);
    return c;
}

/* the lane of the largest magnitude, with its sign, in all lanes */
QV_INLINE qv k_extreme(qv v)
{
    float most = v[0];
    for (int j = 1; j < QV_LANES; j++)
        most = __builtin_fabsf(v[j]) > __builtin_fabsf(most) ? v[j] : most;
    return qv_set(most);
}

/* Completes c with the best integers; *best becomes c in the blocks where that leaves less than *error. */
static inline void k_signed_try(const qv_blocks *b, const k_signed_format *k, qv all, const qv *wanted, int sides,
                                int reach, k_signed *c, k_signed *best, qv *error)
{
    qv e = qv_span_sum(k_signed_choose(b, k, all, wanted, sides, reach, c), QV_LANES);
    qi better = (qi)(e < *error);
    *best = (k_signed){qv_select(better, c->d, best->d), qv_select(better, c->scale, best->scale)};
    *error = qv_select(better, e, *error);
}

static inline k_signed k_signed_search(const qv_blocks *b, const k_signed_format *k)
{
    qv most = qv_largest(b, 16), all = qv_energy(b, 16), wanted[2], explained[2], error = qv_set(__builtin_inff());
    for (int side = 0; side < 2; side++) {
        wanted[side] = explained[side] = qv_set(0);
        qv_try_scales(b, 16, side ? -most : most, k->low, k->high, k->from, k->ratio, k->steps, &wanted[side],
                      &explained[side]);
    }
    qi second = (qi)(explained[1] > explained[0]); /* the better one first */
    qv first = qv_select(second, wanted[1], wanted[0]), top = k_extreme(first);
    wanted[1] = qv_select(second, wanted[0], wanted[1]);
    wanted[0] = first;
    k_signed best = {qv_set(0), qv_set(0)}, c;
    for (int i = 0; i < k->d_steps; i++) {
        float part = 0.5f * (float)(i / 2);
        c = (k_signed){qv_storable(b, top / (i % 2 ? k->scale_low + part : k->scale_high + 1 - part)), qv_set(0)};
        k_signed_try(b, k, all, wanted, k->sides, k->coarse, &c, &best, &error);
    }
    c = best;
    for (int i = 0; i < K_TURNS; i++) {
        const qv last = c.d * c.scale;
        c = i ? k_signed_refit(b, k, c) : c;
        k_signed_try(b, k, all, i ? &last : wanted, i ? 1 : k->sides, k->fine, &c, &best, &error);
    }
    return best;
}

/* The plain formula: the largest magnitude of each sub-block gets the lowest code, the largest scale the lowest
 * integer. */
static inline k_signed k_signed_plain(const qv_blocks *b, const k_signed_format *k)
{
    qv most = qv_set(0);
    for (int i = 0; i < 16; i++)
        most = qv_select((qi)(qv_abs(b->x[i]) > qv_abs(most)), b->x[i], most);
    qv scale = most / k->low;
    k_signed c = {qv_storable(b, k_extreme(scale) / k->scale_low), qv_set(0)};
    c.scale = qv_round(qv_clamp(qv_ratio(scale, c.d), qv_set(k->scale_low), qv_set(k->scale_high)));
    return c;
}

static inline void k_signed_run(const float *x, const float *weight, const k_signed_format *k, size_t blocks,
                                bool plain, k_result *out)
{
    qv_blocks b;
    qv_load_blocks(&b, x, weight, 16, blocks * 16, 16, true);
    k_signed c = plain ? k_signed_plain(&b, k) : k_signed_search(&b, k);
    qv_scale_codes(&b, 16, c.d * c.scale, k->low, k->high, 16, out->codes);
    qv_store(out->d, c.d * b.unit);
    for (int j = 0; j < QV_LANES; j++)
        out->scales[j] = (uint8_t)(int)c.scale[j];
}

QV_INLINE void pack_q3_k(const uint8_t *codes, uint8_t *scales, nb_block_q3_k *b)
{
    for (int i = 0; i < 16; i++)
        scales[i] = (uint8_t)(scales[i] + 32);
    nb_pack_q3_k(codes, scales, b);
}

static const k_signed_format format_q3_k = {-4, 3, -32, 31, 2.0f, 1.04f, 40, 24, 2, 0, 2};
static const k_signed_format format_q6_k = {-32, 31, -128, 127, 24.0f, 1.028f, 20, 8, 1, 0, 2};
K_ROW(q3_k, k_signed_run, format_q3_k, 16, pack_q3_k(codes, r.scales + at, &b))
K_ROW(q6_k, k_signed_run, format_q6_k, 16, nb_pack_q6_k(codes, (const int8_t *)r.scales + at, &b))

#endif
