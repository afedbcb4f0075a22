/* linear4.h - y = W x for one token and 4-bit codes in bitsandbytes' layout (nb_linear_4bit in nibble.h): a table a level. */
#ifndef NB_KERNEL_LINEAR4_H
#define NB_KERNEL_LINEAR4_H

#include "quant/bnb.h"

typedef struct nb_linear4_kernel {
    size_t lanes; /* codes are read as that many 32-bit words at once; 0: x is used as it is */
    /* Rows [begin, end) of y. x: as nb_linear4_prepare lays it out. columns is a multiple of block where lanes > 0. */
    void (*rows)(const nb_weight_4bit *w, const float *x, float *y, size_t begin, size_t end);
    /* The same from x as nb_linear4_prepare16 lays it out; NULL: this level has no such code. */
    void (*rows16)(const nb_weight_4bit *w, const int16_t *x, const float *scale, float *y, size_t begin, size_t end);
} nb_linear4_kernel;

extern const nb_linear4_kernel nb_linear4_ref;
#if defined(__x86_64__)
extern const nb_linear4_kernel nb_linear4_avx2, nb_linear4_fma, nb_linear4_avx512;
#endif

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
