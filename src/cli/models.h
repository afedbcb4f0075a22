/* models.h - where commands find models: a running server, or the store itself. Both answer in the words of Ollama's API. */
#ifndef NB_CLI_MODELS_H
#define NB_CLI_MODELS_H

#include <stdio.h>

#include "cli/api_client.h"
#include "store/library.h"

/* /api/tags of the server that answers, else of the store (a note on stderr when OLLAMA_HOST names a server that does not). */
nb_status nb_models_list(json_t **out, nb_error *err);
/* /api/show; model may be a file or directory, which no server is asked for. */
nb_status nb_models_show(const char *model, bool verbose, json_t **out, nb_error *err);
/* The same of an entry. */
nb_status nb_models_describe(nb_entry *e, bool verbose, json_t **out, nb_error *err);
bool nb_models_is_path(const char *model); /* a file or directory, not a name */
/* Where the model's file is: the path itself, or the blob of a name in the store. */
nb_status nb_models_file(const char *model, nb_buf *path, nb_error *err);

/* ---- printing ---- */

/* `nibble show MODEL`: what it is, can do and says, in Ollama's tables. */
nb_status nb_models_print_info(const json_t *shown, bool verbose, FILE *out, nb_error *err);
bool nb_models_can(const json_t *shown, const char *what); /* among its capabilities */
/* One text of it: "license", "modelfile", "parameters", "system", "template"; "" when it has none. */
const char *nb_models_text(const json_t *shown, const char *key);

#endif
