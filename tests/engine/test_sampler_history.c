/* Logit bias, penalties and DRY: cases worked by hand, and random histories against the plain way. */
#include "engine/sampler_support.h"

static void bias_is_added(void **unused)
{
    (void)unused;
    float x[] = {1, 2, 3, INFINITY};
    nb_logit_bias bias[] = {{0, 2.5f}, {1, -INFINITY}, {3, -INFINITY}, {0, 0.25f}};
    nb_sampler_params p = off();
    p.bias = bias;
    p.bias_count = 4;
    nb_sampler *s = make(&p, 4);
    bias[0].bias = 100; /* the sampler has its own copy */
    start(s, x);
    nb_sampler_bias(s);
    assert_true(s->x[0] == 3.75f && s->x[1] == -INFINITY && s->x[2] == 3 && isnan(s->x[3]));
    s->p.temperature = 0;
    assert_int_equal(nb_sampler_pick(s, x) != 1, 1);
    nb_sampler_free(s);
}

static void penalties_by_hand(void **unused)
{
    (void)unused;
    float x[] = {2, -2, 0, 4, 5};
    nb_sampler_params p = off();
    p.repeat_penalty = 2;
    p.frequency_penalty = 0.5f;
    p.presence_penalty = 0.25f;
    p.repeat_last_n = 4;
    nb_sampler *s = make(&p, 5);
    const int32_t history[] = {4, 4, 0, 1, 1, 3}; /* the first two are too long ago */
    for (int i = 0; i < 6; i++)
        nb_sampler_accept(s, history[i]);
    start(s, x);
    nb_sampler_stage(s, STAGE_PENALTIES);
    const float expected[] = {2.0f / 2 - 0.75f, -2.0f * 2 - 1.25f, 0, 4.0f / 2 - 0.75f, 5};
    for (int i = 0; i < 5; i++)
        assert_true(s->x[i] == expected[i]);
    nb_sampler_reset(s);
    start(s, x);
    nb_sampler_stage(s, STAGE_PENALTIES);
    assert_memory_equal(s->x, x, sizeof x);
    nb_sampler_free(s);
}

static void penalties_on_random_histories(void **unused)
{
    (void)unused;
    enum { N = 50 };
    static float x[N];
    for (int round = 0; round < 300; round++) {
        fill(x, N, 0);
        nb_sampler_params p = off();
        p.repeat_last_n = any(4) ? 1 + (int)any(60) : -1;
        p.repeat_penalty = 1.25f;
        p.frequency_penalty = 0.1f;
        p.presence_penalty = any(2) ? 0 : -0.5f;
        p.top_k = 20;
        p.order = any(2) ? "penalties;top_k" : "top_k;penalties"; /* on all, and on what is left */
        nb_sampler *s = make(&p, N);
        int32_t history[300];
        int length = (int)any(300);
        for (int i = 0; i < length; i++)
            nb_sampler_accept(s, history[i] = (int32_t)any(1 + any(N)));
        start(s, x);
        if (s->stages[0] == STAGE_TOP_K)
            nb_sampler_stage(s, STAGE_TOP_K);
        nb_sampler_stage(s, STAGE_PENALTIES);
        for (size_t i = 0; i < s->n; i++) {
            int id = s->whole ? (int)i : s->id[i], count = 0;
            for (int j = 0; j < length; j++)
                count += history[j] == id && (p.repeat_last_n < 0 || j >= length - p.repeat_last_n);
            float e = x[id];
            if (count > 0) {
                e = e > 0 ? e / p.repeat_penalty : e * p.repeat_penalty;
                e -= (float)count * p.frequency_penalty + p.presence_penalty;
            }
            assert_true(s->x[i] == e);
        }
        nb_sampler_free(s);
    }
}

static void dry_by_hand(void **unused)
{
    (void)unused;
    enum { Y = 3 };
    float x[] = {0, 0, 0, 0};
    nb_sampler_params p = dry_params();
    p.dry_allowed_length = 1;
    nb_sampler *s = make(&p, 4);
    const int32_t history[] = {A, B, C, C, B, C, Y, A, B, C};
    for (int i = 0; i < 10; i++)
        nb_sampler_accept(s, history[i]);
    start(s, x);
    nb_sampler_stage(s, STAGE_DRY);
    /* c would repeat 3 tokens (a b c c), b 1 (c b), y 2 (b c y): 0.5 * 2^(length - 1) */
    assert_true(s->x[A] == 0 && s->x[B] == -0.5f && s->x[C] == -2 && s->x[Y] == -1);
    s->dry.breaks[B] = 1; /* now the repetition begins after b: c alone, and b itself is free */
    start(s, x);
    nb_sampler_stage(s, STAGE_DRY);
    assert_true(s->x[A] == 0 && s->x[B] == 0 && s->x[C] == -0.5f && s->x[Y] == -0.5f);
    nb_sampler_reset(s);
    start(s, x);
    nb_sampler_stage(s, STAGE_DRY);
    assert_memory_equal(s->x, x, sizeof x);
    nb_sampler_free(s);
}

