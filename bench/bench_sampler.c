/* bench_sampler - time to choose a token, for several chains and vocabularies, beside the time it takes just to read
 * the logits (the floor of any sampler). Logits look like a language model's: a broad bulk, a few tokens far above. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/sampler.h"
#include "median.h"

enum { ROWS = 8, RUNS = 31 };

static uint64_t state = 88172645463325252u;
static double uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) * 0x1p-53;
}

/* sum of twelve uniforms: nearly normal; `far` tokens in a hundred thousand stand out */
static void fill(float *x, size_t n, double bulk)
{
    for (size_t i = 0; i < n; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++)
            sum += uniform();
        x[i] = (float)(sum * bulk);
    }
    for (int i = 0; i < 30; i++)
        x[(size_t)(uniform() * (double)n)] = (float)(4.5 * bulk + uniform() * 9);
}

typedef uint64_t words __attribute__((vector_size(32)));

/* Eight independent sums, as fast as a core reads. */
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
static uint64_t
read_all(const float *x, size_t n)
{
    words sum[8] = {{0}}, w;
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (int j = 0; j < 8; j++) {
            memcpy(&w, x + i + j * 8, sizeof w);
            sum[j] += w;
        }
    for (int j = 1; j < 8; j++)
        sum[0] += sum[j];
    return sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3];
}

static double read_time(const float *x, size_t n)
{
    double times[RUNS];
    for (int r = -3; r < RUNS; r++) {
        double start = nb_seconds();
        uint64_t sum = read_all(x + n * (size_t)((r + 8) % ROWS), n);
        __asm__ volatile("" : : "r"(sum)); /* the sum is wanted */
        if (r >= 0)
            times[r] = nb_seconds() - start;
    }
    return median(times, RUNS);
}

static double pick_time(const nb_sampler_params *p, const float *x, size_t n)
{
    nb_sampler *s;
    nb_error err;
    if (nb_sampler_new(p, n, NULL, &s, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    for (size_t i = 0; i < 64; i++)
        nb_sampler_accept(s, (int32_t)(uniform() * (double)n));
    double times[RUNS];
    for (int r = -3; r < RUNS; r++) {
        double start = nb_seconds();
        int32_t id = nb_sampler_pick(s, x + n * (size_t)((r + 8) % ROWS));
        if (r >= 0)
            times[r] = nb_seconds() - start;
        nb_sampler_accept(s, id);
    }
    nb_sampler_free(s);
    return median(times, RUNS);
}

int main(void)
{
    static const char *const no_breakers[] = {""};
    nb_sampler_params off = nb_sampler_defaults(), normal = off;
    normal.seed = off.seed = 1;
    off.temperature = 1;
    off.top_k = 0;
    off.top_p = 1;
    off.min_p = 0;
    struct {
        const char *name;
        nb_sampler_params p;
    } chains[] = {{"greedy", normal},     {"default", normal},  {"+ penalties", normal}, {"+ DRY", normal},
                  {"draw alone", off},    {"temperature", off}, {"top-k 1000", off},     {"top-p 0.95", off},
                  {"min-p 0.05", off},    {"top-n-sigma", off}, {"typical 0.9", off},    {"XTC", off},
                  {"dynamic temp.", off}, {"mirostat 1", off},  {"mirostat 2", off}};
    chains[0].p.temperature = 0;
    chains[2].p.repeat_penalty = 1.1f;
    chains[3].p.dry_multiplier = 0.8f;
    chains[3].p.dry_breakers = no_breakers;
    chains[5].p.temperature = 0.8f;
    chains[6].p.top_k = 1000;
    chains[7].p.top_p = 0.95f;
    chains[8].p.min_p = 0.05f;
    chains[9].p.top_n_sigma = 1;
    chains[10].p.typical_p = 0.9f;
    chains[11].p.xtc_probability = 1;
    chains[12].p.dynatemp_range = 0.5f;
    chains[13].p.mirostat = 1;
    chains[14].p.mirostat = 2;
    static const size_t vocabularies[] = {32000, 49152, 151936, 262144};
    static const struct {
        const char *name;
        double bulk;
    } shapes[] = {{"peaked", 2.5}, {"flat", 0.5}};
    size_t most = vocabularies[3];
    float *x = malloc(most * ROWS * sizeof *x);
    if (!x)
        return 1;
    for (size_t h = 0; h < 2; h++) {
        printf("%s: microseconds a token (times the memory read)\n%-16s", shapes[h].name, "vocabulary");
        double floors[4];
        for (size_t v = 0; v < 4; v++)
            printf("%16zu", vocabularies[v]);
        for (size_t i = 0; i < ROWS; i++)
            fill(x + i * most, most, shapes[h].bulk);
        printf("\n%-16s", "memory read");
        for (size_t v = 0; v < 4; v++)
            printf("%16.1f", 1e6 * (floors[v] = read_time(x, vocabularies[v])));
        for (size_t c = 0; c < sizeof chains / sizeof *chains; c++) {
            printf("\n%-16s", chains[c].name);
            for (size_t v = 0; v < 4; v++) {
                double t = pick_time(&chains[c].p, x, vocabularies[v]);
                printf("%9.1f (%4.1f)", 1e6 * t, t / floors[v]);
            }
        }
        printf("\n\n");
    }
    free(x);
    return 0;
}
