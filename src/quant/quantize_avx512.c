/* The searches of quantizers, compiled for this file's instruction-set level. */
#include "quant/quantize_k_lanes.h"
#include "quant/quantize_legacy_lanes.h"
#include "quant/quantize_q8_0_lanes.h"
#include "quant/quantize_table.h"

const nb_quantize_table nb_quantize_table_avx512 = NB_QUANTIZE_TABLE;
