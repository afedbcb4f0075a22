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

typedef struct block {
    vu code[8];
    vf scale[2], min[2];
} block;

typedef struct shape {
    unsigned subs, shift;
    bool min;
} shape;

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

/* panel: the record of this block of 32 values; acc[width][16] moved to these rows */
INLINE void dot_block(const block *w, shape s, const uint8_t *panel, size_t width, float *acc)
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
        vf_store(acc + t * 16, vf_fma(value, scale, vf_load(acc + t * 16)));
    }
}

INLINE void load_block(nb_type type, shape s, const uint8_t *tile, unsigned b, unsigned lane, block *out)
{
    const uint8_t *words = tile + (s.min ? 64 : 32) + 4 * lane;
    vf d = vf_half(tile + 2 * lane), m = s.min ? vf_half(tile + 32 + 2 * lane) : d;
    for (unsigned q = 0; q < 8; q++)
        out->code[q] = tile_quad(type, words, b, q);
    for (unsigned i = 0; i < s.subs; i++) {
        out->scale[i] = tile_scale(type, words, d, b, i);
        out->min[i] = tile_min(type, words, m, b, i);
    }
}

INLINE void dot_tile(nb_type type, shape s, size_t tile_bytes, unsigned blocks, const uint8_t *tile, const uint8_t *panel,
                     size_t width, size_t n, float *acc)
{
    for (; n; n--, tile += tile_bytes)
        for (unsigned b = 0; b < blocks; b++, panel += NB_PANEL_Q8_BYTES * width)
            for (unsigned lane = 0; lane < 16; lane += LANES) {
                block w;
                load_block(type, s, tile, b, lane, &w);
                dot_block(&w, s, panel, width, acc + lane);
            }
}

INLINE void unpack_tile(nb_type type, shape s, size_t tile_bytes, unsigned blocks, const uint8_t *tile, size_t n,
                        uint8_t *codes)
{
    for (; n; n--, tile += tile_bytes)
        for (unsigned b = 0; b < blocks; b++, codes += nb_codes_bytes(s.subs, s.min))
            for (unsigned lane = 0; lane < 16; lane += LANES) {
                block w;
                load_block(type, s, tile, b, lane, &w);
                for (size_t q = 0; q < 8; q++)
                    memcpy(codes + q * 64 + 4 * lane, &w.code[q], sizeof(vu));
                for (size_t i = 0; i < s.subs; i++) {
                    vf_store(codes + 512 + i * 64 + 4 * lane, w.scale[i]);
                    if (s.min)
                        vf_store(codes + 512 + (s.subs + i) * 64 + 4 * lane, w.min[i]);
                }
            }
}

INLINE void dot_codes(shape s, const uint8_t *codes, const uint8_t *panel, size_t n, float *acc)
{
    for (; n; n--, codes += nb_codes_bytes(s.subs, s.min), panel += NB_PANEL_Q8_BYTES * 8)
        for (size_t lane = 0; lane < 16; lane += LANES) {
            block w;
            memset(&w, 0, sizeof w);
            for (size_t q = 0; q < 8; q++)
                w.code[q] = vu_load(codes + q * 64 + 4 * lane);
            for (size_t i = 0; i < s.subs; i++) {
                w.scale[i] = vf_load(codes + 512 + i * 64 + 4 * lane);
                if (s.min)
                    w.min[i] = vf_load(codes + 512 + (s.subs + i) * 64 + 4 * lane);
            }
            dot_block(&w, s, panel, 8, acc + lane);
        }
}

/* ---- float ---- */

INLINE void dot_float(nb_type type, const uint8_t *tile, const float *panel, size_t width, size_t n, float *acc)
{
    size_t bytes = type == NB_TYPE_F32 ? 4 : 2;
    for (size_t begin = 0; begin < n; begin += NB_GROUP_F32) {
        size_t end = nb_min_size(n, begin + NB_GROUP_F32);
        for (size_t t = 0; t < width; t++)
            for (size_t lane = 0; lane < 16; lane += LANES) {
                vf part = {0};
                for (size_t k = begin; k < end; k++)
                    part = vf_fma(tile_float(type, tile + lane * bytes, k), (vf){0} + panel[k * width + t], part);
                vf_store(acc + t * 16 + lane, vf_load(acc + t * 16 + lane) + part);
            }
    }
}

/* ---- a set of functions for each row ---- */

#define DOT(type, width, s, bytes, blocks)                                                                             \
    static void dot##width##_##type(const void *w, const void *panel, size_t n, float *acc)                            \
    {                                                                                                                  \
        dot_tile(NB_TYPE_##type, s, bytes, blocks, w, panel, width, n, acc);                                           \
    }
#define NB_MATMUL_Q(type, d, m, words_at, words, fifth, subs, shift)                                                   \
    enum { BYTES_##type = 32 + (m >= 0 ? 32 : 0) + 64 * words, BLOCKS_##type = words > 8 ? 8 : 1 };                    \
    static const shape shape_##type = {subs, shift, m >= 0};                                                           \
    DOT(type, 1, shape_##type, BYTES_##type, BLOCKS_##type)                                                            \
    DOT(type, 2, shape_##type, BYTES_##type, BLOCKS_##type)                                                            \
    DOT(type, 4, shape_##type, BYTES_##type, BLOCKS_##type)                                                            \
    DOT(type, 8, shape_##type, BYTES_##type, BLOCKS_##type)                                                            \
    static void unpack_##type(const void *tile, size_t n, void *codes)                                                 \
    {                                                                                                                  \
        unpack_tile(NB_TYPE_##type, shape_##type, BYTES_##type, BLOCKS_##type, tile, n, codes);                        \
    }                                                                                                                  \
    static void dot_codes_##type(const void *codes, const void *panel, size_t n, float *acc)                           \
    {                                                                                                                  \
        dot_codes(shape_##type, codes, panel, n, acc);                                                                 \
    }
#define DOT_FLOAT(type, width)                                                                                         \
    static void dot##width##_##type(const void *w, const void *panel, size_t n, float *acc)                            \
    {                                                                                                                  \
        dot_float(NB_TYPE_##type, w, panel, width, n, acc);                                                            \
    }
#define NB_MATMUL_F(type, bytes) DOT_FLOAT(type, 1) DOT_FLOAT(type, 2) DOT_FLOAT(type, 4) DOT_FLOAT(type, 8)
#include "kernel/matmul.def"
#undef NB_MATMUL_Q
#undef NB_MATMUL_F

const nb_matmul_level nb_matmul_ref = {
    .types =
        {
#define DOTS(type) dot1_##type, dot2_##type, dot4_##type, dot8_##type
#define NB_MATMUL_Q(type, ...) [NB_TYPE_##type] = {{DOTS(type)}, unpack_##type, dot_codes_##type},
#define NB_MATMUL_F(type, bytes) [NB_TYPE_##type] = {{DOTS(type)}, NULL, NULL},
#include "kernel/matmul.def"
        },
    .pack = nb_pack_ref,
    .transpose16 = nb_transpose16_ref,
    .act_q8 = nb_act_q8_ref,
    .act_f32 = nb_act_f32_ref,
};
