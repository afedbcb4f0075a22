#include "registry/web.h"

#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "registry/fields.h"
#include "registry/token.h"

enum {
    HOPS = 10,
    FIELD_BYTES = 128 << 10, /* of all header fields of an answer */
    CONNECT_SECONDS = 20,
    LONGEST_PAUSE_MS = 8000,
    LONGEST_RETRY_AFTER = 60,
    UNREACHED = 3, /* attempts at a place that is not there */
    TOKEN_ANSWER = 64 << 10
};

struct nb_web {
    nb_web_params p;
    char *base, *key;
    nb_buf origin, token; /* token: "Authorization: Bearer ..." */
    CURLM *multi;
};

static const char *const field_names[NB_FIELDS] = {
    [NB_FIELD_LOCATION] = "Location",
    [NB_FIELD_AUTHENTICATE] = "WWW-Authenticate",
    [NB_FIELD_CONTENT_RANGE] = "Content-Range",
    [NB_FIELD_CONTENT_LENGTH] = "Content-Length",
    [NB_FIELD_CONTENT_ENCODING] = "Content-Encoding",
    [NB_FIELD_CONTENT_DIGEST] = "Docker-Content-Digest",
    [NB_FIELD_RANGE] = "Range",
    [NB_FIELD_RETRY_AFTER] = "Retry-After",
    [NB_FIELD_ETAG] = "ETag",
    [NB_FIELD_LINKED_ETAG] = "X-Linked-Etag",
    [NB_FIELD_LINKED_SIZE] = "X-Linked-Size",
    [NB_FIELD_COMMIT] = "X-Repo-Commit",
    [NB_FIELD_UPLOAD_LOCATION] = "Docker-Upload-Location",
};

/* ---- addresses ---- */

nb_str nb_url_host(const char *url)
{
    const char *at = strstr(url, "://");
    at = at ? at + 3 : url;
    return (nb_str){at, strcspn(at, "/?#")};
}

/* A whole http(s) URL without user or password; of a relative one, what it means beside `beside`. */
static bool make_url(const char *beside, const char *text, nb_buf *out)
{
    char *scheme = NULL, *user = NULL, *whole = NULL;
    CURLU *u = curl_url();
    bool good = u && (!beside || curl_url_set(u, CURLUPART_URL, beside, 0) == CURLUE_OK) &&
                curl_url_set(u, CURLUPART_URL, text, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                (strcasecmp(scheme, "http") == 0 || strcasecmp(scheme, "https") == 0) &&
                curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_NO_USER &&
                curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK;
    if (good)
        nb_buf_z(out, whole);
    curl_free(scheme);
    curl_free(user);
    curl_free(whole);
    curl_url_cleanup(u);
    return good && !out->failed;
}

bool nb_url_origin(const char *url, nb_buf *out)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    CURLU *u = curl_url();
    size_t before = out->len;
    bool good = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                (strcasecmp(scheme, "http") == 0 || strcasecmp(scheme, "https") == 0) &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (good)
        nb_buf_printf(out, "%s://%s:%s", scheme, host, port);
    for (size_t i = before; i < out->len; i++)
        if (out->data[i] >= 'A' && out->data[i] <= 'Z')
            out->data[i] = (char)(out->data[i] + 32);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return good && !out->failed;
}

static bool at_home(const nb_web *w, const char *url)
{
    nb_buf origin = {0};
    bool same = nb_url_origin(url, &origin) && nb_str_eq(nb_buf_view(&origin), nb_buf_view(&w->origin));
    nb_buf_free(&origin);
    return same;
}

static bool is_secure(const char *url) { return strncasecmp(url, "https://", 8) == 0; }

/* ---- the client ---- */

static void start_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

static nb_status set_token(nb_web *w, nb_str token, nb_error *err)
{
    for (size_t i = 0; i < token.n; i++)
        if ((unsigned char)token.p[i] <= 0x20 || (unsigned char)token.p[i] >= 0x7f)
            return nb_fail(err, NB_ERR_ARGUMENT, "%.*s: the token holds a blank, a control or a foreign character",
                           NB_STR_ARG(nb_url_host(w->base)));
    nb_buf_clear(&w->token);
    nb_buf_z(&w->token, "Authorization: Bearer ");
    nb_buf_str(&w->token, token);
    return w->token.failed ? nb_fail_memory(err, "a token", token.n) : NB_OK;
}

