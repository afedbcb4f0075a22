/* name.h - the names of models, "[host/][namespace/]model[:tag]", and where in a store a name or digest lies. Rules, defaults
 * and shortest form are Ollama's; its files lie where nb_store_path says, and nothing else in the program makes such a path. */
#ifndef NB_STORE_NAME_H
#define NB_STORE_NAME_H

#include "base/mem.h"

#define NB_NAME_HOST "registry.ollama.ai"
#define NB_NAME_SPACE "library"
#define NB_NAME_TAG "latest"

enum {
    NB_NAME_HOST_MAX = 350,
    NB_NAME_PART_MAX = 80,
    NB_NAME_TEXT = NB_NAME_HOST_MAX + 3 * (NB_NAME_PART_MAX + 1) + 1, /* a whole name with its terminator */
    NB_DIGEST_TEXT = 65                                               /* 64 hex digits and a terminator */
};

typedef struct nb_name {
    char host[NB_NAME_HOST_MAX + 1], space[NB_NAME_PART_MAX + 1], model[NB_NAME_PART_MAX + 1],
        tag[NB_NAME_PART_MAX + 1];
    bool plain; /* "http://" stood before it: a registry without TLS */
} nb_name;

/* Absent parts get their defaults. NB_ERR_ARGUMENT names the part that is wrong. */
nb_status nb_name_parse(nb_str text, nb_name *out, nb_error *err);
/* The parts as they are called in a store's folders; false when one is no valid name part. */
bool nb_name_from_parts(const char *host, const char *space, const char *model, const char *tag, nb_name *out);

bool nb_name_same(const nb_name *a, const nb_name *b); /* letters' case aside, as look-up has it */

/* "llama3.2:latest", "user/model:tag", "host/user/model:tag": what differs from the defaults, and the tag always. */
void nb_name_print(const nb_name *name, char text[NB_NAME_TEXT]);

/* Valid names that are made from any text, as a file's: odd characters become '-', what is too long is cut. */
void nb_name_from_stem(nb_str stem, nb_name *out);

/* Appends ROOT/manifests/HOST/NAMESPACE/MODEL/TAG (digest empty) or ROOT/blobs/sha256-HEX (name NULL; the digest is "sha256:"
 * or "sha256-" and exactly 64 hex digits). Whatever else is refused with NB_ERR_ARGUMENT, and path stays as it was: names
 * and digests come from requests, manifests and registries. */
nb_status nb_store_path(const char *root, const nb_name *name, nb_str digest, nb_buf *path, nb_error *err);

#endif
