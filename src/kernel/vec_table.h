/* vec_table.h - the functions of vec.h at one instruction-set level, as kernels.def lists them. */
#ifndef NB_KERNEL_VEC_TABLE_H
#define NB_KERNEL_VEC_TABLE_H

#include <stddef.h>

typedef struct nb_vec_table {
#define NB_VEC(name, type, give, params, args) type(*name) params;
#include "kernel/kernels.def"
#undef NB_VEC
} nb_vec_table;

extern const nb_vec_table nb_vec_table_ref;
#if defined(__x86_64__)
extern const nb_vec_table nb_vec_table_avx2, nb_vec_table_fma, nb_vec_table_avx512;
#endif

#endif
