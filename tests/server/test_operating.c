/* Running a server: limits on what a client may take, a full queue, a stop, numbers for Prometheus, the log. */
#include "support/server.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>

#include "base/clock.h"
#include "server/http_log.h"

static const char *const files[] = {NB_TEST_DATA "/archs/llama-2-mha.gguf", NB_TEST_DATA "/archs/bert.gguf"};
/* goes on for half an hour: the grammar has no short text, and a full context forgets its beginning */
#define ENDLESS                                                                                                        \
    "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"raw\":true,\"grammar\":\"root ::= x{4000}\\nx ::= [ab]{4000}\","    \
    "\"options\":{\"num_predict\":-1}}"
#define SHORT                                                                                                          \
    "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"raw\":true,\"grammar\":\"root ::= [ab]{9}\","                       \
    "\"options\":{\"num_predict\":4}}"

static ts_server start(nb_http_params h, nb_service_params p)
{
    ts_server s;
    p.threads = 1;
    ts_start(&s, files, 2, &h, &p);
    return s;
}

static void rest(double seconds)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)(fmod(seconds, 1) * 1e9)}, NULL);
}

static void wait_load(nb_service *s, size_t running, size_t waiting)
{
    double end = nb_seconds() + (NB_TEST_SLOW ? 300 : 30);
    for (nb_service_load l = nb_service_look(s); l.running != running || l.waiting != waiting; l = nb_service_look(s)) {
        if (nb_seconds() > end)
            fail_msg("%zu running, %zu waiting; %zu and %zu were expected", l.running, l.waiting, running, waiting);
        rest(0.002);
    }
}

static int post_status(int port, const char *path, const char *body)
{
    hc_reply r = hc_post(port, path, body);
    hc_free(&r);
    return r.status;
}

/* ---- what happened, as the log tells it ---- */

