/* registry.h - models from and to other machines: registries that speak the OCI protocol as Ollama and hf.co do, and the hub's own
 * files. A pull goes on where an earlier one was cut off, checks every digest, and writes the manifest last. */
#ifndef NB_REGISTRY_REGISTRY_H
#define NB_REGISTRY_REGISTRY_H

#include "registry/web.h"

/* What goes on, in Ollama's words: "pulling manifest", "pulling 0123456789ab" with digest, total and completed, ..., "success". */
typedef struct nb_transfer_event {
    const char *status;
    const char *digest; /* "sha256:..."; NULL: not about one blob */
    uint64_t total, completed;
} nb_transfer_event;
typedef void nb_transfer_fn(void *user, const nb_transfer_event *event);

typedef struct nb_transfer_params {
    const char *root;     /* of the store; NULL: nb_store_root's */
    const char *registry; /* go to this address, whatever the name's host and HF_ENDPOINT say; NULL */
    bool insecure;        /* http instead of https */
    nb_transfer_fn *tell; /* may be NULL */
    nb_stop_fn *stop;     /* may be NULL */
    void *user;           /* of both */
    int attempts, backoff_ms, stall_seconds, connections; /* nb_web_params has the defaults of 0 */
    uint64_t part_bytes;
} nb_transfer_params;

/* NAME is a model's name, or hf://USER/REPO[/FILE][@REVISION]: then `where` (may be NULL) gets the path of the file or directory
 * in the hub's cache, and a GGUF file is listed in the store as hf.co/USER/REPO:TAG. NB_ERR_NOT_FOUND: the place has none of this name; NB_ERR_FORMAT: what it sends is not what it promised;
 * NB_ERR_CANCELLED: stopped. What has arrived stays for the next time, unless its digest is wrong. */
nb_status nb_pull(const char *name, const nb_transfer_params *params, nb_buf *where, nb_error *err);

/* Blobs that the registry has already are not sent again. */
nb_status nb_push(const char *name, const nb_transfer_params *params, nb_error *err);

/* Transfers of several at once: the first call for a name starts it, all are told of what goes on, and it goes on as long as one of
 * them waits. */
typedef struct nb_shared nb_shared;
nb_status nb_shared_join(bool push, const char *name, const nb_transfer_params *params, nb_shared **out, nb_error *err);
/* Tells of what is new since `seen` (0 at first), after at most wait_ms; with *over, the status is the transfer's. */
nb_status nb_shared_wait(nb_shared *s, uint64_t *seen, int wait_ms, nb_transfer_fn *tell, void *user, bool *over,
                         nb_error *err);
void nb_shared_leave(nb_shared *s); /* the last one stops it, and waits for that; NULL is fine */

#endif
