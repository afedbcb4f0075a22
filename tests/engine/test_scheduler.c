/* The scheduler: many replies at once are, to the byte, what each is alone (nb_generate is the oracle: one session, no sharing,
 * no neighbours), whatever shares the step, is reused, put back or shifted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "base/team.h"
#include "engine/pages.h"
#include "engine/scheduler.h"

#define ARCHS NB_TEST_DATA "/archs/"

static nb_model *open_model(const char *name)
{
    char path[400];
    nb_model *m;
    nb_error err = {0};
    nb_model_params params = nb_model_defaults();
    params.threads = 2;
    snprintf(path, sizeof path, ARCHS "%s.gguf", name);
    if (nb_model_open(path, &params, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    return m;
}

static nb_scheduler *new_scheduler(nb_model *m, nb_scheduler_params p)
{
    nb_scheduler *s;
    nb_error err = {0};
    if (nb_scheduler_new(m, &p, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

/* ---- replies ---- */

typedef struct reply {
    nb_buf text;
    int32_t ids[600];
    size_t count;
    bool over;
    nb_task_stats stats;
    double worst_sum; /* of the probabilities of all alternatives asked for, over 1 */
} reply;

static void on_token(void *user, const nb_token_event *e)
{
    reply *r = user;
    double sum = 0;
    assert_false(r->over);
    nb_buf_str(&r->text, e->text);
    r->ids[r->count++] = e->id;
    for (size_t i = 0; i < e->top_count; i++) {
        sum += exp((double)e->top[i].logprob);
        assert_true(i == 0 || e->top[i].logprob <= e->top[i - 1].logprob);
    }
    r->worst_sum = fmax(r->worst_sum, sum);
}

static void on_end(void *user, nb_str rest, const nb_task_stats *stats)
{
    reply *r = user;
    assert_false(r->over);
    nb_buf_str(&r->text, rest);
    r->stats = *stats;
    r->over = true;
}

static void make_prompt(uint32_t seed, size_t shared, size_t count, size_t vocabulary, int32_t *ids)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t x = (i < shared ? 77 : seed * 7919u) + (uint32_t)i * 2654435761u;
        x ^= x >> 15;
        x *= 2246822519u;
        ids[i] = (int32_t)(3 + (x >> 8) % (vocabulary - 3));
    }
}

typedef struct ask {
    size_t shared, prompt;
    uint32_t seed;
    int64_t max_tokens;
    float temperature;
    uint64_t user;
} ask;

static nb_task_params task_of(const ask *a, const int32_t *ids, reply *r)
{
    nb_task_params p = {.prompt = ids,
                        .prompt_count = a->prompt,
                        .sampling = nb_sampler_defaults(),
                        .max_tokens = a->max_tokens,
                        .ignore_end = true,
                        .logprobs = -1,
                        .user_key = a->user,
                        .on_token = on_token,
                        .on_end = on_end,
                        .user = r};
    p.sampling.seed = a->seed;
    p.sampling.temperature = a->temperature;
    p.sampling.repeat_penalty = 1.1F;
    return p;
}

static nb_reply_task *add(nb_scheduler *s, nb_model *m, const ask *a, reply *r)
{
    int32_t ids[4096];
    nb_reply_task *task;
    nb_error err = {0};
    make_prompt(a->seed, a->shared, a->prompt, nb_model_vocabulary(m), ids);
    nb_task_params p = task_of(a, ids, r);
    if (nb_scheduler_add(s, &p, &task, &err) != NB_OK)
        fail_msg("%s", err.message);
    return task;
}

static void run_all(nb_scheduler *s)
{
    bool worked = true;
    nb_error err = {0};
    while (worked)
        if (nb_scheduler_step(s, &worked, &err) != NB_OK)
            fail_msg("%s", err.message);
}

static int append(void *user, const char *text, size_t bytes)
{
    nb_buf_add(user, text, bytes);
    return 0;
}

