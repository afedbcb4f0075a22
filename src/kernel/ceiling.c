#include "kernel/ceiling.h"

#include <stdint.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/cpu.h"

enum { ROUNDS = 100000 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__x86_64__)
/* the fastest of a few runs: a ceiling is what the machine can do when nothing else disturbs it */
static double fastest(nb_team *team, nb_team_fn *fn, void *context)
{
    double best = 1e30;
    for (int i = 0; i < 5; i++) {
        double start = now();
        nb_team_run(team, fn, context);
        double t = now() - start;
        best = t < best ? t : best;
    }
    return best;
}

/* twelve independent chains keep both pipes full; the empty asm keeps the compiler from merging rounds */
#define CHAINS(step) step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)

__attribute__((target("avx512f,avx512vnni"))) static void int8_avx512(void *context, int member, int members)
{
    (void)context, (void)members;
    __m512i a = _mm512_set1_epi32(member), c[12];
    memset(c, 0, sizeof c);
    for (int n = 0; n < ROUNDS; n++) {
#define STEP(i)                                 \
    __asm__ volatile("" : "+v"(c[i]));          \
    c[i] = _mm512_dpbusd_epi32(c[i], a, a);
        CHAINS(STEP)
#undef STEP
    }
}

/* without VNNI: pmaddubsw, pmaddwd and paddd for each 32 products */
__attribute__((target("avx2"))) static void int8_avx2(void *context, int member, int members)
{
    (void)context, (void)members;
    __m256i a = _mm256_set1_epi32(member), one = _mm256_set1_epi16(1), c[12];
    memset(c, 0, sizeof c);
    for (int n = 0; n < ROUNDS; n++) {
#define STEP(i)                                                                                         \
    __asm__ volatile("" : "+x"(c[i]), "+x"(a));                                                         \
    c[i] = _mm256_add_epi32(c[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), one));
        CHAINS(STEP)
#undef STEP
    }
}

__attribute__((target("avx512f"))) static void fma_avx512(void *context, int member, int members)
{
    (void)context, (void)member, (void)members;
    __m512 a = _mm512_set1_ps(0.5f), c[12];
    memset(c, 0, sizeof c);
    for (int n = 0; n < ROUNDS; n++) {
#define STEP(i)                        \
    __asm__ volatile("" : "+v"(c[i])); \
    c[i] = _mm512_fmadd_ps(c[i], a, a);
        CHAINS(STEP)
#undef STEP
    }
}

__attribute__((target("avx2,fma"))) static void fma_avx2(void *context, int member, int members)
{
    (void)context, (void)member, (void)members;
    __m256 a = _mm256_set1_ps(0.5f), c[12];
    memset(c, 0, sizeof c);
    for (int n = 0; n < ROUNDS; n++) {
#define STEP(i)                        \
    __asm__ volatile("" : "+x"(c[i])); \
    c[i] = _mm256_fmadd_ps(c[i], a, a);
        CHAINS(STEP)
#undef STEP
    }
}
#endif

double nb_ceiling_int8(nb_team *team)
{
#if defined(__x86_64__)
    nb_cpu_level best = nb_cpu_best();
    double rounds = (double)ROUNDS * 12 * nb_team_size(team);
    if (best == NB_CPU_AVX512)
        return rounds * 128 / fastest(team, int8_avx512, NULL);
    if (best >= NB_CPU_AVX2)
        return rounds * 64 / fastest(team, int8_avx2, NULL);
#endif
    (void)team;
    return 0;
}

double nb_ceiling_f32(nb_team *team)
{
#if defined(__x86_64__)
    nb_cpu_level best = nb_cpu_best();
    double rounds = (double)ROUNDS * 12 * nb_team_size(team);
    if (best == NB_CPU_AVX512)
        return rounds * 32 / fastest(team, fma_avx512, NULL);
    if (best == NB_CPU_FMA)
        return rounds * 16 / fastest(team, fma_avx2, NULL);
#endif
    (void)team;
    return 0;
}

typedef struct reading {
    const unsigned char *data;
    size_t bytes;
} reading;

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void read_avx2(const unsigned char *p, size_t bytes)
{
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i + 128 <= bytes; i += 128) {
        const __m256i *v = (const __m256i *)(const void *)(p + i);
        __m256i a = _mm256_or_si256(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
        __m256i b = _mm256_or_si256(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3));
        sum = _mm256_or_si256(sum, _mm256_or_si256(a, b));
    }
    __asm__ volatile("" ::"x"(sum));
}
#endif

static void read_plain(const unsigned char *p, size_t bytes)
{
    uint64_t sum = 0, word;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        memcpy(&word, p + i, 8);
        sum |= word;
    }
    __asm__ volatile("" ::"r"(sum));
}

static void read_member(void *context, int member, int members)
{
    const reading *r = context;
    size_t begin, end;
    nb_team_share(r->bytes, 4096, member, members, &begin, &end);
#if defined(__x86_64__)
    if (nb_cpu_best() >= NB_CPU_AVX2) {
        read_avx2(r->data + begin, end - begin);
        return;
    }
#endif
    read_plain(r->data + begin, end - begin);
}

double nb_ceiling_read(nb_team *team, const void *data, size_t bytes)
{
    reading r = {data, bytes};
    double start = now();
    nb_team_run(team, read_member, &r);
    return (double)bytes / (now() - start);
}
