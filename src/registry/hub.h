/* hub.h - files of the Hugging Face hub by its API and resolve/: one file, all parts of a sharded one, or a repository's
 * checkpoint as a directory. They lie where the hub's own tools have them (HF_HUB_CACHE, HF_HOME/hub, ~/.cache/huggingface/hub),
 * in the same form: what these fetched is found, and the other way round. */
#ifndef NB_REGISTRY_HUB_H
#define NB_REGISTRY_HUB_H

#include "registry/registry.h"

#define NB_HUB_SCHEME "hf://"

typedef struct nb_hub_spec {
    nb_str user, repo;
    nb_str file;     /* empty: the repository */
    nb_str revision; /* "main" unless said */
} nb_hub_spec;

/* "hf://USER/REPO[/FILE][@REVISION]"; parts point into text. NB_ERR_ARGUMENT says what is wrong. */
nb_status nb_hub_parse(nb_str text, nb_hub_spec *out, nb_error *err);

typedef struct nb_hub_file {
    nb_str name;   /* "onnx/model.onnx": never leads elsewhere */
    uint64_t size; /* UINT64_MAX: unsaid */
    nb_str etag;   /* SHA-256 (64 hex digits) of what the hub keeps apart, else git's SHA-1; empty: unsaid */
} nb_hub_file;

typedef struct nb_hub_info {
    nb_str commit; /* 40 hex digits */
    nb_hub_file *files;
    size_t count;
} nb_hub_info;

/* The answer of /api/models/USER/REPO/revision/REVISION?blobs=true. */
nb_status nb_hub_info_parse(nb_str json, nb_arena *arena, nb_hub_info *out, nb_error *err);

/* Chooses what a spec means: *chosen of info's files, in order. A repository is its checkpoint, or its one GGUF file (of several
 * the Q4_K_M one). `single`: the result is a file, not a directory. */
nb_status nb_hub_choose(const nb_hub_info *info, nb_str file, nb_arena *arena, size_t **chosen, size_t *count,
                        bool *single, nb_error *err);

/* Gives the one GGUF file that a spec came to the name hf.co/USER/REPO:TAG in the store; tells the name, or why it has none. What is
 * in parts, and a checkpoint, stays the cache's alone. */
nb_status nb_hub_listed(const nb_hub_spec *spec, const char *path, const nb_transfer_params *params, nb_error *err);

/* NB_OK: `where` has the path. */
nb_status nb_hub_pull(const char *text, const nb_transfer_params *params, nb_buf *where, nb_error *err);

#endif
