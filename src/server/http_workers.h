/* http_workers.h - the threads that serve connections. Each waits at the listening socket itself, serves what it took to its end
 * with a libmicrohttpd of its own, and waits again: nothing goes from thread to thread. (libmicrohttpd's own thread a connection,
 * which begins and ends with it, made a request 170 us longer where this makes it 20.) There are always some that wait. */
#ifndef NB_SERVER_HTTP_WORKERS_H
#define NB_SERVER_HTTP_WORKERS_H

#include "base/status.h"

struct MHD_Daemon;
typedef struct nb_workers nb_workers;

typedef struct nb_workers_params {
    int fd;                        /* listening */
    size_t most, most_per_address; /* connections at once; per address 0: as many as there may be */
    struct MHD_Daemon *(*open)(
        void *user); /* one that has no socket and no thread; NULL: it cannot be. Any thread calls */
    void *user;
} nb_workers_params;

/* The socket is theirs, also after a failure. */
nb_status nb_workers_new(const nb_workers_params *p, nb_workers **out, nb_error *err);
void nb_workers_quiesce(nb_workers *w); /* no more connections are taken; those that there are go on */
void nb_workers_stop(nb_workers *w);    /* nor do these go on, once they are shut */
void nb_workers_free(nb_workers *w);    /* after nb_workers_stop: waits for all threads; NULL is fine */

#endif
