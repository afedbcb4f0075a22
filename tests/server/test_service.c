/* The service: models come and go within a memory budget while many threads ask; replies are what they are alone; what leaves
 * costs nothing; queues are bounded. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "server/service.h"

#define ARCHS NB_TEST_DATA "/archs/"
static const int64_t second = 1000000000;

static const char *const files[] = {ARCHS "llama-2-mha.gguf", ARCHS "qwen2.gguf", ARCHS "gemma-3.gguf",
                                    ARCHS "bert.gguf"};

static nb_library *open_library(void)
{
    nb_library *l;
    nb_error err = {0};
    if (nb_library_open(&(nb_library_params){.no_store = true, .files = files, .file_count = 4}, &l, &err) != NB_OK)
        fail_msg("%s", err.message);
    return l;
}

static nb_service *new_service(nb_library *l, nb_service_params p)
{
    nb_service *s;
    p.threads = 2;
    assert_int_equal(nb_service_new(l, &p, &s, NULL), NB_OK);
    return s;
}

static nb_served *acquire(nb_service *s, const char *name)
{
    nb_served *m;
    nb_error err = {0};
    if (nb_service_acquire(s, nb_str_of(name), &(nb_load_options){0}, NULL, NULL, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    return m;
}

typedef struct reply {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char text[4096];
    size_t bytes, tokens;
    bool over;
    nb_task_stats stats;
} reply;

static void init_reply(reply *r)
{
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
}

static void add_text(reply *r, nb_str text)
{
    size_t n = nb_min_size(text.n, sizeof r->text - r->bytes);
    if (n)
        memcpy(r->text + r->bytes, text.p, n);
    r->bytes += n;
}

static void on_token(void *user, const nb_token_event *e)
{
    reply *r = user;
    pthread_mutex_lock(&r->lock);
    add_text(r, e->text);
    r->tokens++;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void on_end(void *user, nb_str rest, const nb_task_stats *stats)
{
    reply *r = user;
    pthread_mutex_lock(&r->lock);
    add_text(r, rest);
    r->stats = *stats;
    r->over = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void wait_for(reply *r, size_t tokens)
{
    pthread_mutex_lock(&r->lock);
    while (!r->over && r->tokens < tokens)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static nb_status submit(nb_service *s, nb_served *m, int seed, int64_t most, nb_served_grammar *g, reply *r,
                        uint64_t *ticket, bool *busy, nb_error *err)
{
    int32_t ids[70];
    size_t n = 10 + (size_t)seed * 7 % 60;
    for (size_t i = 0; i < n; i++)
        ids[i] = 3 + (int32_t)((i < 40 ? i : i * (size_t)(seed + 3)) * 31 % 250);
    nb_task_params p = {.prompt = ids,
                        .prompt_count = n,
                        .sampling = nb_sampler_defaults(),
                        .max_tokens = most,
                        .ignore_end = !g,
                        .logprobs = -1,
                        .user_key = (uint64_t)seed % 3,
                        .on_token = on_token,
                        .on_end = on_end,
                        .user = r};
    p.sampling.seed = (uint64_t)seed;
    p.sampling.temperature = 0.8F;
    p.shift = most > 1000;
    return nb_service_submit(s, m, &p, g, ticket, busy, err);
}

/* ---- many threads ---- */

typedef struct caller {
    nb_service *s;
    int seed;
    reply r;
    char alone[4096];
    size_t alone_bytes;
} caller;

static void ask(caller *c)
{
    static const char *const names[] = {"llama-2-mha", "qwen2", "gemma-3"};
    uint64_t ticket;
    bool busy;
    nb_error err = {0};
    init_reply(&c->r);
    nb_served *m = acquire(c->s, names[c->seed % 3]);
    if (submit(c->s, m, c->seed, 24, NULL, &c->r, &ticket, &busy, &err) != NB_OK)
        fail_msg("%s", err.message);
    wait_for(&c->r, SIZE_MAX);
    nb_service_release(c->s, m, INT64_MIN);
}

static void *ask_thread(void *context)
{
    ask(context);
    return NULL;
}

