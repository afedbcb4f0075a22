/* list, show, ps, stop and run of stored models, from the store itself and from a server that runs; what the environment says. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/address.h"
#include "cli/table.h"
#include "cli/text_width.h"
#include "cli/word_wrap.h"
#include "support/folder.h"

#define STORE NB_TEST_DATA "/store"
#define PLAIN NB_TEST_DATA "/archs/llama-2-mha.gguf"
#define CHAT NB_TEST_DATA "/archs/llama-3.2-rope-scaled.gguf"

typedef struct result {
    int exit_code;
    char out[16384], err[4096];
} result;

static char host[64] = "OLLAMA_HOST=127.0.0.1:1", store[500] = "OLLAMA_MODELS=" STORE, home[300] = "HOME=/";
static char *environment[] = {"PATH=/usr/bin:/bin", "TERM=xterm", host, store, home, NULL, NULL};

static void read_back(FILE *file, char *text, size_t size)
{
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

static pid_t spawn(const char *const *words, int out, int err)
{
    char *argv[24] = {"nibble"};
    for (int i = 1; *words; i++, words++)
        argv[i] = (char *)(uintptr_t)*words;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, err, 2);
    pid_t child;
    assert_int_equal(posix_spawn(&child, NB_TEST_BINARY, &actions, NULL, argv, environment), 0);
    posix_spawn_file_actions_destroy(&actions);
    return child;
}

static result run(const char *const *words)
{
    result r = {0};
    FILE *out = tmpfile(), *err = tmpfile();
    int status;
    assert_true(out && err);
    pid_t child = spawn(words, fileno(out), fileno(err));
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    r.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    read_back(out, r.out, sizeof r.out);
    read_back(err, r.err, sizeof r.err);
    return r;
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void assert_matches(const char *text, const char *expression)
{
    regex_t compiled;
    assert_int_equal(regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&compiled, text, 0, NULL, 0) != 0)
        fail_msg("'%s' is not like:\n%s", text, expression);
    regfree(&compiled);
}

static void assert_ends(const result *r, int code)
{
    if (r->exit_code != code)
        fail_msg("exit %d, not %d: %s", r->exit_code, code, r->err);
}

/* ---- from the store ---- */

/* Columns as wide as their widest cell, four spaces behind each; the heading's last has one. */
static void test_list(void **state)
{
    (void)state;
    result r = RUN("list"), same = RUN("ls");
    assert_ends(&r, 0);
    assert_contains(r.err, "no server answers at http://127.0.0.1:1;");
    assert_memory_equal(r.out, "NAME                                      ID              SIZE      MODIFIED ", 77);
    assert_matches(r.out, "\nsome_body/embed:v1.5                      e4b767dcfd58    994 B     .* ago    \n");
    assert_matches(r.out, "\ntiny:latest                               e05c89cf5392    4.2 KB    .* ago    \n");
    assert_matches(r.out, "\nhf.co/Some-User/Some-Model-GGUF:Q4_K_M    d36bb859b938    5.3 KB    .* ago    \n");
    assert_string_equal(r.out, same.out);
    r = RUN("list", "ti");
    assert_matches(r.out, "^NAME           ID              SIZE      MODIFIED +\ntiny:latest    e05c89cf5392    4.2 KB "
                          "   [^\n]* ago    \n$");
    r = RUN("list", "a", "b");
    assert_ends(&r, 2);
}

