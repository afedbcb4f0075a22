/* http_client.h - a small blocking HTTP client over plain sockets, for tests of the server: whole requests, and replies read as
 * slowly as wanted or left in the middle. It shares nothing with the server. */
#ifndef NB_TESTS_HTTP_CLIENT_H
#define NB_TESTS_HTTP_CLIENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strcasestr; include this before all others */
#endif
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { HC_HEAD = 16384, HC_SECONDS = 60 };

typedef struct hc_connection {
    int fd;
    char head[HC_HEAD + 1]; /* of the reply: lines up to the empty one */
    int status;
    bool chunked, whole; /* whole: the reply's body was read to its proper end */
    long left;           /* of the chunk or the body; -1: unknown */
} hc_connection;

typedef struct hc_reply {
    int status; /* 0: no reply came */
    char head[HC_HEAD + 1];
    char *body; /* with a NUL behind it; free it by hc_free */
    size_t bytes;
    bool whole;
} hc_reply;

/* A socket to 127.0.0.1:port that gives up after HC_SECONDS without a byte; -1: nobody listens. */
static inline int hc_connect(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct timeval limit = {.tv_sec = HC_SECONDS};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

/* False: the other side closed. */
static inline bool hc_send(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* One byte; -1: the other side closed, or nothing came in time. */
static inline int hc_byte(int fd)
{
    unsigned char c;
    ssize_t n;
    do
        n = recv(fd, &c, 1, 0);
    while (n < 0 && errno == EINTR);
    return n == 1 ? c : -1;
}

/* The value of a header in head, copied into value; NULL: absent. */
static inline const char *hc_header(const char *head, const char *name, char value[512])
{
    size_t n = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *begin = line + n + 1;
        while (*begin == ' ')
            begin++;
        snprintf(value, 512, "%.*s", (int)strcspn(begin, "\r"), begin);
        return value;
    }
    return NULL;
}

/* The bytes of a request; headers are whole lines ("X: y\r\n"), or NULL. Host and Content-Length are written unless headers hold
 * them. Free it. */
static inline char *hc_request(const char *method, const char *path, const char *headers, const char *body,
                               size_t bytes, size_t *n)
{
    const char *more = headers ? headers : "";
    bool has_host = strncasecmp(more, "Host:", 5) == 0 || strcasestr(more, "\r\nHost:");
    bool has_length = strcasestr(more, "Content-Length:") || strcasestr(more, "Transfer-Encoding:");
    size_t room = strlen(method) + strlen(path) + strlen(more) + bytes + 200;
    char *text = malloc(room), length[64] = "";
    if (!text)
        abort();
    if (body && !has_length)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", bytes);
    int head = snprintf(text, room, "%s %s HTTP/1.1\r\n%s%s%s\r\n", method, path, has_host ? "" : "Host: 127.0.0.1\r\n",
                        length, more);
    if (bytes)
        memcpy(text + head, body, bytes);
    *n = (size_t)head + bytes;
    return text;
}

/* Reads a reply's head into c. */
static inline bool hc_read_head(hc_connection *c, bool no_body)
{
    char value[512];
    size_t n = 0;
    c->status = 0;
    while (n < HC_HEAD) {
        int byte = hc_byte(c->fd);
        if (byte < 0)
            return false;
        c->head[n++] = (char)byte;
        c->head[n] = 0;
        if (n >= 4 && memcmp(c->head + n - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    if (sscanf(c->head, "HTTP/1.%*d %d", &c->status) != 1)
        return false;
    if (c->status == 100)
        return hc_read_head(c, no_body);
    c->chunked = hc_header(c->head, "Transfer-Encoding", value) && strcasecmp(value, "chunked") == 0;
    c->left = c->chunked ? 0 : hc_header(c->head, "Content-Length", value) ? atol(value) : -1;
    if (no_body || c->status == 204 || c->status == 304)
        c->left = 0;
    c->whole = !c->chunked && c->left == 0;
    return true;
}

/* Sends a request and reads the reply's head; the body is then read by hc_next. False: no reply. Close with hc_hang_up. */
static inline bool hc_open(hc_connection *c, int port, const char *method, const char *path, const char *headers,
                           const char *body)
{
    size_t n;
    memset(c, 0, sizeof *c);
    c->fd = hc_connect(port);
    if (c->fd < 0)
        return false;
    char *text = hc_request(method, path, headers, body, body ? strlen(body) : 0, &n);
    hc_send(c->fd, text, n); /* a server that has seen enough answers before it has read all */
    free(text);
    return hc_read_head(c, strcmp(method, "HEAD") == 0);
}

/* The length of the next chunk; -1: there is none. */
static inline long hc_chunk(hc_connection *c)
{
    char line[64];
    size_t n = 0;
    for (int byte; (byte = hc_byte(c->fd)) != '\n'; line[n++] = (char)byte)
        if (byte < 0 || n >= sizeof line - 1)
            return -1;
    line[n] = 0;
    if (n <= 1) /* what ends the chunk before */
        return hc_chunk(c);
    return strtol(line, NULL, 16);
}

/* The next byte of the body, without the marks of chunks; -1: its end (c->whole), or the connection's. */
static inline int hc_next(hc_connection *c)
{
    if (c->whole)
        return -1;
    if (c->chunked && c->left == 0) {
        c->left = hc_chunk(c);
        if (c->left <= 0) {
            c->whole = c->left == 0;
            c->left = 0;
            return -1;
        }
    }
    int byte = hc_byte(c->fd);
    if (byte >= 0 && c->left > 0)
        c->left--;
    c->whole = (byte < 0 && c->left < 0) || (byte >= 0 && !c->chunked && c->left == 0);
    return byte;
}

/* A line of the body without its end; false: there is none any more. */
static inline bool hc_line(hc_connection *c, char *line, size_t room)
{
    size_t n = 0;
    for (int byte; (byte = hc_next(c)) >= 0;) {
        if (byte == '\n') {
            line[n] = 0;
            return true;
        }
        if (n + 1 < room)
            line[n++] = (char)byte;
    }
    line[n] = 0;
    return n > 0;
}

static inline void hc_hang_up(hc_connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* The rest of the reply on c, which is closed. */
static inline hc_reply hc_rest(hc_connection *c)
{
    hc_reply r = {.status = c->status};
    size_t room = 4096;
    memcpy(r.head, c->head, sizeof r.head);
    r.body = malloc(room);
    for (int byte; (byte = hc_next(c)) >= 0;) {
        if (r.bytes + 1 == room)
            r.body = realloc(r.body, room *= 2);
        if (!r.body)
            abort();
        r.body[r.bytes++] = (char)byte;
    }
    if (!r.body)
        abort();
    r.body[r.bytes] = 0;
    r.whole = c->whole;
    hc_hang_up(c);
    return r;
}

/* A whole exchange; body NULL: none. */
static inline hc_reply hc_ask(int port, const char *method, const char *path, const char *headers, const char *body)
{
    hc_connection c;
    if (!hc_open(&c, port, method, path, headers, body))
        c.status = 0, c.whole = true;
    return hc_rest(&c);
}

static inline hc_reply hc_post(int port, const char *path, const char *body)
{
    return hc_ask(port, "POST", path, "Content-Type: application/json\r\n", body);
}

static inline hc_reply hc_get(int port, const char *path) { return hc_ask(port, "GET", path, NULL, NULL); }

static inline void hc_free(hc_reply *r)
{
    free(r->body);
    r->body = NULL;
}

#endif
