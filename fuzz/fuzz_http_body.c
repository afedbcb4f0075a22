/* Requests to a server with tiny models and a store of its own: the first byte chooses the route, the rest is the body. Whatever it
 * is, the server answers; a reply that comes to its end is JSON, line by line or event by event where it is a stream, and what a
 * client sent is never the server's own failure. Replies without end are left in the middle. */
#include "../tests/support/http_client.h"

#include <ftw.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "server/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PATIENCE_MS = 300, MOST_REPLY = 256 << 10 };

static const struct {
    const char *method, *path;
} routes[] = {
#define ROUTE(method, path, flavor, function) {method, path},
#define ROUTE_TAKES(method, path, flavor, function, take) {method, path},
#include "server/routes.def"
#undef ROUTE
#undef ROUTE_TAKES
};

static char folder[] = "/tmp/nibble-fuzz-XXXXXX";
static int port;

static int drop(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s, (void)type, (void)at;
    return remove(path);
}

static void tidy(void) { nftw(folder, drop, 16, FTW_DEPTH | FTW_PHYS); }

/* Registries are asked for through a proxy that nobody runs: no request leaves the machine. */
static void close_network(void)
{
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        setenv(names[i], "http://127.0.0.1:1", 1);
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
}

static void start(void)
{
    static const char *const files[] = {NB_TEST_DATA "/archs/llama-2-mha.gguf", NB_TEST_DATA "/archs/bert-ranker.gguf"};
    nb_library *library;
    nb_service *service;
    nb_http *http;
    nb_error err = {0};
    close_network();
    if (!mkdtemp(folder) || atexit(tidy) != 0)
        abort();
    setenv("OLLAMA_MODELS", folder, 1);
    setenv("HOME", folder, 1);
    if (nb_library_open(&(nb_library_params){.files = files, .file_count = 2}, &library, &err) != NB_OK ||
        nb_service_new(library, &(nb_service_params){.threads = 1, .context = 128}, &service, &err) != NB_OK ||
        nb_http_start(service, library, &(nb_http_params){.host = "127.0.0.1"}, &http, &err) != NB_OK) {
        fprintf(stderr, "the server did not start: %s\n", err.message);
        abort();
    }
    port = nb_http_port(http);
}

static void want_json(const char *text, size_t n, const char *all)
{
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    if (!root) {
        fprintf(stderr, "no JSON: %.*s\nin: %s\n", (int)n, text, all);
        abort();
    }
    json_decref(root);
}

static void check(const hc_connection *c, const char *text, size_t n)
{
    char type[512] = "";
    hc_header(c->head, "Content-Type", type);
    if (strncmp(type, "application/json", 16) == 0 && n)
        want_json(text, n, text);
    bool events = strncmp(type, "text/event-stream", 17) == 0, lines = strncmp(type, "application/x-ndjson", 20) == 0;
    for (const char *end; (events || lines) && n; n -= (size_t)(end + 1 - text), text = end + 1) {
        end = memchr(text, '\n', n);
        if (!end)
            abort();
        if (lines)
            want_json(text, (size_t)(end - text), text);
        else if (strncmp(text, "data: ", 6) == 0 && strncmp(text, "data: [DONE]\n", 13) != 0)
            want_json(text + 6, (size_t)(end - text - 6), text);
    }
}

/* What is the request's fault is none of the server's; stores and registries have faults of their own. */
static bool may_fail(const char *path)
{
    return strcmp(path, "/api/pull") == 0 || strcmp(path, "/api/push") == 0 || strcmp(path, "/api/create") == 0;
}

static void hang_up(hc_connection *c)
{
    if (c->fd >= 0) /* at once: a client's ports are soon used up otherwise */
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    hc_hang_up(c);
}

static bool connected(hc_connection *c)
{
    struct timeval limit = {.tv_usec = PATIENCE_MS * 1000};
    if (c->fd < 0 && (c->fd = hc_connect(port)) >= 0)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return c->fd >= 0;
}

static void read_reply(hc_connection *c, const char *path)
{
    nb_buf reply = {0};
    double end = nb_seconds() + PATIENCE_MS * 1e-3;
    for (int byte; reply.len < MOST_REPLY && nb_seconds() < end && (byte = hc_next(c)) >= 0;)
        nb_buf_char(&reply, (char)byte);
    if (c->whole || hc_next(c) < 0) { /* else it goes on */
        nb_buf_char(&reply, 0);
        if (c->whole && !reply.failed)
            check(c, reply.data, reply.len - 1);
        if (c->status >= 500 && !may_fail(path)) {
            fprintf(stderr, "%s: %d %s\n", path, c->status, reply.data);
            abort();
        }
    }
    nb_buf_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static hc_connection c = {.fd = -1};
    char path[100], value[512];
    size_t n;
    if (!port)
        start();
    if (size == 0)
        return 0;
    size_t route = data[0] % (sizeof routes / sizeof *routes), length = strlen(routes[route].path);
    bool rest = routes[route].path[length - 1] == '*';
    snprintf(path, sizeof path, "%.*s%s", (int)(length - rest), routes[route].path, rest ? "x" : "");
    char *text = hc_request(routes[route].method, path, "Content-Type: application/json\r\n", (const char *)data + 1,
                            size - 1, &n);
    bool head = strcmp(routes[route].method, "HEAD") == 0;
    if (!connected(&c))
        abort();
    if (hc_send(c.fd, text, n) && hc_read_head(&c, head))
        read_reply(&c, path);
    else
        c.whole = false; /* it waits for the engine longer than we do */
    if (!c.whole || (hc_header(c.head, "Connection", value) && strcasecmp(value, "close") == 0))
        hang_up(&c);
    free(text);
    return 0;
}
