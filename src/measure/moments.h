/* moments.h - sums of products of a matrix's input columns, for the second moments in an importance matrix: what the matrices
 * of a step read is kept, then added up on a team of threads. The sums do not depend on their number. */
#ifndef NB_MEASURE_MOMENTS_H
#define NB_MEASURE_MOMENTS_H

#include "format/imatrix.h"
#include "measure/calibrate.h"

enum { NB_MOMENTS_ROWS = 128 }; /* tokens of a step, at most */

typedef struct nb_moments_sums nb_moments_sums;

/* For a model of that many weights; then those whose inputs are wanted. threads: 0: one a processor. */
nb_status nb_moments_sums_new(size_t weights, int threads, nb_moments_sums **out, nb_error *err);
nb_status nb_moments_sums_add(nb_moments_sums *s, size_t weight, size_t columns, size_t block, nb_error *err);
void nb_moments_sums_free(nb_moments_sums *s);              /* NULL is fine */
size_t nb_moments_sums_bytes(size_t columns, size_t block); /* of one weight */

/* As nb_tap_fn; weights that were not added, and NULL, are passed over. */
void nb_moments_take(nb_moments_sums *s, int weight, const float *x, size_t stride, size_t rows, size_t first,
                     size_t columns);
/* Adds up what the last step read. */
void nb_moments_step(nb_moments_sums *s);
/* Gives an entry the moments of a weight that was added. */
nb_status nb_moments_give(const nb_moments_sums *s, size_t weight, nb_imatrix_entry *e, nb_error *err);
bool nb_moments_has(const nb_moments_sums *s, size_t weight);

#endif
