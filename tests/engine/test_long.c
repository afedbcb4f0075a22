/* Texts beyond the length that a model was trained for, against transformers: in one call and in calls as generate makes them;
 * what is refused, and what overrides it. tests/cpu/test_archs.c runs the same models in other divisions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "support/logits_file.h"

#define ARCHS NB_TEST_DATA "/archs/"

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static nb_model *open_scaled(const char *name, const nb_rope_params *rope)
{
    char path[512];
    nb_model *m;
    nb_model_params p = nb_model_defaults();
    p.threads = 2;
    p.exact = true;
    p.rope = rope;
    snprintf(path, sizeof path, ARCHS "%s.gguf", name);
    must(nb_model_open(path, &p, &m, &err));
    return m;
}

static void read_logits(const char *name, const char *end, nb_logits_file *f)
{
    char path[512];
    snprintf(path, sizeof path, ARCHS "%s.%s.bin", name, end);
    assert_true(nb_logits_read(path, f));
}

/* evaluates ids [from, to) and gives the largest NMSE of their logits */
static double eval(nb_session *s, const nb_logits_file *f, size_t from, size_t to)
{
    double worst = 0;
    must(nb_session_eval(s, f->ids + from, to - from, NB_LOGITS_ALL, &err));
    for (size_t i = from; i < to; i++) {
        double e = nb_nmse(nb_session_row(s, i - from), nb_logits_at(f, 0, (int32_t)i), (size_t)f->vocabulary);
        worst = e > worst || isnan(e) ? e : worst;
    }
    return worst;
}

static nb_session *open_session(nb_model *m, size_t batch)
{
    nb_session *s;
    nb_session_params p = {.context = 256, .batch = batch, .outputs = batch, .kv_type = "f32"};
    must(nb_session_open(m, &p, &s, &err));
    return s;
}

/* the calls that tools/arch_shapes.json tells transformers to make: over the original length of 64 and on */
static const size_t ends[] = {40, 60, 64, 65, 66, 90, 91, 150, 256};

static void check_steps(const char *name)
{
    nb_logits_file f;
    nb_model *m = open_scaled(name, NULL);
    read_logits(name, "steps", &f);
    nb_session *s = open_session(m, 256);
    for (size_t i = 0, at = 0; i < sizeof ends / sizeof *ends; at = ends[i++]) {
        double e = eval(s, &f, at, ends[i]);
        printf("%-16s to %3zu: NMSE %.2e\n", name, ends[i], e);
        assert_true(e <= 1e-10);
    }
    nb_session_close(s);
    nb_logits_free(&f);
    /* and the whole text in one call, divided within: not by the calls' rule, but by the text's */
    read_logits(name, "logits", &f);
    s = open_session(m, 256);
    assert_true(eval(s, &f, 0, 256) <= 1e-10);
    /* going back and on is the same text again, whatever was held */
    must(nb_session_rewind(s, 30, &err));
    assert_true(eval(s, &f, 30, 256) <= 1e-10);
    nb_session_close(s);
    nb_logits_free(&f);
    nb_model_close(m);
}

static void test_dynamic(void **state)
{
    (void)state;
    check_steps("long-dynamic");
}

static void test_longrope(void **state)
{
    (void)state;
    check_steps("long-longrope");
}

/* a prompt after a long one is computed as if nothing had been before */
static void test_short_after_long(void **state)
{
    (void)state;
    static const char *const names[] = {"long-dynamic", "long-longrope"};
    for (size_t i = 0; i < 2; i++) {
        nb_logits_file f;
        nb_model *m = open_scaled(names[i], NULL);
        read_logits(names[i], "steps", &f); /* its first call ends at 40 */
        nb_session *s = open_session(m, 256);
        must(nb_session_eval(s, f.ids, 200, NB_LOGITS_NONE, &err));
        must(nb_session_rewind(s, 10, &err));
        assert_true(eval(s, &f, 10, 40) <= 1e-10);
        nb_session_close(s);
        nb_logits_free(&f);
        nb_model_close(m);
    }
}

