/* A long prompt that two requests share, on a model with window layers (Gemma 3): the second one computes what it has of its
 * own, says what it would say alone, and its first token comes at least three times sooner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/file.h"
#include "engine/scheduler.h"
#include "support/cached.h"

enum { PREFIX = 1500, OWN = 30, REPLY = 24, ROUNDS = 3 };

typedef struct reply {
    int32_t ids[REPLY];
    size_t count;
    nb_task_stats stats;
} reply;

static void on_token(void *user, const nb_token_event *e)
{
    reply *r = user;
    r->ids[r->count++] = e->id;
}

static void on_end(void *user, nb_str rest, const nb_task_stats *stats)
{
    (void)rest;
    ((reply *)user)->stats = *stats;
}

/* The first `shared` tokens of the text, then others of it that no other number has. */
static reply ask(nb_scheduler *s, const int32_t *text, size_t shared, size_t number)
{
    reply r = {0};
    nb_error err = {0};
    nb_reply_task *task;
    bool worked = true;
    int32_t ids[PREFIX + OWN];
    memcpy(ids, text, shared * sizeof *ids);
    memcpy(ids + shared, text + PREFIX + OWN * number, OWN * sizeof *ids);
    nb_task_params p = {.prompt = ids,
                        .prompt_count = shared + OWN,
                        .sampling = nb_sampler_defaults(),
                        .max_tokens = REPLY,
                        .ignore_end = true,
                        .logprobs = -1,
                        .on_token = on_token,
                        .on_end = on_end,
                        .user = &r};
    p.sampling.seed = number;
    if (nb_scheduler_add(s, &p, &task, &err) != NB_OK)
        fail_msg("%s", err.message);
    while (worked)
        if (nb_scheduler_step(s, &worked, &err) != NB_OK)
            fail_msg("%s", err.message);
    assert_int_equal(r.count, REPLY);
    return r;
}

static void same(const reply *a, const reply *b) { assert_memory_equal(a->ids, b->ids, sizeof a->ids); }

static void prefix(void **state)
{
    static int32_t text[20000];
    char path[1024];
    size_t count;
    nb_error err = {0};
    nb_model *m;
    nb_buf file = {0};
    nb_scheduler *with, *without;
    nb_model_params params = nb_model_defaults();
    (void)state;
    params.threads = 2;
    nb_cached("models", "gemma-3-270m-q4_k_m.gguf", path);
    if (nb_model_open(path, &params, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_true(m->def->h.window > 0 && m->def->h.window < PREFIX / 2);
    nb_cached("text", "policy.txt", path);
    assert_int_equal(nb_file_read(path, 1 << 24, &file, &err), NB_OK);
    size_t bytes = nb_min_size(file.len, 40000); /* within a character: the last token is not used */
    assert_int_equal(nb_tokenize(m, file.data, bytes, NB_TEXT_ADD_SPECIAL, text, 20000, &count, &err), NB_OK);
    assert_true(count > PREFIX + OWN * 20);
    nb_buf_free(&file);
    nb_scheduler_params p = {.replies = 4, .context = 2048};
    assert_int_equal(nb_scheduler_new(m, &p, &with, &err), NB_OK);
    p.no_reuse = true;
    assert_int_equal(nb_scheduler_new(m, &p, &without, &err), NB_OK);
    reply first = ask(with, text, PREFIX, 0), alone = ask(without, text, PREFIX, 0);
    same(&first, &alone);
    double best = 1e9, best_alone = 1e9; /* the machine may have others to serve: the best of some */
    for (size_t i = 1; i <= ROUNDS; i++) {
        reply r = ask(with, text, PREFIX, i);
        alone = ask(without, text, PREFIX, i);
        same(&r, &alone);
        assert_int_equal(alone.stats.reused_tokens, 0);
        assert_true(r.stats.reused_tokens >= PREFIX && r.stats.prompt_tokens == PREFIX + OWN);
        best = r.stats.prompt_seconds < best ? r.stats.prompt_seconds : best;
        best_alone = alone.stats.prompt_seconds < best_alone ? alone.stats.prompt_seconds : best_alone;
    }
    print_message("first token behind %d shared tokens: %.1f ms, %.1f without reuse (%.1fx)\n", PREFIX, best * 1e3,
                  best_alone * 1e3, best_alone / best);
    assert_true(best_alone >= 3 * best);
    /* and where the texts part within the prefix: the window's pages there may be gone, the reply is the same */
    static const size_t parts[] = {1, 100, 511, 700, 1111, 1499};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        reply r = ask(with, text, parts[i], 10 + i);
        alone = ask(without, text, parts[i], 10 + i);
        same(&r, &alone);
    }
    nb_scheduler_free(with);
    nb_scheduler_free(without);
    nb_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prefix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
