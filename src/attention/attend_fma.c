#if defined(__x86_64__)
#define ATTEND_TABLE nb_attend_table_fma
#define FLASH_TABLE nb_flash_table_fma
#include "attention/attend_lanes.h"
#include "attention/flash_lanes.h"
#else
typedef int nb_attend_fma_is_for_x86;
#endif
