#include "kernel/ceiling.h"

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"

enum { ROUNDS = 100000, CHAINS = 12 };

/* the fastest of a few runs: a ceiling is what the machine can do when nothing else disturbs it */
static double fastest(nb_team *team, nb_team_fn *fn)
{
    double best = 1e30;
    for (int i = 0; i < 5; i++) {
        double start = nb_seconds();
        nb_team_run(team, fn, NULL);
        double t = nb_seconds() - start;
        best = t < best ? t : best;
    }
    return best;
}

/* A function of the team that runs twelve independent chains of STEP(sum, a, b) in vectors of type V: enough to keep two
 * pipes full. The empty asm keeps the compiler from merging rounds and from computing a step's loop-invariant parts once. */
#if defined(__aarch64__)
#define REGISTER "+w"
#else
#define REGISTER "+x"
#endif
#define ONE(i, STEP)                                                                                                   \
    __asm__ volatile("" : REGISTER(c##i), REGISTER(a));                                                                \
    c##i = STEP(c##i, a, b);
#define FOUR(i, j, k, l, STEP) ONE(i, STEP) ONE(j, STEP) ONE(k, STEP) ONE(l, STEP)
#define CHAINS_OF(name, isa, V, first, second, STEP)                                                                   \
    isa static void name(void *context, int member, int members)                                                       \
    {                                                                                                                  \
        (void)context, (void)member, (void)members;                                                                    \
        V a = first, b = second, c0 = {0}, c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0, c6 = c0, c7 = c0, c8 = c0,     \
          c9 = c0, c10 = c0, c11 = c0;                                                                                 \
        for (int n = 0; n < ROUNDS; n++) {                                                                             \
            FOUR(0, 1, 2, 3, STEP) FOUR(4, 5, 6, 7, STEP) FOUR(8, 9, 10, 11, STEP)                                     \
        }                                                                                                              \
    }

typedef float f32x4 __attribute__((vector_size(16)));

#define STEP_PLAIN(c, a, b) ((c) * (a) + (b))
CHAINS_OF(f32_plain, , f32x4, ((f32x4){0.5f, 0.5f, 0.5f, 0.5f}), a, STEP_PLAIN)

#if defined(__x86_64__)
#define ISA(names) __attribute__((target(names)))
#define STEP_MADD(c, a, b) _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), b)) /* without VNNI */
CHAINS_OF(f32_fma, ISA("avx2,fma"), __m256, _mm256_set1_ps(0.5f), a, _mm256_fmadd_ps)
CHAINS_OF(f32_avx512, ISA("avx512f"), __m512, _mm512_set1_ps(0.5f), a, _mm512_fmadd_ps)
#define STEP_BF16(c, a, b) _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b)
CHAINS_OF(bf16_avx512, ISA("avx512f,avx512bf16"), __m512, _mm512_set1_ps(0.5f), a, STEP_BF16)
CHAINS_OF(int8_avx2, ISA("avx2"), __m256i, _mm256_set1_epi32(member), _mm256_set1_epi16(1), STEP_MADD)
CHAINS_OF(int8_avx512, ISA("avx512f,avx512vnni"), __m512i, _mm512_set1_epi32(member), a, _mm512_dpbusd_epi32)
#endif

/* operations a second, when a step is `operations` */
static double rate(nb_team *team, nb_team_fn *fn, int operations)
{
    return (double)ROUNDS * CHAINS * operations * nb_team_size(team) / fastest(team, fn);
}

double nb_ceiling_int8(nb_team *team, nb_cpu_level level)
{
#if defined(__x86_64__)
    level = level < nb_cpu_best() ? level : nb_cpu_best();
    if (level >= NB_CPU_AVX512)
        return rate(team, int8_avx512, 128);
    if (level >= NB_CPU_AVX2)
        return rate(team, int8_avx2, 64);
#endif
    (void)team, (void)level;
    return 0;
}

double nb_ceiling_f32(nb_team *team, nb_cpu_level level)
{
#if defined(__x86_64__)
    level = level < nb_cpu_best() ? level : nb_cpu_best();
    if (level >= NB_CPU_AVX512)
        return rate(team, f32_avx512, 32);
    if (level >= NB_CPU_AVX2 && nb_cpu_best() >= NB_CPU_FMA)
        return rate(team, f32_fma, 16);
#endif
    (void)level;
    return rate(team, f32_plain, 8);
}

double nb_ceiling_bf16(nb_team *team, nb_cpu_level level)
{
#if defined(__x86_64__)
    if (level >= NB_CPU_BF16 && nb_cpu_best() >= NB_CPU_BF16)
        return rate(team, bf16_avx512, 64);
#endif
    (void)team, (void)level;
    return 0;
}

typedef struct reading {
    const unsigned char *data;
    size_t bytes;
    void (*read)(const unsigned char *p, size_t bytes);
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
    r->read(r->data + begin, end - begin);
}

double nb_ceiling_read(nb_team *team, const void *data, size_t bytes, int passes)
{
    reading r = {data, bytes, read_plain};
#if defined(__x86_64__)
    if (nb_cpu_best() >= NB_CPU_AVX2) /* asked here: it takes microseconds in a virtual machine */
        r.read = read_avx2;
#endif
    double start = nb_seconds();
    for (int i = 0; i < passes; i++)
        nb_team_run(team, read_member, &r);
    return (double)bytes * passes / (nb_seconds() - start);
}
