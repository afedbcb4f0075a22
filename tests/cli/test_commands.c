/* The commands that run a model, as a user meets them, on tiny models: run, logits, plan, bench, eval. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
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
#include <jansson.h>
#include <math.h>

#include "nibble.h"
#include "support/folder.h"

#define PLAIN NB_TEST_DATA "/archs/llama-2-mha.gguf"
#define CHAT NB_TEST_DATA "/archs/llama-3.2-rope-scaled.gguf"
#define QUANTIZED NB_TEST_DATA "/types/Q4_K.gguf"

typedef struct result {
    int exit_code; /* 128 + signal when one ended it */
    char out[16384], err[8192];
} result;

static char *const environment[] = {"PATH=/usr/bin:/bin", "TERM=xterm", NULL};

static void read_back(FILE *file, char *text, size_t size)
{
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* input: what is piped in, NULL for /dev/null; out_fd: -1 to collect standard output */
static result run_with(const char *input, int out_fd, char *const *env, const char *const *words)
{
    result r = {0};
    char *argv[24] = {"nibble"};
    for (int i = 1; *words; i++, words++)
        argv[i] = (char *)(uintptr_t)*words;
    FILE *out = tmpfile(), *err = tmpfile(), *in = tmpfile();
    assert_true(out && err && in);
    if (input)
        fputs(input, in);
    rewind(in);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(in), 0);
    posix_spawn_file_actions_adddup2(&actions, out_fd >= 0 ? out_fd : fileno(out), 1);
    posix_spawn_file_actions_adddup2(&actions, fileno(err), 2);
    pid_t child;
    int status;
    assert_int_equal(posix_spawn(&child, NB_TEST_BINARY, &actions, NULL, argv, env), 0);
    posix_spawn_file_actions_destroy(&actions);
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    r.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fclose(in);
    read_back(out, r.out, sizeof r.out);
    read_back(err, r.err, sizeof r.err);
    return r;
}

#define RUN(...) run_with(NULL, -1, environment, (const char *const[]){__VA_ARGS__, NULL})
#define PIPE(input, ...) run_with(input, -1, environment, (const char *const[]){__VA_ARGS__, NULL})

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void assert_ends(const result *r, int code)
{
    if (r->exit_code != code)
        fail_msg("exit %d, not %d: %s", r->exit_code, code, r->err);
}

static const char *file_at(const char *name)
{
    static char paths[4][400];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 400, "%s/%s", nb_folder, name);
    return path;
}

/* ---- run ---- */

static void test_run_prompt(void **state)
{
    (void)state;
    result a = RUN("run", PLAIN, "Once", "upon", "-n", "12", "--seed", "3"),
           b = PIPE("Once upon", "run", PLAIN, "-n", "12", "-s", "3");
    assert_ends(&a, 0);
    assert_string_equal(a.err, "");
    assert_true(strlen(a.out) > 4 && a.out[strlen(a.out) - 1] == '\n');
    assert_ends(&b, 0);
    assert_string_equal(a.out, b.out); /* words and standard input say the same */
    result both = PIPE("Once", "run", PLAIN, "upon", "-n", "12", "-s", "3");
    result line = RUN("run", PLAIN, "Once\nupon", "-n", "12", "-s", "3");
    assert_ends(&both, 0);
    assert_string_equal(both.out, line.out);
    result again = RUN("run", PLAIN, "Once upon", "-n12", "--seed=3", "-t", "1");
    assert_string_equal(a.out, again.out); /* one seed, one text, on any number of threads */
    result greedy = RUN("run", PLAIN, "Once", "-n", "12", "--temp", "0"),
           second = RUN("run", PLAIN, "Once", "-n", "12", "--temp", "0");
    assert_string_equal(greedy.out, second.out);
}

