#define BNB_LOOPS nb_bnb_loops_ref
#include "quant/bnb_loops.h"
