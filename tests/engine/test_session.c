/* Sessions through the public API on tiny models: chunks, limits, going back, cache types, two threads at once. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "engine/engine.h"
#include "support/gguf_edit.h"
#include "support/logits_file.h"

#define ARCHS NB_TEST_DATA "/archs/"
enum { MOST = 512 };

static const char *const windowed[] = {"gemma-3", "mistral-sliding"};

static nb_model *open_path(const char *path, nb_model_params p)
{
    nb_error err;
    nb_model *m;
    if (nb_model_open(path, &p, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    return m;
}

static nb_model *open_model(const char *name)
{
    char path[512];
    nb_model_params p = nb_model_defaults();
    p.threads = 2;
    snprintf(path, sizeof path, ARCHS "%s.gguf", name);
    return open_path(path, p);
}

static nb_session *open_session(nb_model *m, size_t context, size_t batch, size_t outputs, const char *kv)
{
    nb_error err;
    nb_session *s;
    nb_session_params p = {.context = context, .batch = batch, .outputs = outputs, .kv_type = kv};
    if (nb_session_open(m, &p, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

static void eval(nb_session *s, const int32_t *ids, size_t count, nb_logits logits)
{
    nb_error err;
    if (nb_session_eval(s, ids, count, logits, &err) != NB_OK)
        fail_msg("%s", err.message);
}

static void make_ids(int32_t *ids, size_t vocabulary, uint32_t seed)
{
    for (size_t i = 0; i < MOST; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % vocabulary);
    }
}

/* logits [count][vocabulary] of one step over all of it */
static float *reference(nb_model *m, const int32_t *ids, size_t count, const char *kv)
{
    size_t vocabulary = nb_model_vocabulary(m);
    nb_session *s = open_session(m, count, count, count, kv);
    float *rows = malloc(count * vocabulary * sizeof *rows);
    assert_non_null(rows);
    eval(s, ids, count, NB_LOGITS_ALL);
    for (size_t i = 0; i < count; i++)
        memcpy(rows + i * vocabulary, nb_session_row(s, i), vocabulary * sizeof *rows);
    nb_session_close(s);
    return rows;
}

static void test_chunks(void **state)
{
    (void)state;
    static const size_t batches[] = {1, 7, 64, 100, 512};
    enum { N = 150 };
    for (size_t f = 0; f < 2; f++) {
        nb_model *m = open_model(windowed[f]);
        int32_t ids[MOST];
        size_t v = nb_model_vocabulary(m);
        make_ids(ids, v, 1);
        float *want = reference(m, ids, N, NULL);
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            nb_session *s = open_session(m, N, batches[b], 3, NULL);
            assert_int_equal(nb_session_capacity(s), N);
            assert_null(nb_session_row(s, 0));
            eval(s, ids, 1, NB_LOGITS_LAST);
            assert_memory_equal(nb_session_row(s, 0), want, v * sizeof *want);
            assert_null(nb_session_row(s, 1));
            eval(s, ids + 1, 100, NB_LOGITS_NONE);
            assert_null(nb_session_row(s, 0));
            assert_int_equal(nb_session_position(s), 101);
            eval(s, ids + 101, 40, NB_LOGITS_LAST);
            assert_memory_equal(nb_session_row(s, 0), want + 140 * v, v * sizeof *want);
            size_t all = batches[b] < 3 ? batches[b] : 3;
            eval(s, ids + 141, all, NB_LOGITS_ALL);
            for (size_t i = 0; i < all; i++)
                assert_memory_equal(nb_session_row(s, i), want + (141 + i) * v, v * sizeof *want);
            assert_null(nb_session_row(s, all));
            assert_int_equal(nb_session_position(s), 141 + all);
            nb_session_close(s);
        }
        free(want);
        nb_model_close(m);
    }
}

