#define LINEAR4 nb_linear4_avx2
#include "kernel/x86/linear4_lanes.h"
