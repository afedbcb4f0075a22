/* loss.h - what quantizing did to the weights themselves: each matrix of a file beside the same one of its source. */
#ifndef NB_MEASURE_LOSS_H
#define NB_MEASURE_LOSS_H

#include "base/team.h"
#include "format/imatrix.h"
#include "format/source.h"

typedef struct nb_tensor_loss {
    nb_str name;
    nb_str kind; /* "ffn_down" of "blk.3.ffn_down.weight"; "token_embd" */
    int layer;   /* -1: none */
    const nb_type_info *type;
    uint64_t values, bytes;
    double error, norm;                   /* sums of squares: of the differences, of the source */
    double weighted_error, weighted_norm; /* each column weighed by the importance matrix; 0 where it has no entry */
} nb_tensor_loss;

typedef struct nb_loss {
    nb_tensor_loss *tensors; /* those with two dimensions and more, in the source's order */
    size_t count;
    uint64_t values, bytes; /* of all tensors of the quantized file */
} nb_loss;

/* Every matrix of base has to be in quantized, in its shape; names point into base. importance: NULL, or of this model.
 * What is found does not depend on the number of threads. The arena holds *out. */
nb_status nb_loss_measure(const nb_source *base, const nb_source *quantized, const nb_imatrix *importance,
                          nb_team *team, nb_arena *arena, nb_loss *out, nb_error *err);

/* Relative squared errors: of one tensor, of a layer (kind.p NULL), of a kind (layer -2: all layers). NaN: none, or no
 * importance matrix where weighted. */
double nb_loss_relative(const nb_loss *loss, int layer, nb_str kind, bool weighted);
enum { NB_LOSS_ALL_LAYERS = -2 };

/* Rows [row, row + count) as floats. */
nb_status nb_source_floats(const nb_source *s, size_t tensor, uint64_t row, uint64_t count, float *out, nb_error *err);

#endif