static void expect_refused(nb_session *s, const int32_t *ids, size_t count, nb_logits logits, nb_status want,
                           const char *part)
{
    nb_error err = {0};
    size_t position = nb_session_position(s);
    assert_int_equal(nb_session_eval(s, ids, count, logits, &err), want);
    assert_int_equal(err.code, want);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
    assert_int_equal(nb_session_eval(s, ids, count, logits, NULL), want);
    assert_int_equal(nb_session_position(s), position);
}

static void test_refusals(void **state)
{
    (void)state;
    nb_model *m = open_model("qwen2");
    int32_t ids[MOST], bad[3] = {1, -1, 2};
    make_ids(ids, nb_model_vocabulary(m), 2);
    nb_session *s = open_session(m, 100, 16, 4, NULL);
    float *want = reference(m, ids, 100, NULL);
    expect_refused(s, ids, 0, NB_LOGITS_LAST, NB_ERR_ARGUMENT, "no tokens");
    expect_refused(s, bad, 3, NB_LOGITS_LAST, NB_ERR_ARGUMENT, "token 1 is -1");
    bad[1] = (int32_t)nb_model_vocabulary(m);
    expect_refused(s, bad, 3, NB_LOGITS_LAST, NB_ERR_ARGUMENT, "token 1 is ");
    bad[1] = INT32_MAX;
    expect_refused(s, bad, 3, NB_LOGITS_LAST, NB_ERR_ARGUMENT, "token 1 is 2147483647");
    expect_refused(s, ids, 5, NB_LOGITS_ALL, NB_ERR_ARGUMENT, "at most 4");
    expect_refused(s, ids, 101, NB_LOGITS_LAST, NB_ERR_LIMIT, "100 positions");
    eval(s, ids, 99, NB_LOGITS_NONE);
    expect_refused(s, ids, 2, NB_LOGITS_LAST, NB_ERR_LIMIT, "99 tokens");
    eval(s, ids + 99, 1, NB_LOGITS_LAST); /* what was refused left no trace */
    assert_memory_equal(nb_session_row(s, 0), want + 99 * nb_model_vocabulary(m),
                        nb_model_vocabulary(m) * sizeof *want);
    expect_refused(s, ids, 1, NB_LOGITS_LAST, NB_ERR_LIMIT, "context is full");
    free(want);
    nb_session_close(s);
    nb_model_close(m);
}

static void expect_no_session(nb_model *m, nb_session_params p, nb_status want, const char *part)
{
    nb_error err = {0};
    nb_session *s = (nb_session *)(uintptr_t)1;
    nb_status status = nb_session_open(m, &p, &s, &err);
    if (status != want || !strstr(err.message, part))
        fail_msg("status %d, '%s' is not in: %s", status, part, err.message);
    assert_null(s);
}

static void test_cache_types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double limit;
    } types[] = {{"f32", 0}, {"F16", 1e-5}, {"bf16", 1e-3}, {"q8_0", 1e-3}, {"q4_0", 0.1}};
    enum { N = 130 };
    /* below the level where activations are rounded to bfloat16: such roundings flip with the cache's and hide them */
    nb_cpu_set_level(NB_CPU_AVX512);
    nb_model *m = open_model("llama-mqa-wide-head"), *narrow = open_model("qwen2");
    int32_t ids[MOST];
    size_t v = nb_model_vocabulary(m);
    make_ids(ids, v, 3);
    float *want = reference(m, ids, N, "f32");
    for (size_t i = 0; i < 5; i++) {
        float *got = reference(m, ids, N, types[i].name);
        double nmse = nb_nmse(got, want, N * v);
        printf("cache in %-5s: NMSE %.1e\n", types[i].name, nmse);
        assert_true(nmse <= types[i].limit);
        assert_true(i == 0 || nmse > 0); /* it is another type */
        free(got);
    }
    free(want);
    expect_no_session(m, (nb_session_params){.kv_type = "q5_0"}, NB_ERR_ARGUMENT, "q5_0");
    expect_no_session(m, (nb_session_params){.kv_type = ""}, NB_ERR_ARGUMENT, "f32, f16, bf16, q8_0");
    expect_no_session(m, (nb_session_params){.kv_type = "i32"}, NB_ERR_ARGUMENT, "i32");
    expect_no_session(narrow, (nb_session_params){.kv_type = "q8_0"}, NB_ERR_UNSUPPORTED, "multiples of 32");
    nb_cpu_set_level(nb_cpu_best());
    nb_model_close(narrow);
    nb_model_close(m);
}

