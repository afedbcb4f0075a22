/* serve.h - the program itself as a server, for tests of what others say to it. */
#ifndef NB_TESTS_SERVE_H
#define NB_TESTS_SERVE_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct serve_process {
    pid_t pid, reader; /* reader: keeps what the server says from filling its pipe */
    char url[64];
} serve_process;

enum { SERVE_FILES = 16 };

/* Passes on what the server says, so that it can always say more. */
static inline pid_t serve_drain(int fd)
{
    pid_t pid = fork();
    if (pid == 0) {
        char bytes[4096];
        while (read(fd, bytes, sizeof bytes) > 0)
            ;
        _exit(0);
    }
    return pid;
}

/* `nibble serve FILES... --no-store` on a port of its own; files end with NULL. False: it did not listen. */
static inline bool serve_start(serve_process *s, const char *const *files)
{
    const char *argv[SERVE_FILES + 6] = {NB_TEST_BINARY, "serve", "--no-store", "--host", "127.0.0.1:0"};
    int ends[2], n = 5;
    char line[1024] = "";
    const char *at = NULL;
    for (int i = 0; files[i] && i < SERVE_FILES; i++)
        argv[n++] = files[i];
    if (pipe(ends) != 0 || (s->pid = fork()) < 0)
        return false;
    if (s->pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        execv(argv[0], (char **)argv);
        _exit(127);
    }
    close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    while (out && !at && fgets(line, sizeof line, out)) {
        fputs(line, stderr);
        at = strstr(line, "http://127.0.0.1:");
    }
    if (at) {
        snprintf(s->url, sizeof s->url, "%.*s", (int)strcspn(at, "; \n"), at);
        s->reader = serve_drain(ends[0]);
    }
    if (out)
        fclose(out);
    return at != NULL;
}

static inline void serve_stop(serve_process *s)
{
    int status;
    if (s->pid > 0 && kill(s->pid, SIGTERM) == 0)
        waitpid(s->pid, &status, 0);
    if (s->reader > 0)
        waitpid(s->reader, &status, 0);
}

#endif