/* what the reply is alone */
static void check(nb_model *m, const ask *a, reply *r, size_t context)
{
    int32_t ids[4096];
    nb_session *session;
    nb_session_params options = nb_session_defaults();
    nb_generate_params p = nb_generate_defaults();
    nb_generate_stats stats;
    nb_buf text = {0};
    nb_error err = {0};
    options.context = context;
    make_prompt(a->seed, a->shared, a->prompt, nb_model_vocabulary(m), ids);
    p.sampling = nb_sampler_defaults();
    p.sampling.seed = a->seed;
    p.sampling.temperature = a->temperature;
    p.sampling.repeat_penalty = 1.1F;
    p.max_tokens = a->max_tokens;
    p.ignore_end = true;
    p.on_text = append;
    p.user = &text;
    if (nb_session_open(m, &options, &session, &err) != NB_OK ||
        nb_generate(session, ids, a->prompt, &p, &stats, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_true(r->over && r->stats.prompt_tokens == a->prompt && r->stats.tokens == stats.tokens);
    assert_int_equal(r->stats.end, stats.reason == NB_STOP_CONTEXT ? NB_TASK_CONTEXT : NB_TASK_LENGTH);
    if (!nb_str_eq(nb_buf_view(&r->text), nb_buf_view(&text)))
        fail_msg("prompt %zu, seed %u: the reply is another one than alone", a->prompt, a->seed);
    nb_session_close(session);
    nb_buf_free(&text);
    nb_buf_free(&r->text);
}

/* All kinds of neighbours; every architecture here has something that batches could get wrong: windows, soft caps, experts,
 * scalings that follow the length, learned positions. */
static const char *const models[] = {
    "llama-2-mha", "gemma-3", "mistral-sliding", "qwen3-moe", "long-longrope-window", "long-dynamic",
    "gemma-2",     "gpt2",    "bloom",           "gpt-oss"};

static void like_alone(void **state)
{
    (void)state;
    for (size_t k = 0; k < (NB_TEST_SLOW ? 4 : sizeof models / sizeof *models); k++) {
        nb_model *m = open_model(models[k]);
        size_t context = nb_min_size(nb_model_context(m), 512), n = 0;
        ask asks[12];
        static reply replies[12];
        memset(replies, 0, sizeof replies);
        for (; n < 12; n++)
            asks[n] = (ask){n % 3 ? context / 3 : 0, nb_min_size(5 + n * context / 16, context - 20),
                            100 + (uint32_t)n,       3 + (int64_t)n,
                            n % 2 ? 0.9F : 0,        n % 4};
        for (size_t reuse = 0; reuse < 2; reuse++) {
            nb_scheduler *s = new_scheduler(
                m, (nb_scheduler_params){.replies = 5, .step_tokens = 96, .context = context, .no_reuse = !reuse});
            for (size_t i = 0; i < n; i++)
                add(s, m, &asks[i], &replies[i]);
            run_all(s);
            nb_scheduler_load load = nb_scheduler_look(s);
            assert_true(load.running == 0 && load.waiting == 0 && load.pages_used == 0);
            assert_true((load.pages_kept > 0) == (reuse > 0 && strcmp(models[k], "long-dynamic") != 0));
            for (size_t i = 0; i < n; i++) {
                assert_true(reuse || replies[i].stats.reused_tokens == 0);
                check(m, &asks[i], &replies[i], context);
            }
            memset(replies, 0, sizeof replies);
            nb_scheduler_free(s);
        }
        nb_model_close(m);
    }
}

/* The second of two replies that begin alike finds all that they have in common, to the token, of window layers too. */
static void reuses(void **state)
{
    static const char *const names[] = {"llama-2-mha", "gemma-3"};
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        nb_model *m = open_model(names[k]);
        size_t context = nb_min_size(nb_model_context(m), 1024), shared = context / 2;
        nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 2, .context = context});
        ask a = {shared, shared + 10, 1, 8, 0, 0}, b = {shared, shared + 30, 2, 8, 0, 0};
        reply ra = {0}, rb = {0}, again = {0};
        add(s, m, &a, &ra);
        run_all(s);
        add(s, m, &b, &rb);
        run_all(s);
        assert_int_equal(ra.stats.reused_tokens, 0);
        assert_int_equal(rb.stats.reused_tokens, shared);
        add(s, m, &a, &again); /* all of it but the last token is known */
        run_all(s);
        assert_int_equal(again.stats.reused_tokens, a.prompt - 1);
        check(m, &a, &ra, context);
        check(m, &b, &rb, context);
        check(m, &a, &again, context);
        nb_scheduler_free(s);
        nb_model_close(m);
    }
}

