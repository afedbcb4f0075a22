#define BNB_LOOPS nb_bnb_loops_avx2
#include "quant/bnb_loops.h"
