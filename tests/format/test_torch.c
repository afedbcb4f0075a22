/* Checkpoints of torch.save: dtypes, views, protocols and nestings, against what torch reads from the same files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "checkpoint_builder.h"
#include "format/checkpoint.h"
#include "num/fp8.h"

#define DATA NB_TEST_DATA "/format/"

static nb_checkpoint *open_good(const char *path)
{
    nb_checkpoint *c;
    nb_error err = {0};
    if (nb_checkpoint_open(path, &c, &err) != NB_OK)
        fail_msg("%s", err.message);
    return c;
}

static void same_value(const nb_checkpoint_tensor *t, uint64_t i, float got, float want)
{
    if (nb_f32_bits(got) != nb_f32_bits(want) && !(isnan(got) && isnan(want)))
        fail_msg("%.*s: value %llu is %a, not %a", NB_STR_ARG(t->name), (unsigned long long)i, (double)got,
                 (double)want);
}

static void same_tensor(const nb_checkpoint_tensor *t, const nb_checkpoint_tensor *want)
{
    float *x = calloc(t->values + 1, sizeof *x), *y = calloc(t->values + 1, sizeof *y);
    assert_int_equal(t->n_dims, want->n_dims);
    assert_memory_equal(t->dims, want->dims, sizeof t->dims);
    nb_checkpoint_read_f32(want, 0, want->values, y);
    nb_checkpoint_read_f32(t, 0, t->values, x);
    for (uint64_t i = 0; i < t->values; i++)
        same_value(t, i, x[i], y[i]);
    for (uint64_t i = 0; i < t->values; i += 5) {
        uint64_t n = t->values - i < 7 ? t->values - i : 7;
        nb_checkpoint_read_f32(t, i, n, x);
        for (uint64_t k = 0; k < n; k++)
            same_value(t, i + k, x[k], y[i + k]);
    }
    if (t->dtype == NB_DTYPE_F32) {
        nb_checkpoint_read_raw(t, 0, t->values, x);
        assert_memory_equal(x, y, t->values * sizeof *x);
    }
    free(x);
    free(y);
}

static void same_as(const char *file, const char *expected)
{
    char path[512], other[512];
    snprintf(path, sizeof path, DATA "%s.bin", file);
    snprintf(other, sizeof other, DATA "%s.f32.safetensors", expected);
    nb_checkpoint *c = open_good(path), *want = open_good(other);
    assert_int_equal(nb_checkpoint_count(c), nb_checkpoint_count(want));
    for (size_t i = 0; i < nb_checkpoint_count(c); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i), *w = nb_checkpoint_find(want, t->name);
        assert_non_null(w);
        same_tensor(t, w);
        nb_checkpoint_forget(c, t, 0, t->values);
    }
    nb_checkpoint_close(c);
    nb_checkpoint_close(want);
}

static void all_dtypes(void **state)
{
    (void)state;
    same_as("dtypes", "dtypes");
    nb_checkpoint *a = open_good(DATA "dtypes.bin"), *b = open_good(DATA "dtypes.safetensors");
    for (size_t i = 0; i < nb_checkpoint_count(a); i++)
        assert_int_equal(nb_checkpoint_at(a, i)->dtype, nb_checkpoint_at(b, i)->dtype);
    nb_checkpoint_close(a);
    nb_checkpoint_close(b);
}

static void views(void **state)
{
    (void)state;
    same_as("views", "views");
    nb_checkpoint *c = open_good(DATA "views.bin");
    const nb_checkpoint_tensor *a = nb_checkpoint_find(c, NB_STR("tied.a")),
                               *b = nb_checkpoint_find(c, NB_STR("tied.b")),
                               *t = nb_checkpoint_find(c, NB_STR("transposed"));
    assert_ptr_equal(a->data, b->data);
    assert_true(a->contiguous && !t->contiguous && t->stride[0] == 1 && t->stride[1] == 7);
    nb_checkpoint_close(c);
}

static void protocols_and_nesting(void **state)
{
    (void)state;
    same_as("protocol2", "small");
    same_as("protocol3", "small");
    same_as("protocol4", "small");
    same_as("nested", "small"); /* the state_dict only, of all that is in it */
}

static void old_forms(void **state)
{
    (void)state;
    nb_checkpoint *c;
    nb_error err = {0};
    assert_int_equal(nb_checkpoint_open(DATA "legacy.bin", &c, &err), NB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "before version 1.6"));
    assert_non_null(strstr(err.message, "save it as safetensors"));
    assert_null(c);
}

/* ---- shards ---- */

static void put_file(const char *name, const builder *x) { assert_true(builder_save(x, nb_folder_path(name))); }

static void put_model(const char *file, const char *const *names, size_t n)
{
    builder pickle = {0}, x = {0};
    put_bytes(&pickle, "\x80\x02}(", 4);
    for (size_t i = 0; i < n; i++) {
        put_text(&pickle, names[i]);
        put_tensor(&pickle, "0", 6, 0, 2, 3, 3, 1);
    }
    put_op(&pickle, "u.");
    put_torch(&x, &pickle);
    put_file(file, &x);
    nb_buf_free(&pickle.b);
    nb_buf_free(&x.b);
}

static void shards_by_index(void **state)
{
    (void)state;
    static const char index[] = "{\"weight_map\": {\"a\": \"one.bin\", \"b\": \"two.bin\", \"c\": \"one.bin\"}}";
    builder x = {0};
    put_model("one.bin", (const char *const[]){"a", "c"}, 2);
    put_model("two.bin", (const char *const[]){"b"}, 1);
    put_op(&x, index);
    put_file("pytorch_model.bin.index.json", &x);
    nb_checkpoint *c = open_good(nb_folder);
    assert_int_equal(nb_checkpoint_count(c), 3);
    assert_non_null(strstr(nb_checkpoint_find(c, NB_STR("b"))->file, "two.bin"));
    nb_checkpoint_close(c);
    put_model("pytorch_model.bin", (const char *const[]){"a"}, 1);
    c = open_good(nb_folder); /* the whole file comes first */
    assert_int_equal(nb_checkpoint_count(c), 1);
    nb_checkpoint_close(c);
    unlink(nb_folder_path("pytorch_model.bin.index.json"));
    unlink(nb_folder_path("pytorch_model.bin"));
    unlink(nb_folder_path("one.bin"));
    unlink(nb_folder_path("two.bin"));
    nb_buf_free(&x.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_dtypes), cmocka_unit_test(views),           cmocka_unit_test(protocols_and_nesting),
        cmocka_unit_test(old_forms),  cmocka_unit_test(shards_by_index),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
