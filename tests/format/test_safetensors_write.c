/* What is written as safetensors reads back equal, has the bytes that the format's own library writes, and appears whole or not
 * at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>

#include "format/safetensors_write.h"
#include "support/folder.h"

static nb_checkpoint *open_good(const char *path)
{
    nb_checkpoint *c;
    nb_error err = {0};
    if (nb_checkpoint_open(path, &c, &err) != NB_OK)
        fail_msg("%s", err.message);
    return c;
}

static nb_safetensors_writer *writer(uint64_t shard_bytes)
{
    nb_safetensors_writer *w;
    nb_error err = {0};
    assert_int_equal(nb_safetensors_writer_open(nb_folder, shard_bytes, &w, &err), NB_OK);
    return w;
}

static int files_left(void)
{
    int n = 0;
    DIR *d = opendir(nb_folder);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* everything of a checkpoint, in pieces of `step` bytes */
static nb_status copy(const nb_checkpoint *c, nb_safetensors_writer *w, size_t step, nb_error *err)
{
    for (size_t i = 0; i < nb_checkpoint_count(c); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i);
        nb_safetensors_put(w, t->name, t->dtype, t->n_dims, t->dims);
    }
    for (size_t i = 0; i < nb_checkpoint_count(c); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i);
        size_t bytes = t->values * nb_dtype_bytes(t->dtype);
        for (size_t at = 0; at < bytes; at += step)
            NB_TRY(nb_safetensors_data(w, (const char *)t->data + at, bytes - at < step ? bytes - at : step, err));
    }
    return nb_safetensors_writer_commit(w, err);
}

static void same(const nb_checkpoint *a, const nb_checkpoint *b)
{
    assert_int_equal(nb_checkpoint_count(a), nb_checkpoint_count(b));
    for (size_t i = 0; i < nb_checkpoint_count(a); i++) {
        const nb_checkpoint_tensor *x = nb_checkpoint_at(a, i), *y = nb_checkpoint_at(b, i);
        assert_true(nb_str_eq(x->name, y->name) && x->dtype == y->dtype && x->n_dims == y->n_dims);
        assert_memory_equal(x->dims, y->dims, sizeof x->dims);
        if (x->values)
            assert_memory_equal(x->data, y->data, x->values * nb_dtype_bytes(x->dtype));
    }
}

static void round_trip(void **state)
{
    (void)state;
    nb_checkpoint *c = open_good(NB_TEST_DATA "/format/dtypes.safetensors");
    nb_error err = {0};
    nb_str format;
    assert_int_equal(copy(c, writer(0), 100, &err), NB_OK);
    nb_checkpoint *back = open_good(nb_folder);
    same(c, back);
    assert_true(nb_checkpoint_metadata(back, "format", &format) && nb_str_eqz(format, "pt"));
    nb_checkpoint_close(back);
    nb_checkpoint_close(c);
    assert_int_equal(files_left(), 1);
    unlink(nb_folder_path("model.safetensors"));
}

/* in the same order of tensors the library's file has the same bytes, but for the metadata that is given to it */
static void bytes_of_the_library(void **state)
{
    (void)state;
    nb_map ours, theirs;
    nb_error err = {0};
    nb_safetensors_writer *w = writer(0);
    float weight[] = {0, 1, 2, 3, 4, 5}, bias[] = {0, 1};
    nb_safetensors_put(w, NB_STR("a.bias"), NB_DTYPE_F32, 1, (uint64_t[]){2});
    nb_safetensors_put(w, NB_STR("a.weight"), NB_DTYPE_F32, 2, (uint64_t[]){2, 3});
    assert_int_equal(nb_safetensors_data(w, bias, sizeof bias, &err), NB_OK);
    assert_int_equal(nb_safetensors_data(w, weight, sizeof weight, &err), NB_OK);
    assert_int_equal(nb_safetensors_writer_commit(w, &err), NB_OK);
    assert_int_equal(nb_map_open(nb_folder_path("model.safetensors"), &ours, &err), NB_OK);
    assert_int_equal(nb_map_open(NB_TEST_DATA "/format/pt.safetensors", &theirs, &err), NB_OK);
    assert_int_equal(ours.size, theirs.size);
    assert_memory_equal(ours.data, theirs.data, ours.size);
    nb_map_close(&ours);
    nb_map_close(&theirs);
    unlink(nb_folder_path("model.safetensors"));
}

