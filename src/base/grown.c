#include "base/grown.h"

#include <stdlib.h>

enum { FROM_SYSTEM = 1 << 20 };

static void release(void *p, size_t bytes)
{
    if (bytes >= FROM_SYSTEM)
        nb_pages_free(p, bytes);
    else
        free(p);
}

bool nb_grown_reserve(nb_grown *g, size_t count, size_t size)
{
    size_t need;
    if (!nb_mul(count, size, &need))
        return false;
    if (need <= g->bytes)
        return true;
    size_t bytes = nb_max_size(nb_max_size(need, g->bytes > SIZE_MAX / 2 ? need : g->bytes * 2), 1024);
    void *p = bytes >= FROM_SYSTEM ? nb_pages_alloc(bytes) : malloc(bytes);
    if (!p)
        return false;
    if (g->bytes)
        memcpy(p, g->p, g->bytes);
    release(g->p, g->bytes);
    *g = (nb_grown){p, bytes};
    return true;
}

void nb_grown_free(nb_grown *g)
{
    release(g->p, g->bytes);
    *g = (nb_grown){0};
}
