/* Topic flash: bytes by the formulas of the paper, errors small, memory in proportion to what the algorithms keep. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "support/lab.h"

enum { LENGTHS = 7, BLOCKS = 6 };

static void sides(const nb_lab_views *v)
{
    const json_t *moved = nb_lab_find(v, "sides", "tables", "moved"),
                 *error = nb_lab_find(v, "sides", "tables", "error");
    const json_t *memory = nb_lab_find(v, "sides", "tables", "memory");
    assert_int_equal(json_array_size(moved), LENGTHS);
    for (size_t i = 0; i < LENGTHS; i++) {
        double n = 128 << i, matrix = 4 * n * n;
        const json_t *row = json_array_get(moved, i);
        assert_true(nb_lab_number(row, "length") == n);
        assert_true(nb_lab_number(row, "standard") == 4 * matrix + 4 * n * 64 * 4); /* q, k, v, out */
        assert_true(nb_lab_number(row, "flash") >= 4 * n * 64 * 4);
        row = json_array_get(memory, i);
        assert_true(nb_lab_number(row, "standard") > matrix);
        assert_true(nb_lab_number(row, "flash") < 1024 * n + 2e6);
        row = json_array_get(error, i);
        assert_true(nb_lab_number(row, "standard") < 2e-6 && nb_lab_number(row, "flash") < 2e-6);
    }
    const json_t *last = json_array_get(moved, LENGTHS - 1);
    assert_true(nb_lab_number(last, "flash") * 4 < nb_lab_number(last, "standard"));
}

static void blocks(const nb_lab_views *v)
{
    const json_t *t = nb_lab_find(v, "blocks", "tables", "blocks");
    double n = 256, d = 32, standard = 4 * (4 * n * n + 4 * n * d);
    assert_true(nb_lab_fact_of(v, "blocks", "standard") == standard);
    assert_int_equal(json_array_size(t), BLOCKS);
    for (size_t i = 0; i < BLOCKS; i++) {
        const json_t *row = json_array_get(t, i);
        double b = 8 << i, passes = n / b;
        /* keys and values once; in each pass queries, outputs both ways, sums and maxima both ways */
        double moved = 4 * (2 * n * d + passes * (3 * n * d + 4 * n));
        assert_true(nb_lab_number(row, "block") == b && nb_lab_number(row, "moved") == moved);
        assert_true(fabs(nb_lab_number(row, "share") - moved / standard) < 1e-12);
        assert_true(nb_lab_number(row, "chip") == 4 * (4 * b * d + b * b));
        double error = nb_lab_number(row, "error");
        assert_true(error > 0 && error < 2e-6);
    }
}

/* The two pieces joined are the softmax of all; a tile by the paper's rule moves what the formula says. */
static void formulas(const nb_lab_views *v)
{
    assert_true(fabs(nb_lab_fact_of(v, "softmax", "sum") - 1) < 1e-12);
    assert_true(nb_lab_fact_of(v, "softmax", "difference") < 1e-15);
    const json_t *facts = json_object_get(json_object_get(json_object_get(v->json, "sections"), "blocks"), "facts");
    if (!json_object_get(facts, "paper_keys")) /* not every system tells the size of its caches */
        return;
    double n = 256, d = 32, keys = nb_lab_fact_of(v, "blocks", "paper_keys"), rows = fmin(keys, d);
    double moved = 4 * (2 * n * d + ceil(n / keys) * (3 * n * d + 4 * n)), standard = 4 * (4 * n * n + 4 * n * d);
    assert_true(nb_lab_fact_of(v, "blocks", "paper_rows") == rows);
    assert_true(fabs(nb_lab_fact_of(v, "blocks", "paper_share") - moved / standard) < 1e-12);
}

static void topic(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    nb_lab_views v = nb_lab_views_of("flash", &p);
    formulas(&v);
    sides(&v);
    blocks(&v);
    assert_true(nb_markup_count(v.html.data, "<animate ") == 8 * 8 + 8 + 8);
    nb_lab_views_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(topic)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
