/* 8-bit blocks with a map of 256 values (8-bit optimizers, Dettmers et al. 2022). */
#include "quant/bnb.h"

#include <math.h>

#include "num/half.h"

/* ---- the index of a map ---- */

enum { LOWEST = (127 - 32) << 7 }; /* exponent -32: the top 16 bits of the least magnitude that has a cell */

static float edge(int cell) { return cell <= 0 ? 0.0f : nb_f32_of_bits((uint32_t)(cell + LOWEST) << 16); }

/* how many midpoints are below x, or, with `or_at`, at most x */
static int middles_below(const nb_bnb_index *index, int from, float x, bool or_at)
{
    while (from < 255 && (index->middle[from] < x || (or_at && index->middle[from] <= x)))
        from++;
    return from;
}

void nb_bnb_index_map(const float *map, nb_bnb_index *index)
{
    for (int i = 0; i < 255; i++)
        index->middle[i] = (map[i] + map[i + 1]) / 2.0f;
    index->middle[255] = INFINITY;
    index->steps = 0;
    int at = 0;
    for (int cell = NB_BNB_CELLS - 1; cell >= 0; cell--) { /* negative values: (-edge of the next, -edge] */
        at = middles_below(index, at, -edge(cell + 1), true);
        index->first[1][cell] = (uint8_t)at;
        int end = middles_below(index, at, -edge(cell), false);
        index->steps = end - at > index->steps ? end - at : index->steps;
    }
    for (int cell = 0; cell < NB_BNB_CELLS; cell++) { /* positive values: [edge, edge of the next) */
        at = middles_below(index, at, edge(cell), false);
        index->first[0][cell] = (uint8_t)at;
        int end = middles_below(index, at, edge(cell + 1), false);
        index->steps = end - at > index->steps ? end - at : index->steps;
    }
    for (int i = NB_BNB_CELLS; i < NB_BNB_CELLS + 3; i++)
        index->first[0][i] = index->first[1][i] = 0;
}

uint8_t nb_bnb_nearest(const nb_bnb_index *index, float x)
{
    uint32_t bits = nb_f32_bits(x);
    int cell = (int)(bits >> 16 & 0x7fff) - LOWEST;
    cell = cell < 0 ? 0 : cell >= NB_BNB_CELLS ? NB_BNB_CELLS - 1 : cell;
    int c = index->first[bits >> 31][cell];
    for (int i = 0; i < index->steps; i++)
        c += x > index->middle[c];
    return (uint8_t)c;
}

/* ---- quantize ---- */

typedef struct quantize8 {
    const void *x;
    nb_float type;
    size_t n, block;
    const nb_bnb_index *index;
    uint8_t *codes;
    float *absmax;
    const nb_bnb_loops *loops;
} quantize8;

static bool quantize_blocks(void *context, size_t begin, size_t end)
{
    const quantize8 *q = context;
    float room[NB_BNB_BLOCK_MOST];
    for (size_t b = begin; b < end; b++) {
        size_t at = b * q->block, n = nb_min_size(q->block, q->n - at);
        const float *x = nb_bnb_floats(q->loops, q->x, q->type, at, n, room);
        uint32_t top = q->loops->largest(x, n);
        if (top >= 0x7f800000u)
            return false;
        float absmax = q->absmax[b] = nb_f32_of_bits(top);
        if (n == q->block)
            q->loops->encode8(x, n, nb_bnb_factor(absmax), q->index, q->codes + at);
        else
            for (size_t i = 0; i < n; i++)
                q->codes[at + i] = nb_bnb_nearest(q->index, absmax > 0 ? x[i] / absmax : 0.0f);
    }
    return true;
}

nb_status nb_bnb_quantize_8bit(const void *x, nb_float type, size_t n, const float *map, size_t block, uint8_t *codes,
                               float *absmax, nb_team *team, nb_error *err)
{
    NB_TRY(nb_bnb_check_type(type, err));
    NB_TRY(nb_bnb_check_block(block, 64, err));
    NB_TRY(nb_bnb_check_map(map, err));
    nb_bnb_index index;
    nb_bnb_index_map(map, &index);
    quantize8 q = {x, type, n, block, &index, codes, absmax, nb_bnb_loops_now()};
    if (!nb_bnb_share(team, nb_bnb_blocks(n, block), nb_max_size(1, 4096 / block), quantize_blocks, &q))
        return nb_bnb_fail_not_finite(x, type, n, err);
    return NB_OK;
}

/* ---- dequantize ---- */

typedef struct dequantize8 {
    const uint8_t *codes;
    const float *absmax, *map;
    size_t block, n;
    void *y;
    nb_float type;
    const nb_bnb_loops *loops;
} dequantize8;

static bool dequantize_blocks(void *context, size_t begin, size_t end)
{
    const dequantize8 *q = context;
    float room[NB_BNB_BLOCK_MOST];
    for (size_t b = begin; b < end; b++) {
        size_t at = b * q->block, n = nb_min_size(q->block, q->n - at);
        float *y = nb_bnb_target(q->y, q->type, at, room);
        q->loops->decode8(q->codes + at, n, q->map, q->absmax[b], y);
        nb_bnb_store(q->loops, y, q->y, q->type, at, n);
    }
    return true;
}

nb_status nb_bnb_dequantize_8bit(const uint8_t *codes, const float *absmax, const float *map, size_t block, size_t n,
                                 void *y, nb_float type, nb_team *team, nb_error *err)
{
    NB_TRY(nb_bnb_check_type(type, err));
    NB_TRY(nb_bnb_check_block(block, 64, err));
    dequantize8 q = {codes, absmax, map, block, n, y, type, nb_bnb_loops_now()};
    nb_bnb_share(team, nb_bnb_blocks(n, block), nb_max_size(1, 4096 / block), dequantize_blocks, &q);
    return NB_OK;
}
