/* Attention over plain arrays and over a cache, against PyTorch and the machine, in one run: PyTorch's figures come from
 * attention_peer.py, started first.
 *   bench_flash [threads] [peer command]     e.g. bench_flash 2 "python3 bench/attention_peer.py 2"
 *   bench_flash [threads] decode             decode alone
 * Forward: operations a second (2 a multiply-add; causal: half of them) and their share of the float32 or, for BF16, bfloat16
 * peak. Backward: the same, 5 products of the forward's size, of which it makes two. Decode: the cache's bytes against the rate of reading, or, with 8 query heads a kv head, operations. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/team.h"
#include "kernel/ceiling.h"
#include "num/half.h"
#include "peer.h"

static nb_team *team;

static void *numbers(size_t n, nb_float type)
{
    float *x = nb_pages_alloc(n * sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        float y = (float)((i * 2654435761u >> 8) % 4001) / 1000 - 2;
        if (type == NB_FLOAT_F32)
            x[i] = y;
        else
            ((uint16_t *)x)[i] = nb_f32_to_bf16(y);
    }
    return x;
}

typedef struct arrays {
    nb_attention_params p;
    size_t values;
    void *q, *k, *v;
    float *out;
} arrays;

static arrays arrays_new(nb_float type, size_t dim, size_t length)
{
    size_t heads = dim == 256 ? 4 : 8;
    arrays a = {.p = nb_attention_defaults(heads, heads, dim, length, length), .values = heads * length * dim};
    a.p.type = type;
    a.p.q = a.p.k = a.p.v = a.p.out = (nb_attention_stride){a.values, length * dim, dim}; /* as PyTorch's tensors lie */
    a.q = numbers(a.values, type);
    a.k = numbers(a.values, type);
    a.v = numbers(a.values, type);
    a.out = numbers(a.values, NB_FLOAT_F32);
    return a;
}

static void arrays_free(arrays *a)
{
    void *all[] = {a->q, a->k, a->v, a->out};
    for (int i = 0; i < 4; i++)
        nb_pages_free(all[i], a->values * sizeof(float));
}

typedef enum form { FLASH, STANDARD } form;

static double seconds_of(const arrays *a, form how, nb_attention_stats *stats)
{
    double best = 1e30;
    for (double spent = 0, runs = 0; runs < 2 || (spent < 0.5 && runs < 30); runs++) {
        double begin = nb_seconds();
        nb_status status = how == FLASH ? nb_attention_flash(&a->p, a->q, a->k, a->v, a->out, NULL, stats, team, NULL)
                                        : nb_attention_standard(&a->p, a->q, a->k, a->v, a->out, NULL, NULL, NULL,
                                                                stats, team, NULL);
        double t = nb_seconds() - begin;
        if (status != NB_OK)
            return 0;
        best = t < best ? t : best;
        spent += t;
    }
    return best;
}

static void bench_forward(nb_float type, size_t dim, size_t length, bool causal)
{
    const char *name = type == NB_FLOAT_F32 ? "f32" : "bf16";
    arrays a = arrays_new(type, dim, length);
    nb_attention_stats stats;
    char key[64];
    a.p.causal = causal;
    nb_cpu_level level = nb_cpu_current();
    double peak = type == NB_FLOAT_F32 ? nb_ceiling_f32(team, level) : nb_ceiling_bf16(team, level);
    double t = seconds_of(&a, FLASH, &stats), ops = 4.0 * (double)(a.values * length) * (causal ? 0.5 : 1);
    snprintf(key, sizeof key, "%s %zu %zu %s", name, dim, length, causal ? "causal" : "dense");
    double theirs = peer_seconds(key);
    printf("%-24s %10.2f ms %8.1f GF/s", key, t * 1e3, ops / t / 1e9);
    peak > 0 ? printf("  %5.1f %% of %.0f", 100 * ops / t / peak, peak / 1e9) : printf("  no peak");
    theirs > 0 ? printf("  PyTorch %10.2f ms  %.2fx", theirs * 1e3, theirs / t) : 0;
    printf("  scratch %.1f MB\n", (double)stats.scratch_bytes / 1e6);
    fflush(stdout);
    arrays_free(&a);
}

