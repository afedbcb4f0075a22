/* The writer against gguf-py: the same calls give the same bytes; and against the reader. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/gguf_write.h"
#include "gguf_builder.h"

static void ok(nb_status status, const nb_error *err)
{
    if (status != NB_OK)
        fail_msg("%s", err->message);
}

static void expect_same_bytes(const char *a, const char *b)
{
    nb_map x, y;
    nb_error err = {0};
    ok(nb_map_open(a, &x, &err), &err);
    ok(nb_map_open(b, &y, &err), &err);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    nb_map_close(&x);
    nb_map_close(&y);
}

/* the calls of tools/make_gguf_vectors.py */
static void put_values(nb_gguf_writer *w)
{
    const nb_str strings[] = {NB_STR("a"), NB_STR(""), NB_STR("caf\xc3\xa9"), NB_STR("<|end|>")};
    nb_gguf_put_str(w, "general.architecture", NB_STR("llama"));
    nb_gguf_put_str(w, "general.name", NB_STR("T\xc3\xa4st \xe6\xa8\xa1\xe5\x9e\x8b"));
    nb_gguf_put_u8(w, "t.u8", 200);
    nb_gguf_put_i8(w, "t.i8", -100);
    nb_gguf_put_u16(w, "t.u16", 60000);
    nb_gguf_put_i16(w, "t.i16", -30000);
    nb_gguf_put_u32(w, "t.u32", 4000000000);
    nb_gguf_put_i32(w, "t.i32", -2000000000);
    nb_gguf_put_f32(w, "t.f32", 0.1f);
    nb_gguf_put_bool(w, "t.yes", true);
    nb_gguf_put_bool(w, "t.no", false);
    nb_gguf_put_u64(w, "t.u64", UINT64_MAX);
    nb_gguf_put_i64(w, "t.i64", INT64_MIN);
    nb_gguf_put_f64(w, "t.f64", 0.1);
    nb_gguf_put_str(w, "t.empty", NB_STR(""));
    nb_gguf_put_strings(w, "t.strings", strings, 4);
    nb_gguf_put_array(w, "t.i32s", NB_GGUF_I32, (int32_t[]){1, -2, 3}, 3);
    nb_gguf_put_array(w, "t.f32s", NB_GGUF_F32, (float[]){0.5f, -0.25f}, 2);
    nb_gguf_put_array(w, "t.bools", NB_GGUF_BOOL, (uint8_t[]){1, 0, 1}, 3);
    nb_gguf_put_array(w, "t.u8s", NB_GGUF_U8, (uint8_t[]){1, 2, 255}, 3);
    nb_gguf_put_array(w, "t.i64s", NB_GGUF_I64, (int64_t[]){INT64_MIN, INT64_MAX}, 2);
}

static void put_tensors_of(nb_gguf_writer *w, const nb_gguf *g)
{
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        nb_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims);
    }
}

/* in pieces of `piece` bytes, which are not the tensors' */
static void stream_data_of(nb_gguf_writer *w, const nb_gguf *g, size_t piece)
{
    nb_error err;
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        for (size_t at = 0, n; at < t->bytes; at += n) {
            n = nb_min_size(piece, t->bytes - at);
            ok(nb_gguf_writer_data(w, (const char *)t->data + at, n, &err), &err);
        }
    }
}

static nb_gguf *open_vector(void)
{
    nb_gguf *g;
    nb_error err = {0};
    ok(nb_gguf_open(NB_TEST_DATA "/format/gguf-py.gguf", &g, &err), &err);
    return g;
}

static void bytes_of_gguf_py(void **state)
{
    (void)state;
    nb_gguf *g = open_vector();
    const char *path = nb_folder_path("same.gguf");
    for (size_t piece = 1; piece < 1000; piece = piece * 5 + 2) {
        nb_gguf_writer *w;
        nb_error err = {0};
        ok(nb_gguf_writer_open(path, 0, &w, &err), &err);
        put_values(w);
        put_tensors_of(w, g);
        stream_data_of(w, g, piece);
        ok(nb_gguf_writer_commit(w, &err), &err);
        expect_same_bytes(path, NB_TEST_DATA "/format/gguf-py.gguf");
        unlink(path);
    }
    nb_gguf_close(g);
}