/* Any length in common, of a reply that is over or that goes on meanwhile; then the whole of a conversation. Every reply is
 * what it is alone. */
static void reuses_to_the_token(void **state)
{
    static const size_t lengths[] = {1, 7, 63, 64, 65, 100, 127, 129, 191};
    (void)state;
    for (size_t k = 0; k < (NB_TEST_SLOW ? 3 : sizeof models / sizeof *models); k++) {
        nb_model *m = open_model(models[k]);
        bool grows = strcmp(models[k], "long-dynamic") == 0, worked;
        bool by_length = strncmp(models[k], "long-", 5) == 0; /* short and long texts share nothing */
        size_t context = nb_min_size(nb_model_context(m), 512);
        nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 3, .context = context});
        ask a = {nb_min_size(200, context - 60), nb_min_size(220, context - 40), 1, 30, 0.8F, 0};
        reply ra = {0};
        add(s, m, &a, &ra);
        for (int i = 0; i < 3; i++)
            assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            ask b = {lengths[i], nb_min_size(lengths[i] + 5, context - 40), 1000 + (uint32_t)i, 6, 0.8F, 0};
            reply rb = {0};
            if (lengths[i] > a.shared)
                break;
            add(s, m, &b, &rb);
            while (!rb.over) /* the first one goes on beside them, until it is over */
                assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
            if (rb.stats.reused_tokens < (by_length ? 0 : lengths[i]) || (grows && rb.stats.reused_tokens))
                fail_msg("%s: %zu of %zu tokens reused", models[k], rb.stats.reused_tokens, lengths[i]);
            check(m, &b, &rb, context);
        }
        run_all(s);
        int32_t ids[600];
        nb_reply_task *task;
        reply next = {0}, fresh = {0};
        make_prompt(a.seed, a.shared, a.prompt, nb_model_vocabulary(m), ids);
        memcpy(ids + a.prompt, ra.ids, ra.count * sizeof *ids);
        ids[a.prompt + ra.count] = 9;
        nb_task_params p = task_of(&(ask){.prompt = a.prompt + ra.count + 1, .max_tokens = 5}, ids, &next);
        assert_int_equal(nb_scheduler_add(s, &p, &task, NULL), NB_OK);
        run_all(s);
        assert_int_equal(next.stats.reused_tokens, grows ? 0 : a.prompt + ra.count - 1); /* the last was not computed */
        check(m, &a, &ra, context);
        nb_scheduler_free(s);
        s = new_scheduler(m, (nb_scheduler_params){.replies = 3, .context = context, .no_reuse = true});
        p.user = &fresh;
        assert_int_equal(nb_scheduler_add(s, &p, &task, NULL), NB_OK);
        run_all(s);
        assert_int_equal(fresh.count, next.count);
        assert_memory_equal(fresh.ids, next.ids, fresh.count * sizeof *fresh.ids);
        nb_buf_free(&next.text);
        nb_buf_free(&fresh.text);
        nb_scheduler_free(s);
        nb_model_close(m);
    }
}

