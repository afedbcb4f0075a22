#define OPTIM_LOOPS nb_optim_loops_ref
#include "train/optim_loops.h"