static void many(void **state)
{
    enum { N = 24 };
    static caller callers[N];
    pthread_t threads[N];
    (void)state;
    nb_library *l = open_library();
    nb_service *s = new_service(l, (nb_service_params){.replies = 6, .memory = 256 << 20});
    for (int i = 0; i < N; i++) { /* one after the other first */
        callers[i].s = s;
        callers[i].seed = i;
        ask(&callers[i]);
        callers[i].alone_bytes = callers[i].r.bytes;
        memcpy(callers[i].alone, callers[i].r.text, callers[i].r.bytes);
        assert_true(callers[i].r.stats.end == NB_TASK_LENGTH && callers[i].r.stats.tokens == 24);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_thread, &callers[i]), 0);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(callers[i].r.bytes, callers[i].alone_bytes);
        assert_memory_equal(callers[i].r.text, callers[i].alone, callers[i].alone_bytes);
    }
    nb_service_load load = nb_service_look(s);
    for (double end = nb_seconds() + 120; load.running > 0; load = nb_service_look(s)) { /* told after a step */
        assert_true(nb_seconds() < end);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    assert_true(load.requests == 2 * N && load.tokens == 2 * N * 24 && load.models == 3 && load.running == 0);
    assert_true(load.reused_tokens > 0);
    nb_service_free(s);
    nb_library_close(l);
}

/* ---- models come and go ---- */

static size_t loaded(nb_service *s, const char *name)
{
    nb_served_info info[8];
    size_t n = nb_service_list(s, info, 8), found = 0;
    for (size_t i = 0; i < n; i++) {
        found += strcmp(info[i].name, name) == 0;
        nb_entry_release(info[i].entry);
    }
    return found;
}

