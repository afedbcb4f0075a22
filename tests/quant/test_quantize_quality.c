/* What the search leaves: quality.csv holds, for each type on Gaussian rows and on rows of a model, with and without
 * weights, the normalized mean squared error of ours and of ggml's quantizer. Ours is measured again and must be what the
 * file says, at or below ggml's. A change shows as a diff of the file (tools/make_quantize_vectors.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "num/half.h"
#include "quant/quant.h"
#include "quantize_input.h"

enum { GAUSS_ROWS = 16, GAUSS_COLUMNS = 4096, REAL_ROWS = 8, REAL_COLUMNS = 1536 };

typedef struct rows {
    float *x, *weight;
    size_t count, columns;
} rows;

static rows gaussian_rows(void)
{
    rows r = {malloc(sizeof(float) * GAUSS_ROWS * GAUSS_COLUMNS), malloc(sizeof(float) * GAUSS_COLUMNS), GAUSS_ROWS,
              GAUSS_COLUMNS};
    assert_true(r.x && r.weight);
    nb_input_gaussian(r.x, (size_t)GAUSS_ROWS * GAUSS_COLUMNS);
    nb_input_importance(r.weight, GAUSS_COLUMNS);
    return r;
}

static rows real_rows(void)
{
    const size_t n = (size_t)REAL_ROWS * REAL_COLUMNS;
    rows r = {malloc(sizeof(float) * n), malloc(sizeof(float) * REAL_COLUMNS), REAL_ROWS, REAL_COLUMNS};
    uint16_t *half = malloc(sizeof *half * n);
    assert_true(r.x && r.weight && half);
    FILE *f = fopen(NB_TEST_DATA "/quant/rows.f16", "rb");
    assert_non_null(f);
    assert_int_equal(fread(half, sizeof *half, n, f), n);
    fclose(f);
    nb_f16_to_f32_row(half, r.x, n);
    free(half);
    nb_input_importance(r.weight, REAL_COLUMNS);
    return r;
}

static double error_of(const nb_type_info *type, const rows *r, const float *weight, nb_rounding rounding)
{
    uint8_t *raw = malloc(r->columns / type->block_values * type->block_bytes);
    float *y = malloc(r->columns * sizeof *y);
    double error = 0, all = 0;
    assert_true(raw && y);
    for (size_t row = 0; row < r->count; row++) {
        const float *x = r->x + row * r->columns;
        type->quantize(x, weight, r->columns, rounding, raw);
        type->dequantize(raw, y, r->columns);
        for (size_t i = 0; i < r->columns; i++) {
            double off = (double)x[i] - (double)y[i], w = weight ? (double)weight[i] : 1;
            error += w * off * off;
            all += w * (double)x[i] * (double)x[i];
        }
    }
    free(raw);
    free(y);
    return error / all;
}

static void test_table(void **state)
{
    (void)state;
    rows sources[2] = {gaussian_rows(), real_rows()};
    FILE *f = fopen(NB_TEST_DATA "/quant/quality.csv", "r");
    assert_non_null(f);
    char name[16], source[16], weights[16];
    double ours, peer;
    int lines = 0, wrong = 0;
    assert_int_equal(fscanf(f, "%*[^\n]"), 0);
    for (; fscanf(f, " %15[^,],%15[^,],%15[^,],%lf,%lf", name, source, weights, &ours, &peer) == 5; lines++) {
        const nb_type_info *type = nb_type_by_name(nb_str_of(name));
        const rows *r = &sources[strcmp(source, "real") == 0];
        assert_non_null(type);
        double now = error_of(type, r, strcmp(weights, "none") ? r->weight : NULL, NB_ROUND_SEARCH);
        if (!(now <= peer * 1.000001)) { /* Q1_0 without weights has one answer */
            print_error("%s,%s,%s: %.6e is more than ggml's %.6e\n", name, source, weights, now, peer);
            wrong++;
        }
        if (!(fabs(now / ours - 1) < 2e-6)) {
            print_error("%s,%s,%s,%.6e\n", name, source, weights, now);
            wrong++;
        }
    }
    assert_true(feof(f));
    fclose(f);
    for (int i = 0; i < 2; i++) {
        free(sources[i].x);
        free(sources[i].weight);
    }
    assert_int_equal(lines, 14 * 4);
    if (wrong)
        fail_msg("%d lines of quality.csv are not what is measured (printed above)", wrong);
}

/* where both weigh alike, no row gets worse than the plain formula leaves it */
static void test_search_is_no_worse(void **state)
{
    (void)state;
    const char *kinds[] = {"even", "small", "wide", "half", "sparse"};
    float x[1024];
    rows one = {x, NULL, 1, 1024};
    const nb_type types[] = {NB_TYPE_Q4_0, NB_TYPE_Q4_1, NB_TYPE_Q5_0,  NB_TYPE_Q5_1, NB_TYPE_Q8_0,
                             NB_TYPE_Q2_K, NB_TYPE_Q3_K, NB_TYPE_Q4_K,  NB_TYPE_Q5_K, NB_TYPE_Q6_K,
                             NB_TYPE_Q1_0, NB_TYPE_Q2_0, NB_TYPE_TQ1_0, NB_TYPE_TQ2_0};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const nb_type_info *type = nb_type_get(types[t]);
        for (size_t k = 0; k < 2 * sizeof kinds / sizeof *kinds; k++) {
            nb_input_values(kinds[k / 2], 1000 + k, x, 1024);
            if (k / 2 == 2) /* scales that binary16 holds */
                for (int i = 0; i < 1024; i++)
                    x[i] = fabsf(x[i]) < 1e4f ? x[i] : 1;
            double search = error_of(type, &one, NULL, NB_ROUND_SEARCH);
            double nearest = error_of(type, &one, NULL, NB_ROUND_NEAREST);
            if (!(search <= nearest * 1.0001))
                fail_msg("%s, %s values: search leaves %g, nearest %g", type->name, kinds[k / 2], search, nearest);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_search_is_no_worse)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
