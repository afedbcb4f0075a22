/* service_internal.h - the service from the inside: models and the loader thread (service.c), requests and the engine thread
 * (service_engine.c), grammars (service_grammar.c), what is counted (service_counts.c). One lock holds all that is shared; no step, load or compilation runs under it. */
#ifndef NB_SERVER_SERVICE_INTERNAL_H
#define NB_SERVER_SERVICE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/service.h"

typedef enum nb_served_state {
    NB_SERVED_LOADING,
    NB_SERVED_READY,
    NB_SERVED_FAILED,
    NB_SERVED_LEAVING
} nb_served_state;

struct nb_served_grammar {
    nb_served_grammar *next;
    nb_grammar_kind kind;
    char *text;
    size_t bytes;
    atomic_size_t users; /* more only under the model's lock, or by who has one */
    nb_grammar *grammar;
    nb_grammar_cache *cache; /* the engine thread's */
};

typedef struct nb_counts { /* of all that were loaded under a name */
    struct nb_counts *next;
    size_t users; /* models */
    nb_model_load load;
} nb_counts;

struct nb_served {
    nb_served *next;
    nb_counts *counts;
    nb_service *service;
    nb_entry *entry;
    nb_load_options options;
    /* under the service's lock */
    nb_served_state state;
    size_t users; /* acquired, and tasks */
    int64_t keep_alive_ns, load_ns;
    double released; /* seconds of the clock; when it was last used */
    bool expires_now;
    uint64_t bytes;
    nb_error error;
    nb_scheduler_load load; /* after the last step */
    size_t embedding;       /* callers that wait for a turn */
    size_t asking;          /* submits that are not in line yet */
    /* set by the loader, then only read */
    nb_model *model;
    nb_scheduler *scheduler; /* the engine thread's; NULL: for embeddings only */
    /* under its own lock */
    pthread_mutex_t lock, embed_lock;
    nb_grammar_vocab *vocab;
    nb_served_grammar *grammars;     /* the last used first */
    struct nb_prompt_template *chat; /* job_prompt.h; NULL: nobody asked yet */
};

typedef struct nb_ticket nb_ticket;

/* What an http thread asks of the engine thread; it waits for `done`. */
typedef struct nb_command {
    struct nb_command *next;
    nb_served *model;
    const nb_task_params *params; /* NULL: cancel `ticket` */
    nb_served_grammar *grammar;
    uint64_t ticket;
    double since;
    nb_status status;
    nb_error error;
    bool done;
} nb_command;

struct nb_service {
    nb_library *library;
    nb_service_params p;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* models, and commands that are done */
    pthread_cond_t wanted;  /* work for the engine */
    pthread_cond_t ordered; /* work for the loader */
    pthread_t engine, loader;
    bool started[2];
    nb_served *models;
    nb_command *commands, **last_command;
    nb_ticket *tickets;    /* the engine thread's */
    atomic_size_t cancels; /* in line among the commands */
    size_t ticket_count;   /* under the lock */
    uint64_t next_ticket;
    bool stopping, ending, over; /* no more requests; end those that there are; threads end */
    nb_service_load load;
    double ended;        /* when the last request did */
    uint64_t given_back; /* requests after which memory was */
    nb_counts *counts;
};

void *nb_service_engine_thread(void *service);
bool nb_service_gives_up(void *served); /* asked within a step (nb_scheduler_params) */
void nb_served_free_grammars(nb_served *m);
/* One user fewer; with the lock held. */
void nb_served_leave(nb_served *m);

/* All with the lock held. The counts of a name, for one model more; NULL: out of memory. */
nb_counts *nb_counts_take(nb_service *s, const char *name);
void nb_counts_leave(nb_counts *c); /* NULL is fine */
void nb_histogram_add(nb_histogram *h, double seconds);
void nb_counts_free(nb_service *s);

#endif
