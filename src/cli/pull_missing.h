/* pull_missing.h - fetches a model that is asked for and not there, with a bar on stderr. Ctrl-C: NB_ERR_CANCELLED. */
#ifndef NB_CLI_PULL_MISSING_H
#define NB_CLI_PULL_MISSING_H

#include "cli/api_client.h"

/* Into the store here. Of hf:// names, `where` gets the path of the files. */
nb_status nb_pull_here(const char *name, bool insecure, nb_buf *where, nb_error *err);
/* A server fetches it into its own store. */
nb_status nb_pull_there(nb_client *client, const char *name, bool insecure, nb_error *err);

#endif
