#include "kernel/linear4.h"

#include <stdlib.h>

#include "base/cpu.h"

static const nb_linear4_kernel *kernel_now(void)
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

typedef struct job {
    const nb_weight_4bit *w;
    const nb_linear4_kernel *kernel;
    const nb_bnb_loops *loops;
    const float *x; /* prepared */
    const void *bias;
    float *sums; /* [rows]: y itself when that is float */
    void *y;
    nb_float type;
} job;

static bool run_rows(void *context, size_t begin, size_t end)
{
    const job *j = context;
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
    job j = {w, kernel_now(), nb_bnb_loops_now(), room, bias, room + 2 * padded, y, type};
    if (w->columns % w->block != 0) /* blocks cross rows: only plain C follows them */
        j.kernel = &nb_linear4_ref;
    if (type == NB_FLOAT_F32)
        j.sums = y;
    nb_linear4_prepare(nb_bnb_floats(j.loops, x, type, 0, w->columns, room + padded), w->columns, j.kernel->lanes,
                       room);
    nb_bnb_share(team, w->rows, 16, run_rows, &j);
    free(room);
    return NB_OK;
}
