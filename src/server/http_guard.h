/* http_guard.h - who may ask: API keys, the Host header against DNS rebinding, Origin for browsers. Immutable once made. */
#ifndef NB_SERVER_HTTP_GUARD_H
#define NB_SERVER_HTTP_GUARD_H

#include "server/http.h"

typedef struct nb_guard nb_guard;

nb_status nb_guard_new(const nb_http_params *p, bool loopback, nb_guard **out, nb_error *err);
void nb_guard_free(nb_guard *g); /* NULL is fine */

/* False: nobody knows that key. `authorization` is the header's value ("Bearer KEY"), `key` that of x-api-key; either may be
 * NULL. *user: a number of the key. Takes the same time whatever is wrong. */
bool nb_guard_key(const nb_guard *g, const char *authorization, const char *key, uint64_t *user);
bool nb_guard_asks_key(const nb_guard *g);
bool nb_guard_host(const nb_guard *g, const char *host);     /* the Host header; NULL passes */
/* The Origin header; the server's own pages (host, which may be NULL) pass. */
bool nb_guard_origin(const nb_guard *g, const char *origin, const char *host);

#endif
