/* Plain C. */
#include "kernel/linear4.h"

/* for any number of columns: a block's products are added up, then scaled */
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

static void add_words(const float *map, const uint8_t *words, const float *x, float *part)
{
    for (size_t r = 0; r < NB_LINEAR4_TILE; r++) {
        uint32_t word;
        memcpy(&word, words + 4 * r, sizeof word);
        for (size_t k = 0; k < 4; k++)
            part[r] += map[word >> 4 * k & 15] * x[2 * k] + map[word >> (16 + 4 * k) & 15] * x[2 * k + 1];
    }
}

static void packed(const nb_packed_4bit *w, const float *x, float *y, size_t row)
{
    const uint8_t *at = nb_linear4_tile(w, row);
    size_t step = nb_linear4_step(w->block);
    memset(y, 0, NB_LINEAR4_TILE * sizeof *y);
    for (const float *end = x + w->columns; x < end;) {
        float scale[NB_LINEAR4_TILE];
        memcpy(scale, at, sizeof scale);
        at += sizeof scale;
        for (size_t i = 0; i < w->block; i += step) {
            float part[NB_LINEAR4_TILE] = {0};
            for (const float *stop = x + step; x < stop; x += 8, at += NB_LINEAR4_LINE)
                add_words(w->map, at, x, part);
            for (size_t r = 0; r < NB_LINEAR4_TILE; r++)
                y[r] += part[r] * scale[r];
        }
    }
}

const nb_linear4_kernel nb_linear4_ref = {.rows = rows, .packed = packed};
