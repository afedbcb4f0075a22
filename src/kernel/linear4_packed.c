/* The packed form of a 4-bit weight: made once, read by each token (linear4.h says how it lies). */
#include <math.h>
#include <stdlib.h>

#include "kernel/linear4.h"

/* tiles, one below the other */
static size_t groups_of(size_t rows) { return rows / NB_LINEAR4_TILE + (rows % NB_LINEAR4_TILE != 0); }

/* ---- packing ---- */

typedef struct packing {
    const nb_weight_4bit *from;
    nb_packed_4bit *to;
} packing;

/* four bytes, a column in each half, the first in the high one, to a word */
static uint32_t word_of(const uint8_t *bytes)
{
    uint32_t even = 0, odd = 0;
    for (int k = 0; k < 4; k++) {
        even |= (uint32_t)(bytes[k] >> 4) << 4 * k;
        odd |= (uint32_t)(bytes[k] & 15) << 4 * k;
    }
    return even | odd << 16;
}

static void pack_tile(const nb_weight_4bit *w, size_t row, size_t count, size_t block, uint8_t *tile)
{
    for (size_t r = 0; r < count; r++) {
        size_t first = (row + r) * (w->columns / w->block) + block;
        const uint8_t *bytes = w->packed + first * (w->block / 2);
        memcpy(tile + 4 * r, &w->absmax[first], sizeof(float));
        for (size_t line = 1; line <= w->block / 8; line++, bytes += 4) {
            uint32_t word = word_of(bytes);
            memcpy(tile + line * NB_LINEAR4_LINE + 4 * r, &word, sizeof word);
        }
    }
}

static bool pack_tiles(void *context, size_t begin, size_t end)
{
    const packing *p = context;
    const nb_weight_4bit *w = p->from;
    size_t across = w->columns / w->block, bytes = nb_linear4_tile_bytes(w->block);
    for (size_t at = begin; at < end; at++)
        for (size_t b = 0; b < across; b++) {
            size_t row = at * NB_LINEAR4_TILE;
            pack_tile(w, row, nb_min_size(NB_LINEAR4_TILE, w->rows - row), b, p->to->tiles + (at * across + b) * bytes);
        }
    return true;
}

static void pack_map(const float *map, nb_packed_4bit *w)
{
    float most = nb_linear4_most(map);
    memcpy(w->map, map, sizeof w->map);
    if (!(most > 1e-3f && most < 1e3f))
        return;
    w->unit = most / NB_LINEAR4_MAP;
    for (int i = 0; i < 16; i++)
        w->map16[i] = (int16_t)lrintf(map[i] / w->unit);
}

nb_status nb_pack_4bit(const nb_weight_4bit *w, nb_team *team, nb_packed_4bit **packed, nb_error *err)
{
    *packed = NULL;
    NB_TRY(nb_bnb_check_block(w->block, 32, err));
    if (w->columns % w->block != 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "%zu columns are not whole blocks of %zu: use nb_linear_4bit", w->columns,
                       w->block);
    size_t groups = groups_of(w->rows), bytes;
    if (!nb_mul(groups, w->columns / w->block, &bytes) || !nb_mul(bytes, nb_linear4_tile_bytes(w->block), &bytes) ||
        w->columns > SIZE_MAX / 64)
        return nb_fail(err, NB_ERR_ARGUMENT, "%zu rows of %zu columns do not fit in memory", w->rows, w->columns);
    nb_packed_4bit *p = calloc(1, sizeof *p);
    uint8_t *tiles = nb_pages_alloc(bytes = nb_max_size(bytes, 1));
    if (!p || !tiles) {
        free(p);
        nb_pages_free(tiles, bytes);
        return nb_fail_memory(err, "a packed weight", bytes);
    }
    *p = (nb_packed_4bit){.tiles = tiles, .bytes = bytes, .rows = w->rows, .columns = w->columns, .block = w->block};
    pack_map(w->map, p);
    packing job = {w, p};
    nb_bnb_share(team, groups, 1, pack_tiles, &job);
    *packed = p;
    return NB_OK;
}

void nb_packed_4bit_free(nb_packed_4bit *packed)
{
    if (packed)
        nb_pages_free(packed->tiles, packed->bytes);
    free(packed);
}

/* ---- y = W x ---- */

typedef struct job {
    const nb_packed_4bit *w;
    const nb_linear4_kernel *kernel;
    const nb_bnb_loops *loops;
    const float *x;
    const int16_t *x16; /* x in integers, or NULL */
    const float *scale;
    const void *bias;
    void *y;
    nb_float type;
} job;

static bool run_tiles(void *context, size_t begin, size_t end)
{
    const job *j = context;
    for (size_t at = begin; at < end; at++) {
        float sums[NB_LINEAR4_TILE], room[NB_LINEAR4_TILE];
        size_t row = at * NB_LINEAR4_TILE, n = nb_min_size(NB_LINEAR4_TILE, j->w->rows - row);
        if (j->x16)
            j->kernel->packed16(j->w, j->x16, j->scale, sums, row);
        else
            j->kernel->packed(j->w, j->x, sums, row);
        if (j->bias) {
            const float *bias = nb_bnb_floats(j->loops, j->bias, j->type, row, n, room);
            for (size_t i = 0; i < n; i++)
                sums[i] += bias[i];
        }
        if (j->type == NB_FLOAT_F32)
            memcpy((float *)j->y + row, sums, n * sizeof *sums);
        else
            nb_bnb_store(j->loops, sums, j->y, j->type, row, n);
    }
    return true;
}

nb_status nb_linear_packed_4bit(const nb_packed_4bit *w, const void *x, const void *bias, void *y, nb_float type,
                                nb_team *team, nb_error *err)
{
    NB_TRY(nb_bnb_check_type(type, err));
    size_t n = w->columns, step = nb_linear4_step(w->block), bytes = n * 6 + n / step * sizeof(float);
    float *room = malloc(bytes + 1);
    if (!room)
        return nb_fail_memory(err, "a token's values", bytes);
    job j = {.w = w, .kernel = nb_linear4_now(), .loops = nb_bnb_loops_now(), .bias = bias, .y = y, .type = type};
    j.x = nb_bnb_floats(j.loops, x, type, 0, n, room);
    float *scale = room + n;
    int16_t *integers = (int16_t *)(void *)(scale + n / step);
    if (type != NB_FLOAT_F32 && j.kernel->packed16 && w->unit > 0 && j.kernel->integers(j.x, n, step, integers, scale))
        j.x16 = integers, j.scale = scale;
    nb_bnb_share(team, groups_of(w->rows), 1, run_tiles, &j);
    free(room);
    return NB_OK;
}
