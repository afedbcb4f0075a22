/* create_files.h - the files a model is created of: those of a folder, and those that a client sent as blobs, which lie under
 * their names in a folder of links while they are read. */
#ifndef NB_STORE_CREATE_FILES_H
#define NB_STORE_CREATE_FILES_H

#include "store/create.h"

/* Relative, below its folder, no part hidden: "model.safetensors", "1_Pooling/config.json". */
nb_status nb_create_check_name(nb_str name, nb_error *err);
bool nb_create_is_shard(nb_str name); /* "...-00002-of-00003.gguf" */

/* Calls add for the GGUF files of a folder, by name; of shards for the first. */
nb_status nb_create_each_gguf(const char *folder, nb_status (*add)(void *user, const char *path, nb_error *err),
                              void *user, size_t *found, nb_error *err);

/* Makes a folder of links and sets path to it. */
nb_status nb_create_link_files(nb_store *s, const nb_create_file *files, size_t count, nb_buf *path, nb_error *err);
void nb_create_remove_files(nb_buf *path); /* and sets it to empty */

#endif
