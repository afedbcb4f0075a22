/* load.h - many streaming clients at once over plain sockets, in one thread: some read as fast as they can, some leave in
 * mid-stream, some take a byte a second until all others are done. What each got is compared with what it gets alone. */
#ifndef NB_TESTS_LOAD_H
#define NB_TESTS_LOAD_H

#include "support/http_client.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdint.h>
#include <time.h>

typedef enum ld_kind { LD_READS, LD_LEAVES, LD_CRAWLS } ld_kind;

typedef struct ld_ask {
    const char *path;
    char body[2000];
    char *alone; /* the reply's text when nobody else asks */
} ld_ask;

typedef struct ld_client {
    ld_kind kind;
    ld_ask *ask;
    int fd; /* -1: over */
    char *bytes;
    size_t count, room, leave_at; /* leave_at: bytes after which it hangs up */
    double next;                  /* when it takes its next byte */
} ld_client;

typedef struct ld_result {
    size_t whole, left,
        crawled;    /* clients by their ends: streams read whole and equal, hung up, of the whole those that crawled */
    double seconds; /* until the last but the crawling ones was over */
} ld_result;

static inline double ld_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what a stream says ---- */

/* The reply's body without the marks of chunks, in place; NULL: it is not whole. */
static inline char *ld_unchunk(char *bytes)
{
    char *at = strstr(bytes, "\r\n\r\n"), *begin, *to;
    if (!at)
        return NULL;
    for (begin = to = at += 4;;) {
        char *rest;
        size_t n = strtoul(at, &rest, 16), there = strlen(rest);
        if (rest == at || there < n + 4 || strncmp(rest, "\r\n", 2) != 0 || strncmp(rest + 2 + n, "\r\n", 2) != 0)
            return NULL;
        memmove(to, rest + 2, n);
        to += n;
        at = rest + n + 4;
        if (n == 0) {
            *to = 0;
            return begin;
        }
    }
}