static void test_odd_contexts(void **state)
{
    (void)state;
    static const size_t contexts[] = {1, 2, 63, 64, 65, 127, 129, 511, 512};
    for (size_t f = 0; f < 2; f++) {
        nb_model *m = open_model(windowed[f]);
        int32_t ids[MOST];
        size_t v = nb_model_vocabulary(m);
        make_ids(ids, v, 4);
        float *want = reference(m, ids, MOST, NULL);
        for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
            nb_session *s = open_session(m, contexts[i], 16, 1, NULL);
            eval(s, ids, contexts[i], NB_LOGITS_LAST);
            assert_memory_equal(nb_session_row(s, 0), want + (contexts[i] - 1) * v, v * sizeof *want);
            expect_refused(s, ids, 1, NB_LOGITS_NONE, NB_ERR_LIMIT, "context is full");
            nb_session_close(s);
        }
        expect_no_session(m, (nb_session_params){.context = 513}, NB_ERR_LIMIT, "513");
        expect_no_session(m, (nb_session_params){.context = SIZE_MAX}, NB_ERR_LIMIT, "512 positions");
        nb_session *s = open_session(m, 0, SIZE_MAX, SIZE_MAX, NULL);
        assert_int_equal(nb_session_capacity(s), 512);
        nb_session_close(s);
        free(want);
        nb_model_close(m);
    }
}

/* ---- going back ---- */

/* Which position lies in each slot of a ring, kept by nothing but assignments. */
typedef struct ring_model {
    size_t slots, window;
    size_t holds[MOST + 64]; /* position + 1 */
} ring_model;

static void ring_write(ring_model *r, size_t from, size_t to)
{
    for (size_t p = from; p < to; p++)
        r->holds[p % r->slots] = p + 1;
}

static bool ring_can_go_to(const ring_model *r, size_t position)
{
    for (size_t p = position < r->window ? 0 : position - r->window + 1; p < position; p++)
        if (r->holds[p % r->slots] != p + 1)
            return false;
    return true;
}

/* a random walk forth and back: going back is allowed exactly when the ring holds what is needed, and then the logits are as if
 * nothing had happened */
enum { STEPS = NB_TEST_SLOW ? 40 : 80 };
static size_t refused, allowed;

static void walk(nb_model *m, size_t batch, const int32_t *ids, const float *want, uint32_t seed)
{
    size_t v = nb_model_vocabulary(m);
    nb_session *s = open_session(m, 0, batch, 8, NULL);
    ring_model r = {.slots = s->params.max_pages[NB_GROUP_LOCAL] * NB_PAGE, .window = (size_t)m->def->h.window};
    for (int step = 0; step < STEPS; step++) {
        nb_error err;
        seed = seed * 1664525u + 1013904223u;
        size_t held = nb_session_position(s), left = nb_session_capacity(s) - held;
        size_t n = nb_min_size(left, 1 + (seed >> 8) % (step % 5 ? 90 : 5));
        if (n > 0) {
            size_t last = nb_min_size(n, nb_min_size(8, batch));
            if (n > last)
                eval(s, ids + held, n - last, NB_LOGITS_NONE);
            eval(s, ids + held + n - last, last, NB_LOGITS_ALL);
            for (size_t i = 0; i < last; i++)
                if (memcmp(nb_session_row(s, i), want + (held + n - last + i) * v, v * sizeof *want) != 0)
                    fail_msg("step %d: position %zu differs", step, held + n - last + i);
            ring_write(&r, held, held + n);
            held += n;
        }
        seed = seed * 1664525u + 1013904223u;
        size_t back = (seed >> 8) % (step % 3 ? 40 : 300), to = back > held ? 0 : held - back;
        nb_status status = nb_session_rewind(s, to, &err);
        bool possible = ring_can_go_to(&r, to);
        if (status != (possible ? NB_OK : NB_ERR_UNSUPPORTED))
            fail_msg("step %d: from %zu back to %zu: %s", step, held, to, status == NB_OK ? "allowed" : err.message);
        assert_int_equal(nb_session_position(s), status == NB_OK ? to : held);
        if (status == NB_OK)
            assert_null(nb_session_row(s, 0));
        possible ? allowed++ : refused++;
    }
    nb_session_close(s);
}

