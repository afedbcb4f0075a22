/* bench_http.c - what HTTP adds to a request: a server over a tiny model and its client in one process, and beside every request the
 * engine alone, asked for the same tokens through the service. The floor is a bare loop of accept, recv and send, which echoes, and
 * one that asks the engine before it sends: the thread that a socket woke, the engine's and the client's wake each other as a
 * request's do. Each has a connection that stays and one of its own, which the client opens. All take turns after a rest each, so
 * that what slows the machine meets all of them, and none meets what the one before left.
 *
 * What wakes cost depends on where the system puts the threads: on a virtual machine 20 to 40 us where a processor rests.
 * `taskset -c 0 bench_http` leaves them one.
 *
 * usage: bench_http [ROUNDS [MODEL]]     (2000, tests/data/archs/llama-2-mha.gguf) */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "loopback.h"
#include "median.h"
#include "server/http.h"
#include "server/job.h"

enum { MOST_ROUNDS = 20000, WARM = 50, LOOPS = 4, KINDS = 5, CASES = LOOPS + 2 * KINDS, REST_US = 300, ROOM = 1 << 16 };

typedef struct measured {
    const char *name, *method, *path, *body; /* method NULL: a bare loop; body: with the model's name to be put in */
    bool anew;                               /* a connection of its own */
    char text[500], request[1000];
    int fd;
    double wall[MOST_ROUNDS]; /* seconds */
} measured;

#define GENERATE "{\"model\":\"%.*s\",\"prompt\":\"a b\",\"raw\":true,\"options\":{\"num_predict\":1},\"stream\":"
#define CHAT "{\"model\":\"%.*s\",\"messages\":[{\"role\":\"user\",\"content\":\"a b\"}],\"max_tokens\":1,\"stream\":"

static measured cases[CASES] = {
    {.name = "a bare loop"},
    {.name = "a bare loop", .anew = true},
    {.name = "a bare loop and the engine"},
    {.name = "a bare loop and the engine", .anew = true},
    {.name = "GET /health", .method = "GET", .path = "/health"},
    {.name = "/api/generate", .method = "POST", .path = "/api/generate", .body = GENERATE "false}"},
    {.name = "/api/generate, streamed", .method = "POST", .path = "/api/generate", .body = GENERATE "true}"},
    {.name = "/v1/chat/completions", .method = "POST", .path = "/v1/chat/completions", .body = CHAT "false}"},
    {.name = "/v1/chat/completions, streamed", .method = "POST", .path = "/v1/chat/completions", .body = CHAT "true}"},
};

static void die(const char *what)
{
    fprintf(stderr, "bench_http: %s\n", what);
    exit(1);
}

/* ---- the engine alone ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over;
} waiting = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

static void on_end(void *user, nb_str last_text, const nb_task_stats *stats)
{
    (void)user, (void)last_text, (void)stats;
    pthread_mutex_lock(&waiting.lock);
    waiting.over = true;
    pthread_cond_signal(&waiting.changed);
    pthread_mutex_unlock(&waiting.lock);
}

static nb_service *service;
static nb_served *model;
static nb_ids ids;

static double compute(void)
{
    nb_task_params t = nb_job_defaults().task;
    uint64_t ticket;
    bool busy;
    double begin = nb_seconds();
    t.prompt = ids.id;
    t.prompt_count = ids.count;
    t.max_tokens = 1;
    t.on_end = on_end;
    waiting.over = false;
    if (nb_service_submit(service, model, &t, NULL, &ticket, &busy, NULL) != NB_OK)
        die("the engine refuses the prompt");
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.over)
        pthread_cond_wait(&waiting.changed, &waiting.lock);
    pthread_mutex_unlock(&waiting.lock);
    return nb_seconds() - begin;
}

/* ---- the floor ---- */

typedef struct loop {
    int listener;
    bool asks;
} loop;

