/* quantize_iq.h - the search for the types whose code book entries stand for several values at once (IQ1, IQ2, IQ3).
 * A batch is 16 sub-blocks side by side, one a lane; a sub-block has one scale, d (2 l + 1), d shared by the lanes of a
 * super-block. For a given scale the nearest entry under any weights is found exactly: the cost of an entry is the sum
 * of the costs of its two halves, of which there are few, so that an entry costs one addition and one comparison. */
#ifndef NB_QUANT_QUANTIZE_IQ_H
#define NB_QUANT_QUANTIZE_IQ_H

#include "quant/quant.h"

enum {
    IQ_LANES = 16,         /* sub-blocks of a batch */
    IQ_VALUES = 32,        /* values of a sub-block, at most */
    IQ_ENTRIES = 8,        /* entries of a sub-block, at most */
    IQ_HALVES = 81,        /* what half an entry can be, at most: four values of 3 levels or two of 8 */
    IQ_CODE_DOWN = 1 << 14 /* in a code: the values are moved down (IQ1) */
};

/* What a sign may be. */
typedef enum iq_signs {
    IQ_SIGNS_FREE,      /* a bit a value: entries are magnitudes */
    IQ_SIGNS_EVEN,      /* entries are magnitudes; an even number of each eight values is negative */
    IQ_SIGNS_IN_ENTRY,  /* entries hold signed values, all of a sub-block moved by an eighth up or down (IQ1_S) */
    IQ_SIGNS_IN_ENTRY_8 /* the same, each entry moved on its own (IQ1_M) */
} iq_signs;

/* A code book cut in two: entries with the same high half are a run of low halves. Halves are numbered by their levels,
 * the first value counting least. */
typedef struct iq_book {
    int runs;
    uint8_t high[IQ_HALVES];
    uint16_t start[IQ_HALVES + 1];
    uint8_t low[2048];
} iq_book;

typedef struct iq_format {
    const uint16_t *grid; /* entries as in iq_grids.h, ascending */
    int entries;
    iq_signs signs;
    int levels;      /* 3 or 8; an entry has 8 or 4 values */
    float level[8];  /* in units of the scale, d (2 l + 1) */
    int values;      /* of a sub-block */
    int top;         /* the largest l */
    float low, high; /* the best scale lies in this range, as a rule, times the largest magnitude / last level */
} iq_format;

/* x: magnitudes where the entries are; w: weights > 0; negative: of each eight values, bit i for value i; odd: 1 where
 * their number is odd, else 0. */
typedef struct iq_batch {
    _Alignas(64) float x[IQ_VALUES][IQ_LANES];
    _Alignas(64) float w[IQ_VALUES][IQ_LANES];
    _Alignas(64) float odd[IQ_VALUES / 8][IQ_LANES];
    uint8_t negative[IQ_VALUES / 8][IQ_LANES];
} iq_batch;

/* The best code of each entry of each lane at the lane's scale, and the lanes' weighted squared errors. A code is
 * low half | high half << 7 | IQ_CODE_DOWN. */
typedef void iq_choose_fn(const iq_format *f, const iq_book *book, const iq_batch *b, const float scale[IQ_LANES],
                          float cost[IQ_LANES], uint32_t code[IQ_ENTRIES][IQ_LANES]);
iq_choose_fn nb_iq_choose_ref, nb_iq_choose_avx2, nb_iq_choose_avx512;

/* What the search found: l and codes of each lane, d of each lane's super-block (a value of binary16). */
typedef struct iq_found {
    float d[IQ_LANES];
    int l[IQ_LANES];
    uint32_t code[IQ_ENTRIES][IQ_LANES];
} iq_found;

/* the processor's */
iq_choose_fn *nb_iq_choose(void);

/* NULL for a type of another kind */
const iq_format *nb_iq_format_of(nb_type type);
void nb_iq_book_make(const iq_format *f, iq_book *book);
/* The lanes of a super-block (256 values) are side by side. NB_ROUND_NEAREST wants weights of 1. */
void nb_iq_search(const iq_format *f, const iq_book *book, const iq_batch *b, nb_rounding rounding, iq_found *found);
/* The entry's packed levels as in the grid, from a code. */
uint16_t nb_iq_entry(const iq_format *f, uint32_t code);
/* What eight values are, in units of the scale; magnitudes where entries hold magnitudes. */
void nb_iq_levels(const iq_format *f, const uint32_t code[IQ_ENTRIES][IQ_LANES], int lane, int eight, float q[8]);
/* IQ_SIGNS_EVEN: which of eight values takes the wrong sign for the number of signs to be even; -1: none. */
int nb_iq_turned(const iq_format *f, const iq_batch *b, const uint32_t code[IQ_ENTRIES][IQ_LANES], int lane, int eight);

/* Puts one super-block into the bytes of a block; first: its first lane. */
typedef void iq_pack_fn(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst);
iq_pack_fn *nb_iq_pack_of(nb_type type);

/* ---- rows of super-blocks whose scales are known, eight values after eight (feedback.h) ---- */

typedef struct nb_iq_rows nb_iq_rows;
bool nb_iq_rows_can(uint32_t type);
size_t nb_iq_rows_bytes(void); /* aligned to 64 */
/* Takes the scales from one block a row, 32 rows at most. */
void nb_iq_rows_begin(nb_iq_rows *s, uint32_t type, const void *blocks, size_t rows);
/* The best entries for values t[8][32] of all rows, by weight[8], and what they stand for. */
void nb_iq_rows_eight(nb_iq_rows *s, int eight, const float *t, const float *weight, float *value);
void nb_iq_rows_end(nb_iq_rows *s, void *blocks);

#endif
