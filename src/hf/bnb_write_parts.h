/* bnb_write_parts.h - bnb_write.h's list of tensors, and the bytes of each (bnb_write_parts.c). */
#ifndef NB_HF_BNB_WRITE_PARTS_H
#define NB_HF_BNB_WRITE_PARTS_H

#include "format/safetensors_write.h"
#include "hf/bnb_write.h"
#include "hf/hf_internal.h"

typedef enum nb_bnb_part {
    NB_BNB_PLAIN, /* not quantized */
    NB_BNB_CODES,
    NB_BNB_ABSMAX, /* floats, or their codes */
    NB_BNB_MAP,
    NB_BNB_NESTED_ABSMAX,
    NB_BNB_NESTED_MAP,
    NB_BNB_STATE,
    NB_BNB_SCB,
    NB_BNB_FORMAT,
    NB_QUANTO_DATA,
    NB_QUANTO_SCALE,
    NB_QUANTO_SHIFT,
    NB_QUANTO_ONE /* of static activations: not used */
} nb_bnb_part;

typedef struct nb_bnb_item {
    nb_bnb_part part;
    nb_str name;
    const nb_checkpoint_tensor *tensor; /* of the checkpoint */
    const nb_hf_linear *linear;         /* NULL: plain */
    nb_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[NB_CHECKPOINT_DIMS], bytes;
} nb_bnb_item;

typedef struct nb_bnb_writing {
    const nb_bnb_write_params *p;
    const char *out;
    nb_dtype storage;
    nb_source *source;
    nb_arena arena; /* names */
    nb_bnb_item *items;
    size_t count, capacity, quantized;
    const nb_checkpoint_tensor *tensor; /* being listed */
    const nb_hf_linear *linear;
    nb_safetensors_writer *file;
    nb_bnb_write_progress_fn *progress;
    void *user;
    uint64_t done, all; /* bytes */
} nb_bnb_writing;

nb_dtype nb_bnb_dtype(const nb_bnb_writing *w, nb_dtype dtype);     /* of what is not quantized */
void nb_bnb_state_text(const nb_bnb_writing *w, nb_buf *out);       /* quant_state of w->linear */
void nb_bnb_config_text(const nb_bnb_write_params *p, nb_buf *out); /* "quantization_config": {...} */
nb_status nb_bnb_add(nb_bnb_writing *w, nb_bnb_part part, const char *end, size_t cut, nb_dtype dtype, uint64_t rows,
                     uint64_t columns, nb_error *err);

/* ---- quanto (quanto_write.c) ---- */
nb_status nb_quanto_add(nb_bnb_writing *w, nb_error *err); /* the tensors of w->linear */
nb_status nb_quanto_write_item(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err);
void nb_quanto_config_text(const nb_bnb_write_params *p, nb_buf *out);
void nb_quanto_map_text(const nb_bnb_writing *w, nb_buf *out); /* quanto_qmap.json */

nb_status nb_bnb_put(nb_bnb_writing *w, const void *bytes, size_t n, nb_error *err);
nb_status nb_bnb_write_item(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err);

#endif
