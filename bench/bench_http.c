/* bench_http.c - what HTTP adds to a request: a server over a tiny model and its client in one process, and beside every request the
 * engine alone, asked for the same tokens through the service. The machine's own floor is an echo over loopback by a bare loop of
 * accept, recv and send, on a connection that stays and on one of its own, which the client opens. All take turns after a rest
 * each, so that what slows the machine meets all of them, and none meets what the one before left.
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

enum { MOST_ROUNDS = 20000, WARM = 50, KINDS = 7, CASES = 12, REST_US = 300, ROOM = 1 << 16 };

typedef struct measured {
    const char *name, *method, *path, *body; /* method NULL: the echo; body: with the model's name to be put in */
    bool anew;                               /* a connection of its own */
    char text[500], request[1000];
    int fd;
    double wall[MOST_ROUNDS]; /* seconds */
} measured;

#define GENERATE "{\"model\":\"%.*s\",\"prompt\":\"a b\",\"raw\":true,\"options\":{\"num_predict\":1},\"stream\":"
#define CHAT "{\"model\":\"%.*s\",\"messages\":[{\"role\":\"user\",\"content\":\"a b\"}],\"max_tokens\":1,\"stream\":"

static measured cases[CASES] = {
    {.name = "echo, the machine's floor"},
    {.name = "echo, the machine's floor", .anew = true},
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

/* ---- the floor ---- */

static void *echo(void *listener)
{
    char bytes[4096];
    for (int fd; (fd = accept(*(int *)listener, NULL, NULL)) >= 0; close(fd))
        for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;)
            if (send(fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
                break;
    return NULL;
}

/* One echoing thread a listener: a connection that stays keeps its own busy. Returns the port. */
static int start_echo(int *listener)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    pthread_t thread;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *listener = socket(AF_INET, SOCK_STREAM, 0);
    if (*listener < 0 || bind(*listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(*listener, 16) != 0 ||
        getsockname(*listener, (struct sockaddr *)&at, &size) != 0 ||
        pthread_create(&thread, NULL, echo, listener) != 0)
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

static double compute(nb_service *s, nb_served *m, const nb_ids *ids)
{
    nb_task_params t = nb_job_defaults().task;
    uint64_t ticket;
    bool busy;
    double begin = nb_seconds();
    t.prompt = ids->id;
    t.prompt_count = ids->count;
    t.max_tokens = 1;
    t.on_end = on_end;
    waiting.over = false;
    if (nb_service_submit(s, m, &t, NULL, &ticket, &busy, NULL) != NB_OK)
        die("the engine refuses the prompt");
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.over)
        pthread_cond_wait(&waiting.changed, &waiting.lock);
    pthread_mutex_unlock(&waiting.lock);
    return nb_seconds() - begin;
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

/* Sorts wall. What is taken off is sorted already: the engine's time (NULL: none was used), an echo's. */
static void print_row(const char *name, bool anew, double *wall, const double *engine, const double *floor, size_t n)
{
    size_t at[] = {n / 10, n / 2, n * 9 / 10};
    median(wall, n);
    printf("%-32s%-4s", name, anew ? "new" : "");
    for (int i = 0; i < 3; i++)
        printf(" %8.1f", 1e6 * wall[at[i]]);
    for (int k = 0; floor && k < 2; k++)
        for (int i = 0; i < 2; i++)
            printf("%s%8.1f", i ? " " : "   ", 1e6 * (wall[at[i]] - (engine ? engine[at[i]] : 0) - k * floor[at[i]]));
    putchar('\n');
}

/* A server over the one model; the engine's own answer to the same tokens as the request's. */
static nb_http *start(const char *const *file, nb_service **service, nb_served **model, nb_ids *ids)
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
        nb_service_new(library, &(nb_service_params){.threads = 1}, service, &err) != NB_OK)
        die(err.message);
    job.model = nb_str_of(nb_entry_text(nb_entry_list_at(list, 0)));
    if (nb_service_acquire(*service, job.model, &job.load, NULL, NULL, model, &err) != NB_OK ||
        nb_job_render(*service, &job, &text, ids, &err) != NB_OK ||
        nb_http_start(*service, library, &(nb_http_params){.host = "127.0.0.1"}, &http, &err) != NB_OK)
        die(err.message);
    for (int i = 0; i < CASES; i++)
        if (cases[i].body)
            snprintf(cases[i].text, sizeof cases[i].text, cases[i].body, NB_STR_ARG(job.model));
    return http;
}

int main(int argc, char **argv)
{
    static double alone[MOST_ROUNDS];
    int listeners[2], ports[3], rounds = argc > 1 ? atoi(argv[1]) : 2000;
    const char *file = argc > 2 ? argv[2] : "tests/data/archs/llama-2-mha.gguf";
    nb_service *service;
    nb_served *model;
    nb_ids ids = {0};
    if (rounds < 1 || rounds > MOST_ROUNDS)
        die("usage: bench_http [ROUNDS [MODEL]]");
    ports[2] = nb_http_port(start(&file, &service, &model, &ids));
    for (int i = 0; i < 2; i++)
        ports[i] = start_echo(&listeners[i]);
    for (int i = KINDS; i < CASES; i++) {
        cases[i] = cases[i - KINDS + 2];
        cases[i].anew = true;
    }
    for (int i = 0; i < CASES; i++)
        prepare(&cases[i], ports[i < 2 ? i : 2]);
    for (int n = -WARM; n < rounds; n++) {
        int at = n < 0 ? 0 : n;
        usleep(REST_US);
        alone[at] = compute(service, model, &ids);
        for (int i = 0; i < CASES; i++) {
            usleep(REST_US);
            cases[i].wall[at] = ask(&cases[i], ports[i < 2 ? i : 2]);
        }
    }
    printf("%-36s %8s %8s %8s   %17s   %17s   us, %d rounds\n", "", "10 %", "median", "90 %", "beyond: 10 %, med",
           "ours: 10 %, med", rounds);
    print_row("the engine alone, one token", false, alone, NULL, NULL, (size_t)rounds);
    for (int i = 0; i < CASES; i++)
        print_row(cases[i].name, cases[i].anew, cases[i].wall, cases[i].body ? alone : NULL,
                  i < 2 ? NULL : cases[cases[i].anew].wall, (size_t)rounds);
    puts(
        "new: with a connection of its own, which the client opens; beyond: more than the engine; ours: more than the\n"
        "engine and the echo. Quantiles are taken apart: on a machine with other work, the 10 % are what they do not "
        "touch");
    return 0; /* the server ends with the process */
}
