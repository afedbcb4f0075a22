/* hf_missing.h - what to say of a directory that lacks what was looked for: what it holds instead, and what to do. */
#ifndef NB_HF_HF_MISSING_H
#define NB_HF_HF_MISSING_H

#include "base/file.h"

nb_status nb_hf_no_config(const char *dir, nb_error *err);  /* config.json is not there */
nb_status nb_hf_no_weights(const char *dir, nb_error *err); /* config.json is, and no checkpoint */
nb_status nb_hf_no_adapter(const char *dir, nb_error *err); /* adapter_config.json is not there */

bool nb_hf_is_directory(const char *path);
bool nb_hf_holds(const char *dir, const char *name);

/* A whole file; that it is Git LFS's pointer, which stands in for a large file that git did not get, is an error. */
nb_status nb_hf_read_file(const char *path, size_t limit, nb_buf *out, nb_error *err);

#endif
