/* kept.h - what a base predicted, kept on disk while other models are measured against it, one open at a time. The file has
 * no name: whatever becomes of us, nothing stays. */
#ifndef NB_MEASURE_KEPT_H
#define NB_MEASURE_KEPT_H

#include "measure/evaluate.h"

typedef struct nb_kept {
    char path[32]; /* to read it again, as nb_evaluate_params' base_file; "" : nothing is kept */
    int file;
} nb_kept;

/* Kept logits take 2 bytes a token of the vocabulary for each scored token of the text. Beyond a few GB, let the base predict
 * again each time, which doubles the work. */
bool nb_kept_fits(const nb_model *base, size_t windows, size_t window);

/* Evaluates base by itself (params as for nb_evaluate_models, without a base) and keeps its logits, in TMPDIR or /tmp. */
nb_status nb_kept_make(nb_model *base, nb_str text, const nb_evaluate_params *params, nb_kept *out, nb_error *err);
void nb_kept_close(nb_kept *k); /* one that was never made is fine when zeroed */

#endif
