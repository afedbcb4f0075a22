/* corpus.h - replays a fuzzer's corpus: what it found once stays found. Include after cmocka.h. */
#ifndef NB_TESTS_CORPUS_H
#define NB_TESTS_CORPUS_H

#include <dirent.h>
#include <stdio.h>

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* every file of fuzz/corpus/NAME; fewer than `least` are not the corpus */
static inline void nb_corpus_replay(const char *name, int least)
{
    char folder[512], path[1024];
    int files = 0;
    snprintf(folder, sizeof folder, "%s/../../fuzz/corpus/%s", NB_TEST_DATA, name);
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        nb_map map;
        nb_error err = {0};
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (nb_map_open(path, &map, &err) != NB_OK)
            fail_msg("%s", err.message);
        LLVMFuzzerTestOneInput(map.data, map.size);
        nb_map_close(&map);
        files++;
    }
    closedir(directory);
    assert_true(files >= least);
}

#endif
