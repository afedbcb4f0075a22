/* quantize_q8_0_lanes.h - Q8_0 at the speed of memory: the largest magnitude gets 127; the codes are those of the
 * scale as it is stored; and the least-squares scale of these codes is taken where it is better. A block is two
 * vectors. */
#ifndef NB_QUANT_QUANTIZE_Q8_0_LANES_H
#define NB_QUANT_QUANTIZE_Q8_0_LANES_H

#include "quant/blocks.h"
#include "quant/quant_lanes.h"

#define QV_FOLD(v, other)                                                                                              \
    ((v) = other((v), __builtin_shufflevector((v), (v), 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)),        \
     (v) = other((v), __builtin_shufflevector((v), (v), 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)),        \
     (v) = other((v), __builtin_shufflevector((v), (v), 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)),        \
     (v) = other((v), __builtin_shufflevector((v), (v), 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)))

QV_INLINE qv qv_plus(qv a, qv b) { return a + b; }

typedef int8_t q8_bytes __attribute__((vector_size(16)));

QV_INLINE void q8_0_store(qv a, qv b, int8_t *qs)
{
    q8_bytes low = __builtin_convertvector(qv_to_int(a), q8_bytes),
             high = __builtin_convertvector(qv_to_int(b), q8_bytes);
    memcpy(qs, &low, 16);
    memcpy(qs + 16, &high, 16);
}

static void search_q8_0(const float *x, const float *weight, size_t n, void *dst)
{
    uint8_t *out = dst;
    const qv most_code = qv_set(127);
    for (; n; n -= 32, x += 32, out += sizeof(nb_block_q8_0)) {
        qv a = qv_load(x), b = qv_load(x + 16), wa = qv_set(1), wb = wa;
        if (weight) {
            wa = qv_load(weight);
            wb = qv_load(weight + 16);
            weight += 32;
        }
        qv most = qv_max(qv_abs(a), qv_abs(b));
        QV_FOLD(most, qv_max);
        qv d = qv_to_f16(most / most_code), inverse = qv_ratio(qv_set(1), d);
        qv la = qv_round(qv_clamp(a * inverse, -most_code, most_code));
        qv lb = qv_round(qv_clamp(b * inverse, -most_code, most_code));
        qv xl = wa * la * a + wb * lb * b, ll = wa * la * la + wb * lb * lb;
        QV_FOLD(xl, qv_plus);
        QV_FOLD(ll, qv_plus);
        qv fitted = qv_to_f16(qv_ratio(xl, ll)), again = qv_ratio(qv_set(1), fitted);
        qv ma = qv_round(qv_clamp(a * again, -most_code, most_code));
        qv mb = qv_round(qv_clamp(b * again, -most_code, most_code));
        qv off_a = a - d * la, off_b = b - d * lb, off_c = a - fitted * ma, off_d = b - fitted * mb;
        qv gain = (wa * off_a * off_a - wa * off_c * off_c) + (wb * off_b * off_b - wb * off_d * off_d);
        QV_FOLD(gain, qv_plus);
        qi better = (qi)(gain > 0);
        nb_block_q8_0 block;
        block.d = nb_f32_to_f16(qv_select(better, fitted, d)[0]);
        q8_0_store(qv_select(better, ma, la), qv_select(better, mb, lb), block.qs);
        memcpy(out, &block, sizeof block);
    }
}

#endif
