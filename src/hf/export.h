/* export.h - a model as a directory of Hugging Face: safetensors, config.json, tokenizer.json and tokenizer_config.json, which
 * transformers loads, of models of embeddings with the files that sentence-transformers reads. The way back of hf.h, by the same
 * tables, for every architecture that has a `put` (hf_arch.h). */
#ifndef NB_HF_EXPORT_H
#define NB_HF_EXPORT_H

#include "format/checkpoint.h"
#include "format/source.h"

typedef struct nb_hf_export_params {
    const nb_type_info
        *type;            /* of all tensors: F32, F16 or BF16. NULL: that of most of the source's values, F16 when it is
                                 quantized */
    uint64_t shard_bytes; /* 0: one file */
} nb_hf_export_params;

typedef struct nb_hf_export_result {
    nb_dtype dtype;
    uint64_t bytes; /* of all tensors */
    size_t tensors;
} nb_hf_export_result;

/* Called from one thread; done and all in bytes written. Non-zero cancels. */
typedef int nb_hf_export_progress_fn(void *user, nb_str tensor, uint64_t done, uint64_t all);

/* True when a model of this architecture can be written. */
bool nb_hf_exports(nb_str architecture);

/* The type of the parameters' NULL. */
const nb_type_info *nb_hf_export_type(const nb_source *s);

/* Makes dir when it is not there. config.json appears last: a directory without it is no model. A value that does not fit the type
 * is NB_ERR_UNSUPPORTED and names tensor and remedy. */
nb_status nb_hf_export(const nb_source *s, const char *dir, const nb_hf_export_params *params,
                       nb_hf_export_progress_fn *progress, void *user, nb_hf_export_result *result, nb_error *err);

#endif
