/* codes.h - the two products of attention with the codes of a Q8_0 page, in integers. A query's row and the weights of a tile
 * are cut into three parts of 8 bits, once: 64 products of bytes an instruction, three of which make one of 24 bits, where a
 * multiplication of floats makes 16. Sums over a block or a tile are exact; what is lost is half a step of the row's largest
 * value / 2^23, or of the largest weight of a tile and block / 2^24. */
#ifndef NB_ATTENTION_CODES_H
#define NB_ATTENTION_CODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One head's keys or values of a page: codes, scales (kv.h) and how far the next tile's are, in bytes */
typedef struct nb_codes {
    const uint8_t *codes;
    const uint16_t *scale;
    size_t dim;
    ptrdiff_t ahead;
} nb_codes;

#define NB_CODES_BLOCK 28 /* words of a block of 32 dims of a split query */

/* Weights p of up to 8 rows, [rows][NB_PAGE]; a row's state (32-bit floats) gains those of its seen positions times values */
typedef struct nb_codes_sum {
    nb_codes v;
    const float *p;
    const uint64_t *seen; /* [rows], a bit a position */
    uint32_t *parts;      /* room: [dim / 32][rows][NB_PAGE] */
    float *scale;         /* room: [dim / 32][rows] */
    float *state;
    size_t state_stride;
    uint32_t *odd; /* [dim / 32] out: a bit a row whose weights are no finite numbers from 0 up: nothing was added */
} nb_codes_sum;

#if defined(__x86_64__)
/* to: [dim / 32][NB_CODES_BLOCK]. False, and zeros, if one of q's dim values is infinite or NaN. */
bool nb_codes_split(const float *q, size_t dim, uint32_t *to);
/* c[r][NB_PAGE]: scores of rows queries (1 to 8), split, `stride` words apart */
void nb_codes_dot(size_t rows, const uint32_t *q, size_t stride, const nb_codes *k, float *c);
/* True if any row is odd. */
bool nb_codes_add(size_t rows, const nb_codes_sum *m);
#endif
#endif