static void test_show(void **state)
{
    (void)state;
    result r = RUN("show", "tiny");
    assert_ends(&r, 0);
    assert_string_equal(r.out, "  Model\n"
                               "    architecture        llama    \n"
                               "    parameters          1.23K    \n"
                               "    context length      2048     \n"
                               "    embedding length    4        \n"
                               "    quantization        F16      \n"
                               "\n"
                               "  Capabilities\n"
                               "    completion    \n"
                               "    insert        \n"
                               "    thinking      \n"
                               "\n"
                               "  Parameters\n"
                               "    num_ctx        4096            \n"
                               "    seed           1048576         \n"
                               "    stop           \"<|im_end|>\"    \n"
                               "    stop           \"say            \\\"x\\\"\\n\"    \n"
                               "    temperature    0.7             \n"
                               "    use_mmap       true            \n"
                               "\n"
                               "  System\n"
                               "    You are \"terse\".    \n"
                               "\n"
                               "  License\n"
                               "    MIT       \n"
                               "    As is.    \n"
                               "    ...       \n"
                               "\n");
    r = RUN("show", "TINY:latest", "--parameters");
    assert_contains(r.out, "seed                           1048576\n");
    r = RUN("show", "tiny", "--system");
    assert_string_equal(r.out, "You are \"terse\".\n");
    r = RUN("show", "tiny", "--license");
    assert_string_equal(r.out, "MIT\n\nAs is.\n\nsecond\n");
    r = RUN("show", "tiny", "--template");
    assert_contains(r.out, "{{- if .Suffix }}<PRE>{{ .Prompt }}");
    r = RUN("show", "tiny", "--modelfile");
    assert_contains(r.out, "\nSYSTEM You are \"terse\".\n");
    assert_contains(r.out, "\nMESSAGE user Hi\n");
    r = RUN("show", "tiny", "-v");
    assert_contains(r.out, "  Metadata\n");
    assert_contains(r.out, "  Tensors\n");
    assert_contains(r.out, "general.architecture");
    assert_matches(r.out, "tokenizer.ggml.tokens +\\[");
}

static void test_show_files_and_failures(void **state)
{
    (void)state;
    result r = RUN("show", PLAIN);
    assert_ends(&r, 0);
    assert_string_equal(r.err, ""); /* no server is asked for a file */
    assert_contains(r.out, "    parameters          233K     \n");
    assert_contains(r.out, "    context length      512      \n");
    r = RUN("show", NB_TEST_DATA "/hf/bert");
    assert_ends(&r, 0);
    assert_contains(r.out, "bert");
    r = RUN("show", "nothing");
    assert_ends(&r, 1);
    assert_contains(r.err, "model 'nothing' not found");
    r = RUN("show", "./nothing.gguf");
    assert_ends(&r, 1);
    assert_contains(r.err, "nothing.gguf");
    r = RUN("show");
    assert_ends(&r, 2);
    r = RUN("show", "tiny", "--system", "--license");
    assert_ends(&r, 2);
    assert_contains(r.err, "only one of");
}

static void test_without_server(void **state)
{
    (void)state;
    result r = RUN("ps");
    assert_ends(&r, 1);
    assert_contains(r.err, "no server answers at http://127.0.0.1:1 ");
    r = RUN("stop", "tiny");
    assert_ends(&r, 1);
    r = RUN("stop");
    assert_ends(&r, 2);
    r = RUN("run", "127.0.0.1:1/library/nothing", "hello");
    assert_ends(&r, 1);
    assert_contains(r.err, "model '127.0.0.1:1/library/nothing' not found here, and it cannot be pulled: ");
    r = RUN("run", "tiny", "--think=perhaps", "x");
    assert_ends(&r, 2);
    r = RUN("run", "tiny", "--format", "xml", "x");
    assert_ends(&r, 2);
    snprintf(host, sizeof host, "OLLAMA_HOST=[::1");
    r = RUN("ps");
    assert_ends(&r, 1);
    assert_contains(r.err, "OLLAMA_HOST=[::1 is no address");
    snprintf(host, sizeof host, "OLLAMA_HOST=127.0.0.1:1");
}

/* ---- a stored model is run with all that it says ---- */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* SYSTEM, TEMPLATE, MESSAGE and PARAMETER of a model made from a Modelfile give what the same text gives to the bare file. */
static void test_run_stored(void **state)
{
    (void)state;
    char path[450];
    snprintf(store, sizeof store, "OLLAMA_MODELS=%s", nb_folder_path("store"));
    snprintf(path, sizeof path, "%s", nb_folder_path("Modelfile"));
    write_file(path, "FROM " PLAIN "\n"
                     "TEMPLATE {{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}\n"
                     "SYSTEM be brief\n"
                     "MESSAGE user one\n"
                     "MESSAGE assistant two\n"
                     "PARAMETER temperature 0\n"
                     "PARAMETER num_predict 9\n");
    result r = RUN("create", "said", "-f", path);
    assert_ends(&r, 0);
    result stored = RUN("run", "said", "three", "-v");
    result bare = RUN("run", PLAIN, "<system>be brief<user>one<assistant>two<user>three", "--temp", "0", "-n", "9",
                      "--raw");
    assert_ends(&stored, 0);
    assert_ends(&bare, 0);
    assert_string_equal(stored.out, bare.out);
    assert_contains(stored.err, "eval count:           9 token(s)");
    result other = RUN("run", "said", "three", "--system", "be long", "-n", "4");
    bare = RUN("run", PLAIN, "<system>be long<user>one<assistant>two<user>three", "--temp", "0", "-n", "4", "--raw");
    assert_string_equal(other.out, bare.out);
    r = RUN("run", "said", "three", "--format", "json", "-n", "60");
    assert_ends(&r, 0);
    assert_int_equal(r.out[0], '{');
    snprintf(store, sizeof store, "OLLAMA_MODELS=" STORE);
}

