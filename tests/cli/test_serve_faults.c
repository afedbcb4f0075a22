/* A server whose machine fails it: a full disk under its log and its store, models that cannot be read or are cut short while they
 * are in use, a port that another program has. Each is said in words, and what can go on goes on. */
#include "support/http_client.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"

#define MODEL NB_TEST_DATA "/archs/llama-2-mha.gguf"
#define SHORT "\"prompt\":\"a\",\"raw\":true,\"options\":{\"num_predict\":1}}"
enum { SECONDS = NB_TEST_SLOW ? 120 : 30 };

static char folder[] = "/tmp/nibble-faults-XXXXXX", file[5][100];
static pid_t server;

static void rest(void) { nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); }

static char *path_of(int i, const char *name)
{
    snprintf(file[i], sizeof file[i], "%s/%s", folder, name);
    return file[i];
}

/* What the server said so far; free it. */
static char *said(void)
{
    nb_buf text = {0};
    nb_file_read(path_of(4, "log"), 1 << 20, &text, NULL);
    nb_buf_char(&text, 0);
    assert_false(text.failed);
    return text.data;
}

static bool has_said(const char *words)
{
    char *text = said();
    bool found = strstr(text, words) != NULL;
    free(text);
    return found;
}

static void wait_for(const char *words)
{
    for (double end = nb_seconds() + SECONDS; !has_said(words); rest())
        if (nb_seconds() > end)
            fail_msg("'%s' is not in:\n%s", words, said());
}

/* Runs `nibble serve` with its log in a file; no file of its grows beyond `most` bytes (0: as it likes). Returns its port; -1: it
 * ended before it listened. */
static int start(const char *const *arguments, rlim_t most)
{
    const char *argv[16] = {NB_TEST_BINARY, "serve", "--threads", "1"};
    for (int i = 0; arguments[i]; i++)
        argv[4 + i] = arguments[i];
    unlink(path_of(4, "log"));
    server = fork();
    assert_true(server >= 0);
    if (server == 0) {
        if (most)
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){most, most});
        if (!freopen(file[4], "w", stderr))
            _exit(126);
        execv(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    for (double end = nb_seconds() + SECONDS; nb_seconds() < end; rest()) {
        char *text = said(), *at = strstr(text, "listens on http://127.0.0.1:");
        int port = at && strchr(at, ';') ? atoi(at + 28) : 0;
        free(text);
        if (port)
            return port;
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)server, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
            return -1;
    }
    fail_msg("the server says nothing");
    return -1;
}

