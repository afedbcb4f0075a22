#if defined(__x86_64__)
#define ATTEND_TABLE nb_attend_table_avx512
#define FLASH_TABLE nb_flash_table_avx512
#include "attention/attend_lanes.h"
#include "attention/flash_lanes.h"
#else
typedef int nb_attend_avx512_is_for_x86;
#endif
