/* http.h - the HTTP side of the server over libmicrohttpd: requests in, with their whole body or, where
 * a route wants it so, piece by piece; one reply or a stream out. Limits on bodies, headers, time and connections; keys, Origin and Host are checked here, before any
 * route sees a request. */
#ifndef NB_SERVER_HTTP_H
#define NB_SERVER_HTTP_H

#include "server/service.h"

typedef struct nb_http nb_http;
typedef struct nb_http_request nb_http_request;

enum { NB_HTTP_ID = 65 };

typedef struct nb_http_record { /* a request that is over; texts are good within the call */
    const char *id, *method, *path;
    const char *route; /* its row of routes.def, or the path where there is none */
    const char *model; /* "": none was used */
    int status;
    bool complete; /* the client got all of it */
    double seconds;
    size_t replies, prompt_tokens, reused_tokens, tokens; /* of all its replies together */
    double queued_seconds, prompt_seconds, reply_seconds;
    nb_str body;
    const char *error; /* "", or what the reply said */
} nb_http_record;
typedef void nb_http_log_fn(void *user, const nb_http_record *record);

typedef struct nb_http_params {    /* texts live as long as the server */
    const char *host;              /* "127.0.0.1", "0.0.0.0", "::1"; a name: all its addresses, limits are of each */
    int port;                      /* 0: any; nb_http_port tells it */
    const char *certificate, *key; /* PEM files for TLS; both or none */
    const char *api_keys, *api_key_file; /* keys separated by commas; a file of one a line; NULL: none are asked for */
    const char *origins, *allowed_hosts; /* further ones, separated by commas */
    size_t max_body, max_connections;    /* 0: 64 MiB, 900, which is the most */
    size_t max_per_address; /* connections; 0: half of all, on the loopback interface as many as there may be */
    int timeout_seconds;    /* of a client that neither sends nor takes a byte; 0: 120 */
    double head_seconds, body_seconds; /* for a request's head, its body; 0: 30, and for the body a second more for */
    size_t body_rate;                  /* so many bytes that came; 0: 8192 */
    nb_http_log_fn *log;               /* after each request; may be NULL */
    void *log_user;
} nb_http_params;

/* What a route is: a row of routes.def. */
typedef enum nb_http_flavor {
    NB_FLAVOR_OLLAMA,
    NB_FLAVOR_OPENAI,
    NB_FLAVOR_ANTHROPIC
} nb_http_flavor; /* shape of errors */
typedef void nb_route_fn(nb_http_request *r);
/* Of a route that takes its body as it comes, whatever its length: called with each piece, then the route itself. What fails is
 * the answer. What it needs from piece to piece is kept by nb_http_keep. */
typedef nb_status nb_take_fn(nb_http_request *r, nb_str piece, nb_error *err);

nb_status nb_http_start(nb_service *service, nb_library *library, const nb_http_params *params, nb_http **out,
                        nb_error *err);
int nb_http_port(const nb_http *h);
const char *nb_http_address(const nb_http *h, size_t i); /* what it listens on, one after the other; NULL: no more */
void nb_http_quiesce(nb_http *h);                        /* takes no more connections; those that there are go on */
void nb_http_stop(nb_http *h);                           /* ends those as well; NULL is fine */

/* ---- for routes: one request, on its own thread ---- */
nb_service *nb_http_service(const nb_http_request *r);
nb_library *nb_http_library(const nb_http_request *r);
nb_str nb_http_body(const nb_http_request *r);
nb_str nb_http_rest(const nb_http_request *r);                          /* what the route's '*' stands for, decoded */
const char *nb_http_header(const nb_http_request *r, const char *name); /* NULL: absent */
const char *nb_http_argument(const nb_http_request *r,
                             const char *name); /* behind the path's '?', decoded; NULL: absent */
/* Something for the rest of the request, once; `end` frees it, whatever becomes of the request. */
void nb_http_keep(nb_http_request *r, void *kept, void (*end)(void *kept));
void *nb_http_kept(const nb_http_request *r); /* NULL: nothing yet */
/* The client has left: for nb_job_params.gone. What a stream has said so far leaves now. */
bool nb_http_gone(void *request);
uint64_t nb_http_user(const nb_http_request *r); /* of the key, or the address: for fairness */
/* For the log: the request used that model, and so much. Adds up; stats may be NULL. */
void nb_http_count(void *request, nb_str model, const nb_task_stats *stats);

/* Exactly one of these answers a request. */
void nb_http_reply(nb_http_request *r, int status, const char *type, nb_str body);
void nb_http_json(nb_http_request *r, int status, nb_buf *json); /* takes the bytes */
/* In the shape of the route's API; the status is err->code's, or `status` when that is not 0. */
void nb_http_fail(nb_http_request *r, int status, const nb_error *err);
/* A stream: `more` appends bytes to out, and says whether there will be more; it may block, and looks at nb_http_gone before and
 * meanwhile. `end` frees the state, whatever became of the stream. */
typedef bool nb_stream_more_fn(void *state, nb_buf *out);
void nb_http_stream(nb_http_request *r, const char *type, nb_stream_more_fn *more, void (*end)(void *state),
                    void *state);
void nb_http_set(nb_http_request *r, const char *header, const char *value); /* before the answer */
nb_http_flavor nb_http_flavor_of(const nb_http_request *r);
int nb_http_status_of(const nb_error *err); /* what nb_http_fail would send */
/* The body of a failure, as nb_http_fail writes it; for errors within a stream. */
void nb_http_write_error(nb_http_flavor flavor, int status, const char *message, nb_buf *out);

#endif
