/* server.h - a server over tiny models, on a port of its own, for tests that speak HTTP to it. */
#ifndef NB_TESTS_SERVER_H
#define NB_TESTS_SERVER_H

#include "support/http_client.h"

#include "server/http.h"

typedef struct ts_server {
    nb_library *library;
    nb_service *service;
    nb_http *http;
    int port;
} ts_server;

/* files: of GGUF models; h and p may be NULL. False: err says why, and there is nothing to stop. */
static inline bool ts_try(ts_server *s, const char *const *files, size_t count, const nb_http_params *h,
                          const nb_service_params *p, nb_error *err)
{
    nb_http_params http = h ? *h : (nb_http_params){0};
    nb_service_params service = p ? *p : (nb_service_params){0};
    memset(s, 0, sizeof *s);
    http.host = http.host ? http.host : "127.0.0.1";
    service.threads = service.threads ? service.threads : 2;
    nb_status status = nb_library_open(&(nb_library_params){.no_store = true, .files = files, .file_count = count},
                                       &s->library, err);
    if (status == NB_OK)
        status = nb_service_new(s->library, &service, &s->service, err);
    if (status == NB_OK)
        status = nb_http_start(s->service, s->library, &http, &s->http, err);
    if (status != NB_OK) {
        nb_service_free(s->service);
        nb_library_close(s->library);
        return false;
    }
    s->port = nb_http_port(s->http);
    return true;
}

static inline void ts_start(ts_server *s, const char *const *files, size_t count, const nb_http_params *h,
                            const nb_service_params *p)
{
    nb_error err = {0};
    if (!ts_try(s, files, count, h, p, &err)) {
        fprintf(stderr, "the server did not start: %s\n", err.message);
        abort();
    }
}

static inline void ts_stop(ts_server *s)
{
    nb_http_stop(s->http);
    nb_service_free(s->service);
    nb_library_close(s->library);
    memset(s, 0, sizeof *s);
}

#endif
