/* ceiling.h - what this machine can do at most, measured in the run that reports fractions of it: float32 multiply-adds
 * and read bandwidth of a whole team; and a clock. */
#ifndef NB_BENCH_CEILING_H
#define NB_BENCH_CEILING_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/cpu.h"
#include "base/mem.h"
#include "base/team.h"

static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- float32: twelve independent chains of multiply-adds; operations done in `rounds` rounds ---- */

#define CEILING_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#if defined(__x86_64__)
__attribute__((target("avx512f"), noinline, unused)) static double flops_avx512(uint64_t rounds)
{
    __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
#define X(i) __m512 s##i = _mm512_set1_ps(1e-3f * (i + 1));
    CEILING_CHAINS(X)
#undef X
    for (uint64_t r = 0; r < rounds; r++) {
#define X(i) s##i = _mm512_fmadd_ps(s##i, a, b);
        CEILING_CHAINS(X)
#undef X
        __asm__ volatile("" ::: "memory");
    }
#define X(i) a = _mm512_add_ps(a, s##i);
    CEILING_CHAINS(X)
#undef X
    float out[16];
    _mm512_storeu_ps(out, a);
    return out[0] > 0 ? (double)rounds * 12 * 32 : 0;
}

__attribute__((target("avx2,fma"), noinline, unused)) static double flops_fma(uint64_t rounds)
{
    __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
#define X(i) __m256 s##i = _mm256_set1_ps(1e-3f * (i + 1));
    CEILING_CHAINS(X)
#undef X
    for (uint64_t r = 0; r < rounds; r++) {
#define X(i) s##i = _mm256_fmadd_ps(s##i, a, b);
        CEILING_CHAINS(X)
#undef X
        __asm__ volatile("" ::: "memory");
    }
#define X(i) a = _mm256_add_ps(a, s##i);
    CEILING_CHAINS(X)
#undef X
    float out[8];
    _mm256_storeu_ps(out, a);
    return out[0] > 0 ? (double)rounds * 12 * 16 : 0;
}
#endif

typedef float ceiling_v4 __attribute__((vector_size(16)));
static inline double flops_plain(uint64_t rounds)
{
    ceiling_v4 a = {0.999f, 0.999f, 0.999f, 0.999f}, b = {1e-3f, 1e-3f, 1e-3f, 1e-3f};
#define X(i) ceiling_v4 s##i = b * (float)(i + 1);
    CEILING_CHAINS(X)
#undef X
    for (uint64_t r = 0; r < rounds; r++) {
#define X(i) s##i = s##i * a + b;
        CEILING_CHAINS(X)
#undef X
        __asm__ volatile("" ::: "memory");
    }
#define X(i) a = a + s##i;
    CEILING_CHAINS(X)
#undef X
    return a[0] > 0 ? (double)rounds * 12 * 8 : 0;
}

static inline double flops_some(uint64_t rounds)
{
#if defined(__x86_64__)
    if (nb_cpu_current() == NB_CPU_AVX512)
        return flops_avx512(rounds);
    if (nb_cpu_current() >= NB_CPU_AVX2 && nb_cpu_best() >= NB_CPU_FMA)
        return flops_fma(rounds);
#endif
    return flops_plain(rounds);
}

typedef struct ceiling_run {
    const uint64_t *words;
    size_t n;
    double flops[256];
    uint64_t sums[256];
} ceiling_run;

static inline void ceiling_flops_member(void *context, int member, int members)
{
    (void)members;
    ((ceiling_run *)context)->flops[member] = flops_some(2000000);
}

/* float32 operations a second of the whole team, best of five */
static inline double ceiling_flops(nb_team *team)
{
    static ceiling_run run;
    double best = 0;
    for (int i = 0; i < 5; i++) {
        double begin = now_s(), done = 0;
        nb_team_run(team, ceiling_flops_member, &run);
        double seconds = now_s() - begin;
        for (int m = 0; m < nb_team_size(team); m++)
            done += run.flops[m];
        best = done / seconds > best ? done / seconds : best;
    }
    return best;
}

static inline void ceiling_read_member(void *context, int member, int members)
{
    ceiling_run *run = context;
    size_t begin, end;
    nb_team_share(run->n, 8, member, members, &begin, &end);
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = begin; i < end; i += 8) {
        a += run->words[i] + run->words[i + 1];
        b += run->words[i + 2] + run->words[i + 3];
        c += run->words[i + 4] + run->words[i + 5];
        d += run->words[i + 6] + run->words[i + 7];
    }
    run->sums[member] = a + b + c + d;
}

/* bytes a second that the whole team reads from memory, best of five passes over `bytes` (a multiple of 64) */
static inline double ceiling_read(nb_team *team, size_t bytes)
{
    static ceiling_run run;
    uint64_t *words = nb_pages_alloc(bytes);
    if (!words)
        return 0;
    memset(words, 1, bytes);
    run.words = words;
    run.n = bytes / 8;
    double best = 0;
    for (int i = 0; i < 5; i++) {
        double begin = now_s();
        nb_team_run(team, ceiling_read_member, &run);
        double rate = (double)bytes / (now_s() - begin);
        best = rate > best ? rate : best;
    }
    nb_pages_free(words, bytes);
    return best;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, compare_doubles);
    return x[n / 2];
}

#endif
