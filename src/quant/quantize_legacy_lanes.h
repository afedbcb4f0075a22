/* quantize_legacy_lanes.h - the searches of types whose blocks stand alone: one scale of either sign, or a scale
 * and a minimum. Included by the file of each instruction-set level. */
#ifndef NB_QUANT_QUANTIZE_LEGACY_LANES_H
#define NB_QUANT_QUANTIZE_LEGACY_LANES_H

#include "quant/quantize_affine_lanes.h"
#include "quant/quantize_lanes.h"
#include "quant/quantize_pack.h"

/* What a type with one scale can hold, and where to look for it: `steps` values of t = largest / d, from `from` on,
 * each `ratio` times the last, with both signs. */
typedef struct scale_format {
    float low, high, from, ratio;
    int steps;
} scale_format;

/* The best storable d: of the codes that the scales tried give, the least-squares scale; then codes and scale in
 * turn, each time with the scale as it will be stored. */
static inline qv best_scale(const qv_blocks *b, size_t n, const scale_format *f)
{
    qv most = qv_largest(b, n), all = qv_energy(b, n), d = qv_set(0), explained = qv_set(0);
    qv_try_scales(b, n, most, f->low, f->high, f->from, f->ratio, f->steps, &d, &explained);
    if (f->low != -f->high)
        qv_try_scales(b, n, -most, f->low, f->high, f->from, f->ratio, f->steps, &d, &explained);
    qv best = qv_storable(b, d), error = qv_scale_error(b, n, all, best, f->low, f->high);
    for (int i = 0; i < 3; i++) {
        qv_scale_sums s = qv_sum_scale(b, n, qv_ratio(qv_set(1), d), f->low, f->high);
        d = qv_ratio(s.xl, s.ll);
        qv stored = qv_storable(b, d), e = qv_scale_error(b, n, all, stored, f->low, f->high);
        qi better = (qi)(e < error);
        best = qv_select(better, stored, best);
        error = qv_select(better, e, error);
    }
    return best;
}

/* `blocks` blocks: their scales, in the row's own units, and their codes one block after the other */
static inline void search_scale(const float *x, const float *weight, size_t n, size_t blocks, const scale_format *f,
                                float *d, uint8_t *codes)
{
    qv_blocks b;
    qv_load_blocks(&b, x, weight, n, blocks, 1, true);
    qv best = best_scale(&b, n, f);
    qv_scale_codes(&b, n, best, f->low, f->high, blocks, codes);
    qv_store(d, best * b.unit);
}

