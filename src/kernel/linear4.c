#include "kernel/linear4.h"

#include <stdlib.h>

#include "base/cpu.h"
#include "num/half.h"

const nb_linear4_kernel *nb_linear4_now(void)
{
    static const nb_linear4_kernel *const levels[NB_CPU_LEVELS] = {
        [NB_CPU_REF] = &nb_linear4_ref,
#if defined(__x86_64__)
        [NB_CPU_AVX2] = &nb_linear4_avx2,
        [NB_CPU_FMA] = &nb_linear4_fma,
        [NB_CPU_AVX512] = &nb_linear4_avx512,
#endif
    };
    nb_cpu_level level = nb_cpu_current();
    while (!levels[level]) /* a level that has no file of its own takes the one below */
        level--;
    return levels[level];
}

void nb_linear4_prepare(const float *x, size_t columns, size_t lanes, float *prepared)
{
    if (lanes == 0) {
        memcpy(prepared, x, columns * sizeof *x);
        return;
    }
    for (size_t from = 0; from < columns; from += 8 * lanes, prepared += 8 * lanes)
        for (size_t k = 0; k < 8; k++)
            for (size_t j = 0; j < lanes; j++) {
                size_t i = from + 8 * j + (k ^ 1);
                prepared[k * lanes + j] = i < columns ? x[i] : 0.0f;
            }
}

float nb_linear4_most(const float *map) { return nb_f32_of_bits(nb_bnb_loops_now()->largest(map, 16)); }

static bool group16(const float *x, size_t n, float most_of_map, int16_t *prepared, float *scale)
{
    float most = nb_f32_of_bits(nb_bnb_loops_now()->largest(x, n)), factor = most > 0 ? NB_LINEAR4_X / most : 0.0f;
    if (most != 0 && !(most > 1e-30f && most < 1e30f)) /* true of what is not a number, too */
        return false;
    *scale = most / NB_LINEAR4_X * (most_of_map / NB_LINEAR4_MAP);
    for (size_t k = 0; k < 4; k++)
        for (size_t j = 0; j < 32; j++) {
            size_t i = 4 * j + (k ^ 1);
            float v = i < n ? x[i] * factor : 0.0f;
            prepared[k * 32 + j] = (int16_t)(int32_t)(v + 0x1.8p23f - 0x1.8p23f); /* the nearest integer */
        }
    return true;
}

bool nb_linear4_prepare16(const float *x, const float *map, size_t columns, int16_t *prepared, float *scale)
{
    float most = nb_linear4_most(map);
    if (!(most > 1e-6f && most < 1e6f))
        return false;
    for (size_t at = 0; at < columns; at += NB_LINEAR4_GROUP)
        if (!group16(x + at, nb_min_size(NB_LINEAR4_GROUP, columns - at), most, prepared + at,
                     scale + at / NB_LINEAR4_GROUP))
            return false;
    return true;
}

typedef struct job {
    const nb_weight_4bit *w;
    const nb_linear4_kernel *kernel;
    const nb_bnb_loops *loops;
    const float *x;     /* prepared, or, where these are set: */
    const int16_t *x16; /* in integers */
    const float *scale;
    const void *bias;
    float *sums; /* [rows]: y itself when that is float */
    void *y;
    nb_float type;
} job;

static bool run_rows(void *context, size_t begin, size_t end)
{
    const job *j = context;
    if (j->x16)
        j->kernel->rows16(j->w, j->x16, j->scale, j->sums, begin, end);
    else
        j->kernel->rows(j->w, j->x, j->sums, begin, end);
    float room[256];
    for (size_t at = begin; j->bias && at < end; at += 256) {
        size_t n = nb_min_size(256, end - at);
        const float *bias = nb_bnb_floats(j->loops, j->bias, j->type, at, n, room);
        for (size_t i = 0; i < n; i++)
            j->sums[at + i] += bias[i];
    }
    nb_bnb_store(j->loops, j->sums + begin, j->y, j->type, begin, end - begin);
    return true;
}

nb_status nb_linear_4bit(const nb_weight_4bit *w, const void *x, const void *bias, void *y, nb_float type,
                         nb_team *team, nb_error *err)
{
    size_t n, padded = nb_round_up(w->columns, 128) + 128;
    NB_TRY(nb_bnb_check_type(type, err));
    NB_TRY(nb_bnb_check_block(w->block, 32, err));
    if (!nb_mul(w->rows, w->columns, &n) || w->columns > SIZE_MAX / 64 || w->rows > SIZE_MAX / 64)
        return nb_fail(err, NB_ERR_ARGUMENT, "%zu rows of %zu columns do not fit in memory", w->rows, w->columns);
    size_t bytes = (2 * padded + w->rows) * sizeof(float);
    float *room = malloc(bytes);
    if (!room)
        return nb_fail_memory(err, "a token's values", bytes);
    job j = {.w = w, .kernel = nb_linear4_now(), .loops = nb_bnb_loops_now(), .bias = bias, .y = y, .type = type};
    j.sums = type == NB_FLOAT_F32 ? y : room + 2 * padded;
    if (w->columns % w->block != 0) /* blocks cross rows: only plain C follows them */
        j.kernel = &nb_linear4_ref;
    const float *values = nb_bnb_floats(j.loops, x, type, 0, w->columns, room + padded);
    int16_t *x16 = (int16_t *)(void *)room;
    float *scale = room + padded / 2;
    if (type != NB_FLOAT_F32 && j.kernel->rows16 && nb_linear4_prepare16(values, w->map, w->columns, x16, scale))
        j.x16 = x16, j.scale = scale;
    else
        nb_linear4_prepare(values, w->columns, j.kernel->lanes, room);
    j.x = room;
    nb_bnb_share(team, w->rows, 16, run_rows, &j);
    free(room);
    return NB_OK;
}