/* what is read is written back as it was */
static void copy_of_a_file(void **state)
{
    (void)state;
    nb_gguf *g = open_vector();
    nb_gguf_writer *w;
    nb_error err = {0};
    const char *path = nb_folder_path("copy.gguf");
    ok(nb_gguf_writer_open(path, 0, &w, &err), &err);
    for (size_t i = 0; i < nb_gguf_value_count(g); i++)
        nb_gguf_put_value(w, nb_gguf_value_at(g, i));
    put_tensors_of(w, g);
    stream_data_of(w, g, 100000);
    ok(nb_gguf_writer_commit(w, &err), &err);
    expect_same_bytes(path, NB_TEST_DATA "/format/gguf-py.gguf");
    unlink(path);
    nb_gguf_close(g);
}

static void own_alignment(void **state)
{
    (void)state;
    nb_gguf *g = open_vector(), *copy;
    nb_gguf_writer *w;
    nb_error err = {0};
    uint64_t alignment = 0;
    const char *path = nb_folder_path("aligned.gguf");
    ok(nb_gguf_writer_open(path, 4096, &w, &err), &err);
    put_tensors_of(w, g);
    stream_data_of(w, g, 77);
    ok(nb_gguf_writer_commit(w, &err), &err);
    ok(nb_gguf_open(path, &copy, &err), &err);
    ok(nb_gguf_get_u64(copy, "general.alignment", &alignment, &err), &err);
    assert_int_equal(alignment, 4096);
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *a = nb_gguf_tensor_at(g, i), *b = nb_gguf_tensor_at(copy, i);
        assert_int_equal(b->offset % 4096, 0);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    nb_gguf_close(copy);
    /* a copy takes the new file's alignment, not the old one's key */
    ok(nb_gguf_open(path, &copy, &err), &err);
    unlink(path);
    ok(nb_gguf_writer_open(path, 64, &w, &err), &err);
    for (size_t i = 0; i < nb_gguf_value_count(copy); i++)
        nb_gguf_put_value(w, nb_gguf_value_at(copy, i));
    ok(nb_gguf_writer_commit(w, &err), &err);
    nb_gguf_close(copy);
    ok(nb_gguf_open(path, &copy, &err), &err);
    assert_int_equal(nb_gguf_alignment(copy), 64);
    assert_int_equal(nb_gguf_value_count(copy), 1);
    nb_gguf_close(copy);
    unlink(path);
    nb_gguf_close(g);
}

static void replaced_values(void **state)
{
    (void)state;
    nb_gguf *g;
    nb_gguf_writer *w;
    nb_error err = {0};
    uint64_t value = 0;
    const char *path = nb_folder_path("replaced.gguf");
    ok(nb_gguf_writer_open(path, 0, &w, &err), &err);
    nb_gguf_put_u32(w, "general.file_type", 1);
    nb_gguf_put_u32(w, "other", 2);
    nb_gguf_put_u64(w, "general.file_type", 7);
    ok(nb_gguf_writer_commit(w, &err), &err);
    ok(nb_gguf_open(path, &g, &err), &err);
    assert_int_equal(nb_gguf_value_count(g), 2);
    assert_true(nb_str_eqz(nb_gguf_value_at(g, 0)->key, "general.file_type"));
    assert_int_equal(nb_gguf_value_at(g, 0)->kind, NB_GGUF_U64);
    ok(nb_gguf_get_u64(g, "general.file_type", &value, &err), &err);
    assert_int_equal(value, 7);
    nb_gguf_close(g);
    unlink(path);
}

/* ---- misuse: an error, and no file ---- */

static const uint64_t four[] = {4};