nb_status nb_web_open(const nb_web_params *params, nb_web **out, nb_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    nb_web *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w)
        return nb_fail_memory(err, "a web client", sizeof *w);
    w->p = *params;
    w->p.attempts = params->attempts ? params->attempts : 6;
    w->p.backoff_ms = params->backoff_ms ? params->backoff_ms : 500;
    w->p.stall_seconds = params->stall_seconds ? params->stall_seconds : 30;
    w->p.connections = params->connections ? params->connections : 8;
    w->base = strdup(params->base);
    w->key = params->key ? strdup(params->key) : NULL;
    w->multi = curl_multi_init();
    nb_status status = NB_OK;
    if (!w->base || !w->multi || (params->key && !w->key))
        status = nb_fail_memory(err, "a web client", sizeof *w);
    else if (!nb_url_origin(w->base, &w->origin))
        status = nb_fail(err, NB_ERR_ARGUMENT, "'%s' is no address; write http(s)://HOST[:PORT]", params->base);
    else if (params->token && *params->token)
        status = set_token(w, nb_str_of(params->token), err);
    if (status != NB_OK) {
        nb_web_close(w);
        return status;
    }
    w->p.base = w->base;
    w->p.key = w->key;
    w->p.token = NULL; /* w->token has it */
    *out = w;
    return NB_OK;
}

void nb_web_close(nb_web *w)
{
    if (!w)
        return;
    curl_multi_cleanup(w->multi);
    nb_buf_free(&w->origin);
    nb_buf_free(&w->token);
    free(w->base);
    free(w->key);
    free(w);
}

const nb_web_params *nb_web_params_of(const nb_web *w) { return &w->p; }
bool nb_web_stopped(const nb_web *w) { return w->p.stop && w->p.stop(w->p.user); }

/* ---- answers ---- */

static void clear_answer(nb_answer *a)
{
    a->status = 0;
    nb_buf_clear(&a->body);
    nb_buf_clear(&a->url);
    for (int i = 0; i < NB_FIELDS; i++)
        nb_buf_clear(&a->fields[i]);
}

void nb_answer_free(nb_answer *a)
{
    nb_buf_free(&a->body);
    nb_buf_free(&a->url);
    for (int i = 0; i < NB_FIELDS; i++)
        nb_buf_free(&a->fields[i]);
    *a = (nb_answer){0};
}

nb_str nb_answer_field(const nb_answer *a, nb_field field) { return nb_buf_view(&a->fields[field]); }

static const char *remedy_of(int status)
{
    switch (status) {
    case 401:
    case 403: return "it wants to know who asks: set HF_TOKEN for hf.co; for another registry log in or ask its owner";
    case 404: return "there is none of this name; look for typing errors, and for the tag";
    case 410: return "it is gone";
    case 413: return "the registry takes no pieces as large as these; its owner can allow them";
    case 416: return "the file there is shorter than was said";
    case 429: return "too many requests; wait a while and try again";
    case 507: return "the registry's disk is full";
    default:
        return status >= 500   ? "the trouble is at that end; try again later"
               : status >= 300 ? "this is no answer that is understood here; is it the right address?"
                               : "this is not what was asked for; is it the right address?";
    }
}

nb_status nb_answer_fail(const nb_answer *a, const char *what, nb_error *err)
{
    nb_str host = nb_url_host(a->url.data ? a->url.data : "");
    nb_status code = a->status == 404 ? NB_ERR_NOT_FOUND : a->status >= 500 ? NB_ERR_IO : NB_ERR_ARGUMENT;
    return nb_fail(err, code, "%.*s: %s: it answered %d: %s", NB_STR_ARG(host), what, a->status, remedy_of(a->status));
}

