/* adapter.h - a LoRA adapter (Hu et al. 2021): for some matrices W of a model two small ones, A [rank][columns] and B
 * [rows][rank], so that W x becomes W x + scale * B (A x). Names, rows and types are GGUF's whatever the file: a GGUF
 * adapter as llama.cpp writes them is read here, a PEFT directory by hf/hf_adapter.h. Which matrices a model has is not
 * known here: model/adapt.h binds the pairs. */
#ifndef NB_FORMAT_ADAPTER_H
#define NB_FORMAT_ADAPTER_H

#include "format/gguf.h"

typedef struct nb_adapter_pair {
    nb_str name;                 /* of the model's tensor: "blk.0.attn_q.weight" */
    const nb_gguf_tensor *a, *b; /* names are those of the adapter's file */
    float scale;                 /* alpha over the rank, or what else the adapter's form says; finite */
} nb_adapter_pair;

typedef struct nb_adapter {
    char *path;
    nb_str architecture; /* general.architecture of the models it is for */
    nb_adapter_pair *pairs;
    size_t count, capacity;
    nb_arena arena;
    void *owner; /* of what tensors point into; released last */
    void (*release)(void *owner);
} nb_adapter;

/* What an adapter's reader has to know of the model it is for. */
typedef struct nb_adapter_base {
    nb_str architecture;
    uint64_t heads, kv_heads; /* 0: the metadata does not say, or says it layer by layer */
} nb_adapter_base;

/* From a model's metadata; path is for messages. */
nb_status nb_adapter_base_of(const nb_gguf_value *values, size_t count, const char *path, nb_adapter_base *out,
                             nb_error *err);

/* A GGUF file with general.type adapter and adapter.type lora. */
nb_status nb_adapter_open_gguf(const char *path, const nb_adapter_base *base, nb_adapter **out, nb_error *err);
void nb_adapter_free(nb_adapter *a); /* NULL is fine */

/* ---- for readers ---- */
nb_status nb_adapter_new(const char *path, nb_str architecture, nb_adapter **out, nb_error *err);
/* Appends a pair after checking that the two belong together. Strings and tensors outlive the adapter or lie in its arena. */
nb_status nb_adapter_add(nb_adapter *a, nb_adapter_pair pair, nb_error *err);

#endif
