/* The quantizers of IQ4_NL, IQ4_XS, MXFP4 and NVFP4. Every candidate for a scale is judged by its true error, the codes
 * chosen anew. */
#include "quant/quantize_codebook.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "num/half.h"
#include "quant/quantize_iq_input.h"

enum { LANES = CODEBOOK_LANES };

static const codebook nonlinear = {
    16,
    32,
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
    {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101},
    {23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24},
};
/* magnitudes of FP4 (E2M1) doubled */
#define E2M1_DOUBLED                                                                                                   \
    {0, 1, 2, 3, 4, 6, 8, 12}, {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10}, { 1, 1, 1, 1, 2, 2, 4 }
static const codebook e2m1_32 = {8, 32, E2M1_DOUBLED}, e2m1_16 = {8, 16, E2M1_DOUBLED};

typedef struct kernels {
    codebook_fit_fn *fit;
    codebook_codes_fn *codes;
} kernels;

static kernels kernels_of_level(void)
{
#if defined(__x86_64__)
    nb_cpu_level level = nb_cpu_current();
    if (level >= NB_CPU_AVX512)
        return (kernels){nb_codebook_fit_avx512, nb_codebook_codes_avx512};
    if (level >= NB_CPU_AVX2)
        return (kernels){nb_codebook_fit_avx2, nb_codebook_codes_avx2};
#endif
    return (kernels){nb_codebook_fit_ref, nb_codebook_codes_ref};
}

/* One batch of a row: what it holds and what was decided. */
typedef struct work {
    const codebook *c;
    kernels k;
    codebook_batch b;
    float most[LANES]; /* of each lane the value of largest magnitude, with its sign */
    uint8_t negative[CODEBOOK_VALUES][LANES];
    float scale[LANES];                 /* the decision */
    float code[CODEBOOK_VALUES][LANES]; /* and what follows from it */
} work;

/* Lanes beyond n values are 0. */
static void load(work *k, const float *x, const nb_quantize_weights *weights, size_t from, size_t n, bool magnitudes,
                 float limit)
{
    float energy = 0;
    for (int lane = 0; lane < LANES; lane++) {
        size_t first = from + (size_t)(lane * k->c->values);
        if (first < n && (lane == 0 || first % weights->group == 0)) /* once a group */
            energy = nb_quantize_energy(weights, first);
        k->most[lane] = 0;
        for (int i = 0; i < k->c->values; i++) {
            size_t at = first + (size_t)i;
            float v = at < n ? nb_quantize_tame(x[at], limit) : 0;
            if (fabsf(v) > fabsf(k->most[lane]))
                k->most[lane] = v;
            k->negative[i][lane] = v < 0;
            k->b.x[i][lane] = magnitudes ? fabsf(v) : v;
            k->b.w[i][lane] = at < n ? nb_quantize_weight(weights, at, energy) : 1;
        }
    }
}

static void fill(float *x, float value)
{
    for (int lane = 0; lane < LANES; lane++)
        x[lane] = value;
}

static float f16_of(float x) { return nb_f16_to_f32(nb_f32_to_f16(fminf(fmaxf(x, -65504), 65504))); }

/* qs: values / 2 bytes, the first half of a sub-block in the low nibbles */
static void put_codes(const work *k, int lane, uint8_t *qs)
{
    int half = k->c->values / 2;
    for (int i = 0; i < half; i++) {
        int code[2];
        for (int j = 0; j < 2; j++) {
            int at = i + j * half;
            code[j] = (int)k->code[at][lane];
            if (k->c->levels == 8 && code[j] && k->negative[at][lane])
                code[j] |= 8;
        }
        qs[i] = (uint8_t)(code[0] | code[1] << 4);
    }
}

/* ---- IQ4: the list is not symmetric, so that each sub-block may have its scale's sign either way ---- */

enum { TRIES = 12, SIDES = 2 };

/* The best free scale of each lane: with its largest value among the negative levels, and among the positive ones. */
typedef struct ideal {
    float scale[SIDES][LANES], cost[SIDES][LANES], curve[SIDES][LANES]; /* cost + curve (s - scale)^2 */
} ideal;