static void shards(void **state)
{
    (void)state;
    static const char *const names[] = {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors", "model.safetensors.index.json"};
    nb_checkpoint *c = open_good(NB_TEST_DATA "/format/dtypes.safetensors");
    nb_error err = {0};
    assert_int_equal(copy(c, writer(3100), 1 << 20, &err), NB_OK);
    nb_checkpoint *back = open_good(nb_folder);
    same(c, back);
    assert_non_null(strstr(nb_checkpoint_at(back, 0)->file, names[0]));
    nb_checkpoint_close(back);
    nb_checkpoint_close(c);
    assert_int_equal(files_left(), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(unlink(nb_folder_path(names[i])), 0);
}

static void failures_leave_nothing(void **state)
{
    (void)state;
    nb_error err = {0};
    uint64_t dims[9] = {2, 2, 2, 2, 2, 2, 2, 2, 2};
    float x[8] = {0};
    for (int way = 0; way < 8; way++) {
        nb_safetensors_writer *w = writer(way == 7 ? 8 : 0);
        nb_safetensors_put(w, NB_STR("a"), NB_DTYPE_F32, 1, dims);
        if (way == 0)
            nb_safetensors_put(w, NB_STR("a"), NB_DTYPE_F32, 1, dims);
        if (way == 1)
            nb_safetensors_put(w, NB_STR("b\n"), NB_DTYPE_F32, 1, dims);
        if (way == 2)
            nb_safetensors_put(w, NB_STR("b"), NB_DTYPE_F32, 9, dims);
        if (way == 7)
            nb_safetensors_put(w, NB_STR("b"), NB_DTYPE_F32, 1, dims);
        if (way == 3 || way == 5) /* too little, and then a name too late */
            assert_int_equal(nb_safetensors_data(w, x, 4, &err), NB_OK);
        if (way == 4)
            assert_int_equal(nb_safetensors_data(w, x, 12, &err), NB_ERR_ARGUMENT);
        if (way == 5)
            nb_safetensors_put(w, NB_STR("b"), NB_DTYPE_F32, 1, dims);
        if (way == 6) {
            assert_int_equal(nb_safetensors_data(w, x, 8, &err), NB_OK);
            nb_safetensors_writer_abort(w);
        } else if (way != 4) {
            assert_int_equal(nb_safetensors_writer_commit(w, &err), NB_ERR_ARGUMENT);
        } else {
            nb_safetensors_writer_abort(w);
        }
        assert_int_equal(files_left(), 0);
    }
    nb_safetensors_writer *w;
    assert_int_equal(nb_safetensors_writer_open("/nowhere/at/all", 0, &w, &err), NB_OK);
    nb_safetensors_put(w, NB_STR("a"), NB_DTYPE_F32, 1, dims);
    assert_int_equal(nb_safetensors_data(w, x, 8, &err), NB_ERR_IO);
    assert_int_equal(nb_safetensors_writer_commit(w, &err), NB_ERR_IO);
    nb_safetensors_writer_abort(NULL);
}

/* a whole file would hide the shards */
static void beside_a_whole_file(void **state)
{
    (void)state;
    nb_error err = {0};
    float x[4] = {1, 2, 3, 4};
    for (uint64_t shard = 0; shard <= 8; shard += 8) {
        nb_safetensors_writer *w = writer(shard);
        nb_safetensors_put(w, NB_STR("a"), NB_DTYPE_F32, 1, (uint64_t[]){2});
        nb_safetensors_put(w, NB_STR("b"), NB_DTYPE_F32, 1, (uint64_t[]){2});
        nb_status status = nb_safetensors_data(w, x, sizeof x, &err);
        assert_int_equal(status, shard ? NB_ERR_ARGUMENT : NB_OK);
        assert_int_equal(nb_safetensors_writer_commit(w, &err), status);
        assert_int_equal(files_left(), 1);
    }
    assert_non_null(strstr(err.message, "remove it"));
    unlink(nb_folder_path("model.safetensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(bytes_of_the_library),
        cmocka_unit_test(shards),
        cmocka_unit_test(failures_leave_nothing),
        cmocka_unit_test(beside_a_whole_file),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
