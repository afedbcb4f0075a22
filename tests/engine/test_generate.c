/* Replies on tiny models: limits, stops, callbacks, seeds, what penalties see; and every allocation failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "support/allocations.h"

#define MODEL NB_TEST_DATA "/archs/llama-2-mha.gguf"

typedef struct collected {
    char text[4096];
    size_t bytes, calls, most_calls;
} collected;

static int collect(void *user, const char *text, size_t bytes)
{
    collected *c = user;
    assert_true(bytes > 0 && c->bytes + bytes < sizeof c->text);
    memcpy(c->text + c->bytes, text, bytes);
    c->bytes += bytes;
    c->text[c->bytes] = 0;
    return ++c->calls == c->most_calls;
}

typedef struct fixture {
    nb_model *model;
    nb_session *session;
    int32_t ids[64];
    size_t count;
} fixture;

static fixture open_fixture(size_t context)
{
    fixture f = {0};
    nb_error err;
    nb_model_params m = nb_model_defaults();
    nb_session_params s = {.context = context};
    m.threads = 1;
    if (nb_model_open(MODEL, &m, &f.model, &err) != NB_OK || nb_session_open(f.model, &s, &f.session, &err) != NB_OK ||
        nb_tokenize(f.model, "Once upon a time", 16, NB_TEXT_ADD_SPECIAL, f.ids, 64, &f.count, &err) != NB_OK)
        fail_msg("%s", err.message);
    return f;
}

static void close_fixture(fixture *f)
{
    nb_session_close(f->session);
    nb_model_close(f->model);
}

static nb_generate_params plain(collected *c, int64_t tokens)
{
    nb_generate_params p = nb_generate_defaults();
    *c = (collected){0};
    p.sampling.seed = 7;
    p.max_tokens = tokens;
    p.ignore_end = true;
    p.on_text = collect;
    p.user = c;
    return p;
}

static nb_generate_stats generate(fixture *f, const nb_generate_params *p)
{
    nb_error err;
    nb_generate_stats stats;
    assert_int_equal(nb_session_rewind(f->session, 0, &err), NB_OK);
    if (nb_generate(f->session, f->ids, f->count, p, &stats, &err) != NB_OK)
        fail_msg("%s", err.message);
    return stats;
}

static void test_limits(void **state)
{
    (void)state;
    fixture f = open_fixture(64);
    collected c;
    nb_generate_params p = plain(&c, 0);
    nb_generate_stats stats = generate(&f, &p);
    assert_int_equal(stats.reason, NB_STOP_LENGTH);
    assert_int_equal(stats.tokens, 0);
    assert_int_equal(stats.prompt_tokens, f.count);
    assert_int_equal(stats.seed, 7);
    assert_int_equal(c.calls, 0);
    assert_int_equal(nb_session_position(f.session), f.count);
    p = plain(&c, 10);
    stats = generate(&f, &p);
    assert_int_equal(stats.tokens, 10);
    assert_int_equal(stats.reason, NB_STOP_LENGTH);
    assert_int_equal(nb_session_position(f.session), f.count + 9); /* the last one was chosen, not computed */
    p = plain(&c, -1);
    stats = generate(&f, &p);
    assert_int_equal(stats.reason, NB_STOP_CONTEXT);
    assert_int_equal(nb_session_position(f.session), 64);
    assert_int_equal(stats.tokens, 64 - f.count + 1);
    close_fixture(&f);
}