/* A pool that holds one context and a little: replies are put back into line and go on later as if nothing had been. */
static void few_pages(void **state)
{
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    size_t context = nb_min_size(nb_model_context(m), 512), n = 6;
    nb_memory one;
    nb_context_params cp;
    nb_session_params options = {.context = context};
    assert_int_equal(nb_session_plan(m, &options, &cp, NULL), NB_OK);
    assert_int_equal(nb_session_memory(m, &cp, &one, NULL), NB_OK);
    nb_scheduler *s = new_scheduler(
        m, (nb_scheduler_params){
               .replies = 4, .step_tokens = 64, .context = context, .cache_bytes = one.cache + one.cache / 4});
    static reply replies[6];
    ask asks[6];
    for (size_t i = 0; i < n; i++) {
        asks[i] = (ask){0, context / 4, 40 + (uint32_t)i, (int64_t)context / 2, 0.8F, i};
        add(s, m, &asks[i], &replies[i]);
    }
    run_all(s);
    for (size_t i = 0; i < n; i++)
        check(m, &asks[i], &replies[i], context);
    nb_scheduler_free(s);
    nb_scheduler_params small = {.replies = 2, .context = context, .cache_bytes = one.cache / 2};
    nb_error err = {0};
    assert_int_equal(nb_scheduler_new(m, &small, &s, &err), NB_ERR_LIMIT);
    assert_non_null(strstr(err.message, "does not hold one context"));
    nb_model_close(m);
}

/* A full context ends the reply, or forgets its middle and goes on. */
static void full_context(void **state)
{
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 2, .context = 128});
    ask a = {0, 100, 5, 300, 0.7F, 0};
    reply ends = {0}, shifts = {0};
    add(s, m, &a, &ends);
    int32_t ids[128];
    nb_reply_task *task;
    make_prompt(a.seed, 0, a.prompt, nb_model_vocabulary(m), ids);
    nb_task_params p = task_of(&a, ids, &shifts);
    p.shift = true;
    p.keep = 4;
    assert_int_equal(nb_scheduler_add(s, &p, &task, NULL), NB_OK);
    run_all(s);
    assert_int_equal(shifts.stats.end, NB_TASK_LENGTH);
    assert_int_equal(shifts.stats.tokens, 300);
    assert_true(shifts.stats.shifted_tokens >= 200);
    assert_memory_equal(shifts.ids, ends.ids, ends.count * sizeof *ends.ids); /* until then they are the same */
    assert_int_equal(ends.count, 29);
    nb_buf_free(&shifts.text);
    check(m, &a, &ends, 128);
    nb_error err;
    p.prompt_count = 129;
    assert_int_equal(nb_scheduler_add(s, &p, &task, &err), NB_ERR_LIMIT);
    p.prompt_count = 0;
    assert_int_equal(nb_scheduler_add(s, &p, &task, &err), NB_ERR_ARGUMENT);
    p.prompt_count = 100;
    ids[50] = (int32_t)nb_model_vocabulary(m);
    assert_int_equal(nb_scheduler_add(s, &p, &task, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "token 50 of the prompt"));
    nb_scheduler_free(s);
    nb_model_close(m);
}

/* A reply that is cancelled costs nothing in the next step; freeing the scheduler ends what is left; nobody hears twice. */
static void cancels(void **state)
{
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 3, .context = 256});
    static reply r[5];
    nb_reply_task *tasks[5];
    ask a = {0, 30, 9, 100, 0, 0};
    bool worked;
    for (int i = 0; i < 5; i++, a.seed++)
        tasks[i] = add(s, m, &a, &r[i]);
    for (int i = 0; i < 4; i++)
        assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
    assert_int_equal(nb_scheduler_look(s).running, 3);
    nb_scheduler_cancel(s, tasks[1]); /* running */
    nb_scheduler_cancel(s, tasks[3]); /* in line */
    assert_true(r[1].over && r[1].stats.end == NB_TASK_CANCELLED && r[1].stats.tokens == 4);
    assert_true(r[3].over && r[3].stats.tokens == 0);
    assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
    assert_int_equal(nb_scheduler_look(s).running, 3); /* the last one got its place */
    nb_scheduler_free(s);
    for (int i = 0; i < 5; i++) {
        assert_true(r[i].over && r[i].stats.end == NB_TASK_CANCELLED);
        nb_buf_free(&r[i].text);
    }
    nb_model_close(m);
}

/* A long prompt delays nobody: replies go on in every step, and a short prompt that comes later is answered first. */
typedef struct constrained {
    nb_grammar *grammar;
    nb_grammar_cache *cache;
    size_t tokens;
} constrained;

