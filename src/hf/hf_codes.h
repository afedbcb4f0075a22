/* hf_codes.h - a weight of codes with scales, whatever the checkpoint's layout: x = (code - zero point) * scale, or
 * a float of 8 or 4 bits * scale, where columns in groups and rows in blocks share a scale. The ways of quant_methods.def describe theirs
 * in one nb_hf_codes; here it is checked, and rows of it come as floats or, where they are the same numbers, as rows of a
 * type of GGUF. Immutable; any number of threads. */
#ifndef NB_HF_HF_CODES_H
#define NB_HF_HF_CODES_H

#include "hf/hf_quant.h"

/* Lines of codes of `bits` bits (1 to 8) in little-endian words. */
typedef struct nb_hf_packed {
    const unsigned char *data; /* aligned to nothing */
    size_t unit;               /* bytes of a word: 4 or 1 */
    uint64_t across, along;    /* bytes from a line to the next, and from a word of a line to its next */
    unsigned bits;             /* from the low end of a word on, over its end where they do not fit */
    const uint8_t *place;      /* NULL, or where in a word its codes stand, [8 * unit / bits] */
    unsigned flip;             /* 0x80: int8 codes, which then count from -128 on */
} nb_hf_packed;

typedef enum nb_hf_code_kind { NB_HF_INTEGER, NB_HF_E4M3, NB_HF_E5M2, NB_HF_E2M1 } nb_hf_code_kind;

typedef struct nb_hf_codes {
    nb_hf_packed code;
    bool by_column; /* a line is a column of the weight, not a row */
    nb_hf_code_kind kind;
    bool has_zeros;
    nb_hf_packed zero; /* a line is a group, in it a value a block of rows */
    unsigned zero_add; /* zero point: (value + zero_add) & 255 & zero_mask */
    unsigned zero_mask;
    const nb_checkpoint_tensor *zeros; /* of `zero` */
    unsigned middle;                   /* the zero point where there are none */
    const nb_checkpoint_tensor *scale;
    uint64_t scale_row, scale_group; /* values from one block of rows to the next, from one group to the next */
    bool exponents;                  /* scales are bytes of E8M0 */
    uint64_t block_rows;
    size_t group, groups;
    const uint32_t *group_of; /* [columns]; NULL: column / group */
} nb_hf_codes;

/* True when the rows of the weight lie one behind the other. */
static inline bool nb_hf_codes_in_rows(const nb_hf_codes *c) { return !c->by_column && c->code.along == c->code.unit; }

/* Are these `lines` of `count` codes in that tensor? Lines that are the tensor's columns (down) or its rows. Then *out is
 * what reads them, else an error says which shape it should have. */
nb_status nb_hf_packed_of(const nb_checkpoint_tensor *t, unsigned bits, uint64_t lines, uint64_t count, bool down,
                          nb_hf_packed *out, nb_error *err);

/* A matrix of scales, [blocks of rows, groups] or, `down`, [groups, rows]; one or two dimensions, also a single number. */
nb_status nb_hf_codes_scales(nb_hf_codes *c, const nb_checkpoint_tensor *scale, uint64_t blocks, uint64_t groups,
                             bool down, nb_error *err);

/* group_size of config.json: 0 when it is -1, which stands for all columns. */
nb_status nb_hf_group_size(const nb_tree *tree, const nb_node *n, uint64_t otherwise, uint64_t *out, nb_error *err);

/* Group numbers of the columns, an int32 each. */
nb_status nb_hf_codes_order(nb_hf *h, nb_hf_codes *c, const nb_checkpoint_tensor *order, uint64_t columns,
                            nb_error *err);

/* The whole of a weight of FP8 (l->weight) with a scale a block of so many rows and columns; block 0: a row, or a tensor when
 * there is one scale. */
nb_status nb_hf_float_grid(nb_hf_linear *l, nb_hf_codes *c, const nb_checkpoint_tensor *scale, const uint64_t block[2],
                           nb_error *err);

/* Looks at every scale and zero point, and chooses the types that its rows come in: l->codes, l->types. The weight, rows and
 * columns of l are set. */
nb_status nb_hf_codes_finish(nb_hf_linear *l, const nb_hf_codes *c, nb_error *err);

/* Rows [row, row + count) as rows of one of l->types. */
nb_status nb_hf_codes_read(const nb_hf_linear *l, uint64_t row, uint64_t count, const nb_type_info *type, void *dst,
                           nb_error *err);

#endif
