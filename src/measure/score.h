/* score.h - inside of evaluate: what one row of logits says about the next token, beside the base's row; and the
 * statistics over all rows. */
#ifndef NB_MEASURE_SCORE_H
#define NB_MEASURE_SCORE_H

#include "measure/evaluate.h"

enum { NB_TOP = 10 };

typedef struct nb_prediction { /* of one row */
    const float *row;          /* logits, or log-probabilities of a file */
    bool stored;               /* the latter: what is at most -16 counts as nothing */
    double log_sum;            /* log of the sum of exp(logit); 0 when stored */
    float most;
    size_t top[NB_TOP]; /* likeliest first, lower ids first among equals; fewer when the vocabulary is smaller */
    size_t tops;
} nb_prediction;

/* scratch: [n] */
nb_prediction nb_predict(const float *row, size_t n, bool stored, float *scratch);
/* KL(base || model) = sum p_base (log p_base - log p_model). scratch: [2 n] */
double nb_divergence(const nb_prediction *base, const nb_prediction *model, size_t n, float *scratch);

typedef struct nb_scores { /* of one model over all rows */
    size_t count;
    double nll, nll2, base_nll, base_nll2, nll_base_nll;
    double kl, kl2, change2, change4;
    size_t agree[NB_AGREE_KS], possible[NB_AGREE_KS];
    double *each; /* [most] divergences; NULL without a base */
} nb_scores;

void nb_scores_add(nb_scores *s, const nb_prediction *model, const nb_prediction *base, size_t n, int32_t next,
                   float *scratch);
/* first: of the first model, whose divergences are still in the order of the text. */
void nb_scores_compare(const nb_scores *s, const nb_scores *first, nb_evaluation *out);
/* Sorts s->each. */
void nb_scores_summarize(nb_scores *s, bool has_base, nb_evaluation *out);

#endif