static void wait_gone(nb_service *s, const char *name)
{
    for (double end = nb_seconds() + 120; loaded(s, name);) {
        assert_true(nb_seconds() < end);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

static void budget(void **state)
{
    nb_served_info info[2];
    nb_served *m;
    nb_error err = {0};
    (void)state;
    nb_library *l = open_library();
    nb_service *s = new_service(l, (nb_service_params){.replies = 2, .max_models = 2, .load_timeout_ns = second / 2});
    nb_served *a = acquire(s, "llama-2-mha");
    assert_true(nb_served_load_ns(a) > 0 && nb_served_context(a) > 0);
    assert_int_equal(nb_service_list(s, info, 2), 1);
    assert_true(info[0].bytes > 100000 && info[0].expires_at_ns > second);
    nb_entry_release(info[0].entry);
    nb_service_release(s, a, INT64_MIN);
    nb_served *b = acquire(s, "qwen2");
    nb_served *c = acquire(s, "gemma-3"); /* the first one is the longest unused */
    assert_true(!loaded(s, "llama-2-mha:latest") && loaded(s, "qwen2:latest") && loaded(s, "gemma-3:latest"));
    assert_int_equal(nb_service_acquire(s, NB_STR("llama-2-mha"), &(nb_load_options){0}, NULL, NULL, &m, &err),
                     NB_ERR_LIMIT);
    assert_non_null(strstr(err.message, "try again later"));
    nb_service_release(s, b, 0); /* goes at once */
    wait_gone(s, "qwen2:latest");
    nb_service_release(s, c, 20000000);
    wait_gone(s, "gemma-3:latest");
    a = acquire(s, "llama-2-mha");
    nb_service_release(s, a, -1);
    assert_int_equal(nb_service_list(s, info, 2), 1);
    assert_true(info[0].expires_at_ns == INT64_MAX);
    nb_entry_release(info[0].entry);
    assert_int_equal(nb_service_acquire(s, NB_STR("nobody"), &(nb_load_options){0}, NULL, NULL, &m, &err),
                     NB_ERR_NOT_FOUND);
    nb_service_free(s);
    s = new_service(l, (nb_service_params){.replies = 2, .memory = 100000});
    assert_int_equal(nb_service_acquire(s, NB_STR("llama-2-mha"), &(nb_load_options){0}, NULL, NULL, &m, &err),
                     NB_ERR_LIMIT);
    assert_non_null(strstr(err.message, "do not fit"));
    nb_service_free(s);
    nb_library_close(l);
}

/* Another context is another model; the one there was goes when nobody uses it. */
static void contexts(void **state)
{
    (void)state;
    nb_library *l = open_library();
    nb_service *s = new_service(l, (nb_service_params){.replies = 2});
    nb_served *a = acquire(s, "llama-2-mha"), *b;
    assert_int_equal(
        nb_service_acquire(s, NB_STR("llama-2-mha"), &(nb_load_options){.context = 128}, NULL, NULL, &b, NULL), NB_OK);
    assert_true(a != b && nb_served_context(b) == 128 && nb_served_context(a) > 128);
    nb_service_release(s, a, INT64_MIN);
    nb_service_release(s, b, INT64_MIN);
    assert_int_equal(
        nb_service_acquire(s, NB_STR("llama-2-mha"), &(nb_load_options){.any_context = true}, NULL, NULL, &a, NULL),
        NB_OK);
    assert_ptr_equal(a, b);
    nb_service_release(s, a, INT64_MIN);
    a = acquire(s, "llama-2-mha"); /* the usual one, not the short one that somebody asked for */
    assert_true(nb_served_context(a) > 128);
    nb_service_release(s, a, INT64_MIN);
    nb_service_free(s);
    nb_library_close(l);
}

/* ---- loading beside replies ---- */

/* Keeps the loader waiting, as a slow disk would, until the reply has gone on: the lines that it says on its way are where. */
typedef struct held {
    _Atomic(reply *) streaming;
    _Atomic(const char *) line;
    atomic_bool waits; /* until this is over, in place of tokens */
    atomic_size_t times, stalled;
} held;

static size_t tokens_of(reply *r)
{
    pthread_mutex_lock(&r->lock);
    size_t tokens = r->over ? 0 : r->tokens;
    pthread_mutex_unlock(&r->lock);
    return tokens;
}

static void hold_loader(void *user, const char *line)
{
    held *h = user;
    if (!h->streaming || !strstr(line, h->line))
        return;
    size_t want = tokens_of(h->streaming) + 100;
    for (double end = nb_seconds() + 120; h->waits || tokens_of(h->streaming) < want;) {
        if (nb_seconds() > end) {
            h->stalled++;
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    h->times++;
}

static bool left(void *user)
{
    (void)user;
    return true;
}

/* While a model is loaded, however long that takes, the tokens of another go on: a hundred come before the load does. One that
 * cannot be loaded, one whose client leaves meanwhile, and one that is told to go in mid-reply harm nobody either. */
static void loads_beside(void **state)
{
    static reply r, other;
    static const char *const lines[] = {"gemma-3:latest: loaded in", "qwen2:latest: unloaded (another"};
    uint64_t ticket, second_ticket;
    bool busy;
    nb_served *m;
    nb_error err = {0};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        held h = {.line = lines[i]};
        nb_library *l = open_library();
        nb_service *s = new_service(
            l, (nb_service_params){.replies = 2, .max_models = 2, .log = hold_loader, .log_user = &h});
        init_reply(&r);
        nb_served *a = acquire(s, "llama-2-mha");
        assert_int_equal(submit(s, a, 0, 1000000, NULL, &r, &ticket, &busy, &err), NB_OK);
        if (i == 1)
            nb_service_release(s, acquire(s, "qwen2"), INT64_MIN);
        wait_for(&r, 3);
        h.streaming = &r;
        m = acquire(s, "gemma-3");
        assert_true(h.times == 1 && h.stalled == 0 && tokens_of(&r) > 100);
        h.streaming = NULL;
        /* its own reply is whole though it is to go at once, and the other one goes on */
        init_reply(&other);
        assert_int_equal(submit(s, m, 3, 30, NULL, &other, &second_ticket, &busy, &err), NB_OK);
        nb_service_release(s, m, 0);
        wait_for(&other, SIZE_MAX);
        assert_true(other.stats.end == NB_TASK_LENGTH && other.tokens == 30);
        wait_gone(s, "gemma-3:latest");
        assert_int_equal(nb_service_acquire(s, NB_STR("qwen2"), &(nb_load_options){.context = (size_t)1 << 40}, NULL,
                                            NULL, &m, &err),
                         NB_ERR_LIMIT);
        h.line = "gemma-3:latest: loaded in"; /* its client has left before it is there */
        h.waits = true;
        h.streaming = &r;
        assert_int_equal(nb_service_acquire(s, NB_STR("gemma-3"), &(nb_load_options){0}, left, NULL, &m, &err),
                         NB_ERR_CANCELLED);
        size_t so_far = tokens_of(&r);
        h.waits = false;
        wait_for(&r, so_far + 200);
        assert_true(tokens_of(&r) >= so_far + 200);
        nb_service_cancel(s, ticket);
        wait_for(&r, SIZE_MAX);
        h.streaming = NULL;
        nb_service_release(s, a, INT64_MIN);
        nb_service_free(s);
        nb_library_close(l);
    }
}

/* A prompt that begins as one before it did is computed from where it differs, by models with window layers too. */
static void prefixes(void **state)
{
    enum { SHARED = 203 };
    static const char *const names[] = {"llama-2-mha", "gemma-3"};
    (void)state;
    nb_library *l = open_library();
    for (size_t k = 0; k < 4; k++) {
        static char texts[2][4096];
        static reply r;
        for (size_t plain = 0; plain < 2; plain++) {
            nb_service *s = new_service(l, (nb_service_params){.replies = 2, .no_reuse = plain});
            nb_served *m = acquire(s, names[k % 2]);
            for (int i = 0; i < 2; i++) {
                int32_t ids[SHARED + 20];
                uint64_t ticket;
                bool busy;
                for (int n = 0; n < SHARED + 20; n++)
                    ids[n] = 3 + (n < SHARED ? n * 7 : n * 11 + (i + 1) * 50) % 240;
                init_reply(&r);
                nb_task_params p = {.prompt = ids,
                                    .prompt_count = SHARED + 20,
                                    .sampling = nb_sampler_defaults(),
                                    .max_tokens = 20,
                                    .ignore_end = true,
                                    .logprobs = -1,
                                    .on_token = on_token,
                                    .on_end = on_end,
                                    .user = &r};
                p.sampling.seed = k;
                assert_int_equal(nb_service_submit(s, m, &p, NULL, &ticket, &busy, NULL), NB_OK);
                wait_for(&r, SIZE_MAX);
                assert_int_equal(r.stats.reused_tokens, i && !plain ? SHARED : 0);
            }
            memcpy(texts[plain], r.text, sizeof r.text);
            nb_service_release(s, m, INT64_MIN);
            nb_service_free(s);
        }
        assert_memory_equal(texts[0], texts[1], sizeof texts[0]);
    }
    nb_library_close(l);
}

/* ---- requests that end early ---- */

static void ends(void **state)
{
    enum { N = 4 };
    static reply r[N];
    uint64_t tickets[N];
    bool busy;
    nb_error err = {0};
    (void)state;
    nb_library *l = open_library();
    nb_service *s = new_service(l, (nb_service_params){.replies = 1, .queue = 2});
    nb_served *m = acquire(s, "llama-2-mha");
    for (int i = 0; i < N; i++)
        init_reply(&r[i]);
    assert_int_equal(submit(s, m, 0, 100000, NULL, &r[0], &tickets[0], &busy, &err), NB_OK);
    wait_for(&r[0], 3);
    assert_int_equal(submit(s, m, 1, 100000, NULL, &r[1], &tickets[1], &busy, &err), NB_OK);
    nb_status status = NB_OK;
    for (int i = 2; i < N && status == NB_OK; i++) { /* how many wait is known after a step */
        status = submit(s, m, i, 5, NULL, &r[i], &tickets[i], &busy, &err);
        if (status == NB_OK && i == N - 1) {
            nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
            reply one_more;
            init_reply(&one_more);
            status = submit(s, m, 9, 5, NULL, &one_more, &tickets[0], &busy, &err);
        }
    }
    assert_int_equal(status, NB_ERR_LIMIT);
    assert_true(busy && strstr(err.message, "requests wait already"));
    nb_service_cancel(s, tickets[1]);
    wait_for(&r[1], SIZE_MAX);
    assert_true(r[1].stats.end == NB_TASK_CANCELLED && r[1].tokens == 0);
    nb_service_cancel(s, 123456789); /* unknown */
    nb_service_release(s, m, INT64_MIN);
    nb_service_stop(s, second / 20); /* the first one does not end by itself */
    assert_true(r[0].over);
    assert_int_equal(submit(s, m, 1, 1, NULL, &r[1], &tickets[1], &busy, &err), NB_ERR_LIMIT);
    nb_service_free(s);
    nb_library_close(l);
}

/* Who leaves just as the service ends is forgotten, not leaked. */
static void leaves_last(void **state)
{
    (void)state;
    nb_library *l = open_library();
    for (uint64_t i = 0; i < 20; i++) {
        nb_service *s = new_service(l, (nb_service_params){.replies = 1});
        nb_service_cancel(s, i);
        nb_service_free(s);
    }
    nb_library_close(l);
}

/* A grammar holds, and is compiled once for the same text. */
static void grammars(void **state)
{
    reply r;
    uint64_t ticket;
    bool busy;
    nb_error err = {0};
    nb_served_grammar *g, *again;
    (void)state;
    nb_library *l = open_library();
    nb_service *s = new_service(l, (nb_service_params){.replies = 2});
    nb_served *m = acquire(s, "qwen2");
    assert_int_equal(nb_service_grammar(m, NB_GRAMMAR_GBNF, NB_STR("root ::= [ab]{5}"), &g, &err), NB_OK);
    assert_int_equal(nb_service_grammar(m, NB_GRAMMAR_GBNF, NB_STR("root ::= [ab]{5}"), &again, &err), NB_OK);
    assert_ptr_equal(g, again);
    nb_service_grammar_release(again);
    assert_int_equal(nb_service_grammar(m, NB_GRAMMAR_GBNF, NB_STR("root ::= ["), &again, &err), NB_ERR_ARGUMENT);
    init_reply(&r);
    if (submit(s, m, 3, 50, g, &r, &ticket, &busy, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_service_grammar_release(g);
    wait_for(&r, SIZE_MAX);
    assert_int_equal(r.bytes, 5);
    for (size_t i = 0; i < 5; i++)
        assert_true(r.text[i] == 'a' || r.text[i] == 'b');
    nb_service_release(s, m, INT64_MIN);
    nb_service_free(s);
    nb_library_close(l);
}

/* An encoder makes embeddings and writes nothing; a decoder does both, at once. */
static void embeds(void **state)
{
    static float one[4096], two[4096];
    static reply r;
    uint64_t ticket;
    bool busy;
    nb_error err = {0};
    (void)state;
    nb_library *l = open_library();
    nb_service *s = new_service(l, (nb_service_params){.replies = 2});
    nb_served *m = acquire(s, "bert");
    assert_int_equal(submit(s, m, 3, 50, NULL, &r, &ticket, &busy, &err), NB_ERR_UNSUPPORTED);
    nb_service_release(s, m, INT64_MIN);
    m = acquire(s, "llama-2-mha");
    int32_t ids[] = {5, 9, 200, 17};
    nb_embed_input in = {.ids = ids, .count = 4};
    nb_embed_params p = nb_embed_defaults();
    assert_int_equal(nb_service_embed(s, m, &in, 1, &p, one, NULL, &err), NB_OK);
    init_reply(&r);
    assert_int_equal(submit(s, m, 1, 400, NULL, &r, &ticket, &busy, &err), NB_OK);
    wait_for(&r, 3);
    assert_int_equal(nb_service_embed(s, m, &in, 1, &p, two, NULL, &err), NB_OK);
    assert_memory_equal(one, two, nb_model_embedding(nb_served_model(m)) * sizeof *one);
    nb_service_cancel(s, ticket);
    wait_for(&r, SIZE_MAX);
    nb_service_release(s, m, INT64_MIN);
    nb_service_free(s);
    nb_library_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many),         cmocka_unit_test(budget),   cmocka_unit_test(contexts),
        cmocka_unit_test(ends),         cmocka_unit_test(grammars), cmocka_unit_test(embeds),
        cmocka_unit_test(loads_beside), cmocka_unit_test(prefixes), cmocka_unit_test(leaves_last)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
