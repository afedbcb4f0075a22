/* Plain C, for any number of columns: a block's products are added up, then scaled. */
#include "kernel/linear4.h"

static float row_of(const nb_weight_4bit *w, const float *x, size_t row)
{
    float total = 0;
    size_t at = row * w->columns, end = at + w->columns;
    while (at < end) {
        size_t block = at / w->block, stop = nb_min_size(end, (block + 1) * w->block);
        float sum = 0;
        for (; at < stop; at++) {
            unsigned code = at % 2 ? w->packed[at / 2] & 15 : w->packed[at / 2] >> 4;
            sum += w->map[code] * *x++;
        }
        total += sum * w->absmax[block];
    }
    return total;
}

static void rows(const nb_weight_4bit *w, const float *x, float *y, size_t begin, size_t end)
{
    for (size_t row = begin; row < end; row++)
        y[row] = row_of(w, x, row);
}

const nb_linear4_kernel nb_linear4_ref = {0, rows, NULL};
