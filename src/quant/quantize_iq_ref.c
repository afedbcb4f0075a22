#define CHOOSE nb_iq_choose_ref
#include "quant/quantize_iq_choose.h"
