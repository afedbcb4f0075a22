#if defined(__x86_64__)
#define ATTEND_TABLE nb_attend_table_fma
#include "attention/attend_lanes.h"
#else
typedef int nb_attend_fma_is_for_x86;
#endif
