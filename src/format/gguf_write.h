/* gguf_write.h - writes GGUF version 3: set the metadata, declare the tensors, then stream their bytes in that order.
 * Memory holds the header only. The file appears under its name when it is committed and whole; until then it has another
 * name and no magic. A failure of a `put` is kept and returned by the next call that can fail. One thread at a time. */
#ifndef NB_FORMAT_GGUF_WRITE_H
#define NB_FORMAT_GGUF_WRITE_H

#include "format/gguf.h"

typedef struct nb_gguf_writer nb_gguf_writer;

/* alignment: of tensor data; a power of two from 8 to 2^20, 0 for the usual 32. Another one is recorded in the file as
 * general.alignment, a key that cannot be put. */
nb_status nb_gguf_writer_open(const char *path, size_t alignment, nb_gguf_writer **out, nb_error *err);

/* Metadata. A key that was put before is replaced, in its old place. Keys: 1 to 512 bytes of printable ASCII. */
void nb_gguf_put_u8(nb_gguf_writer *w, const char *key, uint8_t value);
void nb_gguf_put_i8(nb_gguf_writer *w, const char *key, int8_t value);
void nb_gguf_put_u16(nb_gguf_writer *w, const char *key, uint16_t value);
void nb_gguf_put_i16(nb_gguf_writer *w, const char *key, int16_t value);
void nb_gguf_put_u32(nb_gguf_writer *w, const char *key, uint32_t value);
void nb_gguf_put_i32(nb_gguf_writer *w, const char *key, int32_t value);
void nb_gguf_put_u64(nb_gguf_writer *w, const char *key, uint64_t value);
void nb_gguf_put_i64(nb_gguf_writer *w, const char *key, int64_t value);
void nb_gguf_put_f32(nb_gguf_writer *w, const char *key, float value);
void nb_gguf_put_f64(nb_gguf_writer *w, const char *key, double value);
void nb_gguf_put_bool(nb_gguf_writer *w, const char *key, bool value);
void nb_gguf_put_str(nb_gguf_writer *w, const char *key, nb_str value);
/* count elements of a kind with a fixed size, as they lie in memory (bool: one byte, 0 or 1) */
void nb_gguf_put_array(nb_gguf_writer *w, const char *key, nb_gguf_kind element, const void *values, size_t count);
void nb_gguf_put_strings(nb_gguf_writer *w, const char *key, const nb_str *values, size_t count);
/* What was read from another file, under its own key; general.alignment is passed over. */
void nb_gguf_put_value(nb_gguf_writer *w, const nb_gguf_value *value);

/* Declares the next tensor. Names: 1 to 63 bytes of printable ASCII, each once; n_dims 1..4, dims[0] the contiguous one. */
void nb_gguf_put_tensor(nb_gguf_writer *w, nb_str name, const nb_type_info *type, uint32_t n_dims,
                        const uint64_t *dims);

/* The next bytes of tensor data: any piece of a tensor, never over its end. Padding between tensors is added here. After
 * the first call nothing can be put any more. */
nb_status nb_gguf_writer_data(nb_gguf_writer *w, const void *bytes, size_t n, nb_error *err);

/* Instead of nb_gguf_writer_data: begin, then put the pieces of all tensors in any order, each byte once, from any number of
 * threads; `offset` counts in the tensor. */
nb_status nb_gguf_writer_begin(nb_gguf_writer *w, nb_error *err);
nb_status nb_gguf_writer_place(nb_gguf_writer *w, size_t tensor, size_t offset, const void *bytes, size_t n,
                               nb_error *err);

/* A writer without a file, for nb_gguf_writer_bytes: what the whole file takes, from what has been put so far. */
nb_status nb_gguf_writer_measure(nb_gguf_writer **out, nb_error *err);
uint64_t nb_gguf_writer_bytes(const nb_gguf_writer *w);

/* Checks that every tensor's data came, and makes the file appear. Frees w, on failure too (nothing is left behind). */
nb_status nb_gguf_writer_commit(nb_gguf_writer *w, nb_error *err);
void nb_gguf_writer_abort(nb_gguf_writer *w); /* NULL is fine */

#endif
