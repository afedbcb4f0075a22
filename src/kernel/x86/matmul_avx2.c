/* AVX2 without fma: as the fma level, but a multiplication and an addition round twice. */
#define LEVEL nb_matmul_avx2
#include "kernel/x86/matmul_lanes8.h"