static inline const char *ld_string(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* What one event of any of the three APIs adds; *last: it was the stream's last. NULL: an error. */
static inline const char *ld_event(const json_t *e, bool *last)
{
    const json_t *choice = json_array_get(json_object_get(e, "choices"), 0), *delta = json_object_get(choice, "delta");
    const char *type = ld_string(e, "type"), *text = ld_string(e, "response");
    if (json_object_get(e, "error"))
        return NULL;
    *last |= json_is_true(json_object_get(e, "done")) || (type && strcmp(type, "message_stop") == 0);
    text = text ? text : ld_string(json_object_get(e, "message"), "content");
    text = text ? text : ld_string(delta, "content");
    text = text ? text : ld_string(choice, "text");
    text = text ? text : ld_string(json_object_get(e, "delta"), "text");
    return text ? text : "";
}

/* The text of a whole stream: to be freed. NULL: it broke off, or is no stream. */
static inline char *ld_text(const char *reply)
{
    char *copy = strdup(reply), *save = NULL,
         *body = copy && strncmp(copy, "HTTP/1.1 200", 12) == 0 ? ld_unchunk(copy) : NULL;
    char *text = calloc(1, strlen(reply) + 1);
    bool last = false, good = body && text;
    for (char *line = good ? strtok_r(body, "\n", &save) : NULL; line && good; line = strtok_r(NULL, "\n", &save)) {
        const char *json = strncmp(line, "data: ", 6) == 0 ? line + 6 : line;
        if (strncmp(line, "event: ", 7) == 0 || *line == '\r')
            continue;
        if (strncmp(json, "[DONE]", 6) == 0) {
            last = true;
            continue;
        }
        json_t *e = json_loads(json, JSON_ALLOW_NUL, NULL);
        const char *more = e ? ld_event(e, &last) : NULL;
        good = more != NULL;
        if (good)
            strcat(text, more);
        json_decref(e);
    }
    free(copy);
    if (good && last)
        return text;
    free(text);
    return NULL;
}

/* ---- one client ---- */

static inline void ld_begin(ld_client *c, int port)
{
    size_t n;
    char *text = hc_request("POST", c->ask->path, "Content-Type: application/json\r\nConnection: close\r\n",
                            c->ask->body, strlen(c->ask->body), &n);
    c->fd = hc_connect(port);
    c->room = 1 << 14;
    c->bytes = malloc(c->room);
    if (c->fd < 0 || !c->bytes || !hc_send(c->fd, text, n)) {
        fprintf(stderr, "load: no connection: %s\n", strerror(errno));
        abort();
    }
    free(text);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static inline void ld_over(ld_client *c)
{
    close(c->fd);
    c->fd = -1;
    c->bytes[c->count] = 0;
}

/* Takes what is there, at most `most` bytes. */
static inline void ld_take(ld_client *c, size_t most)
{
    if (c->room - c->count < 4097 && !(c->bytes = realloc(c->bytes, c->room *= 2)))
        abort();
    size_t room = c->room - c->count - 1;
    if (c->kind == LD_LEAVES) /* not a byte more, so that it leaves in mid-stream however fast that came */
        room = c->leave_at - c->count;
    ssize_t n = recv(c->fd, c->bytes + c->count, most < room ? most : room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->count += n > 0 ? (size_t)n : 0;
    if (n <= 0 || (c->kind == LD_LEAVES && c->count >= c->leave_at))
        ld_over(c);
}

/* ---- all of them ---- */

static inline void ld_turn(ld_client *c, size_t count, bool released)
{
    struct pollfd p[1024];
    ld_client *of[1024] = {NULL};
    nfds_t n = 0;
    double now = ld_now();
    for (size_t i = 0; i < count && n < 1024; i++) {
        if (c[i].fd < 0 || (c[i].kind == LD_CRAWLS && !released && now < c[i].next))
            continue;
        of[n] = &c[i];
        p[n++] = (struct pollfd){.fd = c[i].fd, .events = POLLIN};
    }
    if (poll(p, n, 100) <= 0)
        return;
    for (nfds_t i = 0; i < n; i++) {
        bool crawls = of[i]->kind == LD_CRAWLS && !released;
        if (!p[i].revents)
            continue;
        ld_take(of[i], crawls ? 1 : SIZE_MAX);
        of[i]->next = now + 1;
    }
}

static inline void ld_judge(const ld_client *c, ld_result *r)
{
    char *text = c->kind == LD_LEAVES ? NULL : ld_text(c->bytes);
    if (c->kind == LD_LEAVES) {
        r->left += c->count >= c->leave_at && !strstr(c->bytes, "\"done\":true") && !strstr(c->bytes, "[DONE]");
    } else if (text && strcmp(text, c->ask->alone) == 0) {
        r->whole++;
        r->crawled += c->kind == LD_CRAWLS;
    } else {
        fprintf(stderr, "load: alone: %s\nload: here:  %s\n", c->ask->alone, text ? text : c->bytes);
    }
    free(text);
}

/* So many clients of each kind, mixed; they take the asks in turn. */
static inline ld_result ld_run(int port, ld_ask *asks, size_t ask_count, const size_t counts[3])
{
    size_t count = counts[0] + counts[1] + counts[2], open = 1, given[3] = {0};
    ld_client *clients = calloc(count, sizeof *clients);
    ld_result r = {0};
    double begin = ld_now();
    if (!clients)
        abort();
    for (size_t i = 0; i < count; i++) {
        size_t kind = i % 3; /* in turn, as long as there are some of that kind */
        while (given[kind] == counts[kind])
            kind = (kind + 1) % 3;
        clients[i] = (ld_client){.kind = (ld_kind)kind, .ask = &asks[i % ask_count], .leave_at = 150 + i % 7 * 90};
        given[kind]++;
        ld_begin(&clients[i], port);
    }
    while (open) { /* all but the crawling ones */
        ld_turn(clients, count, false);
        open = 0;
        for (size_t i = 0; i < count; i++)
            open += clients[i].fd >= 0 && clients[i].kind != LD_CRAWLS;
    }
    r.seconds = ld_now() - begin;
    for (open = 1; open;) {
        ld_turn(clients, count, true);
        open = 0;
        for (size_t i = 0; i < count; i++)
            open += clients[i].fd >= 0;
    }
    for (size_t i = 0; i < count; i++) {
        ld_judge(&clients[i], &r);
        free(clients[i].bytes);
    }
    free(clients);
    return r;
}

/* Each ask's text when it is the only one. */
static inline void ld_alone(int port, ld_ask *asks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ld_client c = {.ask = &asks[i]};
        ld_begin(&c, port);
        while (c.fd >= 0)
            ld_turn(&c, 1, true);
        asks[i].alone = ld_text(c.bytes);
        if (!asks[i].alone || !asks[i].alone[0]) {
            fprintf(stderr, "load: no reply to %s: %s\n", asks[i].body, c.bytes);
            abort();
        }
        free(c.bytes);
    }
}

static inline void ld_forget(ld_ask *asks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(asks[i].alone);
}

/* ---- the machine's side ---- */

/* kB of the memory that is a process's own (RssAnon of /proc/PID/status); pid 0: of this one. */
static inline long ld_memory(int pid)
{
    char path[64], line[200];
    long kb = -1;
    if (pid)
        snprintf(path, sizeof path, "/proc/%d/status", pid);
    else
        snprintf(path, sizeof path, "/proc/self/status");
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %ld", &kb) != 1)
        ;
    if (f)
        fclose(f);
    return kb;
}

#endif
