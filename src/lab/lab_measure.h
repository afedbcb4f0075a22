/* lab_measure.h - what topics measure with: time that other programs do not lengthen, random inputs, fits. */
#ifndef NB_LAB_LAB_MEASURE_H
#define NB_LAB_LAB_MEASURE_H

#include "engine/sampler_math.h"
#include "lab/lab.h"

/* Processor time of the calling thread: what it computes with a team of one. */
double nb_lab_thread_seconds(void);

typedef nb_status nb_lab_work(void *context, nb_error *err);
/* The shortest of several calls, which take `most` seconds together, or one call if that is longer. */
nb_status nb_lab_time(nb_lab_work *work, void *context, double most, double *seconds, nb_error *err);

/* [count] of the normal distribution, in the lab's arena. */
nb_status nb_lab_normals(nb_lab *lab, nb_rng *r, size_t count, float **out, nb_error *err);

typedef struct nb_lab_line { /* y = base + slope x by least squares */
    double base, slope;
    double r2; /* share of the variance of y that it explains */
} nb_lab_line;
nb_lab_line nb_lab_fit(const double *x, const double *y, size_t n);
/* p of y = c x^p: the slope in logarithms. */
double nb_lab_power(const double *x, const double *y, size_t n);

#endif