/* ---- a server that runs ---- */

static pid_t left_running[2]; /* a server and a registry, by a test that failed */

typedef struct server {
    pid_t child;
    int err;
} server;

static server start_server(const char *key)
{
    int ends[2];
    char text[1000] = "", *at = NULL;
    size_t n = 0;
    static char keys[100];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    snprintf(host, sizeof host, "OLLAMA_HOST=127.0.0.1:0");
    snprintf(keys, sizeof keys, "NIBBLE_API_KEYS=%s", key ? key : "");
    environment[5] = keys;
    server s = {
        .child = spawn((const char *const[]){"serve", "--no-store", "-t", "2", PLAIN, CHAT, NULL}, ends[1], ends[1]),
        .err = ends[0]};
    left_running[0] = s.child;
    environment[5] = NULL;
    close(ends[1]);
    while (!at && n + 1 < sizeof text) {
        struct pollfd ready = {.fd = ends[0], .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 30000), 1);
        ssize_t got = read(ends[0], text + n, sizeof text - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
        text[n] = 0;
        at = strstr(text, "; Ctrl-C") ? strstr(text, "//127.0.0.1:") : NULL;
    }
    assert_non_null(at);
    snprintf(host, sizeof host, "OLLAMA_HOST=127.0.0.1:%d", atoi(at + 12));
    return s;
}

static void stop_server(server s)
{
    int status;
    kill(s.child, SIGTERM);
    assert_int_equal(waitpid(s.child, &status, 0), s.child);
    left_running[0] = 0;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(s.err);
    snprintf(host, sizeof host, "OLLAMA_HOST=127.0.0.1:1");
}

static void test_with_server(void **state)
{
    (void)state;
    server s = start_server(NULL);
    result r = RUN("list");
    assert_ends(&r, 0);
    assert_string_equal(r.err, "");
    assert_matches(r.out, "\nllama-2-mha:latest +[0-9a-f]{12}    4[0-9]{2} KB    .* ago    \n");
    assert_null(strstr(r.out, "tiny")); /* the store here is not what the server has */
    r = RUN("ps");
    assert_string_equal(r.out, "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL \n");
    r = RUN("show", "llama-2-mha");
    assert_contains(r.out, "    parameters          233K     \n");
    r = RUN("show", "nothing");
    assert_ends(&r, 1);
    assert_contains(r.err, "model 'nothing' not found");
    result asked = RUN("run", "llama-2-mha", "Once", "--temp", "0", "-n", "12", "-v", "--keepalive", "10m");
    result here = RUN("run", PLAIN, "Once", "--temp", "0", "-n", "12");
    assert_ends(&asked, 0);
    assert_string_equal(asked.out, here.out); /* one text, wherever it is computed */
    assert_contains(asked.err, "eval count:           12 token(s)");
    r = RUN("ps");
    assert_matches(r.out, "^NAME +ID +SIZE +PROCESSOR +CONTEXT +UNTIL +\n"
                          "llama-2-mha:latest    [0-9a-f]{12}    [0-9.]+ [KM]B    100% CPU     512        (9|10) "
                          "minutes from now    \n$");
    result raw = RUN("run", "llama-3.2-rope-scaled", "hi", "--raw", "--temp", "0", "-n", "6"),
           raw_here = RUN("run", CHAT, "hi", "--raw", "--temp", "0", "-n", "6");
    assert_ends(&raw, 0);
    assert_string_equal(raw.out, raw_here.out);
    r = RUN("run", "llama-2-mha.gguf", "Once", "-n", "3", "--exact"); /* which a server cannot be told */
    assert_ends(&r, 1);
    assert_contains(r.err, "llama-2-mha.gguf: there is no such file");
    r = RUN("run", "llama-2-mha", "Once upon a time there was a long prompt", "--ctx", "4");
    assert_ends(&r, 1);
    assert_contains(r.err, "--ctx");
    r = RUN("stop", "nothing");
    assert_ends(&r, 1);
    assert_contains(r.err, "couldn't find model \"nothing\" to stop");
    r = RUN("stop", "llama-2-mha");
    assert_ends(&r, 0);
    r = RUN("stop", "llama-3.2-rope-scaled");
    assert_ends(&r, 0);
    for (int i = 0; i < 100 && strstr((r = RUN("ps")).out, "llama"); i++)
        usleep(50000);
    assert_string_equal(r.out, "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL \n");
    stop_server(s);
}

