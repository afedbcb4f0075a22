/* env.h - environment variables, read as Ollama reads its own. An empty one is one that is not set. */
#ifndef NB_BASE_ENV_H
#define NB_BASE_ENV_H

#include "base/status.h"

const char *nb_env_text(const char *name); /* NULL: not set */
/* Set, and none of 0, f, F, false, FALSE, False. */
bool nb_env_flag(const char *name);
/* A whole number from 0 to 10^9; 0 when it is not set. Anything else is NB_ERR_ARGUMENT. */
nb_status nb_env_count(const char *name, size_t *out, nb_error *err);
bool nb_env_is_secret(const char *name); /* its value is not for screens and logs */

#endif