static void on_word(void *user, const nb_token_event *e)
{
    (void)e;
    ((constrained *)user)->tokens++;
}

static void give_back(void *user, nb_str rest, const nb_task_stats *stats)
{
    constrained *c = user;
    (void)rest, (void)stats;
    nb_grammar_cache_free(c->cache);
    nb_grammar_free(c->grammar);
    c->cache = NULL;
}

/* What constrained a reply may go in its on_end, whether it ended or was cancelled. */
static void grammar_goes(void **state)
{
    (void)state;
    nb_error err = {0};
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 2, .context = 256});
    nb_grammar_vocab *vocab;
    bool worked = true;
    assert_int_equal(nb_grammar_vocab_new(m->tokenizer, &vocab, &err), NB_OK);
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        constrained c = {0};
        int32_t id = 5;
        nb_reply_task *task;
        assert_int_equal(nb_grammar_from_gbnf(NB_STR("root ::= [a-z ]*"), m->tokenizer, &c.grammar, &err), NB_OK);
        assert_int_equal(nb_grammar_cache_new(c.grammar, vocab, &c.cache, &err), NB_OK);
        nb_task_params p = {.prompt = &id,
                            .prompt_count = 1,
                            .sampling = nb_sampler_defaults(),
                            .max_tokens = 4,
                            .ignore_end = true,
                            .logprobs = -1,
                            .grammar = c.cache,
                            .on_token = on_word,
                            .on_end = give_back,
                            .user = &c};
        assert_int_equal(nb_scheduler_add(s, &p, &task, &err), NB_OK);
        assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
        if (cancelled)
            nb_scheduler_cancel(s, task);
        while (!cancelled && c.cache)
            assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
        assert_null(c.cache);
        assert_true(c.tokens == (cancelled ? 1 : 4));
    }
    nb_grammar_vocab_free(vocab);
    nb_scheduler_free(s);
    nb_model_close(m);
}

static void long_prompts(void **state)
{
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    size_t context = nb_model_context(m);
    assert_true(context >= 512);
    nb_scheduler *s = new_scheduler(
        m, (nb_scheduler_params){.replies = 4, .step_tokens = 32, .context = 512, .no_reuse = true});
    static reply quick, slow, late;
    ask a = {0, 8, 1, 60, 0, 1}, b = {0, 480, 2, 5, 0, 2}, c = {0, 20, 3, 5, 0, 3};
    bool worked;
    add(s, m, &a, &quick);
    assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
    add(s, m, &b, &slow);
    for (size_t i = 0; i < 5; i++) {
        size_t before = quick.count;
        assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
        assert_int_equal(quick.count, before + 1);
    }
    add(s, m, &c, &late);
    while (!late.over)
        assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
    assert_int_equal(slow.count, 0);
    run_all(s);
    check(m, &a, &quick, 512);
    check(m, &b, &slow, 512);
    check(m, &c, &late, 512);
    nb_scheduler_free(s);
    nb_model_close(m);
}

/* Short prompts wait for few tokens of others, however long those are; and the long one goes on in every step. */
static void short_prompts(void **state)
{
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 16, .step_tokens = 400, .context = 512});
    static reply slow, r[40];
    bool worked;
    add(s, m, &(ask){0, 480, 2, 5, 0, 1}, &slow);
    for (uint32_t i = 0; i < 40; i++) {
        uint64_t before = nb_scheduler_look(s).prompt_tokens, computed;
        add(s, m, &(ask){0, 10, 100 + i, 3, 0, 2}, &r[i]);
        assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
        computed = nb_scheduler_look(s).prompt_tokens - before;
        assert_int_equal(r[i].count, 1); /* in the step that it came for */
        assert_true(computed <= NB_PAGE && (computed > 10 || slow.count > 0));
    }
    run_all(s);
    check(m, &(ask){0, 480, 2, 5, 0, 1}, &slow, 512);
    for (uint32_t i = 0; i < 40; i++)
        check(m, &(ask){0, 10, 100 + i, 3, 0, 2}, &r[i], 512);
    nb_scheduler_free(s);
    nb_model_close(m);
}