nb_status nb_web_fail(const char *url, const nb_exchange *x, CURLcode code, nb_error *err)
{
    nb_str host = nb_url_host(url);
    const char *why = x->problem[0] ? x->problem : curl_easy_strerror(code);
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT)
        return nb_fail(err, NB_ERR_IO, "%.*s cannot be reached: %s; check the name and the network", NB_STR_ARG(host),
                       why);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CONNECT_ERROR)
        return nb_fail(err, NB_ERR_IO,
                       "%.*s: no secure connection: %s; a registry without TLS wants --insecure or http://",
                       NB_STR_ARG(host), why);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return nb_fail(err, NB_ERR_IO, "%.*s stopped sending: %s; try again, what is there already is kept",
                       NB_STR_ARG(host), why);
    return nb_fail(err, NB_ERR_IO, "%.*s: the transfer broke off: %s; try again, what is there already is kept",
                   NB_STR_ARG(host), why);
}

/* ---- one exchange ---- */

static size_t take_field(char *line, size_t size, size_t n, void *user)
{
    nb_exchange *x = user;
    nb_str s = {line, size * n};
    x->field_bytes += s.n;
    if (x->field_bytes > FIELD_BYTES) {
        x->too_much = true;
        return 0;
    }
    while (s.n && (s.p[s.n - 1] == '\r' || s.p[s.n - 1] == '\n' || s.p[s.n - 1] == ' '))
        s.n--;
    if (nb_str_starts(s, NB_STR("HTTP/"))) { /* of another answer: those before were of 1xx */
        for (int i = 0; i < NB_FIELDS; i++)
            nb_buf_clear(&x->answer.fields[i]);
        return size * n;
    }
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    for (int i = 0; colon && i < NB_FIELDS; i++) {
        nb_buf *to = &x->answer.fields[i];
        size_t length = strlen(field_names[i]);
        if ((size_t)(colon - s.p) != length || strncasecmp(s.p, field_names[i], length) != 0 || to->len)
            continue;
        const char *value = colon + 1, *end = s.p + s.n;
        while (value < end && (*value == ' ' || *value == '\t'))
            value++;
        nb_buf_add(to, value, (size_t)(end - value));
    }
    return size * n;
}

static bool add_header(nb_exchange *x, const char *line)
{
    struct curl_slist *longer = curl_slist_append(x->headers, line);
    x->headers = longer ? longer : x->headers;
    return longer != NULL;
}

static nb_status check_url(const nb_web *w, const char *url, nb_error *err)
{
    if (is_secure(w->base) && !is_secure(url))
        return nb_fail(err, NB_ERR_ARGUMENT, "%.*s leads to %.*s without TLS, which is not followed",
                       NB_STR_ARG(nb_url_host(w->base)), NB_STR_ARG(nb_url_host(url)));
    return NB_OK;
}

/* The library asks for neither, as the tools of curl and OpenSSL do: whom a proxy or a registry of one's own is certified by. */
static const char *authorities(void)
{
    const char *curl = nb_env_text("CURL_CA_BUNDLE");
    return curl ? curl : nb_env_text("SSL_CERT_FILE");
}

nb_status nb_exchange_begin(nb_web *w, const char *url, const char *range, nb_exchange *x, nb_error *err)
{
    *x = (nb_exchange){.easy = curl_easy_init()};
    NB_TRY(check_url(w, url, err));
    x->at_home = at_home(w, url);
    nb_buf_z(&x->answer.url, url);
    CURL *c = x->easy;
    bool good = c && !x->answer.url.failed && add_header(x, "Accept-Encoding: identity") && add_header(x, "Expect:");
    if (good && x->at_home && w->token.len)
        good = add_header(x, w->token.data);
    if (!good)
        return nb_fail_memory(err, "a request", sizeof *x);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, is_secure(w->base) ? "https" : "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* a connection a part: they add up */
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1000L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)w->p.stall_seconds);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "nibble/" NB_VERSION);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->problem);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_field);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, x->headers);
    if (authorities())
        curl_easy_setopt(c, CURLOPT_CAINFO, authorities());
    if (range)
        curl_easy_setopt(c, CURLOPT_RANGE, range);
    return NB_OK;
}

void nb_exchange_free(nb_exchange *x)
{
    curl_easy_cleanup(x->easy);
    curl_slist_free_all(x->headers);
    nb_answer_free(&x->answer);
    *x = (nb_exchange){0};
}

/* ---- bodies ---- */

