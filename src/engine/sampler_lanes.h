/* sampler_lanes.h - the loops over the whole vocabulary, written in vectors of LANES floats; included once for
 * each instruction-set level. Every lane does the same IEEE operations, so the bits do not depend on the level. */
#include "engine/sampler_impl.h"

typedef float floats __attribute__((vector_size(LANES * 4)));
typedef int32_t ints __attribute__((vector_size(LANES * 4)));
typedef double doubles __attribute__((vector_size(LANES * 8)));
typedef uint64_t longs __attribute__((vector_size(LANES * 8)));

/* `a` where the mask is set, else `b` */
#define SELECT(mask, a, b) ((floats)(((mask) & (ints)(a)) | (~(mask) & (ints)(b))))
#define ALL(value) ((floats){0} + (value))

static float lanes_max(const float *x)
{
    enum { ACROSS = 32 / LANES };
    floats best[ACROSS], v;
    for (int j = 0; j < ACROSS; j++)
        best[j] = ALL(-INFINITY);
    for (int i = 0; i < SAMPLER_BLOCK; i += 32)
        for (int j = 0; j < ACROSS; j++) {
            memcpy(&v, x + i + j * LANES, sizeof v);
            best[j] = SELECT(v > best[j], v, best[j]); /* leaves NaN out */
        }
    for (int half = ACROSS / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            best[j] = SELECT(best[j + half] > best[j], best[j + half], best[j]);
    float max = best[0][0];
    for (int j = 1; j < LANES; j++)
        max = best[0][j] > max ? best[0][j] : max;
    return max;
}

static float lanes_scan(const float *x, size_t blocks, float *block)
{
    float max = -INFINITY;
    for (size_t b = 0; b < blocks; b++) {
        block[b] = lanes_max(x + b * SAMPLER_BLOCK);
        max = block[b] > max ? block[b] : max;
    }
    return max;
}

/* 2^40 e^(x - max): e^d for -30 <= d <= 0 to 2 ulp (range reduction and polynomial of Cephes' expf), then fixed point:
 * adding 2^52 leaves the rounded number in the low bits of the sum. */
static uint64_t lanes_weigh(const float *x, float max, uint64_t *weight)
{
    const floats best = ALL(max), lowest = ALL(-30.0f), magic = ALL(12582912.0f);
    longs sums = {0};
    for (int i = 0; i < SAMPLER_BLOCK; i += LANES) {
        floats v;
        memcpy(&v, x + i, sizeof v);
        floats d = v - best;
        d = SELECT(v == best, ALL(0.0f), d); /* infinities: the best ones share, the rest get nothing */
        d = SELECT(d > lowest, d, lowest);   /* and NaN */
        floats n = (d * 1.44269504088896341f + magic) - magic;
        floats r = (d - n * 0.693359375f) + n * 2.12194440e-4f;
        floats p = ALL(1.9875691500e-4f);
        p = p * r + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = (p * r * r + r) + 1.0f;
        p *= (floats)((__builtin_convertvector(n, ints) + 127) << 23);
        doubles fixed = __builtin_convertvector(p, doubles) * 0x1p40 + 0x1p52;
        longs w = (longs)fixed - UINT64_C(0x4330000000000000);
        memcpy(weight + i, &w, sizeof w);
        sums += w;
    }
    uint64_t sum = 0;
    for (int j = 0; j < LANES; j++)
        sum += sums[j];
    return sum;
}

/* 32 bins for each unit of |x - max - centre|; NaN is far away. */
static void lanes_bins(const float *x, float max, double centre, int32_t *bin)
{
    const doubles most = (doubles){0} + (SAMPLER_BINS - 1);
    for (int i = 0; i < SAMPLER_BLOCK; i += LANES) {
        floats v;
        memcpy(&v, x + i, sizeof v);
        doubles wide = __builtin_convertvector(v, doubles);
        longs best = (longs)(wide == (double)max);
        doubles far = (doubles)(~best & (longs)(wide - (double)max)) - centre;
        far = (doubles)((longs)far & INT64_MAX) * 32.0;
        longs inside = (longs)(far < most);
        far = (doubles)((inside & (longs)far) | (~inside & (longs)most));
        ints b = __builtin_convertvector(far, ints);
        memcpy(bin + i, &b, sizeof b);
    }
}
