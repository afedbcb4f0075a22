/* The plain formulas against gguf-py, byte for byte (Q1_0, Q2_0: ggml); for F32 and F64, that nothing is lost; for the
 * K types, that no value is farther off than half a step of the widest sub-block and a scale's rounding allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "quantize_input.h"

static void test_gguf_py(void **state)
{
    (void)state;
    FILE *f = fopen(NB_TEST_DATA "/quant/quantize.txt", "r");
    assert_non_null(f);
    char name[16], kind[16];
    unsigned long long seed, digest;
    size_t n;
    int lines = 0;
    for (; fscanf(f, "%15s %15s %llu %zu %llx", name, kind, &seed, &n, &digest) == 5; lines++) {
        const nb_type_info *type = nb_type_by_name(nb_str_of(name));
        assert_non_null(type);
        size_t bytes = n / type->block_values * type->block_bytes;
        float *x = malloc(n * sizeof *x);
        uint8_t *raw = malloc(bytes + 1);
        assert_true(x && raw);
        nb_input_values(kind, seed, x, n);
        raw[bytes] = 0x5a;
        type->quantize(x, NULL, n, NB_ROUND_NEAREST, raw);
        nb_digest d = {0};
        for (size_t i = 0; i < bytes; i++)
            nb_digest_u32(&d, raw[i]);
        assert_int_equal(raw[bytes], 0x5a);
        if (d.sum != digest)
            fail_msg("%s of %s values, seed %llu: other bytes than gguf-py's", name, kind, seed);
        free(x);
        free(raw);
    }
    assert_true(feof(f));
    fclose(f);
    assert_int_equal(lines, 55);
}

static void test_plain_numbers(void **state)
{
    (void)state;
    float x[100], y[100];
    double z[100];
    nb_input_values("wide", 5, x, 100);
    x[0] = -0.0f;
    for (int rounding = NB_ROUND_SEARCH; rounding <= NB_ROUND_NEAREST; rounding++) {
        nb_type_get(NB_TYPE_F32)->quantize(x, NULL, 100, (nb_rounding)rounding, y);
        assert_memory_equal(x, y, sizeof x);
        nb_type_get(NB_TYPE_F64)->quantize(x, NULL, 100, (nb_rounding)rounding, z);
        nb_dequantize_f64(z, y, 100);
        assert_memory_equal(x, y, sizeof x);
    }
}

/* too large for 16 bits: nearest says infinity, as gguf-py does; search stays finite */
static void test_halves_saturate(void **state)
{
    (void)state;
    const float x[6] = {65519.9f, 65520.0f, -1e30f, 3.3e38f, 3.4e38f, -3.4e38f};
    uint16_t near[6], search[6];
    nb_quantize_f16(x, NULL, 6, NB_ROUND_NEAREST, near);
    nb_quantize_f16(x, NULL, 6, NB_ROUND_SEARCH, search);
    const uint16_t f16_near[6] = {0x7bff, 0x7c00, 0xfc00, 0x7c00, 0x7c00, 0xfc00};
    const uint16_t f16_search[6] = {0x7bff, 0x7bff, 0xfbff, 0x7bff, 0x7bff, 0xfbff};
    assert_memory_equal(near, f16_near, sizeof near);
    assert_memory_equal(search, f16_search, sizeof search);
    nb_quantize_bf16(x, NULL, 6, NB_ROUND_NEAREST, near);
    nb_quantize_bf16(x, NULL, 6, NB_ROUND_SEARCH, search);
    const uint16_t bf16_search[6] = {0x4780, 0x4780, 0xf14a, 0x7f78, 0x7f7f, 0xff7f};
    assert_int_equal(near[4], 0x7f80);
    assert_memory_equal(search, bf16_search, sizeof search);
}

static void check_k(nb_type id, double parts)
{
    const nb_type_info *type = nb_type_get(id);
    float x[1024], y[1024];
    uint8_t raw[1024];
    nb_input_values("even", 77, x, 1024);
    type->quantize(x, NULL, 1024, NB_ROUND_NEAREST, raw);
    type->dequantize(raw, y, 1024);
    for (int i = 0; i < 1024; i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= parts))
            fail_msg("%s: %g became %g", type->name, (double)x[i], (double)y[i]);
}

/* values in -1..1: half of a step (2 over the number of steps), and what the rounding of scale and minimum moves the ends */
static void test_k_types(void **state)
{
    (void)state;
    check_k(NB_TYPE_Q2_K, 1.0 / 3 + 2.0 / 30 + 1.0 / 30);
    check_k(NB_TYPE_Q3_K, 1.0 / 4 + 1.0 / 64 + 0.01);
    check_k(NB_TYPE_Q4_K, 1.0 / 15 + 2.0 / 126 + 1.0 / 126);
    check_k(NB_TYPE_Q5_K, 1.0 / 31 + 2.0 / 126 + 1.0 / 126);
    check_k(NB_TYPE_Q6_K, 1.0 / 32 + 1.0 / 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gguf_py), cmocka_unit_test(test_plain_numbers),
                                       cmocka_unit_test(test_halves_saturate), cmocka_unit_test(test_k_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
