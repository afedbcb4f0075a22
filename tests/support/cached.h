/* cached.h - files that tools/fetch-model and tools/fetch-text brought: $NIBBLE_CACHE, or ~/.cache/nibble. */
#ifndef NB_TESTS_CACHED_H
#define NB_TESTS_CACHED_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* The larger models were asked for, and are there. */
static inline bool all_models(void) { return getenv("NIBBLE_TEST_ALL") != NULL; }

static inline void nb_cached(const char *folder, const char *name, char path[1024])
{
    const char *cache = getenv("NIBBLE_CACHE"), *home = getenv("HOME");
    if (cache && *cache)
        snprintf(path, 1024, "%s/%s/%s", cache, folder, name);
    else
        snprintf(path, 1024, "%s/.cache/nibble/%s/%s", home ? home : ".", folder, name);
}

#endif
