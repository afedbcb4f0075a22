/* HTTP over libmicrohttpd: a request's body is gathered or handed on, its route runs on the connection's thread, and a stream is
 * pulled from the route as fast as the client reads. */
#define _GNU_SOURCE
#include "server/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json_write.h"
#include "server/api_request.h"
#include "server/http_guard.h"
#include "server/http_listen.h"
#include "server/http_watch.h"
#include "server/http_workers.h"
#include "server/routes.h"

enum { MAX_BODY = 64 << 20, CONNECTIONS = 900, TIMEOUT = 120, MOST_SET = 8 };
enum { HEADERS = 32 << 10 };   /* what is larger is mapped anew for each connection: 60 us */
enum { LAST_WORDS_MS = 2000 }; /* for replies that are complete and not yet sent */
enum { HEAD_SECONDS = 30, BODY_SECONDS = 30, BODY_RATE = 8192 };
enum { LINGER_MS = 250, LINGER_BYTES = 256 << 10, PASSED_OVER = 1 << 20 };

struct nb_http {
    nb_service *service;
    nb_library *library;
    nb_http_params p;
    nb_guard *guard;
    nb_watch *watch;
    nb_listening at;
    nb_workers *workers[NB_LISTEN_MOST]; /* one an address */
    nb_buf certificate, key;
    atomic_uint active;
};

typedef struct row {
    const char *method, *path;
    nb_http_flavor flavor;
    nb_route_fn *run;
    nb_take_fn *take; /* NULL: the body is gathered */
} row;

static const row rows[] = {
#define ROUTE(method, path, flavor, function) {method, path, NB_FLAVOR_##flavor, function, NULL},
#define ROUTE_TAKES(method, path, flavor, function, take) {method, path, NB_FLAVOR_##flavor, function, take},
#include "server/routes.def"
#undef ROUTE
#undef ROUTE_TAKES
};
enum { ROWS = sizeof rows / sizeof *rows };

struct nb_http_request {
    nb_http *http;
    struct MHD_Connection *connection;
    const row *route;
    nb_buf body, rest;
    nb_error refused; /* before the route: status and message */
    int refused_status;
    size_t passed_over; /* bytes of the body that came after that */
    uint64_t user;
    double start;
    const char *method, *path;
    void *kept;
    void (*kept_end)(void *kept);
    /* the answer */
    struct MHD_Response *response;
    int status;
    struct {
        const char *name;
        char value[200];
    } set[MOST_SET];
    size_t set_count;
    nb_stream_more_fn *more;
    void (*end)(void *state);
    void *state;
    nb_buf out;
    size_t sent;
    bool last, held, begun; /* begun: something of a stream went out behind its head */
    /* for the log */
    char id[NB_HTTP_ID], model[NB_NAME_TEXT];
    nb_error said;
    nb_task_stats used;
    size_t replies;
};

/* ---- for routes ---- */

nb_service *nb_http_service(const nb_http_request *r) { return r->http->service; }
nb_library *nb_http_library(const nb_http_request *r) { return r->http->library; }
nb_str nb_http_body(const nb_http_request *r) { return nb_buf_view(&r->body); }
nb_str nb_http_rest(const nb_http_request *r) { return nb_buf_view(&r->rest); }
uint64_t nb_http_user(const nb_http_request *r) { return r->user; }
/* Routes that are both OpenAI's and Anthropic's are told apart by the header that Anthropic's clients always send. */
nb_http_flavor nb_http_flavor_of(const nb_http_request *r)
{
    nb_http_flavor flavor = r->route ? r->route->flavor : NB_FLAVOR_OLLAMA;
    return flavor == NB_FLAVOR_OPENAI && nb_http_header(r, "anthropic-version") ? NB_FLAVOR_ANTHROPIC : flavor;
}

