/* Speed of the matrix product, each figure beside the machine's ceiling measured in the same moment: repetitions of
 * the two alternate, and the fraction is the median of the paired ratios.
 *     bench_matmul [-t THREADS] [--type NAME] [--level ref|avx2|fma|avx512] [--quick] [--json]
 * gemm: 512 tokens, quantization of the activations and unpacking of the weights included; ceiling: 8-bit dot products
 * (float types: fma) from registers. exact: the same in float32 from the file's layout. gemv: 1, 2, 4 and 8 tokens;
 * ceiling: reading the same bytes. pack: one thread; ceiling: memcpy. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "kernel/ceiling.h"
#include "kernel/matmul.h"
#include "median.h"

enum { REPEATS = 9, TOKENS = 512, THREADS_MAX = 256 };

static nb_team *team;
static int threads;
static bool json, first_line = true;

static double timed(nb_team_fn *fn, void *context, int times)
{
    double start = nb_seconds();
    for (int i = 0; i < times; i++)
        nb_team_run(team, fn, context);
    return (nb_seconds() - start) / times;
}

/* ---- the product ---- */

typedef struct work {
    nb_matmul m;
    const float *x;
    void *act;
    void *scratch[THREADS_MAX];
    size_t packed, act_bytes, scratch_bytes, x_bytes, y_bytes;
    bool out_of_memory;
} work;

static void multiply(void *context, int member, int members)
{
    work *w = context;
    nb_matmul m = w->m;
    m.scratch = w->scratch[member];
    size_t begin, end;
    nb_team_share(nb_act_panels(m.n_tokens), 1, member, members, &begin, &end);
    nb_act_write(m.format, w->x, m.k, m.n_tokens, m.k, begin, end, 0, m.k, w->act);
    nb_team_barrier(team);
    nb_team_share(m.rows, NB_TILE_ROWS, member, members, &begin, &end);
    nb_matmul_run(&m, begin, end);
}

static void *pages(work *w, size_t n)
{
    void *p = nb_pages_alloc(n);
    if (!p)
        w->out_of_memory = true;
    else
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)p)[i] = (uint8_t)(i * 2654435761u >> 13 & 0x3f); /* no infinities in any type */
    return p;
}

static bool setup(work *w, nb_type type, nb_act_format format, size_t rows, size_t k, size_t n_tokens)
{
    *w = (work){.m = {.type = type, .packed = true, .rows = rows, .k = k, .n_tokens = n_tokens, .y_stride = rows}};
    w->m.format = format;
    if (!nb_packed_bytes(type, rows, k, &w->packed))
        return false;
    w->act_bytes = nb_act_bytes(w->m.format, k, n_tokens);
    w->scratch_bytes = nb_matmul_scratch(type, w->m.format, k, n_tokens) + 64;
    w->x_bytes = n_tokens * k * sizeof(float);
    w->y_bytes = n_tokens * rows * sizeof(float);
    w->m.weights = pages(w, w->packed);
    w->m.act = w->act = pages(w, w->act_bytes);
    float *x = pages(w, w->x_bytes);
    for (size_t i = 0; x && i < n_tokens * k; i++)
        x[i] = (float)(i * 7919 % 1001) * 0.002f - 1;
    w->x = x;
    w->m.y = pages(w, w->y_bytes);
    for (int i = 0; i < threads; i++)
        w->scratch[i] = pages(w, w->scratch_bytes);
    return !w->out_of_memory;
}

static void release(work *w)
{
    nb_pages_free((void *)(uintptr_t)w->m.weights, w->packed);
    nb_pages_free(w->act, w->act_bytes);
    nb_pages_free((void *)(uintptr_t)w->x, w->x_bytes);
    nb_pages_free(w->m.y, w->y_bytes);
    for (int i = 0; i < threads; i++)
        nb_pages_free(w->scratch[i], w->scratch_bytes);
}

static void print(const char *kind, nb_type type, size_t rows, size_t k, size_t n, double value, const char *unit,
                  double ceiling, double fraction)
{
    const char *name = nb_type_get(type)->name;
    if (json)
        printf(
            "%s{\"kind\":\"%s\",\"type\":\"%s\",\"rows\":%zu,\"k\":%zu,\"tokens\":%zu,\"value\":%.4g,\"unit\":\"%s\","
            "\"ceiling\":%.4g,\"fraction\":%.4g}",
            first_line ? "" : ",\n", kind, name, rows, k, n, value, unit, ceiling, fraction);
    else
        printf("%-5s %-5s %7zu x %5zu x %3zu %8.1f %-6s ceiling %7.1f  %5.1f %%\n", kind, name, rows, k, n, value, unit,
               ceiling, fraction * 100);
    first_line = false;
    fflush(stdout);
}

static double (*ceiling_of(nb_act_format format))(nb_team *, nb_cpu_level)
{
    return format == NB_ACT_F32 ? nb_ceiling_f32 : format == NB_ACT_BF16 ? nb_ceiling_bf16 : nb_ceiling_int8;
}

