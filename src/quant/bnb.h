/* bnb.h - what the files of bitsandbytes' arithmetic share: checks of arguments, rows of other float types, and the loops
 * over one block, which exist once a level (bnb_loops.h). The public functions are declared in nibble.h. */
#ifndef NB_QUANT_BNB_H
#define NB_QUANT_BNB_H

#include "base/mem.h"
#include "base/team.h"
#include "num/floats.h"

enum { NB_BNB_BLOCK_MOST = 4096, NB_BNB_PIECE = 4096 };

/* Finds codes of an ascending map of 256: the bits of |x| above the low 16, from exponent -32 to 0, name a cell; `first`
 * is the code of the cell's lower edge, and at most `steps` midpoints lie inside the cell. */
enum { NB_BNB_CELLS = 32 * 128 + 1 };
typedef struct nb_bnb_index {
    float middle[256];                  /* between neighbours; the last is infinite */
    uint8_t first[2][NB_BNB_CELLS + 3]; /* of positive and of negative values; 3: read four bytes at a time */
    int steps;
} nb_bnb_index;

void nb_bnb_index_map(const float *map, nb_bnb_index *index);
uint8_t nb_bnb_nearest(const nb_bnb_index *index, float x); /* the same for one value, at any level */

/* One block or piece of a block, finite values. Results are the same to the bit at every level. */
typedef struct nb_bnb_loops {
    /* the bits of the largest magnitude: from 0x7f800000 on something is not finite */
    uint32_t (*largest)(const float *x, size_t n);
    void (*widen)(const uint16_t *x, bool bf16, float *y, size_t n);
    void (*narrow)(const float *x, bool bf16, uint16_t *y, size_t n);
    /* rank of x * factor among 15 ascending midpoints, through `code`, packed; n: a multiple of 32 */
    void (*encode4)(const float *x, size_t n, float factor, const float *middle, const uint8_t *code, uint8_t *packed);
    /* Whole blocks: y = map[code] * absmax of its block, rounded to 16 bit where y is. stream: past the caches. */
    void (*decode4)(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t blocks, float *y,
                    bool stream);
    void (*decode4_half)(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t blocks,
                         uint16_t *y, bool bf16, bool stream);
    void (*encode8)(const float *x, size_t n, float factor, const nb_bnb_index *index, uint8_t *codes);
    void (*decode8)(const uint8_t *codes, size_t n, const float *map, float absmax, float *y);
    /* round_half_even(x * factor), |result| <= 127 */
    void (*encode_int8)(const float *x, size_t n, float factor, int8_t *codes);
    int32_t (*dot_int8)(const int8_t *a, const int8_t *b, size_t n);
} nb_bnb_loops;

extern const nb_bnb_loops nb_bnb_loops_ref;
#if defined(__x86_64__)
extern const nb_bnb_loops nb_bnb_loops_avx2, nb_bnb_loops_avx512;
#endif
const nb_bnb_loops *nb_bnb_loops_now(void); /* of nb_cpu_current() */

/* ---- rows of any float type ---- */
/* Values [at, at + n) of x as floats: in place, or in `room` */
const float *nb_bnb_floats(const nb_bnb_loops *l, const void *x, nb_float type, size_t at, size_t n, float *room);
/* Where to compute values [at, at + n) of y, and, once they are there, the way into y. */
float *nb_bnb_target(void *y, nb_float type, size_t at, float *room);
void nb_bnb_store(const nb_bnb_loops *l, const float *room, void *y, nb_float type, size_t at, size_t n);
/* The factor of a block: 1 / absmax as bitsandbytes takes it, at most 1e38. */
static inline float nb_bnb_factor(float absmax) { return 1.0f / (absmax > 1e-38f ? absmax : 1e-38f); }
/* The factor of a row of LLM.int8(): 127 times the rounded inverse, as bitsandbytes computes it (off from 127 / scale by a
 * last bit, which decides ties). */
static inline float nb_bnb_factor_int8(float scale) { return scale > 0 ? 1.0f / scale * 127.0f : 0.0f; }

/* ---- arguments ---- */
nb_status nb_bnb_check_type(nb_float type, nb_error *err);
nb_status nb_bnb_check_block(size_t block, size_t least, nb_error *err); /* a power of two from `least` to 4096 */
nb_status nb_bnb_check_map(const float *map, nb_error *err);             /* 256 finite values that ascend */
/* Names the first value of x that is not finite. */
nb_status nb_bnb_fail_not_finite(const void *x, nb_float type, size_t n, nb_error *err);

/* ---- sharing out: fn on items [begin, end) by each member, NULL: by the caller. `items` in multiples of grain. ---- */
typedef bool nb_bnb_work(void *context, size_t begin, size_t end); /* false: something was not finite */
bool nb_bnb_share(nb_team *team, size_t items, size_t grain, nb_bnb_work *work, void *context);

#endif
