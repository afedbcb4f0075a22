#define FIT nb_codebook_fit_avx2
#define CODES nb_codebook_codes_avx2
#include "quant/quantize_codebook_fit.h"
