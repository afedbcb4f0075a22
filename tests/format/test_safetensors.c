/* Checkpoints in safetensors: every dtype against what torch reads from the same file, shards with their index, lookups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "format/checkpoint.h"
#include "num/fp8.h"
#include "support/folder.h"

#define DATA NB_TEST_DATA "/format/"

static nb_checkpoint *open_good(const char *path)
{
    nb_checkpoint *c;
    nb_error err = {0};
    if (nb_checkpoint_open(path, &c, &err) != NB_OK)
        fail_msg("%s", err.message);
    return c;
}

/* bits, but any NaN for a NaN */
static void same_floats(const char *name, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (nb_f32_bits(got[i]) != nb_f32_bits(want[i]) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: value %zu is %a, not %a", name, i, (double)got[i], (double)want[i]);
}

static void same_tensor(const nb_checkpoint_tensor *t, const nb_checkpoint_tensor *want)
{
    float *x = calloc(t->values + 1, sizeof *x), *y = calloc(t->values + 1, sizeof *y);
    assert_int_equal(want->dtype, NB_DTYPE_F32);
    assert_int_equal(t->n_dims, want->n_dims);
    assert_memory_equal(t->dims, want->dims, sizeof t->dims);
    memcpy(y, want->data, want->values * sizeof *y);
    nb_checkpoint_read_f32(t, 0, t->values, x);
    same_floats(want->name.p, x, y, t->values);
    for (uint64_t i = 0; i < t->values; i += 3) { /* pieces from the middle */
        uint64_t n = t->values - i < 10 ? t->values - i : 10;
        nb_checkpoint_read_f32(t, i, n, x);
        same_floats(want->name.p, x, y + i, n);
    }
    free(x);
    free(y);
}

static void all_dtypes(void **state)
{
    (void)state;
    nb_checkpoint *c = open_good(DATA "dtypes.safetensors"), *want = open_good(DATA "dtypes.f32.safetensors");
    bool seen[NB_DTYPES] = {false};
    assert_int_equal(nb_checkpoint_count(c), NB_DTYPES + 5);
    assert_int_equal(nb_checkpoint_count(c), nb_checkpoint_count(want));
    for (size_t i = 0; i < nb_checkpoint_count(c); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i);
        char text[64], prefix[] = "dtype.";
        seen[t->dtype] = true;
        assert_true(t->contiguous);
        assert_ptr_equal(nb_checkpoint_find(c, t->name), t);
        if (nb_str_starts(t->name, nb_str_of(prefix))) {
            snprintf(text, sizeof text, "dtype.%s", nb_dtype_name(t->dtype));
            assert_true(nb_str_eqz(t->name, text));
        }
        same_tensor(t, nb_checkpoint_find(want, t->name));
    }
    for (int i = 0; i < NB_DTYPES; i++)
        assert_true(seen[i]);
    nb_checkpoint_close(c);
    nb_checkpoint_close(want);
}

static void lookups(void **state)
{
    (void)state;
    nb_checkpoint *c = open_good(DATA "dtypes.safetensors");
    nb_str value;
    uint16_t raw[3];
    for (size_t i = 1; i < nb_checkpoint_count(c); i++) {
        nb_str a = nb_checkpoint_at(c, i - 1)->name, b = nb_checkpoint_at(c, i)->name;
        int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
        assert_true(order < 0 || (order == 0 && a.n < b.n));
    }
    assert_null(nb_checkpoint_find(c, NB_STR("matri")));
    assert_null(nb_checkpoint_find(c, NB_STR("matrix0")));
    assert_null(nb_checkpoint_find(c, NB_STR("")));
    const nb_checkpoint_tensor *deep = nb_checkpoint_find(c, NB_STR("deep")),
                               *scalar = nb_checkpoint_find(c, NB_STR("scalar"));
    assert_int_equal(deep->n_dims, 8);
    assert_int_equal(deep->stride[0], 128);
    assert_int_equal(deep->stride[7], 1);
    nb_checkpoint_read_raw(deep, 100, 3, raw);
    assert_true(raw[0] == 100 && raw[1] == 101 && raw[2] == 102);
    assert_int_equal(scalar->n_dims, 0);
    assert_int_equal(scalar->values, 1);
    assert_int_equal(nb_checkpoint_find(c, NB_STR("empty"))->values, 0);
    assert_true(nb_checkpoint_metadata(c, "format", &value) && nb_str_eqz(value, "pt"));
    assert_true(nb_checkpoint_metadata(c, "made by", &value) && nb_str_eqz(value, "caf\xc3\xa9 \"torch\""));
    assert_false(nb_checkpoint_metadata(c, "forma", &value));
    nb_checkpoint_forget(c, deep, 0, deep->values);
    nb_checkpoint_close(c);
}