static void test_keys(void **state)
{
    (void)state;
    server s = start_server("secret");
    result r = RUN("ps");
    assert_ends(&r, 1);
    environment[5] = "OLLAMA_API_KEY=wrong";
    r = RUN("ps");
    assert_ends(&r, 1);
    environment[5] = "OLLAMA_API_KEY=secret";
    r = RUN("ps");
    assert_ends(&r, 0);
    environment[5] = "NIBBLE_API_KEY=secret";
    r = RUN("ps");
    assert_ends(&r, 0);
    environment[5] = NULL;
    stop_server(s);
}

/* ---- what is missing is pulled ---- */

/* A name that is nowhere: its model comes from the registry that the name says, then it is run; by the server when one runs. */
static void test_run_pulls(void **state)
{
    (void)state;
    char path[450], from[450], name[100];
    int port = 0;
    snprintf(from, sizeof from, "%s", nb_folder_path("origin"));
    snprintf(path, sizeof path, "%s", nb_folder_path("Pullfile"));
    snprintf(store, sizeof store, "OLLAMA_MODELS=%s", from);
    write_file(path, "FROM " PLAIN "\nPARAMETER temperature 0\nPARAMETER num_predict 7\n");
    result r = RUN("create", "far", "-f", path);
    assert_ends(&r, 0);
    snprintf(path, sizeof path, "%s", nb_folder_path("port"));
    char *argv[] = {"python3", NB_TEST_DATA "/../cli/registry_of_store.py", from, path, NULL};
    pid_t registry;
    assert_int_equal(posix_spawnp(&registry, "python3", NULL, NULL, argv, environ), 0);
    left_running[1] = registry;
    for (int i = 0; i < 400 && port == 0; i++) {
        FILE *file = fopen(path, "r");
        if (!file || fscanf(file, "%d", &port) != 1)
            usleep(50000);
        if (file)
            fclose(file);
    }
    assert_true(port > 0);
    snprintf(name, sizeof name, "http://127.0.0.1:%d/library/far", port);
    snprintf(store, sizeof store, "OLLAMA_MODELS=%s", nb_folder_path("here"));
    result pulled = RUN("run", name + 7, "Once", "--insecure"), again = RUN("run", name + 7, "Once");
    result bare = RUN("run", PLAIN, "Once", "--temp", "0", "-n", "7");
    assert_ends(&pulled, 0);
    assert_contains(pulled.err, "pulling manifest");
    assert_string_equal(pulled.out, bare.out);
    assert_null(strstr(again.err, "pulling"));
    assert_string_equal(again.out, bare.out);
    r = RUN("list");
    assert_contains(r.out, name + 7);
    snprintf(name, sizeof name, "127.0.0.1:%d/library/farther", port);
    r = RUN("run", name, "Once", "--insecure");
    assert_ends(&r, 1);
    assert_contains(r.err, "not found here, and it cannot be pulled");
    kill(registry, SIGTERM);
    waitpid(registry, NULL, 0);
    left_running[1] = 0;
    r = RUN("run", "./nothing.gguf", "x");
    assert_ends(&r, 1);
    r = RUN("run", "nothing.gguf", "x");
    assert_ends(&r, 1);
    assert_contains(r.err, "nothing.gguf: there is no such file");
    snprintf(store, sizeof store, "OLLAMA_MODELS=" STORE);
}

/* ---- the environment ---- */

