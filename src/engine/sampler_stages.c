#include <float.h>

#include "engine/sampler_impl.h"

void nb_sampler_bias(nb_sampler *s)
{
    if (s->p.bias_count == 0)
        return;
    nb_sampler_own(s);
    for (size_t i = 0; i < s->p.bias_count; i++) {
        float *logit = nb_sampler_find(s, s->bias[i].id);
        if (logit)
            *logit += s->bias[i].bias;
    }
}

/* The smallest whole weight that is at least this share of the total. */
static uint64_t share_of(double share, uint64_t total)
{
    double target = ceil(share * (double)total);
    return target <= 0 ? 0 : target >= (double)total ? total : (uint64_t)target;
}

static size_t min_keep(const nb_sampler *s) { return s->p.min_keep > 1 ? (size_t)s->p.min_keep : 1; }

/* The best that together have probability top_p (Holtzman et al. 2020). They are nearly always few and lie within a few
 * units of the best logit, so the cut looks there first. */
static void top_p(nb_sampler *s)
{
    uint64_t total = nb_sampler_total(s), target = share_of((double)s->p.top_p, total), sum;
    size_t least_count = nb_min_size(min_keep(s), s->n), few = s->n / 16;
    size_t count = nb_sampler_collect(s, s->max - 5, few, &sum);
    if (count > few || sum < target || count < least_count)
        nb_sampler_keep_nearest(s, 0, target, least_count);
    else
        nb_sampler_keep_key(s, nb_sampler_cut(s->key, s->weight, count, target, least_count));
}

/* Those at least min_p times as probable as the best (Nguyen et al. 2024): a bound on logits, no softmax. */
static void min_p(nb_sampler *s)
{
    nb_sampler_scan(s);
    float least = (float)((double)s->max + s->log_min_p);
    if (min_keep(s) > 1 && nb_sampler_collect(s, least, s->n, NULL) < min_keep(s))
        nb_sampler_keep_top(s, min_keep(s));
    else
        nb_sampler_keep_least(s, least);
}

/* Those whose logit is within n standard deviations of the best (Tang et al. 2024). Infinities have no say. */
static void top_n_sigma(nb_sampler *s)
{
    nb_sampler_scan(s);
    double sum = 0, squares = 0;
    size_t count = 0;
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        double part = 0, part_squares = 0; /* a chain of additions a block, so that blocks overlap */
        for (size_t i = begin; i < nb_min_size(s->n, begin + SAMPLER_BLOCK); i++) {
            bool finite = fabsf(s->x[i]) <= FLT_MAX;
            double gap = finite ? (double)s->x[i] - (double)s->max : 0;
            part += gap;
            part_squares += gap * gap;
            count += finite;
        }
        sum += part;
        squares += part_squares;
    }
    if (s->max > FLT_MAX)
        nb_sampler_keep_least(s, s->max);
    if (s->max > FLT_MAX || count == 0)
        return;
    double mean = sum / (double)count, variance = squares / (double)count - mean * mean;
    nb_sampler_keep_least(s, (float)((double)s->max - (double)s->p.top_n_sigma * sqrt(variance > 0 ? variance : 0)));
}

/* Those whose surprise is nearest to the expected one (Meister et al. 2022), up to probability typical_p. With
 * g = x - max, surprise is log Z - g and its mean log Z - E[g]: the distance between them is |g - E[g]|. */
static void typical(nb_sampler *s)
{
    uint64_t total = nb_sampler_total(s), target = share_of((double)s->p.typical_p, total);
    double mean = nb_sampler_mean_gap(s, total);
    if ((double)target <= (double)s->p.typical_p * (double)total)
        target++; /* more than typical_p, not just as much */
    nb_sampler_keep_nearest(s, mean, target, nb_min_size(min_keep(s), s->n));
}

/* Keeps those lighter than the bound, and one more. */
static void keep_light(nb_sampler *s, double bound, size_t exception)
{
    uint64_t weight[SAMPLER_BLOCK];
    size_t kept = 0;
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        nb_sampler_weigh(s, begin, weight);
        for (size_t i = begin; i < nb_min_size(s->n, begin + SAMPLER_BLOCK); i++)
            if (i == exception || (double)weight[i - begin] < bound)
                nb_sampler_put(s, kept++, i);
    }
    nb_sampler_kept(s, kept);
}

/* Exclude top choices (p-e-w 2024): with some probability, of those that have at least the threshold only the least
 * probable stays. */
static void xtc(nb_sampler *s)
{
    if (s->n < 2 || nb_rng_unit(&s->xtc_rng) >= (double)s->p.xtc_probability)
        return;
    uint64_t weight[SAMPLER_BLOCK];
    double bound = (double)s->p.xtc_threshold * (double)nb_sampler_total(s);
    size_t tops = 0, least = 0;
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        if ((double)nb_sampler_weigh(s, begin, weight) < bound)
            continue;
        for (size_t i = begin; i < nb_min_size(s->n, begin + SAMPLER_BLOCK); i++)
            if ((double)weight[i - begin] >= bound && (tops++ == 0 || !(s->x[i] > s->x[least])))
                least = i;
    }
    if (tops >= 2 && s->n - (tops - 1) >= min_keep(s))
        keep_light(s, bound, least);
}