static void test_run_limits(void **state)
{
    (void)state;
    result r = RUN("run", PLAIN, "Once", "-n", "0");
    assert_ends(&r, 0);
    assert_string_equal(r.out, "");
    r = RUN("run", CHAT, "--raw");
    assert_ends(&r, 1); /* this tokenizer adds nothing of its own */
    assert_contains(r.err, "prompt is empty");
    r = RUN("run", PLAIN, "Once", "--ctx", "8", "--ignore-eos", "-s", "1");
    assert_ends(&r, 0);
    assert_contains(r.err, "the context of 8 tokens is full; --ctx");
    r = RUN("run", PLAIN, "Once upon a time there was a long prompt", "--ctx", "4");
    assert_ends(&r, 1);
    assert_contains(r.err, "--ctx");
    r = RUN("run", PLAIN, "Once", "--ctx", "513");
    assert_ends(&r, 1);
    assert_contains(r.err, "512 positions");
    assert_contains(r.err, "--allow-long-context");
    r = RUN("run", PLAIN, "Once", "--ctx", "513", "--allow-long-context", "-n", "1");
    assert_ends(&r, 0);
    r = RUN("run", PLAIN, "Once", "--ctx", "1024", "--rope-scaling", "yarn", "--rope-scale", "2", "-n", "1");
    assert_ends(&r, 0);
    r = RUN("run", PLAIN, "Once", "--rope-scale=-2");
    assert_ends(&r, 2);
    r = RUN("run", PLAIN, "Once", "-n", "3", "-v", "-s", "5");
    assert_ends(&r, 0);
    assert_contains(r.err, "eval count:           3 token(s)");
    assert_contains(r.err, "seed:                 5\n");
}

static void test_run_stop(void **state)
{
    (void)state;
    result whole = RUN("run", PLAIN, "Once", "-n", "30", "-s", "9", "--ignore-eos");
    assert_ends(&whole, 0);
    char stop[3] = {0};
    size_t middle = strlen(whole.out) / 2;
    while ((signed char)whole.out[middle] <= 32 || (signed char)whole.out[middle + 1] <= 32)
        middle++;
    memcpy(stop, whole.out + middle, 2);
    size_t at = (size_t)(strstr(whole.out, stop) - whole.out);
    result r = RUN("run", PLAIN, "Once", "-n", "30", "-s", "9", "--ignore-eos", "--stop", stop, "--stop", "not there");
    assert_ends(&r, 0);
    assert_memory_equal(r.out, whole.out, at);
    assert_true(strlen(r.out) <= at + 1);
    assert_null(strstr(r.out, stop));
}

static void test_run_chat(void **state)
{
    (void)state;
    result r = RUN("run", CHAT, "hi", "-n", "8", "-s", "1"),
           raw = RUN("run", CHAT, "hi", "-n", "8", "-s", "1", "--raw");
    result system = RUN("run", CHAT, "hi", "-n", "8", "-s", "1", "--system", "be brief");
    assert_ends(&r, 0);
    assert_ends(&raw, 0);
    assert_ends(&system, 0);
    assert_string_equal(system.err, "");
    assert_string_not_equal(r.out, raw.out); /* the template is in the prompt */
    assert_string_not_equal(r.out, system.out);
    r = RUN("run", PLAIN, "hi", "-n", "2", "-s", "1", "--system", "be brief");
    assert_ends(&r, 0);
    assert_contains(r.err, "--system has no effect");
    r = RUN("run", CHAT, "hi", "-n", "2", "-s", "1", "--system", "be brief", "--raw");
    assert_contains(r.err, "--system has no effect");
}