static size_t count_in_file(const char *path, const char *const *known, size_t known_count)
{
    static char text[1 << 18];
    FILE *file = fopen(path, "r");
    size_t found = 0;
    regex_t call;
    regmatch_t match[3];
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    assert_int_equal(regcomp(&call, "(getenv|[^a-z_]env|nb_env_[a-z]+)\\(\"([A-Z0-9_]+)\"", REG_EXTENDED), 0);
    for (const char *at = text; regexec(&call, at, 3, match, 0) == 0; at += match[0].rm_eo) {
        char name[100] = "";
        snprintf(name, sizeof name, "%.*s", (int)(match[2].rm_eo - match[2].rm_so), at + match[2].rm_so);
        size_t i = 0;
        while (i < known_count && strcmp(known[i], name) != 0)
            i++;
        if (i == known_count)
            fail_msg("%s looks at %s, which src/cli/env.def does not list", path, name);
        found++;
    }
    regfree(&call);
    return found;
}

static size_t count_in_folder(const char *folder, const char *const *known, size_t known_count)
{
    DIR *d = opendir(folder);
    size_t found = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[1000];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || stat(path, &s) != 0)
            continue;
        const char *end = strrchr(e->d_name, '.');
        if (S_ISDIR(s.st_mode))
            found += count_in_folder(path, known, known_count);
        else if (end && (strcmp(end, ".c") == 0 || strcmp(end, ".h") == 0 || strcmp(end, ".cu") == 0))
            found += count_in_file(path, known, known_count);
    }
    closedir(d);
    return found;
}

/* Every variable that the sources look at is listed with its value, and keys are not shown. */
static void test_environment(void **state)
{
    (void)state;
    static const char *const known[] = {
#define NB_ENV(name, fallback, meaning) #name,
#include "cli/env.def"
#undef NB_ENV
    };
    enum { KNOWN = sizeof known / sizeof *known };
    assert_true(count_in_folder(NB_TEST_DATA "/../../src", known, KNOWN) > 20);
    environment[5] = "NIBBLE_API_KEY=very-secret";
    result r = RUN("help", "env");
    environment[5] = NULL;
    assert_ends(&r, 0);
    for (size_t i = 0; i < KNOWN; i++)
        assert_contains(r.out, known[i]);
    assert_contains(r.out, "OLLAMA_HOST\n    where serve listens");
    assert_contains(r.out, "    = 127.0.0.1:1\n");
    assert_contains(r.out, "    = (set)\n");
    assert_null(strstr(r.out, "very-secret"));
}

/* Ollama's own: each is honoured, or the list says that it is not and why. */
static void test_environment_of_ollama(void **state)
{
    (void)state;
    static const char *const names[] = {
        "OLLAMA_HOST",           "OLLAMA_ORIGINS",         "OLLAMA_MODELS",        "OLLAMA_KEEP_ALIVE",
        "OLLAMA_LOAD_TIMEOUT",   "OLLAMA_NUM_PARALLEL",    "OLLAMA_MAX_QUEUE",     "OLLAMA_MAX_LOADED_MODELS",
        "OLLAMA_CONTEXT_LENGTH", "OLLAMA_FLASH_ATTENTION", "OLLAMA_KV_CACHE_TYPE", "OLLAMA_DEBUG",
        "OLLAMA_NOHISTORY",      "OLLAMA_NOPRUNE"};
    result r = RUN("help", "env");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char line[100];
        snprintf(line, sizeof line, "\n%s\n    ", names[i]);
        assert_contains(r.out, line);
    }
    assert_contains(r.out, "OLLAMA_FLASH_ATTENTION\n    no effect: ");
}

/* A number that is none is refused by its name. */
static void test_wrong_environment(void **state)
{
    (void)state;
    static const char *const wrong[] = {"-5", "many", "1e3", "99999999999999999999"};
    static const char *const names[] = {"OLLAMA_CONTEXT_LENGTH", "OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_QUEUE",
                                        "OLLAMA_MAX_LOADED_MODELS"};
    char text[100], message[200];
    environment[5] = text;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            snprintf(text, sizeof text, "%s=%s", names[i], wrong[k]);
            snprintf(message, sizeof message, "%s: give a whole number from 0 to ", text);
            result r = RUN("serve", "--no-store", "--host", "127.0.0.1:0");
            assert_ends(&r, 2);
            assert_contains(r.err, message);
            if (i > 0)
                continue;
            r = RUN("run", PLAIN, "Once", "-n", "2");
            assert_ends(&r, 1);
            assert_contains(r.err, message);
        }
    environment[5] = NULL;
    result r = RUN("serve", "--no-store", "--parallel", "-1");
    assert_ends(&r, 2);
}

