/* web.h - HTTP as registries and hubs speak it, over libcurl. A web client belongs to one place (a registry or hub) and one
 * thread; its token goes to that place alone, whatever a redirect or Location says: scheme, host and port have to be the same.
 * Redirects are followed here, not by curl; from https nothing leads to http. Bodies have limits and no encodings. */
#ifndef NB_REGISTRY_WEB_H
#define NB_REGISTRY_WEB_H

#include <curl/curl.h>

#include "base/mem.h"

/* Asked every 100 ms at least; true ends the work with NB_ERR_CANCELLED. */
typedef bool nb_stop_fn(void *user);

typedef struct nb_web_params {
    const char *base;  /* "https://registry.ollama.ai": no path */
    const char *token; /* for "Authorization: Bearer"; NULL: none */
    bool challenges;   /* a 401 that asks for a token of this place gets one */
    const char *key;   /* an OpenSSH ed25519 key that signs requests for tokens; NULL or no such file: anonymous */
    nb_stop_fn *stop;  /* may be NULL */
    void *user;
    int attempts;        /* without progress; 0: 6 */
    int backoff_ms;      /* before the second one, doubled up to 8 s; 0: 500 */
    int stall_seconds;   /* a transfer below 1 kB/s for as long has stalled; 0: 30 */
    int connections;     /* of a download; 0: 8 */
    uint64_t part_bytes; /* of a download; 0: chosen by its size */
} nb_web_params;

typedef struct nb_web nb_web;
nb_status nb_web_open(const nb_web_params *params, nb_web **out, nb_error *err);
void nb_web_close(nb_web *w); /* NULL is fine */
const nb_web_params *nb_web_params_of(const nb_web *w);
bool nb_web_stopped(const nb_web *w);

/* ---- one exchange after the other ---- */

typedef enum nb_field {
    NB_FIELD_LOCATION,
    NB_FIELD_AUTHENTICATE,
    NB_FIELD_CONTENT_RANGE,
    NB_FIELD_CONTENT_LENGTH,
    NB_FIELD_CONTENT_ENCODING,
    NB_FIELD_CONTENT_DIGEST,
    NB_FIELD_RANGE,
    NB_FIELD_RETRY_AFTER,
    NB_FIELD_ETAG,
    NB_FIELD_LINKED_ETAG,
    NB_FIELD_LINKED_SIZE,
    NB_FIELD_COMMIT,
    NB_FIELD_UPLOAD_LOCATION,
    NB_FIELDS
} nb_field;

typedef struct nb_request {
    const char *method;         /* GET, HEAD, POST, PATCH, PUT */
    const char *url;            /* whole, or a path of the base ("/v2/") */
    const char *const *headers; /* NULL-terminated, "Name: value"; may be NULL */
    nb_str body;                /* sent from memory, or */
    int fd;                     /* with fd_bytes: from this file */
    uint64_t fd_at, fd_bytes;
    bool (*sent)(void *user, uint64_t bytes); /* told how much of the body is gone; may be NULL; false stops */
    void *user;
    size_t limit; /* most bytes of the answer's body */
    bool stay;    /* redirects are the caller's */
    bool once;    /* no second attempt: the caller knows what to do */
} nb_request;

typedef struct nb_answer { /* {0} to begin with */
    int status;
    nb_buf body;
    nb_buf url; /* that answered, after redirects */
    nb_buf fields[NB_FIELDS];
} nb_answer;

/* NB_OK with any status that is an answer: what a status means is the caller's (nb_answer_fail). Dropped connections, stalls, 429
 * and 5xx are tried again, with growing pauses; the last try's 5xx is an answer. */
nb_status nb_web_send(nb_web *w, const nb_request *q, nb_answer *a, nb_error *err);
void nb_answer_free(nb_answer *a);
nb_str nb_answer_field(const nb_answer *a, nb_field field); /* empty: absent */
/* The failure that a status is: "HOST: WHAT: ..." with a remedy. */
nb_status nb_answer_fail(const nb_answer *a, const char *what, nb_error *err);

/* ---- for downloads, which have many exchanges at a time ---- */

typedef struct nb_exchange {
    nb_answer answer;
    CURL *easy;
    struct curl_slist *headers;
    size_t field_bytes;
    bool at_home, too_much; /* sent to the place itself, with its token; fields without end */
    char problem[CURL_ERROR_SIZE];
    const nb_request *request; /* while it is being sent */
    uint64_t sent;
} nb_exchange;

/* A GET without a body sink yet: the caller sets CURLOPT_WRITEFUNCTION and what else it needs, and adds it to a multi handle.
 * range: "0-99" or NULL. Free in any case. */
nb_status nb_exchange_begin(nb_web *w, const char *url, const char *range, nb_exchange *x, nb_error *err);
void nb_exchange_free(nb_exchange *x);
/* Puts where a redirect leads into url; refuses what may not be followed. */
nb_status nb_web_redirect(nb_web *w, const nb_answer *a, nb_buf *url, nb_error *err);
bool nb_web_is_redirect(int status);
bool nb_web_is_passing(int status); /* worth another try: 408, 429, 5xx */
bool nb_web_passing_failure(CURLcode code);
/* Gets a token as the answer's WWW-Authenticate asks. NB_ERR_ARGUMENT with a remedy when there is none to be had. */
nb_status nb_web_authorize(nb_web *w, const nb_answer *a, nb_error *err);
/* Milliseconds before attempt n (from 1) may begin; Retry-After of the answer, when there is one, up to a minute. */
int nb_web_pause(const nb_web *w, int n, const nb_answer *a);
/* "HOST: ..." for a transfer that failed, with what curl says of it. */
nb_status nb_web_fail(const char *url, const nb_exchange *x, CURLcode code, nb_error *err);
/* scheme://host:port of a URL, appended; false: it is none, or not of http and https. */
bool nb_url_origin(const char *url, nb_buf *out);
nb_str nb_url_host(const char *url); /* "host:port" as it stands, for messages */

#endif