/* dq, dk and dv of a forward pass that is done */
static void bench_backward(size_t dim, size_t length, bool causal)
{
    arrays a = arrays_new(NB_FLOAT_F32, dim, length);
    a.p.causal = causal;
    float *lse = malloc(a.p.heads * length * sizeof *lse), *grads[4];
    for (int i = 0; i < 4; i++)
        grads[i] = numbers(a.values, NB_FLOAT_F32);
    nb_attention_flash(&a.p, a.q, a.k, a.v, a.out, lse, NULL, team, NULL);
    double best = 1e30, ops = 10.0 * (double)(a.values * length) * (causal ? 0.5 : 1);
    for (double spent = 0, runs = 0; runs < 2 || (spent < 0.5 && runs < 30); runs++) {
        double begin = nb_seconds(), t;
        nb_attention_flash_backward(&a.p, a.q, a.k, a.v, a.out, lse, grads[0], grads[1], grads[2], grads[3], NULL, team,
                                    NULL);
        t = nb_seconds() - begin;
        best = t < best ? t : best;
        spent += t;
    }
    char key[64];
    snprintf(key, sizeof key, "f32 backward %zu %zu %s", dim, length, causal ? "causal" : "dense");
    double theirs = peer_seconds(key), peak = nb_ceiling_f32(team, nb_cpu_current());
    printf("%-30s %10.2f ms %8.1f GF/s  %5.1f %% of %.0f", key, best * 1e3, ops / best / 1e9, 100 * ops / best / peak,
           peak / 1e9);
    theirs > 0 ? printf("  PyTorch %10.2f ms  %.2fx\n", theirs * 1e3, theirs / best) : printf("\n");
    fflush(stdout);
    for (int i = 0; i < 4; i++)
        nb_pages_free(grads[i], a.values * sizeof(float));
    free(lse);
    arrays_free(&a);
}

/* The exponent of times that grow as a power of the length: the slope of a straight line through their logarithms. */
static double exponent_of(const double *lengths, const double *times, int n)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    for (int i = 0; i < n; i++) {
        double a = log2(lengths[i]), b = log2(times[i]);
        x += a;
        y += b;
        xx += a * a;
        xy += a * b;
    }
    return (n * xy - x * y) / (n * xx - x * x);
}

/* Time and memory against the length: standard, flash, and a window, whose time must be a straight line. */
static void bench_lengths(void)
{
    double lengths[6], dense[6], windows[6];
    int n = 0;
    printf("\nlength      standard        memory         flash        memory    window 256     tiles\n");
    for (size_t length = 512; length <= 16384; length *= 2) {
        arrays a = arrays_new(NB_FLOAT_F32, 64, length);
        nb_attention_stats s = {0}, f, w;
        double standard = length <= 8192 ? seconds_of(&a, STANDARD, &s) : 0, flash = seconds_of(&a, FLASH, &f);
        a.p.causal = true;
        a.p.left = 255;
        double window = seconds_of(&a, FLASH, &w);
        printf("%6zu  %9.2f ms  %9.1f MB  %9.2f ms  %9.1f MB  %9.2f ms  %8llu\n", length, standard * 1e3,
               (double)s.scratch_bytes / 1e6, flash * 1e3, (double)f.scratch_bytes / 1e6, window * 1e3,
               (unsigned long long)w.tiles_visited);
        fflush(stdout);
        arrays_free(&a);
        lengths[n] = (double)length;
        dense[n] = flash;
        windows[n++] = window;
    }
    printf("time grows as length^%.2f dense, length^%.2f in a window (lengths from 1024 on, beyond the window)\n",
           exponent_of(lengths + 1, dense + 1, n - 1), exponent_of(lengths + 1, windows + 1, n - 1));
}