static void test_debug(void **state)
{
    (void)state;
    static char log[16384];
    environment[5] = "OLLAMA_DEBUG=1";
    result r = RUN("run", PLAIN, "Once", "-n", "2", "--ignore-eos");
    environment[5] = NULL;
    assert_ends(&r, 0);
    assert_contains(r.err, "to be loaded");
    assert_matches(r.err, "request 1: 0 tokens of [0-9]+ were known, 2 follow");
    environment[5] = "OLLAMA_DEBUG=false";
    r = RUN("run", PLAIN, "Once", "-n", "2");
    environment[5] = NULL;
    assert_string_equal(r.err, "");
    snprintf(home, sizeof home, "OLLAMA_DEBUG=1");
    environment[5] = "NIBBLE_API_KEYS=very-secret";
    r = RUN("serve", "./nothing.gguf");
    environment[5] = NULL;
    assert_contains(r.err, " OLLAMA_DEBUG=1\n");
    assert_contains(r.err, " OLLAMA_MODELS=" STORE "\n");
    assert_null(strstr(r.err, "very-secret"));
    server s = start_server("very-secret");
    snprintf(home, sizeof home, "HOME=/");
    environment[5] = "NIBBLE_API_KEY=very-secret";
    r = RUN("run", "llama-2-mha", "Once", "-n", "2");
    environment[5] = NULL;
    assert_ends(&r, 0);
    int err = dup(s.err);
    stop_server(s);
    ssize_t n = 0;
    for (ssize_t more; (more = read(err, log + n, sizeof log - 1 - (size_t)n)) > 0;)
        n += more;
    close(err);
    log[n] = 0;
    assert_contains(log, "llama-2-mha:latest: to be loaded");
    assert_contains(log, "request 1: ");
    assert_null(strstr(log, "very-secret"));
}

/* A model that only makes embeddings: what does it instead is said, and does it. */
static void test_embedding_model(void **state)
{
    (void)state;
    static char path[450];
    result r = RUN("run", NB_TEST_DATA "/archs/bert.gguf", "hello");
    assert_ends(&r, 1);
    assert_contains(r.err, "bert.gguf writes no text but makes embeddings: 'nibble embed ");
    snprintf(store, sizeof store, "OLLAMA_MODELS=%s", nb_folder_path("embedders"));
    snprintf(path, sizeof path, "%s", nb_folder_path("Embedfile"));
    write_file(path, "FROM " NB_TEST_DATA "/archs/bert.gguf\n");
    r = RUN("create", "vectors", "-f", path);
    assert_ends(&r, 0);
    r = RUN("run", "vectors", "hello");
    assert_ends(&r, 1);
    assert_contains(r.err, "'nibble embed vectors TEXT'");
    r = RUN("embed", "vectors", "hello");
    assert_ends(&r, 0);
    result same = RUN("embed", NB_TEST_DATA "/archs/bert.gguf", "hello");
    assert_true(strlen(r.out) > 100);
    assert_string_equal(r.out, same.out);
    r = RUN("embed", "nothing", "hello");
    assert_ends(&r, 1);
    snprintf(store, sizeof store, "OLLAMA_MODELS=" STORE);
}

/* ---- parts ---- */

