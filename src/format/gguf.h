/* gguf.h - reads GGUF files (versions 2 and 3, sharded ones too). Everything is checked before it is handed out:
 * sizes against the bytes that remain, arithmetic against overflow, offsets against each other. Strings and tensor
 * data point into the mapped file and live as long as the nb_gguf.
 * Source: the GGUF specification (ggml docs/gguf.md). */
#ifndef NB_FORMAT_GGUF_H
#define NB_FORMAT_GGUF_H

#include "base/file.h"
#include "quant/quant.h"

/* values are the file's */
typedef enum nb_gguf_kind {
    NB_GGUF_U8,
    NB_GGUF_I8,
    NB_GGUF_U16,
    NB_GGUF_I16,
    NB_GGUF_U32,
    NB_GGUF_I32,
    NB_GGUF_F32,
    NB_GGUF_BOOL,
    NB_GGUF_STRING,
    NB_GGUF_ARRAY,
    NB_GGUF_U64,
    NB_GGUF_I64,
    NB_GGUF_F64,
    NB_GGUF_KINDS
} nb_gguf_kind;

typedef struct nb_gguf_value {
    nb_str key;
    nb_gguf_kind kind;         /* NB_GGUF_ARRAY for arrays */
    nb_gguf_kind element;      /* of an array */
    size_t count;              /* of an array; else 1 */
    const unsigned char *data; /* the encoded value(s) in the file, little-endian, unaligned; of a string its bytes */
    size_t bytes;              /* of data */
} nb_gguf_value;

typedef struct nb_gguf_tensor {
    nb_str name;
    const nb_type_info *type;
    uint32_t n_dims;  /* 1..4 */
    uint64_t dims[4]; /* dims[0] is the contiguous one (columns); unused ones are 1 */
    const void *data; /* in the mapped file */
    size_t bytes;
    int shard;       /* which file of a sharded model, from 0 */
    uint64_t offset; /* of data in that file */
} nb_gguf_tensor;

typedef struct nb_gguf nb_gguf;

/* Opens a file, and with NAME-00001-of-0000N.gguf all its shards. Errors name file, byte and remedy. */
nb_status nb_gguf_open(const char *path, nb_gguf **out, nb_error *err);
void nb_gguf_close(nb_gguf *g); /* NULL is fine */

const char *nb_gguf_path(const nb_gguf *g); /* as opened: for messages */
uint32_t nb_gguf_version(const nb_gguf *g);
uint64_t nb_gguf_file_bytes(const nb_gguf *g); /* of all shards together */
size_t nb_gguf_alignment(const nb_gguf *g);
int nb_gguf_shards(const nb_gguf *g);
const nb_map *nb_gguf_map(const nb_gguf *g, int shard);

size_t nb_gguf_value_count(const nb_gguf *g);
const nb_gguf_value *nb_gguf_value_at(const nb_gguf *g, size_t i);
const nb_gguf_value *nb_gguf_find(const nb_gguf *g, const char *key); /* NULL when absent */

size_t nb_gguf_tensor_count(const nb_gguf *g);
const nb_gguf_tensor *nb_gguf_tensor_at(const nb_gguf *g, size_t i);
const nb_gguf_tensor *nb_gguf_find_tensor(const nb_gguf *g, nb_str name); /* NULL when absent */

/* Typed reads. Any integer kind converts when the value fits; NB_ERR_NOT_FOUND when the key is absent, NB_ERR_FORMAT
 * when it has another kind or does not fit; *out is untouched on failure. err may be NULL. */
nb_status nb_gguf_get_u64(const nb_gguf *g, const char *key, uint64_t *out, nb_error *err);
nb_status nb_gguf_get_i64(const nb_gguf *g, const char *key, int64_t *out, nb_error *err);
nb_status nb_gguf_get_f64(const nb_gguf *g, const char *key, double *out, nb_error *err); /* F32, F64, integers */
nb_status nb_gguf_get_bool(const nb_gguf *g, const char *key, bool *out, nb_error *err);
nb_status nb_gguf_get_str(const nb_gguf *g, const char *key, nb_str *out, nb_error *err);

/* Element i of an array, converted as above. The caller has checked i < count and the element kind's class. */
uint64_t nb_gguf_elem_u64(const nb_gguf_value *v, size_t i);
int64_t nb_gguf_elem_i64(const nb_gguf_value *v, size_t i);
double nb_gguf_elem_f64(const nb_gguf_value *v, size_t i);

/* The strings of a string array as slices into the file; the table itself is allocated in arena. */
nb_status nb_gguf_get_strings(const nb_gguf *g, const char *key, nb_arena *arena, nb_str **out, size_t *count,
                              nb_error *err);

const char *nb_gguf_kind_name(nb_gguf_kind kind); /* "u8", "string", ... */

#endif