/* A row: groups of up to 16 blocks, each block packed by `pack` from its codes and scale. */
#define SEARCH_SCALE(type, values, pack, ...)                                                                          \
    static void search_##type(const float *x, const float *weight, size_t n, void *dst)                                \
    {                                                                                                                  \
        static const scale_format format = {__VA_ARGS__};                                                              \
        uint8_t *out = dst;                                                                                            \
        for (size_t left = n / (values), blocks; left; left -= blocks) {                                               \
            uint8_t codes[QV_LANES * (values)];                                                                        \
            float d[QV_LANES];                                                                                         \
            blocks = left < QV_LANES ? left : QV_LANES;                                                                \
            search_scale(x, weight, values, blocks, &format, d, codes);                                                \
            for (size_t j = 0; j < blocks; j++, out += sizeof(nb_block_##type)) {                                      \
                nb_block_##type b;                                                                                     \
                b.d = nb_f32_to_f16(d[j]);                                                                             \
                pack(codes + j * (values), &b);                                                                        \
                memcpy(out, &b, sizeof b);                                                                             \
            }                                                                                                          \
            x += blocks * (values);                                                                                    \
            weight = weight ? weight + blocks * (values) : NULL;                                                       \
        }                                                                                                              \
    }

QV_INLINE void pack_q4_0(const uint8_t *codes, nb_block_q4_0 *b) { nb_pack_nibbles(codes, b->qs); }
QV_INLINE void pack_q5_0(const uint8_t *codes, nb_block_q5_0 *b)
{
    nb_pack_nibbles(codes, b->qs);
    nb_pack_fifth(codes, b->qh);
}

/* t reaches far above the last code: where the largest value weighs little, clipping it pays (1 % of the weighted error
 * of Q4_0 and Q5_0 beside a range that ends just above it). */
SEARCH_SCALE(q4_0, 32, pack_q4_0, -8, 7, 5.0f, 1.023f, 56)
SEARCH_SCALE(q5_0, 32, pack_q5_0, -16, 15, 11.0f, 1.012f, 64)
SEARCH_SCALE(tq1_0, 256, nb_pack_tq1_0, -1, 1, 0.8f, 1.06f, 64)
SEARCH_SCALE(tq2_0, 256, nb_pack_tq2_0, -1, 1, 0.8f, 1.06f, 64)
SEARCH_SCALE(q2_0, 64, nb_pack_q2_0, -1, 2, 0.8f, 1.05f, 48)

/* One bit a value: the least-squares scale is the mean magnitude. */
static void search_q1_0(const float *x, const float *weight, size_t n, void *dst)
{
    uint8_t *out = dst;
    for (size_t left = n / 128, blocks; left; left -= blocks) {
        qv_blocks b;
        blocks = left < QV_LANES ? left : QV_LANES;
        qv_load_blocks(&b, x, weight, 128, blocks, 1, false);
        qv sum = qv_set(0), all = qv_set(0);
        for (size_t i = 0; i < 128; i++) {
            sum += b.w[i] * qv_abs(b.x[i]);
            all += b.w[i];
        }
        float d[QV_LANES];
        qv_store(d, qv_to_f16(qv_ratio(sum, all) * b.unit));
        for (size_t j = 0; j < blocks; j++, x += 128, out += sizeof(nb_block_q1_0)) {
            nb_block_q1_0 block = {.d = nb_f32_to_f16(d[j])};
            for (int i = 0; i < 128; i++)
                block.qs[i / 8] |= (uint8_t)((x[i] >= 0) << i % 8);
            memcpy(out, &block, sizeof block);
        }
        weight = weight ? weight + blocks * 128 : NULL;
    }
}

/* x = d l + m of `blocks` blocks: d and m in the row's own units, codes one block after the other */
static inline void search_affine(const float *x, const float *weight, float levels, size_t blocks, float *d, float *m,
                                 uint8_t *codes)
{
    qv_blocks b;
    qv_load_blocks(&b, x, weight, 32, blocks, 1, true);
    qv_affine_facts facts = qv_affine_measure(&b, 32);
    qv_affine a = qv_affine_search(&b, 32, &facts, levels, facts.low, facts.high), best = a;
    qv error = qv_set(__builtin_inff());
    for (int i = 0; i < 4; i++) {
        qv_affine stored = {qv_storable(&b, a.scale), qv_storable(&b, a.offset)};
        qv e = qv_affine_error(&b, 32, &facts, levels, stored);
        qi better = (qi)(e < error);
        best.scale = qv_select(better, stored.scale, best.scale);
        best.offset = qv_select(better, stored.offset, best.offset);
        error = qv_select(better, e, error);
        a = qv_affine_fit(&facts, qv_affine_sum(&b, 32, &facts, levels, a)).at;
    }
    qv_affine_codes(&b, 32, levels, best, blocks, codes);
    qv_store(d, best.scale * b.unit);
    qv_store(m, best.offset * b.unit);
}

#define SEARCH_AFFINE(type, levels, pack)                                                                              \
    static void search_##type(const float *x, const float *weight, size_t n, void *dst)                                \
    {                                                                                                                  \
        uint8_t *out = dst;                                                                                            \
        for (size_t left = n / 32, blocks; left; left -= blocks) {                                                     \
            uint8_t codes[QV_LANES * 32];                                                                              \
            float d[QV_LANES], m[QV_LANES];                                                                            \
            blocks = left < QV_LANES ? left : QV_LANES;                                                                \
            search_affine(x, weight, levels, blocks, d, m, codes);                                                     \
            for (size_t j = 0; j < blocks; j++, out += sizeof(nb_block_##type)) {                                      \
                nb_block_##type b;                                                                                     \
                b.d = nb_f32_to_f16(d[j]);                                                                             \
                b.m = nb_f32_to_f16(m[j]);                                                                             \
                pack(codes + j * 32, &b);                                                                              \
                memcpy(out, &b, sizeof b);                                                                             \
            }                                                                                                          \
            x += blocks * 32;                                                                                          \
            weight = weight ? weight + blocks * 32 : NULL;                                                             \
        }                                                                                                              \
    }

QV_INLINE void pack_q4_1(const uint8_t *codes, nb_block_q4_1 *b) { nb_pack_nibbles(codes, b->qs); }
QV_INLINE void pack_q5_1(const uint8_t *codes, nb_block_q5_1 *b)
{
    nb_pack_nibbles(codes, b->qs);
    nb_pack_fifth(codes, b->qh);
}

SEARCH_AFFINE(q4_1, 15, pack_q4_1)
SEARCH_AFFINE(q5_1, 31, pack_q5_1)

#endif
