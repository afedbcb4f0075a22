/* quantize_nearest.h - rounding with each type's plain formula: n values at x into n / block values blocks at dst. */
#ifndef NB_QUANT_QUANTIZE_NEAREST_H
#define NB_QUANT_QUANTIZE_NEAREST_H

#include <math.h>
#include <stddef.h>

void nb_nearest_q4_0(const float *x, size_t n, void *dst);
void nb_nearest_q4_1(const float *x, size_t n, void *dst);
void nb_nearest_q5_0(const float *x, size_t n, void *dst);
void nb_nearest_q5_1(const float *x, size_t n, void *dst);
void nb_nearest_q8_0(const float *x, size_t n, void *dst);
void nb_nearest_tq1_0(const float *x, size_t n, void *dst);
void nb_nearest_tq2_0(const float *x, size_t n, void *dst);
void nb_nearest_q1_0(const float *x, size_t n, void *dst);
void nb_nearest_q2_0(const float *x, size_t n, void *dst);

#endif
