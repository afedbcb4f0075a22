/* calibrate.h - collects an importance matrix: what the matrices of a model read while it reads a text. As llama-imatrix
 * does: windows end to end, all tokens of each, every matrix of the layers. */
#ifndef NB_MEASURE_CALIBRATE_H
#define NB_MEASURE_CALIBRATE_H

#include "engine/engine.h"
#include "format/imatrix.h"

typedef struct nb_calibrate_params {
    size_t window;                    /* tokens */
    size_t windows;                   /* at most; 0: all of the text */
    bool output;                      /* the output matrix too (a model with tied embeddings has none of its own) */
    size_t moments;                   /* 0: none; else second moments too, in blocks of at most that many columns */
    const char *text_name;            /* kept in the file; NULL: none */
    const nb_session_params *options; /* NULL: defaults; context and outputs are set here */
    int (*progress)(void *user, size_t windows_done, size_t windows); /* may be NULL; non-zero cancels */
    void *user;
} nb_calibrate_params;

/* Sums are in double, and their order is the text's: they depend on neither threads nor batches. Free *out with
 * nb_imatrix_free. */
nb_status nb_calibrate(nb_model *model, nb_str text, const nb_calibrate_params *params, nb_imatrix **out,
                       nb_error *err);

#endif
