/* safetensors_write.h - writes a safetensors checkpoint: declare the tensors, then stream their bytes in that order. Each file
 * appears under its name when it is committed and whole. One thread at a time. */
#ifndef NB_FORMAT_SAFETENSORS_WRITE_H
#define NB_FORMAT_SAFETENSORS_WRITE_H

#include "format/checkpoint.h"

typedef struct nb_safetensors_writer nb_safetensors_writer;

/* Writes DIR/model.safetensors, or with shard_bytes > 0 and more data than that DIR/model-00001-of-0000N.safetensors and the
 * index beside them. DIR must exist. __metadata__ is {"format": "pt"}, as transformers wants it. */
nb_status nb_safetensors_writer_open(const char *dir, uint64_t shard_bytes, nb_safetensors_writer **out, nb_error *err);
/* Declares the next tensor; names are unique. A failure is kept and returned by the next call that can fail. */
void nb_safetensors_put(nb_safetensors_writer *w, nb_str name, nb_dtype dtype, uint32_t n_dims, const uint64_t *dims);
/* The next bytes of tensor data, in the order of the declarations. */
nb_status nb_safetensors_data(nb_safetensors_writer *w, const void *bytes, size_t n, nb_error *err);
nb_status nb_safetensors_writer_commit(nb_safetensors_writer *w, nb_error *err); /* frees w, on failure too */
void nb_safetensors_writer_abort(nb_safetensors_writer *w);                      /* NULL is fine */

#endif
