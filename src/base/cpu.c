#define _GNU_SOURCE
#include "base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const level_names[NB_CPU_LEVELS] = {"ref", "avx2", "fma", "avx512", "bf16"};

#if defined(__x86_64__)
static bool has_f16c(void) /* clang 14's __builtin_cpu_supports does not know the name */
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

static bool has_avx512_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}
#endif

nb_cpu_level nb_cpu_best(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2"))
        return NB_CPU_REF;
    if (!__builtin_cpu_supports("fma") || !has_f16c())
        return NB_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vnni"))
        return has_avx512_bf16() ? NB_CPU_BF16 : NB_CPU_AVX512;
    return NB_CPU_FMA;
#else
    return NB_CPU_REF;
#endif
}

static bool level_by_name(const char *name, nb_cpu_level *level)
{
    for (int i = 0; i < NB_CPU_LEVELS; i++)
        if (strcmp(name, level_names[i]) == 0) {
            *level = (nb_cpu_level)i;
            return true;
        }
    return false;
}

static atomic_int chosen = -1;

nb_cpu_level nb_cpu_current(void)
{
    int level = atomic_load(&chosen);
    if (level < 0) {
        nb_cpu_level best = nb_cpu_best(), wanted = best;
        const char *mask = getenv("NIBBLE_CPU");
        if (mask && *mask)
            level_by_name(mask, &wanted);
        level = wanted < best ? (int)wanted : (int)best;
        atomic_store(&chosen, level);
    }
    return (nb_cpu_level)level;
}

void nb_cpu_set_level(nb_cpu_level level)
{
    nb_cpu_level best = nb_cpu_best();
    atomic_store(&chosen, level < best ? (int)level : (int)best);
}

nb_status nb_cpu_check_env(nb_error *err)
{
    nb_cpu_level level;
    const char *mask = getenv("NIBBLE_CPU");
    if (mask && *mask && !level_by_name(mask, &level))
        return nb_fail(err, NB_ERR_ARGUMENT, "NIBBLE_CPU=%.40s is not a level; use ref, avx2, fma, avx512 or bf16", mask);
    return NB_OK;
}

const char *nb_cpu_level_name(nb_cpu_level level)
{
    return level >= 0 && level < NB_CPU_LEVELS ? level_names[level] : "unknown";
}

const char *nb_cpu_model(void)
{
    static char name[128];
    if (name[0])
        return name;
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            line[strcspn(line, "\n")] = 0;
            snprintf(name, sizeof name, "%s", colon + 1 + strspn(colon + 1, " "));
            break;
        }
    }
    if (f)
        fclose(f);
    if (!name[0])
        strcpy(name, "unknown");
    return name;
}

/* the processors the process was given, as they were before anything was pinned */
static int allowed[CPU_SETSIZE];
static int allowed_count;
static pthread_once_t allowed_once = PTHREAD_ONCE_INIT;

static void read_allowed(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int c = 0; c < CPU_SETSIZE; c++)
            if (CPU_ISSET(c, &set))
                allowed[allowed_count++] = c;
    if (allowed_count == 0)
        allowed_count = 1;
}

int nb_cpu_count(void)
{
    pthread_once(&allowed_once, read_allowed);
    return allowed_count;
}

void nb_cpu_pin(int i)
{
    cpu_set_t one;
    if (nb_cpu_count() < 2)
        return;
    CPU_ZERO(&one);
    CPU_SET(allowed[i % allowed_count], &one);
    sched_setaffinity(0, sizeof one, &one);
}
