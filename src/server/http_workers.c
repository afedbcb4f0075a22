#define _GNU_SOURCE
#include "server/http_workers.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FIRST = 4, SPARE = 8, STACK = 1 << 20, REST_MS = 20, LOOK_MS = 1000 };

typedef struct worker {
    struct worker *next, *before;
    nb_workers *all;
    struct MHD_Daemon *http;
    pthread_t thread;
    struct sockaddr_storage client;
    socklen_t client_size; /* 0: it serves nobody */
} worker;

struct nb_workers {
    nb_workers_params p;
    atomic_bool quiet, over;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t ended;
    worker *first;
    worker *last_ended; /* its thread is to be joined */
    size_t count, idle; /* idle: of these, those that wait at the socket */
};

static void *work(void *worker);

/* ---- threads come and go ---- */

/* Room for it was counted already; all that it takes is given back when it cannot be. */
static bool begin_worker(nb_workers *w)
{
    pthread_attr_t a;
    pthread_t thread;
    worker *k = calloc(1, sizeof *k);
    bool begun = false;
    if (k) {
        k->all = w;
        k->http = w->p.open(w->p.user);
    }
    if (k && k->http && pthread_attr_init(&a) == 0) {
        pthread_attr_setstacksize(&a, STACK);
        begun = pthread_create(&thread, &a, work, k) == 0;
        pthread_attr_destroy(&a);
    }
    if (begun)
        return true;
    if (k && k->http)
        MHD_stop_daemon(k->http);
    free(k);
    pthread_mutex_lock(&w->lock);
    w->count--;
    w->idle--;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
    return false;
}

/* Whoever ends joins the one that ended before it, so that at most one is left over. */
static void end_worker(worker *k)
{
    nb_workers *w = k->all;
    MHD_stop_daemon(k->http);
    pthread_mutex_lock(&w->lock);
    *(k->before ? &k->before->next : &w->first) = k->next;
    if (k->next)
        k->next->before = k->before;
    worker *before = w->last_ended;
    w->last_ended = k;
    w->count--;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
    if (before)
        pthread_join(before->thread, NULL);
    free(before);
}

/* ---- connections ---- */

static void rest(void) { nanosleep(&(struct timespec){.tv_nsec = REST_MS * 1000000L}, NULL); }

/* The next connection; -1: there are no more. */
static int take(worker *k)
{
    nb_workers *w = k->all;
    for (;;) {
        socklen_t size = sizeof k->client;
        int fd = accept4(w->p.fd, (struct sockaddr *)&k->client, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (atomic_load(&w->quiet)) {
            if (fd >= 0)
                close(fd);
            return -1;
        }
        if (fd >= 0) {
            pthread_mutex_lock(&w->lock);
            k->client_size = size;
            pthread_mutex_unlock(&w->lock);
            return fd;
        }
        if (errno != EINTR && errno != ECONNABORTED) /* no files or no memory: until others give some back */
            rest();
    }
}

static bool same_address(const worker *a, const worker *b)
{
    const void *p = &a->client, *q = &b->client;
    if (a->client.ss_family != b->client.ss_family)
        return false;
    if (a->client.ss_family == AF_INET)
        return ((const struct sockaddr_in *)p)->sin_addr.s_addr == ((const struct sockaddr_in *)q)->sin_addr.s_addr;
    return memcmp(&((const struct sockaddr_in6 *)p)->sin6_addr, &((const struct sockaddr_in6 *)q)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

static bool is_one_too_many(const nb_workers *w, const worker *k)
{
    size_t n = 0;
    for (const worker *o = w->first; o && w->p.most_per_address; o = o->next)
        n += o->client_size && same_address(o, k);
    return n > w->p.most_per_address;
}

/* k waits no more: another one takes its place where nobody else does. False: its client has enough connections. */
static bool begin_serving(worker *k)
{
    nb_workers *w = k->all;
    pthread_mutex_lock(&w->lock);
    bool fine = !is_one_too_many(w, k), more = w->idle == 1 && w->count < w->p.most && !atomic_load(&w->quiet);
    w->idle--;
    w->count += more;
    w->idle += more;
    pthread_mutex_unlock(&w->lock);
    if (more)
        begin_worker(w); /* without it connections wait until this one is over */
    return fine;
}

/* False: enough others wait. */
static bool end_serving(worker *k)
{
    nb_workers *w = k->all;
    pthread_mutex_lock(&w->lock);
    bool stays = w->idle < SPARE && !atomic_load(&w->quiet);
    k->client_size = 0;
    w->idle += stays;
    pthread_mutex_unlock(&w->lock);
    return stays;
}

static bool is_connected(const worker *k)
{
    return MHD_get_daemon_info(k->http, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections > 0;
}

static void *work(void *of)
{
    worker *k = of;
    nb_workers *w = k->all;
    int fd;
    bool stays = true;
    k->thread = pthread_self();
    pthread_mutex_lock(&w->lock);
    k->next = w->first;
    if (k->next)
        k->next->before = k;
    w->first = k;
    pthread_mutex_unlock(&w->lock);
    while (stays && (fd = take(k)) >= 0) {
        if (!begin_serving(k))
            close(fd);
        else
            MHD_add_connection(k->http, fd, (struct sockaddr *)&k->client, k->client_size); /* or it is closed */
        while (is_connected(k) && !atomic_load(&w->over))
            MHD_run_wait(k->http, LOOK_MS);
        stays = end_serving(k);
    }
    if (stays) { /* it waited */
        pthread_mutex_lock(&w->lock);
        w->idle--;
        pthread_mutex_unlock(&w->lock);
    }
    end_worker(k);
    return NULL;
}

/* ---- all of them ---- */

nb_status nb_workers_new(const nb_workers_params *p, nb_workers **out, nb_error *err)
{
    nb_workers *w = *out = calloc(1, sizeof *w);
    if (!w) {
        close(p->fd);
        return nb_fail_memory(err, "a server", sizeof *w);
    }
    w->p = *p;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->ended, NULL);
    w->count = w->idle = p->most < FIRST ? p->most : FIRST;
    bool begun = true;
    for (size_t i = 0, n = w->count; i < n; i++)
        begun &= begin_worker(w);
    if (begun)
        return NB_OK;
    nb_workers_stop(w);
    nb_workers_free(w);
    *out = NULL;
    return nb_fail(err, NB_ERR_MEMORY, "the system gives no more threads");
}

void nb_workers_quiesce(nb_workers *w)
{
    atomic_store(&w->quiet, true);
    shutdown(w->p.fd, SHUT_RDWR); /* whoever waits there wakes up */
}

void nb_workers_stop(nb_workers *w)
{
    atomic_store(&w->over, true);
    nb_workers_quiesce(w);
}

void nb_workers_free(nb_workers *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    while (w->count)
        pthread_cond_wait(&w->ended, &w->lock);
    pthread_mutex_unlock(&w->lock);
    if (w->last_ended)
        pthread_join(w->last_ended->thread, NULL);
    free(w->last_ended);
    close(w->p.fd);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->ended);
    free(w);
}
