/* all-MiniLM-L6-v2, as the hub has it, against what transformers computes in float32 (tests/data/embed). */
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/mem.h"
#include "convert/open.h"
#include "convert/quantize.h"
#include "support/cached.h"
#include "support/folder.h"

enum { WIDTH = 384, TEXTS = 7, MOST_IDS = 512 };

static json_t *cases;
static char checkpoint[1024];
static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static const char *text_of(size_t i) { return json_string_value(json_object_get(json_array_get(cases, i), "text")); }

static nb_model *open_model(const char *path, bool exact)
{
    nb_model *m;
    nb_model_params p = nb_model_defaults();
    p.exact = exact;
    must(nb_model_open(path, &p, &m, &err));
    assert_int_equal(nb_model_embedding(m), WIDTH);
    return m;
}

static double cosine_distance(const float *a, const json_t *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < WIDTH; i++) {
        double x = (double)a[i], y = json_number_value(json_array_get(b, i));
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    assert_true(fabs(aa - 1) < 1e-6);
    return 1 - ab / sqrt(aa * bb);
}

/* all texts in one call */
static void compare(const char *what, const char *path, bool exact, double limit)
{
    static float out[TEXTS][WIDTH];
    nb_embed_input inputs[TEXTS];
    nb_model *m = open_model(path, exact);
    for (size_t i = 0; i < TEXTS; i++)
        inputs[i] = (nb_embed_input){.text = text_of(i), .bytes = strlen(text_of(i))};
    must(nb_embed(m, inputs, TEXTS, NULL, out[0], NULL, &err));
    double worst = 0;
    for (size_t i = 0; i < TEXTS; i++)
        worst = fmax(worst, cosine_distance(out[i], json_object_get(json_array_get(cases, i), "embedding")));
    printf("%-22s cosine distance %.1e at most\n", what, worst);
    assert_true(worst <= limit);
    nb_model_close(m);
}

static void test_tokens(void **state)
{
    (void)state;
    nb_model *m = open_model(checkpoint, false);
    for (size_t i = 0; i < TEXTS; i++) {
        const json_t *ids = json_object_get(json_array_get(cases, i), "ids");
        int32_t got[MOST_IDS];
        size_t count;
        must(nb_tokenize(m, text_of(i), strlen(text_of(i)), NB_TEXT_ADD_SPECIAL, got, MOST_IDS, &count, &err));
        assert_int_equal(count, json_array_size(ids));
        for (size_t k = 0; k < count; k++)
            assert_int_equal(got[k], json_integer_value(json_array_get(ids, k)));
    }
    nb_model_close(m);
}

static void test_directory(void **state)
{
    (void)state;
    compare("float32, exact", checkpoint, true, 1e-9);
    compare("float32, fast", checkpoint, false, 1e-9);
}

static void test_f16(void **state)
{
    (void)state;
    nb_source *s;
    nb_quantize_result result;
    nb_quantize_params p = nb_quantize_defaults();
    const char *path = nb_folder_path("f16.gguf");
    p.mix = nb_mix_by_name(NB_STR("F16"));
    assert_non_null(p.mix);
    must(nb_source_open(checkpoint, &s, &err));
    must(nb_quantize(s, path, &p, NULL, NULL, &result, &err));
    nb_source_free(s);
    compare("F16, exact", path, true, 1e-6);
    compare("F16, fast", path, false, 1e-6);
    unlink(path);
}

static int set_up(void **state)
{
    json_error_t where;
    nb_cached("models", "all-MiniLM-L6-v2", checkpoint);
    cases = json_load_file(NB_TEST_DATA "/embed/minilm.json", 0, &where);
    return !cases || json_array_size(cases) != TEXTS || nb_folder_make(state);
}

static int tear_down(void **state)
{
    json_decref(cases);
    return nb_folder_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_f16),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
