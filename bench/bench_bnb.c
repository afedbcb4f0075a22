/* What bitsandbytes does on a CPU against ours, in one run: its figures come from bnb_peer.py, started first.
 *   bench_bnb [threads] [peer command]     e.g. bench_bnb 2 "python3 bench/bnb_peer.py 2"
 * Each case: seconds (the best of several), bytes that must move, the fraction of the machine's rate of reading or copying
 * as measured just before, and how many times faster than bitsandbytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/team.h"
#include "kernel/ceiling.h"
#include "kernel/linear4.h"
#include "num/half.h"
#include "peer.h"

static nb_team *team;
static size_t values = 4096 * 4096;
static float *x, *y;
static uint8_t *codes;
static float *absmax;

/* ---- ceilings ---- */

static void copy_share(void *context, int member, int members)
{
    (void)context;
    size_t begin, end;
    nb_team_share(values, 4096, member, members, &begin, &end);
    memcpy(y + begin, x + begin, (end - begin) * sizeof *x);
}

static double copy_rate(void)
{
    double best = 1e30;
    for (int i = 0; i < 7; i++) {
        double begin = nb_seconds();
        nb_team_run(team, copy_share, NULL);
        double t = nb_seconds() - begin;
        best = t < best ? t : best;
    }
    return 2.0 * (double)values * sizeof(float) / best;
}

/* ---- cases ---- */

static double best_of(int runs, void (*run)(void *), void *context)
{
    double best = 1e30;
    for (int i = 0; i < runs; i++) {
        double begin = nb_seconds();
        run(context);
        double t = nb_seconds() - begin;
        best = t < best ? t : best;
    }
    return best;
}

static void tell(const char *name, double seconds, double bytes, double rate, const char *of)
{
    double theirs = peer_seconds(name);
    printf("%-28s %9.3f ms  %6.1f GB/s  %3.0f %% of %s", name, seconds * 1e3, bytes / seconds * 1e-9,
           100 * bytes / seconds / rate, of);
    if (theirs > 0)
        printf("   bitsandbytes %9.3f ms: %6.2fx", theirs * 1e3, theirs / seconds);
    printf("\n");
}

typedef struct square {
    size_t n;
    nb_float type;
    double copy;
} square;

static void quantize(void *context)
{
    const square *s = context;
    nb_bnb_quantize_4bit(x, NB_FLOAT_F32, s->n, NB_CODE_NF4, 64, codes, absmax, team, NULL);
}

static void dequantize(void *context)
{
    const square *s = context;
    nb_bnb_dequantize_4bit(codes, absmax, nb_bnb_map4(NB_CODE_NF4), 64, s->n, y, s->type, team, NULL);
}

static void quantize_8(void *context)
{
    const square *s = context;
    nb_bnb_quantize_8bit(x, NB_FLOAT_F32, s->n, nb_bnb_map8(true), 4096, codes, absmax, team, NULL);
}

static void dequantize_8(void *context)
{
    const square *s = context;
    nb_bnb_dequantize_8bit(codes, absmax, nb_bnb_map8(true), 4096, s->n, y, NB_FLOAT_F32, team, NULL);
}

static void bench_square(size_t side, double copy)
{
    char name[64];
    square s = {side * side, NB_FLOAT_F32, copy};
    double n = (double)s.n, packed = n / 2 + n / 16;
    int runs = side > 2048 ? 9 : 200;
    snprintf(name, sizeof name, "quantize nf4 %zu", side);
    tell(name, best_of(runs, quantize, &s), 4 * n + packed, copy, "copy");
    snprintf(name, sizeof name, "dequantize nf4 %zu f32", side);
    tell(name, best_of(runs, dequantize, &s), 4 * n + packed, copy, "copy");
    s.type = NB_FLOAT_BF16;
    snprintf(name, sizeof name, "dequantize nf4 %zu bf16", side);
    tell(name, best_of(runs, dequantize, &s), 2 * n + packed, copy, "copy");
    snprintf(name, sizeof name, "quantize 8bit %zu", side);
    tell(name, best_of(runs, quantize_8, &s), 5 * n, copy, "copy");
    snprintf(name, sizeof name, "dequantize 8bit %zu", side);
    tell(name, best_of(runs, dequantize_8, &s), 5 * n, copy, "copy");
}

typedef struct linear {
    nb_weight_4bit w;
    nb_packed_4bit *packed; /* as bitsandbytes, too, packs a weight once for its kernel */
    const uint16_t *x;
    uint16_t *y;
} linear;

