#if defined(__x86_64__)
#define ATTEND_TABLE nb_attend_table_avx2
#define FLASH_TABLE nb_flash_table_avx2
#include "attention/attend_lanes.h"
#include "attention/flash_lanes.h"
#else
typedef int nb_attend_avx2_is_for_x86;
#endif
