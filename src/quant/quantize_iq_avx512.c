#define CHOOSE nb_iq_choose_avx512
#include "quant/quantize_iq_choose.h"
