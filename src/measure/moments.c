#include "measure/moments.h"

#include <math.h>
#include <stdlib.h>

#include "base/team.h"
#include "num/half.h"
#include "quant/feedback_table.h"

enum { ROWS = NB_MOMENTS_ROWS, LANES = NB_FEEDBACK_ROWS, TILE = NB_FEEDBACK_PANEL };

typedef struct input { /* of one weight */
    size_t columns, block, rows, bytes;
    float *x;    /* [columns / LANES][ROWS][LANES]: what the step reads; NULL: not wanted */
    float *sums; /* of each block [block][block], the lower triangle and a little more; the last block has less */
} input;

struct nb_moments_sums {
    nb_team *team;
    size_t weights;
    input inputs[];
};

nb_status nb_moments_sums_new(size_t weights, int threads, nb_moments_sums **out, nb_error *err)
{
    nb_moments_sums *s = calloc(1, sizeof *s + weights * sizeof *s->inputs);
    *out = NULL;
    if (!s)
        return nb_fail_memory(err, "second moments", weights * sizeof *s->inputs);
    nb_status status = nb_team_new(threads, false, &s->team, err);
    if (status != NB_OK) {
        free(s);
        return status;
    }
    s->weights = weights;
    *out = s;
    return NB_OK;
}

void nb_moments_sums_free(nb_moments_sums *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->weights; i++)
        nb_pages_free(s->inputs[i].x, s->inputs[i].bytes);
    nb_team_free(s->team);
    free(s);
}

static size_t sums_floats(size_t columns, size_t block)
{
    size_t last = columns % block;
    return columns / block * block * block + last * last;
}

size_t nb_moments_sums_bytes(size_t columns, size_t block)
{
    return (ROWS * columns + sums_floats(columns, block)) * sizeof(float);
}

nb_status nb_moments_sums_add(nb_moments_sums *s, size_t weight, size_t columns, size_t block, nb_error *err)
{
    input *in = &s->inputs[weight];
    size_t bytes = nb_moments_sums_bytes(columns, block);
    float *memory = nb_pages_alloc(bytes);
    if (!memory)
        return nb_fail_memory(err, "second moments (fewer --moments take less)", bytes);
    *in = (input){columns, block, 0, bytes, memory, memory + ROWS * columns};
    return NB_OK;
}

bool nb_moments_has(const nb_moments_sums *s, size_t weight) { return s && s->inputs[weight].x; }

void nb_moments_take(nb_moments_sums *s, int weight, const float *x, size_t stride, size_t rows, size_t first,
                     size_t columns)
{
    if (!nb_moments_has(s, (size_t)weight))
        return;
    input *in = &s->inputs[weight];
    if (first == 0)
        in->rows = rows;
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++)
            in->x[(first + j) / LANES * ROWS * LANES + r * LANES + (first + j) % LANES] = x[r * stride + j];
}

/* ---- adding up ---- */

static const float *lane(const input *in, size_t column)
{
    return in->x + column / LANES * ROWS * LANES + column % LANES;
}

static void add_tile(const input *in, nb_outer_fn *outer, size_t first, size_t n, size_t j, float *sums)
{
    for (size_t i = 0; i < j + TILE; i += LANES)
        outer(lane(in, first + j), LANES, lane(in, first + i), LANES, in->rows, sums + j * n + i, n);
}

static void add_all(void *context, int member, int members)
{
    nb_moments_sums *s = context;
    nb_outer_fn *outer = nb_feedback_level()->outer;
    size_t turn = 0;
    for (size_t w = 0; w < s->weights; w++) {
        const input *in = &s->inputs[w];
        float *sums = in->sums;
        for (size_t first = 0; in->x && in->rows && first < in->columns; first += in->block) {
            size_t n = nb_min_size(in->block, in->columns - first);
            for (size_t j = 0; j < n; j += TILE)
                if (turn++ % (size_t)members == (size_t)member)
                    add_tile(in, outer, first, n, j, sums);
            sums += n * n;
        }
    }
}

void nb_moments_step(nb_moments_sums *s)
{
    nb_team_run(s->team, add_all, s);
    for (size_t w = 0; w < s->weights; w++)
        s->inputs[w].rows = 0;
}

/* ---- handing over ---- */

static void correlate(const float *sums, size_t n, uint16_t *to)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            float both = sqrtf(sums[i * n + i]) * sqrtf(sums[j * n + j]);
            float c = both > 0 ? sums[i * n + j] / both : 0;
            *to++ = nb_f32_to_f16(fmaxf(-1, fminf(c, 1)));
        }
}

nb_status nb_moments_give(const nb_moments_sums *s, size_t weight, nb_imatrix_entry *e, nb_error *err)
{
    const input *in = &s->inputs[weight];
    const float *sums = in->sums;
    uint16_t *to;
    NB_TRY(nb_imatrix_add_moments(e, in->block, &to, err));
    for (size_t first = 0; first < in->columns; first += in->block) {
        size_t n = nb_min_size(in->block, in->columns - first);
        correlate(sums, n, to + nb_moments_at(e->moments, first));
        sums += n * n;
    }
    return NB_OK;
}
