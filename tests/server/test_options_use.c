/* Durations as Go writes them, and options as what a reply is sampled by. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/options_use.h"

static const int64_t second = 1000000000;

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"5m", 300 * second},
                {"1h30m", 5400 * second},
                {"300ms", 300000000},
                {"1.5s", 1500000000},
                {"2us", 2000},
                {"2µs", 2000},
                {"7ns", 7},
                {"0", 0},
                {"0s", 0},
                {"10", 10 * second},
                {"+3s", 3 * second},
                {"-1", -1},
                {"-1s", -1},
                {"-5m", -1},
                {"1000000h", 3600000000 * second},
                {"10000000h", -1}}; /* beyond what 64 bits hold: for ever */
    static const char *const bad[] = {"",   "m", "5x",    "5m3", "--5", "1e3s", "5 m",
                                      "s5", ".", "0x10s", "inf", "nan", "5mm "};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t ns = 77;
        if (!nb_duration_parse(nb_str_of(good[i].text), &ns) || ns != good[i].ns)
            fail_msg("%s: %lld", good[i].text, (long long)ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t ns;
        if (nb_duration_parse(nb_str_of(bad[i]), &ns))
            fail_msg("%s: %lld", bad[i], (long long)ns);
    }
    assert_true(nb_duration_seconds(0) == 0 && nb_duration_seconds(2.5) == 2500000000);
    assert_true(nb_duration_seconds(-3) == -1 && nb_duration_seconds(1e300) == -1);
}

static void options(void **state)
{
    nb_arena arena = {0};
    nb_error err;
    (void)state;
    nb_job_params p = nb_job_defaults();
    assert_int_equal(nb_use_options(NULL, NULL, NB_STR(""), &arena, &p, &err), NB_OK);
    const nb_sampler_params *s = &p.task.sampling;
    assert_true(s->top_k == 40 && s->top_p == 0.9F && s->temperature == 0.8F && s->repeat_penalty == 1.0F);
    assert_true(s->seed == NB_SEED_RANDOM && p.task.max_tokens == -1 && p.task.keep == 4 && p.task.stop_count == 0);
    nb_str json = NB_STR("{\"seed\":7,\"top_k\":3,\"top_p\":0.5,\"min_p\":0.25,\"temperature\":0,\"num_predict\":9,"
                         "\"num_ctx\":128,\"num_keep\":2,\"stop\":[\"a\",\"bc\"],\"repeat_last_n\":5,"
                         "\"repeat_penalty\":1.5,\"presence_penalty\":0.5,\"frequency_penalty\":-0.5}");
    assert_int_equal(nb_use_options(NULL, NULL, json, &arena, &p, &err), NB_OK);
    assert_true(s->seed == 7 && s->top_k == 3 && s->top_p == 0.5F && s->min_p == 0.25F && s->temperature == 0);
    assert_true(s->repeat_last_n == 5 && s->repeat_penalty == 1.5F && s->presence_penalty == 0.5F &&
                s->frequency_penalty == -0.5F);
    assert_true(p.task.max_tokens == 9 && p.load.context == 128 && p.task.keep == 2 && p.task.stop_count == 2);
    assert_string_equal(p.task.stops[1], "bc");
    static const char *const wrong[] = {"{\"seed\":\"x\"}", "{\"stop\":\"x\"}", "{\"stop\":[7]}", "{\"top_p\":[]}",
                                        "{\"num_ctx\":1e300}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(nb_use_options(NULL, NULL, nb_str_of(wrong[i]), &arena, &p, &err), NB_ERR_ARGUMENT);
    nb_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(durations), cmocka_unit_test(options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
