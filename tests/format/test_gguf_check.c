/* Values that are not finite are found, with their row and column, in every type that can be decoded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "format/gguf_check.h"

enum { COLUMNS = 512, ROWS = 37 };

static nb_gguf_tensor tensor_of(const nb_type_info *type, void *data)
{
    nb_gguf_tensor t = {.name = NB_STR("t"), .type = type, .n_dims = 2, .dims = {COLUMNS, ROWS, 1, 1}, .offset = 4096};
    t.bytes = (size_t)COLUMNS * ROWS / type->block_values * type->block_bytes;
    t.data = data;
    return t;
}

static void floats(void **state)
{
    (void)state;
    float *x = calloc(COLUMNS * ROWS, sizeof *x);
    assert_non_null(x);
    nb_gguf_tensor t = tensor_of(nb_type_get(NB_TYPE_F32), x);
    nb_gguf_check found;
    x[5] = 3.4e38f;
    x[6] = 1e-45f;
    nb_gguf_check_tensor(&t, &found);
    assert_true(found.decoded && found.bad == 0);
    x[20 * COLUMNS + 511] = -INFINITY;
    x[36 * COLUMNS + 511] = NAN; /* the very last */
    nb_gguf_check_tensor(&t, &found);
    assert_int_equal(found.bad, 2);
    assert_int_equal(found.row, 20);
    assert_int_equal(found.column, 511);
    assert_int_equal(found.offset, 4096 + (20 * COLUMNS + 511) * 4);
    assert_true(isinf(found.value));
    free(x);
}

/* All bytes ones: whatever the layout, a scale is NaN (half floats) and nothing else could go unseen. */
static void every_type(void **state)
{
    (void)state;
    int decoded = 0;
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++) {
        const nb_type_info *type = nb_type_get(id);
        if (!type)
            continue;
        nb_gguf_check found;
        size_t bytes = (size_t)COLUMNS * ROWS / type->block_values * type->block_bytes;
        unsigned char *x = calloc(1, bytes);
        assert_non_null(x);
        nb_gguf_tensor t = tensor_of(type, x);
        nb_gguf_check_tensor(&t, &found);
        assert_int_equal(found.decoded, type->dequantize != NULL);
        assert_int_equal(found.bad, 0);
        size_t row = bytes / ROWS, block = type->block_bytes;
        memset(x + 30 * row + row - block, 0xff, block); /* the last block of row 30 */
        nb_gguf_check_tensor(&t, &found);
        if (found.decoded && id < NB_TYPE_IQ2_XXS) {
            decoded++;
            assert_int_equal(found.bad, type->block_values);
            assert_int_equal(found.row, 30);
            assert_int_equal(found.column, COLUMNS - type->block_values);
            assert_int_equal(found.offset, 4096 + 31 * row - block);
        }
        free(x);
    }
    assert_int_equal(decoded, 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats),
        cmocka_unit_test(every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
