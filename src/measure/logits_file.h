/* logits_file.h - what a base model predicted, kept so that it need not be computed again: the file that llama-perplexity
 * writes with --kl-divergence-base. Little-endian: "_logits_", window, vocabulary, windows (32 bits each), the tokens of all
 * windows, then for each scored token of each window (the second half, but for the last) the float32 step and lowest value
 * and vocabulary 16-bit codes, an odd one padded: log-probability = step * code + lowest. What lies more than 16 below the
 * greatest is kept as the lowest. */
#ifndef NB_MEASURE_LOGITS_FILE_H
#define NB_MEASURE_LOGITS_FILE_H

#include "base/file.h"

typedef struct nb_logits_shape {
    size_t window, vocabulary, windows;
    size_t rows; /* scored tokens a window: window - 1 - window / 2 */
} nb_logits_shape;

typedef struct nb_logits_file nb_logits_file;

/* Whether the file begins as one; false too when it cannot be read. */
bool nb_logits_file_is(const char *path);
nb_status nb_logits_file_open(const char *path, nb_logits_file **out, nb_error *err);
/* The same of bytes that stay the caller's. */
nb_status nb_logits_file_open_memory(const char *name, const void *bytes, size_t size, nb_logits_file **out,
                                     nb_error *err);
void nb_logits_file_close(nb_logits_file *f); /* NULL is fine */

nb_logits_shape nb_logits_file_shape(const nb_logits_file *f);
void nb_logits_file_tokens(const nb_logits_file *f, size_t window, int32_t *tokens); /* [window]; ids are in range */
/* Log-probabilities [vocabulary] of a scored token; finite, at most a rounding above 0. */
nb_status nb_logits_file_row(const nb_logits_file *f, size_t window, size_t row, float *log_probability, nb_error *err);

typedef struct nb_logits_writer nb_logits_writer;

/* tokens: of all windows, end to end. The rows are added window by window. */
nb_status nb_logits_writer_open(const char *path, const nb_logits_shape *shape, const int32_t *tokens,
                                nb_logits_writer **out, nb_error *err);
nb_status nb_logits_writer_add(nb_logits_writer *w, const float *logits, nb_error *err);
nb_status nb_logits_writer_commit(nb_logits_writer *w, nb_error *err); /* frees w, on failure too */
void nb_logits_writer_abort(nb_logits_writer *w);                      /* NULL is fine */

#endif
