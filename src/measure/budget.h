/* budget.h - which type each matrix gets so that a file has a given size, bits a weight or divergence, at the least loss.
 *
 * Three steps, a file each: the error of each tensor in each type that fits it, measured on a sample of rows
 * (budget_error.c); how much divergence a tensor's error makes, from a table or measured on a text (budget_loss.c); and
 * the choice among all combinations (budget_choose.c). A divergence asked for is then searched by measuring whole models
 * (budget_judge.c). None of it depends on the number of threads. */
#ifndef NB_MEASURE_BUDGET_H
#define NB_MEASURE_BUDGET_H

#include "convert/quantize.h"
#include "engine/engine.h"

enum { NB_BUDGET_OPTIONS = 24, NB_BUDGET_THIRDS = 3, NB_BUDGET_KINDS = 9 };

typedef struct nb_budget_params {
    const char *in; /* path of the source */
    /* Patterns, output, embedding and kept types hold; mix and types are not looked at. */
    const nb_quantize_params *quantize;
    uint64_t bytes;         /* of the file; or */
    double bits;            /* a weight of its tensors; or */
    double divergence;      /* mean KL divergence from the source on the text; the other two are 0 */
    nb_str text;            /* p NULL: none, only without a divergence */
    size_t window, windows; /* as nb_evaluate_params has them; a tenth of the text and of the windows is held back */
    nb_model_params model;
    nb_session_params session;
    int (*progress)(void *user, const char *what, size_t done, size_t all); /* may be NULL; non-zero cancels */
    void *user;
} nb_budget_params;

typedef struct nb_budget_kind {           /* of tensors */
    nb_str name;                          /* "ffn_down"; points into the source */
    double sensitivity[NB_BUDGET_THIRDS]; /* divergence for each 1 of a tensor's relative error, by depth; 0: no such */
} nb_budget_kind;

typedef struct nb_budget_result {
    nb_quantize_result size;
    double expected; /* divergence, from the errors of the tensors */
    nb_budget_kind kinds[NB_BUDGET_KINDS];
    size_t kind_count;
    /* With a divergence asked for: what was measured, and on how many windows. */
    double divergence, held_back;
    size_t windows, held_back_windows, rounds;
} nb_budget_result;

/* types: [s->tensor_count], for nb_quantize_params.types. The size is at most 1 % below what was asked and never above, the
 * divergence at most 10 %. NB_ERR_ARGUMENT when that cannot be: the message names the smallest and the largest that can. */
nb_status nb_budget_types(const nb_source *s, const nb_budget_params *params, const nb_type_info **types,
                          nb_budget_result *out, nb_error *err);

#endif
