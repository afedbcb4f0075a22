/* Linear quantization against optimum-quanto and PyTorch (tests/data/quant/linear.safetensors, made by
 * tools/make_linear_vectors.py), and against what its definitions imply. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "support/safetensors.h"

enum { ROWS = 16, COLUMNS = 128, TOKENS = 5 };

static nb_vectors vectors;

static int open_vectors(void **state)
{
    (void)state;
    return nb_vectors_open(&vectors, "quant/linear.safetensors") ? 0 : -1;
}

static int close_vectors(void **state)
{
    (void)state;
    nb_vectors_close(&vectors);
    return 0;
}

static size_t index_of(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    fail_msg("unknown name %s", name);
    return 0;
}

/* "int4.shift.row.32" */
static nb_linear_params parse(const char *stem)
{
    static const char *const codes[] = {"int8", "int4", "int2", "f8_e4m3", "f8_e5m2"};
    static const char *const forms[] = {"symmetric", "affine", "shift"}, *const axes[] = {"tensor", "row", "column"};
    char code[16], form[16], axis[16];
    unsigned group;
    assert_int_equal(sscanf(stem, "%15[^.].%15[^.].%15[^.].%u", code, form, axis, &group), 4);
    return (nb_linear_params){(nb_linear_code)index_of(codes, 5, code), (nb_linear_form)index_of(forms, 3, form),
                              (nb_linear_axis)index_of(axes, 3, axis), group};
}

static void assert_floats(const char *stem, const char *what, const float *got, const float *want, size_t n,
                          double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * fabs((double)want[i])))
            fail_msg("%s: %s %zu is %.9g, expected %.9g", stem, what, i, (double)got[i], (double)want[i]);
}

static void check_layers(const char *stem, const nb_linear_weight *w)
{
    static const char *const kinds[] = {".a32", ".a16", ".abf16", ".a8_static", ".a8_dynamic"};
    const float *input = nb_vectors_need(&vectors, "input", "").p, *bias = nb_vectors_need(&vectors, "bias", "").p;
    float y[TOKENS * ROWS], scale = *(const float *)nb_vectors_need(&vectors, "static_scale", "").p;
    bool integers = strcmp(stem, "int8.symmetric.row.0") == 0;
    for (int kind = 0; kind < (integers ? 5 : 3); kind++) {
        assert_int_equal(nb_linear_forward(w, input, TOKENS, bias, (nb_linear_activation)kind, scale, y, NULL), NB_OK);
        const float *want = nb_vectors_need(&vectors, stem, kinds[kind]).p;
        for (size_t i = 0; i < TOKENS * ROWS; i++) /* sums of other orders: one unit of the largest terms */
            if (!(fabs((double)y[i] - (double)want[i]) <= 2e-7 * fabs((double)want[i]) + 1e-6))
                fail_msg("%s%s: %zu is %.9g, expected %.9g", stem, kinds[kind], i, (double)y[i], (double)want[i]);
    }
}

static void check_case(const char *stem)
{
    nb_linear_params p = parse(stem);
    size_t scales = nb_linear_scales(&p, ROWS, COLUMNS);
    const float *x = nb_vectors_need(&vectors, "x", "").p;
    nb_vector codes = nb_vectors_need(&vectors, stem, ".codes"), scale = nb_vectors_need(&vectors, stem, ".scale");
    int8_t got[ROWS * COLUMNS];
    float *got_scale = calloc(2 * scales, sizeof *got_scale), *got_offset = got_scale + scales, back[ROWS * COLUMNS];
    nb_error err = {0};
    assert_int_equal(scale.n, scales);
    if (nb_linear_quantize(&p, x, ROWS, COLUMNS, got, got_scale, got_offset, &err) != NB_OK)
        fail_msg("%s: %s", stem, err.message);
    assert_memory_equal(got_scale, scale.p, scales * sizeof(float));
    if (p.form != NB_LINEAR_SYMMETRIC)
        assert_floats(stem, "offset", got_offset, nb_vectors_need(&vectors, stem, ".offset").p, scales, 0);
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        if (got[i] != ((const int8_t *)codes.p)[i])
            fail_msg("%s: code %zu is %d, expected %d (%.9g)", stem, i, got[i], ((const int8_t *)codes.p)[i],
                     (double)x[i]);
    assert_int_equal(nb_linear_dequantize(&p, got, got_scale, got_offset, ROWS, COLUMNS, back, NULL), NB_OK);
    assert_floats(stem, "value", back, nb_vectors_need(&vectors, stem, ".dequant").p, ROWS * COLUMNS, 0);
    memset(got, 99, sizeof got);
    assert_int_equal(nb_linear_encode(&p, x, ROWS, COLUMNS, got_scale, got_offset, got, NULL), NB_OK);
    assert_memory_equal(got, codes.p, sizeof got);
    nb_linear_weight w = {p, got, got_scale, got_offset, ROWS, COLUMNS};
    check_layers(stem, &w);
    free(got_scale);
}

static void test_oracle(void **state)
{
    (void)state;
    nb_vector t;
    int cases = 0;
    for (vectors.at = 8; nb_vectors_next(&vectors, &t);) {
        char *end = strstr(t.name, ".codes");
        if (end) {
            *end = 0;
            check_case(t.name);
            cases++;
        }
    }
    assert_int_equal(cases, 9 + 8 + 9);
}

