/* median.h - the middle of a benchmark's repetitions: what one of them met by chance does not move it. */
#ifndef NB_BENCH_MEDIAN_H
#define NB_BENCH_MEDIAN_H

#include <stdlib.h>

static inline int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* sorts x */
static inline double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, compare_doubles);
    return x[n / 2];
}

#endif
