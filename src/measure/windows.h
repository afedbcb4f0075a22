/* windows.h - a text as windows of tokens, as llama-perplexity and llama-imatrix cut it: end to end, the rest is left out;
 * each begins with BOS where the vocabulary wants one, in place of its first token. */
#ifndef NB_MEASURE_WINDOWS_H
#define NB_MEASURE_WINDOWS_H

#include "engine/engine.h"

typedef struct nb_windows {
    nb_ids ids;    /* of the whole text */
    size_t window; /* tokens */
    size_t count;
    int32_t bos; /* -1: none */
} nb_windows;

/* most: windows; 0: all there are. An error when there is not one. */
nb_status nb_windows_cut(const nb_model *model, nb_str text, size_t window, size_t most, nb_windows *out,
                         nb_error *err);
void nb_windows_free(nb_windows *w);
void nb_windows_get(const nb_windows *w, size_t i, int32_t *tokens); /* [window] */

#endif
