#include "engine/sampler_impl.h"

#define WEIGHTLESS 29.0f /* 2^40 e^-29 rounds to 0 */

/* ---- maxima and weights ---- */

/* The candidates after the last whole block, filled up with -inf. */
static size_t last_block(const nb_sampler *s, float padded[SAMPLER_BLOCK])
{
    size_t whole = s->n / SAMPLER_BLOCK * SAMPLER_BLOCK;
    for (size_t i = 0; i < SAMPLER_BLOCK; i++)
        padded[i] = whole + i < s->n ? s->x[whole + i] : -INFINITY;
    return s->n - whole;
}

void nb_sampler_scan(nb_sampler *s)
{
    if (s->scanned)
        return;
    size_t blocks = s->n / SAMPLER_BLOCK;
    s->max = s->lanes->scan(s->x, blocks, s->block);
    float padded[SAMPLER_BLOCK];
    if (last_block(s, padded) > 0) {
        float max = s->lanes->scan(padded, 1, s->block + blocks);
        s->max = max > s->max ? max : s->max;
    }
    s->scanned = true;
    if (s->max == -INFINITY) { /* nothing is possible: then everything equally is, NaN too */
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

uint64_t nb_sampler_weigh(const nb_sampler *s, size_t begin, uint64_t weight[SAMPLER_BLOCK])
{
    if (s->block[begin / SAMPLER_BLOCK] - s->max < -WEIGHTLESS) {
        memset(weight, 0, SAMPLER_BLOCK * sizeof *weight);
        return 0;
    }
    if (begin + SAMPLER_BLOCK <= s->n)
        return s->lanes->weigh(s->x + begin, s->max, weight);
    float padded[SAMPLER_BLOCK];
    size_t n = last_block(s, padded);
    uint64_t sum = s->lanes->weigh(padded, s->max, weight);
    for (; n < SAMPLER_BLOCK; n++) { /* -inf weighs something only where everything is -inf */
        sum -= weight[n];
        weight[n] = 0;
    }
    return sum;
}

uint64_t nb_sampler_total(nb_sampler *s)
{
    uint64_t sum = 0, weight[SAMPLER_BLOCK];
    nb_sampler_scan(s);
    for (size_t i = 0, b = 0; i < s->n; i += SAMPLER_BLOCK, b++)
        sum += s->block_weight[b] = nb_sampler_weigh(s, i, weight);
    return sum;
}

double nb_sampler_mean_gap(nb_sampler *s, uint64_t total)
{
    uint64_t weight[SAMPLER_BLOCK];
    double sum = 0;
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        if (s->block_weight[begin / SAMPLER_BLOCK] == 0)
            continue;
        nb_sampler_weigh(s, begin, weight);
        double part = 0;
        for (size_t i = begin; i < nb_min_size(s->n, begin + SAMPLER_BLOCK); i++)
            if (weight[i - begin] > 0 && s->x[i] != s->max)
                part += (double)weight[i - begin] * ((double)s->x[i] - (double)s->max);
        sum += part;
    }
    return sum / (double)total;
}

size_t nb_sampler_draw(nb_sampler *s, uint64_t total, uint64_t *weight)
{
    uint64_t left = nb_rng_below(&s->rng, total), w[SAMPLER_BLOCK];
    size_t b = 0, i = 0;
    for (; left >= s->block_weight[b]; b++)
        left -= s->block_weight[b];
    nb_sampler_weigh(s, b * SAMPLER_BLOCK, w);
    for (; left >= w[i]; i++)
        left -= w[i];
    *weight = w[i];
    return b * SAMPLER_BLOCK + i;
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

size_t nb_sampler_collect(nb_sampler *s, float least, size_t most, uint64_t *sum)
{
    nb_sampler_scan(s);
    size_t count = 0;
    uint64_t total = 0, weight[SAMPLER_BLOCK];
    for (size_t begin = 0; begin < s->n && count <= most; begin += SAMPLER_BLOCK) {
        if (s->block[begin / SAMPLER_BLOCK] < least)
            continue;
        if (sum)
            nb_sampler_weigh(s, begin, weight);
        size_t end = nb_min_size(s->n, begin + SAMPLER_BLOCK);
        for (size_t i = begin; i < end; i++) {
            if (!(s->x[i] >= least) && least > -INFINITY)
                continue;
            s->key[count] = nb_sampler_key(s->x[i], i);
            if (sum)
                total += s->weight[count] = weight[i - begin];
            count++;
        }
    }
    if (sum)
        *sum = total;
    return count;
}

/* Any k blocks hold k candidates at least as good as the least of their maxima: the k-th best block maximum bounds the
 * k-th best candidate from below, at the price of selecting among n / 64 numbers. */
size_t nb_sampler_collect_top(nb_sampler *s, size_t k)
{
    nb_sampler_scan(s);
    size_t blocks = (s->n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
    if (k >= blocks)
        return nb_sampler_collect(s, -INFINITY, s->n, NULL);
    for (size_t b = 0; b < blocks; b++)
        s->key[b] = nb_sampler_key(s->block[b], b);
    return nb_sampler_collect(s, nb_sampler_key_value(nb_sampler_cut(s->key, NULL, blocks, 0, k)), s->n, NULL);
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

/* ---- the nearest ---- */

static size_t block_bins(const nb_sampler *s, size_t begin, double centre, int32_t bin[SAMPLER_BLOCK])
{
    float padded[SAMPLER_BLOCK];
    bool whole = begin + SAMPLER_BLOCK <= s->n;
    size_t n = whole ? SAMPLER_BLOCK : last_block(s, padded);
    s->lanes->bins(whole ? s->x + begin : padded, s->max, centre, bin);
    return n;
}

/* With centre 0 the order is that of x, which a distance could blur by rounding. */
static uint64_t nearness_key(const nb_sampler *s, size_t i, double centre)
{
    double gap = s->x[i] == s->max ? 0 : (double)s->x[i] - (double)s->max;
    return nb_sampler_key(centre == 0 ? s->x[i] : -(float)fabs(gap - centre), i);
}

/* The bin in which the run ends; target and min_count become what it must still give. SAMPLER_BINS: it never ends. */
static int32_t last_bin(const nb_sampler *s, double centre, uint64_t *target, size_t *min_count)
{
    uint64_t weight[SAMPLER_BLOCK];
    int32_t bin[SAMPLER_BLOCK], b = 0;
    struct {
        uint64_t weight;
        size_t count;
    } bins[SAMPLER_BINS] = {{0}};
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        size_t n = block_bins(s, begin, centre, bin);
        nb_sampler_weigh(s, begin, weight);
        for (size_t i = 0; i < n; i++) {
            bins[bin[i]].weight += weight[i];
            bins[bin[i]].count++;
        }
    }
    for (; b < SAMPLER_BINS && (bins[b].weight < *target || bins[b].count < *min_count); b++) {
        *target -= bins[b].weight < *target ? bins[b].weight : *target;
        *min_count -= nb_min_size(bins[b].count, *min_count);
    }
    return b;
}

static size_t collect_bin(nb_sampler *s, double centre, int32_t which)
{
    uint64_t weight[SAMPLER_BLOCK];
    int32_t bin[SAMPLER_BLOCK];
    size_t count = 0;
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        size_t n = block_bins(s, begin, centre, bin);
        bool weighed = false;
        for (size_t i = 0; i < n; i++) {
            if (bin[i] != which)
                continue;
            if (!weighed)
                nb_sampler_weigh(s, begin, weight);
            weighed = true;
            s->key[count] = nearness_key(s, begin + i, centre);
            s->weight[count++] = weight[i];
        }
    }
    return count;
}

/* A histogram of distances, then a cut within one bin of it. */
void nb_sampler_keep_nearest(nb_sampler *s, double centre, uint64_t target, size_t min_count)
{
    nb_sampler_scan(s);
    int32_t bin[SAMPLER_BLOCK], end = last_bin(s, centre, &target, &min_count);
    if (end == SAMPLER_BINS)
        return;
    uint64_t last = nb_sampler_cut(s->key, s->weight, collect_bin(s, centre, end), target, min_count);
    size_t kept = 0;
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        size_t n = block_bins(s, begin, centre, bin);
        for (size_t i = 0; i < n; i++) { /* no branch: no predictor can guess this one */
            nb_sampler_put(s, kept, begin + i);
            kept += bin[i] < end;
            if (bin[i] == end)
                kept += nearness_key(s, begin + i, centre) <= last;
        }
    }
    nb_sampler_kept(s, kept);
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
