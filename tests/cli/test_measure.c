/* The commands that measure, as a user meets them, on tiny models: imatrix, eval of several models, report. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "format/imatrix.h"
#include "support/folder.h"
#include "support/markup.h"

#define QWEN NB_TEST_DATA "/archs/qwen2.gguf"
#define TEXT " --text " NB_TEST_DATA "/measure/text.txt -c 32 "
#define TYPE(name) NB_TEST_DATA "/types/" name ".gguf "

/* runs `nibble ARGUMENTS` in the test's folder; out: what it prints on both streams */
static int run(char out[8192], const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd %s && %s %s 2>&1 </dev/null", nb_folder, NB_TEST_BINARY, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    out[fread(out, 1, 8191, pipe)] = '\0';
    return WEXITSTATUS(pclose(pipe));
}

static void must(char out[8192], const char *arguments)
{
    if (run(out, arguments) != 0)
        fail_msg("%s: %s", arguments, out);
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void remove_file(const char *name) { assert_int_equal(unlink(nb_folder_path(name)), 0); }

static void imatrix(void **state)
{
    (void)state;
    char out[8192];
    nb_imatrix *m;
    must(out, "imatrix " QWEN TEXT "--chunks 2 -o a.gguf");
    expect(out, "a.gguf: 21 tensors, 2 chunks of 32 tokens");
    must(out, "imatrix " QWEN TEXT "--chunks 2 -o a.dat --format binary");
    must(out, "imatrix --in-file a.gguf --in-file a.dat -c 32 -o both.gguf");
    expect(out, "both.gguf: 21 tensors, 4 chunks of 32 tokens");
    assert_int_equal(nb_imatrix_open(nb_folder_path("both.gguf"), &m, NULL), NB_OK);
    assert_true(nb_imatrix_find(m, NB_STR("blk.0.ffn_up.weight"))->count[0] == 128);
    nb_imatrix_free(m);
    assert_int_equal(run(out, "imatrix " QWEN), 2);
    expect(out, "--text FILE");
    assert_int_equal(run(out, "imatrix " QWEN TEXT "--format json"), 2);
    assert_int_equal(run(out, "imatrix --in-file " QWEN), 1);
    expect(out, "not an importance matrix");
    remove_file("a.gguf");
    remove_file("a.dat");
    remove_file("both.gguf");
}

static void eval(void **state)
{
    (void)state;
    char out[8192];
    must(out, "eval " TYPE("Q8_0") TYPE("Q4_0") TEXT "--chunks 2 --base " TYPE("F16"));
    expect(out, "Q8_0.gguf\nperplexity");
    expect(out, "standard errors, token by token");
    expect(out, "of the top 10");
    must(out, "eval " TYPE("F16") TEXT "--chunks 2 --save-logits base.logits");
    must(out, "eval " TYPE("Q4_0") "--base base.logits");
    expect(out, "KL divergence");
    must(out, "eval " TYPE("Q8_0") TYPE("Q4_0") "--base base.logits --json 2>/dev/null");
    json_t *root = json_loads(strchr(out, '{'), JSON_DISABLE_EOF_CHECK, NULL);
    json_t *models = json_object_get(root, "models");
    assert_int_equal(json_array_size(models), 2);
    json_t *q8 = json_array_get(models, 0), *q4 = json_array_get(models, 1);
    double more = json_real_value(json_object_get(q4, "kl_mean")) - json_real_value(json_object_get(q8, "kl_mean"));
    double said = json_real_value(json_object_get(q4, "kl_more"));
    assert_true(more > 0 && said - more < 1e-9 && more - said < 1e-9);
    assert_true(json_real_value(json_object_get(q4, "kl_more_error")) > 0);
    json_decref(root);
    assert_int_equal(run(out, "eval " TYPE("Q4_0")), 2);
    assert_int_equal(run(out, "eval " QWEN " --base base.logits"), 1);
    expect(out, "vocabularies of");
    remove_file("base.logits");
}

static void report(void **state)
{
    (void)state;
    char out[8192];
    nb_buf page = {0};
    must(out, "report " TYPE("F16") TYPE("Q8_0") TYPE("Q4_0") TEXT "--chunks 2 -o page.html");
    assert_int_equal(nb_file_read(nb_folder_path("page.html"), 1 << 22, &page, NULL), NB_OK);
    nb_markup_check(page.data);
    expect(page.data, "<pre>nibble report " TYPE("F16"));
    expect(page.data, "--chunks 2 -o page.html</pre>");
    nb_buf_free(&page);
    remove_file("page.html");
    assert_int_equal(run(out, "report " TYPE("F16") "-o page.html"), 2);
    assert_int_equal(run(out, "report " TYPE("F16") TYPE("Q4_0") "--tensor nothing -o page.html"), 1);
    expect(out, "no matrix 'nothing'");
    assert_int_equal(access(nb_folder_path("page.html"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imatrix),
        cmocka_unit_test(eval),
        cmocka_unit_test(report),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
