/* bench_serve.c - so many clients that ask a server of the OpenAI API one completion after the other, streamed: how many tokens
 * a second all of them get, and how long each waits for the first. Works with any such server; bench/serve starts two.
 *
 * usage: bench_serve PORT MODEL IDS CLIENTS REQUESTS PROMPT OUT EOS [SHARED]
 * IDS: a file of token ids in decimal; each request's prompt is the next PROMPT of them, behind the file's first SHARED.
 * EOS: the token that must not come, so that each reply has OUT tokens. Prints one JSON object. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "loopback.h"
#include "median.h"

enum { MOST_CLIENTS = 256, MOST_REQUESTS = 1000 };

static int port, requests, prompt_tokens, reply_tokens, eos, shared_tokens;
static const char *model;
static int *ids;
static size_t id_count;

typedef struct client {
    pthread_t thread;
    int number;
    double first[MOST_REQUESTS]; /* seconds until the first token */
    double whole[MOST_REQUESTS];
    char *bytes;
} client;

static void die(const char *what)
{
    fprintf(stderr, "bench_serve: %s\n", what);
    exit(1);
}

static void read_ids(const char *path)
{
    FILE *f = fopen(path, "r");
    size_t room = 1 << 20;
    ids = malloc(room * sizeof *ids);
    if (!f || !ids)
        die("cannot read the ids");
    while (id_count < room && fscanf(f, "%d%*[ ,\n]", &ids[id_count]) == 1)
        id_count++;
    fclose(f);
}

static size_t put_ids(char *to, size_t begin, size_t n, bool comma)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)sprintf(to + at, "%s%d", i || comma ? "," : "", ids[(begin + i) % id_count]);
    return at;
}

static char *make_request(size_t number)
{
    size_t tokens = (size_t)(prompt_tokens + shared_tokens), room = 4096 + tokens * 8, at = 0;
    char *body = malloc(room), *text = malloc(room + 512);
    if (!body || !text)
        die("out of memory");
    at += (size_t)sprintf(body,
                          "{\"model\":\"%s\",\"stream\":true,\"temperature\":0,\"max_tokens\":%d,"
                          "\"logit_bias\":{\"%d\":-100},\"prompt\":[",
                          model, reply_tokens, eos);
    at += put_ids(body + at, 0, (size_t)shared_tokens, false);
    at += put_ids(body + at, (size_t)shared_tokens + number * (size_t)prompt_tokens, (size_t)prompt_tokens,
                  shared_tokens > 0);
    at += (size_t)sprintf(body + at, "]}");
    sprintf(text,
            "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
            at, body);
    free(body);
    return text;
}

/* One request: the seconds until its first event and until its end. */
static void ask(client *c, size_t number, double *first, double *whole)
{
    enum { ROOM = 1 << 22 };
    char *request = make_request(number);
    size_t n = strlen(request), at = 0;
    double begin = nb_seconds();
    int fd = connect_to(port);
    if (fd < 0 || send(fd, request, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("the server does not take the request");
    *first = 0;
    for (ssize_t got; (got = recv(fd, c->bytes + at, ROOM - 1 - at, 0)) > 0;) {
        at += (size_t)got;
        c->bytes[at] = 0;
        if (*first == 0 && strstr(c->bytes, "\ndata:"))
            *first = nb_seconds() - begin;
    }
    *whole = nb_seconds() - begin;
    if (*first == 0 || !strstr(c->bytes, "[DONE]") || !strstr(c->bytes, "\"length\""))
        die(at ? c->bytes : "an empty reply");
    close(fd);
    free(request);
}

static void *run(void *user)
{
    client *c = user;
    for (int i = 0; i < requests; i++)
        ask(c, (size_t)(c->number * requests + i), &c->first[i], &c->whole[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    static client clients[MOST_CLIENTS];
    static double first[MOST_CLIENTS * MOST_REQUESTS], whole[MOST_CLIENTS * MOST_REQUESTS];
    if (argc < 9)
        die("usage: bench_serve PORT MODEL IDS CLIENTS REQUESTS PROMPT OUT EOS [SHARED]");
    int count = atoi(argv[4]);
    size_t n = 0;
    port = atoi(argv[1]), model = argv[2], requests = atoi(argv[5]), prompt_tokens = atoi(argv[6]);
    reply_tokens = atoi(argv[7]), eos = atoi(argv[8]), shared_tokens = argc > 9 ? atoi(argv[9]) : 0;
    if (strlen(model) > 200 || count < 1 || count > MOST_CLIENTS || requests < 1 || requests > MOST_REQUESTS)
        die("too many clients or requests");
    read_ids(argv[3]);
    double begin = nb_seconds();
    for (int i = 0; i < count; i++) {
        clients[i].number = i;
        clients[i].bytes = malloc(1 << 22);
        if (!clients[i].bytes || pthread_create(&clients[i].thread, NULL, run, &clients[i]) != 0)
            die("out of memory");
    }
    for (int i = 0; i < count; i++)
        pthread_join(clients[i].thread, NULL);
    double seconds = nb_seconds() - begin, tokens = (double)count * requests;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < requests; j++, n++)
            first[n] = clients[i].first[j], whole[n] = clients[i].whole[j];
    printf("{\"clients\":%d,\"seconds\":%.4f,\"tokens_s\":%.1f,\"out_s\":%.1f,\"first_ms\":%.2f,\"whole_ms\":%.2f}\n",
           count, seconds, tokens * (prompt_tokens + shared_tokens + reply_tokens) / seconds,
           tokens * reply_tokens / seconds, 1e3 * median(first, n), 1e3 * median(whole, n));
    return 0;
}
