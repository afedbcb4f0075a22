/* gguf_check.h - looks for values that are not finite in a tensor, by decoding all of it. */
#ifndef NB_FORMAT_GGUF_CHECK_H
#define NB_FORMAT_GGUF_CHECK_H

#include "format/gguf.h"

typedef struct nb_gguf_check {
    bool decoded; /* false: integers, or a type that cannot be decoded; nothing else is set then */
    uint64_t bad; /* values that are not finite */
    uint64_t row; /* the first one's row and column; rows count over all dimensions but the first */
    uint64_t column;
    uint64_t offset; /* of its block in its file */
    float value;
} nb_gguf_check;

void nb_gguf_check_tensor(const nb_gguf_tensor *t, nb_gguf_check *out);

#endif
