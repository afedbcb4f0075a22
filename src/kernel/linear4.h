/* linear4.h - y = W x for one token and 4-bit codes, in bitsandbytes' layout (nb_linear_4bit in nibble.h) or packed
 * (nb_linear_packed_4bit): a table a level. */
#ifndef NB_KERNEL_LINEAR4_H
#define NB_KERNEL_LINEAR4_H

#include "quant/bnb.h"

/* 64 rows of one block of columns are a tile: their scales, then, for every 8 columns, one word of 32 bits a row. Nibble k
 * of a word is column 2k, nibble 4 + k column 2k + 1. So a vector's lanes are rows: scales are a plain load, two values of
 * x serve all lanes, no sum is across lanes, and a member reads its share from one end to the other. Tiles follow each
 * other by columns, then by rows; rows past the end are zeros. */
enum { NB_LINEAR4_TILE = 64, NB_LINEAR4_LINE = NB_LINEAR4_TILE * 4, NB_LINEAR4_STEP = 64 };
struct nb_packed_4bit {
    uint8_t *tiles;
    size_t bytes, rows, columns, block;
    float map[16];
    int16_t map16[16]; /* map / unit: the largest magnitude is NB_LINEAR4_MAP */
    float unit;        /* 0: too large or small for integers */
};

/* how many columns are added up before they are scaled */
static inline size_t nb_linear4_step(size_t block) { return block < NB_LINEAR4_STEP ? block : NB_LINEAR4_STEP; }
static inline size_t nb_linear4_tile_bytes(size_t block) { return NB_LINEAR4_LINE * (1 + block / 8); }
static inline const uint8_t *nb_linear4_tile(const nb_packed_4bit *w, size_t row)
{
    return w->tiles + row / NB_LINEAR4_TILE * (w->columns / w->block) * nb_linear4_tile_bytes(w->block);
}

typedef struct nb_linear4_kernel {
    size_t lanes; /* codes are read as that many 32-bit words at once; 0: x is used as it is */
    /* Rows [begin, end) of y. x: as nb_linear4_prepare lays it out. columns is a multiple of block where lanes > 0. */
    void (*rows)(const nb_weight_4bit *w, const float *x, float *y, size_t begin, size_t end);
    /* The same from x as nb_linear4_prepare16 lays it out; NULL: this level has no such code. */
    void (*rows16)(const nb_weight_4bit *w, const int16_t *x, const float *scale, float *y, size_t begin, size_t end);
    /* The 64 rows from `row` on of a packed weight; x as it is. */
    void (*packed)(const nb_packed_4bit *w, const float *x, float *y, size_t row);
    /* x in integers (NULL: this level has no such code, nor the next). They have a scale, a power of two, for each step of
     * columns. Of a step the values of every other eight columns have magnitudes that add up to 131071 at most, so that
     * their products with map16 fit an int32, and none is above 32767: of usual values the largest keeps 13 or 14 bits, and
     * a BF16 within 1/32 of it is exact. False: a magnitude is not finite or too small; take the floats. */
    bool (*integers)(const float *x, size_t columns, size_t step, int16_t *integers, float *scale);
    void (*packed16)(const nb_packed_4bit *w, const int16_t *x, const float *scale, float *y, size_t row);
} nb_linear4_kernel;

extern const nb_linear4_kernel nb_linear4_ref;
#if defined(__x86_64__)
extern const nb_linear4_kernel nb_linear4_avx2, nb_linear4_fma, nb_linear4_avx512;
#endif
const nb_linear4_kernel *nb_linear4_now(void); /* of nb_cpu_current() */

/* Word j of a group of `lanes` words holds values 8j .. 8j + 7, value i in nibble i ^ 1 (the high half of a byte comes
 * first). So that one shift of all words meets one vector of x: group by group, nibble k of all words, zeros past the end. */
void nb_linear4_prepare(const float *x, size_t columns, size_t lanes, float *prepared);

/* x as 15-bit integers, a scale for each group of 128, for 16-bit products with the map as 15-bit integers at its largest
 * magnitude. Word j of a group's 32 16-bit words holds values 4j .. 4j + 3: nibble k of all words, then the next. Eight
 * products fit an int32. False: a magnitude in x or the map is not finite or too small; take the floats. */
enum { NB_LINEAR4_GROUP = 128, NB_LINEAR4_X = 16383, NB_LINEAR4_MAP = 16384 };
bool nb_linear4_prepare16(const float *x, const float *map, size_t columns, int16_t *prepared, float *scale);
float nb_linear4_most(const float *map); /* the largest magnitude of 16 */

#endif
