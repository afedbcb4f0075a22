#if defined(__x86_64__)
#define VEC_TABLE nb_vec_table_fma
#include "kernel/vec_lanes.h"
#else
typedef int nb_vec_fma_is_for_x86;
#endif
