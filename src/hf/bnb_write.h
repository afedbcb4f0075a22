/* bnb_write.h - a checkpoint as transformers saves it after bitsandbytes has quantized its linear layers: the same tensors with
 * the same bytes, config.json with a quantization_config, the other files copied. */
#ifndef NB_HF_BNB_WRITE_H
#define NB_HF_BNB_WRITE_H

#include "format/checkpoint.h"
#include "hf/hf.h"

/* In place of bitsandbytes: optimum-quanto's form, floats as F32: 8-bit rows, or 4-bit groups of 128 (or the largest of 96, 64
 * and 32 that divides). w8a8: config.json says that activations are made 8 bits, too. */
typedef enum nb_quanto_form { NB_QUANTO_NONE, NB_QUANTO_W8A16, NB_QUANTO_W8A8, NB_QUANTO_W4G128 } nb_quanto_form;

typedef struct nb_bnb_write_params {
    nb_load_params load;
    bool
        has_dtype; /* floats are rounded to dtype first, as from_pretrained(dtype=...) does; else they stay what they are */
    nb_float dtype;
    const char *storage;       /* of 4-bit codes: "uint8", "float16", "bfloat16", "float32" */
    const char *compute_dtype; /* recorded: "float32", ... */
    bool offload, fp16_weight; /* recorded */
    nb_quanto_form quanto;
    uint64_t shard_bytes; /* 0: one file */
    int threads;
} nb_bnb_write_params;

typedef struct nb_bnb_write_result {
    uint64_t bytes; /* of all tensors */
    size_t tensors, quantized;
} nb_bnb_write_result;

/* Called from one thread; done and all in bytes written. Non-zero cancels. */
typedef int nb_bnb_write_progress_fn(void *user, uint64_t done, uint64_t all);

/* Makes out when it is not there. config.json appears last: a directory without it is no model. */
nb_status nb_bnb_write(const char *dir, const char *out, const nb_bnb_write_params *params,
                       nb_bnb_write_progress_fn *progress, void *user, nb_bnb_write_result *result, nb_error *err);

#endif
