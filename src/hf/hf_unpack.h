/* hf_unpack.h - the loops of hf_codes.h. */
#ifndef NB_HF_HF_UNPACK_H
#define NB_HF_HF_UNPACK_H

#include "hf/hf_codes.h"

/* Codes [first, first + n) of a line, at dst[0], dst[step], ... */
void nb_hf_unpack(const nb_hf_packed *p, uint64_t line, uint64_t first, size_t n, size_t step, uint8_t *dst);

/* n scales as floats: values first, first + step, ... of the tensor. */
void nb_hf_scales(const nb_hf_codes *c, uint64_t first, uint64_t step, size_t n, float *dst);

#endif
