/* Replays the fuzzer's corpus: what it found once stays found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>

#include "../../fuzz/fuzz_jinja.c"
#include "base/file.h"

#define CORPUS NB_TEST_DATA "/../../fuzz/corpus/jinja"

static void corpus(void **state)
{
    (void)state;
    int files = 0;
    DIR *directory = opendir(CORPUS);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[1024];
        nb_map map;
        nb_error err = {0};
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", CORPUS, entry->d_name);
        if (nb_map_open(path, &map, &err) != NB_OK)
            fail_msg("%s", err.message);
        LLVMFuzzerTestOneInput(map.data, map.size);
        nb_map_close(&map);
        files++;
    }
    closedir(directory);
    assert_true(files >= 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(corpus)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