/* One with a huge prompt, or with many requests, does not starve another: what a small request waits for is counted in steps. */
static void starves_nobody(void **state)
{
    enum { MANY = 60 };
    static reply flood[MANY], huge[2], small[3];
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(
        m, (nb_scheduler_params){.replies = 4, .step_tokens = 64, .context = 512, .no_reuse = true});
    bool worked;
    for (uint32_t i = 0; i < MANY; i++) /* 60 x 8 steps of four at once */
        add(s, m, &(ask){0, 30, i, 8, 0, 1}, &flood[i]);
    for (uint32_t i = 0; i < 2; i++) /* 15 steps of prompt alone */
        add(s, m, &(ask){0, 490, 70 + i, 8, 0, 2}, &huge[i]);
    for (uint32_t i = 0; i < 3; i++) {
        size_t steps = 0;
        add(s, m, &(ask){0, 12, 90 + i, 4, 0, 3}, &small[i]);
        for (; !small[i].over; steps++)
            assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
        if (steps > 20) /* a place gets free within a reply's 8 tokens and its prompt; then 4 tokens of its own */
            fail_msg("the small request took %zu steps", steps);
    }
    size_t over = 0;
    for (int i = 0; i < MANY; i++)
        over += flood[i].over;
    assert_true(over < MANY / 2); /* it came before those that were there first */
    run_all(s);
    for (int i = 0; i < MANY; i++)
        nb_buf_free(&flood[i].text);
    for (int i = 0; i < 2; i++)
        nb_buf_free(&huge[i].text);
    for (int i = 0; i < 3; i++)
        nb_buf_free(&small[i].text);
    nb_scheduler_free(s);
    nb_model_close(m);
}

/* Who goes while the prompt is computed costs nothing more: not a token of it is computed in the next step. */
static void leaves_in_prompt(void **state)
{
    static reply r;
    bool worked;
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 2, .step_tokens = 32, .context = 512});
    nb_reply_task *t = add(s, m, &(ask){0, 480, 1, 5, 0, 1}, &r);
    for (int i = 0; i < 3; i++)
        assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
    uint64_t before = nb_scheduler_look(s).prompt_tokens;
    assert_true(before > 0 && before < 480);
    nb_scheduler_cancel(s, t);
    assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
    nb_scheduler_load load = nb_scheduler_look(s);
    assert_true(!worked && load.prompt_tokens == before && load.pages_used == 0 && load.running == 0);
    assert_true(r.over && r.stats.end == NB_TASK_CANCELLED && r.count == 0);
    nb_scheduler_free(s);
    nb_model_close(m);
}

/* Of those in line, whose user has the fewest running comes first. */
static void fair(void **state)
{
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 2, .context = 256});
    static reply r[6];
    bool worked;
    for (int i = 0; i < 6; i++) {
        ask a = {0, 10, 60 + (uint32_t)i, 6, 0, i == 5}; /* five of one user, then one of another */
        add(s, m, &a, &r[i]);
    }
    while (!r[5].over)
        assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
    assert_true(r[0].over && r[3].count == 0);
    run_all(s);
    for (int i = 0; i < 6; i++)
        nb_buf_free(&r[i].text);
    nb_scheduler_free(s);
    nb_model_close(m);
}

static void logprobs(void **state)
{
    (void)state;
    nb_model *m = open_model("llama-2-mha");
    nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 1, .context = 128});
    ask a = {0, 12, 4, 6, 0, 0};
    reply r = {0};
    int32_t ids[16];
    nb_reply_task *task;
    make_prompt(a.seed, 0, a.prompt, nb_model_vocabulary(m), ids);
    nb_task_params p = task_of(&a, ids, &r);
    p.logprobs = 20;
    p.sampling.repeat_penalty = 1;
    assert_int_equal(nb_scheduler_add(s, &p, &task, NULL), NB_OK);
    run_all(s);
    assert_true(r.worst_sum > 0.01 && r.worst_sum <= 1.0001);
    assert_int_equal(r.count, 6);
    nb_buf_free(&r.text);
    nb_scheduler_free(s);
    nb_model_close(m);
}

