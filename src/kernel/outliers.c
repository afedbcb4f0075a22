#include "kernel/outliers.h"

#include <math.h>

#include "kernel/matmul_tile.h"

void nb_outliers_leave_out(const float *x, size_t n, float threshold, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fabsf(x[i]) >= threshold ? 0.0f : x[i];
}

void nb_outliers_find(const float *x, size_t k, float threshold, nb_outliers *out)
{
    size_t n = 0;
    for (size_t i = 0; i < k; i++)
        n += fabsf(x[i]) >= threshold;
    out->count = n <= k / 2 ? n : SIZE_MAX;
    n = 0;
    for (size_t i = 0; i < k && out->count; i++) {
        bool is = fabsf(x[i]) >= threshold;
        if (out->count == SIZE_MAX)
            nb_outliers_values(out)[i] = is ? x[i] : 0.0f;
        else if (is)
            nb_outliers_pairs(out)[n++] = (nb_outlier){(uint32_t)i, x[i]};
    }
}

/* A block of 32 values of 16 rows: 16 scales, then 8 words a row of 4 codes each. */
static void multiply_one(const uint8_t *tile, size_t i, float value, float *sums)
{
    const uint8_t *block = tile + i / 32 * (size_t)(NB_PACKED_BYTES(0, -1, 9) * NB_TILE_ROWS);
    const int8_t *code = (const int8_t *)block + (1 + i % 32 / 4) * 4 * NB_TILE_ROWS + i % 4;
    float scale[NB_TILE_ROWS];
    memcpy(scale, block, sizeof scale);
    for (size_t r = 0; r < NB_TILE_ROWS; r++)
        sums[r] += value * (scale[r] * (float)code[4 * r]);
}

void nb_outliers_multiply(const void *tile, const nb_outliers *o, size_t k, float *sums)
{
    if (o->count != SIZE_MAX)
        for (size_t n = 0; n < o->count; n++)
            multiply_one(tile, nb_outliers_pairs(o)[n].index, nb_outliers_pairs(o)[n].value, sums);
    else
        for (size_t i = 0; i < k; i++)
            if (nb_outliers_values(o)[i] != 0)
                multiply_one(tile, i, nb_outliers_values(o)[i], sums);
}
