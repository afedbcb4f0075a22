#define OPTIM_LOOPS nb_optim_loops_avx2
#include "train/optim_loops.h"