/* Quadratic: for each earlier place, how far back it agrees with the end. */
static void plain_dry(const int32_t *h, int n, const nb_sampler_params *p, const unsigned char *breaks, int vocabulary,
                      double *charge)
{
    int window = p->dry_penalty_last_n < n ? p->dry_penalty_last_n : n, limit = window, longest[64];
    for (int i = 0; i < window; i++)
        if (breaks[h[n - 1 - i]]) {
            limit = i;
            break;
        }
    for (int id = 0; id < vocabulary; id++) {
        longest[id] = -1;
        charge[id] = 0;
    }
    if (window <= p->dry_allowed_length || limit < p->dry_allowed_length)
        return;
    for (int end = n - window; end < n - 1; end++) {
        int same = 0;
        while (same < limit && end - same >= n - window && h[end - same] == h[n - 1 - same])
            same++;
        int next = h[end + 1];
        if (same >= p->dry_allowed_length && same > longest[next])
            longest[next] = same;
    }
    for (int id = 0; id < vocabulary; id++)
        if (longest[id] >= 0 && !breaks[id])
            charge[id] = (double)p->dry_multiplier * pow((double)p->dry_base, longest[id] - p->dry_allowed_length);
}

static void dry_on_random_histories(void **unused)
{
    (void)unused;
    enum { N = 64 };
    float x[N] = {0};
    for (int round = 0; round < 3000; round++) {
        nb_sampler_params p = dry_params();
        p.dry_allowed_length = (int)any(4);
        p.dry_penalty_last_n = 1 + (int)any(100);
        p.dry_base = any(2) ? 1.75f : 1;
        nb_sampler *s = make(&p, N);
        for (int i = 0; i < N; i++)
            s->dry.breaks[i] = any(8) == 0 && i > 1;
        int32_t history[200];
        int length = (int)any(200), letters = 1 + (int)any(6), stretch = 1 + (int)any(20);
        for (int i = 0; i < length; i++) {
            history[i] = i < stretch || any(10) == 0 ? (int32_t)any((uint64_t)letters) : history[i - stretch];
            nb_sampler_accept(s, history[i]);
        }
        double charge[N];
        plain_dry(history, length, &p, s->dry.breaks, N, charge);
        start(s, x);
        nb_sampler_stage(s, STAGE_DRY);
        for (int i = 0; i < N; i++)
            assert_true(near((double)s->x[i], -charge[i], 1e-6));
        nb_sampler_free(s);
    }
}

static void dry_does_not_overflow(void **unused)
{
    (void)unused;
    float x[] = {1, 2};
    nb_sampler_params p = dry_params();
    p.dry_penalty_last_n = -1;
    nb_sampler *s = make(&p, 2);
    for (int i = 0; i < 200000; i++)
        nb_sampler_accept(s, 0);
    start(s, x);
    nb_sampler_stage(s, STAGE_DRY);
    assert_true(isfinite(s->x[0]) && s->x[0] < -1e37f && s->x[1] == 2);
    nb_sampler_free(s);
}

/* "a--b" may begin in the tokens "a", "xa" and "a-", and goes on as the tokenizer cuts its rest. */
static void breakers_are_found_in_tokens(void **unused)
{
    (void)unused;
    nb_tokenizer *tokenizer = make_tokenizer();
    nb_error err;
    nb_sampler_params p = dry_params();
    p.dry_allowed_length = 1;
    p.dry_breakers = (const char *const[]){"\n", "a--b", ""};
    p.dry_breaker_count = 3;
    nb_sampler *s;
    if (nb_sampler_new(&p, TOKENS, tokenizer, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_tokenizer_free(tokenizer); /* not needed any more */
    for (int id = 0; id < TOKENS; id++)
        assert_int_equal(s->dry.breaks[id], id == NEWLINE || id == C_NEWLINE || id == WHOLE);
    static const struct {
        int32_t head, tail[2];
    } expected[] = {{A, {DASHES, B}}, {X_A, {DASHES, B}}, {A_DASH, {DASH, B}}};
    assert_int_equal(s->dry.breaker_count, 3);
    for (size_t i = 0; i < 3; i++) {
        const breaker *b = &s->dry.breakers[i];
        assert_true(b->head == expected[i].head && b->tail_count == 2);
        assert_memory_equal(s->dry.tails + b->tail, expected[i].tail, sizeof expected[i].tail);
    }
    float x[TOKENS] = {0};
    const int32_t history[2][9] = {{B, C, C, X, X_A, DASHES, B, C, C}, {B, C, C, X, X_A, DASHES, DASH, B, C}};
    const float charge[2] = {-1, -1}; /* 3 tokens repeat, but only 2 follow the breaker; 2 repeat, and none broke */
    const int32_t charged[2] = {X, C};
    for (int i = 0; i < 2; i++) {
        nb_sampler_reset(s);
        for (int j = 0; j < 9; j++)
            nb_sampler_accept(s, history[i][j]);
        start(s, x);
        nb_sampler_stage(s, STAGE_DRY);
        assert_true(s->x[charged[i]] == charge[i]);
    }
    nb_sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bias_is_added),
        cmocka_unit_test(penalties_by_hand),
        cmocka_unit_test(penalties_on_random_histories),
        cmocka_unit_test(dry_by_hand),
        cmocka_unit_test(dry_on_random_histories),
        cmocka_unit_test(dry_does_not_overflow),
        cmocka_unit_test(breakers_are_found_in_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
