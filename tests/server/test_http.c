/* The HTTP side: who may ask and who may not, what is no request, and clients that are slow, leave, or come while it stops. */
#include "support/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <jansson.h>
#include <netdb.h>
#include <pthread.h>

#include "base/clock.h"
#include "server/http_guard.h"

static const char *const files[] = {NB_TEST_DATA "/archs/llama-2-mha.gguf"};
/* what goes on until it is stopped: the grammar has no short text */
#define ENDLESS                                                                                                        \
    "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"raw\":true,\"grammar\":\"root ::= [ab]{4000}\","                    \
    "\"options\":{\"num_predict\":4000}}"
#define SHORT                                                                                                          \
    "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"raw\":true,\"stream\":false,\"grammar\":\"root ::= "                \
    "[ab]{9}\",\"options\":{\"num_predict\":4}}"

static ts_server start(nb_http_params p)
{
    ts_server s;
    ts_start(&s, files, 1, &p, NULL);
    return s;
}

static int status_of(int port, const char *method, const char *path, const char *headers, const char *body)
{
    hc_reply r = hc_ask(port, method, path, headers, body);
    int status = r.status;
    hc_free(&r);
    return status;
}

/* What the reply's error says, after a look at its form: {"error": text}. */
static void expect_error(hc_reply r, int status, const char *words)
{
    char value[512];
    json_t *root = json_loadb(r.body, r.bytes, JSON_ALLOW_NUL, NULL);
    const char *text = json_string_value(json_object_get(root, "error"));
    if (r.status != status || !text || !strstr(text, words))
        fail_msg("status %d, %s; %d and %s were expected", r.status, r.body, status, words);
    assert_non_null(hc_header(r.head, "Content-Type", value));
    assert_non_null(strstr(value, "application/json"));
    json_decref(root);
    hc_free(&r);
}

/* ---- who may ask ---- */

static void hosts(void **state)
{
    (void)state;
    ts_server s = start((nb_http_params){.allowed_hosts = "models.example, .inner.example"});
    static const struct {
        const char *host;
        int status;
    } cases[] = {{"Host: localhost\r\n", 200},
                 {"Host: localhost:8080\r\n", 200},
                 {"Host: LOCALHOST\r\n", 200},
                 {"Host: 127.0.0.1:1\r\n", 200},
                 {"Host: 127.9.8.7\r\n", 200},
                 {"Host: [::1]:11434\r\n", 200},
                 {"Host: models.example:80\r\n", 200},
                 {"Host: a.b.inner.example\r\n", 200},
                 {"Host: evil.example\r\n", 403},
                 {"Host: 127.evil.example\r\n", 403},
                 {"Host: localhost.evil.example\r\n", 403},
                 {"Host: 192.168.1.7\r\n", 403},
                 {"Host: printer\r\n", 403},
                 {"Host: xinner.example\r\n", 403},
                 {"Host: localhost:80@evil.example\r\n", 403},
                 {"Host: [::1]evil.example\r\n", 403}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = status_of(s.port, "GET", "/api/version", cases[i].host, NULL);
        if (status != cases[i].status)
            fail_msg("%s: %d", cases[i].host, status);
    }
    expect_error(hc_ask(s.port, "GET", "/api/tags", "Host: evil.example\r\n", NULL), 403, "NIBBLE_ALLOWED_HOSTS");
    assert_int_equal(status_of(s.port, "OPTIONS", "/api/chat",
                               "Host: evil.example\r\nAccess-Control-Request-Method: POST\r\n", NULL),
                     403);
    ts_stop(&s);
    s = start((nb_http_params){.host = "0.0.0.0"});
    assert_int_equal(status_of(s.port, "GET", "/", "Host: 192.168.1.7:11434\r\n", NULL), 200);
    assert_int_equal(status_of(s.port, "GET", "/", "Host: [fe80::1]\r\n", NULL), 200);
    assert_int_equal(status_of(s.port, "GET", "/", "Host: printer\r\n", NULL), 200);
    assert_int_equal(status_of(s.port, "GET", "/", "Host: evil.example\r\n", NULL), 403);
    ts_stop(&s);
    s = start((nb_http_params){.allowed_hosts = "*"});
    assert_int_equal(status_of(s.port, "GET", "/", "Host: evil.example\r\n", NULL), 200);
    ts_stop(&s);
}

