/* The plain C level: it defines what the others compute, and serves processors without kernels of their own.
 * Vectors of four rows; integer sums exact, floats by fmaf. */
#define LANES 4
#include "kernel/matmul_types.h"

#include "num/half.h"

INLINE vf vf_fma(vf a, vf b, vf c)
{
    vf r;
    for (int i = 0; i < LANES; i++)
        r[i] = fmaf(a[i], b[i], c[i]);
    return r;
}

/* ---- 8-bit ---- */

INLINE int32_t int_at(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE float float_at(const uint8_t *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* sum of codes times the token's values, quads [begin, end) */
INLINE vi dot_quads(const block *w, const uint8_t *panel, size_t width, size_t t, unsigned begin, unsigned end)
{
    vi sum = {0};
    for (unsigned q = begin; q < end; q++) {
        const int8_t *a = (const int8_t *)panel + (q * width + t) * 4;
        for (unsigned j = 0; j < 4; j++)
            sum += (vi)(w->code[q] >> 8 * j & 255) * a[j];
    }
    return sum;
}

/* panel: the record of this block of 32 values; acc: a token's sums of these rows, the next token's `stride` on */
static __attribute__((noinline)) void dot_block(const block *w, shape s, const uint8_t *panel, size_t width, float *acc,
                                                size_t stride)
{
    for (size_t t = 0; t < width; t++) {
        int32_t all = int_at(panel + 32 * width + 4 * t), low = int_at(panel + 36 * width + 4 * t);
        int32_t minus[2] = {s.subs == 2 ? low : all, all - low};
        vf value = {0};
        for (unsigned i = 0; i < s.subs; i++) {
            vi dot = dot_quads(w, panel, width, t, i * 4, s.subs == 2 ? i * 4 + 4 : 8);
            if (!s.min)
                dot += minus[i] * (1 << s.shift);
            vf f = __builtin_convertvector(dot, vf);
            value = i == 0 ? f * w->scale[0] : vf_fma(f, w->scale[1], value);
        }
        for (unsigned i = 0; s.min && i < s.subs; i++)
            value = vf_fma(w->min[i], (vf){0} + (float)minus[i], value);
        vf scale = (vf){0} + float_at(panel + 40 * width + 4 * t);
        vf_store(acc + t * stride, vf_fma(value, scale, vf_load(acc + t * stride)));
    }
}

#include "kernel/matmul_lanes.h"

/* ---- float ---- */

INLINE void dot_float(nb_type type, const uint8_t *tile, const float *panel, size_t width, size_t n, nb_sums acc)
{
    begin_sums(acc, width);
    size_t bytes = type == NB_TYPE_F16 ? 2 : 4;
    for (size_t begin = 0; begin < n; begin += NB_SPAN_F32) {
        size_t end = nb_min_size(n, begin + NB_SPAN_F32);
        for (size_t t = 0; t < width; t++)
            for (size_t lane = 0; lane < 16; lane += LANES) {
                float *at = acc.at + t * acc.stride + lane;
                vf part[4] = {{0}}, sum = vf_load(at);
                for (size_t k = begin; k < end; k++)
                    part[k % 4] = vf_fma(tile_float(type, tile + lane * bytes, k), (vf){0} + panel[k * width + t],
                                         part[k % 4]);
                for (int j = 0; j < 4; j++)
                    sum += part[j];
                vf_store(at, sum);
            }
    }
}

#define UNPACK_PAYS(words, order, bits) true
#define LEVEL nb_matmul_ref
#define PACK nb_pack_ref
#define TRANSPOSE16 nb_transpose16_ref
#define ACT_Q8 nb_act_q8_ref
#define ACT_F32 nb_act_f32_ref
#include "kernel/matmul_rows.h"
