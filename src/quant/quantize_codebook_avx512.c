#define FIT nb_codebook_fit_avx512
#define CODES nb_codebook_codes_avx512
#include "quant/quantize_codebook_fit.h"