static struct {
    pthread_mutex_t lock;
    nb_buf lines;
    nb_log_style style;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep_request(void *user, const nb_http_record *record)
{
    (void)user;
    pthread_mutex_lock(&kept.lock);
    nb_log_request(&kept.style, "now", record, &kept.lines);
    pthread_mutex_unlock(&kept.lock);
}

static void keep_message(void *user, const char *line)
{
    (void)user;
    pthread_mutex_lock(&kept.lock);
    nb_log_message(&kept.style, "now", line, &kept.lines);
    pthread_mutex_unlock(&kept.lock);
}

static void forget(nb_log_style style)
{
    nb_buf_free(&kept.lines);
    kept.style = style;
}

/* A request is logged after its last byte: a moment later than the client has it. */
static bool logged(const char *words)
{
    bool found = false;
    for (double end = nb_seconds() + 10; !found && nb_seconds() < end; rest(0.01)) {
        pthread_mutex_lock(&kept.lock);
        found = kept.lines.data && strstr(kept.lines.data, words);
        pthread_mutex_unlock(&kept.lock);
    }
    return found;
}

/* ---- clients that take their time ---- */

/* Sends `piece` every `seconds` until the other side hangs up; how long that took, at most `most`. */
static double trickle(int fd, const char *piece, double seconds, double most)
{
    double begin = nb_seconds();
    struct timeval limit = {.tv_usec = 1000};
    char c;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (nb_seconds() - begin < most) {
        if (!hc_send(fd, piece, strlen(piece)) || recv(fd, &c, 1, 0) == 0)
            break;
        rest(seconds);
    }
    return nb_seconds() - begin;
}

static void slow_heads(void **state)
{
    (void)state;
    ts_server s = start((nb_http_params){.head_seconds = 0.5}, (nb_service_params){0});
    int fd = hc_connect(s.port), silent = hc_connect(s.port);
    assert_true(hc_send(fd, "GET /api/version HTTP/1.1\r\n", 27));
    double took = trickle(fd, "X-A: b\r\n", 0.05, 30); /* never idle, never done */
    assert_true(took > 0.4 && took < 15);
    assert_int_equal(hc_byte(silent), -1); /* says nothing at all: its 60 s of patience are not needed */
    close(fd);
    close(silent);
    hc_reply r = hc_get(s.port, "/api/version");
    assert_int_equal(r.status, 200);
    hc_free(&r);
    ts_stop(&s);
}

/* A connection that stays has the idle time for its next head, and no more. */
static void slow_next_head(void **state)
{
    hc_connection c = {0};
    (void)state;
    ts_server s = start((nb_http_params){.head_seconds = 5, .timeout_seconds = 1}, (nb_service_params){0});
    assert_true(hc_open(&c, s.port, "HEAD", "/api/version", NULL, NULL));
    assert_int_equal(c.status, 200);
    assert_true(hc_send(c.fd, "GET /api/version HTTP/1.1\r\n", 27));
    double took = trickle(c.fd, "X: y\r\n", 0.1, 30);
    assert_true(took > 0.5 && took < 4.5);
    hc_hang_up(&c);
    ts_stop(&s);
}

static void slow_bodies(void **state)
{
    char piece[401];
    (void)state;
    forget((nb_log_style){0});
    ts_server s = start((nb_http_params){.body_seconds = 1, .body_rate = 1000, .log = keep_request},
                        (nb_service_params){0});
    static const char head[] = "POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4800\r\n\r\n";
    int fd = hc_connect(s.port);
    assert_true(hc_send(fd, head, sizeof head - 1));
    double took = trickle(fd, "          ", 0.1, 30); /* 100 bytes a second */
    assert_true(took > 0.9 && took < 15);
    close(fd);
    assert_true(logged(" 408 "));
    /* four times as fast as asked is served, though it takes longer than a second */
    hc_connection c = {.fd = hc_connect(s.port)};
    assert_true(hc_send(c.fd, head, sizeof head - 1));
    memset(piece, ' ', sizeof piece - 1);
    piece[400] = 0;
    assert_true(hc_send(c.fd, SHORT, strlen(SHORT)));
    for (size_t sent = strlen(SHORT); sent < 4800; sent += 400) {
        rest(0.1);
        assert_true(hc_send(c.fd, piece, 4800 - sent < 400 ? 4800 - sent : 400));
    }
    assert_true(hc_read_head(&c, false));
    hc_reply r = hc_rest(&c);
    assert_true(r.status == 200 && r.whole);
    hc_free(&r);
    ts_stop(&s);
}

/* A body without a length that grows beyond the limit is not read to its end: it is answered and cut off. */
static void endless_body(void **state)
{
    static char chunk[16 + 4096 + 3];
    (void)state;
    ts_server s = start((nb_http_params){.max_body = 10000}, (nb_service_params){0});
    hc_connection c = {.fd = hc_connect(s.port)};
    static const char head[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    int n = snprintf(chunk, sizeof chunk, "1000\r\n%4096s\r\n", "");
    size_t sent = 0;
    assert_true(hc_send(c.fd, head, sizeof head - 1));
    struct timeval limit = {.tv_sec = 5};
    setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (sent < 12288) /* a little more than it takes: the answer can be read */
        assert_true(hc_send(c.fd, chunk, (size_t)n) && (sent += 4096));
    assert_true(hc_read_head(&c, false));
    assert_int_equal(c.status, 413);
    hc_reply r = hc_rest(&c);
    json_t *root = json_loadb(r.body, r.bytes, JSON_ALLOW_NUL, NULL);
    assert_non_null(strstr(json_string_value(json_object_get(json_object_get(root, "error"), "message")), "10000"));
    json_decref(root);
    hc_free(&r);
    /* nor is one of a route that takes bodies of any length, once it is refused */
    static const char blob[] =
        "POST /api/blobs/sha256:1 HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 2; i++) {
        int fd = hc_connect(s.port);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        assert_true(hc_send(fd, i ? blob : head, i ? sizeof blob - 1 : sizeof head - 1));
        for (sent = 0; sent < (64 << 20) && hc_send(fd, chunk, (size_t)n);)
            sent += 4096;
        assert_true(sent < (16 << 20)); /* what the sockets hold */
        close(fd);
    }
    ts_stop(&s);
}

/* Who takes nothing is dropped; its reply ends. Who waits in line longer than clients may be idle is not. */
static void idle_readers(void **state)
{
    hc_connection c;
    int small = 4096;
    (void)state;
    ts_server s = start((nb_http_params){.timeout_seconds = 1}, (nb_service_params){.replies = 1});
    size_t n;
    char wordy[1000]; /* a kilobyte and more a token: the sockets between are soon full */
    snprintf(wordy, sizeof wordy, "%.*s,\"logprobs\":true,\"top_logprobs\":20}", (int)strlen(ENDLESS) - 1, ENDLESS);
    char *text = hc_request("POST", "/api/generate", NULL, wordy, strlen(wordy), &n);
    int fd = hc_connect(s.port);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_true(hc_send(fd, text, n));
    wait_load(s.service, 1, 0);
    hc_reply next = hc_post(s.port, "/api/generate", SHORT); /* comes when the other one was dropped */
    assert_true(next.status == 200 && next.whole);
    hc_free(&next);
    assert_int_equal(nb_service_look(s.service).cancelled, 1);
    close(fd);
    free(text);
    hc_connection first;
    assert_true(hc_open(&first, s.port, "POST", "/api/generate", NULL, ENDLESS));
    wait_load(s.service, 1, 0);
    n = 0;
    text = hc_request("POST", "/api/generate", NULL, SHORT, strlen(SHORT), &n);
    memset(&c, 0, sizeof c);
    c.fd = hc_connect(s.port);
    assert_true(hc_send(c.fd, text, n));
    char line[4000];
    for (double end = nb_seconds() + 2.5; nb_seconds() < end;)
        assert_true(hc_line(&first, line, sizeof line)); /* is read, so that it runs */
    assert_int_equal(nb_service_look(s.service).waiting, 1);
    hc_hang_up(&first);
    assert_true(hc_read_head(&c, false));
    hc_reply r = hc_rest(&c);
    assert_true(r.status == 200 && r.whole && strstr(r.body, "\"done\":true"));
    hc_free(&r);
    free(text);
    ts_stop(&s);
}

static void connections(void **state)
{
    int fd[3];
    (void)state;
    ts_server s = start((nb_http_params){.max_per_address = 2}, (nb_service_params){0});
    for (int i = 0; i < 3; i++)
        fd[i] = hc_connect(s.port);
    assert_int_equal(hc_byte(fd[2]), -1); /* at once, not after a time limit */
    close(fd[0]);
    close(fd[2]);
    hc_reply r = {0};
    for (double end = nb_seconds() + 10; r.status != 200 && nb_seconds() < end; rest(0.02)) {
        r = hc_get(s.port, "/api/version");
        hc_free(&r);
    }
    assert_int_equal(r.status, 200);
    close(fd[1]);
    ts_stop(&s);
}

static size_t threads_now(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* As many as there may be are served side by side; one more waits for its turn and is not lost. When they are gone, their threads
 * go as well, but for a few that wait for the next. */
static void crowd(void **state)
{
    enum { MOST = 40, STAY = 8 };
    static hc_connection c[MOST + 1];
    const char *ask = "HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    (void)state;
    ts_server s = start((nb_http_params){.max_connections = MOST}, (nb_service_params){0});
    size_t before = threads_now();
    for (int i = 0; i <= MOST; i++) {
        c[i].fd = hc_connect(s.port);
        assert_true(hc_send(c[i].fd, ask, strlen(ask)));
        assert_true(i == MOST || (hc_read_head(&c[i], true) && c[i].status == 200));
    }
    assert_true(threads_now() >= before + MOST - STAY);
    for (int i = 0; i < MOST; i++) /* all are connected still, in whatever order they ask */
        assert_true(hc_send(c[i].fd, ask, strlen(ask)) && hc_read_head(&c[i], true) && c[i].status == 200);
    char byte;
    assert_true(recv(c[MOST].fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    hc_hang_up(&c[7]);
    assert_true(hc_read_head(&c[MOST], true) && c[MOST].status == 200);
    for (int i = 0; i <= MOST; i++)
        hc_hang_up(&c[i]);
    for (double end = nb_seconds() + 30; threads_now() > before + STAY && nb_seconds() < end;)
        rest(0.01);
    assert_true(threads_now() <= before + STAY);
    hc_reply r = hc_get(s.port, "/health");
    assert_int_equal(r.status, 200);
    hc_free(&r);
    ts_stop(&s);
}

/* ---- a full queue ---- */

static const char *text_at(const json_t *root, const char *a, const char *b)
{
    const json_t *v = b ? json_object_get(json_object_get(root, a), b) : json_object_get(root, a);
    return json_string_value(v) ? json_string_value(v) : "";
}

static void queue_full(void **state)
{
    hc_connection c[2];
    char value[512];
    (void)state;
    ts_server s = start((nb_http_params){0}, (nb_service_params){.replies = 1, .queue = 1});
    for (int i = 0; i < 2; i++) {
        size_t n;
        char *text = hc_request("POST", "/api/generate", NULL, ENDLESS, strlen(ENDLESS), &n);
        c[i].fd = hc_connect(s.port);
        assert_true(hc_send(c[i].fd, text, n));
        wait_load(s.service, 1, (size_t)i);
        free(text);
    }
    static const struct {
        const char *path, *body;
    } asks[] = {{"/api/generate", SHORT},
                {"/v1/completions", "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"max_tokens\":2}"},
                {"/v1/chat/completions",
                 "{\"model\":\"llama-2-mha\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":2,"
                 "\"stream\":true}"},
                {"/v1/messages", "{\"model\":\"llama-2-mha\",\"max_tokens\":2,\"messages\":[{\"role\":\"user\","
                                 "\"content\":\"a\"}]}"}};
    for (size_t i = 0; i < 4; i++) {
        hc_reply r = hc_post(s.port, asks[i].path, asks[i].body);
        json_t *root = json_loadb(r.body, r.bytes, JSON_ALLOW_NUL, NULL);
        if (r.status != 503)
            fail_msg("%s: %d %s", asks[i].path, r.status, r.body);
        assert_true(hc_header(r.head, "Retry-After", value) && atoi(value) > 0);
        assert_non_null(strstr(i == 0 ? text_at(root, "error", NULL) : text_at(root, "error", "message"), "wait"));
        if (i > 0)
            assert_string_equal(text_at(root, "error", "type"), "overloaded_error");
        assert_string_equal(text_at(root, "type", NULL), i == 3 ? "error" : "");
        json_decref(root);
        hc_free(&r);
    }
    assert_int_equal(nb_service_look(s.service).refused, 4);
    for (int i = 0; i < 2; i++)
        close(c[i].fd);
    wait_load(s.service, 0, 0);
    assert_int_equal(post_status(s.port, "/v1/completions", asks[1].body), 200);
    ts_stop(&s);
}

/* ---- stopping ---- */

static void *stop_slowly(void *s)
{
    nb_service_stop(s, (int64_t)(NB_TEST_SLOW ? 20 : 3) * 1000000000);
    return NULL;
}

/* What can finish in the time does; what cannot ends with its last line; who asks meanwhile is told to come again. */
static void stops(void **state)
{
    hc_connection endless, finite;
    pthread_t thread;
    char line[4000], value[512];
    (void)state;
    ts_server s = start((nb_http_params){0}, (nb_service_params){0});
    assert_true(hc_open(&endless, s.port, "POST", "/api/generate", NULL, ENDLESS));
    assert_true(hc_open(&finite, s.port, "POST", "/api/generate", NULL,
                        "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"raw\":true,\"grammar\":\"root ::= [ab]{4000}\","
                        "\"options\":{\"num_predict\":1000}}"));
    while (nb_service_look(s.service).running == 0)
        rest(0.001);
    assert_int_equal(pthread_create(&thread, NULL, stop_slowly, s.service), 0);
    hc_reply late = hc_post(s.port, "/api/generate", SHORT);
    for (int i = 0; i < 1000 && late.status == 200; i++) { /* until the other thread has begun */
        hc_free(&late);
        late = hc_post(s.port, "/api/generate", SHORT);
    }
    assert_int_equal(late.status, 503);
    assert_non_null(hc_header(late.head, "Retry-After", value));
    hc_free(&late);
    hc_reply r = hc_rest(&finite);
    assert_true(r.whole && strstr(r.body, "\"eval_count\":1000"));
    hc_free(&r);
    bool last = false;
    while (hc_line(&endless, line, sizeof line))
        last = strstr(line, "\"done\":true") != NULL;
    assert_true(endless.whole && last);
    pthread_join(thread, NULL);
    hc_hang_up(&endless);
    ts_stop(&s);
}

/* ---- numbers ---- */

/* A sample of the exposition format: its value; -1 when there is none. labels: as written between the braces, or "". */
static double sample(const char *text, const char *name, const char *labels)
{
    char head[300];
    size_t n = (size_t)snprintf(head, sizeof head, *labels ? "%s{%s} " : "%s%s ", name, labels);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, head, n) == 0)
            return atof(line + n);
    return -1;
}

static const char *skip_name(const char *at)
{
    const char *begin = at;
    while (isalpha((unsigned char)*at) || *at == '_' || *at == ':' || (at > begin && isdigit((unsigned char)*at)))
        at++;
    return at > begin ? at : NULL;
}

/* Prometheus' text format, line by line: HELP and TYPE come once and before their samples, names and labels are names, values
 * are numbers, nothing comes twice. */
static void check_exposition(const char *text)
{
    static char seen[64][100];
    char current[100] = "", copy[400], *save = NULL, *all = strdup(text);
    size_t types = 0;
    assert_true(all[strlen(all) - 1] == '\n');
    for (char *line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char type[40], *end;
        if (sscanf(line, "# TYPE %99s %39s", copy, type) == 2) {
            assert_string_equal(copy, current); /* HELP came just before */
            assert_true(!strcmp(type, "counter") || !strcmp(type, "gauge") || !strcmp(type, "histogram"));
            assert_true((strcmp(type, "counter") == 0) == (strstr(copy, "_total") != NULL));
            continue;
        }
        if (sscanf(line, "# HELP %99s %39s", copy, type) == 2) {
            for (size_t i = 0; i < types; i++)
                assert_string_not_equal(seen[i], copy);
            snprintf(seen[types++], sizeof *seen, "%.99s", copy);
            snprintf(current, sizeof current, "%.99s", copy);
            continue;
        }
        const char *at = skip_name(line);
        assert_true(at && strncmp(line, current, strlen(current)) == 0);
        if (*at == '{') {
            do {
                at = skip_name(at + 1);
                assert_true(at && at[0] == '=' && at[1] == '"');
                for (at += 2; *at != '"'; at++)
                    at += *at == '\\';
                at++;
            } while (*at == ',');
            assert_true(*at++ == '}');
        }
        assert_true(*at == ' ');
        strtod(at + 1, &end);
        assert_true(end > at + 1 && *end == 0);
    }
    assert_true(types > 15);
    free(all);
}

/* Buckets rise to the count, +Inf is all; the sum lies where they allow. Returns the count. */
static double check_histogram(const char *text, const char *name, const char *const *bounds, double *sum)
{
    char part[100], labels[100];
    double before = 0, least = 0, bound_before = 0;
    snprintf(part, sizeof part, "%s_bucket", name);
    for (size_t i = 0; bounds[i]; i++) {
        snprintf(labels, sizeof labels, "model_name=\"llama-2-mha:latest\",le=\"%s\"", bounds[i]);
        double n = sample(text, part, labels);
        if (n < before)
            fail_msg("%s %s: %g after %g", name, bounds[i], n, before);
        least += (n - before) * bound_before;
        before = n;
        bound_before = atof(bounds[i]);
    }
    double all = sample(text, part, "model_name=\"llama-2-mha:latest\",le=\"+Inf\"");
    snprintf(part, sizeof part, "%s_count", name);
    assert_true(sample(text, part, "model_name=\"llama-2-mha:latest\"") == all && all >= before);
    snprintf(part, sizeof part, "%s_sum", name);
    *sum = sample(text, part, "model_name=\"llama-2-mha:latest\"");
    assert_true(*sum >= least);
    return all;
}

static void metrics(void **state)
{
    static const char *const first[] = {"0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1",
                                        "0.25",  "0.5",   "0.75", "1",    "2.5",  "5",    "7.5",  "10",
                                        "20",    "40",    "80",   "160",  "640",  "2560", NULL};
    static const char *const next[] = {"0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.4", "0.5",
                                       "0.75", "1",     "2.5",  "5",     "7.5", "10",   "20",  "40",  "80",  NULL};
    static const char label[] = "model_name=\"llama-2-mha:latest\"";
    (void)state;
    ts_server s = start((nb_http_params){0}, (nb_service_params){.replies = 1});
    hc_reply r = hc_get(s.port, "/metrics");
    check_exposition(r.body);
    assert_true(sample(r.body, "vllm:num_requests_waiting", "") == 0); /* before any model was asked for, too */
    assert_true(sample(r.body, "nibble_requests_total", "") == 0);
    hc_free(&r);
    for (int i = 0; i < 3; i++)
        assert_int_equal(post_status(s.port, "/api/generate", SHORT), 200);
    double begin = nb_seconds(), sum, sum_next;
    hc_connection c, waits;
    assert_true(hc_open(&c, s.port, "POST", "/api/generate", NULL, ENDLESS)); /* one runs, one waits */
    wait_load(s.service, 1, 0);
    size_t n;
    char *text = hc_request("POST", "/api/generate", NULL, SHORT, strlen(SHORT), &n);
    memset(&waits, 0, sizeof waits);
    waits.fd = hc_connect(s.port);
    double asked = nb_seconds();
    assert_true(hc_send(waits.fd, text, n));
    wait_load(s.service, 1, 1);
    rest(0.3);
    r = hc_get(s.port, "/metrics");
    check_exposition(r.body);
    assert_true(sample(r.body, "vllm:num_requests_running", label) == 1);
    assert_true(sample(r.body, "vllm:num_requests_waiting", label) == 1);
    assert_true(sample(r.body, "nibble_requests_running", "") == 1 &&
                sample(r.body, "nibble_requests_waiting", "") == 1);
    double full = sample(r.body, "vllm:kv_cache_usage_perc", label);
    assert_true(full > 0 && full <= 1 && sample(r.body, "nibble_cache_usage", "") > 0);
    hc_free(&r);
    rest(0.3);
    hc_hang_up(&c);
    assert_true(hc_read_head(&waits, false));
    r = hc_rest(&waits);
    double waited = nb_seconds() - asked;
    assert_int_equal(r.status, 200);
    hc_free(&r);
    wait_load(s.service, 0, 0);
    double ended = nb_seconds() - begin;
    r = hc_get(s.port, "/metrics");
    check_exposition(r.body);
    assert_true(sample(r.body, "nibble_requests_total", "") == 5 &&
                sample(r.body, "nibble_requests_cancelled_total", "") == 1);
    double tokens = sample(r.body, "nibble_reply_tokens_total", "");
    static const char *const prefix[] = {"nibble_", "vllm:"};
    for (int i = 0; i < 2; i++) {
        char name[100];
        snprintf(name, sizeof name, "%stime_to_first_token_seconds", prefix[i]);
        assert_true(check_histogram(r.body, name, first, &sum) == 5);
        assert_true(sum > 0.6 && sum < waited + ended + 60); /* the one in line waited 0.6 s at least */
        snprintf(name, sizeof name, "%stime_per_output_token_seconds", prefix[i]);
        assert_true(check_histogram(r.body, name, next, &sum_next) == tokens - 5); /* all tokens but the first ones */
        assert_true(sum_next > 0.3 && sum_next < ended + 60);
    }
    /* the one that waited is in the buckets above 0.5 s, and nobody else need be below */
    assert_true(
        sample(r.body, "vllm:time_to_first_token_seconds_bucket", "model_name=\"llama-2-mha:latest\",le=\"0.5\"") <= 4);
    hc_free(&r);
    free(text);
    ts_stop(&s);
}

/* ---- the log ---- */

#define SECRET "zebra-7141"

static void ask_with_secrets(int port)
{
    static const struct {
        const char *path, *body;
    } asks[] = {
        {"/api/generate", "{\"model\":\"llama-2-mha\",\"prompt\":\"" SECRET "\",\"raw\":true,\"stream\":false,"
                          "\"options\":{\"num_predict\":3,\"temperature\":0,\"stop\":[\"" SECRET "\"]}}"},
        {"/api/generate", "{\"model\":\"llama-2-mha\",\"prompt\":\"x\",\"system\":\"" SECRET "\",\"template\":\"" SECRET
                          " {{ .Prompt }}\",\"options\":{\"num_predict\":3,\"temperature\":0}}"},
        {"/api/chat", "{\"model\":\"llama-2-mha\",\"messages\":[{\"role\":\"user\",\"content\":\"" SECRET
                      "\"}],\"options\":{\"num_predict\":3,\"temperature\":0}}"},
        {"/v1/chat/completions", "{\"model\":\"llama-2-mha\",\"messages\":[{\"role\":\"user\",\"content\":\"" SECRET
                                 "\"}],\"max_tokens\":3,\"temperature\":0,\"stream\":true}"},
        {"/v1/messages", "{\"model\":\"llama-2-mha\",\"messages\":[{\"role\":\"user\",\"content\":\"" SECRET
                         "\"}],\"max_tokens\":3,\"temperature\":0}"},
        {"/api/embed", "{\"model\":\"bert\",\"input\":[\"" SECRET "\"]}"},
        /* and what fails, where the reply may quote it */
        {"/api/generate", "{\"model\":\"llama-2-mha\",\"prompt\": " SECRET "}"},
        {"/api/generate", "{\"model\":\"llama-2-mha\",\"prompt\":\"x\",\"raw\":true,\"grammar\":\"" SECRET "\"}"},
        {"/api/generate", "{\"model\":\"llama-2-mha\",\"prompt\":\"x\",\"template\":\"{{ " SECRET "\"}"},
        {"/api/generate", "{\"model\":\"llama-2-mha\",\"prompt\":\"x\",\"format\":{\"type\":\"" SECRET "\"}}"},
        {"/v1/chat/completions", "{\"model\":\"llama-2-mha\",\"messages\":[{\"role\":\"" SECRET "\"}]}"}};
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        hc_reply r = hc_post(port, asks[i].path, asks[i].body);
        assert_true(r.status == (i < 6 ? 200 : r.status) && r.status > 0);
        hc_free(&r);
    }
}

/* A line of JSON; those of different connections come in any order. */
static void check_request_line(const json_t *o, size_t *requests, size_t *served)
{
    const char *route = text_at(o, "route", NULL);
    bool embeds = strcmp(route, "/api/embed") == 0;
    if (strcmp(text_at(o, "event", NULL), "request") != 0)
        return;
    ++*requests;
    assert_true(strncmp(text_at(o, "id", NULL), strcmp(route, "/no/such") ? "req_" : "the.", 4) == 0);
    assert_true(json_is_true(json_object_get(o, "complete")));
    assert_true(json_number_value(json_object_get(o, "seconds")) > 0);
    if (json_integer_value(json_object_get(o, "status")) != 200)
        return;
    ++*served;
    assert_string_equal(text_at(o, "method", NULL), "POST");
    assert_non_null(strstr(text_at(o, "model", NULL), embeds ? "bert" : "llama-2-mha"));
    assert_int_equal(json_integer_value(json_object_get(o, "reply_tokens")), embeds ? 0 : 3);
    assert_true(json_integer_value(json_object_get(o, "prompt_tokens")) > 0);
}

static void log_lines(void **state)
{
    (void)state;
    for (int json = 0; json < 2; json++) {
        forget((nb_log_style){.json = json});
        ts_server s = start((nb_http_params){.log = keep_request}, (nb_service_params){.log = keep_message});
        ask_with_secrets(s.port);
        hc_reply r = hc_ask(s.port, "GET", "/no/such", "X-Request-Id: the.last-one_7\r\n", NULL);
        char value[512];
        assert_string_equal(hc_header(r.head, "X-Request-Id", value), "the.last-one_7");
        hc_free(&r);
        assert_true(logged("the.last-one_7"));
        ts_stop(&s);
        assert_null(strstr(kept.lines.data, SECRET));
        assert_null(strstr(kept.lines.data, "zebra"));
        size_t requests = 0, served = 0;
        char *save = NULL;
        for (char *line = strtok_r(kept.lines.data, "\n", &save); line && json; line = strtok_r(NULL, "\n", &save)) {
            json_t *o = json_loads(line, JSON_ALLOW_NUL, NULL);
            assert_string_equal(text_at(o, "time", NULL), "now");
            check_request_line(o, &requests, &served);
            json_decref(o);
        }
        assert_int_equal(requests, json ? 12 : 0);
        assert_int_equal(served, json ? 6 : 0);
    }
    forget((nb_log_style){0});
}

/* Asked for, they are there; what would break a line is not. */
static void log_prompts(void **state)
{
    (void)state;
    forget((nb_log_style){.prompts = true});
    ts_server s = start((nb_http_params){.log = keep_request}, (nb_service_params){0});
    ask_with_secrets(s.port);
    hc_reply r = hc_post(s.port, "/api/generate", "{\"model\":\"nobody\",\n\"prompt\":\"" SECRET "\"}");
    hc_free(&r);
    assert_true(logged("model 'nobody' not found"));
    ts_stop(&s);
    assert_non_null(strstr(kept.lines.data, "\"prompt\":\"" SECRET "\""));
    assert_non_null(strstr(kept.lines.data, "\"nobody\",?\"prompt\""));
    forget((nb_log_style){0});
}

/* Lines of the log with these words. */
static size_t count_logged(const char *words)
{
    size_t n = 0;
    pthread_mutex_lock(&kept.lock);
    nb_buf_char(&kept.lines, 0);
    for (const char *at = kept.lines.data; (at = strstr(at, words)); at++)
        n++;
    kept.lines.len--;
    pthread_mutex_unlock(&kept.lock);
    return n;
}

/* A context below 8192 that nobody asked for is said; no other is. */
static void log_short_context(void **state)
{
    static const char *const two[] = {NB_TEST_DATA "/archs/llama-2-mha.gguf", NB_TEST_DATA "/archs/falcon-11b.gguf"};
    static const struct {
        const char *model, *options, *line;
        size_t context;
    } loads[] = {
        {"llama-2-mha", "", "llama-2-mha:latest: the context is 512 of 512 positions: the model was trained", 0},
        {"falcon-11b", "", NULL, 0}, /* 8192 */
        {"llama-2-mha", ",\"options\":{\"num_ctx\":128}", NULL, 0},
        {"llama-2-mha", "", NULL, 256}};
    (void)state;
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        char body[200];
        ts_server s;
        forget((nb_log_style){0});
        ts_start(&s, two, 2, NULL,
                 &(nb_service_params){.threads = 1, .log = keep_message, .context = loads[i].context});
        snprintf(body, sizeof body, "{\"model\":\"%s\"%s}", loads[i].model, loads[i].options);
        assert_int_equal(post_status(s.port, "/api/generate", body), 200);
        assert_true(logged(": loaded in"));
        assert_int_equal(count_logged("the context is"), loads[i].line ? 1 : 0);
        assert_true(!loads[i].line || count_logged(loads[i].line) == 1);
        ts_stop(&s);
    }
    forget((nb_log_style){0});
}