static void test_usage(void **state)
{
    (void)state;
    static const char *const wrong[][6] = {
        {"run", PLAIN, "--frobnicate"},
        {"run"},
        {"run", PLAIN, "x", "-n", "many"},
        {"run", PLAIN, "x", "-t", "-1"},
        {"run", PLAIN, "x", "-t", "257"},
        {"run", PLAIN, "x", "--ctx", "-5"},
        {"run", PLAIN, "x", "--logit-bias", "x"},
        {"run", PLAIN, "x", "--logit-bias", "5"},
        {"logits", PLAIN},
        {"logits", PLAIN, "--ids", "1"},
        {"plan"},
        {"plan", PLAIN, PLAIN},
        {"bench"},
        {"bench", PLAIN, "-p", "0", "-n", "0"},
        {"bench", PLAIN, "-p", "-1"},
        {"bench", PLAIN, "-r", "0"},
        {"bench", PLAIN, "-r", "1001"},
        {"eval", PLAIN},
        {"eval", PLAIN, "--text", "x", "--chunks=-1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        result r = run_with(NULL, -1, environment, wrong[i]);
        if (r.exit_code != 2 || *r.out || !strstr(r.err, "--help"))
            fail_msg("%s, case %zu: exit %d: %s", wrong[i][0], i, r.exit_code, r.err);
    }
}

static void test_no_model(void **state)
{
    (void)state;
    static const char *const commands[] = {"run", "plan", "bench"};
    const char *fifo = file_at("fifo"), *empty = file_at("empty"), *text = file_at("text");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    fclose(fopen(empty, "w"));
    FILE *f = fopen(text, "w");
    fputs("this is no model, but it is long enough to be one at first sight", f);
    fclose(f);
    for (size_t i = 0; i < 3; i++) {
        result r = RUN(commands[i], "/nonexistent/model.gguf");
        assert_ends(&r, 1);
        assert_contains(r.err, "/nonexistent/model.gguf");
        assert_string_equal(r.out, "");
        const char *const odd[] = {nb_folder, fifo, empty, text, "/dev/null", ""};
        for (size_t j = 0; j < 6; j++) {
            r = RUN(commands[i], odd[j]);
            assert_ends(&r, 1);
            assert_contains(r.err, "nibble: error: ");
            assert_string_equal(r.out, "");
        }
    }
    unlink(fifo);
    unlink(empty);
    unlink(text);
}

static void test_streams(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    result r = run_with(NULL, ends[1], environment, (const char *const[]){"run", PLAIN, "Once", "-n", "20", NULL});
    close(ends[1]);
    assert_ends(&r, 0);
    assert_string_equal(r.err, "");
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    r = run_with(NULL, full, environment, (const char *const[]){"run", PLAIN, "Once", "-n", "20", "-s", "1", NULL});
    assert_ends(&r, 1);
    assert_contains(r.err, "standard output");
    r = run_with(NULL, full, environment, (const char *const[]){"plan", PLAIN, NULL});
    assert_ends(&r, 1);
    close(full);
    static char *const bogus[] = {"NIBBLE_CPU=bogus", NULL}, *const no_color[] = {"NO_COLOR=1", "TERM=xterm", NULL};
    r = run_with(NULL, -1, bogus, (const char *const[]){"plan", PLAIN, NULL});
    assert_ends(&r, 2);
    assert_contains(r.err, "NIBBLE_CPU=bogus");
    r = run_with(NULL, -1, no_color, (const char *const[]){"plan", "/nonexistent", NULL});
    assert_ends(&r, 1);
    assert_null(strchr(r.err, 27));
}

/* ---- logits ---- */

static float *read_npy(const char *path, size_t rows, size_t columns)
{
    char header[129] = {0}, want[80];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(header, 1, 128, f), 128);
    assert_memory_equal(header, "\x93NUMPY\x01\x00\x76\x00", 10); /* version 1.0, 118 bytes of header follow */
    snprintf(want, sizeof want, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, columns);
    assert_memory_equal(header + 10, want, strlen(want));
    assert_int_equal(strspn(header + 10 + strlen(want), " "), 117 - strlen(want));
    assert_int_equal(header[127], '\n');
    float *values = malloc(rows * columns * sizeof *values);
    assert_non_null(values);
    assert_int_equal(fread(values, sizeof *values, rows * columns, f), rows * columns);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    return values;
}

/* the same through the API: [count][vocabulary] */
static float *api_logits(const char *model, const int32_t *ids, size_t count, size_t *vocabulary)
{
    nb_error err;
    nb_model *m;
    nb_session *s;
    nb_session_params p = {.outputs = count};
    if (nb_model_open(model, NULL, &m, &err) != NB_OK || nb_session_open(m, &p, &s, &err) != NB_OK ||
        nb_session_eval(s, ids, count, NB_LOGITS_ALL, &err) != NB_OK)
        fail_msg("%s", err.message);
    *vocabulary = nb_model_vocabulary(m);
    float *rows = malloc(count * *vocabulary * sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < count; i++)
        memcpy(rows + i * *vocabulary, nb_session_row(s, i), *vocabulary * sizeof *rows);
    nb_session_close(s);
    nb_model_close(m);
    return rows;
}

