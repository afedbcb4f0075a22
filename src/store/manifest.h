/* manifest.h - what a store holds of one model: its manifest (media types, digests and sizes of layers) and, behind it, the
 * configuration and the layers that are text. Read only; every file is hostile until checked: sizes are limited, links are
 * followed to regular files only, digests become paths through nb_store_path alone. The digest of a model is that of its
 * manifest file, its size the sum of its layers and configuration: as Ollama counts. */
#ifndef NB_STORE_MANIFEST_H
#define NB_STORE_MANIFEST_H

#include "store/name.h"
#include "store/options.h"

typedef struct nb_layer {
    nb_str media; /* "application/vnd.ollama.image.model" */
    nb_str digest;
    uint64_t size;
    nb_str from; /* the model it was made from, or empty */
    nb_str name; /* of a tensor, or empty */
    bool found;  /* of one just written: its blob was there before */
} nb_layer;

typedef struct nb_manifest {
    nb_arena arena;
    char digest[NB_DIGEST_TEXT]; /* of the manifest file */
    uint64_t size;
    nb_layer config; /* digest empty: none */
    nb_layer *layers;
    size_t count;
} nb_manifest;

/* path: of the manifest file. NB_ERR_NOT_FOUND when there is none. */
nb_status nb_manifest_read(const char *path, nb_manifest **out, nb_error *err);
/* The same of bytes in memory. */
nb_status nb_manifest_parse(const char *path, nb_str text, nb_manifest **out, nb_error *err);
void nb_manifest_free(nb_manifest *m); /* NULL is fine */

/* config.json of a model, as Ollama writes it; texts are empty when absent */
typedef struct nb_config {
    nb_str format, family, type, file_type; /* "gguf", "llama", "3.2B", "Q4_K_M" */
    nb_str *families;
    size_t family_count;
    nb_str renderer, parser, requires_;
    nb_str remote_host, remote_model; /* of a model that runs elsewhere */
    nb_str *capabilities;
    size_t capability_count;
    uint64_t context_length, embedding_length; /* 0: unsaid */
} nb_config;

nb_status nb_config_parse(const char *path, nb_str text, nb_arena *arena, nb_config *out, nb_error *err);

typedef struct nb_stored_message {
    nb_str role, content;
} nb_stored_message;

/* A model's layers, read. Paths are of blobs that may be missing: who opens one says so. */
typedef struct nb_contents {
    nb_arena arena;
    nb_config config;
    const char *model; /* NULL: there is none */
    nb_str parent;     /* the model it was made from, or empty */
    const char *draft; /* NULL: none */
    const char **adapters, **projectors;
    size_t adapter_count, projector_count;
    bool has_template;
    nb_str go_template, system;
    nb_param *params;
    size_t param_count;
    nb_stored_message *messages;
    size_t message_count;
    nb_str *licenses;
    size_t license_count;
} nb_contents;

nb_status nb_contents_read(const char *root, const nb_manifest *m, nb_contents **out, nb_error *err);
void nb_contents_free(nb_contents *c); /* NULL is fine */

#endif
