#include "engine/sampler_impl.h"

#define WEIGHTLESS 29.0f /* 2^40 e^-29 rounds to 0 */

/* ---- the largest of every block ---- */

/* 16 running maxima, which compilers turn into vectors; `>` leaves NaN out. n > 0. */
static float block_max(const float *x, size_t n)
{
    float lane[16];
    for (int j = 0; j < 16; j++)
        lane[j] = -INFINITY;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < n; i++)
        lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] = lane[j + half] > lane[j] ? lane[j + half] : lane[j];
    return lane[0];
}

void nb_sampler_scan(nb_sampler *s)
{
    if (s->scanned)
        return;
    float max = -INFINITY;
    for (size_t i = 0, b = 0; i < s->n; i += SAMPLER_BLOCK, b++) {
        s->block[b] = block_max(s->x + i, nb_min_size(s->n - i, SAMPLER_BLOCK));
        max = s->block[b] > max ? s->block[b] : max;
    }
    s->max = max;
    s->scanned = true;
    if (max == -INFINITY) { /* nothing is possible: then everything equally is, NaN too */
        s->x = s->logit;
        for (size_t i = 0; i < s->n; i++)
            s->logit[i] = -INFINITY;
    }
}

size_t nb_sampler_argmax(nb_sampler *s)
{
    nb_sampler_scan(s);
    size_t b = 0;
    while (s->block[b] != s->max)
        b++;
    size_t i = b * SAMPLER_BLOCK;
    while (s->x[i] != s->max)
        i++;
    return i;
}

/* ---- weights ---- */

/* e^d for -30 <= d <= 0 to 2 ulp (range reduction and polynomial of Cephes' expf), then fixed point: adding 2^52
 * leaves the rounded number in the low bits of the sum. Only IEEE basics, so the bits are the same at any vector width.
 */
uint64_t nb_sampler_weight(float x, float max)
{
    float d = x == max ? 0 : x - max; /* infinities: the best ones share, the rest get nothing */
    d = d > -30 ? d : -30;            /* and NaN */
    float n = (d * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    float r = (d - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r * r + r) + 1;
    union {
        int32_t i;
        float f;
    } power = {.i = ((int32_t)n + 127) * (1 << 23)};
    union {
        double f;
        uint64_t i;
    } fixed = {.f = (double)(p * power.f) * 0x1p40 + 0x1p52};
    return fixed.i - UINT64_C(0x4330000000000000);
}

static uint64_t block_weight(const float *x, size_t n, float max)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += nb_sampler_weight(x[i], max);
    return sum;
}

uint64_t nb_sampler_total(nb_sampler *s)
{
    nb_sampler_scan(s);
    uint64_t sum = 0;
    for (size_t i = 0, b = 0; i < s->n; i += SAMPLER_BLOCK, b++)
        if (!(s->block[b] - s->max < -WEIGHTLESS))
            sum += block_weight(s->x + i, nb_min_size(s->n - i, SAMPLER_BLOCK), s->max);
    return sum;
}

double nb_sampler_mean_gap(nb_sampler *s, uint64_t total)
{
    nb_sampler_scan(s);
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint64_t w = nb_sampler_weight(s->x[i], s->max);
        if (w > 0 && s->x[i] != s->max)
            sum += (double)w * ((double)s->x[i] - s->max);
    }
    return sum / (double)total;
}

size_t nb_sampler_draw(nb_sampler *s, uint64_t total)
{
    uint64_t left = nb_rng_below(&s->rng, total);
    size_t begin = 0, n = 0;
    for (;; begin += SAMPLER_BLOCK) {
        n = nb_min_size(s->n - begin, SAMPLER_BLOCK);
        if (s->block[begin / SAMPLER_BLOCK] - s->max < -WEIGHTLESS)
            continue;
        uint64_t sum = block_weight(s->x + begin, n, s->max);
        if (left < sum)
            break;
        left -= sum;
    }
    for (;; begin++) {
        uint64_t w = nb_sampler_weight(s->x[begin], s->max);
        if (left < w)
            return begin;
        left -= w;
    }
}

/* ---- keys and cuts ---- */

uint64_t nb_sampler_key(float x, size_t index)
{
    union {
        float f;
        uint32_t i;
    } bits = {.f = (x == x ? x : -INFINITY) + 0.0f}; /* -0 becomes 0: they are equal */
    uint32_t ascending = bits.i & 0x80000000u ? ~bits.i : bits.i | 0x80000000u;
    return (uint64_t)~ascending << 32 | (uint32_t)index;
}

float nb_sampler_key_value(uint64_t key)
{
    uint32_t ascending = ~(uint32_t)(key >> 32);
    union {
        uint32_t i;
        float f;
    } bits = {.i = ascending & 0x80000000u ? ascending & 0x7FFFFFFFu : ~ascending};
    return bits.f;
}