static void test_logits(void **state)
{
    (void)state;
    enum { N = 70 };
    int32_t ids[N];
    char list[512] = "";
    static const char *const between[] = {",", " ", ", ", "\n", "\t"};
    for (int i = 0; i < N; i++) {
        ids[i] = (i * 37 + 5) % 300;
        sprintf(list + strlen(list), "%d%s", ids[i], i < N - 1 ? between[i % 5] : "");
    }
    const char *out = file_at("logits.npy");
    result r = RUN("logits", QUANTIZED, "--ids", list, "--out", out);
    assert_ends(&r, 0);
    assert_string_equal(r.out, "");
    size_t vocabulary;
    float *want = api_logits(QUANTIZED, ids, N, &vocabulary), *got = read_npy(out, N, vocabulary);
    assert_memory_equal(got, want, N * vocabulary * sizeof *got);
    free(got);
    free(want);
    unlink(out);
    static const char *const bad[] = {"",    " , ",         "1,x",    "1x",   "-1", "1+2",
                                      "1-2", "99999999999", "999999", "0x10", "1;2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = RUN("logits", QUANTIZED, "--ids", bad[i], "--out", out);
        if (r.exit_code != 1 || access(out, F_OK) == 0)
            fail_msg("--ids '%s': exit %d: %s", bad[i], r.exit_code, r.err);
    }
    r = RUN("logits", QUANTIZED, "--ids", "1,2,3", "--out", out, "--ctx", "2");
    assert_ends(&r, 1);
    assert_int_not_equal(access(out, F_OK), 0); /* nothing half written is left */
    r = RUN("logits", QUANTIZED, "--ids", "1", "--out", "/nonexistent/x.npy");
    assert_ends(&r, 1);
    assert_contains(r.err, "/nonexistent/x.npy");
}

/* ---- plan, bench ---- */

static json_t *parse(const result *r, const char *const *keys)
{
    json_error_t e;
    assert_ends(r, 0);
    json_t *j = json_loads(r->out, 0, &e);
    if (!j)
        fail_msg("%s: %s", e.text, r->out);
    for (; *keys; keys++)
        if (!json_object_get(j, *keys))
            fail_msg("no key %s in %s", *keys, r->out);
    return j;
}

static json_int_t whole(const json_t *j, const char *key)
{
    assert_true(json_is_integer(json_object_get(j, key)));
    return json_integer_value(json_object_get(j, key));
}

static void test_plan(void **state)
{
    (void)state;
    static const char *const keys[] = {"model",          "architecture",   "kv_type", "context", "batch",
                                       "weights_mapped", "weights_copied", "cache",   "buffers", "scratch",
                                       "tables",         "session",        "total",   NULL};
    result r = RUN("plan", PLAIN, "--json", "--ctx", "100", "--kv-type", "f32");
    json_t *j = parse(&r, keys);
    assert_string_equal(json_string_value(json_object_get(j, "model")), PLAIN);
    assert_string_equal(json_string_value(json_object_get(j, "architecture")), "llama");
    assert_string_equal(json_string_value(json_object_get(j, "kv_type")), "F32");
    assert_int_equal(whole(j, "context"), 100);
    assert_int_equal(whole(j, "cache"),
                     2 * 3 * 4 * 16 * 128 * 4); /* keys and values, layers, heads, head, 2 pages, bytes */
    assert_int_equal(whole(j, "session"),
                     whole(j, "cache") + whole(j, "buffers") + whole(j, "scratch") + whole(j, "tables"));
    assert_int_equal(whole(j, "total"), whole(j, "session") + whole(j, "weights_mapped") + whole(j, "weights_copied"));
    json_decref(j);
    r = RUN("plan", PLAIN);
    assert_ends(&r, 0);
    assert_contains(r.out, "8 pages of 64 positions a layer");
    r = RUN("plan", NB_TEST_DATA "/archs/gemma-3.gguf");
    assert_contains(r.out, "8 a window layer");
}

static void test_bench(void **state)
{
    (void)state;
    static const char *const keys[] = {"model",   "cpu",    "level",   "threads",       "load_ms",
                                       "prefill", "decode", "ceiling", "bytes_a_token", "operations_a_token",
                                       NULL};
    result r = RUN("bench", PLAIN, "--json", "-p", "8", "-n", "4", "-r", "2");
    json_t *j = parse(&r, keys), *prefill = json_object_get(j, "prefill"), *decode = json_object_get(j, "decode");
    assert_int_equal(whole(prefill, "tokens"), 8);
    assert_int_equal(json_array_size(json_object_get(prefill, "all")), 2);
    assert_int_equal(whole(decode, "tokens"), 4);
    assert_true(json_number_value(json_object_get(decode, "tok_s")) > 0);
    json_decref(j);
    r = RUN("bench", PLAIN, "-p", "8", "-n", "0", "-r", "1");
    assert_ends(&r, 0);
    assert_contains(r.out, "prefill");
    assert_null(strstr(r.out, "decode"));
    r = RUN("bench", PLAIN, "-p", "2147483647", "-n", "1");
    assert_ends(&r, 1);
    assert_contains(r.err, "512 positions");
}