static void find_ideal(const work *k, ideal *best)
{
    codebook_fit fit;
    float scale[LANES];
    for (int side = 0; side < SIDES; side++) {
        fill(best->cost[side], INFINITY);
        for (int t = 0; t < TRIES; t++) {
            float end = (side ? 113.0f : -127.0f) * (0.75f + 0.45f / (TRIES - 1) * (float)t);
            for (int lane = 0; lane < LANES; lane++)
                scale[lane] = k->most[lane] / end;
            k->k.fit(k->c, &k->b, scale, &fit);
            for (int lane = 0; lane < LANES; lane++) {
                /* the squared error at the refitted scale, less the energy */
                float refit = fit.xv[lane] / fit.vv[lane], cost = -refit * fit.xv[lane];
                if (cost < best->cost[side][lane]) {
                    best->cost[side][lane] = cost;
                    best->scale[side][lane] = refit;
                    best->curve[side][lane] = fit.vv[lane];
                }
            }
        }
    }
}

/* Tries the lanes' scales; keeps those with less error than before. */
static void try_scales(const work *k, const float scale[LANES], float kept[LANES], float cost[LANES],
                       float refit[LANES])
{
    codebook_fit fit;
    k->k.fit(k->c, &k->b, scale, &fit);
    for (int lane = 0; lane < LANES; lane++)
        if (fit.cost[lane] < cost[lane]) {
            cost[lane] = fit.cost[lane];
            kept[lane] = scale[lane];
            refit[lane] = fit.xv[lane] / fit.vv[lane];
        }
}

static void search_nl(work *k)
{
    ideal best;
    float cost[LANES], refit[LANES], scale[LANES];
    find_ideal(k, &best);
    fill(cost, INFINITY);
    fill(refit, 0);
    fill(k->scale, 0);
    for (int t = 0; t < 5; t++) {
        for (int lane = 0; lane < LANES; lane++)
            scale[lane] = f16_of(t < SIDES ? best.scale[t][lane] : refit[lane]);
        try_scales(k, scale, k->scale, cost, refit);
    }
}

void nb_quantize_iq4_nl(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    work k = {.c = &nonlinear, .k = kernels_of_level()};
    nb_quantize_weights weights = nb_quantize_weights_of(x, rounding == NB_ROUND_NEAREST ? NULL : weight, n, 32);
    for (size_t at = 0; at < n; at += LANES * 32) {
        load(&k, x, &weights, at, n, false, NB_QUANTIZE_LIMIT);
        if (rounding == NB_ROUND_SEARCH)
            search_nl(&k);
        else
            for (int lane = 0; lane < LANES; lane++)
                k.scale[lane] = f16_of(k.most[lane] / -127);
        k.k.codes(k.c, &k.b, k.scale, k.code);
        for (int lane = 0; lane < LANES && at + (size_t)lane * 32 < n; lane++) {
            nb_block_iq4_nl y = {.d = nb_f32_to_f16(k.scale[lane])};
            put_codes(&k, lane, y.qs);
            memcpy((uint8_t *)dst + (at / 32 + (size_t)lane) * sizeof y, &y, sizeof y);
        }
    }
}

/* ---- IQ4_XS: scales are d l, l in -32..31, d of eight lanes ---- */

enum { STEPS = 96, CANDIDATES = 6, REFITS = 2, SUBS = 8 };

typedef struct super {
    float d[LANES];
    int l[LANES];
    float total[2]; /* the squared error of each super-block */
} super;

static int nearest_l(float scale, float d)
{
    float l = d != 0 ? scale / d : 0;
    return !(l > -32) ? -32 : l >= 31 ? 31 : (int)floorf(l + 0.5f);
}

/* The least cost of a lane when scales are multiples of d, to second order; aim: the ideal scale it comes from. */
static float lane_cost(const ideal *best, int lane, float d, float *aim)
{
    float least = INFINITY;
    for (int side = 0; side < SIDES; side++) {
        float scale = best->scale[side][lane], off = scale - d * (float)nearest_l(scale, d);
        float cost = best->cost[side][lane] + best->curve[side][lane] * off * off;
        if (cost < least) {
            least = cost;
            *aim = scale;
        }
    }
    return least;
}

/* The best d of each of CANDIDATES parts of the range, both signs among them. */
static void find_candidates(const ideal *best, int first, float d[CANDIDATES])
{
    float most = 0, least = 0, unused;
    for (int lane = first; lane < first + SUBS; lane++) {
        int side = best->cost[1][lane] < best->cost[0][lane];
        most = fmaxf(most, fabsf(best->scale[side][lane]));
    }
    for (int k = 0; k < STEPS; k++) {
        int half = k / (STEPS / 2), step = k % (STEPS / 2);
        float try = f16_of(most / (half ? -32.5f : 32.5f) * (0.95f + 0.5f * (float)step / (STEPS / 2))), cost = 0;
        for (int lane = first; lane < first + SUBS; lane++)
            cost += lane_cost(best, lane, try, &unused);
        if (k % (STEPS / CANDIDATES) == 0 || cost < least) {
            least = cost;
            d[k / (STEPS / CANDIDATES)] = try;
        }
    }
}

