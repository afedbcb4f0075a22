/* hostile.h - the misbehaving registry and hub of tests/registry/hostile_server.py, for a group of tests: started on free ports,
 * what it was asked read from its log. */
#ifndef NB_TESTS_HOSTILE_H
#define NB_TESTS_HOSTILE_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct hostile {
    char folder[64]; /* the caller removes it */
    pid_t pid;
    int a, b;       /* ports, */
    int t, u, w, x; /* and those of https */
    char at[64];    /* "http://127.0.0.1:A" */
} hostile;

/* What a test transfers depends on nobody's environment: no proxy, no keys or tokens of whoever runs it. */
static inline void hostile_alone(void)
{
    static const char *const names[] = {"HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HOME", "HF_ENDPOINT"};
    signal(SIGPIPE, SIG_IGN);
    setenv("no_proxy", "*", 1);
    setenv("HOME", "/nonexistent", 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

static inline void hostile_sleep(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static inline pid_t hostile_spawn(char *const argv[], const char *output)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execvp(argv[0], argv);
    _exit(127);
}

static inline void hostile_end(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* False: it did not start; folder/output says why. */
static inline bool hostile_start(hostile *h)
{
    char ports[128], output[128];
    memset(h, 0, sizeof *h);
    snprintf(h->folder, sizeof h->folder, "/tmp/nibble-hostile-XXXXXX");
    if (!mkdtemp(h->folder))
        return false;
    snprintf(ports, sizeof ports, "%s/ports", h->folder);
    snprintf(output, sizeof output, "%s/output", h->folder);
    char *argv[] = {"python3", NB_TEST_DATA "/../registry/hostile_server.py", h->folder, NULL};
    h->pid = hostile_spawn(argv, output);
    for (int i = 0; h->pid > 0 && i < 1200; i++) {
        FILE *f = fopen(ports, "r");
        int n = f ? fscanf(f, "%d %d %d %d %d %d", &h->a, &h->b, &h->t, &h->u, &h->w, &h->x) : 0;
        if (f)
            fclose(f);
        if (n == 6) {
            snprintf(h->at, sizeof h->at, "http://127.0.0.1:%d", h->a);
            return true;
        }
        hostile_sleep(50);
    }
    return false;
}

static inline void hostile_remove(const char *folder)
{
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fprintf(stderr, "%s stays\n", folder);
}

static inline void hostile_stop(hostile *h)
{
    hostile_end(h->pid);
    hostile_remove(h->folder);
}

/* ---- what it was asked ---- */

/* Waits until what was asked is written down. */
static inline void hostile_settle(const hostile *h)
{
    static const char request[] = "GET /-/idle HTTP/1.0\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)h->a)};
    char reply[500];
    hostile_sleep(50); /* what was sent and left may not have been read yet */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1)
        while (recv(fd, reply, sizeof reply, 0) > 0)
            continue;
    close(fd);
}

static inline void hostile_forget(const hostile *h)
{
    char path[128];
    snprintf(path, sizeof path, "%s/log", h->folder);
    hostile_settle(h);
    if (truncate(path, 0) != 0)
        return;
}

typedef struct hostile_count {
    int requests, with_token; /* with_token: with any Authorization */
    long long bytes;
} hostile_count;

/* Requests at host "A", "B", "T"... whose path holds `part`. */
static inline hostile_count hostile_asked(const hostile *h, const char *host, const char *part)
{
    hostile_count c = {0};
    char path[128], line[4096];
    hostile_settle(h);
    snprintf(path, sizeof path, "%s/log", h->folder);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        json_t *j = json_loads(line, 0, NULL);
        const char *at = json_string_value(json_object_get(j, "at")),
                   *asked = json_string_value(json_object_get(j, "path"));
        if (at && asked && strcmp(at, host) == 0 && strstr(asked, part)) {
            c.requests++;
            c.with_token += json_is_string(json_object_get(j, "auth"));
            c.bytes += json_integer_value(json_object_get(j, "sent"));
        }
        json_decref(j);
    }
    if (f)
        fclose(f);
    return c;
}

#endif
