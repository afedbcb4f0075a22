/* The steps of vec.h on rows that stay in the first cache: time a value, and bytes read and written against the rate at
 * which this core adds two such rows. For exponentials, what the machine's float32 peak would do in that time is told too.
 *   bench_vec [values a row] */
#include "kernel/vec.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "kernel/ceiling.h"
#include "median.h"

#define ROWS_MOST 16384

static float x[ROWS_MOST], w[ROWS_MOST], y[ROWS_MOST], turns[64];
static size_t n = 1536;
static float result;

static void run_rmsnorm(void) { nb_vec_rmsnorm(x, w, n, 1e-5f, y); }
static void run_layernorm(void) { nb_vec_layernorm(x, w, w, n, 1e-5f, y); }
static void run_silu_mul(void) { nb_vec_silu_mul(x, w, n, y); }
static void run_gelu_tanh_mul(void) { nb_vec_gelu_tanh_mul(x, w, n, y); }
static void run_gelu_erf_mul(void) { nb_vec_gelu_erf_mul(x, w, n, y); }
static void run_relu_mul(void) { nb_vec_relu_mul(x, w, n, y); }
static void run_relu2_mul(void) { nb_vec_relu2_mul(x, w, n, y); }
static void run_xielu(void)
{
    static const float parameters[] = {0.8f, 0.8f, 0.5f, -1e-6f};
    nb_vec_xielu(x, parameters, n, y);
}
static void run_clamped_mul(void) { nb_vec_clamped_mul(x, w, n, y); }
static void run_add(void) { nb_vec_add_scaled(x, w, 1, n, y); }
static void run_scale(void) { nb_vec_scale(x, 0.5f, n, y); }
static void run_softcap(void) { nb_vec_softcap(x, 30.0f, n, y); }
static void run_dot(void) { result += nb_vec_dot(x, w, n); }
static void run_max(void) { result += nb_vec_max(x, n); }
static void run_exp_sum(void) { result += nb_vec_exp_sum(x, 1.0f, n, y); }
static void run_rope(void)
{
    for (size_t head = 0; head + 64 <= n; head += 64)
        nb_vec_rope(y + head, turns, 64, 1);
}

typedef struct row {
    const char *name;
    void (*run)(void);
    int streams; /* rows read and written */
} row;

static const row rows[] = {{"add", run_add, 3},
                           {"scale", run_scale, 2},
                           {"relu_mul", run_relu_mul, 3},
                           {"relu2_mul", run_relu2_mul, 3},
                           {"xielu", run_xielu, 2},
                           {"rmsnorm", run_rmsnorm, 4},
                           {"layernorm", run_layernorm, 6},
                           {"silu_mul", run_silu_mul, 3},
                           {"gelu_tanh_mul", run_gelu_tanh_mul, 3},
                           {"gelu_erf_mul", run_gelu_erf_mul, 3},
                           {"clamped_mul", run_clamped_mul, 3},
                           {"softcap", run_softcap, 2},
                           {"dot", run_dot, 2},
                           {"max", run_max, 1},
                           {"exp_sum", run_exp_sum, 2},
                           {"rope", run_rope, 2}};

static double seconds_of(void (*run)(void))
{
    double times[9];
    size_t repeat = 4000000 / n + 1;
    for (int i = 0; i < 9; i++) {
        double begin = nb_seconds();
        for (size_t r = 0; r < repeat; r++)
            run();
        times[i] = (nb_seconds() - begin) / (double)repeat;
    }
    return median(times, 9);
}

int main(int argc, char **argv)
{
    nb_team *team;
    if (argc > 1)
        n = strtoul(argv[1], NULL, 10);
    if (n < 64 || n > ROWS_MOST || nb_team_new(1, false, &team, NULL) != NB_OK) {
        fprintf(stderr, "bench_vec: give 64 to %d values\n", ROWS_MOST);
        return 1;
    }
    for (size_t i = 0; i < ROWS_MOST; i++) {
        x[i] = (float)(i * 2654435761u % 8001) / 1000.0f - 4.0f;
        w[i] = (float)(i * 2246822519u % 2001) / 1000.0f - 1.0f;
    }
    for (int i = 0; i < 32; i++) {
        turns[2 * i] = cosf((float)i);
        turns[2 * i + 1] = sinf((float)i);
    }
    double flops = nb_ceiling_f32(team, nb_cpu_current()), rate = 3.0 * sizeof(float) * (double)n / seconds_of(run_add);
    printf("level %s, 1 thread, %zu values; float32 peak %.1f GFLOP/s; add moves %.0f GB/s\n",
           nb_cpu_level_name(nb_cpu_current()), n, flops * 1e-9, rate * 1e-9);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double seconds = seconds_of(rows[i].run), bytes = (double)rows[i].streams * sizeof(float) * (double)n;
        printf("%-14s %6.3f ns a value, %6.1f GB/s, %5.1f %% of add's rate, %5.1f multiply-adds' time a value\n",
               rows[i].name, seconds / (double)n * 1e9, bytes / seconds * 1e-9, 100 * bytes / seconds / rate,
               seconds * flops / 2 / (double)n);
    }
    nb_team_free(team);
    return result == 12345.0f;
}
