/* source_loss.h - how far one form of a model's tensors is from another. */
#ifndef NB_CONVERT_SOURCE_LOSS_H
#define NB_CONVERT_SOURCE_LOSS_H

#include "format/source.h"

/* sum (x - y)^2 / sum x^2 over the tensors whose types differ: x of s, y of the tensor of that name and shape in `made`. */
nb_status nb_source_loss(const nb_source *s, const nb_source *made, double *loss, nb_error *err);

#endif