static void test_rewind(void **state)
{
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        nb_model *m = open_model(windowed[f]);
        int32_t ids[MOST];
        make_ids(ids, nb_model_vocabulary(m), 5);
        float *want = reference(m, ids, MOST, NULL);
        refused = allowed = 0;
        walk(m, 1, ids, want, 1);
        walk(m, 16, ids, want, 2);
        walk(m, 16, ids, want, 3);
        walk(m, 100, ids, want, 4);
        printf("%s: went back %zu times, could not %zu times\n", windowed[f], allowed, refused);
        assert_true(allowed > 30 && refused > 0);
        refused = 0;
        walk(m, 512, ids, want, 5);
        assert_int_equal(refused, 0); /* the ring is as large as the context */
        free(want);
        nb_model_close(m);
    }
}

static void test_rewind_without_windows(void **state)
{
    (void)state;
    nb_error err;
    nb_model *m = open_model("qwen2");
    int32_t ids[MOST];
    size_t v = nb_model_vocabulary(m);
    make_ids(ids, v, 6);
    nb_session *s = open_session(m, 0, 16, 1, NULL);
    float *want = reference(m, ids, MOST, NULL);
    eval(s, ids, MOST, NB_LOGITS_NONE);
    for (size_t to = 510; to > 10; to -= 100) {
        assert_int_equal(nb_session_rewind(s, to, &err), NB_OK);
        assert_int_equal(nb_session_rewind(s, to + 1, &err), NB_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "cannot go back"));
        eval(s, ids + to, 1, NB_LOGITS_LAST);
        assert_memory_equal(nb_session_row(s, 0), want + to * v, v * sizeof *want);
    }
    free(want);
    nb_session_close(s);
    nb_model_close(m);
}

static void test_match(void **state)
{
    (void)state;
    static const int32_t ids[] = {5, 6, 7, 8}, other[] = {5, 6, 9, 8}, longer[] = {5, 6, 7, 8, 9};
    nb_model *m = open_model("qwen2");
    nb_session *s = open_session(m, 10, 0, 0, NULL);
    assert_int_equal(nb_session_match(s, ids, 4), 0);
    eval(s, ids, 4, NB_LOGITS_NONE);
    assert_int_equal(nb_session_match(s, ids, 4), 4);
    assert_int_equal(nb_session_match(s, ids, 2), 2);
    assert_int_equal(nb_session_match(s, ids, 0), 0);
    assert_int_equal(nb_session_match(s, longer, 5), 4);
    assert_int_equal(nb_session_match(s, other, 4), 2);
    assert_int_equal(nb_session_match(s, ids + 1, 3), 0);
    assert_int_equal(nb_session_rewind(s, 3, NULL), NB_OK);
    assert_int_equal(nb_session_match(s, ids, 4), 3);
    nb_session_close(s);
    nb_model_close(m);
}

/* ---- two sessions of one model, each on a thread of its own ---- */

typedef struct job {
    nb_model *model;
    const int32_t *ids;
    const float *want;
    bool same;
} job;