static void scale(nb_sampler *s, float t)
{
    if (t == 1)
        return;
    nb_sampler_scan(s);
    /* so cold that the quotient overflows: as good as zero */
    if (t <= 0 || (fabsf(s->max) <= FLT_MAX && fabsf(s->max / t) > FLT_MAX)) {
        nb_sampler_keep_one(s, nb_sampler_argmax(s));
        return;
    }
    for (size_t i = 0; i < s->n; i++)
        s->logit[i] = s->x[i] / t;
    s->x = s->logit;
    s->scanned = false;
}

/* Dynamic: the temperature rises with the distribution's entropy, from t - range to t + range. */
static void temperature(nb_sampler *s)
{
    float t = s->p.temperature, range = s->p.dynatemp_range;
    if (range <= 0) {
        scale(s, t);
        return;
    }
    if (s->n < 2)
        return;
    uint64_t total = nb_sampler_total(s);
    double entropy = nb_log((double)total * 0x1p-40) - nb_sampler_mean_gap(s, total);
    double share = entropy > 0 ? entropy / nb_log((double)s->n) : 0;
    float low = t > range ? t - range : 0, high = t + range;
    scale(s, (float)((double)low + ((double)high - (double)low) * nb_pow(share, (double)s->p.dynatemp_exponent)));
}

void nb_sampler_stage(nb_sampler *s, stage which)
{
    switch (which) {
    case STAGE_PENALTIES: nb_sampler_penalties_apply(s); break;
    case STAGE_DRY: nb_sampler_dry_apply(s); break;
    case STAGE_TOP_N_SIGMA: top_n_sigma(s); break;
    case STAGE_TOP_K: nb_sampler_keep_top(s, (size_t)s->p.top_k); break;
    case STAGE_TYPICAL: typical(s); break;
    case STAGE_TOP_P: top_p(s); break;
    case STAGE_MIN_P: min_p(s); break;
    case STAGE_XTC: xtc(s); break;
    case STAGE_TEMPERATURE: temperature(s); break;
    case STAGES: break;
    }
}

/* ---- mirostat (Basu et al. 2021): keeps the surprise of the text near tau ---- */

static size_t sorted_top(nb_sampler *s, size_t k)
{
    size_t count = nb_sampler_collect_top(s, k), kept = 0;
    memcpy(s->weight, s->key, count * sizeof *s->key);
    uint64_t last = nb_sampler_cut(s->weight, NULL, count, 0, nb_min_size(k, s->n));
    for (size_t i = 0; i < count; i++) {
        uint64_t key = s->key[i];
        if (key > last)
            continue;
        size_t j = kept++;
        for (; j > 0 && s->key[j - 1] > key; j--)
            s->key[j] = s->key[j - 1];
        s->key[j] = key;
    }
    return kept;
}

/* Version 1, algorithm 1: fits Zipf's exponent to the best 100, and from it how many to keep. */
static size_t zipf_count(nb_sampler *s)
{
    enum { TOP = 100 };
    size_t count = sorted_top(s, nb_min_size(TOP, s->n));
    double tb = 0, tt = 0;
    for (size_t i = 0; i + 1 < count; i++) {
        double t = nb_log((double)(i + 2) / (double)(i + 1));
        double b = (double)nb_sampler_key_value(s->key[i]) - (double)nb_sampler_key_value(s->key[i + 1]);
        if (!(b <= (double)FLT_MAX)) /* from here on nothing is possible */
            break;
        tb += t * b;
        tt += t * t;
    }
    if (tt <= 0)
        return 1;
    double exponent = tb / tt, e = exponent - 1, n = (double)s->vocabulary;
    double top = nb_exp(s->mu * 0.69314718055994530942);
    double base = fabs(e) < 1e-9 ? top / nb_log(n) : e * top / (1 - nb_pow(n, -e));
    double k = exponent < 1e-9 ? (base > 1 ? n : 1) : nb_pow(base, 1 / exponent);
    return k >= (double)s->n ? s->n : k < 1 ? 1 : (size_t)k;
}

/* Version 2: those whose surprise is at most mu. */
static void keep_unsurprising(nb_sampler *s)
{
    uint64_t weight[SAMPLER_BLOCK];
    double bound = (double)nb_sampler_total(s) * nb_exp(-s->mu * 0.69314718055994530942);
    size_t kept = 0, best = nb_sampler_argmax(s);
    for (size_t begin = 0; begin < s->n; begin += SAMPLER_BLOCK) {
        nb_sampler_weigh(s, begin, weight);
        for (size_t i = begin; i < nb_min_size(s->n, begin + SAMPLER_BLOCK); i++)
            if (i == best || (double)weight[i - begin] >= bound)
                nb_sampler_put(s, kept++, i);
    }
    nb_sampler_kept(s, kept);
}

size_t nb_sampler_mirostat(nb_sampler *s)
{
    if (s->p.mirostat == 1)
        nb_sampler_keep_top(s, zipf_count(s));
    else
        keep_unsurprising(s);
    uint64_t total = nb_sampler_total(s), weight;
    size_t i = nb_sampler_draw(s, total, &weight);
    double surprise = nb_log((double)total / (double)weight) / 0.69314718055994530942;
    s->mu -= (double)s->p.mirostat_eta * (surprise - (double)s->p.mirostat_tau);
    return i;
}
