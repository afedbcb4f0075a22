/* source.h - a model as metadata and tensors whose rows can be read, wherever they come from: a GGUF file, a directory of
 * Hugging Face. Names, dimensions and metadata are GGUF's whatever the source. What is converted, quantized, packed into
 * memory or written back is read through this. */
#ifndef NB_FORMAT_SOURCE_H
#define NB_FORMAT_SOURCE_H

#include "format/gguf.h"

typedef struct nb_source_tensor {
    nb_str name;
    const nb_type_info *type; /* of the rows that `read` gives */
    uint32_t n_dims;          /* 1..4 */
    uint64_t dims[4];         /* dims[0] is the contiguous one (columns); unused ones are 1 */
    const void *data;         /* all rows as they lie in a mapped file; NULL: they have to be made (`read`) */
    int file;                 /* which of the source's files it lies in, from 0 */
} nb_source_tensor;

typedef struct nb_source nb_source;
struct nb_source {
    const char *path; /* for messages */
    const nb_gguf_value *values;
    size_t value_count;
    const nb_source_tensor *tensors;
    size_t tensor_count;
    const char *const *files; /* what must not be written over; NULL: path alone */
    int file_count;           /* 0: not split */
    /* Rows [row, row + count) of tensor i into dst, in its type; rows count over all dimensions but the first. Any number of
     * threads at once. */
    nb_status (*read)(const nb_source *s, size_t i, uint64_t row, uint64_t count, void *dst, nb_error *err);
    /* These rows are not needed any more: memory that only mirrors a file may go. NULL: nothing to do. */
    void (*forget)(const nb_source *s, size_t i, uint64_t row, uint64_t count);
    void (*free)(nb_source *s);
};

/* A GGUF file (sharded ones too) as a source. */
nb_status nb_source_open_gguf(const char *path, nb_source **out, nb_error *err);
void nb_source_free(nb_source *s); /* NULL is fine */

const nb_gguf_value *nb_source_find(const nb_source *s, const char *key);       /* NULL when absent */
nb_str nb_source_text(const nb_source *s, const char *key);                     /* a string; empty when absent */
const nb_source_tensor *nb_source_find_tensor(const nb_source *s, nb_str name); /* NULL when absent */
uint64_t nb_source_rows(const nb_source_tensor *t);                             /* product of all dims but the first */

#endif
