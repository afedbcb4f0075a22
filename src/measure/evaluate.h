/* evaluate.h - how well a model predicts a text, and how far it is from another that should say the same.
 *
 * Windows as llama-perplexity takes them: the text's tokens are cut into windows; each begins with BOS where the
 * vocabulary wants one (in place of its first token); the second half of each window is scored. */
#ifndef NB_MEASURE_EVALUATE_H
#define NB_MEASURE_EVALUATE_H

#include "engine/engine.h"

typedef struct nb_evaluation {
    size_t windows, scored;              /* scored: predicted tokens */
    double perplexity, perplexity_error; /* exp of the mean negative log-likelihood, and its standard error */
    double nll;
    bool has_base; /* the rest: against the base, from the base's distribution */
    double base_perplexity;
    double kl_mean, kl_error, kl_median, kl_90, kl_99, kl_999, kl_max;
    double same_top;        /* share of positions with the same likeliest token */
    double probability_rms; /* root mean square of the change in the right token's probability */
} nb_evaluation;

/* Called after each window; non-zero cancels. */
typedef int nb_evaluate_fn(void *user, size_t windows_done, size_t windows);

/* base: NULL, or a model with the same vocabulary. window: tokens, at least 4. windows: 0: all of the text. options: for both
 * sessions (context, batch and outputs are set here). */
nb_status nb_evaluate(nb_model *model, nb_model *base, nb_str text, size_t window, size_t windows,
                      const nb_session_params *options, nb_evaluate_fn *progress, void *user, nb_evaluation *out,
                      nb_error *err);

#endif