/* ---- shards ---- */

static void put_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(nb_folder_path(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* one F32 tensor of two values; several names: each has the next two */
static void put_shard(const char *name, const char *const *tensors, size_t n)
{
    nb_buf b = {0};
    nb_buf_add(&b, "\0\0\0\0\0\0\0\0{", 9);
    for (size_t i = 0; i < n; i++)
        nb_buf_printf(&b, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[%zu,%zu]}", i ? "," : "",
                      tensors[i], i * 8, i * 8 + 8);
    nb_buf_char(&b, '}');
    uint64_t header = b.len - 8;
    memcpy(b.data, &header, sizeof header);
    for (size_t i = 0; i < 2 * n; i++) {
        float x = (float)tensors[i / 2][0] + (float)i;
        nb_buf_add(&b, &x, sizeof x);
    }
    assert_false(b.failed);
    put_file(name, b.data, b.len);
    nb_buf_free(&b);
}

static void remove_all(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(unlink(nb_folder_path(names[i])), 0);
}

#define INDEX "model.safetensors.index.json"
static const char *const shard_files[] = {INDEX, "s1.safetensors", "s2.safetensors"};

static void shards_by_index(void **state)
{
    (void)state;
    const char *const first[] = {"a", "c"}, *const second[] = {"b"};
    static const char index[] = "{\"metadata\": {\"total_size\": 24}, \"weight_map\": {\"a\": \"s1.safetensors\", "
                                "\"b\": \"s2.safetensors\", \"c\": \"s1.safetensors\"}}";
    put_shard("s1.safetensors", first, 2);
    put_shard("s2.safetensors", second, 1);
    put_file(INDEX, index, sizeof index - 1);
    for (int way = 0; way < 2; way++) { /* the folder, or the index itself */
        nb_checkpoint *c = open_good(way ? nb_folder_path(INDEX) : nb_folder);
        assert_int_equal(nb_checkpoint_count(c), 3);
        for (size_t i = 0; i < 3; i++) {
            const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i);
            float x[2], base = (float)(t->name.p[0] + (t->name.p[0] == 'c' ? 2 : 0));
            nb_checkpoint_read_f32(t, 0, 2, x);
            assert_true(t->name.p[0] == "abc"[i] && x[0] == base && x[1] == base + 1);
            assert_non_null(strstr(t->file, i == 1 ? "s2.safetensors" : "s1.safetensors"));
        }
        nb_checkpoint_close(c);
    }
    remove_all(shard_files, 3);
}

static void refused(const char *index, nb_status status, const char *says)
{
    nb_checkpoint *c;
    nb_error err = {0};
    put_file(INDEX, index, strlen(index));
    nb_status got = nb_checkpoint_open(nb_folder, &c, &err);
    if (got != status || !strstr(err.message, says) || !strstr(err.message, nb_folder) || !strchr(err.message, ';'))
        fail_msg("status %d and '%s' wanted for %.80s, got %d and: %s", status, says, index, got, err.message);
    assert_null(c);
}

#define MAP(rows) "{\"weight_map\": {" rows "}}"

