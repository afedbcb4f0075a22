/* quantize_rows.h - what the two ways of quantizing rows share: the plain one (quantize_rows.c), and bands of rows that are
 * rounded with error feedback (quantize_feedback.c). */
#ifndef NB_CONVERT_QUANTIZE_ROWS_H
#define NB_CONVERT_QUANTIZE_ROWS_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/team.h"
#include "convert/quantize_internal.h"

typedef struct nb_rows_part { /* a job as units */
    const nb_source_tensor *tensor;
    const nb_imatrix_entry *importance;
    bool copied;
    bool fed;               /* by quantize_feedback.c */
    size_t in_row, out_row; /* bytes */
    uint64_t rows, unit_rows, first_unit;
} nb_rows_part;

typedef struct nb_rows_work {
    const nb_source *source;
    const nb_quantize_params *params;
    const nb_quantize_job *jobs;
    nb_rows_part *parts;
    size_t count;
    bool look;                    /* for values that are not finite, in copied tensors too */
    uint64_t units, source_bytes; /* units of the plain way */
    nb_quantize_progress_fn *progress;
    void *user;
    unsigned char *memory; /* of all members */
    size_t member_bytes, x_bytes, in_bytes, out_bytes;
    atomic_ullong next, done; /* units taken, bytes of the source read */
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    uint64_t failed_unit;
    nb_status status;
    nb_error error;
} nb_rows_work;

/* ---- for both ---- */

enum { NB_ROWS_LARGEST_HALF = 0x477fe000 }; /* bits of 65504 as float32 */

/* Rows of a part, from the source or, where it is not mapped, by way of `room`. */
nb_status nb_rows_read(const nb_rows_work *w, size_t job, uint64_t row, uint64_t rows, void *room,
                       const unsigned char **in, nb_error *err);
/* One of them as finite floats, which may be where they lie; *largest: bits of the largest magnitude. */
nb_status nb_rows_load(const nb_rows_work *w, const nb_rows_part *p, uint64_t row, const unsigned char *in, float *room,
                       const float **x, int32_t *largest, nb_error *err);
/* Whether the quantized row is finite, too: its scales are halves. */
nb_status nb_rows_check(const nb_rows_work *w, size_t job, uint64_t row, const void *out, float *room, nb_error *err);
/* Puts quantized or copied rows where they go. */
nb_status nb_rows_put(const nb_rows_work *w, size_t job, uint64_t row, const unsigned char *bytes, size_t n,
                      nb_error *err);
void nb_rows_fail(nb_rows_work *w, uint64_t unit, nb_status status, const nb_error *error);
/* One thread says what was done. */
void nb_rows_report(nb_rows_work *w, const nb_rows_part *p);

/* ---- quantize_feedback.c ---- */

/* Whether a tensor is rounded with feedback: the importance matrix has its columns' moments, and the type has blocks. */
bool nb_rows_are_fed(const nb_quantize_params *p, const nb_source_tensor *t, const nb_type_info *type,
                     const nb_imatrix_entry *importance);
nb_status nb_quantize_fed_rows(nb_rows_work *w, nb_team *team, nb_error *err);

#endif
