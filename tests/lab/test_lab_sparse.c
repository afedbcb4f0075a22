/* Topic sparse: visible sets by rules written here and by walking back token for token, tiles by counting, fits by another formula. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "lab/lab_measure.h"
#include "support/lab.h"

enum { TOKENS = 16, LONG = 64, LAYERS = 8, LENGTHS = 6 };

typedef bool rule(int query, int key, int layer);

static bool full(int i, int j, int layer) { return (void)i, (void)j, (void)layer, true; }
static bool causal(int i, int j, int layer) { return (void)layer, j <= i; }
static bool sliding(int i, int j, int layer) { return (void)layer, j <= i && j > i - 4; }
static bool two_sided(int i, int j, int layer) { return (void)layer, abs(i - j) <= 2; }
static bool dilated(int i, int j, int layer) { return (void)layer, j == i || j == i - 2 || j == i - 4 || j == i - 6; }
static bool global_two(int i, int j, int layer) { return two_sided(i, j, layer) || i % 8 == 0 || j % 8 == 0; }
static bool sinks(int i, int j, int layer) { return sliding(i, j, layer) || (j <= i && j < 2); }
static bool doubling(int i, int j, int layer)
{
    int step = 1 << layer;
    return j == i || j == i - step || j == i - 2 * step || j == i - 3 * step;
}
static bool global_four(int i, int j, int layer)
{
    return j <= i && (sliding(i, j, layer) || i % 16 == 0 || j % 16 == 0);
}

static double value_at(const json_t *grid, size_t row, size_t column)
{
    const json_t *values = json_object_get(grid, "values");
    const json_t *x = json_array_get(json_array_get(values, row), column);
    assert_true(json_is_number(x));
    return json_number_value(x);
}

static nb_lab_views views_of(void)
{
    nb_lab_params p = nb_lab_defaults();
    return nb_lab_views_of("sparse", &p);
}

static void patterns(const nb_lab_views *v)
{
    static const struct {
        const char *key;
        rule *sees;
    } want[] = {{"full", full},       {"causal", causal},     {"sliding", sliding}, {"two_sided", two_sided},
                {"dilated", dilated}, {"global", global_two}, {"sinks", sinks}};
    const json_t *table = nb_lab_find(v, "patterns", "tables", "pairs");
    assert_int_equal(json_array_size(table), sizeof want / sizeof *want);
    for (size_t p = 0; p < sizeof want / sizeof *want; p++) {
        const json_t *grid = nb_lab_find(v, "patterns", "figures", want[p].key);
        const json_t *row = nb_lab_row(table, "pattern", want[p].key);
        int pairs = 0, most = 0;
        for (int i = 0; i < TOKENS; i++) {
            int keys = 0;
            for (int j = 0; j < TOKENS; j++) {
                bool sees = want[p].sees(i, j, 0);
                keys += sees;
                if (value_at(grid, (size_t)i, (size_t)j) != (double)sees)
                    fail_msg("%s: query %d, key %d", want[p].key, i, j);
            }
            pairs += keys;
            most = keys > most ? keys : most;
        }
        assert_true(nb_lab_number(row, "pairs") == pairs && nb_lab_number(row, "most") == most);
        assert_true(fabs(nb_lab_number(row, "share") - pairs / 256.0) < 1e-12);
    }
}

/* Whether token i of layer `layer`'s output hangs on token j of what goes in at the bottom. */
static bool hangs_on(rule *sees, int i, int j, int layer)
{
    if (layer < 0)
        return i == j;
    for (int k = 0; k < LONG; k++)
        if (sees(i, k, layer) && hangs_on(sees, k, j, layer - 1))
            return true;
    return false;
}

static void layers(const nb_lab_views *v)
{
    static const struct {
        const char *key;
        rule *sees;
    } want[] = {
        {"sliding", sliding}, {"dilated", dilated}, {"doubling", doubling}, {"sinks", sinks}, {"global", global_four}};
    enum { DEEP = 4 }; /* by walking every path; deeper ones by formulas below */
    const json_t *table = nb_lab_find(v, "layers", "tables", "reach");
    for (size_t p = 0; p < sizeof want / sizeof *want; p++) {
        const json_t *grid = nb_lab_find(v, "layers", "figures", want[p].key);
        for (int l = 0; l < LAYERS; l++) {
            int count = 0;
            for (int j = 0; j < LONG; j++) {
                bool told = value_at(grid, (size_t)l, (size_t)j) > 0;
                count += told;
                if (l < DEEP && told != hangs_on(want[p].sees, LONG - 1, j, l))
                    fail_msg("%s, %d layers: token %d", want[p].key, l + 1, j);
            }
            assert_true(nb_lab_number(json_array_get(table, (size_t)l), want[p].key) == count);
        }
    }
    for (int l = 1; l <= LAYERS; l++) {
        const json_t *row = json_array_get(table, (size_t)l - 1);
        assert_true(nb_lab_number(row, "sliding") == 1 + 3 * l);
        assert_true(nb_lab_number(row, "dilated") == 1 + 3 * l);
        assert_true(nb_lab_number(row, "doubling") == fmin(LONG, 1 + 3 * ((1 << l) - 1)));
        assert_true(nb_lab_number(row, "sinks") == 3 + 3 * l);
    }
}

