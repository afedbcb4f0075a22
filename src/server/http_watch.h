/* http_watch.h - how long connections may take for what they send: one thread looks after all of them and cuts off whose time
 * is over. (libmicrohttpd's own limit begins anew with every byte, so that a byte a minute would keep a thread for ever.)
 * Any thread may call. */
#ifndef NB_SERVER_HTTP_WATCH_H
#define NB_SERVER_HTTP_WATCH_H

#include "base/status.h"

typedef struct nb_watch nb_watch;
typedef struct nb_watched nb_watched; /* a connection */

nb_status nb_watch_new(nb_watch **out, nb_error *err);
void nb_watch_free(nb_watch *w); /* when all connections were dropped; NULL is fine */

/* NULL: out of memory. Drop it before fd is closed. */
nb_watched *nb_watch_add(nb_watch *w, int fd, double seconds);
void nb_watch_drop(nb_watched *c);
void nb_watch_cut(nb_watch *w);                      /* shuts all connections that there are */
void nb_watch_within(nb_watched *c, double seconds); /* from now on; 0: without limit */
void nb_watch_extend(nb_watched *c, double seconds); /* the limit that runs */
bool nb_watch_was_late(nb_watched *c);               /* it was cut off */

#endif
