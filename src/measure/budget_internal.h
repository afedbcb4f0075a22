/* budget_internal.h - the parts of budget.h. */
#ifndef NB_MEASURE_BUDGET_INTERNAL_H
#define NB_MEASURE_BUDGET_INTERNAL_H

#include "measure/budget.h"

typedef struct nb_budget_option {
    const nb_type_info *type;
    uint64_t bytes; /* in a file, padded */
    double error;   /* squared, relative to the tensor's own squares, each column by its importance */
} nb_budget_option;

typedef struct nb_budget_tensor { /* whose type is free */
    size_t index;                 /* in the source */
    size_t kind, third;
    double sensitivity;
    nb_budget_option options[NB_BUDGET_OPTIONS]; /* each larger and with less error than the one before */
    size_t count;
} nb_budget_tensor;

typedef struct nb_budget {
    const nb_source *source;
    const nb_budget_params *params;
    const nb_type_info **types; /* of all tensors: the fixed ones are set */
    nb_budget_tensor *tensors;
    size_t count;
    nb_str kinds[NB_BUDGET_KINDS];
    size_t kind_count;
    uint64_t values;      /* of all tensors */
    uint64_t fixed_bytes; /* of the tensors whose types are not free, not padded */
    nb_arena arena;
} nb_budget;

nb_status nb_budget_progress(const nb_budget *b, const char *what, size_t done, size_t all, nb_error *err);

/* ---- budget_error.c: finds the free tensors, and the errors of their types ---- */
nb_status nb_budget_measure_errors(nb_budget *b, nb_error *err);

/* ---- budget_choose.c: the least loss for each size ---- */
typedef struct nb_budget_table {
    const nb_budget *budget;
    uint64_t least, most; /* bytes of all free tensors */
    size_t cells;         /* sizes from `least` on, in steps of `unit` */
    double unit;
    double *loss;           /* [cells]; infinite where nothing has that size */
    double *left;           /* [cells] scratch: those not yet tried */
    unsigned char *options; /* [count][cells] */
} nb_budget_table;

nb_status nb_budget_table_make(const nb_budget *b, nb_arena *arena, nb_budget_table *out, nb_error *err);
/* Sets b->types to the least loss whose free tensors have low..high bytes; false: there is nothing. */
bool nb_budget_table_by_bytes(const nb_budget_table *t, uint64_t low, uint64_t high);
/* The fewest bytes whose loss is low..high; where there is none, at most high. */
void nb_budget_table_by_loss(const nb_budget_table *t, double low, double high);
/* Of the types as they are set. */
double nb_budget_loss(const nb_budget *b);

/* ---- budget_judge.c: divergence of whole models from the source ---- */
typedef struct nb_budget_judge nb_budget_judge;
nb_status nb_budget_judge_new(const nb_budget *b, nb_budget_judge **out, nb_error *err);
void nb_budget_judge_free(nb_budget_judge *j); /* NULL is fine */
size_t nb_budget_judge_windows(const nb_budget_judge *j, bool held_back);
/* windows: at most; 0: all. */
nb_status nb_budget_judge_types(nb_budget_judge *j, const nb_type_info *const *types, bool held_back, size_t windows,
                                const char *what, double *divergence, nb_error *err);

/* ---- budget_loss.c: from errors to divergence ---- */
enum { NB_BUDGET_WINDOWS = 4 }; /* that a sensitivity is measured on */
void nb_budget_sensitivity_default(nb_budget *b);
nb_status nb_budget_sensitivity_measure(nb_budget *b, nb_budget_judge *j, nb_error *err);

#endif