static void bad_key(nb_gguf_writer *w) { nb_gguf_put_u32(w, "", 1); }
static void bad_key_bytes(nb_gguf_writer *w) { nb_gguf_put_u32(w, "a\nb", 1); }
static void alignment_key(nb_gguf_writer *w) { nb_gguf_put_u32(w, "general.alignment", 64); }
static void array_of_strings(nb_gguf_writer *w) { nb_gguf_put_array(w, "k", NB_GGUF_STRING, "", 1); }
static void array_of_arrays(nb_gguf_writer *w) { nb_gguf_put_array(w, "k", NB_GGUF_ARRAY, "", 1); }
static void array_too_long(nb_gguf_writer *w) { nb_gguf_put_array(w, "k", NB_GGUF_F64, "", SIZE_MAX / 4); }
static void tensor_unfinished(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_F32), 1, four);
    nb_gguf_writer_data(w, "12345678", 8, NULL);
}
static void tensor_twice(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_I8), 1, four);
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_I8), 1, four);
}
static void tensor_not_blocks(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_Q4_0), 1, four);
}
static void tensor_of_memory(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_NF4), 1, (uint64_t[]){64});
}
static void tensor_five_dims(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_F32), 5, (uint64_t[]){1, 1, 1, 1, 1});
}
static void tensor_of_nothing(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_F32), 2, (uint64_t[]){4, 0});
}
static void tensor_wraps(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_F32), 2, (uint64_t[]){(uint64_t)1 << 32, (uint64_t)1 << 32});
}
static void tensor_name_too_long(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("0123456789012345678901234567890123456789012345678901234567890123"),
                       nb_type_get(NB_TYPE_F32), 1, four);
}
static void value_after_data(nb_gguf_writer *w)
{
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_I8), 1, four);
    nb_gguf_writer_data(w, "1234", 4, NULL);
    nb_gguf_put_u32(w, "late", 1);
}

static void misuse(void **state)
{
    (void)state;
    static const struct {
        void (*put)(nb_gguf_writer *w);
        const char *says;
    } cases[] = {
        {bad_key, "is empty"},
        {bad_key_bytes, "printable"},
        {alignment_key, "alignment"},
        {array_of_strings, "type string"},
        {array_of_arrays, "type array"},
        {array_too_long, "type f64"},
        {tensor_unfinished, "8 of its 16 bytes"},
        {tensor_twice, "declared twice"},
        {tensor_not_blocks, "Q4_0"},
        {tensor_of_memory, "NF4"},
        {tensor_five_dims, "5 dimensions"},
        {tensor_of_nothing, "4 x 0"},
        {tensor_wraps, "4294967296 x 4294967296"},
        {tensor_name_too_long, "too long"},
        {value_after_data, "'late' comes after"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nb_gguf_writer *w;
        nb_error err = {0};
        const char *path = nb_folder_path("misuse.gguf");
        ok(nb_gguf_writer_open(path, 0, &w, &err), &err);
        cases[i].put(w);
        assert_int_equal(nb_gguf_writer_commit(w, &err), NB_ERR_ARGUMENT);
        if (!strstr(err.message, cases[i].says) || !strstr(err.message, path))
            fail_msg("'%s' expected, got: %s", cases[i].says, err.message);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void too_much_data(void **state)
{
    (void)state;
    nb_gguf_writer *w;
    nb_error err = {0};
    ok(nb_gguf_writer_open(nb_folder_path("much.gguf"), 0, &w, &err), &err);
    nb_gguf_put_tensor(w, NB_STR("t"), nb_type_get(NB_TYPE_I8), 1, four);
    assert_int_equal(nb_gguf_writer_data(w, "12345", 5, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "tensor t has room for 4"));
    ok(nb_gguf_writer_data(w, "1234", 4, &err), &err);
    assert_int_equal(nb_gguf_writer_data(w, "1", 1, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "no tensor is left"));
    nb_gguf_writer_abort(w);
    nb_gguf_writer_abort(NULL);
    assert_int_equal(nb_gguf_writer_open(nb_folder_path("a.gguf"), 48, &w, &err), NB_ERR_ARGUMENT);
    assert_null(w);
    assert_int_equal(nb_gguf_writer_open(nb_folder_path("no/such/a.gguf"), 0, &w, &err), NB_ERR_IO);
    assert_null(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_of_gguf_py, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(copy_of_a_file, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(own_alignment, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(replaced_values, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(misuse, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(too_much_data, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
