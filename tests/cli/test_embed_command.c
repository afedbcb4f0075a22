/* nibble embed: texts of the command line, a file and standard input, as lines and as JSON, against sentence-transformers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hf/hf_json.h"
#include "support/command.h"
#include "support/folder.h"

#define MODEL "'" NB_TEST_DATA "/hf/bert-cls'"
#define RANKER "'" NB_TEST_DATA "/hf/xlm-roberta-ranker'"

enum { WIDTH = 40 };

static nb_error err;

static char *run(int expected, const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && '%s' %s 2>&1", nb_folder, NB_TEST_BINARY, arguments);
    return run_command(command, arguments, expected);
}

static void put_file(const char *name, const char *text)
{
    FILE *f = fopen(nb_folder_path(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void open_json(const char *folder, const char *name, nb_tree *tree)
{
    if (nb_tree_open_any(folder, name, 1 << 20, false, tree, &err) != NB_OK)
        fail_msg("%s", err.message);
}

/* what the oracle gives for a text without a named prompt */
static const nb_node *wanted(const nb_tree *cases, const char *text)
{
    for (const nb_node *n = cases->root->list.first; n; n = n->next)
        if (nb_str_eqz(nb_node_get(n, "text")->str, text) && !nb_node_get(n, "prompt"))
            return nb_node_get(n, "embedding");
    fail_msg("no text '%s'", text);
    return NULL;
}

static void compare(const nb_node *want, const nb_node *got)
{
    double difference = 0, power = 0;
    const nb_node *a = want->list.first, *b = got->list.first;
    assert_int_equal(want->list.count, WIDTH);
    assert_int_equal(got->list.count, WIDTH);
    for (; a; a = a->next, b = b->next) {
        difference += (a->num - b->num) * (a->num - b->num);
        power += a->num * a->num;
    }
    assert_true(difference <= 1e-10 * power);
}

static void several_as_json(void **state)
{
    (void)state;
    nb_tree cases, out;
    open_json(NB_TEST_DATA "/embed", "bert-cls.json", &cases);
    assert_string_equal(run(0, "embed " MODEL " 'Hello world' a 'naïve café' --exact --json > out.json"), "");
    open_json(nb_folder, "out.json", &out);
    const nb_node *list = nb_node_get(out.root, "embeddings");
    assert_int_equal(list->list.count, 3);
    compare(wanted(&cases, "Hello world"), list->list.first);
    compare(wanted(&cases, "a"), list->list.first->next);
    compare(wanted(&cases, "naïve café"), list->list.first->next->next);
    expect(nb_node_get(out.root, "model")->str.p, "bert-cls");
    assert_true(nb_node_get(out.root, "tokens")->num > 9);
    nb_tree_free(&out);
    nb_tree_free(&cases);
    assert_int_equal(unlink(nb_folder_path("out.json")), 0);
}

/* each way to give the same two texts prints the same two lines */
static void ways_in(void **state)
{
    (void)state;
    char *lines = strdup(run(0, "embed " MODEL " 'Hello world' a"));
    size_t first = strcspn(lines, "\n") + 1, numbers = 0;
    for (const char *at = lines; at < lines + first; at += strcspn(at, " \n") + 1)
        numbers++;
    assert_int_equal(numbers, WIDTH);
    put_file("lines.txt", "Hello world\r\na");
    put_file("one.txt", "Hello world\n");
    assert_string_equal(run(0, "embed " MODEL " --file lines.txt"), lines);
    char *one = run(0, "embed " MODEL " - < one.txt");
    assert_int_equal(strlen(one), first);
    assert_memory_equal(one, lines, first);
    assert_memory_equal(run(0, "embed " MODEL " < one.txt"), lines, first);
    free(lines);
    assert_int_equal(unlink(nb_folder_path("lines.txt")), 0);
    assert_int_equal(unlink(nb_folder_path("one.txt")), 0);
}

static void prompts(void **state)
{
    (void)state;
    char *by_default = strdup(run(0, "embed " MODEL " Hello"));
    assert_string_equal(run(0, "embed " MODEL " --prompt-name query Hello"), by_default);
    assert_string_equal(run(0, "embed " MODEL " --prompt-name '' 'Represent this sentence: Hello'"), by_default);
    assert_string_not_equal(run(0, "embed " MODEL " --prompt-name '' Hello"), by_default);
    expect(run(1, "embed " MODEL " --prompt-name passage Hello"), "has no prompt \"passage\"; it has query");
    free(by_default);
}

static void ranks(void **state)
{
    (void)state;
    nb_tree pairs, out;
    open_json(NB_TEST_DATA "/embed", "xlm-roberta-ranker.json", &pairs);
    run(0, "embed " RANKER " --exact --json --rank 'Hello world' 'Hello world' > out.json");
    open_json(nb_folder, "out.json", &out);
    const nb_node *score = nb_node_get(out.root, "scores")->list.first->list.first;
    assert_true(fabs(score->num - nb_node_get(pairs.root->list.first, "scores")->list.first->num) < 1e-5);
    nb_tree_free(&out);
    nb_tree_free(&pairs);
    assert_int_equal(unlink(nb_folder_path("out.json")), 0);
    expect(run(1, "embed " RANKER " a"), "ranks pairs of texts (--rank)");
    expect(run(1, "embed " MODEL " --rank a b"), "does not rank");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(several_as_json, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(ways_in, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(prompts, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(ranks, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
