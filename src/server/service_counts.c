/* What metrics tell of each model, kept when it is unloaded: who looks once a minute would miss it otherwise. */
#include <stdio.h>
#include <stdlib.h>

#include "server/service_internal.h"

enum { MOST_NAMES = 256 };

/* vLLM's, so that dashboards made for it show the same shapes. */
static const double first_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                      1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
static const double next_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                     0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
_Static_assert(sizeof first_bounds / sizeof *first_bounds <= NB_HISTOGRAM_BOUNDS, "room for all bounds");

void nb_histogram_add(nb_histogram *h, double seconds)
{
    size_t i = 0;
    while (i < h->bound_count && seconds > h->bounds[i])
        i++;
    h->counts[i]++;
    h->sum += seconds;
}

/* One that no model has; the oldest name goes. */
static nb_counts *forget_oldest(nb_service *s)
{
    nb_counts **oldest = NULL;
    size_t names = 0;
    for (nb_counts **at = &s->counts; *at; at = &(*at)->next, names++)
        if ((*at)->users == 0)
            oldest = at;
    if (names < MOST_NAMES || !oldest)
        return NULL;
    nb_counts *c = *oldest;
    *oldest = c->next;
    return c;
}

nb_counts *nb_counts_take(nb_service *s, const char *name)
{
    for (nb_counts *c = s->counts; c; c = c->next)
        if (strcmp(c->load.name, name) == 0) {
            c->users++;
            return c;
        }
    nb_counts *c = forget_oldest(s);
    c = c ? c : malloc(sizeof *c);
    if (!c)
        return NULL;
    *c = (nb_counts){.next = s->counts, .users = 1};
    snprintf(c->load.name, sizeof c->load.name, "%s", name);
    c->load.first = (nb_histogram){.bounds = first_bounds, .bound_count = sizeof first_bounds / sizeof *first_bounds};
    c->load.next = (nb_histogram){.bounds = next_bounds, .bound_count = sizeof next_bounds / sizeof *next_bounds};
    s->counts = c;
    return c;
}

void nb_counts_leave(nb_counts *c)
{
    if (c)
        c->users--;
}

void nb_counts_free(nb_service *s)
{
    while (s->counts) {
        nb_counts *c = s->counts;
        s->counts = c->next;
        free(c);
    }
}

static double usage(const nb_scheduler_load *l) { return l->pages ? (double)l->pages_used / (double)l->pages : 0; }

size_t nb_service_look_models(nb_service *s, nb_model_load *out, size_t room)
{
    size_t count = 0;
    pthread_mutex_lock(&s->lock);
    for (const nb_counts *c = s->counts; c; c = c->next, count++) {
        if (count >= room)
            continue;
        nb_model_load *l = &out[count];
        *l = c->load;
        for (const nb_served *m = s->models; m; m = m->next) {
            if (m->counts != c)
                continue;
            l->running += m->load.running;
            l->waiting += m->load.waiting + m->asking;
            double full = usage(&m->load);
            l->cache_usage = full > l->cache_usage ? full : l->cache_usage;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return count;
}

nb_service_load nb_service_look(nb_service *s)
{
    pthread_mutex_lock(&s->lock);
    nb_service_load load = s->load;
    for (const nb_served *m = s->models; m; m = m->next) {
        load.models += m->state == NB_SERVED_READY;
        load.running += m->load.running;
        load.waiting += m->load.waiting + m->asking;
        double full = usage(&m->load);
        load.cache_usage = full > load.cache_usage ? full : load.cache_usage;
    }
    pthread_mutex_unlock(&s->lock);
    return load;
}
