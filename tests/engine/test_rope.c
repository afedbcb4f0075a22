/* Rotary frequencies against the papers' formulas in float64 (tests/data/rope/rope.json): from the settings, and from the
 * keys that files hold. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "model/model.h"
#include "support/gguf_edit.h"

enum { MOST = 64 };

static json_t *cases;

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static void read_factors(const json_t *rope, const char *key, float *out, const float **where)
{
    const json_t *list = json_object_get(rope, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = (float)json_number_value(json_array_get(list, i));
    *where = list ? out : NULL;
}

static nb_rope_scaling scaling_of(const char *name)
{
    static const char *const names[] = {"none", "linear", "llama3", "yarn", "longrope", "dynamic"};
    for (int i = 0; i < 6; i++)
        if (name && strcmp(name, names[i]) == 0)
            return (nb_rope_scaling)i;
    fail_msg("scaling %s", name ? name : "is not given");
    return NB_ROPE_NONE;
}

static void compare(const json_t *c, const nb_rope *rope)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    const json_t *want = json_object_get(c, "frequencies");
    float got[MOST], magnitude = 0;
    assert_int_equal(rope->dim, (size_t)number(c, "dim"));
    assert_int_equal(json_array_size(want), rope->dim / 2);
    nb_rope_frequencies(rope, (size_t)number(c, "context"), got, &magnitude);
    for (size_t i = 0; i < rope->dim / 2; i++) {
        double w = json_number_value(json_array_get(want, i));
        if (!(fabs((double)got[i] - w) <= 1e-6 * w)) /* exponents are float32, as in the models' reference */
            fail_msg("%s: frequency %zu is %.9g, not %.9g", name, i, (double)got[i], w);
    }
    if (!(fabs((double)magnitude - number(c, "magnitude")) < 2e-7))
        fail_msg("%s: magnitude is %.9g, not %.9g", name, (double)magnitude, number(c, "magnitude"));
}

static void test_settings(void **state)
{
    (void)state;
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *r = json_object_get(c, "rope");
        float factors[2][MOST];
        if (json_object_size(r) == 0)
            continue;
        nb_rope rope = {.dim = (size_t)number(c, "dim"),
                        .base = number(c, "base"),
                        .scaling = scaling_of(json_string_value(json_object_get(r, "scaling"))),
                        .factor = number(r, "factor"),
                        .low_freq = number(r, "low_freq"),
                        .high_freq = number(r, "high_freq"),
                        .beta_fast = number(r, "beta_fast"),
                        .beta_slow = number(r, "beta_slow"),
                        .original_context = number(r, "original_context")};
        read_factors(r, "short", factors[0], &rope.freq_factors);
        read_factors(r, "long", factors[1], &rope.freq_factors_long);
        compare(c, &rope);
        count++;
    }
    assert_int_equal(count, 12);
}

static void put_keys(nb_gguf_writer *w, const void *user)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)user, key, value)
    {
        char name[128];
        snprintf(name, sizeof name, "llama.rope.%s", key);
        if (json_is_string(value))
            nb_gguf_put_str(w, name, nb_str_of(json_string_value(value)));
        else if (json_is_integer(value))
            nb_gguf_put_u32(w, name, (uint32_t)json_integer_value(value));
        else
            nb_gguf_put_f32(w, name, (float)json_number_value(value));
    }
}

static void test_keys(void **state)
{
    (void)state;
    char path[300];
    size_t count = 0;
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/nibble-rope-%d.gguf", base ? base : "/tmp", (int)getpid());
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *keys = json_object_get(c, "keys");
        nb_gguf *g = NULL;
        nb_model_def *m = NULL;
        nb_error err;
        if (!json_is_object(keys))
            continue;
        if (gguf_edit_write(NB_TEST_DATA "/archs/mistral-sliding.gguf", path, put_keys, keys, &err) != NB_OK ||
            nb_gguf_open(path, &g, &err) != NB_OK || nb_model_def_new(g, &m, &err) != NB_OK)
            fail_msg("%s: %s", json_string_value(json_object_get(c, "name")), err.message);
        compare(c, &m->h.rope);
        compare(c, &m->h.rope_local); /* llama's window layers are scaled like the others */
        nb_model_def_free(m);
        nb_gguf_close(g);
        count++;
    }
    unlink(path);
    assert_int_equal(count, 12);
}

/* longrope says its factors by tensors; without them it is refused */
static void test_longrope_without_factors(void **state)
{
    (void)state;
    char path[300];
    const char *base = getenv("TMPDIR");
    nb_gguf *g;
    nb_model_def *m;
    nb_error err;
    json_t *keys = json_pack("{s:s}", "scaling.type", "longrope");
    snprintf(path, sizeof path, "%s/nibble-rope-%d.gguf", base ? base : "/tmp", (int)getpid());
    assert_int_equal(gguf_edit_write(NB_TEST_DATA "/archs/mistral-sliding.gguf", path, put_keys, keys, &err), NB_OK);
    assert_int_equal(nb_gguf_open(path, &g, &err), NB_OK);
    assert_int_equal(nb_model_def_new(g, &m, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "rope_factors_short"));
    nb_gguf_close(g);
    json_decref(keys);
    unlink(path);
}

/* cos and sin of position times frequency, the product rounded to float32 as in the models' reference */
static void test_angles(void **state)
{
    (void)state;
    static const float frequency[] = {1, 0.1f, 0.00123f};
    static const int64_t positions[] = {0, 1, 511, 131071};
    for (size_t p = 0; p < 4; p++) {
        float got[6];
        nb_rope_angles(frequency, 1.5f, 3, positions[p], got);
        for (size_t i = 0; i < 3; i++) {
            double angle = (double)((float)positions[p] * frequency[i]);
            assert_true(fabs((double)got[2 * i] - 1.5 * cos(angle)) < 2e-7);
            assert_true(fabs((double)got[2 * i + 1] - 1.5 * sin(angle)) < 2e-7);
        }
    }
}

static int load_cases(void **state)
{
    (void)state;
    cases = json_load_file(NB_TEST_DATA "/rope/rope.json", 0, NULL);
    return cases ? 0 : -1;
}

static int free_cases(void **state)
{
    (void)state;
    json_decref(cases);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_longrope_without_factors),
        cmocka_unit_test(test_angles),
    };
    return cmocka_run_group_tests(tests, load_cases, free_cases);
}
