/* torch_pickle.h - the restricted machine that reads the pickle of a torch checkpoint. It knows numbers, strings, tuples, lists,
 * dictionaries and those names that rebuild tensors; it calls nothing, and refuses every other name and opcode by its name.
 * Source: CPython's pickletools.py (the opcodes of protocols 2 to 4), torch/_utils.py and torch/serialization.py. */
#ifndef NB_FORMAT_TORCH_PICKLE_H
#define NB_FORMAT_TORCH_PICKLE_H

#include "format/checkpoint_parse.h"

typedef enum nb_pickle_kind {
    NB_PICKLE_MARK,
    NB_PICKLE_NONE,
    NB_PICKLE_BOOL,
    NB_PICKLE_INT,
    NB_PICKLE_STR,
    NB_PICKLE_OTHER, /* of no consequence: floats, long integers, sets, devices */
    NB_PICKLE_TUPLE,
    NB_PICKLE_LIST,
    NB_PICKLE_DICT, /* items: key, value, key, value, ... */
    NB_PICKLE_GLOBAL,
    NB_PICKLE_STORAGE,
    NB_PICKLE_TENSOR
} nb_pickle_kind;

typedef struct nb_pickle_value {
    nb_pickle_kind kind;
    union {
        int64_t i;
        nb_str s;
        struct nb_pickle_items *items;
        const struct nb_pickle_global *global;
        struct nb_pickle_storage *storage;
        struct nb_pickle_tensor *tensor;
    };
} nb_pickle_value;

typedef struct nb_pickle_items {
    nb_pickle_value *at;
    size_t count, capacity;
} nb_pickle_items;

typedef struct nb_pickle_storage {
    nb_str key;
    bool typed; /* else its values are bytes, and the tensor has a dtype of its own */
    nb_dtype dtype;
    uint64_t values;
} nb_pickle_storage;

typedef struct nb_pickle_tensor {
    const nb_pickle_storage *storage;
    nb_dtype dtype;
    uint32_t n_dims;
    uint64_t offset, dims[NB_CHECKPOINT_DIMS], stride[NB_CHECKPOINT_DIMS]; /* in values, within the storage */
    size_t at;                                                             /* in the pickle, for messages */
} nb_pickle_tensor;

/* Runs the pickle; what it makes lies in the arena (whose limit bounds it) or in the pickle. base: where that lies in the file. */
nb_status nb_pickle_read(const char *path, nb_str pickle, uint64_t base, nb_arena *arena, nb_pickle_value *out,
                         nb_error *err);

#endif