/* For the lanes' d: the l nearest to the aims and `around` more beside them. Keeps what is better. */
static void try_d(const work *k, const float d[LANES], const float aim[LANES], int around, super *found)
{
    float least[LANES], sum[2] = {0, 0}, scale[LANES];
    int best_l[LANES], l[LANES];
    codebook_fit fit;
    fill(least, INFINITY);
    for (int t = 0; t <= around; t++) {
        for (int lane = 0; lane < LANES; lane++) {
            int middle = nearest_l(aim[lane], d[lane]);
            int up = (aim[lane] > d[lane] * (float)middle) == (d[lane] > 0) ? 1 : -1;
            l[lane] = middle + (t == 0 ? 0 : t == 1 ? up : -up);
            l[lane] = l[lane] < -32 ? -32 : l[lane] > 31 ? 31 : l[lane];
            scale[lane] = d[lane] * (float)l[lane];
        }
        k->k.fit(k->c, &k->b, scale, &fit);
        for (int lane = 0; lane < LANES; lane++)
            if (fit.cost[lane] < least[lane]) {
                least[lane] = fit.cost[lane];
                best_l[lane] = l[lane];
            }
    }
    for (int lane = 0; lane < LANES; lane++)
        sum[lane / SUBS] += least[lane];
    for (int lane = 0; lane < LANES; lane++)
        if (sum[lane / SUBS] < found->total[lane / SUBS]) {
            found->d[lane] = d[lane];
            found->l[lane] = best_l[lane];
        }
    for (int i = 0; i < 2; i++)
        found->total[i] = fminf(found->total[i], sum[i]);
}

/* d by least squares for the scales found */
static void refit_d(const work *k, const super *found, float d[LANES], float aim[LANES])
{
    float scale[LANES];
    codebook_fit fit;
    for (int lane = 0; lane < LANES; lane++)
        scale[lane] = found->d[lane] * (float)found->l[lane];
    k->k.fit(k->c, &k->b, scale, &fit);
    for (int first = 0; first < LANES; first += SUBS) {
        float xv = 0, vv = 0;
        for (int lane = first; lane < first + SUBS; lane++) {
            xv += fit.xv[lane] * (float)found->l[lane];
            vv += fit.vv[lane] * (float)(found->l[lane] * found->l[lane]);
        }
        float fitted = vv > 0 ? f16_of(xv / vv) : found->d[first];
        for (int lane = first; lane < first + SUBS; lane++) {
            d[lane] = fitted;
            aim[lane] = fitted * (float)found->l[lane];
        }
    }
}

static void search_xs(work *k, super *found)
{
    ideal best;
    float block[CANDIDATES], d[CANDIDATES][LANES], aim[LANES];
    find_ideal(k, &best);
    for (int first = 0; first < LANES; first += SUBS) {
        find_candidates(&best, first, block);
        for (int t = 0; t < CANDIDATES; t++)
            for (int lane = first; lane < first + SUBS; lane++)
                d[t][lane] = block[t];
    }
    *found = (super){.total = {INFINITY, INFINITY}};
    for (int t = 0; t < CANDIDATES; t++) {
        for (int lane = 0; lane < LANES; lane++)
            lane_cost(&best, lane, d[t][lane], &aim[lane]);
        try_d(k, d[t], aim, 1, found);
    }
    for (int t = 0; t < REFITS; t++) {
        refit_d(k, found, d[0], aim);
        try_d(k, d[0], aim, 2, found);
    }
}

/* the scale of the largest value: -32 d; every lane's own to the nearest multiple */
static void take_xs(work *k, super *found)
{
    for (int first = 0; first < LANES; first += SUBS) {
        float most = 0;
        for (int lane = first; lane < first + SUBS; lane++)
            most = fabsf(k->most[lane]) > fabsf(most) ? k->most[lane] : most;
        for (int lane = first; lane < first + SUBS; lane++) {
            found->d[lane] = f16_of(most / -127 / -32);
            found->l[lane] = nearest_l(k->most[lane] / -127, found->d[lane]);
        }
    }
}

