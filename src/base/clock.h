/* clock.h - the time that passes, in seconds from an arbitrary start: for speeds and rates, not for dates. */
#ifndef NB_BASE_CLOCK_H
#define NB_BASE_CLOCK_H

#include <time.h>

static inline double nb_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