/* Options that mean nothing here and unknown ones: taken, with one line a request, whatever is in it. */
static void log_idle_options(void **state)
{
    nb_buf many = {0};
    (void)state;
    forget((nb_log_style){0});
    ts_server s = start((nb_http_params){0}, (nb_service_params){.log = keep_message});
    assert_int_equal(post_status(s.port, "/api/generate", SHORT), 200);
    assert_int_equal(count_logged("options without effect"), 0);
    assert_int_equal(post_status(s.port, "/api/generate",
                                 "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"options\":{\"num_predict\":1,"
                                 "\"num_gpu\":1,\"main_gpu\":0,\"low_vram\":true,\"f16_kv\":true,\"numa\":false,"
                                 "\"use_mlock\":true,\"tfs_z\":1.0,\"penalize_newline\":true,\"no\\nsuch\":[1]}}"),
                     200);
    assert_int_equal(
        count_logged("options without effect here: f16_kv, low_vram, main_gpu, no?such (unknown), num_gpu, numa, "
                     "penalize_newline, tfs_z, use_mlock\n"),
        1);
    nb_buf_z(&many, "{\"model\":\"llama-2-mha\",\"prompt\":\"a\",\"options\":{\"num_predict\":1");
    for (int i = 0; i < 5000; i++)
        nb_buf_printf(&many, ",\"x%d%0200d\":1", i, 0);
    nb_buf_z(&many, "}}");
    nb_buf_char(&many, 0);
    forget((nb_log_style){0});
    assert_int_equal(post_status(s.port, "/api/generate", many.data), 200);
    assert_int_equal(count_logged("options without effect"), 1);
    assert_true(kept.lines.len < 2000);
    nb_buf_free(&many);
    ts_stop(&s);
    forget((nb_log_style){0});
}

