/* api_client.h - speaks Ollama's API to a running server: one request at a time, answers of one object or of a line each. The
 * server is the one OLLAMA_HOST names, or 127.0.0.1:11434; a key comes from NIBBLE_API_KEY or OLLAMA_API_KEY and goes to that
 * server alone. */
#ifndef NB_CLI_API_CLIENT_H
#define NB_CLI_API_CLIENT_H

#include <jansson.h>

#include "base/mem.h"

typedef struct nb_client nb_client;

nb_status nb_client_open(nb_client **out,
                         nb_error *err);       /* connects to nothing yet; NB_ERR_ARGUMENT: OLLAMA_HOST is no address */
void nb_client_close(nb_client *a);            /* NULL is fine */
const char *nb_client_url(const nb_client *a); /* "http://127.0.0.1:11434" */

/* Whether a server answers there, within a second or two. */
typedef struct nb_client_server {
    bool answers, is_nibble;
    bool named; /* OLLAMA_HOST says so; else it is the usual place */
} nb_client_server;
nb_client_server nb_client_look(nb_client *a);

/* Each line of an answer, as it comes; false ends the call with NB_ERR_CANCELLED. */
typedef bool nb_client_line_fn(void *user, const json_t *line);

typedef struct nb_client_call {
    const char *method, *path; /* "POST", "/api/chat" */
    const json_t *body;        /* NULL: none */
    nb_client_line_fn *line;
    void *user;
    bool (*cancelled)(void *user); /* looked at ten times a second; may be NULL */
} nb_client_call;

/* Errors are the server's own words: NB_ERR_NOT_FOUND (404), NB_ERR_ARGUMENT (400 and the like), NB_ERR_LIMIT (429, 503), NB_ERR_IO
 * (nobody answers, or it breaks off), NB_ERR_CANCELLED. */
nb_status nb_client_do(nb_client *a, const nb_client_call *call, nb_error *err);
/* The same for one object, which is the caller's; out NULL: it is not wanted. */
nb_status nb_client_ask(nb_client *a, const char *method, const char *path, const json_t *body, json_t **out,
                        nb_error *err);

#endif
