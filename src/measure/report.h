/* report.h - a page about quantized files: what each costs in bytes and in loss, where the loss lies, what a tensor looks
 * like before and after, and how to repeat it. */
#ifndef NB_MEASURE_REPORT_H
#define NB_MEASURE_REPORT_H

#include "format/imatrix.h"
#include "measure/evaluate.h"

typedef struct nb_report_params {
    const char *base; /* path of the source */
    char *const *paths;
    size_t count;              /* of paths, at least 1 */
    nb_str text;               /* what the divergence is measured on; p NULL: only tensors are compared */
    const char *text_name;     /* for the page */
    size_t window, windows;    /* as nb_evaluate_params has them */
    const char *tensor;        /* whose values are drawn; NULL: ffn_down of the middle layer */
    const nb_imatrix *weights; /* NULL: none */
    const char *weights_name;
    const char *command; /* that made the page */
    nb_model_params model;
    nb_session_params session;
    int (*progress)(void *user, const char *what, size_t done, size_t all); /* may be NULL; non-zero cancels */
    void *user;
} nb_report_params;

/* Appends the page to html. */
nb_status nb_report_write(const nb_report_params *params, nb_buf *html, nb_error *err);

#endif
