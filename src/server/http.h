/* http.h - the HTTP side of the server over libmicrohttpd, one thread a connection: requests with their whole body in, one
 * reply or a stream out. Limits on bodies, headers, time and connections; keys, Origin and Host are checked here, before any
 * route sees a request. */
#ifndef NB_SERVER_HTTP_H
#define NB_SERVER_HTTP_H

#include "server/service.h"

typedef struct nb_http nb_http;
typedef struct nb_http_request nb_http_request;

typedef struct nb_http_params {
    const char *host;                    /* "127.0.0.1", "0.0.0.0", "::1", a name */
    int port;                            /* 0: any; nb_http_port tells it */
    const char *certificate, *key;       /* PEM files for TLS; both or none */
    const char *api_keys, *api_key_file; /* keys separated by commas; a file of one a line; NULL: none are asked for */
    const char *origins, *allowed_hosts; /* further ones, separated by commas */
    size_t max_body, max_connections;    /* 0: 64 MiB, 1024 */
    int timeout_seconds;                 /* of an idle or slow client; 0: 120 */
    bool log_text;                       /* prompts and replies may be logged */
} nb_http_params;

/* What a route is: a row of routes.def. */
typedef enum nb_http_flavor {
    NB_FLAVOR_OLLAMA,
    NB_FLAVOR_OPENAI,
    NB_FLAVOR_ANTHROPIC
} nb_http_flavor; /* shape of errors */
typedef void nb_route_fn(nb_http_request *r);

nb_status nb_http_start(nb_service *service, nb_library *library, const nb_http_params *params, nb_http **out,
                        nb_error *err);
int nb_http_port(const nb_http *h);
void nb_http_stop(nb_http *h); /* no more connections; waits for those that there are */

/* ---- for routes: one request, on its own thread ---- */
nb_service *nb_http_service(const nb_http_request *r);
nb_library *nb_http_library(const nb_http_request *r);
nb_str nb_http_body(const nb_http_request *r);
nb_str nb_http_rest(const nb_http_request *r);                          /* what the route's '*' stands for, decoded */
const char *nb_http_header(const nb_http_request *r, const char *name); /* NULL: absent */
bool nb_http_gone(void *request);                /* the client has left: for nb_job_params.gone */
uint64_t nb_http_user(const nb_http_request *r); /* of the key, or the address: for fairness */

/* Exactly one of these is called, then perhaps chunks. */
void nb_http_reply(nb_http_request *r, int status, const char *type, nb_str body);
void nb_http_json(nb_http_request *r, int status, nb_buf *json); /* takes the bytes */
/* In the shape of the route's API: its status for err->code (or `status` when not 0). */
void nb_http_fail(nb_http_request *r, int status, const nb_error *err);
void nb_http_set(nb_http_request *r, const char *header, const char *value); /* before a reply begins */
/* A stream: begins with the first chunk, so that an error before it has its own status. False: the client has left. */
bool nb_http_chunk(nb_http_request *r, const char *type, nb_str bytes);
bool nb_http_began(const nb_http_request *r);

#endif
