/* No level asked for: the widest vectors that every machine of the target has. */
#define VEC_TABLE nb_vec_table_ref
#include "kernel/vec_lanes.h"
