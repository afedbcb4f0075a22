#define _GNU_SOURCE
#include "base/team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu.h"

#define LINE 64

/* How long a wait spins before it sleeps. Between regions: long enough for the next one to follow without the kernel. Within
 * one: long enough for uneven shares, short enough that on a machine with more work than processors the one that is waited
 * for gets its turn. */
enum { IDLE_US = 50, BUSY_US = 200 };

typedef struct worker {
    nb_team *team;
    pthread_t thread;
    int member;
} worker;

struct nb_team {
    /* each on its own cache line: written by one side, watched by the other */
    _Alignas(LINE) atomic_uint region; /* counts regions; workers wait for it to change */
    _Alignas(LINE) atomic_uint done;   /* workers that finished the current region */
    _Alignas(LINE) atomic_uint arrived;
    _Alignas(LINE) atomic_uint sense; /* counts barriers passed */
    _Alignas(LINE) atomic_int sleepers;
    atomic_bool quit;
    nb_team_fn *fn;
    void *context;
    int members;
    bool pin;
    worker workers[]; /* members - 1 */
};

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static long elapsed_us(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000000L + (now.tv_nsec - since->tv_nsec) / 1000;
}

/* waits until *word differs from old: spins for about us microseconds, then sleeps in the kernel */
static void wait_change(nb_team *team, atomic_uint *word, unsigned old, long us)
{
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (int i = 0; i < 200; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old)
                return;
            cpu_pause();
        }
    } while (elapsed_us(&start) < us);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(word) == old)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&team->sleepers, 1);
}

/* after *word was changed, in sequentially consistent order */
static void wake(nb_team *team, atomic_uint *word)
{
    if (atomic_load(&team->sleepers) > 0)
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    nb_team *team = w->team;
    unsigned region = 0;
    if (team->pin)
        nb_cpu_pin(w->member);
    for (;;) {
        wait_change(team, &team->region, region, IDLE_US);
        region++;
        if (atomic_load(&team->quit))
            return NULL;
        team->fn(team->context, w->member, team->members);
        atomic_fetch_add(&team->done, 1);
        wake(team, &team->done);
    }
}

static void next_region(nb_team *team)
{
    atomic_fetch_add(&team->region, 1);
    wake(team, &team->region);
}

nb_status nb_team_new(int threads, bool pin, nb_team **out, nb_error *err)
{
    *out = NULL;
    if (threads < 0 || threads > 256)
        return nb_fail(err, NB_ERR_ARGUMENT, "%d threads: give 1 to 256, or 0 for one a processor", threads);
    int processors = nb_cpu_count(); /* first of all: threads inherit the mask of who starts them */
    if (threads == 0)
        threads = processors;
    size_t bytes = sizeof(nb_team) + (size_t)threads * sizeof(worker);
    nb_team *team = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);
    if (!team)
        return nb_fail(err, NB_ERR_MEMORY, "thread team: out of memory");
    atomic_init(&team->region, 0);
    atomic_init(&team->done, 0);
    atomic_init(&team->arrived, 0);
    atomic_init(&team->sense, 0);
    atomic_init(&team->sleepers, 0);
    atomic_init(&team->quit, false);
    team->members = 1;
    team->pin = pin;
    for (int i = 1; i < threads; i++) {
        worker *w = &team->workers[i - 1];
        *w = (worker){.team = team, .member = i};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            nb_team_free(team);
            return nb_fail(err, NB_ERR_MEMORY, "cannot start thread %d of %d: try fewer with -t", i + 1, threads);
        }
        team->members = i + 1;
    }
    if (pin)
        nb_cpu_pin(0);
    *out = team;
    return NB_OK;
}

void nb_team_free(nb_team *team)
{
    if (!team)
        return;
    atomic_store(&team->quit, true);
    next_region(team);
    for (int i = 1; i < team->members; i++)
        pthread_join(team->workers[i - 1].thread, NULL);
    free(team);
}

int nb_team_size(const nb_team *team) { return team->members; }

void nb_team_run(nb_team *team, nb_team_fn *fn, void *context)
{
    if (team->members == 1) {
        fn(context, 0, 1);
        return;
    }
    team->fn = fn;
    team->context = context;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    next_region(team);
    fn(context, 0, team->members);
    unsigned all = (unsigned)team->members - 1;
    for (unsigned n; (n = atomic_load_explicit(&team->done, memory_order_acquire)) != all;)
        wait_change(team, &team->done, n, BUSY_US);
}

void nb_team_barrier(nb_team *team)
{
    if (team->members == 1)
        return;
    unsigned sense = atomic_load_explicit(&team->sense, memory_order_acquire);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == (unsigned)team->members - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store(&team->sense, sense + 1);
        wake(team, &team->sense);
        return;
    }
    wait_change(team, &team->sense, sense, BUSY_US);
}

void nb_team_share(size_t items, size_t grain, int member, int members, size_t *begin, size_t *end)
{
    size_t pieces = (items + grain - 1) / grain, m = (size_t)member, n = (size_t)members;
    size_t b = pieces * m / n * grain, e = pieces * (m + 1) / n * grain;
    *begin = b < items ? b : items;
    *end = e < items ? e : items;
}