static void *echo(void *of)
{
    const loop *l = of;
    char bytes[4096];
    for (int fd; (fd = accept(l->listener, NULL, NULL)) >= 0; close(fd))
        for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;) {
            if (l->asks)
                compute();
            if (send(fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
                break;
        }
    return NULL;
}

/* One thread a listener: a connection that stays keeps its own busy. Returns the port. */
static int start_echo(loop *l)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    pthread_t thread;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    l->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (l->listener < 0 || bind(l->listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(l->listener, 16) != 0 ||
        getsockname(l->listener, (struct sockaddr *)&at, &size) != 0 || pthread_create(&thread, NULL, echo, l) != 0)
        die("no socket to listen on");
    return ntohs(at.sin_port);
}

/* ---- the client ---- */

/* The reply has come whole. */
static bool is_whole(const measured *m, const char *text, size_t n)
{
    const char *body = strstr(text, "\r\n\r\n"), *length = strstr(text, "Content-Length: ");
    if (!m->method)
        return n == strlen(m->request);
    if (!body)
        return false;
    return length ? n == (size_t)(body + 4 - text) + strtoul(length + 16, NULL, 10)
                  : n > 5 && strcmp(text + n - 5, "0\r\n\r\n") == 0;
}

static double ask(measured *m, int port)
{
    static char reply[ROOM];
    size_t n = strlen(m->request), at = 0;
    double begin = nb_seconds();
    if (m->anew)
        m->fd = connect_to(port);
    if (m->fd < 0 || send(m->fd, m->request, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("the server does not take the request");
    for (ssize_t got; at < ROOM - 1; reply[at] = 0) {
        if ((got = recv(m->fd, reply + at, ROOM - 1 - at, 0)) <= 0)
            die("the reply breaks off");
        at += (size_t)got;
        reply[at] = 0;
        if (is_whole(m, reply, at))
            break;
    }
    double end = nb_seconds();
    if (m->anew)
        close(m->fd);
    if (m->method && !strstr(reply, " 200 OK\r\n"))
        die(reply);
    return end - begin;
}

/* ---- all of it ---- */

static void prepare(measured *m, int port)
{
    if (m->method)
        snprintf(m->request, sizeof m->request,
                 "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                 m->method, m->path, strlen(m->text), m->text);
    else
        memset(m->request, 'x', 256);
    if (!m->anew)
        m->fd = connect_to(port);
}

/* Sorts wall. What is taken off is sorted already: the engine's time (NULL: none was used), a loop's (NULL: nothing is). */
static void print_row(const char *name, bool anew, double *wall, const double *engine, const double *floor, size_t n)
{
    size_t at[] = {n / 10, n / 2, n * 9 / 10};
    median(wall, n);
    printf("%-32s%-4s", name, anew ? "new" : "");
    for (int i = 0; i < 3; i++)
        printf(" %8.1f", 1e6 * wall[at[i]]);
    for (int i = 0; floor && i < 2; i++)
        printf("%s%8.1f", i ? " " : "   ", 1e6 * (wall[at[i]] - (engine ? engine[at[i]] : 0)));
    for (int i = 0; floor && i < 2; i++)
        printf("%s%8.1f", i ? " " : "   ", 1e6 * (wall[at[i]] - floor[at[i]]));
    putchar('\n');
}

/* A server over the one model; the engine's own answer to the same tokens as the request's. */
static nb_http *start(const char *const *file)
{
    nb_library *library;
    nb_http *http;
    nb_buf text = {0};
    nb_error err = {0};
    nb_job_params job = nb_job_defaults();
    nb_library_params files = {.no_store = true, .files = file, .file_count = 1};
    nb_entry_list *list;
    job.is_prompt = job.raw = true;
    job.prompt = NB_STR("a b");
    if (nb_library_open(&files, &library, &err) != NB_OK || nb_library_list(library, &list, &err) != NB_OK ||
        nb_service_new(library, &(nb_service_params){.threads = 1}, &service, &err) != NB_OK)
        die(err.message);
    job.model = nb_str_of(nb_entry_text(nb_entry_list_at(list, 0)));
    if (nb_service_acquire(service, job.model, &job.load, NULL, NULL, &model, &err) != NB_OK ||
        nb_job_render(service, &job, &text, &ids, &err) != NB_OK ||
        nb_http_start(service, library, &(nb_http_params){.host = "127.0.0.1"}, &http, &err) != NB_OK)
        die(err.message);
    for (int i = 0; i < CASES; i++)
        if (cases[i].body)
            snprintf(cases[i].text, sizeof cases[i].text, cases[i].body, NB_STR_ARG(job.model));
    return http;
}

int main(int argc, char **argv)
{
    static double alone[MOST_ROUNDS];
    static loop loops[LOOPS];
    int ports[LOOPS + 1], rounds = argc > 1 ? atoi(argv[1]) : 2000;
    const char *file = argc > 2 ? argv[2] : "tests/data/archs/llama-2-mha.gguf";
    if (rounds < 1 || rounds > MOST_ROUNDS)
        die("usage: bench_http [ROUNDS [MODEL]]");
    ports[LOOPS] = nb_http_port(start(&file));
    for (int i = 0; i < LOOPS; i++) {
        loops[i].asks = i >= 2;
        ports[i] = start_echo(&loops[i]);
    }
    for (int i = LOOPS + KINDS; i < CASES; i++) {
        cases[i] = cases[i - KINDS];
        cases[i].anew = true;
    }
    for (int i = 0; i < CASES; i++)
        prepare(&cases[i], ports[i < LOOPS ? i : LOOPS]);
    for (int n = -WARM; n < rounds; n++) {
        int at = n < 0 ? 0 : n;
        usleep(REST_US);
        alone[at] = compute();
        for (int i = 0; i < CASES; i++) {
            usleep(REST_US);
            cases[i].wall[at] = ask(&cases[i], ports[i < LOOPS ? i : LOOPS]);
        }
    }
    printf("%-36s %8s %8s %8s   %17s   %17s   us, %d rounds\n", "", "10 %", "median", "90 %", "beyond: 10 %, med",
           "ours: 10 %, med", rounds);
    print_row("the engine alone, one token", false, alone, NULL, NULL, (size_t)rounds);
    for (int i = 0; i < CASES; i++) {
        const measured *m = &cases[i], *floor = &cases[(m->body ? 2 : 0) + m->anew];
        print_row(m->name, m->anew, cases[i].wall, m->body ? alone : NULL, i < LOOPS ? NULL : floor->wall,
                  (size_t)rounds);
    }
    puts("new: with a connection of its own, which the client opens; beyond: more than the engine alone; ours: more "
         "than a\n"
         "bare loop (and the engine, where it is asked). Quantiles are taken apart: on a machine with other work, the "
         "10 %\n"
         "are what that does not touch");
    return 0; /* the server ends with the process */
}
