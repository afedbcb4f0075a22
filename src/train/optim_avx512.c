#define OPTIM_LOOPS nb_optim_loops_avx512
#include "train/optim_loops.h"
