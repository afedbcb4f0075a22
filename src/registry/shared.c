/* One transfer for several clients: a thread does it, what it tells is kept, and each client reads on from what it has seen. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "registry/registry.h"

typedef struct told {
    char status[304], digest[80];
    uint64_t total, completed, at; /* at: which news this is */
} told;

struct nb_shared {
    nb_shared *next; /* in the table, under its lock, as */
    int clients;
    bool push;
    char *key, *name, *root, *registry;
    nb_transfer_params params;
    pthread_t thread;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t news;
    told *told;
    size_t count, cap;
    uint64_t at;
    bool stop, over;
    nb_status status;
    nb_error error;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static nb_shared *table;

/* ---- the thread that does it ---- */

static told *find_told(nb_shared *p, const nb_transfer_event *e)
{
    for (size_t i = p->count; i-- > 0;) {
        told *t = &p->told[i];
        if (strcmp(t->status, e->status) == 0 && strcmp(t->digest, e->digest ? e->digest : "") == 0)
            return t;
        if (!e->digest)
            break; /* only the last one is the same news */
    }
    return NULL;
}

static void hear(void *user, const nb_transfer_event *e)
{
    nb_shared *p = user;
    pthread_mutex_lock(&p->lock);
    told *t = find_told(p, e);
    if (!t && p->count == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 16;
        told *more = realloc(p->told, cap * sizeof *more);
        p->told = more ? more : p->told;
        p->cap = more ? cap : p->cap;
    }
    if (!t && p->count < p->cap) {
        t = &p->told[p->count++];
        *t = (told){0};
        snprintf(t->status, sizeof t->status, "%s", e->status);
        snprintf(t->digest, sizeof t->digest, "%s", e->digest ? e->digest : "");
    }
    if (t) {
        t->total = e->total;
        t->completed = e->completed;
        t->at = ++p->at;
    }
    pthread_cond_broadcast(&p->news);
    pthread_mutex_unlock(&p->lock);
}

static bool is_stopped(void *user)
{
    nb_shared *p = user;
    pthread_mutex_lock(&p->lock);
    bool stop = p->stop;
    pthread_mutex_unlock(&p->lock);
    return stop;
}

static void *transfer(void *user)
{
    nb_shared *p = user;
    nb_error err = {0};
    nb_status status = p->push ? nb_push(p->name, &p->params, &err) : nb_pull(p->name, &p->params, NULL, &err);
    pthread_mutex_lock(&p->lock);
    p->over = true;
    p->status = status;
    p->error = err;
    pthread_cond_broadcast(&p->news);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- joining and leaving ---- */

static void free_shared(nb_shared *p)
{
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->news);
    free(p->key);
    free(p->name);
    free(p->root);
    free(p->registry);
    free(p->told);
    free(p);
}

static nb_status begin(bool push, const char *name, char *key, const nb_transfer_params *params, nb_shared **out,
                       nb_error *err)
{
    nb_shared *p = calloc(1, sizeof *p);
    if (!p) {
        free(key);
        return nb_fail_memory(err, "a transfer", sizeof *p);
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->news, NULL);
    p->key = key;
    p->push = push;
    p->name = strdup(name);
    p->root = params->root ? strdup(params->root) : NULL;
    p->registry = params->registry ? strdup(params->registry) : NULL;
    p->clients = 1;
    p->params = *params;
    p->params.root = p->root;
    p->params.registry = p->registry;
    p->params.tell = hear;
    p->params.stop = is_stopped;
    p->params.user = p;
    bool good = p->name && (p->root || !params->root) && (p->registry || !params->registry) &&
                pthread_create(&p->thread, NULL, transfer, p) == 0;
    if (!good) {
        free_shared(p);
        return nb_fail_memory(err, "a thread for the transfer", sizeof *p);
    }
    *out = p;
    return NB_OK;
}

static bool is_over(nb_shared *p)
{
    pthread_mutex_lock(&p->lock);
    bool over = p->over;
    pthread_mutex_unlock(&p->lock);
    return over;
}

nb_status nb_shared_join(bool push, const char *name, const nb_transfer_params *params, nb_shared **out, nb_error *err)
{
    nb_buf key = {0};
    nb_status status = NB_OK;
    *out = NULL;
    nb_buf_printf(&key, "%d\n%s\n%s\n%s\n%d", push, name, params->root ? params->root : "",
                  params->registry ? params->registry : "", params->insecure);
    if (key.failed)
        return nb_fail_memory(err, "a name", strlen(name));
    pthread_mutex_lock(&table_lock);
    for (nb_shared *p = table; p && !*out; p = p->next)
        if (strcmp(p->key, key.data) == 0 && !is_over(p))
            *out = p;
    if (*out) {
        (*out)->clients++;
        nb_buf_free(&key);
    } else if ((status = begin(push, name, key.data, params, out, err)) == NB_OK) {
        (*out)->next = table;
        table = *out;
    }
    pthread_mutex_unlock(&table_lock);
    return status;
}

void nb_shared_leave(nb_shared *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&table_lock);
    bool last = --p->clients == 0;
    for (nb_shared **at = &table; last && *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    pthread_mutex_unlock(&table_lock);
    if (!last)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    free_shared(p);
}

/* ---- being told ---- */

nb_status nb_shared_wait(nb_shared *p, uint64_t *seen, int wait_ms, nb_transfer_fn *tell, void *user, bool *over,
                         nb_error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += wait_ms % 1000 * 1000000L;
    until.tv_sec += wait_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&p->lock);
    while (p->at == *seen && !p->over && pthread_cond_timedwait(&p->news, &p->lock, &until) == 0)
        ;
    for (size_t i = 0; i < p->count; i++) {
        const told *t = &p->told[i];
        if (t->at <= *seen)
            continue;
        nb_transfer_event e = {t->status, *t->digest ? t->digest : NULL, t->total, t->completed};
        tell(user, &e);
    }
    *seen = p->at;
    *over = p->over;
    nb_status status = p->over ? p->status : NB_OK;
    if (status != NB_OK && err)
        *err = p->error;
    pthread_mutex_unlock(&p->lock);
    return status;
}
