/* engine.h - an opened model and its sessions, as the library's own parts see them. */
#ifndef NB_ENGINE_ENGINE_H
#define NB_ENGINE_ENGINE_H

#include <pthread.h>

#include "engine/embed_head.h"
#include "engine/sampler.h"
#include "format/adapter.h"
#include "model/backend.h"
#include "text/chat.h"
#include "text/tokenizer.h"

struct nb_model {
    nb_gguf *gguf;
    nb_model_def *def;
    nb_adapter **adapters; /* what def points into, too */
    size_t adapter_count;
    nb_plan plan;
    nb_tokenizer *tokenizer;
    nb_template *chat;     /* NULL: the file has none, or one that does not compile */
    nb_status chat_status; /* of compiling it */
    nb_error chat_error;
    nb_str bos, eos; /* their text, for templates */
    const nb_backend *backend;
    nb_weights_params weights_params;
    nb_embed_head embed_head, classifier;
    nb_weights *weights;  /* NULL when opened for a look only */
    pthread_mutex_t lock; /* the backend's team runs one step at a time */
};

struct nb_session {
    nb_model *model;
    nb_context_params params;
    nb_context *context;
    uint32_t *pages[NB_GROUPS]; /* page tables of the one sequence */
    uint32_t *outputs;          /* [max_outputs] */
    int32_t *tokens;            /* [max_positions] the first `position` are held */
    size_t position, rows;
    size_t oldest; /* window layers hold all positions from here to `position` (0: everything) */
    size_t length;          /* the sequence's, as far as it is known in the current call */
    size_t kind[NB_GROUPS]; /* nb_rope_kind that the last call computed with */
    bool rewound;           /* since then */
};

/* Opens a model without packing its weights: enough for its tokenizer, its plan and its memory. */
nb_status nb_model_look(const char *path, const nb_model_params *params, nb_model **model, nb_error *err);

/* Packs the weights of a model that was opened for a look: then it is as nb_model_open gives it. */
nb_status nb_model_fill(nb_model *model, nb_error *err);

/* The same as nb_model_open of a file that is open, or made in memory. Takes g (closes it on failure too). */
nb_status nb_model_open_gguf(nb_gguf *g, const nb_model_params *params, nb_model **model, nb_error *err);

/* The context that a session with these parameters would make, every default filled in. */
nb_status nb_session_plan(const nb_model *model, const nb_session_params *params, nb_context_params *out,
                          nb_error *err);

/* What the model and one such session take, to the byte. */
nb_status nb_session_memory(const nb_model *model, const nb_context_params *params, nb_memory *memory, nb_error *err);

/* Renders messages (chat.h) with the model's template into out. */
nb_status nb_model_chat(const nb_model *model, const nb_chat_message *messages, size_t count, nb_buf *out,
                        nb_error *err);

#endif
