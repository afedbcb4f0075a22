/* Tiny seeded models of each architecture against what transformers computes from them in float32. */
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/cpu.h"
#include "support/archs.h"
#include "support/logits_file.h"
#include "support/runner.h"

/* Rows of arch.def whose vectors are not there yet: none. */
static const char *const without[] = {NULL};

static nb_archs_list models;

static void compare(const char *name, runner_options o, size_t chunk, double limit)
{
    char path[512];
    nb_logits_file want;
    runner r;
    snprintf(path, sizeof path, "%s/archs/%s.logits.bin", NB_TEST_DATA, name);
    assert_true(nb_logits_read(path, &want));
    snprintf(path, sizeof path, "%s/archs/%s.gguf", NB_TEST_DATA, name);
    runner_open(&r, path, o);
    if (!r.model->h.causal) /* hidden states, of whole texts */
        chunk = (size_t)want.tokens;
    assert_int_equal(r.width, want.vocabulary);
    size_t numbers = (size_t)want.tokens * (size_t)want.vocabulary;
    float *got = malloc(numbers * sizeof *got);
    assert_non_null(got);
    for (int32_t s = 0; s < want.sequences; s++) {
        runner_logits(&r, nb_logits_ids(&want, s), (size_t)want.tokens, chunk, got);
        double nmse = nb_nmse(got, nb_logits_at(&want, s, 0), numbers);
        printf("%-32s %-5s %-7s chunk %3zu: NMSE %.2e\n", name, o.exact ? "exact" : "fast",
               nb_cpu_level_name(nb_cpu_current()), chunk, nmse); /* tools/make-models-page reads this */
        assert_true(nmse <= limit);
    }
    free(got);
    nb_logits_free(&want);
    runner_close(&r);
}

static bool excused(const char *arch)
{
    size_t i = 0;
    while (without[i] && strcmp(without[i], arch) != 0)
        i++;
    return without[i] != NULL;
}

/* a row of arch.def has a model among them */
static void test_rows(void **state)
{
    (void)state;
    bool seen[256] = {false};
    assert_true(nb_arch_count() <= sizeof seen);
    for (size_t i = 0; i < models.count; i++) {
        char path[512];
        nb_error err;
        nb_gguf *g;
        nb_str name = {0};
        snprintf(path, sizeof path, "%s/archs/%s.gguf", NB_TEST_DATA, models.names[i]);
        if (nb_gguf_open(path, &g, &err) != NB_OK)
            fail_msg("%s", err.message);
        assert_int_equal(nb_gguf_get_str(g, "general.architecture", &name, &err), NB_OK);
        for (size_t a = 0; a < nb_arch_count(); a++)
            seen[a] |= nb_str_eqz(name, nb_arch_at(a)->name);
        nb_gguf_close(g);
    }
    for (size_t a = 0; a < nb_arch_count(); a++)
        if (seen[a] == excused(nb_arch_at(a)->name))
            fail_msg("%s: %s", nb_arch_at(a)->name,
                     seen[a] ? "has vectors: take it off the list"
                             : "no NAME.gguf with NAME.logits.bin in tests/data/archs");
}

/* docs/models.md is what tools/make-models-page makes of the rows and the models that are here now */
static void test_page(void **state)
{
    (void)state;
    static char page[1 << 18];
    size_t rows = 0, checked = 0;
    FILE *f = fopen(NB_TEST_DATA "/../../docs/models.md", "rb");
    assert_non_null(f);
    size_t bytes = fread(page, 1, sizeof page - 1, f);
    fclose(f);
    assert_true(bytes > 0 && bytes < sizeof page - 1);
    for (size_t a = 0; a < nb_arch_count(); a++) {
        char line[1024];
        snprintf(line, sizeof line, "\n| `%s` | %s |\n", nb_arch_at(a)->name, nb_arch_known(a));
        if (!strstr(page, line))
            fail_msg("docs/models.md has no line%srun tools/make-models-page", line);
    }
    for (size_t i = 0; i < models.count; i++) {
        char line[160];
        snprintf(line, sizeof line, "\n| %s | `", models.names[i]);
        if (!strstr(page, line))
            fail_msg("docs/models.md does not have %s; run tools/make-models-page", models.names[i]);
    }
    for (const char *at = strstr(page, "\n| `"); at; at = strstr(at + 1, "\n| `"))
        rows++;
    for (const char *at = strstr(page, "` | exact "); at; at = strstr(at + 1, "` | exact "))
        checked++;
    assert_int_equal(rows, nb_arch_count());
    assert_int_equal(checked, models.count);
}

static void test_exact(void **state)
{
    (void)state;
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (size_t i = 0; i < models.count; i++)
            compare(models.names[i], (runner_options){.exact = true, .threads = 1, .kv = NB_TYPE_F32}, 512, 1e-10);
    }
}

/* one token at a time, through the cache, the window's ring included */
static void test_exact_stepwise(void **state)
{
    (void)state;
    for (size_t i = 0; i < models.count; i++)
        compare(models.names[i], (runner_options){.exact = true, .threads = 2, .kv = NB_TYPE_F32}, 1, 1e-10);
}

/* The fast mode: most of these weights are F32 and BF16, so only the cache's type and the exponential differ; at the last
 * level what BF16 weights are multiplied by is rounded to BF16, and to 8 bits what MXFP4 is. mixtral-split and
 * deepseek-v3 have a token for which two experts, or groups of them, are nearly as likely: which it gets may change so. */
static double fast_limit(const char *name, int level)
{
    if (level == NB_CPU_BF16 && (strcmp(name, "mixtral-split") == 0 || strcmp(name, "deepseek-v3") == 0))
        return 5e-2;
    return level == NB_CPU_BF16 || strstr(name, "mxfp4") ? 1e-3 : 1e-5;
}

static void test_fast(void **state)
{
    (void)state;
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (size_t i = 0; i < models.count; i++)
            compare(models.names[i], (runner_options){.repack = true, .threads = 2, .kv = NB_TYPE_F16}, 7,
                    fast_limit(models.names[i], level));
    }
}

int main(void)
{
    nb_archs_find(NB_TEST_DATA, NB_TEST_DATA "/archs", ".gguf", &models);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),           cmocka_unit_test(test_page), cmocka_unit_test(test_exact),
        cmocka_unit_test(test_exact_stepwise), cmocka_unit_test(test_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