static void run_linear(void *context)
{
    const linear *l = context;
    nb_linear_4bit(&l->w, l->x, NULL, l->y, NB_FLOAT_BF16, team, NULL);
}

static void run_packed(void *context)
{
    const linear *l = context;
    nb_linear_packed_4bit(l->packed, l->x, NULL, l->y, NB_FLOAT_BF16, team, NULL);
}

/* Reading and running by turns, so that what disturbs one disturbs the other; three times each, as the first has other
 * bytes in the caches. */
static void tell_linear(const char *name, void (*run)(void *), linear *l, const void *data, size_t bytes)
{
    double read = 0, seconds = 1e30;
    for (int i = 0; i < 15; i++) {
        for (int k = 0; k < 3; k++) {
            double rate = nb_ceiling_read(team, data, bytes, 1);
            read = rate > read ? rate : read;
        }
        double t = best_of(3, run, l);
        seconds = t < seconds ? t : seconds;
    }
    tell(name, seconds, (double)bytes, read, "read");
}

static void bench_linear(size_t rows, size_t columns)
{
    size_t n = rows * columns, bytes = n / 2 + n / 16;
    uint8_t *packed = nb_pages_alloc(bytes);
    uint16_t *in = malloc(columns * 2), *out = malloc(rows * 2);
    char name[64];
    if (!packed || !in || !out)
        return;
    float *scale = (float *)(void *)(packed + n / 2);
    for (size_t at = 0; at < n; at += values) /* the same random values again and again */
        nb_bnb_quantize_4bit(x, NB_FLOAT_F32, values < n - at ? values : n - at, NB_CODE_NF4, 64, packed + at / 2,
                             scale + at / 64, team, NULL);
    for (size_t i = 0; i < columns; i++)
        in[i] = nb_f32_to_bf16(x[i]);
    linear l = {{packed, scale, nb_bnb_map4(NB_CODE_NF4), rows, columns, 64}, NULL, in, out};
    if (nb_pack_4bit(&l.w, team, &l.packed, NULL) != NB_OK)
        return;
    snprintf(name, sizeof name, "linear nf4 %zux%zu", rows, columns);
    tell_linear(name, run_packed, &l, l.packed->tiles, bytes);
    tell_linear("  the weight as stored", run_linear, &l, packed, bytes);
    printf("  (its kernel for AVX512-BF16 in use: %s)\n", strstr(peer, "\"linear packed\": true") ? "yes" : "no");
    nb_packed_4bit_free(l.packed);
    nb_pages_free(packed, bytes);
    free(in);
    free(out);
}

static void run_step(void *context) { nb_optimizer_step(context, y, x, team, NULL); }

static void bench_optimizer(nb_optimizer_kind kind, const char *name, double state_bytes, double copy)
{
    enum { N = 1 << 22 };
    nb_optimizer *o;
    if (nb_optimizer_new(kind, NULL, N, &o, NULL) != NB_OK)
        return;
    tell(name, best_of(9, run_step, o), N * (12 + 2 * state_bytes), copy, "copy");
    nb_optimizer_free(o);
}

int main(int argc, char **argv)
{
    if (argc > 2)
        ask_peer(argv[2]);
    x = nb_pages_alloc(values * sizeof *x);
    y = nb_pages_alloc(values * sizeof *y);
    codes = nb_pages_alloc(values);
    absmax = malloc(values / 32 * sizeof *absmax);
    if (!x || !y || !codes || !absmax || nb_team_new(argc > 1 ? atoi(argv[1]) : 0, true, &team, NULL) != NB_OK) {
        fprintf(stderr, "bench_bnb: no memory or threads\n");
        return 1;
    }
    uint64_t seed = 88172645463325252u;
    for (size_t i = 0; i < values; i++) {
        float sum = 0; /* nearly normal */
        for (int k = 0; k < 4; k++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            sum += (float)(int32_t)(seed >> 32) * 0x1p-31f;
        }
        x[i] = sum;
    }
    memset(y, 0, values * sizeof *y);
    memset(codes, 0, values);
    double copy = copy_rate();
    printf("%d threads, copy %.1f GB/s (read and written)\n", nb_team_size(team), copy * 1e-9);
    bench_square(512, copy);
    bench_square(1024, copy);
    bench_square(4096, copy);
    bench_linear(8192, 16384);
    bench_optimizer(NB_OPTIMIZER_ADAM, "adam8bit step 4M", 2.03, copy);
    bench_optimizer(NB_OPTIMIZER_LION, "lion8bit step 4M", 1.02, copy);
    nb_team_free(team);
    return 0;
}
