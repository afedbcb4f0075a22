/* The table of types against the sizes that the format fixes (bytes a block, values a block, by GGUF id). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/quant.h"

static void check_type(const char *name, uint32_t id, uint32_t values, uint32_t bytes)
{
    const nb_type_info *type = nb_type_get(id);
    assert_non_null(type);
    assert_string_equal(type->name, name);
    assert_int_equal(type->id, id);
    assert_int_equal(type->block_values, values);
    assert_int_equal(type->block_bytes, bytes);
    assert_ptr_equal(nb_type_by_name(nb_str_of(name)), type);
}

static void test_ids_and_sizes(void **state)
{
    (void)state;
    check_type("F32", 0, 1, 4);
    check_type("F16", 1, 1, 2);
    check_type("Q4_0", 2, 32, 18);
    check_type("Q5_1", 7, 32, 24);
    check_type("Q8_0", 8, 32, 34);
    check_type("Q2_K", 10, 256, 84);
    check_type("Q6_K", 14, 256, 210);
    check_type("IQ4_XS", 23, 256, 136);
    check_type("I64", 27, 1, 8);
    check_type("BF16", 30, 1, 2);
    check_type("TQ1_0", 34, 256, 54);
    check_type("MXFP4", 39, 32, 17);
    check_type("NVFP4", 40, 64, 36);
    check_type("Q2_0", 42, 64, 18);
    check_type("NF4", 64, 64, 36);
    check_type("FP4", 65, 64, 36);
    check_type("INT8", 66, 32, 36);
}

static void test_names_in_any_case(void **state)
{
    (void)state;
    assert_int_equal(nb_type_by_name(NB_STR("q4_k"))->id, NB_TYPE_Q4_K);
    assert_int_equal(nb_type_by_name(NB_STR("bF16"))->id, NB_TYPE_BF16);
    assert_null(nb_type_by_name(NB_STR("")));
    assert_null(nb_type_by_name(NB_STR("Q4")));
    assert_null(nb_type_by_name(NB_STR("Q4_K_M")));
}

static void test_missing_ids(void **state)
{
    (void)state;
    static const uint32_t removed[] = {4, 5, 31, 32, 33, 36, 37, 38};
    for (size_t i = 0; i < sizeof removed / sizeof *removed; i++) {
        assert_null(nb_type_get(removed[i]));
        assert_string_equal(nb_type_why_missing(removed[i]), "removed");
    }
    static const uint32_t unknown[] = {43, 44, 255, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_null(nb_type_get(unknown[i]));
        assert_string_equal(nb_type_why_missing(unknown[i]), "unknown");
    }
    int rows = 0;
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++)
        rows += nb_type_get(id) != NULL;
    assert_int_equal(rows, 38);
    for (uint32_t id = NB_TYPE_FILE_LIMIT; id < 64; id++)
        assert_null(nb_type_get(id));
}

static void test_row_bytes(void **state)
{
    (void)state;
    size_t bytes = 0;
    assert_true(nb_type_row_bytes(nb_type_get(NB_TYPE_Q4_K), 4096, &bytes));
    assert_int_equal(bytes, 16 * 144);
    assert_true(nb_type_row_bytes(nb_type_get(NB_TYPE_F32), 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(nb_type_row_bytes(nb_type_get(NB_TYPE_Q4_K), 4096 - 32, &bytes));
    assert_false(nb_type_row_bytes(nb_type_get(NB_TYPE_Q8_0), 33, &bytes));
    assert_false(nb_type_row_bytes(nb_type_get(NB_TYPE_F32), UINT64_MAX, &bytes));
    assert_false(nb_type_row_bytes(nb_type_get(NB_TYPE_Q8_0), UINT64_MAX / 32 * 32, &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_and_sizes),
        cmocka_unit_test(test_names_in_any_case),
        cmocka_unit_test(test_missing_ids),
        cmocka_unit_test(test_row_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