static void origins(void **state)
{
    char value[512];
    (void)state;
    ts_server s = start(
        (nb_http_params){.origins = "https://chat.example,chrome-extension://*", .allowed_hosts = "models.example"});
    static const struct {
        const char *origin;
        bool passes;
    } cases[] = {{"http://localhost:3000", true},
                 {"https://127.0.0.1", true},
                 {"http://0.0.0.0:1", true},
                 {"app://obsidian.md", true},
                 {"file://x", true},
                 {"tauri://localhost", true},
                 {"vscode-webview://abc", true},
                 {"https://chat.example", true},
                 {"chrome-extension://abcdef", true},
                 {"http://chat.example", false},
                 {"https://evil.example", false},
                 {"http://127.evil.example", false},
                 {"http://localhost.evil.example", false},
                 {"null", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[200];
        snprintf(header, sizeof header, "Origin: %s\r\n", cases[i].origin);
        hc_reply r = hc_ask(s.port, "GET", "/api/version", header, NULL);
        const char *allowed = hc_header(r.head, "Access-Control-Allow-Origin", value);
        if (r.status != (cases[i].passes ? 200 : 403) || (allowed != NULL) != cases[i].passes)
            fail_msg("%s: %d, %s", cases[i].origin, r.status, allowed ? allowed : "not allowed");
        if (allowed)
            assert_string_equal(allowed, cases[i].origin);
        hc_free(&r);
    }
    assert_int_equal(
        status_of(s.port, "GET", "/", "Host: models.example:99\r\nOrigin: http://models.example:99\r\n", NULL), 200);
    hc_reply r = hc_ask(s.port, "OPTIONS", "/api/chat",
                        "Origin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\n"
                        "Access-Control-Request-Headers: content-type, x-stainless-os\r\n",
                        NULL);
    assert_int_equal(r.status, 204);
    assert_non_null(strstr(hc_header(r.head, "Access-Control-Allow-Methods", value), "POST"));
    assert_string_equal(hc_header(r.head, "Access-Control-Allow-Headers", value), "content-type, x-stainless-os");
    assert_string_equal(hc_header(r.head, "Access-Control-Allow-Origin", value), "http://localhost:3000");
    hc_free(&r);
    assert_int_equal(status_of(s.port, "OPTIONS", "/api/chat",
                               "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n", NULL),
                     403);
    ts_stop(&s);
}

static void keys(void **state)
{
    char path[] = "/tmp/nibble-keys-XXXXXX";
    (void)state;
    int fd = mkstemp(path);
    static const char text[] = "# people\nfrom-a-file\r\n\n  spaced  \n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    ts_server s = start((nb_http_params){.api_keys = "one, two", .api_key_file = path});
    static const struct {
        const char *headers;
        int status;
    } cases[] = {{NULL, 401},
                 {"Authorization: Bearer one\r\n", 200},
                 {"authorization: bearer two\r\n", 200},
                 {"X-Api-Key: from-a-file\r\n", 200},
                 {"x-api-key: spaced\r\n", 200},
                 {"Authorization: Bearer on\r\n", 401},
                 {"Authorization: Bearer onee\r\n", 401},
                 {"Authorization: Bearer oneone\r\n", 401},
                 {"Authorization: Bearer \r\n", 401},
                 {"Authorization: Basic one\r\n", 401},
                 {"x-api-key: # people\r\n", 401},
                 {"x-api-key: one, two\r\n", 401}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = status_of(s.port, "GET", "/api/version", cases[i].headers, NULL);
        if (status != cases[i].status)
            fail_msg("%s: %d", cases[i].headers ? cases[i].headers : "no key", status);
    }
    char value[512];
    hc_reply r = hc_post(s.port, "/api/generate", SHORT);
    assert_string_equal(hc_header(r.head, "WWW-Authenticate", value), "Bearer");
    expect_error(r, 401, "API key");
    assert_int_equal(status_of(s.port, "GET", "/", NULL, NULL), 200); /* for those who look whether it lives */
    assert_int_equal(status_of(s.port, "GET", "/health", NULL, NULL), 200);
    assert_int_equal(status_of(s.port, "GET", "/metrics", NULL, NULL), 401);
    assert_int_equal(status_of(s.port, "GET", "/no/such", NULL, NULL), 401);
    ts_stop(&s);
    nb_error err;
    assert_false(ts_try(&s, files, 1, &(nb_http_params){.api_keys = " , "}, NULL, &err));
    assert_non_null(strstr(err.message, "NIBBLE_API_KEYS"));
    assert_int_equal(unlink(path), 0);
    assert_false(ts_try(&s, files, 1, &(nb_http_params){.api_key_file = path}, NULL, &err));
    assert_non_null(strstr(err.message, path));
}

/* Each key is a user of its own. */
static void users(void **state)
{
    nb_guard *g;
    uint64_t a = 0, b = 0;
    (void)state;
    assert_int_equal(nb_guard_new(&(nb_http_params){.api_keys = "one,two"}, true, &g, NULL), NB_OK);
    assert_true(nb_guard_key(g, "Bearer one", NULL, &a) && nb_guard_key(g, NULL, "two", &b) && a != b);
    assert_true(nb_guard_asks_key(g));
    nb_guard_free(g);
}

/* ---- what is no request ---- */

static void routes(void **state)
{
    char value[512];
    (void)state;
    ts_server s = start((nb_http_params){.max_body = 1000});
    hc_reply r = hc_get(s.port, "/");
    assert_true(r.status == 200 && strcmp(r.body, "Ollama is running") == 0);
    assert_non_null(strstr(hc_header(r.head, "Content-Type", value), "text/plain"));
    hc_free(&r);
    r = hc_ask(s.port, "HEAD", "/", NULL, NULL);
    assert_true(r.status == 200 && r.bytes == 0);
    hc_free(&r);
    assert_int_equal(status_of(s.port, "HEAD", "/api/tags", NULL, NULL), 200);
    expect_error(hc_get(s.port, "/api/nothing"), 404, "/api/nothing");
    expect_error(hc_get(s.port, "/api/../metrics"), 404, "there is no");
    expect_error(hc_get(s.port, "/api/chat"), 405, "/api/chat");
    expect_error(hc_ask(s.port, "DELETE", "/api/tags", NULL, NULL), 405, "DELETE");
    char big[1200];
    memset(big, ' ', sizeof big - 1);
    big[sizeof big - 1] = 0;
    expect_error(hc_post(s.port, "/api/chat", big), 413, "1000");
    char chunked[1300];
    snprintf(chunked, sizeof chunked, "4af\r\n%s\r\n0\r\n\r\n", big);
    expect_error(hc_ask(s.port, "POST", "/api/chat", "Transfer-Encoding: chunked\r\n", chunked), 413, "1000");
    big[999] = 0; /* fits, and is empty space */
    expect_error(hc_post(s.port, "/api/chat", big), 400, "JSON");
    ts_stop(&s);
}

static void bodies(void **state)
{
    (void)state;
    ts_server s = start((nb_http_params){0});
    static const char *const paths[] = {"/api/generate", "/api/chat", "/api/embed", "/api/show"};
    static const struct {
        const char *body, *words;
        int status;
    } cases[] = {{"", "empty", 400},
                 {"{", "no JSON", 400},
                 {"\xff\xfe", "no JSON", 400},
                 {"[1]", "JSON object", 400},
                 {"null", "JSON object", 400},
                 {"{}", "\"model\" is missing", 400},
                 {"{\"model\":7}", "\"model\" has to be a string", 400},
                 {"{\"model\":null}", "\"model\" is missing", 400},
                 {"{\"model\":\"nobody\"}", "model 'nobody' not found", 404},
                 {"{\"model\":\"../../etc/passwd\"}", "", 400},
                 {"{\"model\":\"llama-2-mha\"} x", "no JSON", 400}};
    for (size_t p = 0; p < sizeof paths / sizeof *paths; p++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            expect_error(hc_post(s.port, paths[p], cases[i].body), cases[i].status, cases[i].words);
    static char deep[200000]; /* brackets that never end are no stack overflow */
    memset(deep, '[', sizeof deep - 1);
    expect_error(hc_post(s.port, "/api/chat", deep), 400, "no JSON");
    ts_stop(&s);
}

/* What two servers in a row could read in two ways is answered once, and hung up on. */
static void ambiguous(void **state)
{
    static const char *const texts[] = {
        "POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\n{}"
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"};
    (void)state;
    ts_server s = start((nb_http_params){0});
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        hc_connection c = {.fd = hc_connect(s.port)};
        assert_true(hc_send(c.fd, texts[i], strlen(texts[i])) && hc_read_head(&c, false));
        assert_int_equal(c.status, 400);
        for (long left = c.left; left > 0; left--)
            assert_true(hc_byte(c.fd) >= 0);
        assert_int_equal(hc_byte(c.fd), -1);
        hc_hang_up(&c);
    }
    ts_stop(&s);
}

/* A body in a coding is refused at once, before it has come: also one of an unknown transfer coding, which has no end that could be
 * waited for. */
static void codings(void **state)
{
    static const struct {
        const char *head, *words;
        int status;
    } cases[] = {{"Transfer-Encoding: gzip\r\n", "gzip", 501},
                 {"Transfer-Encoding: gzip, chunked\r\n", "gzip, chunked", 501},
                 {"Transfer-Encoding: identity\r\n", "identity", 501},
                 {"Content-Encoding: gzip\r\nContent-Length: 500\r\n", "gzip", 415},
                 {"Content-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n", "zstd", 415}};
    (void)state;
    ts_server s = start((nb_http_params){0});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double begin = nb_seconds();
        expect_error(hc_ask(s.port, "POST", "/api/chat", cases[i].head, "\x1f\x8b"), cases[i].status, cases[i].words);
        assert_true(nb_seconds() - begin < 10); /* not what bodies may take */
    }
    expect_error(hc_ask(s.port, "POST", "/api/chat", "Content-Encoding: identity\r\nContent-Length: 2\r\n", "{}"), 400,
                 "model");
    expect_error(hc_ask(s.port, "POST", "/api/chat", "Transfer-Encoding: Chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"), 400,
                 "model");
    ts_stop(&s);
}

/* ---- clients that are slow, or leave ---- */

static void byte_by_byte(void **state)
{
    size_t n;
    (void)state;
    ts_server s = start((nb_http_params){0});
    char *text = hc_request("POST", "/api/generate", NULL, SHORT, strlen(SHORT), &n);
    hc_connection c = {.fd = hc_connect(s.port)};
    for (size_t i = 0; i < n; i++) {
        assert_true(hc_send(c.fd, text + i, 1));
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    assert_true(hc_read_head(&c, false));
    hc_reply r = hc_rest(&c), alone = hc_post(s.port, "/api/generate", SHORT);
    assert_true(r.status == 200 && r.whole && alone.status == 200);
    json_t *root = json_loads(r.body, JSON_ALLOW_NUL, NULL);
    assert_int_equal(json_integer_value(json_object_get(root, "eval_count")), 4);
    json_decref(root);
    hc_free(&r);
    hc_free(&alone);
    free(text);
    ts_stop(&s);
}

/* One that says nothing, or stops in the middle, is let go after the time limit. */
static void silent(void **state)
{
    (void)state;
    ts_server s = start((nb_http_params){.timeout_seconds = 1});
    int fd = hc_connect(s.port);
    assert_true(hc_send(fd, "POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Le", 45));
    double begin = nb_seconds();
    while (hc_byte(fd) >= 0)
        ;
    assert_true(nb_seconds() - begin < 20);
    close(fd);
    ts_stop(&s);
}

/* A reply ends within a step, and steps take seconds where sanitizers watch the kernels. */
static void wait_idle(nb_service *s)
{
    double end = nb_seconds() + (NB_TEST_SLOW ? 300 : 20);
    for (nb_service_load l = nb_service_look(s); l.running || l.waiting; l = nb_service_look(s)) {
        assert_true(nb_seconds() < end);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

static void hang_up(void **state)
{
    enum { N = NB_TEST_SLOW ? 3 : 12 };
    hc_connection c[N];
    char line[2000];
    (void)state;
    ts_server s = start((nb_http_params){0});
    for (int i = 0; i < N; i++) {
        assert_true(hc_open(&c[i], s.port, "POST", "/api/generate", NULL, ENDLESS));
        assert_int_equal(c[i].status, 200);
    }
    for (int i = 0; i < N; i++) /* after none, one, two... lines */
        for (int k = 0; k < i; k++)
            assert_true(hc_line(&c[i], line, sizeof line) && !strstr(line, "\"done\":true"));
    assert_true(nb_service_look(s.service).running > 0);
    for (int i = 0; i < N; i++)
        hc_hang_up(&c[i]);
    wait_idle(s.service);
    nb_service_load l = nb_service_look(s.service);
    assert_int_equal(l.cancelled, N);
    assert_true(l.tokens < N * 3000); /* they did not run to their end */
    assert_int_equal(status_of(s.port, "POST", "/api/generate", NULL, SHORT), 200);
    /* one whose reply is not a stream: it has only the engine's next step to be seen by */
    hc_connection quiet = {.fd = hc_connect(s.port)};
    size_t n;
    char *body = strdup(ENDLESS), *text;
    body[strlen(body) - 1] = ',';
    char whole[1000];
    snprintf(whole, sizeof whole, "%s\"stream\":false}", body);
    text = hc_request("POST", "/api/generate", NULL, whole, strlen(whole), &n);
    assert_true(hc_send(quiet.fd, text, n));
    while (nb_service_look(s.service).running == 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    hc_hang_up(&quiet);
    wait_idle(s.service);
    assert_int_equal(nb_service_look(s.service).cancelled, N + 1);
    free(body);
    free(text);
    ts_stop(&s);
}

/* ---- stopping ---- */

static void *stop_service(void *s)
{
    nb_service_stop(s, 50000000);
    return NULL;
}

/* A stream that runs when the server stops has its last line, or an error's; never half a line. */
static void stops(void **state)
{
    hc_connection c;
    pthread_t thread;
    char line[2000], last[2000] = "";
    (void)state;
    ts_server s = start((nb_http_params){0});
    int port = s.port;
    assert_true(hc_open(&c, port, "POST", "/api/generate", NULL, ENDLESS));
    assert_true(hc_line(&c, line, sizeof line));
    nb_http_quiesce(s.http);
    assert_int_equal(hc_connect(port), -1);
    assert_int_equal(pthread_create(&thread, NULL, stop_service, s.service), 0);
    while (hc_line(&c, line, sizeof line)) {
        json_t *root = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(root);
        json_decref(root);
        memcpy(last, line, sizeof last);
    }
    pthread_join(thread, NULL);
    assert_true(c.whole);
    assert_true(strstr(last, "\"done\":true") || strstr(last, "\"error\""));
    hc_hang_up(&c);
    ts_stop(&s);
}

/* No room for a model is 503, and says when to come again. */
static void full(void **state)
{
    char value[512];
    ts_server s;
    (void)state;
    ts_start(&s, files, 1, NULL, &(nb_service_params){.memory = 100000});
    hc_reply r = hc_post(s.port, "/api/generate", SHORT);
    assert_non_null(hc_header(r.head, "Retry-After", value));
    expect_error(r, 503, "do not fit");
    expect_error(hc_post(s.port, "/api/generate", "{\"model\":\"llama-2-mha\"}"), 503, "do not fit");
    ts_stop(&s);
    ts_start(&s, files, 1, NULL, &(nb_service_params){.memory = 1000, .load_timeout_ns = 100000000});
    expect_error(hc_post(s.port, "/api/embed", "{\"model\":\"llama-2-mha\",\"input\":\"a\"}"), 503, "try again later");
    assert_int_equal(status_of(s.port, "POST", "/v1/embeddings", NULL, "{\"model\":\"llama-2-mha\",\"input\":\"a\"}"),
                     503);
    ts_stop(&s);
}

/* The name "two.example" as the server sees it: an address twice, one that no machine has, another one, and IPv6's. */
static const char *const two[] = {"127.0.0.1", "127.0.0.1", "192.0.2.1", "127.0.0.2", "::1"};
static struct addrinfo of_two[5];
static struct sockaddr_storage at_two[5];

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
    void *found = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&real, &found, sizeof real);
    if (!name || strcmp(name, "two.example") != 0)
        return real(name, service, hints, out);
    for (size_t i = 0; i < 5; i++) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&at_two[i];
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&at_two[i];
        bool is6 = strchr(two[i], ':') != NULL;
        memset(v6, 0, sizeof at_two[i]);
        at_two[i].ss_family = is6 ? AF_INET6 : AF_INET;
        inet_pton(at_two[i].ss_family, two[i], is6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr);
        of_two[i] = (struct addrinfo){.ai_family = at_two[i].ss_family,
                                      .ai_socktype = SOCK_STREAM,
                                      .ai_addr = (struct sockaddr *)&at_two[i],
                                      .ai_addrlen = is6 ? sizeof *v6 : sizeof *v4,
                                      .ai_next = i < 4 ? &of_two[i + 1] : NULL};
    }
    *out = of_two;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    void (*real)(struct addrinfo *) = NULL;
    void *found = dlsym(RTLD_NEXT, "freeaddrinfo");
    memcpy(&real, &found, sizeof real);
    if (list != of_two)
        real(list);
}

/* A socket of an address and a port, bound or connected; -1: that cannot be. */
static int socket_at(const char *address, int port, int (*join)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((in_port_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((in_port_t)port)};
    bool is6 = inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
    inet_pton(AF_INET, address, &v4.sin_addr);
    int fd = socket(is6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && join(fd, is6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, is6 ? sizeof v6 : sizeof v4) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* A name is listened to at each of its addresses that the machine has, and no other. */
static void every_address(void **state)
{
    static const char ask[] = "GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    ts_server s = start((nb_http_params){.host = "two.example"}), next;
    nb_error err;
    size_t count = 0;
    (void)state;
    for (size_t i = 1; i < 5; i++) {
        hc_connection c = {.fd = socket_at(two[i], 0, bind)};
        if (c.fd < 0)
            continue;
        close(c.fd);
        assert_string_equal(nb_http_address(s.http, count++), two[i]);
        c.fd = socket_at(two[i], s.port, connect);
        assert_true(c.fd >= 0 && hc_send(c.fd, ask, sizeof ask - 1) && hc_read_head(&c, false));
        assert_int_equal(c.status, 200);
        hc_hang_up(&c);
    }
    assert_true(count >= 2);
    assert_null(nb_http_address(s.http, count));
    assert_int_equal(socket_at("127.0.0.3", s.port, connect), -1);
    nb_http_quiesce(s.http); /* all of them */
    assert_true(ts_try(&next, files, 1, &(nb_http_params){.host = "two.example", .port = s.port}, NULL, &err));
    ts_stop(&next);
    ts_stop(&s);
}

/* One of the addresses is another program's: none is listened to, and the message says why. */
static void half_taken(void **state)
{
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    ts_server s;
    nb_error err;
    char words[64];
    (void)state;
    int fd = socket_at("127.0.0.2", 0, bind);
    assert_true(fd >= 0 && listen(fd, 1) == 0 && getsockname(fd, (struct sockaddr *)&at, &size) == 0);
    int port = ntohs(at.sin_port);
    assert_false(ts_try(&s, files, 1, &(nb_http_params){.host = "two.example", .port = port}, NULL, &err));
    snprintf(words, sizeof words, "port %d is in use: another program", port);
    assert_non_null(strstr(err.message, words));
    assert_int_equal(hc_connect(port), -1);
    close(fd);
}

/* Whatever else the name stands for, its address of IPv4 is listened on. */
static void localhost(void **state)
{
    ts_server s = start((nb_http_params){.host = "localhost"});
    (void)state;
    assert_int_equal(status_of(s.port, "GET", "/", NULL, NULL), 200);
    ts_stop(&s);
}

static void refusals(void **state)
{
    nb_error err;
    ts_server s = start((nb_http_params){0}), other;
    (void)state;
    assert_false(ts_try(&other, files, 1, &(nb_http_params){.port = s.port}, NULL, &err));
    char words[64];
    snprintf(words, sizeof words, "port %d is in use", s.port);
    assert_non_null(strstr(err.message, words));
    ts_stop(&s);
    assert_false(ts_try(&other, files, 1, &(nb_http_params){.host = "no.such.host.invalid"}, NULL, &err));
    assert_non_null(strstr(err.message, "no.such.host.invalid"));
    assert_false(ts_try(&other, files, 1, &(nb_http_params){.certificate = "/a.pem"}, NULL, &err));
    assert_non_null(strstr(err.message, "both a certificate and its key"));
    assert_false(
        ts_try(&other, files, 1, &(nb_http_params){.certificate = "/no/a.pem", .key = "/no/b.pem"}, NULL, &err));
    assert_non_null(strstr(err.message, "/no/a.pem"));
    assert_false(ts_try(&other, files, 1, &(nb_http_params){.certificate = files[0], .key = files[0]}, NULL, &err));
    assert_int_equal(err.code, NB_ERR_ARGUMENT);
}

/* ---- TLS ---- */

static void secure(void **state)
{
    char folder[] = "/tmp/nibble-tls-XXXXXX", cert[64], key[64], command[400], answer[4096];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(cert, sizeof cert, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -out %s "
             "-keyout %s 2>/dev/null",
             cert, key);
    assert_int_equal(system(command), 0);
    ts_server s = start((nb_http_params){.certificate = cert, .key = key}), other;
    nb_error err;
    assert_false(ts_try(&other, files, 1, &(nb_http_params){.certificate = key, .key = cert}, NULL, &err));
    snprintf(command, sizeof command,
             "printf 'GET /api/version HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | openssl "
             "s_client -quiet -verify_return_error -verify_hostname localhost -CAfile %s -connect 127.0.0.1:%d "
             "2>/dev/null",
             cert, s.port);
    FILE *client = popen(command, "r");
    assert_non_null(client);
    size_t n = fread(answer, 1, sizeof answer - 1, client);
    pclose(client);
    answer[n] = 0;
    assert_true(strncmp(answer, "HTTP/1.1 200", 12) == 0 && strstr(answer, "\"version\":"));
    assert_int_not_equal(status_of(s.port, "GET", "/", NULL, NULL), 200); /* plain HTTP is none */
    ts_stop(&s);
    unlink(cert);
    unlink(key);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts),     cmocka_unit_test(origins),       cmocka_unit_test(keys),
        cmocka_unit_test(users),     cmocka_unit_test(routes),        cmocka_unit_test(bodies),
        cmocka_unit_test(ambiguous), cmocka_unit_test(codings),       cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(silent),    cmocka_unit_test(hang_up),       cmocka_unit_test(stops),
        cmocka_unit_test(refusals),  cmocka_unit_test(full),          cmocka_unit_test(secure),
        cmocka_unit_test(localhost), cmocka_unit_test(every_address), cmocka_unit_test(half_taken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
