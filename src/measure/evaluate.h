/* evaluate.h - how well models predict a text, and how far each is from a base that should say the same.
 *
 * Windows as llama-perplexity takes them (windows.h); the second half of each is scored. */
#ifndef NB_MEASURE_EVALUATE_H
#define NB_MEASURE_EVALUATE_H

#include "engine/engine.h"

enum { NB_AGREE_KS = 3 };
extern const size_t nb_agree_k[NB_AGREE_KS]; /* 1, 5, 10 */

/* Errors are standard errors of the means over scored tokens. */
typedef struct nb_evaluation {
    size_t windows, scored;              /* scored: predicted tokens */
    double perplexity, perplexity_error; /* exp of the mean negative log-likelihood */
    double nll;
    bool has_base; /* the rest: against the base, from the base's distribution */
    double base_perplexity;
    double ratio, ratio_error; /* of the perplexities */
    double kl_mean, kl_error, kl_median, kl_90, kl_99, kl_999, kl_max;
    double same_top, same_top_error;               /* share of positions with the same likeliest token */
    double probability_rms, probability_rms_error; /* root mean square of the change in the right token's probability */
    double agree[NB_AGREE_KS]; /* share of the base's k likeliest tokens that are among the model's, k of nb_agree_k */
    /* Less the first model's mean divergence, token by token; 0 for the first. */
    double kl_more, kl_more_error;
} nb_evaluation;

/* Called after each window; non-zero cancels. */
typedef int nb_evaluate_fn(void *user, size_t windows_done, size_t windows);

typedef struct nb_evaluate_params {
    size_t window;                    /* tokens, at least 4; with a base file 0: the file's */
    size_t windows;                   /* at most; 0: all of the text */
    const nb_session_params *options; /* for all sessions (context, batch and outputs are set here); NULL: defaults */
    nb_model *base;                   /* a model with the same vocabulary, or */
    const char *base_file;            /* a file of logits (logits_file.h) made from the same text; or both NULL */
    const char *save;                 /* NULL, or where the first model's logits go in that form */
    nb_evaluate_fn *progress;
    void *user;
} nb_evaluate_params;

/* Evaluates `count` models side by side: out is [count]. text.p may be NULL with a base file: its tokens are used. */
nb_status nb_evaluate_models(nb_model *const *models, size_t count, nb_str text, const nb_evaluate_params *params,
                             nb_evaluation *out, nb_error *err);

/* The same for one model. base: NULL, or a model. */
nb_status nb_evaluate(nb_model *model, nb_model *base, nb_str text, size_t window, size_t windows,
                      const nb_session_params *options, nb_evaluate_fn *progress, void *user, nb_evaluation *out,
                      nb_error *err);

#endif
