#define FEEDBACK nb_feedback_ref
#include "quant/feedback_lanes.h"
