/* library.h - the models a server or command can name: a store's, Ollama's own included, and loose files and directories, each
 * named by its stem. Read only.
 *
 * nb_library is shared by threads. It hands out counted references to entries and lists of them, which never change: what
 * changed on disk is seen by the next call, as new entries. A call costs one stat of a manifest (find) or of every folder
 * and manifest (list) while nothing changes. */
#ifndef NB_STORE_LIBRARY_H
#define NB_STORE_LIBRARY_H

#include <time.h>

#include "store/describe.h"
#include "store/manifest.h"

typedef struct nb_library nb_library;
typedef struct nb_entry nb_entry;
typedef struct nb_entry_list nb_entry_list;

typedef struct nb_library_params {
    const char *root;         /* of the store; NULL: nb_store_root's. What does not exist is an empty store */
    bool no_store;            /* only the loose files */
    const char *const *files; /* GGUF files and directories of Hugging Face */
    size_t file_count;
} nb_library_params;

/* Two files of one name, and files that are not there, are refused. A loose file hides a stored model of its name. */
nb_status nb_library_open(const nb_library_params *params, nb_library **out, nb_error *err);
void nb_library_close(nb_library *l); /* entries and lists stay good until released; NULL is fine */

/* $OLLAMA_MODELS, else ~/.ollama/models. */
nb_status nb_store_root(nb_buf *path, nb_error *err);
const char *nb_library_root(const nb_library *l); /* "" without a store */

/* ---- lists ---- */

/* All models, the newest first. Manifests that cannot be read are left out and described in `problems`. */
nb_status nb_library_list(nb_library *l, nb_entry_list **out, nb_error *err);
void nb_entry_list_release(nb_entry_list *list); /* NULL is fine */
size_t nb_entry_list_count(const nb_entry_list *list);
nb_entry *nb_entry_list_at(const nb_entry_list *list, size_t i); /* the list's; retain it to keep it longer */
size_t nb_entry_list_problems(const nb_entry_list *list);
const char *nb_entry_list_problem(const nb_entry_list *list, size_t i);

/* The entry of a name, letters' case aside. NB_ERR_NOT_FOUND: "model 'x' not found"; NB_ERR_ARGUMENT: it is no name; what is
 * wrong with its manifest otherwise. */
nb_status nb_library_find(nb_library *l, nb_str name, nb_entry **out, nb_error *err);

/* ---- entries ---- */

nb_entry *nb_entry_retain(nb_entry *e);
void nb_entry_release(nb_entry *e); /* NULL is fine */

typedef enum nb_entry_kind { NB_ENTRY_STORED, NB_ENTRY_FILE, NB_ENTRY_DIRECTORY } nb_entry_kind;

nb_entry_kind nb_entry_kind_of(const nb_entry *e);
const nb_name *nb_entry_name(const nb_entry *e);
const char *nb_entry_text(const nb_entry *e);   /* the name's shortest form, "llama3.2:latest" */
const char *nb_entry_digest(const nb_entry *e); /* 64 hex digits; of a loose file: of its path, size and time */
uint64_t nb_entry_size(const nb_entry *e);
struct timespec nb_entry_modified(const nb_entry *e);

/* Configuration and texts, read once; of a loose file all empty but `model`. They live as long as the entry. */
nb_status nb_entry_contents(nb_entry *e, const nb_contents **out, nb_error *err);
/* What the model's file says of itself, read once. */
nb_status nb_entry_facts(nb_entry *e, const nb_facts **out, nb_error *err);
/* The model's file itself, every time anew. NB_ERR_IO: its blob is missing; NB_ERR_UNSUPPORTED: it has no GGUF. */
nb_status nb_entry_open(nb_entry *e, nb_source **out, nb_error *err);
/* NB_ERR_IO names a file that was linked into the store and has changed since. nb_entry_open does this; who opens the files
 * of nb_entry_contents asks first. */
nb_status nb_entry_check(const nb_entry *e, nb_error *err);

enum {
    NB_CAN_COMPLETE = 1 << 0,
    NB_CAN_TOOLS = 1 << 1,
    NB_CAN_INSERT = 1 << 2,
    NB_CAN_EMBED = 1 << 3,
    NB_CAN_THINK = 1 << 4,
    NB_CAPABILITIES = 5
};
const char *nb_capability_name(int i); /* of bit i: "completion", "tools", "insert", "embedding", "thinking" */

/* What /api/tags and /api/show say of a model. What its configuration leaves out comes from its file; a missing or damaged
 * file leaves these empty. Read once. */
typedef struct nb_details {
    nb_str parent_model, format, family, parameter_size, quantization_level;
    const nb_str *families;
    size_t family_count;
    uint64_t context_length, embedding_length, parameters; /* 0: unknown */
    unsigned capabilities;
} nb_details;
nb_status nb_entry_details(nb_entry *e, const nb_details **out, nb_error *err);

/* The template that chats are rendered with: the stored Go template, else the file's own Jinja one, else empty. */
nb_status nb_entry_template(nb_entry *e, nb_str *source, bool *is_go, nb_error *err);

/* Appends the text that /api/show has as "modelfile": comments, FROM and whatever the model says, no TEMPLATE when it has
 * none of its own: the model made of this text is the same. And the one it has as "parameters". */
nb_status nb_entry_modelfile(nb_entry *e, nb_buf *out, nb_error *err);
nb_status nb_entry_parameters(nb_entry *e, nb_buf *out, nb_error *err);

#endif