static void pack_xs(const work *k, const super *found, int first, void *dst)
{
    nb_block_iq4_xs y = {.d = nb_f32_to_f16(found->d[first])};
    for (int sub = 0; sub < SUBS; sub++) {
        int l = found->l[first + sub] + 32;
        y.scales_l[sub / 2] |= (uint8_t)((l & 15) << sub % 2 * 4);
        y.scales_h |= (uint16_t)(l >> 4 << sub * 2);
        put_codes(k, first + sub, y.qs + sub * 16);
    }
    memcpy(dst, &y, sizeof y);
}

void nb_quantize_iq4_xs(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    work k = {.c = &nonlinear, .k = kernels_of_level()};
    super found;
    nb_quantize_weights weights = nb_quantize_weights_of(x, rounding == NB_ROUND_NEAREST ? NULL : weight, n, 256);
    for (size_t at = 0; at < n; at += LANES * 32) {
        load(&k, x, &weights, at, n, false, NB_QUANTIZE_LIMIT);
        if (rounding == NB_ROUND_SEARCH)
            search_xs(&k, &found);
        else
            take_xs(&k, &found);
        for (int lane = 0; lane < LANES; lane++)
            k.scale[lane] = found.d[lane] * (float)found.l[lane];
        k.k.codes(k.c, &k.b, k.scale, k.code);
        for (int first = 0; first < LANES && at + (size_t)first * 32 < n; first += SUBS)
            pack_xs(&k, &found, first, (uint8_t *)dst + (at + (size_t)first * 32) / 256 * sizeof(nb_block_iq4_xs));
    }
}

/* ---- FP4: magnitudes, and scales that are numbers of eight bits ---- */

/* Tries codes first..last of scales around each lane's; value: what a code stands for, halved. */
static void search_codes(work *k, const int middle[LANES], int below, int above, int top, float (*value)(int),
                         int chosen[LANES])
{
    codebook_fit fit;
    float least[LANES], scale[LANES];
    int code[LANES];
    fill(least, INFINITY);
    for (int t = -below; t <= above; t++) {
        for (int lane = 0; lane < LANES; lane++) {
            code[lane] = middle[lane] + t < 0 ? 0 : middle[lane] + t > top ? top : middle[lane] + t;
            scale[lane] = value(code[lane]);
        }
        k->k.fit(k->c, &k->b, scale, &fit);
        for (int lane = 0; lane < LANES; lane++)
            if (fit.cost[lane] < least[lane]) {
                least[lane] = fit.cost[lane];
                chosen[lane] = code[lane];
                k->scale[lane] = scale[lane];
            }
    }
}

/* gguf-py's exponent: that of the largest magnitude, by a logarithm rounded to float, less 2 */
static int e8m0_of(float most)
{
    float e = most > 0 ? floorf((float)log2((double)most)) - 2 + 127 : 0;
    return e < 0 ? 0 : (int)e;
}

enum { E8M0_MIDDLE = 127 };