/* ---- the pool alone ---- */

static void pool(void **state)
{
    nb_page_pool *p;
    uint32_t a[2], b[2];
    int32_t tokens[3][NB_PAGE];
    (void)state;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < NB_PAGE; j++)
            tokens[i][j] = i * 1000 + j;
    assert_int_equal(nb_page_pool_new((const size_t[]){2, 2}, &p, NULL), NB_OK);
    for (int g = 0; g < 2; g++) {
        a[g] = nb_page_take(p, g);
        b[g] = nb_page_take(p, g);
        assert_true(a[g] != b[g] && nb_page_take(p, g) == NB_PAGE_NONE);
    }
    uint32_t first = nb_prefix_add(p, 0, NB_NODE_NONE, tokens[0], NB_PAGE, a),
             second = nb_prefix_add(p, 0, first, tokens[1], NB_PAGE, b);
    assert_int_equal(nb_prefix_find(p, 0, NB_NODE_NONE, tokens[0]), first);
    assert_int_equal(nb_prefix_find(p, 0, first, tokens[1]), second);
    assert_true(nb_prefix_find(p, 1, NB_NODE_NONE, tokens[0]) == NB_NODE_NONE); /* another kind */
    assert_true(nb_prefix_find(p, 0, NB_NODE_NONE, tokens[1]) == NB_NODE_NONE); /* elsewhere */
    for (int g = 0; g < 2; g++) {
        nb_page_leave(p, g, a[g]);
        nb_page_leave(p, g, b[g]);
        assert_int_equal(nb_page_kept(p, g), 2);
    }
    assert_true(nb_page_take(p, 0) == NB_PAGE_NONE); /* both nodes are held */
    nb_prefix_leave(p, first);
    nb_prefix_leave(p, second);
    nb_prefix_page(p, second, 0); /* the younger one, but an end goes first */
    assert_int_equal(nb_page_take(p, 0), b[0]);
    assert_true(nb_prefix_find(p, 0, first, tokens[1]) == NB_NODE_NONE);
    assert_int_equal(nb_page_unused(p, 1), 1); /* its window page went with it */
    assert_int_equal(nb_page_take(p, 1), b[1]);
    assert_int_equal(nb_page_take(p, 1), a[1]); /* of the first, which stays without it */
    assert_int_equal(nb_prefix_find(p, 0, NB_NODE_NONE, tokens[0]), first);
    assert_true(nb_prefix_page(p, first, 1) == NB_PAGE_NONE && nb_prefix_page(p, first, 0) == a[0]);
    nb_page_pool_delete(p);
}

