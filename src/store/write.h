/* write.h - what changes a store: blobs, manifests, copies, deletions. Ollama reads what is written here.
 *
 * A blob has a temporary name until it is whole, synced and its digest known; a manifest is written after all of its blobs, by
 * rename. So whatever moment a process dies at, the store lists whole models only. What it left behind goes when a later
 * writer opens the store and nobody else writes: temporary files, and the blobs that this program wrote or gave up and that no
 * manifest names (a mark is set before; what Ollama is about to use has none). Writers hold a shared lock from open to close,
 * blobs are removed under the exclusive one only. Lock, marks and temporary files lie in ROOT/.nibble. Any number of processes
 * and threads; one nb_store is for one thread, but for blobs, of which each is for one. */
#ifndef NB_STORE_WRITE_H
#define NB_STORE_WRITE_H

#include "store/manifest.h"

typedef struct nb_store nb_store; /* a store, open for writing */

/* Makes the folders of root (NULL: nb_store_root's) when they are missing, and cleans. NB_ERR_IO: it cannot be written. */
nb_status nb_store_open(const char *root, nb_store **out, nb_error *err);
void nb_store_close(nb_store *s); /* NULL is fine */
const char *nb_store_path_of(const nb_store *s);

/* Removes what no process writes any more and no manifest names, unless OLLAMA_NOPRUNE is set; *bytes (may be NULL): how much.
 * Does nothing while another writer is at work. The caller has no blob open, and none that is not yet in a manifest. */
nb_status nb_store_clean(nb_store *s, uint64_t *bytes, nb_error *err);

/* Sets path to a name that no file has yet, for one to be made that nb_blob_adopt will take; what becomes of it otherwise is
 * cleaned like all that is left behind. */
nb_status nb_store_scratch(nb_store *s, nb_buf *path, nb_error *err);
/* Where a download of this blob grows until nb_blob_adopt takes it: path and names that begin with it. Cleaned when nothing was
 * written for two weeks. */
nb_status nb_store_partial(nb_store *s, nb_str digest, nb_buf *path, nb_error *err);

/* ---- blobs ---- */

/* Told of bytes done of `total` (0: unknown), at most a few times a second; false stops the work with NB_ERR_CANCELLED. */
typedef bool nb_store_progress_fn(void *user, uint64_t done, uint64_t total);

typedef struct nb_blob nb_blob; /* being written; of one thread */
nb_status nb_blob_begin(nb_store *s, nb_blob **out, nb_error *err);
nb_status nb_blob_write(nb_blob *b, const void *bytes, size_t n, nb_error *err);
/* Gives the blob its name. expected: "sha256:HEX", or empty: whatever it is; another digest is NB_ERR_FORMAT and nothing
 * stays. layer: digest and size are set, the digest's text copied into arena. Frees b, on failure too. */
nb_status nb_blob_finish(nb_blob *b, nb_str expected, nb_arena *arena, nb_layer *layer, nb_error *err);
void nb_blob_abandon(nb_blob *b); /* NULL is fine */

/* A whole blob of bytes in memory. */
nb_status nb_blob_put(nb_store *s, nb_str bytes, const char *media, nb_arena *arena, nb_layer *layer, nb_error *err);
/* A file's content as a blob: a reflink where the file system has it, else copied while it is hashed; with `link` a hard link
 * whose size, time and inode are kept, so that a file that changed later is refused by name. A blob of this store is taken as
 * it is. */
nb_status nb_blob_import(nb_store *s, const char *path, const char *media, bool link, nb_arena *arena, nb_layer *layer,
                         nb_store_progress_fn *progress, void *user, nb_error *err);
/* A file of the store's own file system (a finished download or conversion) becomes a blob: hashed, synced, renamed. With
 * another digest than expected (which may be empty) it is NB_ERR_FORMAT and stays where it was. */
nb_status nb_blob_adopt(nb_store *s, const char *path, nb_str expected, const char *media, nb_arena *arena,
                        nb_layer *layer, nb_store_progress_fn *progress, void *user, nb_error *err);
/* Whether a blob of this digest is there, and its size. NB_ERR_NOT_FOUND otherwise, also of a linked one that changed. */
nb_status nb_blob_find(nb_store *s, nb_str digest, uint64_t *size, nb_error *err);
/* A blob that no manifest names is kept for so long: what a client sends before it says what for. */
nb_status nb_blob_keep(nb_store *s, nb_str digest, int64_t seconds, nb_error *err);

/* NB_ERR_IO names the file that was linked and has changed since. */
nb_status nb_link_check(const char *root, nb_str digest, nb_error *err);

/* ---- models ---- */

/* Writes the manifest of a name: all blobs of config and layers must be there. What only the name's former manifest named is
 * removed. A name that is there in other letters' case is the same. */
nb_status nb_model_put(nb_store *s, const nb_name *name, const nb_layer *config, const nb_layer *layers, size_t count,
                       nb_error *err);
/* The same for a manifest's own bytes, as a registry sent them: kept to the byte, so that the digest is the registry's. */
nb_status nb_model_put_bytes(nb_store *s, const nb_name *name, nb_str bytes, nb_error *err);
nb_status nb_model_copy(nb_store *s, const nb_name *from, const nb_name *to, nb_error *err);
/* Removes the name, then those of its blobs that no other manifest names. */
nb_status nb_model_delete(nb_store *s, const nb_name *name, nb_error *err);

#endif