/* ---- eval ---- */

/* llama-perplexity's rule written out: windows begin with BOS, the second half is scored */
static double plain_nll(const char *text, size_t window, size_t *scored)
{
    nb_error err;
    nb_model *m;
    int32_t ids[2048];
    size_t count, vocabulary;
    double nll = 0;
    assert_int_equal(nb_model_open(PLAIN, NULL, &m, &err), NB_OK);
    assert_int_equal(nb_tokenize(m, text, strlen(text), NB_TEXT_ADD_SPECIAL, ids, 2048, &count, &err), NB_OK);
    nb_model_close(m);
    *scored = 0;
    for (size_t w = 0; w + window <= count; w += window) {
        int32_t bos = 1, *at = ids + w;
        at[0] = bos;
        float *rows = api_logits(PLAIN, at, window, &vocabulary);
        for (size_t i = window / 2; i + 1 < window; i++) {
            double sum = 0;
            for (size_t v = 0; v < vocabulary; v++)
                sum += exp((double)rows[i * vocabulary + v]);
            nll += log(sum) - (double)rows[i * vocabulary + (size_t)at[i + 1]];
            ++*scored;
        }
        free(rows);
    }
    return nll / (double)*scored;
}

static void test_eval(void **state)
{
    (void)state;
    static const char sentence[] = "The quick brown fox jumps over the lazy dog, and 42 more of them follow.\n";
    static const char *const keys[] = {"windows", "scored", "nll", "perplexity", "perplexity_error", NULL};
    static const char *const more[] = {"base_perplexity", "kl_mean", "kl_error", "kl_median",       "kl_90", "kl_99",
                                       "kl_999",          "kl_max",  "same_top", "probability_rms", NULL};
    char text[512] = "";
    const char *path = file_at("text.txt");
    for (int i = 0; i < 5; i++)
        strcat(text, sentence);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    result r = RUN("eval", PLAIN, "--text", path, "--ctx", "20", "--json");
    json_t *j = parse(&r, keys);
    size_t scored;
    double nll = plain_nll(text, 20, &scored), got = json_number_value(json_object_get(j, "nll"));
    assert_int_equal(whole(j, "scored"), scored);
    assert_true(fabs(got - nll) < 1e-6 * nll);
    assert_true(fabs(json_number_value(json_object_get(j, "perplexity")) - exp(nll)) < 1e-5 * exp(nll));
    json_decref(j);
    r = RUN("eval", PLAIN, "--text", path, "--ctx", "20", "--chunks", "2", "--json", "--base", PLAIN);
    j = parse(&r, more);
    assert_int_equal(whole(j, "windows"), 2);
    assert_true(json_number_value(json_object_get(j, "kl_max")) < 1e-9); /* a model against itself */
    assert_true(json_number_value(json_object_get(j, "same_top")) == 1);
    json_decref(j);
    r = RUN("eval", PLAIN, "--text", path, "--ctx", "400");
    assert_ends(&r, 1);
    assert_contains(r.err, "less than one window of 400");
    r = RUN("eval", PLAIN, "--text", path, "--ctx", "1000");
    assert_ends(&r, 1);
    assert_contains(r.err, "--ctx 512 or less");
    r = RUN("eval", PLAIN, "--text", path, "--ctx", "20", "--base", QUANTIZED);
    assert_ends(&r, 1);
    assert_contains(r.err, "vocabularies");
    r = RUN("eval", PLAIN, "--text", "/nonexistent.txt");
    assert_ends(&r, 1);
    assert_contains(r.err, "/nonexistent.txt");
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_prompt), cmocka_unit_test(test_run_limits), cmocka_unit_test(test_run_stop),
        cmocka_unit_test(test_run_chat),   cmocka_unit_test(test_usage),      cmocka_unit_test(test_no_model),
        cmocka_unit_test(test_streams),    cmocka_unit_test(test_logits),     cmocka_unit_test(test_plan),
        cmocka_unit_test(test_bench),      cmocka_unit_test(test_eval),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