/* Fields of a request that nobody knows: as options. */
static void log_passed_over(void **state)
{
    (void)state;
    forget((nb_log_style){0});
    ts_server s = start((nb_http_params){0}, (nb_service_params){.log = keep_message});
    assert_int_equal(post_status(s.port, "/api/generate", SHORT), 200);
    assert_int_equal(post_status(s.port, "/v1/chat/completions",
                                 "{\"model\":\"llama-2-mha\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                                 "\"user\":\"me\",\"max_token\":1,\"max_tokens\":1,\"no\\nsuch\":{},\"unsaid\":null}"),
                     200);
    ts_stop(&s);
    assert_int_equal(count_logged("fields without effect"), 1);
    assert_int_equal(count_logged("fields without effect here: max_token, no?such\n"), 1);
    forget((nb_log_style){0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(log_short_context),
                                       cmocka_unit_test(log_idle_options),
                                       cmocka_unit_test(slow_heads),
                                       cmocka_unit_test(slow_next_head),
                                       cmocka_unit_test(slow_bodies),
                                       cmocka_unit_test(endless_body),
                                       cmocka_unit_test(idle_readers),
                                       cmocka_unit_test(connections),
                                       cmocka_unit_test(crowd),
                                       cmocka_unit_test(queue_full),
                                       cmocka_unit_test(stops),
                                       cmocka_unit_test(metrics),
                                       cmocka_unit_test(log_lines),
                                       cmocka_unit_test(log_prompts),
                                       cmocka_unit_test(log_passed_over)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
