/* merge.h - a source with LoRA adapters added to its weights: rows of W + scale * B A, made as they are asked for, so that
 * memory holds the adapters and a few rows whatever the model's size. */
#ifndef NB_CONVERT_MERGE_H
#define NB_CONVERT_MERGE_H

#include "format/source.h"

/* Takes base (frees it on failure too). keep: adapted tensors come in the base's own types, rounded; else as float32. A head
 * that is tied to the embedding becomes a tensor of its own when it has an adapter. Every pair must have its tensor, whole. */
nb_status nb_source_merge(nb_source *base, const nb_model_adapter *adapters, size_t count, bool keep, nb_source **out,
                          nb_error *err);

#endif
