#include "measure/score.h"

#include <math.h>
#include <stdlib.h>

#include "kernel/vec.h"

const size_t nb_agree_k[NB_AGREE_KS] = {1, 5, 10};

/* ---- a row ---- */

static void find_top(nb_prediction *p, size_t n)
{
    float least = -INFINITY; /* of those found, once there are NB_TOP */
    for (size_t i = 0; i < n; i++) {
        if (p->tops == NB_TOP && !(p->row[i] > least))
            continue;
        size_t at = p->tops < NB_TOP ? p->tops++ : NB_TOP - 1;
        for (; at > 0 && p->row[i] > p->row[p->top[at - 1]]; at--)
            p->top[at] = p->top[at - 1];
        p->top[at] = i;
        least = p->row[p->top[p->tops - 1]];
    }
}

nb_prediction nb_predict(const float *row, size_t n, bool stored, float *scratch)
{
    nb_prediction p = {.row = row, .stored = stored};
    p.most = nb_vec_max(row, n);
    if (!stored)
        p.log_sum = (double)p.most + log((double)nb_vec_exp_sum(row, p.most, n, scratch));
    find_top(&p, n);
    return p;
}

static double log_probability(const nb_prediction *p, size_t token) { return (double)p->row[token] - p->log_sum; }

double nb_divergence(const nb_prediction *base, const nb_prediction *model, size_t n, float *scratch)
{
    float *p = scratch, *difference = scratch + n;
    double mean = 0, total = nb_vec_exp_sum(base->row, base->most, n, p);
    for (size_t i = 0; i < n; i++)
        difference[i] = base->row[i] - model->row[i];
    if (base->stored) {
        for (size_t i = 0; i < n; i++)
            if (base->row[i] <= -16) {
                total -= (double)p[i];
                p[i] = 0;
            }
    }
    for (size_t i = 0; i < n; i += 4096) /* in parts, so that a float sum stays accurate */
        mean += (double)nb_vec_dot(p + i, difference + i, nb_min_size(4096, n - i));
    /* p is exp(row - most): a model's sums to `total`, a file's are probabilities but for the factor */
    double factor = base->stored ? exp((double)base->most) : 1 / total;
    return factor * mean - factor * total * (base->log_sum - model->log_sum);
}

/* ---- all rows ---- */

static void count_agreement(nb_scores *s, const nb_prediction *model, const nb_prediction *base)
{
    for (size_t k = 0; k < NB_AGREE_KS; k++) {
        size_t most = nb_min_size(nb_agree_k[k], base->tops);
        s->possible[k] += most;
        for (size_t i = 0; i < most; i++)
            for (size_t j = 0; j < most; j++)
                s->agree[k] += base->top[i] == model->top[j];
    }
}

void nb_scores_add(nb_scores *s, const nb_prediction *model, const nb_prediction *base, size_t n, int32_t next,
                   float *scratch)
{
    double nll = -log_probability(model, (size_t)next);
    s->nll += nll;
    s->nll2 += nll * nll;
    if (base) {
        double base_nll = -log_probability(base, (size_t)next), kl = nb_divergence(base, model, n, scratch);
        double change2 = pow(exp(-nll) - exp(-base_nll), 2);
        s->base_nll += base_nll;
        s->base_nll2 += base_nll * base_nll;
        s->nll_base_nll += nll * base_nll;
        s->kl += kl;
        s->kl2 += kl * kl;
        s->change2 += change2;
        s->change4 += change2 * change2;
        s->each[s->count] = kl;
        count_agreement(s, model, base);
    }
    s->count++;
}

static double covariance_of_means(double a, double b, double ab, double n)
{
    return n > 1 ? (ab / n - a / n * (b / n)) / (n - 1) : 0;
}

static double standard_error(double sum, double squared, double n)
{
    return sqrt(fmax(covariance_of_means(sum, sum, squared, n), 0));
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double share)
{
    double at = share * (double)(n - 1);
    size_t below = (size_t)at, above = nb_min_size(below + 1, n - 1);
    return sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
}

static void summarize_divergences(nb_scores *s, nb_evaluation *out)
{
    qsort(s->each, s->count, sizeof *s->each, by_size);
    out->kl_mean = s->kl / (double)s->count;
    out->kl_error = standard_error(s->kl, s->kl2, (double)s->count);
    out->kl_median = quantile(s->each, s->count, 0.5);
    out->kl_90 = quantile(s->each, s->count, 0.9);
    out->kl_99 = quantile(s->each, s->count, 0.99);
    out->kl_999 = quantile(s->each, s->count, 0.999);
    out->kl_max = s->each[s->count - 1];
}

void nb_scores_summarize(nb_scores *s, bool has_base, nb_evaluation *out)
{
    double n = (double)s->count;
    out->scored = s->count;
    out->nll = s->nll / n;
    out->perplexity = exp(out->nll);
    out->perplexity_error = out->perplexity * standard_error(s->nll, s->nll2, n);
    out->has_base = has_base;
    if (!has_base)
        return;
    double variance = covariance_of_means(s->nll, s->nll, s->nll2, n) +
                      covariance_of_means(s->base_nll, s->base_nll, s->base_nll2, n) -
                      2 * covariance_of_means(s->nll, s->base_nll, s->nll_base_nll, n);
    out->base_perplexity = exp(s->base_nll / n);
    out->ratio = exp((s->nll - s->base_nll) / n);
    out->ratio_error = out->ratio * sqrt(fmax(variance, 0));
    summarize_divergences(s, out);
    for (size_t k = 0; k < NB_AGREE_KS; k++)
        out->agree[k] = (double)s->agree[k] / (double)s->possible[k];
    out->same_top = out->agree[0];
    out->same_top_error = n > 1 ? sqrt(out->same_top * (1 - out->same_top) / (n - 1)) : 0;
    out->probability_rms = sqrt(s->change2 / n);
    if (out->probability_rms > 0)
        out->probability_rms_error = standard_error(s->change2, s->change4, n) / (2 * out->probability_rms);
}

void nb_scores_compare(const nb_scores *s, const nb_scores *first, nb_evaluation *out)
{
    double sum = 0, squared = 0, n = (double)s->count;
    for (size_t i = 0; i < s->count; i++) {
        double more = s->each[i] - first->each[i];
        sum += more;
        squared += more * more;
    }
    out->kl_more = sum / n;
    out->kl_more_error = standard_error(sum, squared, n);
}
