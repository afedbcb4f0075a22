/* embed_head.h - what becomes of a text's pooled vector: the dense layers of sentence-transformers, in a file's tensors
 * dense_2, dense_3, ..., or a classifier's, in cls and cls.output. Immutable once read; points into the file. */
#ifndef NB_ENGINE_EMBED_HEAD_H
#define NB_ENGINE_EMBED_HEAD_H

#include "format/gguf.h"

enum { NB_EMBED_LAYERS = 8 };

typedef struct nb_embed_layer {          /* y = tanh(weight x + bias), or without tanh */
    const nb_gguf_tensor *weight, *bias; /* bias NULL: none */
    bool tanh;
} nb_embed_layer;

typedef struct nb_embed_head {
    nb_embed_layer layers[NB_EMBED_LAYERS];
    size_t count; /* 0: the pooled vector stays */
    size_t width; /* of what comes out */
} nb_embed_head;

/* width: of what goes in. Every layer must take what the one before gives. */
nb_status nb_embed_head_read(const nb_gguf *g, size_t width, nb_embed_head *head, nb_error *err);

/* The classifier's: tanh after the first layer, where there are two. count 0: the file has none. */
nb_status nb_embed_classifier_read(const nb_gguf *g, size_t width, nb_embed_head *head, nb_error *err);

/* Of `count` vectors [count][in] makes *out [count][head->width], in double precision; the caller frees it. Each result
 * depends on its own vector alone. */
nb_status nb_embed_head_run(const nb_embed_head *head, const double *vectors, size_t count, double **out,
                            nb_error *err);

#endif
