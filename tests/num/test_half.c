/* f16 and bf16: all 65536 numbers widened, and two million floats narrowed (every rounding boundary, NaNs, a stride
 * through all floats), against digests of numpy's answers (bf16: gguf-py's). Rows at every instruction-set
 * level. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "num/half.h"
#include "support/digest.h"

static uint64_t expected(const char *name)
{
    FILE *f = fopen(NB_TEST_DATA "/num/half.txt", "r");
    assert_non_null(f);
    char key[32];
    unsigned long long digest, found = 0;
    int matches = 0;
    while (fscanf(f, "%31s %llx", key, &digest) == 2)
        if (strcmp(key, name) == 0) {
            found = digest;
            matches++;
        }
    fclose(f);
    assert_int_equal(matches, 1);
    return found;
}

static void check_widen(const char *name, float (*one)(uint16_t), void (*row)(const uint16_t *, float *, size_t))
{
    static uint16_t narrow[65536];
    static float wide[65536];
    nb_digest d = {0};
    for (uint32_t i = 0; i < 65536; i++) {
        narrow[i] = (uint16_t)i;
        nb_digest_u32(&d, nb_f32_bits(one((uint16_t)i)));
    }
    assert_true(d.sum == expected(name));
    for (nb_cpu_level level = NB_CPU_REF; level <= nb_cpu_best(); level++) {
        nb_cpu_set_level(level);
        row(narrow, wide, 65533); /* a tail */
        row(narrow + 65533, wide + 65533, 3);
        nb_digest r = {0};
        for (uint32_t i = 0; i < 65536; i++)
            nb_digest_u32(&r, nb_f32_bits(wide[i]));
        assert_true(r.sum == d.sum);
    }
}

/* Fills x with the inputs of tools/make_quant_vectors.py, rounding_inputs(), and returns how many. */
static size_t rounding_inputs(float *x)
{
    static const uint32_t low[] = {0,      1,      0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000,
                                   0x2fff, 0x3000, 0x3001, 0x7fff, 0x8000, 0x8001, 0xffff};
    size_t n = 0;
    for (uint32_t top = 0; top < 65536; top++)
        for (size_t i = 0; i < sizeof low / sizeof *low; i++)
            x[n++] = nb_f32_of_bits(top << 16 | low[i]);
    for (uint16_t h = 0; h < 0x7c00; h++) {
        float next = h == 0x7bff ? 65536.0f : nb_f16_to_f32((uint16_t)(h + 1));
        uint32_t middle = nb_f32_bits((nb_f16_to_f32(h) + next) / 2);
        for (uint32_t u = middle - 1; u != middle + 2; u++) {
            x[n++] = nb_f32_of_bits(u);
            x[n++] = nb_f32_of_bits(u | 0x80000000u);
        }
    }
    for (uint32_t i = 0; i < 1u << 20; i++)
        x[n++] = nb_f32_of_bits(i * 4099u);
    return n;
}

enum { INPUTS = 65536 * 14 + 0x7c00 * 6 + (1 << 20) };

static void check_narrow(const char *name, uint16_t (*one)(float), void (*row)(const float *, uint16_t *, size_t))
{
    float *x = malloc(INPUTS * sizeof *x);
    uint16_t *y = malloc(INPUTS * sizeof *y);
    assert_non_null(x);
    assert_non_null(y);
    assert_int_equal(rounding_inputs(x), INPUTS);
    nb_digest d = {0};
    for (size_t i = 0; i < INPUTS; i++)
        nb_digest_u32(&d, one(x[i]));
    assert_true(d.sum == expected(name));
    for (nb_cpu_level level = NB_CPU_REF; level <= nb_cpu_best(); level++) {
        nb_digest r = {0};
        nb_cpu_set_level(level);
        row(x, y, INPUTS - 5);
        row(x + INPUTS - 5, y + INPUTS - 5, 5);
        for (size_t i = 0; i < INPUTS; i++)
            nb_digest_u32(&r, y[i]);
        assert_true(r.sum == d.sum);
    }
    free(x);
    free(y);
}

static void test_f16_to_f32(void **state)
{
    (void)state;
    check_widen("f16_to_f32", nb_f16_to_f32, nb_f16_to_f32_row);
}

static void test_bf16_to_f32(void **state)
{
    (void)state;
    check_widen("bf16_to_f32", nb_bf16_to_f32, nb_bf16_to_f32_row);
}

static void test_f32_to_f16(void **state)
{
    (void)state;
    check_narrow("f32_to_f16", nb_f32_to_f16, nb_f32_to_f16_row);
}

static void test_f32_to_bf16(void **state)
{
    (void)state;
    check_narrow("f32_to_bf16", nb_f32_to_bf16, nb_f32_to_bf16_row);
}

/* what every reader can check in the head; the digests say the rest */
static void test_known_values(void **state)
{
    (void)state;
    assert_true(nb_f16_to_f32(0x3c00) == 1.0f && nb_f16_to_f32(0xc000) == -2.0f);
    assert_true(nb_f16_to_f32(0x0001) == 0x1p-24f && nb_f16_to_f32(0x7bff) == 65504.0f);
    assert_int_equal(nb_f32_to_f16(65519.99f), 0x7bff);
    assert_int_equal(nb_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(nb_f32_to_f16(0x1p-25f), 0); /* a tie between 0 and the least subnormal: to even */
    assert_int_equal(nb_f32_to_f16(0x1.8p-24f), 2);
    assert_int_equal(nb_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(nb_f32_to_bf16(1.00390625f), 0x3f80); /* 1 + 2^-8: a tie, to even */
    assert_int_equal(nb_f32_to_bf16(1.01171875f), 0x3f82); /* 1 + 3 * 2^-8 */
    assert_int_equal(nb_f32_to_bf16(nb_f32_of_bits(0x7f800001)), 0x7fc0);
    assert_int_equal(nb_f32_to_bf16(3.4028235e38f), 0x7f80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_to_f32),  cmocka_unit_test(test_bf16_to_f32),  cmocka_unit_test(test_f32_to_f16),
        cmocka_unit_test(test_f32_to_bf16), cmocka_unit_test(test_known_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
