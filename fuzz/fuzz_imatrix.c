/* The readers of importance matrices on any bytes: they refuse, or hand out entries whose values are usable and which
 * can be merged and written in both forms. */
#include <math.h>
#include <stdlib.h>

#include "format/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_entry(const nb_imatrix *m, const nb_imatrix_entry *e)
{
    float *weight = malloc(e->columns * sizeof *weight);
    if (!weight || nb_imatrix_find(m, e->name) != e)
        abort();
    for (size_t i = 0; i < e->matrices; i++) {
        nb_imatrix_weights(e, i, weight);
        for (size_t j = 0; j < e->columns; j++)
            if (!(weight[j] >= 0))
                abort();
    }
    free(weight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_imatrix *m, *sum;
    nb_error err = {0};
    if (nb_imatrix_open_memory("fuzz", data, size, &m, &err) != NB_OK)
        return m == NULL && err.code != NB_OK && err.message[0] ? 0 : (abort(), 0);
    for (size_t i = 0; i < nb_imatrix_count(m); i++)
        check_entry(m, nb_imatrix_at(m, i));
    if (nb_imatrix_new(&sum, &err) != NB_OK || nb_imatrix_merge(sum, m, 512, &err) != NB_OK ||
        nb_imatrix_merge(sum, m, 512, &err) != NB_OK || nb_imatrix_count(sum) != nb_imatrix_count(m))
        abort();
    nb_imatrix_free(sum);
    nb_imatrix_free(m);
    return 0;
}
