/* checkpoint.h - the tensors of a checkpoint as trainers save them: a safetensors file or shards with their index, or torch
 * `.bin` files (zip form) by a restricted reader that knows only what rebuilds tensors. Files are hostile until checked;
 * nothing is copied, tensors point into the mapped files. Names, dtypes and shapes are the file's own.
 * Sources: the safetensors README (format); torch.save's zip container, pickle protocol 2. */
#ifndef NB_FORMAT_CHECKPOINT_H
#define NB_FORMAT_CHECKPOINT_H

#include "base/file.h"

typedef enum nb_dtype {
    NB_DTYPE_BOOL,
    NB_DTYPE_U8,
    NB_DTYPE_I8,
    NB_DTYPE_U16,
    NB_DTYPE_I16,
    NB_DTYPE_U32,
    NB_DTYPE_I32,
    NB_DTYPE_U64,
    NB_DTYPE_I64,
    NB_DTYPE_F8_E4M3,
    NB_DTYPE_F8_E5M2,
    NB_DTYPE_F8_E8M0,
    NB_DTYPE_F16,
    NB_DTYPE_BF16,
    NB_DTYPE_F32,
    NB_DTYPE_F64,
    NB_DTYPES
} nb_dtype;

const char *nb_dtype_name(nb_dtype dtype); /* safetensors' names: "F32", "BF16", "F8_E4M3" */
size_t nb_dtype_bytes(nb_dtype dtype);

enum { NB_CHECKPOINT_DIMS = 8 };

typedef struct nb_checkpoint_tensor {
    nb_str name;
    nb_dtype dtype;
    uint32_t n_dims;                   /* 0: a scalar */
    uint64_t dims[NB_CHECKPOINT_DIMS]; /* as the file says: the last one is the contiguous one of a contiguous tensor */
    uint64_t stride[NB_CHECKPOINT_DIMS]; /* in values; torch files may hold transposed views */
    bool contiguous;
    const void *data; /* of value [0, 0, ...] */
    uint64_t values;  /* product of dims */
    const char *file; /* for messages */
} nb_checkpoint_tensor;

typedef struct nb_checkpoint nb_checkpoint;

/* path: a directory (model.safetensors, its index, pytorch_model.bin, its index: the first that is there), or one such file.
 * Every tensor of an index must be in the shard that it names. */
nb_status nb_checkpoint_open(const char *path, nb_checkpoint **out, nb_error *err);
void nb_checkpoint_close(nb_checkpoint *c); /* NULL is fine */
bool nb_checkpoint_is_in(const char *directory); /* one of these files is there */

size_t nb_checkpoint_count(const nb_checkpoint *c);
const nb_checkpoint_tensor *nb_checkpoint_at(const nb_checkpoint *c, size_t i);      /* sorted by name */
const nb_checkpoint_tensor *nb_checkpoint_find(const nb_checkpoint *c, nb_str name); /* NULL when absent */
/* "format" and the like of a safetensors file's __metadata__; false when absent. */
bool nb_checkpoint_metadata(const nb_checkpoint *c, const char *key, nb_str *value);

/* Values [first, first + count) in row-major order as float32 (F64 is rounded, integers converted, FP8 decoded). */
void nb_checkpoint_read_f32(const nb_checkpoint_tensor *t, uint64_t first, uint64_t count, float *dst);
/* The same values in their own dtype. */
void nb_checkpoint_read_raw(const nb_checkpoint_tensor *t, uint64_t first, uint64_t count, void *dst);
/* Hint: the pages behind these values are not needed any more. */
void nb_checkpoint_forget(const nb_checkpoint *c, const nb_checkpoint_tensor *t, uint64_t first, uint64_t count);

#endif
