/* write_internal.h - what the files that write a store share. */
#ifndef NB_STORE_WRITE_INTERNAL_H
#define NB_STORE_WRITE_INTERNAL_H

#include "store/write.h"

struct nb_store {
    char *root;
    int lock; /* of ROOT/.nibble/lock */
};

#define NB_STORE_OWN ".nibble"
#define NB_STORE_PENDING "pending" /* marks: a file of a blob's name, whose time says until when it is kept */
#define NB_STORE_LINKED "linked"   /* what a hard link's file was like */
#define NB_STORE_PARTIAL "partial" /* downloads */

/* "PATH: cannot WHAT: why", from errno. */
nb_status nb_store_fail(nb_error *err, const char *path, const char *what);

/* Appends the path of a digest's file of that kind, which lies as a blob in a store of its own: ROOT/.nibble/KIND/blobs/... */
nb_status nb_store_own_path(const char *root, const char *kind, nb_str digest, nb_buf *path, nb_error *err);

/* A new file for the store, *fd open for writing. */
nb_status nb_store_temporary(nb_store *s, nb_buf *path, int *fd, nb_error *err);
nb_status nb_store_write_all(int fd, const char *path, const void *bytes, size_t n, nb_error *err);
/* Syncs the folder that path lies in. */
nb_status nb_store_sync_folder(const char *path, nb_error *err);

/* Marks a blob: it goes unless a manifest names it. keep: not before so many seconds; < 0: as a mark that is there has it. */
nb_status nb_store_mark(nb_store *s, nb_str digest, int64_t keep, nb_error *err);

/* Removes what is in a folder; links are not followed. *bytes grows by what that frees. */
void nb_store_empty(const char *folder, uint64_t *bytes);

#endif
