/* Files: only regular ones are read, none is read past its limit, and a written one appears whole or not at all. */
#define _GNU_SOURCE
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/folder.h"

static int entries(void)
{
    int count = 0;
    DIR *d = opendir(nb_folder);
    for (struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static int remove_folder(void **state)
{
    DIR *d = opendir(nb_folder);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            remove(nb_folder_path(e->d_name));
    closedir(d);
    return nb_folder_remove(state);
}

static void write_file(const char *path, const char *text)
{
    nb_error err;
    nb_writer *w;
    assert_int_equal(nb_writer_open(path, &w, &err), NB_OK);
    assert_int_equal(nb_writer_write(w, text, strlen(text), &err), NB_OK);
    assert_int_equal(nb_writer_commit(w, &err), NB_OK);
}

static void test_write_patch_and_map(void **state)
{
    (void)state;
    const char *path = nb_folder_path("file");
    nb_error err;
    nb_writer *w;
    nb_map map;
    assert_int_equal(nb_writer_open(path, &w, &err), NB_OK);
    assert_int_equal(nb_writer_write(w, "....world", 9, &err), NB_OK);
    assert_int_equal(nb_writer_patch(w, 0, "hell", 4, &err), NB_OK);
    assert_int_equal(nb_writer_write(w, "!", 1, &err), NB_OK);
    assert_int_equal(access(path, F_OK), -1); /* not there before it is whole */
    assert_int_equal(nb_writer_commit(w, &err), NB_OK);
    assert_int_equal(nb_map_open(path, &map, &err), NB_OK);
    assert_int_equal(map.size, 10);
    assert_memory_equal(map.data, "hellworld!", 10);
    nb_map_will_need(&map, 0, 10);
    nb_map_will_need(&map, 5, SIZE_MAX);
    nb_map_dont_need(&map, 0, 10);
    assert_memory_equal(map.data, "hellworld!", 10);
    nb_map_close(&map);
    assert_null(map.data);
    assert_int_equal(entries(), 1);
}

static void test_abort_keeps_the_old_file(void **state)
{
    (void)state;
    const char *path = nb_folder_path("file");
    nb_error err;
    nb_writer *w;
    nb_buf b = {0};
    write_file(path, "old");
    assert_int_equal(nb_writer_open(path, &w, &err), NB_OK);
    assert_int_equal(nb_writer_write(w, "new", 3, &err), NB_OK);
    nb_writer_abort(w);
    nb_writer_abort(NULL);
    assert_int_equal(nb_file_read(path, 100, &b, &err), NB_OK);
    assert_string_equal(b.data, "old");
    assert_int_equal(entries(), 1);
    nb_buf_free(&b);
}

static void test_commit_that_fails_leaves_nothing(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s", nb_folder_path("sub"));
    nb_error err;
    nb_writer *w;
    assert_int_equal(nb_writer_open(path, &w, &err), NB_OK);
    assert_int_equal(mkdir(path, 0700), 0); /* a folder takes the name meanwhile */
    assert_int_equal(nb_writer_commit(w, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(entries(), 1);
    assert_int_equal(nb_writer_open(nb_folder_path("no/such/file"), &w, &err), NB_ERR_IO);
    assert_null(w);
}

static void test_limits_and_empty_files(void **state)
{
    (void)state;
    const char *path = nb_folder_path("file");
    nb_error err;
    nb_buf b = {0};
    nb_map map;
    write_file(path, "12345");
    assert_int_equal(nb_file_read(path, 4, &b, &err), NB_ERR_LIMIT);
    assert_int_equal(nb_file_read(path, 5, &b, &err), NB_OK);
    assert_string_equal(b.data, "12345");
    nb_buf_free(&b);
    write_file(path, "");
    assert_int_equal(nb_map_open(path, &map, &err), NB_OK);
    assert_true(map.size == 0 && map.data == NULL);
    nb_map_close(&map);
}

static void refused(const char *path, nb_status status, const char *why)
{
    nb_map map;
    nb_buf b = {0};
    nb_error err = {0};
    assert_int_equal(nb_map_open(path, &map, &err), status);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, why));
    assert_int_equal(nb_file_read(path, 100, &b, &err), status);
    nb_buf_free(&b);
}

static void test_only_regular_files(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s", nb_folder_path("fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(path, NB_ERR_IO, "a FIFO"); /* at once, although nobody writes into it */
    refused(nb_folder, NB_ERR_IO, "a directory");
    refused("/dev/zero", NB_ERR_IO, "a device");
    refused(nb_folder_path("missing"), NB_ERR_NOT_FOUND, "check the path");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_patch_and_map, nb_folder_make, remove_folder),
        cmocka_unit_test_setup_teardown(test_abort_keeps_the_old_file, nb_folder_make, remove_folder),
        cmocka_unit_test_setup_teardown(test_commit_that_fails_leaves_nothing, nb_folder_make, remove_folder),
        cmocka_unit_test_setup_teardown(test_limits_and_empty_files, nb_folder_make, remove_folder),
        cmocka_unit_test_setup_teardown(test_only_regular_files, nb_folder_make, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
