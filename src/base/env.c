#include "base/env.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 1000000000 };

const char *nb_env_text(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

bool nb_env_flag(const char *name)
{
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    const char *value = nb_env_text(name);
    for (size_t i = 0; value && i < sizeof no / sizeof *no; i++)
        if (strcmp(value, no[i]) == 0)
            return false;
    return value != NULL;
}

nb_status nb_env_count(const char *name, size_t *out, nb_error *err)
{
    const char *value = nb_env_text(name);
    size_t n = 0;
    *out = 0;
    for (const char *p = value; p && *p; p++) {
        if (*p < '0' || *p > '9' || (n = 10 * n + (size_t)(*p - '0')) > MOST)
            return nb_fail(err, NB_ERR_ARGUMENT, "%s=%s: give a whole number from 0 to %d", name, value, MOST);
    }
    *out = n;
    return NB_OK;
}

bool nb_env_is_secret(const char *name)
{
    return (strstr(name, "_KEY") || strstr(name, "TOKEN")) && !strstr(name, "_FILE") && !strstr(name, "_PATH");
}