static void test_errors(void **state)
{
    (void)state;
    fixture f = open_fixture(8);
    collected c;
    nb_error err;
    nb_generate_params p = plain(&c, 4);
    nb_generate_stats stats;
    int32_t bad[] = {1, 1 << 30}, negative[] = {-5};
    assert_int_equal(nb_generate(f.session, f.ids, 0, &p, &stats, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_generate(f.session, bad, 2, &p, NULL, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_generate(f.session, negative, 1, &p, NULL, NULL), NB_ERR_ARGUMENT);
    assert_int_equal(nb_generate(f.session, f.ids, 9, &p, &stats, &err), NB_ERR_LIMIT);
    p.sampling.order = "top-k;nonsense";
    assert_int_equal(nb_generate(f.session, f.ids, 2, &p, &stats, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "nonsense"));
    p = plain(&c, 4);
    p.sampling.bias = &(nb_logit_bias){(int32_t)nb_model_vocabulary(f.model), 1};
    p.sampling.bias_count = 1;
    assert_int_equal(nb_generate(f.session, f.ids, 2, &p, &stats, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_session_position(f.session), 0);
    assert_int_equal(c.calls, 0);
    close_fixture(&f);
}

static void test_seed(void **state)
{
    (void)state;
    fixture f = open_fixture(0);
    collected a, b, other;
    nb_generate_params p = plain(&a, 30);
    generate(&f, &p);
    p = plain(&b, 30);
    generate(&f, &p);
    assert_true(a.bytes > 10);
    assert_string_equal(a.text, b.text);
    p = plain(&other, 30);
    p.sampling.seed = NB_SEED_RANDOM;
    nb_generate_stats stats = generate(&f, &p);
    p = plain(&b, 30);
    p.sampling.seed = stats.seed;
    generate(&f, &p);
    assert_string_equal(other.text, b.text);
    nb_error err;
    assert_int_equal(nb_session_rewind(f.session, 0, &err), NB_OK);
    p = plain(&b, 1);
    p.on_text = NULL;
    assert_int_equal(nb_generate(f.session, f.ids, f.count, &p, NULL, NULL), NB_OK);
    close_fixture(&f);
}

/* a prompt whose beginning the session holds already gives the same reply, penalties included */
static void test_held_prefix(void **state)
{
    (void)state;
    fixture f = open_fixture(0);
    collected a, b;
    nb_error err;
    for (int way = 0; way < 2; way++) {
        nb_generate_params p = plain(way ? &b : &a, 40);
        p.sampling.repeat_last_n = -1;
        p.sampling.repeat_penalty = 1.8f;
        p.sampling.presence_penalty = 1;
        p.sampling.dry_multiplier = 1;
        size_t held = way ? f.count - 1 : 0;
        assert_int_equal(nb_session_rewind(f.session, 0, &err), NB_OK);
        if (held)
            assert_int_equal(nb_session_eval(f.session, f.ids, held, NB_LOGITS_NONE, &err), NB_OK);
        assert_int_equal(nb_generate(f.session, f.ids + held, f.count - held, &p, NULL, &err), NB_OK);
    }
    assert_true(a.bytes > 10);
    assert_string_equal(a.text, b.text);
    close_fixture(&f);
}

static void test_stops(void **state)
{
    (void)state;
    fixture f = open_fixture(0);
    collected whole, c;
    nb_generate_params p = plain(&whole, 30);
    generate(&f, &p);
    char stop[4] = {0};
    memcpy(stop, whole.text + whole.bytes / 2, 3);
    size_t at = (size_t)(strstr(whole.text, stop) - whole.text);
    const char *stops[] = {"never in this text", stop, ""};
    p = plain(&c, 30);
    p.stops = stops;
    p.stop_count = 3;
    nb_generate_stats stats = generate(&f, &p);
    assert_int_equal(stats.reason, NB_STOP_STRING);
    assert_int_equal(c.bytes, at);
    assert_memory_equal(c.text, whole.text, at);
    p = plain(&c, 30);
    c.most_calls = 3;
    stats = generate(&f, &p);
    assert_int_equal(stats.reason, NB_STOP_CALLER);
    assert_int_equal(c.calls, 3);
    assert_memory_equal(c.text, whole.text, c.bytes);
    close_fixture(&f);
}

/* an end-of-reply token ends it and gives no text; a bias makes it the only choice */
static void test_end(void **state)
{
    (void)state;
    fixture f = open_fixture(0);
    collected c;
    nb_generate_params p = plain(&c, 30);
    int32_t end = 0;
    while (!nb_model_ends_reply(f.model, end))
        end++;
    p.ignore_end = false;
    p.sampling.bias = &(nb_logit_bias){end, 1e6f};
    p.sampling.bias_count = 1;
    nb_generate_stats stats = generate(&f, &p);
    assert_int_equal(stats.reason, NB_STOP_END);
    assert_int_equal(stats.tokens, 1);
    assert_int_equal(c.bytes, 0);
    p.special = true;
    p.ignore_end = true;
    p.max_tokens = 2;
    generate(&f, &p);
    assert_string_equal(c.text, "</s></s>");
    close_fixture(&f);
}

/* ---- every allocation fails once ---- */

#ifndef NB_SANITIZED
static char streamed[64];

static int stream(void *user, const char *text, size_t bytes)
{
    (void)user, (void)text, (void)bytes;
    return 0;
}

static nb_status whole_life(nb_error *err)
{
    nb_model *m = NULL;
    nb_session *s = NULL;
    int32_t ids[16];
    size_t count = 0, bytes;
    const char *stops[] = {"zz", "zzz"};
    nb_generate_params p = nb_generate_defaults();
    nb_model_params mp = nb_model_defaults();
    mp.threads = 1;
    p.sampling.seed = 1;
    p.sampling.repeat_penalty = 1.1f;
    p.sampling.repeat_last_n = 32;
    p.sampling.dry_multiplier = 1;
    p.sampling.mirostat = 0;
    p.max_tokens = 5;
    p.ignore_end = true;
    p.on_text = stream;
    p.stops = stops;
    p.stop_count = 2;
    nb_status status = nb_model_open(NB_TEST_DATA "/archs/qwen2.gguf", &mp, &m, err);
    if (status == NB_OK)
        status = nb_session_open(m, NULL, &s, err);
    if (status == NB_OK)
        status = nb_tokenize(m, "one two", 7, 0, ids, 16, &count, err);
    if (status == NB_OK)
        status = nb_generate(s, ids, count, &p, NULL, err);
    if (status == NB_OK)
        status = nb_chat_prompt(m, &(nb_message){"user", "hello"}, 1, streamed, sizeof streamed, &bytes, err);
    if (status == NB_OK)
        status = nb_detokenize(m, ids, count, streamed, sizeof streamed, &bytes, err);
    nb_session_close(s);
    nb_model_close(m);
    return status;
}

static void test_every_allocation(void **state)
{
    (void)state;
    nb_error err = {0};
    assert_int_equal(whole_life(&err), NB_OK); /* what the C library keeps for itself is there now */
    long n = 0, failures = 0;
    for (bool reached = true; reached;) {
        err = (nb_error){0};
        long before = nb_allocations.live;
        nb_allocations.count = 0;
        nb_allocations.fail_at = ++n;
        nb_status status = whole_life(&err);
        nb_allocations.fail_at = 0;
        reached = nb_allocations.count >= n;
        long after = nb_allocations.live;
        if (after != before)
            fail_msg("allocation %ld: %ld pieces are not freed (%s)", n, after - before, err.message);
        if (status != NB_OK && (status != NB_ERR_MEMORY || err.code != NB_ERR_MEMORY || !strstr(err.message, "memory")))
            fail_msg("allocation %ld: status %d: %s", n, status, err.message);
        failures += status != NB_OK;
    }
    printf("%ld allocations, %ld of them fatal\n", n - 1, failures);
    assert_true(failures > 30);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),           cmocka_unit_test(test_errors), cmocka_unit_test(test_seed),
        cmocka_unit_test(test_held_prefix),      cmocka_unit_test(test_stops),  cmocka_unit_test(test_end),
#ifndef NB_SANITIZED
        cmocka_unit_test(test_every_allocation),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
