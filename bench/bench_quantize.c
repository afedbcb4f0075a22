/* Quantizers on one thread: values a second and the bytes read and written a second, for each type, level and rounding, with
 * and without weights, on Gaussian-like rows that stay in the cache; beside them, what a copy of such rows moves.
 *   bench_quantize [TYPE] */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "median.h"
#include "quant/quant.h"

enum { COLUMNS = 4096, ROWS = 8, ROUNDS = 5 };

static float x[ROWS * COLUMNS], weight[COLUMNS];
static double out[ROWS * COLUMNS];

/* of this thread's own time: other programs do not count */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds_of(const nb_type_info *type, const float *w, nb_rounding rounding)
{
    double times[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        int repeat = 0;
        double begin = seconds(), now = begin;
        for (; now - begin < 0.02; now = seconds(), repeat++)
            for (int row = 0; row < ROWS; row++) {
                if (type)
                    type->quantize(x + row * COLUMNS, w, COLUMNS, rounding, out);
                else
                    memcpy(out, x + row * COLUMNS, COLUMNS * sizeof *x);
            }
        times[i] = (now - begin) / repeat;
    }
    return median(times, ROUNDS);
}

static void print(const nb_type_info *type)
{
    const double n = (double)ROWS * COLUMNS, bytes = n * (4 + (double)type->block_bytes / type->block_values);
    double near = seconds_of(type, NULL, NB_ROUND_NEAREST), search = seconds_of(type, NULL, NB_ROUND_SEARCH);
    double weighted = seconds_of(type, weight, NB_ROUND_SEARCH);
    printf("%-8s %-7s nearest %7.1f, search %7.1f, with weights %7.1f M weights/s; search %6.2f GB/s\n", type->name,
           nb_cpu_level_name(nb_cpu_current()), n / near * 1e-6, n / search * 1e-6, n / weighted * 1e-6,
           bytes / search * 1e-9);
}

int main(int argc, char **argv)
{
    uint32_t state = 1;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        float sum = 0;
        for (int j = 0; j < 12; j++) {
            state = state * 1664525 + 1013904223;
            sum += (float)(state >> 8) * 0x1p-24f - 0.5f;
        }
        x[i] = sum;
    }
    for (int i = 0; i < COLUMNS; i++)
        weight[i] = 1 + x[i] * x[i] * x[i] * x[i];
    printf("one thread; copy %.2f GB/s\n", 8.0 * ROWS * COLUMNS / seconds_of(NULL, NULL, NB_ROUND_SEARCH) * 1e-9);
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++) {
        const nb_type_info *type = nb_type_get(id);
        if (!type || !type->quantize || (argc > 1 && nb_type_by_name(nb_str_of(argv[1])) != type))
            continue;
        for (int level = NB_CPU_REF; level <= (int)nb_cpu_best(); level++) {
            nb_cpu_set_level((nb_cpu_level)level);
            print(type);
        }
    }
    return 0;
}