/* Tiles with a key that a query of theirs sees: [window 0: causal]. */
static int count_tiles(int length, int rows, int keys, int window)
{
    int count = 0;
    for (int i = 0; i < length; i += rows)
        for (int j = 0; j < length; j += keys) {
            int last = i + rows < length ? i + rows - 1 : length - 1, end = j + keys - 1;
            count += j <= last && (window == 0 || end > i - window);
        }
    return count;
}

static void cost(const nb_lab_views *v)
{
    const json_t *tiles = nb_lab_find(v, "cost", "tables", "tiles"), *time = nb_lab_find(v, "cost", "tables", "time");
    const json_t *memory = nb_lab_find(v, "cost", "tables", "memory");
    const json_t *fits = nb_lab_find(v, "cost", "tables", "fits");
    int rows = (int)nb_lab_fact_of(v, "cost", "tile_rows"), keys = (int)nb_lab_fact_of(v, "cost", "tile_keys");
    assert_true(nb_lab_fact_of(v, "cost", "difference") < 4e-6);
    assert_true(rows > 0 && keys > 0 && json_array_size(tiles) == LENGTHS);
    for (size_t l = 0; l < LENGTHS; l++) {
        const json_t *row = json_array_get(tiles, l);
        int length = (int)nb_lab_number(row, "length");
        assert_int_equal(length, 512 << l);
        assert_true(nb_lab_number(row, "dense") == count_tiles(length, rows, keys, 0));
        assert_true(nb_lab_number(row, "sliding") == count_tiles(length, rows, keys, 256));
        assert_true(nb_lab_number(row, "dilated") < nb_lab_number(row, "sliding"));
        assert_true(nb_lab_number(row, "global") > nb_lab_number(row, "sliding"));
        row = json_array_get(memory, l);
        assert_true(nb_lab_number(row, "matrix") == 4.0 * length * length);
        assert_true(nb_lab_number(row, "dense") < 3000.0 * length);
    }
    static const char *const keys_of[] = {"dense", "sliding", "dilated", "global"};
    for (size_t p = 0; p < 4; p++) {
        const json_t *fit = json_array_get(fits, p);
        double n = LENGTHS, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0;
        for (size_t l = 0; l < LENGTHS; l++) { /* the formulas with sums, in units that keep their digits */
            double x = (double)(1 << l), y = 1e6 * nb_lab_number(json_array_get(time, l), keys_of[p]);
            x = p == 0 ? x * x : x;
            sx += x, sy += y, sxx += x * x, sxy += x * y, syy += y * y;
        }
        double slope = (n * sxy - sx * sy) / (n * sxx - sx * sx), unit = p == 0 ? 512.0 * 512 : 512;
        double r = (n * sxy - sx * sy) / sqrt((n * sxx - sx * sx) * (n * syy - sy * sy));
        assert_true(fabs(nb_lab_number(fit, "slope") / (1e3 * slope / unit) - 1) < 1e-6);
        assert_true(fabs(nb_lab_number(fit, "r2") - r * r) < 1e-6);
        assert_true(nb_lab_number(fit, "r2_tiles") > 0.999);
        double power = nb_lab_number(fit, "tiles_power");
        assert_true(p == 0 ? power > 1.7 && power < 2 : power > 0.95 && power < 1.2);
    }
}

static void topic(void **state)
{
    (void)state;
    nb_lab_views v = views_of();
    patterns(&v);
    layers(&v);
    cost(&v);
    nb_lab_expect_text(&v, "1 + layers x (window - 1) = 1 + 8 x 3 = 25 tokens");
    nb_lab_views_free(&v);
}

static void fits(void **state)
{
    (void)state;
    const double x[] = {1, 2, 4, 8}, line[] = {5, 7, 11, 19}, cube[] = {3, 24, 192, 1536}, bent[] = {0, 1, 1, 0};
    nb_lab_line l = nb_lab_fit(x, line, 4);
    assert_true(fabs(l.base - 3) < 1e-12 && fabs(l.slope - 2) < 1e-12 && fabs(l.r2 - 1) < 1e-12);
    assert_true(fabs(nb_lab_power(x, cube, 4) - 3) < 1e-12);
    const double even[] = {0, 1, 2, 3};
    l = nb_lab_fit(even, bent, 4);
    assert_true(fabs(l.base - 0.5) < 1e-12 && fabs(l.slope) < 1e-12 && l.r2 < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(topic), cmocka_unit_test(fits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
