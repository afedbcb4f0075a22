/* --adapter F[=SCALE] on the commands that run a model, and convert --merge. */
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

#include "support/command.h"
#include "support/folder.h"

#define MODEL NB_TEST_DATA "/archs/qwen2.gguf"
#define A NB_TEST_DATA "/lora/qwen2-a"
#define B NB_TEST_DATA "/lora/qwen2-b"

static char *run(int expected, const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && '%s' %s 2>&1 < /dev/null", nb_folder, NB_TEST_BINARY, arguments);
    return run_command(command, arguments, expected);
}

/* the file's bytes as a string of the shell's cksum */
static void digest(const char *name, char out[64])
{
    char command[600];
    snprintf(command, sizeof command, "cksum < '%s/%s'", nb_folder, name);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(out, 64, pipe));
    assert_int_equal(pclose(pipe), 0);
}

static void test_commands(void **state)
{
    char plain[64], off[64], on[64], two[64];
    (void)state;
    run(0, "logits " MODEL " --exact --ids 1,2,3 -o plain.npy");
    run(0, "logits " MODEL " --exact --ids 1,2,3 -o off.npy --adapter " A "=0");
    run(0, "logits " MODEL " --exact --ids 1,2,3 -o on.npy --adapter " A);
    run(0, "logits " MODEL " --exact --ids 1,2,3 -o two.npy --adapter " A " --adapter=" B "=-1.5e0");
    digest("plain.npy", plain);
    digest("off.npy", off);
    digest("on.npy", on);
    digest("two.npy", two);
    assert_string_equal(plain, off);
    assert_string_not_equal(plain, on);
    assert_string_not_equal(on, two);
    run(0, "run " MODEL " --adapter " A " --raw -n 3 hello");
    run(0, "embed " MODEL " --adapter " A ".gguf hello");
    run(0, "plan " MODEL " --adapter " A);
    run(0, "bench " MODEL " --adapter " A " -p 8 -n 2 -r 1");
    run(0, "eval " MODEL " --adapter " A " --text " NB_TEST_DATA "/README.md --chunks 1 -c 32");
    run(0, "imatrix " MODEL " --adapter " A " --text " NB_TEST_DATA "/README.md --chunks 1 -c 32 -o im.gguf");
    expect(run(1, "run " MODEL " --adapter nothing hi"), "nothing: cannot open");
    expect(run(1, "run " MODEL " --adapter " NB_TEST_DATA "/lora/gemma-3-a.gguf hi"), "gemma3");
    expect(run(2, "run " MODEL " --adapter =2 hi"), "--adapter");
    expect(run(2, "run " MODEL " --adapter x=inf hi"), "a number");
    static const char *const names[] = {"plain.npy", "off.npy", "on.npy", "two.npy", "im.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(unlink(nb_folder_path(names[i])), 0);
}

static void test_merge(void **state)
{
    (void)state;
    expect(run(0, "convert " MODEL " m.gguf --merge --adapter " A " --adapter " B "=0.5"), "m.gguf");
    expect(run(0, "inspect m.gguf --tensors"), "output.weight"); /* the head had an adapter of its own */
    expect(run(0, "convert " MODEL " q.gguf --merge --adapter " A " --type Q8_0"), "changed");
    expect(run(1, "convert q.gguf r.gguf --merge --adapter " A " --type F16"), "--allow-requantize");
    run(0, "convert q.gguf r.gguf --merge --adapter " A " --type F16 --allow-requantize");
    run(0, "run r.gguf --raw -n 2 hello");
    expect(run(2, "convert " MODEL " n.gguf --merge"), "go together");
    expect(run(2, "convert " MODEL " n.gguf --adapter " A), "go together");
    expect(run(0, "convert " MODEL " folder --merge --adapter " A), "folder: ");
    run(0, "run folder --raw -n 2 hello");
    expect(run(2, "convert " MODEL " n.gguf --merge --to bitsandbytes-nf4 --adapter " A), "exclude each other");
    expect(run(1, "convert " MODEL " n.gguf --merge --adapter " NB_TEST_DATA "/lora/llama-3.2-rope-scaled-a"), "128");
    static const char *const names[] = {"m.gguf",
                                        "q.gguf",
                                        "r.gguf",
                                        "folder/config.json",
                                        "folder/model.safetensors",
                                        "folder/tokenizer.json",
                                        "folder/tokenizer_config.json",
                                        "folder"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(remove(nb_folder_path(names[i])), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commands, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_merge, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
