/* Two hundred clients that stream 32 tokens each from SmolLM2 at once, fifty that leave in mid-stream, fifty that take a byte a
 * second: every stream that is read is whole and is what it is alone, and the server's memory is what it was before, where
 * "before" is after the model was loaded and a first round of as many clients. */
#include "support/load.h"

#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "support/cached.h"

extern char **environ;

enum { ASKS = 8, READ = 200, LEAVE = 50, CRAWL = 50, TOKENS = 32, START_SECONDS = 60 };
#define MODEL "smollm2-135m-instruct-q4_1"

typedef struct served {
    pid_t pid;
    int port;
    char log[64];
} served;

/* The program itself, on a free port; its log tells which. */
static served start(void)
{
    served s = {.log = "/tmp/nibble-load-XXXXXX"};
    char model[1024], line[400];
    posix_spawn_file_actions_t files;
    nb_cached("models", MODEL ".gguf", model);
    int fd = mkstemp(s.log);
    assert_true(fd >= 0);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, fd, 2);
    setenv("OLLAMA_HOST", "127.0.0.1:0", 1);
    char *argv[] = {NB_TEST_BINARY, "serve", model, "--no-store", "--threads", "2", "--ctx", "2048", NULL};
    assert_int_equal(posix_spawn(&s.pid, NB_TEST_BINARY, &files, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    close(fd);
    FILE *f = fopen(s.log, "r");
    for (double end = ld_now() + START_SECONDS; s.port == 0;) {
        assert_true(ld_now() < end);
        const char *at = fgets(line, sizeof line, f) ? strstr(line, "http://127.0.0.1:") : NULL;
        if (at)
            s.port = atoi(at + strlen("http://127.0.0.1:"));
        else
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        clearerr(f);
    }
    fclose(f);
    return s;
}

/* SIGTERM ends it, properly. */
static void stop(served *s)
{
    int status;
    kill(s->pid, SIGTERM);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    remove(s->log);
}

static double metric(const served *s, const char *name)
{
    hc_reply r = hc_get(s->port, "/metrics");
    const char *at = r.body;
    size_t n = strlen(name);
    while (at && !(strncmp(at, name, n) == 0 && (at[n] == ' ' || at[n] == '{')))
        at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL;
    assert_non_null(at);
    double value = atof(strpbrk(at, " ") + 1);
    hc_free(&r);
    return value;
}

/* Memory is tidied a moment after the last request. */
static long rested_memory(const served *s)
{
    nanosleep(&(struct timespec){.tv_sec = 3}, NULL);
    return ld_memory(s->pid);
}

static void wait_empty(const served *s)
{
    for (double end = ld_now() + 30;
         metric(s, "nibble_requests_running") > 0 || metric(s, "nibble_requests_waiting") > 0;) {
        assert_true(ld_now() < end);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    assert_true(metric(s, "nibble_cache_usage") == 0); /* no page is held by anybody */
}

/* Chats of all three APIs; half of them behind one long system prompt. */
static void write_asks(ld_ask asks[ASKS], int tokens)
{
    static const char *const questions[ASKS] = {"Why is the sky blue?",     "Name three rivers of Europe.",
                                                "Write a line about rain.", "What is 12 times 12?",
                                                "Explain a hash table.",    "Tell me a joke about cats.",
                                                "What does a compiler do?", "Give me a recipe for soup."};
    static const char
        *const system = "You are an assistant who answers in a few words, never repeats a question, speaks "
                        "plainly, names what it does not know, and who likes lists of at most three things. "
                        "You write numbers as digits, and you never use words that a child does not know.";
    for (int i = 0; i < ASKS; i++) {
        char messages[1200];
        bool behind = i % 2 == 0;
        if (i % 3 == 2) { /* Anthropic's: the system prompt has a field of its own, and there is no seed */
            asks[i].path = "/v1/messages";
            snprintf(asks[i].body, sizeof asks[i].body,
                     "{\"model\":\"" MODEL "\",\"stream\":true,\"max_tokens\":%d,\"temperature\":0,\"system\":\"%s\","
                     "\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                     tokens, behind ? system : "Be kind.", questions[i]);
            continue;
        }
        snprintf(messages, sizeof messages,
                 "\"messages\":[{\"role\":\"system\",\"content\":\"%s\"},{\"role\":\"user\",\"content\":\"%s\"}]",
                 behind ? system : "Be kind.", questions[i]);
        asks[i].path = i % 3 ? "/v1/chat/completions" : "/api/chat";
        snprintf(asks[i].body, sizeof asks[i].body,
                 i % 3
                     ? "{\"model\":\"" MODEL "\",\"stream\":true,\"max_tokens\":%d,\"seed\":%d,\"temperature\":0.8,%s}"
                     : "{\"model\":\"" MODEL "\",\"options\":{\"num_predict\":%d,\"seed\":%d,\"temperature\":0.8},%s}",
                 tokens, i, messages);
    }
}

static served running;

/* One that a failed test has left behind. */
static int leave_nothing(void **state)
{
    (void)state;
    if (running.pid) {
        kill(running.pid, SIGKILL);
        waitpid(running.pid, NULL, 0);
        remove(running.log);
    }
    return 0;
}

static void storm(void **state)
{
    static ld_ask asks[ASKS];
    (void)state;
    served s = running = start();
    write_asks(asks, TOKENS);
    ld_alone(s.port, asks, ASKS);
    ld_run(s.port, asks, ASKS, (size_t[]){READ, LEAVE, CRAWL});
    wait_empty(&s);
    long before = rested_memory(&s);
    ld_result r = ld_run(s.port, asks, ASKS, (size_t[]){READ, LEAVE, CRAWL});
    assert_int_equal(r.whole, READ + CRAWL);
    assert_int_equal(r.crawled, CRAWL);
    assert_int_equal(r.left, LEAVE);
    wait_empty(&s);
    long after = rested_memory(&s);
    print_message("%zu streams in %.1f s; %ld kB before, %ld kB after\n", r.whole + r.left, r.seconds, before, after);
    assert_true(before > 0 && after <= before + before / 100);
    ld_forget(asks, ASKS);
    running.pid = 0;
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(storm, leave_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