/* Unfinished blocks: found by what they begin with, never as a whole, dropped by who goes on. */
static void unfinished(void **state)
{
    nb_page_pool *p;
    uint32_t page[3][2] = {{0, NB_PAGE_NONE}, {0, NB_PAGE_NONE}, {0, NB_PAGE_NONE}};
    int32_t tokens[NB_PAGE], other[NB_PAGE];
    size_t common;
    (void)state;
    for (int i = 0; i < NB_PAGE; i++)
        tokens[i] = other[i] = i;
    other[30] = 999;
    assert_int_equal(nb_page_pool_new((const size_t[]){3, 0}, &p, NULL), NB_OK);
    for (int i = 0; i < 3; i++)
        page[i][0] = nb_page_take(p, 0);
    uint32_t part = nb_prefix_add(p, 5, NB_NODE_NONE, tokens, 40, page[0]);
    assert_true(part != NB_NODE_NONE && nb_prefix_find(p, 5, NB_NODE_NONE, tokens) == NB_NODE_NONE);
    assert_true(nb_prefix_add(p, 5, NB_NODE_NONE, tokens, 33, page[1]) == NB_NODE_NONE); /* is there already */
    assert_int_equal(nb_prefix_near(p, 5, NB_NODE_NONE, tokens, NB_PAGE, false, &common), part);
    assert_int_equal(common, 40);
    assert_int_equal(nb_prefix_near(p, 5, NB_NODE_NONE, other, NB_PAGE, false, &common), part);
    assert_int_equal(common, 30);
    assert_int_equal(nb_prefix_near(p, 5, NB_NODE_NONE, tokens, 12, false, &common), part);
    assert_int_equal(common, 12);
    assert_true(nb_prefix_near(p, 5, NB_NODE_NONE, tokens, 12, true, &common) == NB_NODE_NONE); /* no window page */
    assert_true(nb_prefix_near(p, 6, NB_NODE_NONE, tokens, 12, false, &common) == NB_NODE_NONE && common == 0);
    assert_true(nb_prefix_near(p, 5, NB_NODE_NONE, tokens + 1, 12, false, &common) == NB_NODE_NONE);
    uint32_t whole = nb_prefix_add(p, 5, NB_NODE_NONE, other, NB_PAGE, page[1]);
    assert_int_equal(nb_prefix_near(p, 5, NB_NODE_NONE, other, NB_PAGE, false, &common), whole);
    assert_int_equal(common, NB_PAGE);
    nb_prefix_drop(p, part);
    nb_page_leave(p, 0, page[0][0]);
    assert_int_equal(nb_page_unused(p, 0), 1);
    assert_int_equal(nb_prefix_near(p, 5, NB_NODE_NONE, tokens, NB_PAGE, false, &common), whole);
    assert_int_equal(common, 30);
    nb_page_pool_delete(p);
}

typedef struct patience {
    size_t asked, ends_at; /* times; that which is told to give up */
    int given_up;
} patience;

static bool gives_up(void *user)
{
    patience *p = user;
    if (++p->asked != p->ends_at)
        return false;
    p->given_up++;
    return true;
}

/* A step that is given up, wherever in it, changes nothing: the next ones make the replies that there would have been. */
static void gives_up_steps(void **state)
{
    (void)state;
    for (size_t k = 0; k < (NB_TEST_SLOW ? 3 : sizeof models / sizeof *models); k++) {
        nb_model *m = open_model(models[k]);
        size_t context = nb_min_size(nb_model_context(m), 512), count;
        patience p = {0};
        for (size_t step = 1; step == 1 || p.given_up; step += step / 2 + 7) {
            p = (patience){.ends_at = step};
            nb_scheduler *s = new_scheduler(m, (nb_scheduler_params){.replies = 2,
                                                                     .step_tokens = 96,
                                                                     .context = context,
                                                                     .given_up = gives_up,
                                                                     .given_up_user = &p});
            ask a = {0, nb_min_size(200, context - 30), 1, 6, 0.8F, 0}, b = {0, 40, 2, 9, 0, 0};
            reply ra = {0}, rb = {0};
            add(s, m, &a, &ra);
            add(s, m, &b, &rb);
            bool worked;
            for (count = 0; !ra.over || !rb.over; count++) {
                assert_int_equal(nb_scheduler_step(s, &worked, NULL), NB_OK);
                assert_true(worked);
            }
            nb_scheduler_load load = nb_scheduler_look(s);
            assert_int_equal(load.steps + (size_t)p.given_up, count);
            assert_int_equal(load.prompt_tokens, a.prompt + b.prompt);
            check(m, &a, &ra, context);
            check(m, &b, &rb, context);
            nb_scheduler_free(s);
        }
        assert_true(p.asked > 100); /* in the last, none was given up */
        nb_model_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool),
        cmocka_unit_test(gives_up_steps),
        cmocka_unit_test(like_alone),
        cmocka_unit_test(reuses),
        cmocka_unit_test(few_pages),
        cmocka_unit_test(full_context),
        cmocka_unit_test(cancels),
        cmocka_unit_test(grammar_goes),
        cmocka_unit_test(long_prompts),
        cmocka_unit_test(fair),
        cmocka_unit_test(logprobs),
        cmocka_unit_test(short_prompts),
        cmocka_unit_test(leaves_in_prompt),
        cmocka_unit_test(starves_nobody),
        cmocka_unit_test(reuses_to_the_token),
        cmocka_unit_test(unfinished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
