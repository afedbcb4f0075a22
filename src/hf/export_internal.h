/* export_internal.h - what the files of the export share. */
#ifndef NB_HF_EXPORT_INTERNAL_H
#define NB_HF_EXPORT_INTERNAL_H

#include "base/json_write.h"
#include "hf/export.h"
#include "hf/hf_arch.h"

typedef struct nb_hf_exporter {
    const nb_source *s;
    const char *dir;
    const nb_hf_arch *arch;
    nb_dtype dtype;
    nb_arena arena;
    uint64_t blocks, width, heads, kv_heads, head_dim, vocabulary;
    bool tied;
    const char *class_name, *model_type;
    bool mistral; /* llama with a window */
    bool attention_bias, mlp_bias;
    uint64_t expert_ff, shared_ff; /* 0: no experts */
    uint64_t pad;                  /* pad_token_id where the file has none; UINT64_MAX: none */
    bool *used;                    /* [tensor of the source] it is in a list to be written */
} nb_hf_exporter;

/* Values of the source: "ARCHITECTURE.name" when name begins with '.', else as it is. False: absent or of another kind. */
const nb_gguf_value *nb_hf_export_find(const nb_hf_exporter *x, const char *name);
bool nb_hf_export_u64(const nb_hf_exporter *x, const char *name, uint64_t *out);
bool nb_hf_export_f64(const nb_hf_exporter *x, const char *name, double *out);
bool nb_hf_export_str(const nb_hf_exporter *x, const char *name, nb_str *out);
bool nb_hf_export_flag(const nb_hf_exporter *x, const char *name, bool otherwise);
/* The strings of an array, in the arena; *count 0 when absent. */
nb_status nb_hf_export_strings(nb_hf_exporter *x, const char *name, nb_str **out, size_t *count, nb_error *err);

/* A number that readers take for a float: 8.0, not 8. */
void nb_hf_export_float(nb_json *j, double value);
static inline void nb_hf_put_flag(nb_json *j, const char *key, bool value)
{
    nb_json_key(j, key);
    nb_json_bool(j, value);
}

/* DIR/name, whole or not at all. */
nb_status nb_hf_export_file(const nb_hf_exporter *x, const char *name, const nb_buf *text, nb_error *err);

nb_status nb_hf_export_directory(const char *dir, nb_error *err); /* made when it is not there */

/* A tensor of a block by its name with %d, ".weight" behind it; NULL: absent. */
const nb_source_tensor *nb_hf_export_tensor(nb_hf_exporter *x, const char *gguf, uint64_t block);
bool nb_hf_export_is_sparse(nb_hf_exporter *x, uint64_t block); /* the layer has experts */

nb_status nb_hf_export_config(nb_hf_exporter *x, nb_error *err); /* config.json */
nb_status nb_hf_export_rope(nb_hf_exporter *x, nb_json *j, nb_error *err);
nb_status nb_hf_export_tokenizer(nb_hf_exporter *x, nb_error *err); /* tokenizer.json, tokenizer_config.json */

#endif