static void wrong_index(void **state)
{
    (void)state;
    const char *const first[] = {"a", "c"}, *const second[] = {"b"};
    put_shard("s1.safetensors", first, 2);
    put_shard("s2.safetensors", second, 1);
    refused("", NB_ERR_FORMAT, "byte 0: the JSON ends");
    refused("[]", NB_ERR_FORMAT, "byte 0: the JSON has '['");
    refused("{}", NB_ERR_FORMAT, "no 'weight_map'");
    refused(MAP(""), NB_ERR_FORMAT, "no 'weight_map'");
    refused("{\"weight_map\": []}", NB_ERR_FORMAT, "byte 15: ");
    refused("{\"weight_map\": {\"a\": \"s1.safetensors\"}, \"weight_map\": {}}", NB_ERR_FORMAT,
            "'weight_map' is there twice");
    refused(MAP("\"a\": 1"), NB_ERR_FORMAT, "byte 21: the JSON has '1' where a string");
    refused(MAP("\"a\": \"../s1.safetensors\""), NB_ERR_FORMAT, "byte 21: the shard's name that starts here leads out");
    refused(MAP("\"a\": \"/etc/passwd\""), NB_ERR_FORMAT, "leads out of the folder");
    refused(MAP("\"a\": \"..\\\\s1\""), NB_ERR_FORMAT, "leads out of the folder");
    refused(MAP("\"a\": \"..\""), NB_ERR_FORMAT, "begins with a point");
    refused(MAP("\"a\": \"\""), NB_ERR_FORMAT, "is empty");
    refused(MAP("\"a\": \"x\\u0000y\""), NB_ERR_FORMAT, "printable");
    refused(MAP("\"a\": \"none.safetensors\""), NB_ERR_NOT_FOUND, "shard 1 of 1 cannot be opened");
    refused(MAP("\"a\": \"s1.safetensors\", \"b\": \"s3.safetensors\""), NB_ERR_NOT_FOUND, "s3.safetensors");
    refused(MAP("\"a\": \"s1.safetensors\", \"b\": \"s1.safetensors\", \"x\": \"s2.safetensors\""), NB_ERR_FORMAT,
            "tensor 'b' should be in s1.safetensors, but is in ");
    refused(MAP("\"a\": \"s1.safetensors\", \"d\": \"s1.safetensors\""), NB_ERR_FORMAT,
            "tensor 'd' should be in s1.safetensors, but is not there");
    refused(MAP("\"a\": \"s1.safetensors\", \"c\": \"s1.safetensors\", \"a\": \"s1.safetensors\""), NB_ERR_FORMAT,
            "byte 63: tensor 'a' is there twice");
    refused(MAP("\"a\\u001b\": \"s1.safetensors\""), NB_ERR_FORMAT, "printable");
    put_shard("s2.safetensors", first, 2);
    refused(MAP("\"a\": \"s1.safetensors\", \"c\": \"s2.safetensors\""), NB_ERR_FORMAT,
            "is there twice, the other time in");
    assert_int_equal(unlink(nb_folder_path("s2.safetensors")), 0);
    assert_int_equal(mkfifo(nb_folder_path("s2.safetensors"), 0600), 0);
    refused(MAP("\"a\": \"s1.safetensors\", \"b\": \"s2.safetensors\""), NB_ERR_IO, "is a FIFO");
    remove_all(shard_files, 3);
}

static void other_places(void **state)
{
    (void)state;
    nb_checkpoint *c;
    nb_error err = {0};
    assert_int_equal(nb_checkpoint_open(nb_folder, &c, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no model.safetensors"));
    assert_null(c);
    assert_int_equal(nb_checkpoint_open("/dev/zero", &c, &err), NB_ERR_IO);
    assert_int_equal(nb_checkpoint_open(nb_folder_path("none"), &c, &err), NB_ERR_NOT_FOUND);
    const char *const a[] = {"a"};
    put_shard("model.safetensors", a, 1);
    put_file(INDEX, "{", 1); /* is not looked at */
    nb_checkpoint_close(open_good(nb_folder));
    remove_all((const char *const[]){INDEX, "model.safetensors"}, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_dtypes),  cmocka_unit_test(lookups),      cmocka_unit_test(shards_by_index),
        cmocka_unit_test(wrong_index), cmocka_unit_test(other_places),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
