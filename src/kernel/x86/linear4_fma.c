#define LINEAR4 nb_linear4_fma
#include "kernel/x86/linear4_lanes.h"