static void test_packing(void **state)
{
    (void)state;
    static const int8_t two[] = {1, 0, 3, 2, -1}, four[] = {-8, 7, 3};
    uint8_t packed[4] = {0};
    int8_t back[5];
    assert_int_equal(nb_linear_pack(two, 5, 2, packed, NULL), NB_OK);
    assert_int_equal(packed[0], 177);
    assert_int_equal(packed[1], 3);
    assert_int_equal(nb_linear_unpack(packed, 5, 2, false, back, NULL), NB_OK);
    assert_int_equal(back[3], 2);
    assert_int_equal(back[4], 3);
    assert_int_equal(nb_linear_unpack(packed, 5, 2, true, back, NULL), NB_OK);
    assert_int_equal(back[3], -2);
    assert_int_equal(nb_linear_pack(four, 3, 4, packed, NULL), NB_OK);
    assert_int_equal(packed[0], 0x78);
    assert_int_equal(packed[1], 3);
    assert_int_equal(nb_linear_unpack(packed, 3, 4, true, back, NULL), NB_OK);
    assert_memory_equal(back, four, 3);
    nb_error err;
    assert_int_equal(nb_linear_pack(four, 3, 3, packed, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "3 bits"));
}

static void test_calibration(void **state)
{
    (void)state;
    nb_vector sample = nb_vectors_need(&vectors, "input", "");
    const float *want = nb_vectors_need(&vectors, "percentile", "").p;
    float min, max, whole_min, whole_max;
    assert_int_equal(nb_linear_calibrate(NB_LINEAR_MIN_MAX, NB_LINEAR_INT8, NB_LINEAR_AFFINE, sample.p, sample.n, 0,
                                         &whole_min, &whole_max, NULL),
                     NB_OK);
    assert_true(whole_max == 9.5f && whole_min < -2);
    assert_int_equal(nb_linear_calibrate(NB_LINEAR_PERCENTILE, NB_LINEAR_INT8, NB_LINEAR_AFFINE, sample.p, sample.n,
                                         0.99, &min, &max, NULL),
                     NB_OK);
    assert_floats("percentile", "minimum", &min, &want[0], 1, 1e-6);
    assert_floats("percentile", "maximum", &max, &want[1], 1, 1e-6);
    assert_int_equal(nb_linear_calibrate(NB_LINEAR_PERCENTILE, NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, sample.p, sample.n,
                                         0.99, &min, &max, NULL),
                     NB_OK);
    assert_floats("percentile", "magnitude", &max, &want[2], 1, 1e-6);
    assert_true(min == -max);
    /* of few codes the best range leaves the one outlier out; its error is below that of the whole range */
    assert_int_equal(nb_linear_calibrate(NB_LINEAR_MSE, NB_LINEAR_INT4, NB_LINEAR_SYMMETRIC, sample.p, sample.n, 0,
                                         &min, &max, NULL),
                     NB_OK);
    assert_true(max < 0.9f * whole_max && max > 1);
    nb_error err;
    assert_int_equal(nb_linear_calibrate(NB_LINEAR_PERCENTILE, NB_LINEAR_INT8, NB_LINEAR_AFFINE, sample.p, sample.n, 0,
                                         &min, &max, &err),
                     NB_ERR_ARGUMENT);
}

static void test_corners(void **state)
{
    (void)state;
    float scale, offset, x[8] = {3, 3, 3, 3, 3, 3, 3, 3}, s[8], o[8], back[8];
    int8_t codes[8];
    nb_error err;
    for (int form = 0; form < 3; form++) { /* a constant is kept (to a rounding), zeros stay zeros */
        nb_linear_params p = {.code = NB_LINEAR_INT8, .form = (nb_linear_form)form, .axis = NB_LINEAR_ROW};
        for (int zero = 0; zero < 2; zero++) {
            for (int i = 0; i < 8; i++)
                x[i] = zero ? 0 : 3;
            assert_int_equal(nb_linear_quantize(&p, x, 1, 8, codes, s, o, NULL), NB_OK);
            assert_int_equal(nb_linear_dequantize(&p, codes, s, o, 1, 8, back, NULL), NB_OK);
            assert_floats("constant", "value", back, x, 8, 1e-6);
        }
    }
    assert_int_equal(nb_linear_scale(NB_LINEAR_INT8, NB_LINEAR_AFFINE, -1, 3, &scale, &offset, NULL), NB_OK);
    assert_true(scale == 4.0f / 255 && offset == -64);
    x[5] = INFINITY;
    nb_linear_params p = {.axis = NB_LINEAR_ROW, .group = 3};
    assert_int_equal(nb_linear_quantize(&p, x, 1, 8, codes, s, o, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "groups of 3"));
    p.group = 4;
    assert_int_equal(nb_linear_quantize(&p, x, 1, 8, codes, s, o, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "value 5"));
    p = (nb_linear_params){.code = NB_LINEAR_F8_E4M3, .form = NB_LINEAR_AFFINE};
    assert_int_equal(nb_linear_quantize(&p, x, 1, 4, codes, s, o, &err), NB_ERR_ARGUMENT);
    nb_linear_weight w = {{.code = NB_LINEAR_INT4, .axis = NB_LINEAR_ROW}, codes, s, o, 1, 4};
    assert_int_equal(nb_linear_forward(&w, x, 1, NULL, NB_LINEAR_A8_DYNAMIC, 0, back, &err), NB_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_corners),
    };
    return cmocka_run_group_tests(tests, open_vectors, close_vectors);
}
