/* folder.h - a fresh folder for a test's files. */
#ifndef NB_TESTS_FOLDER_H
#define NB_TESTS_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* the caller removes what it made */
static inline char *temporary_directory(void)
{
    static char path[256];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/nibble-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(path);
}

/* ---- the folder of one test, or of a group: setup, teardown and paths in it ---- */

static const char *nb_folder;

static inline int nb_folder_make(void **state)
{
    (void)state;
    nb_folder = temporary_directory();
    return nb_folder ? 0 : -1;
}

/* fails when a test has left something behind */
static inline int nb_folder_remove(void **state)
{
    (void)state;
    return rmdir(nb_folder);
}

static inline const char *nb_folder_path(const char *name) /* good until the next call */
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", nb_folder, name);
    return path;
}

#endif