static void test_words(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {{0, "0 B"},
                 {999, "999 B"},
                 {1000, "1 KB"},
                 {1234, "1.2 KB"},
                 {12345, "12 KB"},
                 {4661211808, "4.7 GB"},
                 {19851336448, "19 GB"},
                 {274290656, "274 MB"},
                 {1500000000000, "1.5 TB"}};
    static const struct {
        double seconds;
        const char *text;
    } times[] = {{-0.5, "Less than a second ago"}, {-1, "1 second ago"},       {-59, "59 seconds ago"},
                 {-60, "About a minute ago"},      {-200, "3 minutes ago"},    {-3599, "59 minutes ago"},
                 {-3600, "About an hour ago"},     {-7300, "2 hours ago"},     {-172900, "2 days ago"},
                 {-1300000, "2 weeks ago"},        {-6000000, "2 months ago"}, {-70000000, "2 years ago"},
                 {299, "4 minutes from now"},      {1e10, "Forever"}};
    char text[48];
    double at;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        nb_human_bytes(sizes[i].bytes, text);
        assert_string_equal(text, sizes[i].text);
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        nb_human_time(times[i].seconds, text);
        assert_string_equal(text, times[i].text);
    }
    assert_true(nb_time_parse("2026-11-23T04:05:06.5Z", &at) && at == 1795406706.5);
    assert_true(nb_time_parse("2026-11-23T06:05:06+02:00", &at) && at == 1795406706);
    assert_false(nb_time_parse("yesterday", &at));
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        int port;
        bool secure;
    } good[] = {{"0.0.0.0", "0.0.0.0", -1, false}, {":8080", "kept", 8080, false},
                {"[::1]:99", "::1", 99, false},    {"https://a.b/c", "a.b", -1, true},
                {"http://a:1/", "a", 1, false},    {"[fe80::1]", "fe80::1", -1, false}};
    static const char *const bad[] = {"a:b", "[::1", "a:99999", "a:-1", "a:1x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        nb_address a = {.host = "kept"};
        assert_true(nb_address_parse(good[i].text, &a));
        assert_string_equal(a.host, good[i].host);
        assert_int_equal(a.port, good[i].port);
        assert_int_equal(a.secure, good[i].secure);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(nb_address_parse(bad[i], &(nb_address){0}));
}

/* However a text is cut, it is broken alike; no row is as wide as the window. */
static void check_wrap(int width, const char *text, const char *wanted)
{
    for (size_t piece = 1; piece <= 7; piece += 3) {
        nb_wrap w = {.width = width};
        nb_buf out = {0};
        for (size_t at = 0, n; text[at]; at += n) {
            n = piece;
            while (at + n < strlen(text) && ((unsigned char)text[at + n] & 0xc0) == 0x80)
                n++; /* between code points */
            n = nb_min_size(n, strlen(text) - at);
            nb_wrap_add(&w, (nb_str){text + at, n}, &out);
        }
        /* what a terminal makes of it: "ESC [ n D ESC [ K" takes columns back */
        nb_buf shown = {0};
        for (size_t i = 0; i < out.len; i++) {
            if (out.data[i] != '\033') {
                nb_buf_char(&shown, out.data[i]);
                continue;
            }
            int back = atoi(out.data + i + 2);
            while (back > 0) {
                size_t from = nb_glyph_before(nb_buf_view(&shown), shown.len);
                back -= nb_text_width((nb_str){shown.data + from, shown.len - from});
                shown.len = from;
            }
            i = (size_t)(strchr(out.data + i, 'K') - out.data);
        }
        nb_buf_char(&shown, 0);
        assert_string_equal(shown.data, wanted);
        nb_buf_free(&shown);
        nb_buf_free(&out);
        nb_wrap_free(&w);
    }
}

static void test_wrap(void **state)
{
    (void)state;
    check_wrap(11, "one two three four", "one two \nthree four");
    check_wrap(11, "0123456789abc", "0123456789\nabc");
    check_wrap(11, "a 0123456789abcdef b", "a \n0123456789\nabcdef b");
    check_wrap(11, "one\n\ntwo  three\tx", "one\n\ntwo  three\nx");
    check_wrap(11, "你好世界你好世界。", "你好世界你\n好世界。");
    check_wrap(11, "abc 你好世界", "abc 你好世\n界");
    check_wrap(11, "caf\xc3\xa9 e\xcc\x81t\xc3\xa9s noir", "caf\xc3\xa9 e\xcc\x81t\xc3\xa9s \nnoir");
    check_wrap(11, "bad\033[31m\007 \xc2\x9bx", "bad?[31m? \n?x");
    check_wrap(0, "nothing is broken at no width", "nothing is broken at no width");
}

static int remove_folder(void **state)
{
    char command[500];
    (void)state;
    for (int i = 0; i < 2; i++)
        if (left_running[i] > 0)
            kill(left_running[i], SIGKILL);
    snprintf(command, sizeof command, "rm -r '%s'", nb_folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_show_files_and_failures),
        cmocka_unit_test(test_without_server),
        cmocka_unit_test(test_run_stored),
        cmocka_unit_test(test_with_server),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_run_pulls),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_environment_of_ollama),
        cmocka_unit_test(test_wrong_environment),
        cmocka_unit_test(test_debug),
        cmocka_unit_test(test_embedding_model),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_wrap),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, remove_folder);
}
