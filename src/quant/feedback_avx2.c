#define FEEDBACK nb_feedback_avx2
#include "quant/feedback_lanes.h"
