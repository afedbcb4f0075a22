#define CHOOSE nb_iq_choose_avx2
#include "quant/quantize_iq_choose.h"
