/* nibble convert FILE.gguf DIR: what it writes and says, and a directory that runs as the file does. */
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

#define SOURCE NB_TEST_DATA "/archs/qwen2.gguf"

static char *run(int expected, const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && '%s' %s 2>&1", nb_folder, NB_TEST_BINARY, arguments);
    return run_command(command, arguments, expected);
}

static void remove_files(const char *const *names)
{
    for (; *names; names++)
        if (unlink(nb_folder_path(*names)) != 0)
            fail_msg("%s is not there", *names);
}

static void whole(void **state)
{
    (void)state;
    expect(run(0, "convert '" SOURCE "' dir"), "dir: 38 tensors as F32, 577 kB, in ");
    char *from_file = strdup(run(0, "tokenize --ids '" SOURCE "' 'Hello there, 123'"));
    assert_string_equal(run(0, "tokenize --ids dir 'Hello there, 123'"), from_file);
    free(from_file);
    remove_files((const char *const[]){"dir/config.json", "dir/model.safetensors", "dir/tokenizer.json",
                                       "dir/tokenizer_config.json", NULL});
    assert_int_equal(rmdir(nb_folder_path("dir")), 0);
}

static void shards(void **state)
{
    (void)state;
    expect(run(0, "convert '" SOURCE "' dir --type F16 --split-max-size 100K"), "as F16, 288 kB");
    remove_files((const char *const[]){"dir/config.json", "dir/model-00001-of-00003.safetensors",
                                       "dir/model-00002-of-00003.safetensors", "dir/model-00003-of-00003.safetensors",
                                       "dir/model.safetensors.index.json", "dir/tokenizer.json",
                                       "dir/tokenizer_config.json", NULL});
    assert_int_equal(rmdir(nb_folder_path("dir")), 0);
}

static void refused(void **state)
{
    (void)state;
    expect(run(1, "convert '" SOURCE "' dir --type Q8_0"), "cannot hold Q8_0; give --type F32, F16 or BF16");
    expect(run(2, "convert '" SOURCE "' out.gguf"), "is no directory with a config.json");
    assert_int_not_equal(access(nb_folder_path("dir"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(shards),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