static void *run_job(void *argument)
{
    job *j = argument;
    nb_error err;
    nb_session *s = NULL;
    size_t v = nb_model_vocabulary(j->model);
    nb_session_params p = {.batch = 16};
    j->same = nb_session_open(j->model, &p, &s, &err) == NB_OK;
    for (size_t at = 0; at < 96 && j->same; at += 8) {
        j->same = nb_session_eval(s, j->ids + at, 8, NB_LOGITS_LAST, &err) == NB_OK &&
                  memcmp(nb_session_row(s, 0), j->want + (at + 7) * v, v * sizeof(float)) == 0;
        int32_t ids[64];
        size_t count;
        j->same = j->same &&
                  nb_tokenize(j->model, "two at once", 11, NB_TEXT_ADD_SPECIAL, ids, 64, &count, &err) == NB_OK;
    }
    nb_session_close(s);
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    nb_model *m = open_model("gemma-3");
    int32_t ids[2][MOST];
    float *want[2];
    job jobs[2];
    pthread_t threads[2];
    for (uint32_t i = 0; i < 2; i++) {
        make_ids(ids[i], nb_model_vocabulary(m), i + 20);
        want[i] = reference(m, ids[i], 96, NULL);
        jobs[i] = (job){m, ids[i], want[i], false};
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].same);
        free(want[i]);
    }
    nb_model_close(m);
}

/* ---- text ---- */

static void test_text(void **state)
{
    (void)state;
    static const char text[] = "Hello, \xc3\xa4 world";
    nb_error err;
    nb_model *m = open_model("qwen2");
    int32_t ids[64], few[64];
    char back[64], part[64];
    size_t count, again, bytes;
    assert_int_equal(nb_tokenize(m, text, strlen(text), 0, ids, 64, &count, &err), NB_OK);
    assert_true(count > 2 && count < 64);
    assert_int_equal(nb_tokenize(m, text, strlen(text), 0, NULL, 0, &again, &err), NB_OK);
    assert_int_equal(again, count);
    memset(few, 0x55, sizeof few);
    assert_int_equal(nb_tokenize(m, text, strlen(text), 0, few, 2, &again, &err), NB_OK);
    assert_int_equal(again, count);
    assert_memory_equal(few, ids, 2 * sizeof *ids);
    assert_int_equal(few[2], 0x55555555);
    assert_int_equal(nb_tokenize(m, "", 0, 0, NULL, 0, &again, NULL), NB_OK);
    assert_int_equal(again, 0);
    assert_int_equal(nb_detokenize(m, ids, count, back, sizeof back, &bytes, &err), NB_OK);
    assert_int_equal(bytes, strlen(text));
    assert_memory_equal(back, text, bytes);
    assert_int_equal(nb_detokenize(m, ids, count, NULL, 0, &bytes, &err), NB_OK);
    assert_int_equal(bytes, strlen(text));
    memset(part, 'x', sizeof part);
    assert_int_equal(nb_detokenize(m, ids, count, part, 5, &bytes, &err), NB_OK);
    assert_int_equal(bytes, strlen(text));
    assert_memory_equal(part, "Hellox", 6);
    assert_int_equal(nb_detokenize(m, NULL, 0, NULL, 0, &bytes, &err), NB_OK);
    assert_int_equal(bytes, 0);
    ids[1] = (int32_t)nb_model_vocabulary(m);
    assert_int_equal(nb_detokenize(m, ids, count, back, sizeof back, &bytes, &err), NB_ERR_ARGUMENT);
    ids[1] = -1;
    assert_int_equal(nb_detokenize(m, ids, count, back, sizeof back, &bytes, NULL), NB_ERR_ARGUMENT);
    assert_false(nb_model_ends_reply(m, -1));
    assert_false(nb_model_ends_reply(m, INT32_MAX));
    nb_model_close(m);
}

static void put_template(nb_gguf_writer *w, const void *user)
{
    nb_gguf_put_str(w, "tokenizer.chat_template", nb_str_of(user));
}

static void edited_path(char path[300])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 300, "%s/nibble-session-%d.gguf", base ? base : "/tmp", (int)getpid());
}

