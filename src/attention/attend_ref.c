/* No level asked for: the widest vectors that every machine of the target has. */
#define ATTEND_TABLE nb_attend_table_ref
#define FLASH_TABLE nb_flash_table_ref
#include "attention/attend_lanes.h"
#include "attention/flash_lanes.h"