static double whole(const char *name, const nb_rope_params *rope, bool allow)
{
    nb_logits_file f;
    nb_session *s;
    nb_model *m = open_scaled(name, rope);
    nb_session_params p = {.context = 256, .batch = 256, .outputs = 256, .kv_type = "f32", .allow_long = allow};
    read_logits(name, "logits", &f);
    must(nb_session_open(m, &p, &s, &err));
    double e = eval(s, &f, 0, 256);
    nb_session_close(s);
    nb_logits_free(&f);
    nb_model_close(m);
    return e;
}

/* the scaling that a file has, taken away and given by the caller */
static void test_overrides(void **state)
{
    (void)state;
    nb_rope_params none = {.scaling = "none"}, factor = {.factor = 4, .original_context = 64},
                   linear = {.scaling = "linear", .factor = 4}, wrong = {.scaling = "linear", .factor = 3},
                   yarn = {.scaling = "yarn", .factor = 4, .original_context = 64},
                   dynamic = {.scaling = "dynamic", .factor = 4}, base = {.base = 20000};
    assert_true(whole("long-linear", &linear, false) <= 1e-10);
    assert_true(whole("long-linear", &factor, false) <= 1e-10);
    assert_true(whole("long-linear", &wrong, true) > 1e-4);
    assert_true(whole("long-linear", &none, true) > 1e-4);
    assert_true(whole("long-linear", &base, true) > 1e-4);
    assert_true(whole("long-yarn", &yarn, false) <= 1e-10);
    assert_true(whole("long-yarn", &linear, true) > 1e-4);
    assert_true(whole("long-dynamic", &dynamic, false) <= 1e-10);
}

static void test_wrong_overrides(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        nb_rope_params rope;
        const char *says;
    } cases[] = {
        {"long-linear", {.scaling = "cubic"}, "none, linear, yarn, dynamic"},
        {"long-linear", {.factor = 0.5}, "1 or more"},
        {"long-linear", {.factor = -1}, "above 0"},
        {"long-linear", {.base = NAN}, "above 0"},
        {"long-linear", {.base = 1}, "more than 1"},
        {"long-longrope", {.scaling = "yarn", .factor = 4}, "longrope"},
        {"gpt2", {.factor = 4}, "no rotary positions"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        nb_model *m;
        nb_model_params p = nb_model_defaults();
        p.rope = &cases[i].rope;
        snprintf(path, sizeof path, ARCHS "%s.gguf", cases[i].model);
        assert_int_not_equal(nb_model_open(path, &p, &m, &err), NB_OK);
        if (!strstr(err.message, cases[i].says))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.message, cases[i].says);
    }
}

/* what a model takes, by its file and by the caller; more only when asked for, and never where positions are learned */
static void test_limits(void **state)
{
    (void)state;
    nb_rope_params yarn = {.scaling = "yarn", .factor = 4};
    static const struct {
        const char *model;
        size_t most, scaled; /* scaled 0: cannot be */
    } cases[] = {{"qwen2", 512, 2048}, {"long-dynamic", 256, 256}, {"long-yarn-mscale", 256, 256}, {"gpt2", 128, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nb_session *s;
        nb_model *m = open_scaled(cases[i].model, NULL);
        nb_session_params p = {.context = cases[i].most + 1, .batch = 8};
        assert_int_equal(nb_model_context(m), cases[i].most);
        assert_int_equal(nb_session_open(m, &p, &s, &err), NB_ERR_LIMIT);
        assert_int_equal(strstr(err.message, "--allow-long-context") != NULL, cases[i].scaled != 0);
        p.allow_long = true;
        assert_int_equal(nb_session_open(m, &p, &s, &err), cases[i].scaled ? NB_OK : NB_ERR_LIMIT);
        nb_session_close(s);
        nb_model_close(m);
        if (!cases[i].scaled)
            continue;
        m = open_scaled(cases[i].model, &yarn);
        assert_int_equal(nb_model_context(m), cases[i].scaled);
        p = (nb_session_params){.context = cases[i].scaled, .batch = 8};
        must(nb_session_open(m, &p, &s, &err));
        nb_session_close(s);
        nb_model_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dynamic),          cmocka_unit_test(test_longrope),
        cmocka_unit_test(test_short_after_long), cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_wrong_overrides),  cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
