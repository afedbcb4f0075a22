/* store_routes.h - what the routes that change the store share. */
#ifndef NB_SERVER_STORE_ROUTES_H
#define NB_SERVER_STORE_ROUTES_H

#include "registry/registry.h"
#include "server/http.h"
#include "store/write.h"

/* The library's store, open for writing. NB_ERR_UNSUPPORTED: the server has none. */
nb_status nb_http_store(const nb_http_request *r, nb_store **out, nb_error *err);

/* A line of /api/pull and its like: {"status": ..., "digest": ..., "total": ..., "completed": ...} */
void nb_http_transfer_line(const nb_transfer_event *e, nb_buf *out);

#endif
