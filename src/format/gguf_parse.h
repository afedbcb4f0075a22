/* gguf_parse.h - inside of the GGUF reader: one file's header, metadata and tensor table, parsed from memory. gguf.c
 * joins files (shards) and answers questions; gguf_parse.c is the only place that reads bytes nobody has checked. */
#ifndef NB_FORMAT_GGUF_PARSE_H
#define NB_FORMAT_GGUF_PARSE_H

#include "format/gguf.h"

/* Limits that keep the cost of a hostile file within 100 ms and 64 MiB. Real files: 60 keys, 2000 tensors, 20 MB of
 * strings (a vocabulary of 262144 tokens with its merges). */
enum {
    NB_GGUF_MAX_VALUES = 8192,
    NB_GGUF_MAX_TENSORS = 65536,
    NB_GGUF_MAX_KEY = 512,
    NB_GGUF_MAX_TENSOR_NAME = 63, /* ggml keeps names in 64 bytes */
    NB_GGUF_MAX_STRINGS = 1 << 21,
    NB_GGUF_MAX_STRING_BYTES = 48 << 20, /* all string arrays of a file together */
    NB_GGUF_MIN_ALIGNMENT = 8,
    NB_GGUF_DEFAULT_ALIGNMENT = 32
};

typedef struct nb_gguf_file {
    char *path;
    nb_map map;
    bool mapped; /* map is ours to close */
    uint32_t version;
    size_t alignment;
    nb_gguf_value *values;
    uint32_t *order; /* of values, sorted by key */
    size_t value_count;
    size_t tensor_count;
} nb_gguf_file;

struct nb_gguf {
    char *path;
    nb_gguf_file *files;
    int file_count;
    nb_gguf_tensor *tensors; /* of all files, in their order */
    uint32_t *order;         /* sorted by name */
    size_t tensor_count;
    void *owner; /* of what tensors and values point into; released last when the nb_gguf is closed */
    void (*release)(void *owner);
};

/* A model that is made rather than read: new gives it `tensor_count` empty tensors, which the caller fills (names, dims, types,
 * data, bytes); own lets closing it release what they point into; finish takes the metadata (copied, but not what it
 * points to) and sorts the names. name is for messages. */
nb_status nb_gguf_new(const char *name, size_t tensor_count, nb_gguf **out, nb_error *err);
void nb_gguf_own(nb_gguf *g, void *owner, void (*release)(void *owner));
nb_status nb_gguf_finish(nb_gguf *g, const nb_gguf_value *values, size_t count, nb_error *err);

/* Parses g->files[shard], whose path and map are set, and appends its tensors to g->tensors. */
nb_status nb_gguf_parse(nb_gguf *g, int shard, nb_error *err);

/* As nb_gguf_open, of one file that lies in memory already; name is for messages. The bytes stay the caller's and must
 * outlive *out; tensors' data is aligned only as far as bytes is. */
nb_status nb_gguf_open_memory(const char *name, const void *bytes, size_t size, nb_gguf **out, nb_error *err);

/* Sorted indices of `count` names that lie `stride` bytes apart from `first` on. NULL when memory is out. */
uint32_t *nb_gguf_sort_names(const nb_str *first, size_t stride, size_t count);
/* The index of name, or count when absent. */
size_t nb_gguf_find_name(const nb_str *first, size_t stride, const uint32_t *order, size_t count, nb_str name);

/* Why `name` cannot be a key or a tensor's name of at most `limit` bytes; NULL when it can. */
const char *nb_gguf_name_problem(nb_str name, size_t limit);

/* Bytes of one value of a kind with a fixed size; 0 for strings, arrays and unknown kinds. */
size_t nb_gguf_kind_bytes(uint32_t kind);

/* "FILE: byte AT: ..." and code. */
nb_status nb_gguf_fail(const char *path, uint64_t at, nb_error *err, nb_status code, const char *format, ...)
    NB_PRINTF(5, 6);

#endif