static void bench_gemm(nb_type type, nb_act_format format, size_t rows, size_t k, size_t n_tokens)
{
    work w;
    bool exact = format != nb_matmul_act_format(type, k);
    if (setup(&w, type, format, rows, k, n_tokens)) {
        w.m.packed = !exact; /* any bytes are a matrix in the file's layout too */
        double operations = 2.0 * (double)rows * (double)k * (double)n_tokens, rate[REPEATS], top[REPEATS],
               part[REPEATS];
        int times = (int)(20e-3 / (operations / 3e11)) + 1;
        timed(multiply, &w, 1);
        for (int i = 0; i < REPEATS; i++) {
            top[i] = ceiling_of(format)(team, nb_cpu_best()) * 1e-9;
            rate[i] = operations / timed(multiply, &w, times) * 1e-9;
            part[i] = top[i] > 0 ? rate[i] / top[i] : 0;
        }
        print(exact ? "exact" : "gemm", type, rows, k, n_tokens, median(rate, REPEATS), "GOP/s", median(top, REPEATS),
              median(part, REPEATS));
    }
    release(&w);
}

static void bench_gemv(nb_type type, size_t total, size_t k, size_t n_tokens)
{
    work w;
    size_t row;
    nb_type_row_bytes(nb_type_get(type), k, &row);
    size_t rows = total / row / 32 * 32;
    if (setup(&w, type, nb_matmul_act_format(type, k), rows, k, n_tokens)) {
        double rate[REPEATS], top[REPEATS], part[REPEATS];
        int times = (int)(60e6 / (double)w.packed) + 1;
        timed(multiply, &w, 1);
        for (int i = 0; i < REPEATS; i++) {
            top[i] = nb_ceiling_read(team, w.m.weights, w.packed, times) * 1e-9;
            rate[i] = (double)w.packed / timed(multiply, &w, times) * 1e-9;
            part[i] = rate[i] / top[i];
        }
        print("gemv", type, rows, k, n_tokens, median(rate, REPEATS), "GB/s", median(top, REPEATS),
              median(part, REPEATS));
    }
    release(&w);
}

static void bench_pack(nb_type type, size_t rows, size_t k)
{
    work w;
    if (setup(&w, type, nb_matmul_act_format(type, k), rows, k, 1)) {
        uint8_t *out = pages(&w, w.packed);
        double rate[REPEATS], top[REPEATS], part[REPEATS];
        for (int i = 0; out && i < REPEATS; i++) {
            double start = nb_seconds();
            memcpy(out, w.m.weights, w.packed);
            top[i] = (double)w.packed / (nb_seconds() - start) * 1e-9;
            start = nb_seconds();
            nb_pack(type, w.m.weights, rows, k, out, 0, rows / NB_TILE_ROWS);
            rate[i] = (double)w.packed / (nb_seconds() - start) * 1e-9;
            part[i] = rate[i] / top[i];
        }
        print("pack", type, rows, k, 0, median(rate, REPEATS), "GB/s", median(top, REPEATS), median(part, REPEATS));
        nb_pages_free(out, w.packed);
    }
    release(&w);
}

static void bench_type(nb_type type, bool quick)
{
    static const size_t shapes[][2] = {{1536, 1536}, {576, 1536}, {576, 576},   {1536, 576},
                                       {2048, 640},  {640, 2048}, {8960, 1536}, {1536, 8960}};
    nb_act_format format = nb_matmul_act_format(type, 1536);
    size_t n = quick ? 2 : sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < n; i++)
        if (nb_matmul_packs(type, shapes[i][0], shapes[i][1]))
            bench_gemm(type, format, shapes[i][0], shapes[i][1], TOKENS);
    for (size_t tokens = 16; tokens <= 64 && !quick; tokens *= 4)
        bench_gemm(type, format, 1536, 1536, tokens);
    if (format != NB_ACT_F32)
        bench_gemm(type, NB_ACT_F32, 1536, 1536, TOKENS);
    for (size_t tokens = 1; tokens <= (quick ? 1 : 8); tokens *= 2)
        bench_gemv(type, 8 << 20, 1536, tokens);
    for (size_t tokens = 1; tokens <= (quick ? 1 : 8); tokens *= 2)
        bench_gemv(type, 224 << 20, 1536, tokens);
    bench_pack(type, 16384, 1536);
}

static bool set_level(const char *name)
{
    for (int i = 0; i < NB_CPU_LEVELS; i++)
        if (strcmp(name, nb_cpu_level_name((nb_cpu_level)i)) == 0) {
            nb_cpu_set_level((nb_cpu_level)i);
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    const nb_type_info *only = NULL;
    bool quick = false, good = true;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "-t") == 0 && more)
            good = (threads = atoi(argv[++i])) >= 1 && threads <= THREADS_MAX && good;
        else if (strcmp(argv[i], "--type") == 0 && more)
            good = (only = nb_type_by_name(nb_str_of(argv[++i]))) != NULL && good;
        else if (strcmp(argv[i], "--level") == 0 && more)
            good = set_level(argv[++i]) && good;
        else
            good = false;
    }
    nb_error err;
    if (!good) {
        fprintf(stderr, "usage: bench_matmul [-t THREADS] [--type NAME] [--level NAME] [--quick] [--json]\n");
        return 2;
    }
    if (nb_team_new(threads, true, &team, &err) != NB_OK) {
        fprintf(stderr, "bench_matmul: %s\n", err.message);
        return 1;
    }
    threads = nb_team_size(team);
    if (json)
        printf("[\n");
    else
        printf("%s, %d threads, level %s\n", nb_cpu_model(), threads, nb_cpu_level_name(nb_cpu_current()));
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++)
        if (nb_type_get(id) && nb_matmul_packs((nb_type)id, 16, 256) && (!only || only->id == id))
            bench_type((nb_type)id, quick);
    if (json)
        printf("\n]\n");
    nb_team_free(team);
    return 0;
}
