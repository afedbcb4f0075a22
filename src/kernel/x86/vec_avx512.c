#if defined(__x86_64__)
#define VEC_TABLE nb_vec_table_avx512
#include "kernel/vec_lanes.h"
#else
typedef int nb_vec_avx512_is_for_x86;
#endif
