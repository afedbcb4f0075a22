/* quantize_internal.h - the parts of quantize.h: metadata (quantize_values.c), types (quantize_plan.c), the files and what
 * goes into which (quantize_files.c), and the rows (quantize_rows.c). */
#ifndef NB_CONVERT_QUANTIZE_INTERNAL_H
#define NB_CONVERT_QUANTIZE_INTERNAL_H

#include "convert/quantize.h"
#include "format/gguf_write.h"

/* ---- metadata of the output ---- */

typedef struct nb_quantize_values {
    nb_arena arena; /* of what the source does not have */
    nb_gguf_value *items;
    size_t count;
} nb_quantize_values;

/* The source's, without keys about shards; what was done; last the overrides. */
nb_status nb_quantize_values_make(const nb_source *s, const nb_quantize_params *p, const nb_type_info *const *types,
                                  nb_quantize_values *out, nb_error *err);

/* ---- files ---- */

typedef struct nb_quantize_file {
    size_t *tensors; /* of the source, in the order they are written */
    size_t count;
} nb_quantize_file;

typedef struct nb_quantize_files {
    nb_quantize_values values;
    size_t *tensors; /* of all files, one after another */
    nb_quantize_file *items;
    size_t count;
    uint64_t bytes; /* of all */
} nb_quantize_files;

nb_status nb_quantize_files_make(const nb_source *s, const nb_quantize_params *p, const nb_type_info *const *types,
                                 nb_quantize_files *out, nb_error *err);
void nb_quantize_files_free(nb_quantize_files *files);
/* Metadata and tensors of one file. A failure is kept by the writer. */
void nb_quantize_files_put(const nb_quantize_files *files, size_t file, const nb_source *s,
                           const nb_type_info *const *types, nb_gguf_writer *w);

/* ---- rows ---- */

typedef struct nb_quantize_job { /* a tensor */
    size_t tensor;               /* of the source */
    const nb_type_info *type;    /* its new one, or its own: then bytes are copied */
    unsigned char *memory;       /* where its rows go; NULL: to the writer */
    nb_gguf_writer *writer;
    size_t place; /* the writer's number of the tensor */
} nb_quantize_job;

nb_status nb_quantize_rows(const nb_source *s, const nb_quantize_params *p, const nb_quantize_job *jobs, size_t count,
                           nb_quantize_progress_fn *progress, void *user, nb_error *err);

/* The importance of a tensor's columns; NULL: none is known. */
const nb_imatrix_entry *nb_quantize_importance(const nb_quantize_params *p, const nb_source_tensor *t);

#endif