static float e8m0_half(int e) { return nb_f32_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

/* The magnitude as bits, which compare as it does: at most the largest float, 0 of a NaN. Without branches, which signs
 * would make guesses. */
static uint32_t size_bits(float x)
{
    uint32_t bits = nb_f32_bits(x) & 0x7fffffff;
    return bits > 0x7f800000 ? 0 : bits == 0x7f800000 ? 0x7f7fffff : bits;
}

typedef float eight __attribute__((vector_size(32)));
typedef int32_t eight_ints __attribute__((vector_size(32)));

/* The codes of the levels nearest to x: of two as near, the one that stands first in the list. */
static void nearest_block(const float *x, int values, float scale, uint8_t *qs)
{
    static const float list[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    int32_t codes[32];
    for (int at = 0; at < values; at += 8) {
        eight size;
        eight_ints sign, code = {0};
        for (int i = 0; i < 8; i++) {
            size[i] = nb_f32_of_bits(size_bits(x[at + i]));
            sign[i] = (int32_t)(nb_f32_bits(x[at + i]) >> 31 << 3);
        }
        eight_ints least = (eight_ints)size; /* distances of 0 or more compare as their bits do */
        for (int l = 1; l < 8; l++) {
            eight_ints off = (eight_ints)(scale * list[l] - size) & 0x7fffffff, nearer = off < least;
            code = (nearer & l) | (~nearer & code);
            least = (nearer & off) | (~nearer & least);
        }
        code |= (code > 0) & sign;
        memcpy(codes + at, &code, sizeof code);
    }
    for (int i = 0; i < values / 2; i++)
        qs[i] = (uint8_t)(codes[i] | codes[i + values / 2] << 4);
}

static float magnitude_of(const float *x, int values)
{
    uint32_t most = 0;
    for (int i = 0; i < values; i++)
        most = size_bits(x[i]) > most ? size_bits(x[i]) : most;
    return nb_f32_of_bits(most);
}

static void nearest_mxfp4(const float *x, size_t n, nb_block_mxfp4 *y)
{
    for (; n; n -= 32, x += 32, y++) {
        int e = e8m0_of(magnitude_of(x, 32));
        y->e = (uint8_t)e;
        nearest_block(x, 32, e8m0_half(e), y->qs);
    }
}

/* Multiplies a lane by a power of two so that its exponent is in the middle of the range, where squares are finite.
 * e: the one it has. */
static void to_middle(work *k, int lane, int e)
{
    for (int i = 0; i < k->c->values; i++)
        k->b.x[i][lane] *= 2 * e8m0_half(E8M0_MIDDLE * 2 - e);
}

void nb_quantize_mxfp4(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    work k = {.c = &e2m1_32, .k = kernels_of_level()};
    if (rounding == NB_ROUND_NEAREST) {
        nearest_mxfp4(x, n, dst);
        return;
    }
    nb_quantize_weights weights = nb_quantize_weights_of(x, weight, n, 32);
    for (size_t at = 0; at < n; at += LANES * 32) {
        int first[LANES], middle[LANES], e[LANES];
        load(&k, x, &weights, at, n, true, 0x1p127f); /* more would come back as infinity */
        for (int lane = 0; lane < LANES; lane++) {
            first[lane] = e8m0_of(fabsf(k.most[lane]));
            middle[lane] = E8M0_MIDDLE;
            to_middle(&k, lane, first[lane]);
        }
        search_codes(&k, middle, 1, 1, 254, e8m0_half, e);
        k.k.codes(k.c, &k.b, k.scale, k.code);
        for (int lane = 0; lane < LANES && at + (size_t)lane * 32 < n; lane++) {
            nb_block_mxfp4 *y = (nb_block_mxfp4 *)dst + at / 32 + (size_t)lane;
            int e8m0 = first[lane] + e[lane] - E8M0_MIDDLE; /* below 0: of values too small for the type */
            y->e = (uint8_t)(e8m0 < 0 ? 0 : e8m0);
            put_codes(&k, lane, y->qs);
        }
    }
}

static float ue4m3_half(int x)
{
    return x < 8 ? (float)x * 0x1p-10f : nb_f32_of_bits((uint32_t)((x >> 3) - 8 + 127) << 23 | (uint32_t)(x & 7) << 20);
}

/* The code nearest to x >= 0, ties up; at most 448. */
static int ue4m3_of(float x)
{
    int low = 0, high = 127; /* 126 is 448 */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (2 * x >= 2 * ue4m3_half(middle) + 2 * ue4m3_half(middle - 1))
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void nearest_nvfp4(const float *x, size_t n, nb_block_nvfp4 *y)
{
    for (; n; n -= 64, x += 64, y++)
        for (int sub = 0; sub < 4; sub++) {
            int d = ue4m3_of(magnitude_of(x + sub * 16, 16) / 6);
            y->d[sub] = (uint8_t)d;
            nearest_block(x + sub * 16, 16, ue4m3_half(d), y->qs + sub * 8);
        }
}

void nb_quantize_nvfp4(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)
{
    work k = {.c = &e2m1_16, .k = kernels_of_level()};
    if (rounding == NB_ROUND_NEAREST) {
        nearest_nvfp4(x, n, dst);
        return;
    }
    nb_quantize_weights weights = nb_quantize_weights_of(x, weight, n, 64);
    for (size_t at = 0; at < n; at += LANES * 16) {
        int middle[LANES], d[LANES];
        load(&k, x, &weights, at, n, true, NB_QUANTIZE_LIMIT);
        for (int lane = 0; lane < LANES; lane++)
            middle[lane] = ue4m3_of(fabsf(k.most[lane]) / 6);
        search_codes(&k, middle, 5, 5, 126, ue4m3_half, d);
        k.k.codes(k.c, &k.b, k.scale, k.code);
        for (int lane = 0; lane < LANES && at + (size_t)lane * 16 < n; lane++) {
            nb_block_nvfp4 *y = (nb_block_nvfp4 *)dst + (at + (size_t)lane * 16) / 64;
            y->d[lane % 4] = (uint8_t)d[lane];
            put_codes(&k, lane, y->qs + lane % 4 * 8);
        }
    }
}
