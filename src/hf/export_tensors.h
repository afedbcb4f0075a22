/* export_tensors.h - tensors of the checkpoint that is written, and what they are made of. */
#ifndef NB_HF_EXPORT_TENSORS_H
#define NB_HF_EXPORT_TENSORS_H

#include "hf/export_internal.h"

typedef struct nb_hf_item { /* a tensor to write */
    nb_str name;
    uint32_t n_dims;
    uint64_t dims[4]; /* as the checkpoint has them: the last is of values that follow one another */
    nb_hf_change change;
    size_t from[3];           /* in the source */
    int parts;                /* of these; 0 is 1 */
    bool is_number;           /* it is in no tensor there, but this: */
    float number;
    uint64_t first;           /* its first row there */
    uint64_t head;            /* rows of a head for the permutations, of a half for experts' gate and up */
    uint64_t groups, queries; /* NB_HF_GROUPED, _SPLIT_Q (groups 0: of all queries, then all keys, then all values) */
    uint64_t heads, kv_heads; /* NB_HF_SPLIT_Q */
} nb_hf_item;

typedef struct nb_hf_items { /* of one file, or of shards */
    nb_hf_item *items;
    size_t count, capacity;
    uint64_t bytes;
} nb_hf_items;

typedef struct nb_hf_progress {
    nb_hf_export_progress_fn *call;
    void *user;
    uint64_t done, all;
} nb_hf_progress;

void nb_hf_items_free(nb_hf_items *l);
/* All of the architecture's table; an error when a tensor of the source is in no list. */
nb_status nb_hf_items_list(nb_hf_exporter *x, nb_hf_items *l, nb_error *err);
/* One tensor as it is. */
nb_status nb_hf_items_add(nb_hf_exporter *x, nb_hf_items *l, const nb_source_tensor *t, const char *name,
                          nb_error *err);
nb_status nb_hf_items_write(const nb_hf_exporter *x, const nb_hf_items *l, const char *dir, uint64_t shard_bytes,
                            nb_hf_progress *p, nb_error *err);

/* ---- sentence-transformers: export_sentence.c ---- */

enum { NB_HF_EXPORT_DENSE = 8 };

typedef struct nb_hf_sentences { /* what stands beside the checkpoint */
    bool is;
    uint64_t pooling, dense; /* dense layers: dense_2 and so on */
    nb_hf_items layers[NB_HF_EXPORT_DENSE];
} nb_hf_sentences;

nb_status nb_hf_sentences_list(nb_hf_exporter *x, nb_hf_sentences *s, nb_error *err);
nb_status nb_hf_sentences_write(nb_hf_exporter *x, const nb_hf_sentences *s, nb_hf_progress *p, nb_error *err);
void nb_hf_sentences_free(nb_hf_sentences *s);

#endif