/* How it ended, by itself or when asked to. */
static int end(bool ask)
{
    int status;
    if (ask)
        kill(server, SIGTERM);
    assert_int_equal(waitpid(server, &status, 0), server);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The status of a request, whose reply has these words (or "error": of the server's). */
static int ask(int port, const char *path, const char *body, const char *words)
{
    hc_reply r = hc_post(port, path, body);
    if (!strstr(r.body, words))
        fail_msg("'%s' is not in %d %s", words, r.status, r.body);
    hc_free(&r);
    return r.status;
}

static void copy(const char *to, size_t most)
{
    nb_buf bytes = {0};
    assert_int_equal(nb_file_read(MODEL, 1 << 24, &bytes, NULL), NB_OK);
    FILE *f = fopen(to, "w");
    size_t n = bytes.len < most ? bytes.len : most;
    assert_true(f && fwrite(bytes.data, 1, n, f) == n && fclose(f) == 0);
    nb_buf_free(&bytes);
}

/* The log's disk is full: lines are lost, requests are not. */
static void full_log(void **state)
{
    enum { MOST = 600 };
    struct stat s;
    (void)state;
    int port = start((const char *[]){"--no-store", "--host", "127.0.0.1:0", MODEL, NULL}, MOST);
    assert_true(port > 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ask(port, "/api/generate", "{\"model\":\"llama-2-mha\"," SHORT, "\"done\":true"), 200);
    assert_true(stat(path_of(4, "log"), &s) == 0 && s.st_size == MOST);
    assert_int_equal(end(true), 0);
}

/* The store's disk is full: the request that needed it fails, says so in the log, and leaves nothing; others go on. */
static void full_store(void **state)
{
    static char body[200000], command[200];
    (void)state;
    memset(body, 'x', sizeof body - 1);
    setenv("OLLAMA_MODELS", path_of(0, "store"), 1);
    int port = start((const char *[]){"--host", "127.0.0.1:0", NULL}, 100000);
    assert_true(port > 0);
    static const char blob[] = "/api/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000";
    assert_int_equal(ask(port, blob, body, "cannot write: File too large"), 500);
    wait_for(" 500 ");
    assert_true(has_said("cannot write: File too large"));
    snprintf(command, sizeof command, "test -z \"$(find %s -type f -size +0)\"", file[0]);
    assert_int_equal(system(command), 0);
    body[7] = 0; /* a small one of another name is looked at to its end */
    assert_int_equal(ask(port, blob, body, "digest"), 400);
    assert_int_equal(end(true), 0);
    unsetenv("OLLAMA_MODELS");
}

/* Each says what is wrong with it, to the client and in the log; the model beside them is served. */
static void unreadable(void **state)
{
    static const struct {
        const char *name, *words;
    } wrong[] = {{"empty", "the file is empty"}, {"cut", "the file is truncated"}, {"closed", "Permission denied"}};
    size_t count = geteuid() == 0 ? 2 : 3; /* nothing is closed to root */
    char body[200];
    (void)state;
    copy(path_of(0, "empty.gguf"), 0);
    copy(path_of(1, "cut.gguf"), 100000);
    copy(path_of(2, "closed.gguf"), SIZE_MAX);
    assert_int_equal(chmod(file[2], 0), 0);
    int port = start(
        (const char *[]){"--no-store", "--host", "127.0.0.1:0", file[0], file[1], count > 2 ? file[2] : MODEL, NULL},
        0);
    assert_true(port > 0);
    for (size_t i = 0; i < count; i++) {
        snprintf(body, sizeof body, "{\"model\":\"%s\"," SHORT, wrong[i].name);
        assert_int_equal(ask(port, "/api/generate", body, wrong[i].words), 500);
        wait_for(wrong[i].words);
    }
    if (count < 3)
        assert_int_equal(ask(port, "/api/generate", "{\"model\":\"llama-2-mha\"," SHORT, "\"done\":true"), 200);
    assert_int_equal(end(true), 0);
    assert_int_equal(start((const char *[]){"--no-store", "--host", "127.0.0.1:0", "/no/such.gguf", NULL}, 0), -1);
    assert_true(has_said("/no/such.gguf: cannot open: No such file"));
    assert_int_equal(end(false), 1);
}

/* A file that is cut short under a reply's feet ends the server with the reason, not with a bare signal. */
static void cut_short(void **state)
{
    static const char endless[] =
        "{\"model\":\"live\",\"prompt\":\"a\",\"raw\":true,\"grammar\":\"root ::= x{4000}\\nx ::= "
        "[ab]{4000}\",\"options\":{\"num_predict\":-1}}";
    hc_connection c;
    char line[4000];
    (void)state;
    copy(path_of(0, "live.gguf"), SIZE_MAX);
    int port = start((const char *[]){"--no-store", "--host", "127.0.0.1:0", file[0], NULL}, 0);
    assert_true(hc_open(&c, port, "POST", "/api/generate", NULL, endless));
    assert_true(hc_line(&c, line, sizeof line));
    assert_int_equal(truncate(file[0], 4096), 0);
    assert_int_equal(end(false), 1);
    hc_hang_up(&c);
    assert_true(has_said("cut short"));
}

static void port_in_use(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    char address[40], words[60];
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(bind(fd, (struct sockaddr *)&at, size) == 0 && listen(fd, 1) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(at.sin_port));
    snprintf(words, sizeof words, "port %d is in use: another program listens there", ntohs(at.sin_port));
    assert_int_equal(start((const char *[]){"--no-store", "--host", address, MODEL, NULL}, 0), -1);
    assert_int_equal(end(false), 1);
    assert_true(has_said(words));
    close(fd);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_log), cmocka_unit_test(full_store),
                                       cmocka_unit_test(unreadable), cmocka_unit_test(cut_short),
                                       cmocka_unit_test(port_in_use)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
