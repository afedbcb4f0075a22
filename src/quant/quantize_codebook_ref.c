#define FIT nb_codebook_fit_ref
#define CODES nb_codebook_codes_ref
#include "quant/quantize_codebook_fit.h"
