#include "server/http_watch.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"

static const double LOOK_SECONDS = 0.25; /* limits are kept that exactly */

struct nb_watched {
    nb_watched *next, *before;
    nb_watch *watch;
    int fd;
    double until; /* of the clock; 0: no limit */
    bool late;
};

struct nb_watch {
    pthread_mutex_t lock; /* of all that follows, and of the connections */
    pthread_cond_t changed;
    pthread_t thread;
    nb_watched *first;
    bool over, sleeps; /* sleeps: until there is a connection */
};

/* The socket is only shut: its own thread sees that and closes it. */
static void cut_late(nb_watch *w)
{
    double now = nb_seconds();
    for (nb_watched *c = w->first; c; c = c->next)
        if (c->until > 0 && now >= c->until) {
            c->late = true;
            c->until = 0;
            shutdown(c->fd, SHUT_RDWR);
        }
}

static void *look(void *watch)
{
    nb_watch *w = watch;
    pthread_mutex_lock(&w->lock);
    while (!w->over) {
        struct timespec t;
        w->sleeps = !w->first;
        if (w->sleeps) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        cut_late(w);
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += (long)(LOOK_SECONDS * 1e9);
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&w->changed, &w->lock, &t);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

nb_status nb_watch_new(nb_watch **out, nb_error *err)
{
    pthread_condattr_t clock;
    nb_watch *w = *out = calloc(1, sizeof *w);
    if (!w)
        return nb_fail_memory(err, "a server", sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &clock);
    pthread_condattr_destroy(&clock);
    if (pthread_create(&w->thread, NULL, look, w) == 0)
        return NB_OK;
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
    *out = NULL;
    return nb_fail(err, NB_ERR_MEMORY, "the system gives no more threads");
}

void nb_watch_free(nb_watch *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->over = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
}

nb_watched *nb_watch_add(nb_watch *w, int fd, double seconds)
{
    nb_watched *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (nb_watched){.watch = w, .fd = fd, .until = nb_seconds() + seconds};
    pthread_mutex_lock(&w->lock);
    c->next = w->first;
    if (w->first)
        w->first->before = c;
    w->first = c;
    if (w->sleeps)
        pthread_cond_signal(&w->changed);
    w->sleeps = false;
    pthread_mutex_unlock(&w->lock);
    return c;
}

void nb_watch_drop(nb_watched *c)
{
    if (!c)
        return;
    nb_watch *w = c->watch;
    pthread_mutex_lock(&w->lock);
    *(c->before ? &c->before->next : &w->first) = c->next;
    if (c->next)
        c->next->before = c->before;
    pthread_mutex_unlock(&w->lock);
    free(c);
}

void nb_watch_cut(nb_watch *w)
{
    pthread_mutex_lock(&w->lock);
    for (nb_watched *c = w->first; c; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
    pthread_mutex_unlock(&w->lock);
}

void nb_watch_within(nb_watched *c, double seconds)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->watch->lock);
    c->until = seconds > 0 ? nb_seconds() + seconds : 0;
    pthread_mutex_unlock(&c->watch->lock);
}

void nb_watch_extend(nb_watched *c, double seconds)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->watch->lock);
    c->until += c->until > 0 ? seconds : 0;
    pthread_mutex_unlock(&c->watch->lock);
}

bool nb_watch_was_late(nb_watched *c)
{
    if (!c)
        return false;
    pthread_mutex_lock(&c->watch->lock);
    bool late = c->late;
    pthread_mutex_unlock(&c->watch->lock);
    return late;
}