static size_t take_body(char *bytes, size_t size, size_t n, void *user)
{
    nb_exchange *x = user;
    nb_buf *b = &x->answer.body;
    n *= size;
    if (x->answer.fields[NB_FIELD_CONTENT_ENCODING].len || b->len + n > x->request->limit) {
        x->too_much = true;
        return 0;
    }
    nb_buf_add(b, bytes, n);
    return b->failed ? 0 : n;
}

static size_t give_body(char *to, size_t size, size_t n, void *user)
{
    nb_exchange *x = user;
    const nb_request *q = x->request;
    uint64_t all = q->fd_bytes ? q->fd_bytes : q->body.n;
    n = nb_min_size(size * n, (size_t)(all - x->sent < SIZE_MAX ? all - x->sent : SIZE_MAX));
    if (n == 0)
        return 0;
    if (q->fd_bytes) {
        ssize_t got = pread(q->fd, to, n, (off_t)(q->fd_at + x->sent));
        if (got <= 0)
            return CURL_READFUNC_ABORT;
        n = (size_t)got;
    } else {
        memcpy(to, q->body.p + x->sent, n);
    }
    x->sent += n;
    return q->sent && !q->sent(q->user, x->sent) ? CURL_READFUNC_ABORT : n;
}

static int rewind_body(void *user, curl_off_t offset, int origin)
{
    nb_exchange *x = user;
    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_FAIL;
    x->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static nb_status set_request(nb_exchange *x, const nb_request *q, const char *method, nb_error *err)
{
    CURL *c = x->easy;
    for (const char *const *h = q->headers; h && *h; h++)
        if (!add_header(x, *h))
            return nb_fail_memory(err, "a request", sizeof *x);
    x->request = q;
    /* curl sends anew what breaks off on a used connection: a piece of an upload would arrive one and a half times */
    curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, (long)q->once);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    if (strcmp(method, "GET") == 0)
        return NB_OK;
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        return NB_OK;
    }
    curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c, CURLOPT_READFUNCTION, give_body);
    curl_easy_setopt(c, CURLOPT_READDATA, x);
    curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, rewind_body);
    curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
    curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)(q->fd_bytes ? q->fd_bytes : q->body.n));
    return NB_OK;
}

/* ---- running one ---- */

static nb_status cancelled(const nb_web *w, nb_error *err)
{
    return nb_fail(err, NB_ERR_CANCELLED, "%.*s: stopped", NB_STR_ARG(nb_url_host(w->base)));
}

static nb_status run(nb_web *w, nb_exchange *x, CURLcode *code, nb_error *err)
{
    int running = 1, left;
    *code = CURLE_OK;
    curl_multi_add_handle(w->multi, x->easy);
    bool stopped = false;
    while (running && !stopped) {
        curl_multi_perform(w->multi, &running);
        if (running)
            curl_multi_poll(w->multi, NULL, 0, 100, NULL);
        stopped = nb_web_stopped(w);
    }
    for (CURLMsg *m; (m = curl_multi_info_read(w->multi, &left));)
        if (m->msg == CURLMSG_DONE)
            *code = m->data.result;
    curl_multi_remove_handle(w->multi, x->easy);
    if (stopped && running)
        return cancelled(w, err);
    long status = 0;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    x->answer.status = (int)status;
    return NB_OK;
}

static nb_status wait_ms(nb_web *w, int ms, nb_error *err)
{
    for (; ms > 0; ms -= 50) {
        if (nb_web_stopped(w))
            return cancelled(w, err);
        nanosleep(&(struct timespec){.tv_nsec = (ms < 50 ? ms : 50) * 1000000L}, NULL);
    }
    return NB_OK;
}

bool nb_web_is_redirect(int s) { return s == 301 || s == 302 || s == 303 || s == 307 || s == 308; }
bool nb_web_is_passing(int s) { return s == 408 || s == 429 || (s >= 500 && s != 501 && s != 507); }

bool nb_web_passing_failure(CURLcode code)
{
    switch (code) {
    case CURLE_WRITE_ERROR:
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_OUT_OF_MEMORY: return false;
    default: return true;
    }
}

