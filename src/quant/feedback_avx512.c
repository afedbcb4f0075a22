#define FEEDBACK nb_feedback_avx512
#include "quant/feedback_lanes.h"