#define CACHE_BYTES ((size_t)256 << 20)

static void bench_decode(const char *type, size_t group)
{
    size_t kv_heads = 8, dim = 128, row = kv_heads * dim;
    nb_kv_cache *probe, *cache;
    if (nb_kv_cache_new(type, kv_heads, dim, dim, 64, &probe, NULL) != NB_OK)
        return;
    float *k = numbers(64 * row, NB_FLOAT_F32), *q = numbers(group * row, NB_FLOAT_F32), *out = malloc(group * row * 4);
    nb_kv_cache_append(probe, k, k, 64, NULL);
    size_t length = CACHE_BYTES / nb_kv_cache_bytes(probe) * 64;
    nb_kv_cache_free(probe);
    if (nb_kv_cache_new(type, kv_heads, dim, dim, length, &cache, NULL) != NB_OK)
        return;
    for (size_t i = 0; i < length; i += 64)
        nb_kv_cache_append(cache, k, k, 64, NULL);
    nb_attention_params p = nb_attention_defaults(kv_heads * group, kv_heads, dim, 1, length);
    double best = 1e30, read = 0, bytes = (double)nb_kv_cache_bytes(cache), ops = 4.0 * (double)(group * row * length);
    char *data = nb_pages_alloc(CACHE_BYTES);
    memset(data, 1, CACHE_BYTES);
    for (int i = 0; i < 7; i++) { /* in turns, so that both see the same minutes */
        double begin = nb_seconds(), rate = nb_ceiling_read(team, data, CACHE_BYTES, 1), t;
        begin = nb_seconds();
        nb_attention_decode(cache, &p, q, out, NULL, team, NULL);
        t = nb_seconds() - begin;
        best = t < best ? t : best;
        read = rate > read ? rate : read;
    }
    double peak = nb_ceiling_f32(team, nb_cpu_current());
    printf("decode %-5s %zu to 1  %8.2f ms  %6.1f GB/s  %5.1f %% of reading %.1f  %7.1f GF/s  %5.1f %% of %.0f\n", type,
           group, best * 1e3, bytes / best / 1e9, 100 * bytes / best / read, read / 1e9, ops / best / 1e9,
           100 * ops / best / peak, peak / 1e9);
    fflush(stdout);
    nb_kv_cache_free(cache);
    nb_pages_free(data, CACHE_BYTES);
    nb_pages_free(k, 64 * row * sizeof *k);
    nb_pages_free(q, group * row * sizeof *q);
    free(out);
}

static void bench_arrays(void)
{
    static const size_t dims[] = {64, 128, 256};
    for (int type = 0; type < 2; type++)
        for (int d = 0; d < 3; d++)
            for (size_t length = 512; length <= 16384; length *= length == 2048 ? 8 : 4)
                for (int causal = 0; causal < 2; causal++)
                    bench_forward(type ? NB_FLOAT_BF16 : NB_FLOAT_F32, dims[d], length, causal);
    for (int d = 0; d < 2; d++)
        for (size_t length = 512; length <= 2048; length *= 4)
            for (int causal = 0; causal < 2; causal++)
                bench_backward(dims[d], length, causal);
    bench_lengths();
    printf("\n");
}

int main(int argc, char **argv)
{
    nb_error err;
    if (nb_team_new(argc > 1 ? atoi(argv[1]) : 0, true, &team, &err) != NB_OK) {
        fprintf(stderr, "bench_flash: %s\n", err.message);
        return 1;
    }
    bool only_decode = argc > 2 && strcmp(argv[2], "decode") == 0;
    if (argc > 2 && !only_decode)
        ask_peer(argv[2]);
    if (!only_decode)
        bench_arrays();
    static const size_t groups[] = {1, 2, 4, 8};
    static const char *const types[] = {"f16", "bf16", "q8_0", "q4_0"};
    for (int t = 0; t < 4; t++)
        for (int g = 0; g < 4; g++)
            bench_decode(types[t], groups[g]);
    nb_team_free(team);
    return 0;
}
