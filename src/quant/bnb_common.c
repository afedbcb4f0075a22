/* What bitsandbytes' functions share: levels, float types, arguments, threads. */
#include "quant/bnb.h"

#include <math.h>
#include <stdatomic.h>

#include "base/cpu.h"
#include "num/half.h"

const nb_bnb_loops *nb_bnb_loops_now(void)
{
    static const nb_bnb_loops *const levels[NB_CPU_LEVELS] = {
        [NB_CPU_REF] = &nb_bnb_loops_ref,
#if defined(__x86_64__)
        [NB_CPU_AVX2] = &nb_bnb_loops_avx2,
        [NB_CPU_FMA] = &nb_bnb_loops_avx2, /* nothing here multiplies and adds */
        [NB_CPU_AVX512] = &nb_bnb_loops_avx512,
#endif
    };
    nb_cpu_level level = nb_cpu_current();
    while (!levels[level]) /* a level that has no file of its own takes the one below */
        level--;
    return levels[level];
}

const float *nb_bnb_floats(const nb_bnb_loops *l, const void *x, nb_float type, size_t at, size_t n, float *room)
{
    if (type == NB_FLOAT_F32)
        return (const float *)x + at;
    l->widen((const uint16_t *)x + at, type == NB_FLOAT_BF16, room, n);
    return room;
}

float *nb_bnb_target(void *y, nb_float type, size_t at, float *room)
{
    return type == NB_FLOAT_F32 ? (float *)y + at : room;
}

void nb_bnb_store(const nb_bnb_loops *l, const float *room, void *y, nb_float type, size_t at, size_t n)
{
    if (type != NB_FLOAT_F32)
        l->narrow(room, type == NB_FLOAT_BF16, (uint16_t *)y + at, n);
}

nb_status nb_bnb_check_type(nb_float type, nb_error *err)
{
    if (type == NB_FLOAT_F32 || type == NB_FLOAT_F16 || type == NB_FLOAT_BF16)
        return NB_OK;
    return nb_fail(err, NB_ERR_ARGUMENT, "%d is not a float type; give NB_FLOAT_F32, NB_FLOAT_F16 or NB_FLOAT_BF16",
                   (int)type);
}

nb_status nb_bnb_check_block(size_t block, size_t least, nb_error *err)
{
    if (block >= least && block <= NB_BNB_BLOCK_MOST && (block & (block - 1)) == 0)
        return NB_OK;
    return nb_fail(err, NB_ERR_ARGUMENT, "blocks of %zu values do not exist; give a power of two from %zu to %d", block,
                   least, NB_BNB_BLOCK_MOST);
}

nb_status nb_bnb_check_map(const float *map, nb_error *err)
{
    for (int i = 0; i < 256; i++)
        if (!isfinite(map[i]) || (i && !(map[i - 1] <= map[i])))
            return nb_fail(err, NB_ERR_ARGUMENT, "entry %d of the map is %g: give 256 finite values in ascending order",
                           i, (double)map[i]);
    return NB_OK;
}

nb_status nb_bnb_fail_not_finite(const void *x, nb_float type, size_t n, nb_error *err)
{
    size_t i = 0;
    float v = 0;
    for (; i < n; i++) {
        v = nb_float_at(x, type, i);
        if (!isfinite(v))
            break;
    }
    return nb_fail(err, NB_ERR_ARGUMENT, "value %zu is %g: only finite values can be quantized", i, (double)v);
}

/* ---- sharing out ---- */

typedef struct sharing {
    nb_bnb_work *work;
    void *context;
    size_t items, grain;
    atomic_bool failed;
} sharing;

static void run_share(void *context, int member, int members)
{
    sharing *s = context;
    size_t begin, end;
    nb_team_share(s->items, s->grain, member, members, &begin, &end);
    if (begin < end && !s->work(s->context, begin, end))
        atomic_store(&s->failed, true);
}

bool nb_bnb_share(nb_team *team, size_t items, size_t grain, nb_bnb_work *work, void *context)
{
    if (items == 0)
        return true;
    if (!team || nb_team_size(team) == 1 || items <= grain)
        return work(context, 0, items);
    sharing s = {.work = work, .context = context, .items = items, .grain = grain};
    nb_team_run(team, run_share, &s);
    return !atomic_load(&s.failed);
}