static void test_chat(void **state)
{
    (void)state;
    static const char source[] = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
                                 "{% if add_generation_prompt %}[assistant] {% endif %}";
    static const nb_message messages[] = {{"system", "be brief"}, {"user", "h\xc3\xa9llo"}};
    nb_error err;
    char path[300], text[200];
    size_t bytes;
    edited_path(path);
    if (gguf_edit_write(ARCHS "llama-2-mha.gguf", path, put_template, source, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_model *m = open_path(path, nb_model_defaults()), *plain = open_model("llama-2-mha");
    static const char want[] = "<s>[system] be brief\n[user] h\xc3\xa9llo\n[assistant] ";
    assert_true(nb_model_has_chat(m));
    assert_int_equal(nb_chat_prompt(m, messages, 2, text, sizeof text, &bytes, &err), NB_OK);
    assert_int_equal(bytes, strlen(want));
    assert_memory_equal(text, want, bytes);
    assert_int_equal(nb_chat_prompt(m, messages, 2, NULL, 0, &bytes, &err), NB_OK);
    assert_int_equal(bytes, strlen(want));
    memset(text, 'x', sizeof text);
    assert_int_equal(nb_chat_prompt(m, messages, 2, text, 4, &bytes, &err), NB_OK);
    assert_memory_equal(text, "<s>[x", 5);
    assert_int_equal(nb_chat_prompt(m, NULL, 0, text, sizeof text, &bytes, &err), NB_OK);
    assert_int_equal(bytes, strlen("<s>[assistant] "));
    assert_false(nb_model_has_chat(plain));
    assert_int_equal(nb_chat_prompt(plain, messages, 2, text, sizeof text, &bytes, &err), NB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no chat template"));
    nb_model_close(plain);
    nb_model_close(m);
    unlink(path);
}

/* a template that does not compile keeps nobody from completing text */
static void test_broken_template(void **state)
{
    (void)state;
    static const nb_message message = {"user", "hello"};
    nb_error err;
    char path[300], text[200];
    size_t bytes;
    edited_path(path);
    if (gguf_edit_write(ARCHS "llama-2-mha.gguf", path, put_template, "{% for m in %}", &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_model *m = open_path(path, nb_model_defaults());
    assert_true(nb_model_has_chat(m));
    assert_int_not_equal(nb_chat_prompt(m, &message, 1, text, sizeof text, &bytes, &err), NB_OK);
    assert_non_null(strstr(err.message, "tokenizer.chat_template"));
    assert_non_null(strstr(err.message, "--raw"));
    int32_t id = 5;
    nb_session *s;
    assert_int_equal(nb_session_open(m, NULL, &s, &err), NB_OK);
    assert_int_equal(nb_session_eval(s, &id, 1, NB_LOGITS_LAST, &err), NB_OK);
    nb_session_close(s);
    nb_model_close(m);
    unlink(path);
}

/* ---- sizes that are absurd ---- */

static void put_nothing(nb_gguf_writer *w, const void *user)
{
    (void)w;
    (void)user;
}

/* A copy of the tiny Qwen 2 whose keys have huge biases where they turn slowest, as those of Qwen 2.5. */
static void write_biased(const char *path)
{
    enum { DIM = 16, PAIRS = DIM / 2 };
    nb_error err;
    nb_gguf *g;
    char name[32];
    if (gguf_edit_write(ARCHS "qwen2.gguf", path, put_nothing, NULL, &err) != NB_OK ||
        nb_gguf_open(path, &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    for (int layer = 0; layer < 3; layer++) {
        snprintf(name, sizeof name, "blk.%d.attn_k.bias", layer);
        const nb_gguf_tensor *t = nb_gguf_find_tensor(g, nb_str_of(name));
        assert_true(t && t->dims[0] == 2 * DIM && t->type->id == NB_TYPE_F32);
        for (int d = 0; d < 2 * DIM; d++) {
            float bias = d % PAIRS >= PAIRS - 2 ? (d % 3 ? 300.0f : -200.0f) : 0.5f;
            assert_true(fseek(f, (long)t->offset + 4 * d, SEEK_SET) == 0 && fwrite(&bias, 4, 1, f) == 1);
        }
    }
    assert_int_equal(fclose(f), 0);
    nb_gguf_close(g);
}

/* What all keys share is not kept, so that a cache of few bits has them for what differs. */
static void test_key_biases(void **state)
{
    (void)state;
    enum { N = 130 };
    char path[300];
    nb_model_params p = nb_model_defaults();
    int32_t ids[MOST];
    edited_path(path);
    write_biased(path);
    nb_cpu_set_level(NB_CPU_AVX512);
    nb_model *m = open_path(path, p);
    size_t v = nb_model_vocabulary(m);
    make_ids(ids, v, 3);
    float *want = reference(m, ids, N, "f32"), *got = reference(m, ids, N, "bf16");
    double nmse = nb_nmse(got, want, N * v);
    printf("biases of 300, cache in bf16: NMSE %.1e\n", nmse);
    assert_true(nmse > 0 && nmse <= 1e-3);
    nb_cpu_set_level(nb_cpu_best());
    nb_model_close(m);
    free(want);
    free(got);
    unlink(path);
}

static void put_context(nb_gguf_writer *w, const void *user)
{
    nb_gguf_put_u64(w, "llama.context_length", *(const uint64_t *)user);
}

static void test_absurd_context(void **state)
{
    (void)state;
    const uint64_t context = UINT64_C(1) << 40;
    nb_error err;
    char path[300];
    edited_path(path);
    if (gguf_edit_write(ARCHS "llama-2-mha.gguf", path, put_context, &context, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_model *m = open_path(path, nb_model_defaults());
    assert_int_equal(nb_model_context(m), context);
    nb_session *s = open_session(m, 0, 0, 0, NULL);
    assert_int_equal(nb_session_capacity(s), 8192);
    nb_session_close(s);
    for (size_t batch = 512; batch; batch = batch == 512 ? SIZE_MAX : 0) {
        nb_session_params p = {.context = (size_t)context, .batch = batch, .outputs = batch};
        nb_context_params plan;
        nb_memory memory;
        assert_int_equal(nb_session_plan(m, &p, &plan, &err), NB_OK);
        assert_int_equal(nb_session_memory(m, &plan, &memory, &err), NB_OK); /* says how much, takes nothing */
        assert_true(memory.cache + memory.buffers > context / 8);
        expect_no_session(m, p, NB_ERR_MEMORY, "ry");
    }
    nb_model_close(m);
    unlink(path);
}

static void test_model_errors(void **state)
{
    (void)state;
    nb_error err;
    nb_model *m = (nb_model *)(uintptr_t)1;
    nb_model_params p = nb_model_defaults();
    assert_int_equal(nb_model_open(ARCHS "absent.gguf", NULL, &m, &err), NB_ERR_NOT_FOUND);
    assert_null(m);
    assert_int_equal(nb_model_open(NB_TEST_DATA, NULL, &m, NULL), NB_ERR_NOT_FOUND); /* a directory without config.json */
    p.threads = 257;
    assert_int_equal(nb_model_open(ARCHS "qwen2.gguf", &p, &m, &err), NB_ERR_ARGUMENT);
    assert_null(m);
    p.threads = -1;
    assert_int_equal(nb_model_open(ARCHS "qwen2.gguf", &p, &m, &err), NB_ERR_ARGUMENT);
    p.threads = 1;
    p.pre_tokenizer = "nonsense";
    assert_int_not_equal(nb_model_open(ARCHS "qwen2.gguf", &p, &m, &err), NB_OK);
    assert_non_null(strstr(err.message, "nonsense"));
    assert_null(m);
    nb_model_close(NULL);
    nb_session_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cache_types),
        cmocka_unit_test(test_key_biases),
        cmocka_unit_test(test_odd_contexts),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_rewind_without_windows),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_broken_template),
        cmocka_unit_test(test_absurd_context),
        cmocka_unit_test(test_model_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