size_t nb_sampler_collect(nb_sampler *s, float least, uint64_t *sum)
{
    nb_sampler_scan(s);
    size_t count = 0;
    uint64_t weight = 0;
    for (size_t begin = 0, b = 0; begin < s->n; begin += SAMPLER_BLOCK, b++) {
        if (s->block[b] < least)
            continue;
        size_t end = nb_min_size(s->n, begin + SAMPLER_BLOCK);
        for (size_t i = begin; i < end; i++) {
            if (!(s->x[i] >= least) && least > -INFINITY)
                continue;
            s->key[count] = nb_sampler_key(s->x[i], i);
            if (sum)
                weight += s->weight[count] = nb_sampler_weight(s->x[i], s->max);
            count++;
        }
    }
    if (sum)
        *sum = weight;
    return count;
}

/* Any k blocks hold k candidates at least as good as the least of their maxima: the k-th best block maximum bounds the
 * k-th best candidate from below, at the price of selecting among n / 64 numbers. */
size_t nb_sampler_collect_top(nb_sampler *s, size_t k)
{
    nb_sampler_scan(s);
    size_t blocks = (s->n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
    if (k >= blocks)
        return nb_sampler_collect(s, -INFINITY, NULL);
    for (size_t b = 0; b < blocks; b++)
        s->key[b] = nb_sampler_key(s->block[b], b);
    return nb_sampler_collect(s, nb_sampler_key_value(nb_sampler_cut(s->key, NULL, blocks, 0, k)), NULL);
}

static uint64_t cut_few(uint64_t *key, uint64_t *weight, size_t n, uint64_t target, size_t min_count)
{
    for (size_t i = 1; i < n; i++) {
        uint64_t k = key[i], w = weight ? weight[i] : 0;
        size_t j = i;
        for (; j > 0 && key[j - 1] > k; j--) {
            key[j] = key[j - 1];
            if (weight)
                weight[j] = weight[j - 1];
        }
        key[j] = k;
        if (weight)
            weight[j] = w;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += weight ? weight[i] : 0;
        if (sum >= target && i + 1 >= min_count)
            return key[i];
    }
    return UINT64_MAX;
}

/* Radix selection from the top: a histogram of 11 bits finds the bin in which the run ends, the rest is dropped. */
uint64_t nb_sampler_cut(uint64_t *key, uint64_t *weight, size_t n, uint64_t target, size_t min_count)
{
    enum { BITS = 11, BINS = 1 << BITS, FEW = 48 };
    for (int shift = 64 - BITS; n > FEW; shift = shift > BITS ? shift - BITS : 0) {
        uint32_t count[BINS] = {0};
        uint64_t sum[BINS];
        if (weight)
            memset(sum, 0, sizeof sum);
        for (size_t i = 0; i < n; i++) {
            size_t bin = key[i] >> shift & (BINS - 1);
            count[bin]++;
            if (weight)
                sum[bin] += weight[i];
        }
        size_t bin = 0, kept = 0;
        for (; bin < BINS; bin++) {
            uint64_t w = weight ? sum[bin] : 0;
            if (w >= target && count[bin] >= min_count)
                break;
            target -= w < target ? w : target;
            min_count -= count[bin] < min_count ? count[bin] : min_count;
        }
        if (bin == BINS)
            return UINT64_MAX;
        for (size_t i = 0; i < n; i++) {
            if ((key[i] >> shift & (BINS - 1)) != bin)
                continue;
            if (weight)
                weight[kept] = weight[i];
            key[kept++] = key[i];
        }
        n = kept;
    }
    return cut_few(key, weight, n, target, min_count);
}

/* ---- keeping ---- */

static void keep_between(nb_sampler *s, float least, size_t last_equal)
{
    nb_sampler_scan(s);
    size_t kept = 0;
    for (size_t begin = 0, b = 0; begin < s->n; begin += SAMPLER_BLOCK, b++) {
        if (s->block[b] < least)
            continue;
        size_t end = nb_min_size(s->n, begin + SAMPLER_BLOCK);
        for (size_t i = begin; i < end; i++) {
            float x = s->x[i] == s->x[i] ? s->x[i] : -INFINITY;
            if (!(x > least || (x == least && i <= last_equal)))
                continue;
            nb_sampler_put(s, kept++, i);
        }
    }
    nb_sampler_kept(s, kept);
}

void nb_sampler_keep_key(nb_sampler *s, uint64_t last)
{
    if (last != UINT64_MAX)
        keep_between(s, nb_sampler_key_value(last), (uint32_t)last);
}

void nb_sampler_keep_least(nb_sampler *s, float least) { keep_between(s, least, SIZE_MAX); }

void nb_sampler_keep_one(nb_sampler *s, size_t index)
{
    nb_sampler_put(s, 0, index);
    nb_sampler_kept(s, 1);
}

void nb_sampler_keep_top(nb_sampler *s, size_t k)
{
    if (k >= s->n)
        return;
    if (k == 1) {
        nb_sampler_keep_one(s, nb_sampler_argmax(s));
        return;
    }
    size_t count = nb_sampler_collect_top(s, k);
    nb_sampler_keep_key(s, nb_sampler_cut(s->key, NULL, count, 0, k));
}

void nb_sampler_own(nb_sampler *s)
{
    if (s->x != s->logit)
        memcpy(s->logit, s->x, s->n * sizeof *s->x);
    s->x = s->logit;
    s->scanned = false;
}

float *nb_sampler_find(nb_sampler *s, int32_t id)
{
    if (s->whole)
        return &s->logit[id];
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->id[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->n && s->id[low] == id ? &s->logit[low] : NULL;
}
