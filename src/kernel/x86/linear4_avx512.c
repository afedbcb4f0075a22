#define LINEAR4 nb_linear4_avx512
#include "kernel/x86/linear4_lanes.h"