const char *nb_http_header(const nb_http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *nb_http_argument(const nb_http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

void nb_http_keep(nb_http_request *r, void *kept, void (*end)(void *kept))
{
    r->kept = kept;
    r->kept_end = end;
}

void *nb_http_kept(const nb_http_request *r) { return r->kept; }

static int socket_of(const nb_http_request *r)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

/* While it is held, what is sent gathers in the socket (200 ms at most) and leaves in one piece: a stream's head with what comes
 * first, its last words with the mark of its end. Each piece would wake the client. */
static void hold(nb_http_request *r, bool held)
{
    int on = held;
    if (r->held != held)
        setsockopt(socket_of(r), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    r->held = held;
}

bool nb_http_gone(void *request)
{
    nb_http_request *r = request;
    struct pollfd p = {.fd = socket_of(r), .events = POLLRDHUP};
    if (r->begun)
        hold(r, false);
    return p.fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

void nb_http_count(void *request, nb_str model, const nb_task_stats *stats)
{
    nb_http_request *r = request;
    snprintf(r->model, sizeof r->model, "%.*s", NB_STR_ARG(model));
    if (!stats)
        return;
    r->replies++;
    r->used.prompt_tokens += stats->prompt_tokens;
    r->used.reused_tokens += stats->reused_tokens;
    r->used.tokens += stats->tokens;
    r->used.queued_seconds += stats->queued_seconds;
    r->used.prompt_seconds += stats->prompt_seconds;
    r->used.seconds += stats->seconds;
}

void nb_http_set(nb_http_request *r, const char *header, const char *value)
{
    if (r->set_count == MOST_SET)
        return;
    r->set[r->set_count].name = header;
    snprintf(r->set[r->set_count++].value, sizeof r->set[0].value, "%s", value);
}

void nb_http_reply(nb_http_request *r, int status, const char *type, nb_str body)
{
    r->status = status;
    r->response = MHD_create_response_from_buffer(body.n, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY);
    nb_http_set(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
}

void nb_http_json(nb_http_request *r, int status, nb_buf *json)
{
    if (json->failed) {
        nb_buf_free(json);
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return;
    }
    nb_http_reply(r, status, "application/json; charset=utf-8", nb_buf_view(json));
    nb_buf_free(json);
}

/* ---- failures ---- */

int nb_http_status_of(const nb_error *err)
{
    switch (err->code) {
    case NB_OK: return 200;
    case NB_ERR_ARGUMENT:
    case NB_ERR_FORMAT:
    case NB_ERR_UNSUPPORTED:
    case NB_ERR_LIMIT: return 400;
    case NB_ERR_NOT_FOUND: return 404;
    case NB_ERR_CANCELLED: return 499;
    default: return 500;
    }
}

static const char *openai_type(int status)
{
    return status == 401   ? "authentication_error"
           : status == 404 ? "not_found_error"
           : status == 503 ? "overloaded_error"
           : status >= 500 ? "api_error"
                           : "invalid_request_error";
}

void nb_http_write_error(nb_http_flavor flavor, int status, const char *message, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    if (flavor == NB_FLAVOR_OLLAMA) {
        nb_json_put_z(&j, "error", message);
    } else {
        if (flavor == NB_FLAVOR_ANTHROPIC)
            nb_json_put_z(&j, "type", "error");
        nb_json_key(&j, "error");
        nb_json_open(&j, '{');
        if (flavor == NB_FLAVOR_ANTHROPIC)
            nb_json_put_z(&j, "type", openai_type(status));
        nb_json_put_z(&j, "message", message);
        if (flavor == NB_FLAVOR_OPENAI) {
            nb_json_put_z(&j, "type", openai_type(status));
            nb_json_key(&j, "param");
            nb_json_null(&j);
            nb_json_key(&j, "code");
            nb_json_null(&j);
        }
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, '}');
}

void nb_http_fail(nb_http_request *r, int status, const nb_error *err)
{
    nb_buf b = {0};
    status = status ? status : nb_http_status_of(err);
    r->said = *err;
    nb_http_write_error(nb_http_flavor_of(r), status, err->message, &b);
    if (status == 503)
        nb_http_set(r, "Retry-After", "1");
    if (status == 401)
        nb_http_set(r, "WWW-Authenticate", "Bearer");
    if (b.failed)
        nb_http_reply(r, 500, "text/plain", NB_STR("out of memory"));
    else
        nb_http_json(r, status, &b);
    nb_buf_free(&b);
}

/* ---- streams ---- */

static unsigned idle_seconds(const nb_http *h)
{
    return (unsigned)(h->p.timeout_seconds ? h->p.timeout_seconds : TIMEOUT);
}

/* What the engine took is no idleness of the client's: its time begins anew (with a limit that comes after none). */
static void forgive_wait(const nb_http_request *r)
{
    MHD_set_connection_option(r->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    MHD_set_connection_option(r->connection, MHD_CONNECTION_OPTION_TIMEOUT, idle_seconds(r->http));
}

static ssize_t pull(void *request, uint64_t position, char *to, size_t most)
{
    nb_http_request *r = request;
    (void)position;
    while (r->sent == r->out.len) {
        if (r->last)
            return MHD_CONTENT_READER_END_OF_STREAM;
        nb_buf_clear(&r->out);
        r->sent = 0;
        r->last = !r->more(r->state, &r->out);
        forgive_wait(r);
        if (r->out.failed || (r->out.len == 0 && r->last && nb_http_gone(r)))
            return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t n = nb_min_size(most, r->out.len - r->sent);
    memcpy(to, r->out.data + r->sent, n);
    r->sent += n;
    r->begun = true;
    if (r->last)
        hold(r, true);
    return (ssize_t)n;
}

void nb_http_stream(nb_http_request *r, const char *type, nb_stream_more_fn *more, void (*end)(void *state),
                    void *state)
{
    r->more = more;
    r->end = end;
    r->state = state;
    r->status = 200;
    r->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 64 << 10, pull, r, NULL);
    nb_http_set(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    nb_http_set(r, "Cache-Control", "no-cache");
    hold(r, true);
}

/* ---- before the route ---- */

static bool matches(const row *w, const char *path, const char **rest)
{
    size_t n = strlen(w->path);
    *rest = "";
    if (w->path[n - 1] != '*')
        return strcmp(w->path, path) == 0;
    *rest = path + n - 1;
    return strncmp(w->path, path, n - 1) == 0 && **rest;
}

static void refuse(nb_http_request *r, int status, const char *format, ...) NB_PRINTF(3, 4);
static void refuse(nb_http_request *r, int status, const char *format, ...)
{
    va_list args;
    if (r->refused_status)
        return;
    r->refused_status = status;
    va_start(args, format);
    vsnprintf(r->refused.message, sizeof r->refused.message, format, args);
    va_end(args);
}

static void find_route(nb_http_request *r, const char *method, const char *path)
{
    bool known = false;
    const char *rest;
    for (size_t i = 0; i < ROWS; i++) {
        if (!matches(&rows[i], path, &rest))
            continue;
        known = true;
        r->route = r->route ? r->route : &rows[i]; /* for the shape of errors */
        if (strcmp(method, rows[i].method) == 0 ||
            (strcmp(method, "HEAD") == 0 && strcmp(rows[i].method, "GET") == 0)) {
            r->route = &rows[i];
            nb_buf_z(&r->rest, rest);
            return;
        }
    }
    if (known)
        refuse(r, 405, "%s takes no %.20s", path, method);
    else
        refuse(r, 404, "there is no %.200s", path);
}

static uint64_t address_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    uint64_t hash = 1469598103934665603u;
    if (!info || !info->client_addr)
        return 0;
    const unsigned char *p = NULL;
    size_t n = 0;
    if (info->client_addr->sa_family == AF_INET) {
        p = (const unsigned char *)&((const struct sockaddr_in *)(const void *)info->client_addr)->sin_addr;
        n = 4;
    } else if (info->client_addr->sa_family == AF_INET6) {
        p = (const unsigned char *)&((const struct sockaddr_in6 *)(const void *)info->client_addr)->sin6_addr;
        n = 16;
    }
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

static enum MHD_Result count_header(void *count, enum MHD_ValueKind kind, const char *name, const char *value)
{
    unsigned *n = count;
    (void)kind, (void)value;
    n[0] += strcasecmp(name, "Host") == 0;
    n[1] += strcasecmp(name, "Content-Length") == 0;
    n[2] += strcasecmp(name, "Transfer-Encoding") == 0;
    return MHD_YES;
}

/* What this server and one before it could read in two ways is not read at all. */
static void check_headers(nb_http_request *r)
{
    unsigned n[3] = {0};
    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, count_header, n);
    if (n[0] > 1)
        refuse(r, 400, "the request has %u Host headers", n[0]);
    if (n[1] + n[2] > 1)
        refuse(r, 400, "the request says more than once how long its body is");
}

/* A body in a coding: libmicrohttpd would read one of an unknown transfer coding until the client hangs up. */
static void check_codings(nb_http_request *r)
{
    const char *transfer = nb_http_header(r, "Transfer-Encoding"), *content = nb_http_header(r, "Content-Encoding");
    if (transfer && strcasecmp(transfer, "chunked") != 0)
        refuse(r, 501, "the transfer coding %.60s is not supported; send the body chunked or with its Content-Length",
               transfer);
    if (content && *content && strcasecmp(content, "identity") != 0)
        refuse(r, 415, "the content coding %.60s is not supported; send the body as it is", content);
}

static void check(nb_http_request *r)
{
    const nb_http *h = r->http;
    const char *host = nb_http_header(r, "Host"), *origin = nb_http_header(r, "Origin");
    if (!nb_guard_host(h->guard, host))
        refuse(r, 403, "this server does not answer to the name %.100s; name it in NIBBLE_ALLOWED_HOSTS if it should",
               host);
    if (origin && !nb_guard_origin(h->guard, origin, host))
        refuse(r, 403, "pages of %.100s may not use this server; name them in OLLAMA_ORIGINS if they should", origin);
    r->user = address_of(r->connection);
    bool open = strcmp(r->path, "/") == 0 || strcmp(r->path, "/health") == 0;
    if (!open && strcmp(r->method, "OPTIONS") != 0 &&
        !nb_guard_key(h->guard, nb_http_header(r, "Authorization"), nb_http_header(r, "x-api-key"), &r->user))
        refuse(r, 401, "an API key is needed: Authorization: Bearer KEY");
}

static size_t most_of(const nb_http_request *r) { return r->http->p.max_body ? r->http->p.max_body : MAX_BODY; }

static void check_length(nb_http_request *r)
{
    const char *length = nb_http_header(r, "Content-Length");
    if (length && !(r->route && r->route->take) && strtoull(length, NULL, 10) > most_of(r))
        refuse(r, 413, "the body has %.20s bytes; at most %zu are taken", length, most_of(r));
}

/* A piece of the body. After a refusal a little of what still comes is passed over, where a route takes bodies that may be long:
 * a client that only sends reads the answer at their end. */
static void take_piece(nb_http_request *r, nb_str piece)
{
    nb_error err;
    if (r->refused_status) {
        r->passed_over += piece.n;
        return;
    }
    if (r->route->take) {
        if (r->route->take(r, piece, &err) != NB_OK)
            refuse(r, nb_http_status_of(&err), "%s", err.message);
    } else if (r->body.len + piece.n > most_of(r)) {
        refuse(r, 413, "the body has more than %zu bytes", most_of(r));
    } else {
        nb_buf_str(&r->body, piece);
    }
}

/* ---- answers ---- */

static enum MHD_Result send_answer(nb_http_request *r)
{
    const char *origin = nb_http_header(r, "Origin");
    if (!r->response) /* a route that forgot, or no memory */
        nb_http_reply(r, 500, "text/plain", NB_STR("no answer"));
    if (!r->response)
        return MHD_NO;
    for (size_t i = 0; i < r->set_count; i++)
        MHD_add_response_header(r->response, r->set[i].name, r->set[i].value);
    MHD_add_response_header(r->response, nb_http_flavor_of(r) == NB_FLAVOR_ANTHROPIC ? "request-id" : "X-Request-Id",
                            r->id);
    if (origin && nb_guard_origin(r->http->guard, origin, nb_http_header(r, "Host"))) {
        MHD_add_response_header(r->response, "Access-Control-Allow-Origin", origin);
        MHD_add_response_header(r->response, "Vary", "Origin");
    }
    enum MHD_Result done = MHD_queue_response(r->connection, (unsigned)r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    return done;
}

/* Takes what still comes, for a moment: a socket that is closed with bytes unread takes back what was said on it. */
static void linger(int fd)
{
    char waste[4096];
    double end = nb_seconds() + LINGER_MS * 1e-3;
    shutdown(fd, SHUT_WR);
    for (size_t taken = 0; taken < LINGER_BYTES;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int left = (int)((end - nb_seconds()) * 1e3);
        ssize_t n = left > 0 && poll(&p, 1, left) > 0 ? recv(fd, waste, sizeof waste, MSG_DONTWAIT) : 0;
        if (n <= 0)
            return;
        taken += (size_t)n;
    }
}

/* In the middle of a body there is no answering in libmicrohttpd's way: said by hand where that can be, then it hangs up. */
static enum MHD_Result cut_off(nb_http_request *r)
{
    int fd = socket_of(r);
    nb_buf body = {0}, text = {0};
    r->status = r->refused_status;
    nb_http_write_error(nb_http_flavor_of(r), r->refused_status, r->refused.message, &body);
    nb_buf_printf(&text,
                  "HTTP/1.1 %d Refused\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\n"
                  "X-Request-Id: %s\r\nContent-Length: %zu\r\n\r\n",
                  r->refused_status, r->id, body.len);
    nb_buf_str(&text, nb_buf_view(&body));
    if (fd >= 0 && r->http->certificate.len == 0 && !text.failed && !body.failed &&
        send(fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        linger(fd);
    nb_buf_free(&body);
    nb_buf_free(&text);
    return MHD_NO;
}

static enum MHD_Result answer_refused(nb_http_request *r)
{
    r->refused.code = NB_ERR_ARGUMENT;
    nb_http_fail(r, r->refused_status, &r->refused);
    return send_answer(r);
}

static enum MHD_Result answer_preflight(nb_http_request *r)
{
    const char *wanted = nb_http_header(r, "Access-Control-Request-Headers");
    nb_http_reply(r, 204, "text/plain", NB_STR(""));
    nb_http_set(r, "Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS");
    nb_http_set(r, "Access-Control-Allow-Headers", wanted ? wanted : "*");
    nb_http_set(r, "Access-Control-Max-Age", "43200");
    return send_answer(r);
}

/* The client's own name for the request, when it is a plain one. */
static void name_request(nb_http_request *r)
{
    const char *theirs = nb_http_header(r, "X-Request-Id");
    size_t n = theirs ? strlen(theirs) : 0;
    if (n > 0 && n < sizeof r->id &&
        theirs[strspn(theirs, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] == 0)
        memcpy(r->id, theirs, n + 1);
    else
        nb_api_id("req_", r->id);
}

static nb_watched *watched(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static nb_http_request *new_request(nb_http *h, struct MHD_Connection *connection, const char *path, const char *method)
{
    nb_http_request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->http = h;
    r->connection = connection;
    r->start = nb_seconds();
    r->method = method;
    r->path = path;
    name_request(r);
    nb_watch_within(watched(connection), h->p.body_seconds > 0 ? h->p.body_seconds : BODY_SECONDS);
    atomic_fetch_add(&h->active, 1);
    check_headers(r); /* first: the first refusal is the answer */
    check(r);
    find_route(r, method, path);
    check_codings(r);
    check_length(r);
    return r;
}

/* Where the body may soon be over, or nothing can be said by hand: a refusal is told behind it. */
static bool waits_for_end(const nb_http_request *r) { return r->route->take || r->http->certificate.len; }

static enum MHD_Result handle(void *http, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *data, size_t *size, void **state)
{
    nb_http_request *r = *state;
    (void)version;
    if (!r) {
        *state = r = new_request(http, connection, path, method);
        if (!r)
            return MHD_NO;
        bool preflight = strcmp(method, "OPTIONS") == 0 && nb_http_header(r, "Access-Control-Request-Method");
        if (r->refused_status == 405 && preflight)
            return answer_preflight(r);
        return r->refused_status ? answer_refused(r) : MHD_YES;
    }
    if (*size) {
        take_piece(r, (nb_str){data, *size});
        nb_watch_extend(watched(connection),
                        (double)*size / (double)(r->http->p.body_rate ? r->http->p.body_rate : BODY_RATE));
        *size = 0;
        return r->refused_status && (r->passed_over > PASSED_OVER || !waits_for_end(r)) ? cut_off(r) : MHD_YES;
    }
    nb_watch_within(watched(connection), 0);
    if (r->body.failed)
        refuse(r, 500, "out of memory");
    if (r->refused_status)
        return answer_refused(r);
    r->route->run(r);
    forgive_wait(r);
    return send_answer(r);
}

static void log_request(const nb_http *h, nb_http_request *r, bool complete)
{
    bool late = nb_watch_was_late(watched(r->connection));
    nb_http_record record = {.id = r->id,
                             .method = r->method,
                             .path = r->path,
                             .route = r->route ? r->route->path : r->path,
                             .model = r->model,
                             .status = late        ? 408
                                       : r->status ? r->status
                                                   : 499,
                             .complete = complete,
                             .seconds = nb_seconds() - r->start,
                             .replies = r->replies,
                             .prompt_tokens = r->used.prompt_tokens,
                             .reused_tokens = r->used.reused_tokens,
                             .tokens = r->used.tokens,
                             .queued_seconds = r->used.queued_seconds,
                             .prompt_seconds = r->used.prompt_seconds,
                             .reply_seconds = r->used.seconds,
                             .body = nb_buf_view(&r->body),
                             .error = r->said.message};
    if (h->p.log)
        h->p.log(h->p.log_user, &record);
}

/* From the first byte's chance to the last, before there is a request. */
static void connected(void *http, struct MHD_Connection *connection, void **context,
                      enum MHD_ConnectionNotificationCode code)
{
    nb_http *h = http;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (code == MHD_CONNECTION_NOTIFY_STARTED && info)
        *context = nb_watch_add(h->watch, info->connect_fd, h->p.head_seconds > 0 ? h->p.head_seconds : HEAD_SECONDS);
    else if (code == MHD_CONNECTION_NOTIFY_CLOSED)
        nb_watch_drop(*context);
}

static void completed(void *http, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
    nb_http *h = http;
    nb_http_request *r = *state;
    if (!r)
        return;
    hold(r, false);
    if (r->end)
        r->end(r->state);
    if (r->kept_end)
        r->kept_end(r->kept);
    log_request(h, r, how == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    nb_watch_within(watched(connection), idle_seconds(h)); /* the next one's head */
    if (r->response)
        MHD_destroy_response(r->response);
    nb_buf_free(&r->body);
    nb_buf_free(&r->rest);
    nb_buf_free(&r->out);
    free(r);
    *state = NULL;
    atomic_fetch_sub(&h->active, 1);
}

/* ---- the server ---- */

static nb_status read_certificates(nb_http *h, nb_error *err)
{
    if (!h->p.certificate && !h->p.key)
        return NB_OK;
    if (!h->p.certificate || !h->p.key)
        return nb_fail(err, NB_ERR_ARGUMENT, "TLS needs both a certificate and its key (PEM files)");
    NB_TRY(nb_file_read(h->p.certificate, 1 << 20, &h->certificate, err));
    return nb_file_read(h->p.key, 1 << 20, &h->key, err);
}

/* What a thread serves its connections with. By select, whose 1024 descriptors bound the connections: libmicrohttpd 0.9.75 misses, with
 * epoll, a client that leaves right behind a piece of a body, and its poll is not for threads of one's own. */
static struct MHD_Daemon *open_daemon(void *http)
{
    nb_http *h = http;
    bool tls = h->certificate.len > 0;
    struct MHD_OptionItem secure[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, h->certificate.data},
                                      {MHD_OPTION_HTTPS_MEM_KEY, 0, h->key.data},
                                      {MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET | (tls ? MHD_USE_TLS : 0), 0, NULL, NULL, handle, h,
                            MHD_OPTION_NOTIFY_COMPLETED, completed, h, MHD_OPTION_NOTIFY_CONNECTION, connected, h,
                            MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds(h), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)HEADERS, MHD_OPTION_ARRAY, tls ? secure : secure + 2, MHD_OPTION_END);
}

static nb_status start_workers(nb_http *h, nb_error *err)
{
    struct MHD_Daemon *first = open_daemon(h); /* tells what is wrong */
    size_t most = h->p.max_connections ? nb_min_size(h->p.max_connections, CONNECTIONS) : CONNECTIONS;
    size_t each = h->p.max_per_address ? h->p.max_per_address : h->at.loopback ? 0 : (most + 1) / 2;
    if (!first)
        return h->certificate.len ? nb_fail(err, NB_ERR_ARGUMENT,
                                            "%s, %s: this certificate and key do not work together (PEM is wanted)",
                                            h->p.certificate, h->p.key)
                                  : nb_fail(err, NB_ERR_IO, "the HTTP server did not start: %s", strerror(errno));
    MHD_stop_daemon(first);
    for (size_t i = 0; i < h->at.count; i++) {
        nb_workers_params p = {
            .fd = h->at.fd[i], .most = most, .most_per_address = each, .open = open_daemon, .user = h};
        h->at.fd[i] = -1; /* it closes that now */
        NB_TRY(nb_workers_new(&p, &h->workers[i], err));
    }
    return NB_OK;
}

nb_status nb_http_start(nb_service *service, nb_library *library, const nb_http_params *params, nb_http **out,
                        nb_error *err)
{
    nb_http *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h)
        return nb_fail_memory(err, "a server", sizeof *h);
    h->service = service;
    h->library = library;
    h->p = *params;
    nb_status status = read_certificates(h, err);
    if (status == NB_OK)
        status = nb_listen(h->p.host, h->p.port, &h->at, err);
    if (status == NB_OK)
        status = nb_guard_new(&h->p, h->at.loopback, &h->guard, err);
    if (status == NB_OK)
        status = nb_watch_new(&h->watch, err);
    if (status == NB_OK)
        status = start_workers(h, err);
    if (status != NB_OK) {
        nb_http_stop(h);
        return status;
    }
    *out = h;
    return NB_OK;
}

int nb_http_port(const nb_http *h) { return h->at.port; }

const char *nb_http_address(const nb_http *h, size_t i) { return i < h->at.count ? h->at.address[i] : NULL; }

void nb_http_quiesce(nb_http *h)
{
    for (size_t i = 0; i < h->at.count; i++)
        nb_workers_quiesce(h->workers[i]);
}

void nb_http_stop(nb_http *h)
{
    if (!h)
        return;
    for (int i = 0; atomic_load(&h->active) && i < LAST_WORDS_MS / 5; i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    for (size_t i = 0; i < NB_LISTEN_MOST && h->workers[i]; i++)
        nb_workers_stop(h->workers[i]);
    if (h->watch)
        nb_watch_cut(h->watch);
    for (size_t i = 0; i < NB_LISTEN_MOST; i++)
        nb_workers_free(h->workers[i]);
    nb_listen_close(&h->at);
    nb_watch_free(h->watch);
    nb_guard_free(h->guard);
    nb_buf_free(&h->certificate);
    nb_buf_free(&h->key);
    free(h);
}
