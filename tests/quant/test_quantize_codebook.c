/* IQ4_NL, IQ4_XS, MXFP4 and NVFP4: the error against libggml's on the same rows and weights, MXFP4's plain formula
 * against gguf-py to the bit, the same bytes at every instruction-set level, and rows that no model has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "support/digest.h"
#include "support/quality.h"

static const nb_type types[] = {NB_TYPE_IQ4_NL, NB_TYPE_IQ4_XS, NB_TYPE_MXFP4, NB_TYPE_NVFP4};
enum { TYPES = sizeof types / sizeof types[0] };

static bool mine(const nb_type_info *type)
{
    for (int i = 0; i < TYPES; i++)
        if (type->id == types[i])
            return true;
    return false;
}

static void test_quality(void **state)
{
    (void)state;
    assert_int_equal(quality_check(mine), TYPES * 6);
}

static void test_mxfp4_nearest(void **state)
{
    (void)state;
    unsigned long long seed, expected;
    int power, cases = 0;
    static uint32_t raw[64 * 32];
    static float x[64 * 32];
    static uint32_t blocks[64 * 17 / 4];
    FILE *f = fopen(NB_TEST_DATA "/quant/mxfp4_nearest.txt", "r");
    assert_non_null(f);
    for (; fscanf(f, "%llu %d %llx", &seed, &power, &expected) == 3; cases++) {
        nb_seeded_bytes(seed, raw, sizeof raw);
        for (int i = 0; i < 64 * 32; i++) {
            uint32_t bits = (raw[i] & 0x807fffffu) | ((raw[i] >> 23 & 127) + 67) << 23 | (i % 4 ? 0 : 0x7fffff);
            x[i] = power ? (float)ldexp((int32_t)raw[i], power) : nb_f32_of_bits(bits);
        }
        nb_type_get(NB_TYPE_MXFP4)->quantize(x, NULL, 64 * 32, NB_ROUND_NEAREST, blocks);
        nb_digest d = {0};
        for (size_t i = 0; i < sizeof blocks / 4; i++)
            nb_digest_u32(&d, blocks[i]);
        if (d.sum != expected)
            fail_msg("seed %llu, power %d: other bytes than gguf-py's", seed, power);
    }
    assert_true(feof(f));
    fclose(f);
    assert_int_equal(cases, 8);
}

/* The error of a normal distribution over its energy: 13e-3 for MXFP4; IQ4's and NVFP4's lie below 8e-3. */
static void test_anchors(void **state)
{
    (void)state;
    const quality_rows *rows = quality_rows_read();
    for (int t = 0; t < TYPES; t++) {
        const nb_type_info *type = nb_type_get(types[t]);
        double search = quality_of(type, rows, 0, 8, NULL, NB_ROUND_SEARCH);
        double nearest = quality_of(type, rows, 0, 8, NULL, NB_ROUND_NEAREST);
        assert_true(search < (types[t] == NB_TYPE_MXFP4 ? 0.013 : 0.008));
        assert_true(search < nearest && nearest < 0.014);
    }
}

static void test_same_bytes_at_every_level(void **state)
{
    (void)state;
    const quality_rows *rows = quality_rows_read();
    static uint8_t expected[QUALITY_COLUMNS], got[QUALITY_COLUMNS];
    for (int t = 0; t < TYPES; t++) {
        const nb_type_info *type = nb_type_get(types[t]);
        size_t columns = 256 * 5, bytes = columns / type->block_values * type->block_bytes;
        for (int level = 0; level <= (int)nb_cpu_best(); level++) {
            nb_cpu_set_level((nb_cpu_level)level);
            type->quantize(rows->x[9], rows->importance, columns, NB_ROUND_SEARCH, level ? got : expected);
            if (level)
                assert_memory_equal(got, expected, bytes);
        }
        nb_cpu_set_level(nb_cpu_best());
    }
}

static void test_hostile_rows(void **state)
{
    (void)state;
    for (int t = 0; t < TYPES; t++)
        quality_check_hostile(nb_type_get(types[t]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quality),      cmocka_unit_test(test_mxfp4_nearest),
        cmocka_unit_test(test_anchors),      cmocka_unit_test(test_same_bytes_at_every_level),
        cmocka_unit_test(test_hostile_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
