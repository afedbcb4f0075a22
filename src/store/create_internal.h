/* create_internal.h - a model being created: what its parts share. */
#ifndef NB_STORE_CREATE_INTERNAL_H
#define NB_STORE_CREATE_INTERNAL_H

#include "store/create.h"
#include "store/library.h"

#define NB_MEDIA(kind) "application/vnd.ollama.image." kind

/* What "quantize" asks for. */
typedef struct nb_create_wish {
    const nb_mix *mix; /* or one of */
    uint64_t bytes;
    double bits, divergence;
    bool given, pure;
} nb_create_wish;

typedef struct nb_creation {
    nb_store *store;
    const nb_create_params *p;
    nb_create_wish wish;
    nb_str requires_; /* without its 'v' */
    nb_arena arena;
    nb_layer *layers;
    size_t count, room;
    const nb_layer *model; /* NULL: none yet. In arena, as all layers' texts */
    nb_library *library;   /* of the model it is made from */
    nb_entry *base;
    const nb_contents *contents; /* of base */
    nb_buf scratch;              /* a directory of links to a client's files; empty: none */
} nb_creation;

/* Tells the caller; NB_ERR_CANCELLED when it wants no more. */
nb_status nb_creation_say(const nb_creation *c, nb_error *err, const char *format, ...) NB_PRINTF(3, 4);
nb_status nb_creation_tell(const nb_creation *c, const char *what, uint64_t done, uint64_t total, nb_error *err);
nb_status nb_creation_add(nb_creation *c, const nb_layer *layer, nb_error *err);
/* For nb_blob_import, and for nb_blob_adopt; user: the creation. */
bool nb_creation_copied(void *creation, uint64_t done, uint64_t total);
bool nb_creation_hashed(void *creation, uint64_t done, uint64_t total);

/* NB_ERR_ARGUMENT says what can be asked for. */
nb_status nb_create_wish_read(const char *text, bool has_text, nb_create_wish *out, nb_error *err);

/* A GGUF file, sharded or not, or a checkpoint's directory, as one GGUF blob, of the types that are wished for. */
nb_status nb_creation_convert(nb_creation *c, const char *path, nb_layer *layer, nb_error *err);
/* A LoRA adapter for the model: a GGUF file as it is, a directory of PEFT converted. */
nb_status nb_creation_adapter(nb_creation *c, const char *path, bool link, nb_layer *layer, nb_error *err);

/* The path of a layer's blob, in the arena. */
nb_status nb_creation_blob(nb_creation *c, nb_str digest, const char **path, nb_error *err);

#endif
