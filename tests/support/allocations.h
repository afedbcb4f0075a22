/* allocations.h - puts counting functions in the place of the C library's allocator, for the whole program and its
 * libraries, and lets one of them fail. With NB_SANITIZED nothing is counted. */
#ifndef NB_TESTS_ALLOCATIONS_H
#define NB_TESTS_ALLOCATIONS_H

#include <stddef.h>
#include <stdlib.h>

#include "nibble.h"
#include "support/sanitized.h"

static struct {
    long count;   /* since the test last set it to 0 */
    long live;    /* pieces not freed yet */
    long fail_at; /* the allocation of this count gives NULL; 0: none */
} nb_allocations;

#ifndef NB_SANITIZED
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);
void __libc_free(void *p);

static int allocation_fails(void) { return ++nb_allocations.count == nb_allocations.fail_at; }

static void *allocation_counted(void *p)
{
    nb_allocations.live += p != NULL;
    return p;
}

NB_API void *malloc(size_t bytes) { return allocation_fails() ? NULL : allocation_counted(__libc_malloc(bytes)); }

NB_API void *calloc(size_t count, size_t bytes)
{
    return allocation_fails() ? NULL : allocation_counted(__libc_calloc(count, bytes));
}

NB_API void *aligned_alloc(size_t align, size_t bytes)
{
    return allocation_fails() ? NULL : allocation_counted(__libc_memalign(align, bytes));
}

NB_API void *realloc(void *old, size_t bytes)
{
    void *p = allocation_fails() ? NULL : __libc_realloc(old, bytes);
    nb_allocations.live += !old && p;
    return p;
}

NB_API void free(void *p)
{
    nb_allocations.live -= p != NULL;
    __libc_free(p);
}
#endif

#endif
