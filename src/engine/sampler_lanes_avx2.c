#if defined(__AVX2__)
#define LANES 8
#include "engine/sampler_lanes.h"

const nb_sampler_lanes nb_sampler_lanes_avx2 = {lanes_scan, lanes_weigh, lanes_bins};
#else
typedef int nb_sampler_lanes_avx2_unused; /* not this machine: a file must declare something */
#endif