int nb_web_pause(const nb_web *w, int n, const nb_answer *a)
{
    uint64_t seconds;
    if (a && nb_length_parse(nb_answer_field(a, NB_FIELD_RETRY_AFTER), &seconds))
        return 1000 * (int)(seconds < LONGEST_RETRY_AFTER ? seconds : LONGEST_RETRY_AFTER);
    int ms = w->p.backoff_ms;
    for (int i = 1; i < n && ms < LONGEST_PAUSE_MS; i++)
        ms *= 2;
    return ms < LONGEST_PAUSE_MS ? ms : LONGEST_PAUSE_MS;
}

nb_status nb_web_redirect(nb_web *w, const nb_answer *a, nb_buf *url, nb_error *err)
{
    nb_str to = nb_answer_field(a, NB_FIELD_LOCATION), host = nb_url_host(a->url.data);
    nb_buf whole = {0};
    nb_status status = NB_OK;
    if (to.n == 0 || !make_url(a->url.data, to.p, &whole))
        status = nb_fail(err, NB_ERR_FORMAT,
                         "%.*s: it answered %d with no address to go on to; is it the right registry?",
                         NB_STR_ARG(host), a->status);
    else
        status = check_url(w, whole.data, err);
    if (status == NB_OK) {
        nb_buf_clear(url);
        nb_buf_str(url, nb_buf_view(&whole));
        status = url->failed ? nb_fail_memory(err, "an address", whole.len) : NB_OK;
    }
    nb_buf_free(&whole);
    return status;
}

/* One exchange, done: its answer goes to a. NB_OK also for a transfer that failed: *code says so. */
static nb_status exchange(nb_web *w, const nb_request *q, const char *method, const char *url, nb_answer *a,
                          CURLcode *code, nb_error *err)
{
    nb_exchange x;
    nb_status status = nb_exchange_begin(w, url, NULL, &x, err);
    *code = CURLE_OK;
    if (status == NB_OK)
        status = set_request(&x, q, method, err);
    if (status == NB_OK)
        status = run(w, &x, code, err);
    if (status == NB_OK && x.too_much)
        status = nb_fail(err, NB_ERR_FORMAT, "%.*s: its answer is %s; is it the right address?",
                         NB_STR_ARG(nb_url_host(url)),
                         x.answer.fields[NB_FIELD_CONTENT_ENCODING].len ? "compressed, though that was not asked for"
                                                                        : "larger than any that is asked for here");
    if (status == NB_OK && *code != CURLE_OK)
        nb_web_fail(url, &x, *code, err);
    nb_answer_free(a);
    *a = x.answer;
    x.answer = (nb_answer){0};
    nb_exchange_free(&x);
    return status;
}

/* Follows one answer: NB_OK and *again when there is another request to make. */
static nb_status follow(nb_web *w, const nb_request *q, const nb_answer *a, const char **method, nb_buf *url, int *hops,
                        bool *asked, bool *again, nb_error *err)
{
    *again = false;
    if (nb_web_is_redirect(a->status) && !q->stay) {
        if (++*hops > HOPS)
            return nb_fail(err, NB_ERR_FORMAT, "%.*s: more than %d redirects; is it the right address?",
                           NB_STR_ARG(nb_url_host(w->base)), HOPS);
        *again = true;
        if (a->status == 303 && strcmp(*method, "HEAD") != 0)
            *method = "GET";
        return nb_web_redirect(w, a, url, err);
    }
    if (a->status == 401 && w->p.challenges && !*asked && at_home(w, a->url.data) &&
        nb_answer_field(a, NB_FIELD_AUTHENTICATE).n) {
        *asked = *again = true;
        return nb_web_authorize(w, a, err);
    }
    return NB_OK;
}

/* More often than not a wrong name: not worth many tries. */
static bool nobody_there(CURLcode code)
{
    return code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT || code == CURLE_SSL_CONNECT_ERROR;
}

