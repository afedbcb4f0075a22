/* A GGUF file as a source: what it says, its rows, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "format/source.h"

#define VECTOR NB_TEST_DATA "/format/gguf-py.gguf"

static nb_error err;

static void as_the_file(void **state)
{
    (void)state;
    nb_source *s;
    nb_gguf *g;
    assert_int_equal(nb_source_open_gguf(VECTOR, &s, &err), NB_OK);
    assert_int_equal(nb_gguf_open(VECTOR, &g, &err), NB_OK);
    assert_int_equal(s->tensor_count, nb_gguf_tensor_count(g));
    assert_int_equal(s->value_count, nb_gguf_value_count(g));
    assert_string_equal(s->path, VECTOR);
    assert_int_equal(s->file_count, 1);
    assert_string_equal(s->files[0], VECTOR);
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        const nb_source_tensor *u = nb_source_find_tensor(s, t->name);
        assert_ptr_equal(u, &s->tensors[i]);
        assert_ptr_equal(u->type, t->type);
        assert_memory_equal(u->dims, t->dims, sizeof t->dims);
        assert_memory_equal(u->data, t->data, t->bytes);
    }
    assert_null(nb_source_find_tensor(s, NB_STR("none")));
    assert_null(nb_source_find(s, "none"));
    const nb_gguf_value *v = nb_source_find(s, "t.u64");
    assert_true(v && v->kind == NB_GGUF_U64 && nb_gguf_elem_u64(v, 0) == UINT64_MAX);
    nb_gguf_close(g);
    nb_source_free(s);
    nb_source_free(NULL);
}

/* "half" has 3 x 2 rows of 32 columns: 64 bytes a row */
static void rows(void **state)
{
    (void)state;
    nb_source *s;
    unsigned char got[3 * 64];
    assert_int_equal(nb_source_open_gguf(VECTOR, &s, &err), NB_OK);
    const nb_source_tensor *t = nb_source_find_tensor(s, NB_STR("half"));
    assert_non_null(t);
    size_t i = (size_t)(t - s->tensors);
    assert_int_equal(nb_source_rows(t), 6);
    assert_int_equal(s->read(s, i, 2, 3, got, &err), NB_OK);
    assert_memory_equal(got, (const unsigned char *)t->data + 128, sizeof got);
    s->forget(s, i, 0, 6); /* what is forgotten can be read again */
    assert_int_equal(s->read(s, i, 2, 3, got, &err), NB_OK);
    assert_memory_equal(got, (const unsigned char *)t->data + 128, sizeof got);
    assert_int_equal(s->read(s, i, 6, 0, got, &err), NB_OK);
    assert_int_equal(s->read(s, i, 4, 3, got, &err), NB_ERR_ARGUMENT);
    assert_int_equal(s->read(s, i, 7, 0, got, &err), NB_ERR_ARGUMENT);
    assert_int_equal(s->read(s, i, 1, UINT64_MAX, got, &err), NB_ERR_ARGUMENT);
    assert_int_equal(s->read(s, s->tensor_count, 0, 1, got, &err), NB_ERR_ARGUMENT);
    nb_source_free(s);
}

static void failures(void **state)
{
    (void)state;
    nb_source *s;
    assert_int_equal(nb_source_open_gguf("/none.gguf", &s, &err), NB_ERR_NOT_FOUND);
    assert_null(s);
    assert_int_equal(nb_source_open_gguf("/dev/null", &s, &err), NB_ERR_IO);
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_file), cmocka_unit_test(rows),
                                       cmocka_unit_test(failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
