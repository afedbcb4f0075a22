/* grown.h - an array that only grows, for working memory that may become large: from 1 MiB on it comes straight from the
 * system, in huge pages where it has them. malloc would do so or not depending on what was freed before, and the page
 * faults of small pages can take longer than the work. */
#ifndef NB_BASE_GROWN_H
#define NB_BASE_GROWN_H

#include "base/mem.h"

typedef struct nb_grown { /* {0} is a valid empty one */
    void *p;
    size_t bytes; /* capacity */
} nb_grown;

/* Makes room for `count` elements in all, keeping what is there (at least doubling). False: out of memory, unchanged. */
bool nb_grown_reserve(nb_grown *g, size_t count, size_t size);
void nb_grown_free(nb_grown *g);

#endif