nb_status nb_web_send(nb_web *w, const nb_request *q, nb_answer *a, nb_error *err)
{
    const char *method = q->method;
    int hops = 0, attempt = 1;
    bool asked = false, again = true;
    nb_buf url = {0};
    nb_status status = NB_OK;
    if (*q->url == '/')
        nb_buf_z(&url, w->base);
    nb_buf_z(&url, q->url);
    if (url.failed)
        return nb_fail_memory(err, "an address", strlen(q->url));
    while (status == NB_OK && again) {
        CURLcode code;
        clear_answer(a);
        status = exchange(w, q, method, url.data, a, &code, err);
        if (status != NB_OK)
            break;
        bool broken = code != CURLE_OK, passing = broken ? nb_web_passing_failure(code) : nb_web_is_passing(a->status);
        int most = nobody_there(code) && w->p.attempts > UNREACHED ? UNREACHED : w->p.attempts;
        if (passing && !q->once && attempt < most) {
            status = wait_ms(w, nb_web_pause(w, attempt++, broken ? NULL : a), err);
            continue;
        }
        if (broken) {
            status = code == CURLE_ABORTED_BY_CALLBACK ? cancelled(w, err) : NB_ERR_IO;
            break;
        }
        status = follow(w, q, a, &method, &url, &hops, &asked, &again, err);
    }
    nb_buf_free(&url);
    return status;
}

/* ---- tokens ---- */

static void add_query(nb_buf *url, const char *key, nb_str value)
{
    char *text = value.n ? curl_easy_escape(NULL, value.p, (int)nb_min_size(value.n, 1 << 16)) : NULL;
    if (text)
        nb_buf_printf(url, "%c%s=%s", memchr(url->data, '?', url->len) ? '&' : '?', key, text);
    curl_free(text);
}

/* Asks the realm, anonymously or signed. The client's own token, if any, was refused: it goes along no more. */
static nb_status ask_realm(nb_web *w, const char *realm, const nb_challenge *c, nb_answer *a, nb_error *err)
{
    nb_buf url = {0}, signature = {0};
    nb_buf_z(&url, realm);
    add_query(&url, "service", c->service);
    for (nb_str rest = c->scope; rest.n;) { /* several, separated by blanks, are several parameters */
        const char *blank = memchr(rest.p, ' ', rest.n);
        size_t n = blank ? (size_t)(blank - rest.p) : rest.n;
        add_query(&url, "scope", (nb_str){rest.p, n});
        rest = (nb_str){rest.p + nb_min_size(n + 1, rest.n), rest.n - nb_min_size(n + 1, rest.n)};
    }
    nb_status status = w->p.key ? nb_token_sign(w->p.key, &url, &signature, err) : NB_OK;
    const char *headers[] = {signature.len ? signature.data : NULL, NULL};
    nb_request q = {.method = "GET", .url = url.data, .headers = headers, .limit = TOKEN_ANSWER, .stay = true};
    nb_buf_clear(&w->token);
    if (status == NB_OK && (url.failed || signature.failed))
        status = nb_fail_memory(err, "an address", url.len);
    if (status == NB_OK)
        status = nb_web_send(w, &q, a, err);
    nb_buf_free(&url);
    nb_buf_free(&signature);
    return status;
}

nb_status nb_web_authorize(nb_web *w, const nb_answer *refusal, nb_error *err)
{
    nb_challenge c;
    nb_buf realm = {0};
    nb_answer a = {0};
    nb_arena arena = {0};
    nb_str token, host = nb_url_host(w->base);
    char text[2049];
    bool challenges = w->p.challenges;
    if (!nb_challenge_parse(nb_answer_field(refusal, NB_FIELD_AUTHENTICATE), &c))
        return nb_answer_fail(refusal, "logging in", err);
    snprintf(text, sizeof text, "%.*s", (int)c.realm.n, c.realm.p);
    nb_status status = NB_OK;
    if (!make_url(refusal->url.data, text, &realm) || !at_home(w, realm.data))
        status = nb_fail(err, NB_ERR_ARGUMENT, "%.*s sends us to %.*s for a token, which is another host: it gets none",
                         NB_STR_ARG(host), NB_STR_ARG(nb_url_host(text)));
    w->p.challenges = false; /* the realm itself does not send us on */
    if (status == NB_OK)
        status = ask_realm(w, realm.data, &c, &a, err);
    w->p.challenges = challenges;
    if (status == NB_OK && a.status != 200)
        status = nb_answer_fail(&a, "getting a token", err);
    if (status == NB_OK)
        status = nb_token_parse(nb_buf_view(&a.body), &arena, &token, err);
    if (status == NB_OK)
        status = set_token(w, token, err);
    nb_answer_free(&a);
    nb_arena_free(&arena);
    nb_buf_free(&realm);
    return status;
}
