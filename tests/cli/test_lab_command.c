/* `nibble lab` as a user meets it. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "support/folder.h"
#include "support/lab.h"

#define MODEL " --model " NB_TEST_DATA "/types/F16.gguf"

static char out[1 << 20];

static int run(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd %s && %s %s 2>&1 </dev/null", nb_folder, NB_TEST_BINARY, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    out[fread(out, 1, sizeof out - 1, pipe)] = '\0';
    return WEXITSTATUS(pclose(pipe));
}

static void expect(int code, const char *arguments, const char *part)
{
    int got = run(arguments);
    if (got != code || !strstr(out, part))
        fail_msg("%s: exit %d, '%s' is not in:\n%s", arguments, got, part, out);
}

static void list(void **state)
{
    (void)state;
    assert_int_equal(run("lab"), 0);
    const char *at = out;
    for (const nb_lab_topic *t = nb_lab_topics; t->name; t++) { /* in reading order */
        at = strstr(at, t->name);
        assert_non_null(at);
        assert_non_null(strstr(at, t->summary));
    }
    nb_lab_check_columns(out);
    expect(0, "lab --json", "{\"topics\":[{\"name\":\"dtypes\",");
}

static void usage(void **state)
{
    (void)state;
    expect(2, "lab dtype", "did you mean 'dtypes'?");
    expect(2, "lab xyzzy", "'nibble lab' lists them");
    expect(2, "lab dtypes -o a.png", "ends in .svg or .html");
    expect(2, "lab dtypes --nosuch", "--nosuch");
    expect(2, "lab --json dtypes", "name the topic first");
    expect(1, "lab dtypes 0.1x", "'0.1x' is not a number");
    expect(1, "lab dtypes -o nowhere/a.svg" MODEL, "nowhere/a.svg");
    expect(0, "lab dtypes --help", "--format NAME");
}

static void pictures(void **state)
{
    (void)state;
    nb_buf file = {0};
    expect(0, "lab dtypes 1.5 -2.5" MODEL " -o a.svg", "The number -2.5");
    expect(0, "lab dtypes --json -o b.html" MODEL, "{\"topic\":\"dtypes\"");
    json_t *root = json_loads(out, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(root);
    json_decref(root);
    assert_int_equal(nb_file_read(nb_folder_path("a.svg"), 1 << 20, &file, NULL), NB_OK);
    nb_markup_check(file.data);
    assert_int_equal(strncmp(file.data, "<svg xmlns=", 11), 0);
    nb_buf_clear(&file);
    assert_int_equal(nb_file_read(nb_folder_path("b.html"), 1 << 20, &file, NULL), NB_OK);
    nb_markup_check(file.data);
    nb_buf_free(&file);
    assert_int_equal(unlink(nb_folder_path("a.svg")), 0);
    assert_int_equal(unlink(nb_folder_path("b.html")), 0);
}

/* Without a model and without a cache, topics say how to get one, or do without. */
static void no_models(void **state)
{
    (void)state;
    assert_int_equal(setenv("NIBBLE_CACHE", nb_folder, 1), 0);
    expect(0, "lab dtypes", "tools/fetch-model");
    unsetenv("NIBBLE_CACHE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(list), cmocka_unit_test(usage), cmocka_unit_test(pictures),
                                       cmocka_unit_test(no_models)};
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
