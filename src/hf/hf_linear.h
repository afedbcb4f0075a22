/* hf_linear.h - a linear layer's weight that is quantized: in bitsandbytes' 4-bit or 8-bit form, stored so in a checkpoint or
 * made so from its floats while it is read; in optimum-quanto's; or of codes (hf_codes.h). Rows come dequantized, or in the
 * type that holds them. Immutable; any number of threads. */
#ifndef NB_HF_HF_LINEAR_H
#define NB_HF_HF_LINEAR_H

#include "format/checkpoint.h"
#include "quant/quant.h"

enum { NB_HF_LINEAR_SPAN = 4096, NB_HF_LINEAR_BLOCK = 64, NB_HF_LINEAR_NEST = 256 };

typedef enum nb_hf_form {
    NB_HF_FLOATS, /* what it dequantizes to */
    NB_HF_STORED, /* a type of GGUF that holds the same numbers, where there is one, else floats */
    NB_HF_PACKED, /* a type to be run: nearly the same numbers */
    NB_HF_FORMS
} nb_hf_form;

typedef struct nb_hf_linear {
    const nb_checkpoint_tensor *weight; /* codes, or the floats that they are made from */
    uint64_t rows, columns;
    nb_float dtype;     /* that it dequantizes to */
    bool made;          /* from floats */
    nb_float taken;     /* these are rounded to before anything else */
    bool int8;          /* else 4 bits */
    bool as_cpu;        /* 4 bits: with the scales that bitsandbytes' CPU kernel takes (hf_linear.c) */
    const float *scale; /* int8 that is stored: [rows] */
    const struct nb_hf_codes *codes; /* NULL: it is none of these */
    const nb_type_info *types[NB_HF_FORMS];
    /* quanto's: symmetric rows of 8 bits (int8, scale as it is), or groups of `group` values of a row in 4 bits with a shift */
    bool quanto;
    size_t group;
    const float *shift; /* [values / group], as is scale then */
    /* bitsandbytes' 4 bits */
    nb_code4 code;
    size_t block;                /* values, blocks cross rows */
    const float *map;            /* [16] */
    const float *absmax;         /* [blocks]; NULL: nested, or found when the codes are made */
    const uint8_t *nested_codes; /* [blocks]; NULL: not nested */
    const float *nested_absmax, *nested_map;
    size_t nested_block;
    float nested_offset;
} nb_hf_linear;

static inline uint64_t nb_hf_linear_values(const nb_hf_linear *l) { return l->rows * l->columns; }
static inline size_t nb_hf_linear_blocks(const nb_hf_linear *l)
{
    return nb_bnb_blocks((size_t)nb_hf_linear_values(l), l->block);
}

/* What its rows are. */
const nb_type_info *nb_hf_linear_type(const nb_hf_linear *l, nb_hf_form form);

/* Rows [row, row + count) into dst, as rows of a type that nb_hf_linear_type gave. */
nb_status nb_hf_linear_read(const nb_hf_linear *l, uint64_t row, uint64_t count, const nb_type_info *type, void *dst,
                            nb_error *err);

/* 4-bit codes and scales as bitsandbytes has them: blocks [begin, begin + blocks), at most NB_HF_LINEAR_SPAN values. */
typedef struct nb_hf_linear_span {
    const uint8_t *packed;
    const float *absmax;
    size_t first, values; /* of the weight */
    uint8_t packed_room[NB_HF_LINEAR_SPAN / 2];
    float absmax_room[NB_HF_LINEAR_SPAN / 32];
    float value[NB_HF_LINEAR_SPAN];
} nb_hf_linear_span;

nb_status nb_hf_linear_span_load(const nb_hf_linear *l, size_t begin, size_t blocks, nb_hf_linear_span *s,
                                 nb_error *err);

/* One row of 8-bit codes and its scale (bitsandbytes' SCB). room: [columns], for a row that is made. */
nb_status nb_hf_linear_row8(const nb_hf_linear *l, uint64_t row, float *values, int8_t *room, const int8_t **codes,
                            float *scale, nb_error *err);

/* Rows of quanto's (hf_quanto.c), as l->dtype. */
nb_status nb_hf_quanto_row8(const nb_hf_linear *l, const int8_t *codes, float scale, void *dst);
nb_status nb_hf_quanto_rows4(const nb_hf_linear *l, uint64_t row, uint64_t count, void *dst);

/* Fills nested_* of a weight that is made: absmax of all blocks, in 8 bits. room for the results is the caller's. */
nb_status nb_hf_linear_nest(nb_hf_linear *l, uint8_t *codes, float *nested_absmax, nb_team *team, nb_error *err);

#endif
