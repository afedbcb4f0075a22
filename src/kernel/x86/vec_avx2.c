#if defined(__x86_64__)
#define VEC_TABLE nb_vec_table_avx2
#include "kernel/vec_lanes.h"
#else
typedef int nb_vec_avx2_is_for_x86;
#endif
