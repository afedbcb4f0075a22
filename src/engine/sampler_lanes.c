#define LANES 4
#include "engine/sampler_lanes.h"

const nb_sampler_lanes nb_sampler_lanes_ref = {lanes_scan, lanes_weigh, lanes_bins};
