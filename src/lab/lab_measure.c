#include "lab/lab_measure.h"

#include <math.h>
#include <time.h>

#include "lab/lab_model.h"

double nb_lab_thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

nb_status nb_lab_time(nb_lab_work *work, void *context, double most, double *seconds, nb_error *err)
{
    enum { CALLS = 20 };
    double start = nb_lab_thread_seconds(), now = start;
    *seconds = INFINITY;
    for (int i = 0; i < CALLS && (i == 0 || now - start + *seconds < most); i++) {
        double before = now;
        NB_TRY(work(context, err));
        now = nb_lab_thread_seconds();
        *seconds = fmin(*seconds, now - before);
    }
    return NB_OK;
}

nb_status nb_lab_normals(nb_lab *lab, nb_rng *r, size_t count, float **out, nb_error *err)
{
    float *x = NB_ARRAY(nb_lab_arena(lab), float, count);
    if (!x)
        return nb_fail_memory(err, "random numbers", count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)nb_lab_normal(r);
    *out = x;
    return NB_OK;
}

nb_lab_line nb_lab_fit(const double *x, const double *y, size_t n)
{
    double mx = 0, my = 0, xx = 0, xy = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        xy += (x[i] - mx) * (y[i] - my);
        yy += (y[i] - my) * (y[i] - my);
    }
    nb_lab_line line = {.slope = xx > 0 ? xy / xx : 0};
    line.base = my - line.slope * mx;
    line.r2 = xx > 0 && yy > 0 ? xy * xy / (xx * yy) : 1;
    return line;
}

double nb_lab_power(const double *x, const double *y, size_t n)
{
    enum { MOST = 32 };
    double lx[MOST], ly[MOST];
    n = nb_min_size(n, MOST);
    for (size_t i = 0; i < n; i++) {
        lx[i] = log(x[i]);
        ly[i] = log(y[i]);
    }
    return nb_lab_fit(lx, ly, n).slope;
}
