#define BNB_LOOPS nb_bnb_loops_avx512
#include "quant/bnb_loops.h"
