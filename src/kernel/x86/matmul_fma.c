/* AVX2, FMA and F16C: bit-equal to plain C and AVX-512. */
#define LEVEL nb_matmul_fma
#include "kernel/x86/matmul_lanes8.h"
