/* backend.h - what runs a plan: it owns the memory of weights, cache and buffers, wherever that is. The engine talks in
 * ids, positions and page numbers only; logits come back through a copy or a view in host memory.
 *
 * The cache has two groups of layers, global and window; each has a pool of pages. A page number names that page in every
 * layer of its group. Who owns which page is the engine's business. */
#ifndef NB_MODEL_BACKEND_H
#define NB_MODEL_BACKEND_H

#include "model/plan.h"

enum { NB_GROUP_GLOBAL, NB_GROUP_LOCAL, NB_GROUPS };

typedef struct nb_weights_params {
    int threads; /* 0: one a processor */
    bool pin;    /* bind threads to processors */
    bool repack; /* copy weights into a faster layout where that pays */
    bool exact;  /* float32 throughout: the oracle's mode */
    float int8_threshold; /* weights of INT8: activations from here on are multiplied in float; 0: none, below 0: all */
} nb_weights_params;

typedef struct nb_context_params {
    size_t max_tokens;           /* in one step */
    size_t max_outputs;          /* logits rows in one step */
    size_t max_spans;            /* sequences in one step */
    size_t max_positions;        /* of one sequence */
    size_t pages[NB_GROUPS];     /* in the pools */
    size_t max_pages[NB_GROUPS]; /* of one sequence */
    nb_type kv_type;
    bool hidden; /* `logits` gives rows of the plan's hidden buffer: the head is not run and takes no memory */
} nb_context_params;

/* Bytes, exactly as they will be taken. */
typedef struct nb_memory {
    size_t weights_mapped; /* read in place from the file */
    size_t weights_copied; /* packed or converted copies */
    size_t cache, buffers, scratch, tables;
} nb_memory;

typedef struct nb_span {              /* consecutive tokens of one sequence in a step */
    size_t first, count;              /* in the batch */
    int64_t position;                 /* of its first token */
    size_t length;                    /* of the sequence as far as it is known: some scalings of rotary positions follow
                                       * it (nb_rope_kind); 0: up to this span's end */
    const uint32_t *pages[NB_GROUPS]; /* page numbers: position p is in pages[g][(p / NB_PAGE) % page_count[g]] */
    size_t page_count[NB_GROUPS];
} nb_span;

typedef struct nb_batch {
    const int32_t *tokens;
    size_t n_tokens;
    const nb_span *spans;
    size_t n_spans;
    const uint8_t *types;    /* rows of the table of token types, one a token; NULL: the first for all */
    const uint32_t *outputs; /* indices of the tokens whose logits are wanted, ascending */
    size_t n_outputs;
} nb_batch;

typedef struct nb_weights nb_weights; /* a backend's own */
typedef struct nb_context nb_context;

/* Sees what a matrix is about to read: columns [first, first + columns) of `rows` rows, of which x is the first; rows are
 * `stride` floats apart. matrix: the expert; 0 for most. Threads call it at once, each with columns of its own, and always
 * all rows of the step in their order. */
typedef void nb_tap_fn(void *user, int weight, size_t matrix, const float *x, size_t stride, size_t rows, size_t first,
                       size_t columns);

typedef struct nb_backend {
    const char *name;
    /* What weights_new would take (weights_* fields). */
    nb_status (*weights_memory)(const nb_model_def *model, const nb_plan *plan, const nb_weights_params *params,
                                nb_memory *memory, nb_error *err);
    nb_status (*weights_new)(const nb_model_def *model, const nb_plan *plan, const nb_weights_params *params,
                             nb_weights **out, nb_error *err);
    void (*weights_free)(nb_weights *weights);
    /* What context_new would take (the other fields): one allocation of their sum. threads: as weights_new was told. */
    nb_status (*context_memory)(const nb_model_def *model, const nb_plan *plan, const nb_weights_params *weights,
                                const nb_context_params *params, nb_memory *memory, nb_error *err);
    nb_status (*context_new)(nb_weights *weights, const nb_context_params *params, nb_context **out, nb_error *err);
    void (*context_free)(nb_context *context);
    /* Runs one step. Allocates nothing. Arguments within the context's maxima; ids within the vocabulary. */
    nb_status (*run)(nb_context *context, const nb_batch *batch, nb_error *err);
    /* What page `from` of a group holds, in each of its layers, page `to` holds as well. */
    void (*copy_page)(nb_context *context, int group, uint32_t from, uint32_t to);
    /* Row i of the last step's logits (of a `hidden` context, hidden states), in host memory, valid until the next step. */
    const float *(*logits)(nb_context *context, size_t i);
    /* From the next step on asks, on the thread that runs it and many times a step, whether to give it up: `run` then fails
     * with NB_ERR_CANCELLED and its positions are as if it had not been. NULL: no more. */
    void (*watch)(nb_context *context, bool (*given_up)(void *user), void *user);
    /* From the next step on shows the inputs of all matrices to tap; NULL: no more. A backend that cannot has NULL here. */
    void (*tap)(nb_context *context, nb_tap_fn *tap, void *user);
} nb_backend;

/* Layers of each group, and the place of a layer in its group. */
void nb_cache_groups(const nb_model_def *model, size_t layers[NB_GROUPS]);
nb_kv_layout nb_cache_layout(const nb_model_def *model, nb_type type);

#endif
