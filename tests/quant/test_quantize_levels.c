/* Every quantizer gives the same bytes at each instruction-set level, whatever the values, weights and alignment; finite
 * values stay finite; nothing else than the row's blocks is written; values that are not finite do no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "quant/quant.h"
#include "quantize_input.h"

enum { COLUMNS = 256 * 5 }; /* K types: two to a group of vectors and one left over; blocks of 32: 40 of them */

/* the types of quantize.c */
static const nb_type ours[] = {NB_TYPE_F32,  NB_TYPE_F16,  NB_TYPE_BF16, NB_TYPE_F64,  NB_TYPE_Q4_0,  NB_TYPE_Q4_1,
                               NB_TYPE_Q5_0, NB_TYPE_Q5_1, NB_TYPE_Q8_0, NB_TYPE_Q2_K, NB_TYPE_Q3_K,  NB_TYPE_Q4_K,
                               NB_TYPE_Q5_K, NB_TYPE_Q6_K, NB_TYPE_Q1_0, NB_TYPE_Q2_0, NB_TYPE_TQ1_0, NB_TYPE_TQ2_0};
enum { OURS = sizeof ours / sizeof *ours };

static const char *const fills[] = {"even", "small", "wide", "half",  "sparse", "zero",
                                    "huge", "tiny",  "bits", "equal", "one",    "positive"};
enum { FILLS = sizeof fills / sizeof *fills };

/* `bits`: any finite float */
static void fill(const char *kind, uint64_t seed, float *x, size_t n)
{
    nb_input_values(kind, seed, x, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)nb_input_word(seed, i);
        if (strcmp(kind, "zero") == 0)
            x[i] = bits & 1 ? 0.0f : -0.0f;
        else if (strcmp(kind, "huge") == 0)
            x[i] = bits & 1 ? 3.4e38f : x[i] * 1e38f;
        else if (strcmp(kind, "tiny") == 0)
            x[i] = x[i] * 1e-40f;
        else if (strcmp(kind, "equal") == 0)
            x[i] = -1.7f;
        else if (strcmp(kind, "one") == 0)
            x[i] = i % 256 == 37 ? 5.0f : 0;
        else if (strcmp(kind, "positive") == 0)
            x[i] = fabsf(x[i]) + 3;
        else if (strcmp(kind, "bits") == 0) {
            bits = (bits & 0x7f800000u) == 0x7f800000u ? bits & 0x807fffffu : bits;
            memcpy(&x[i], &bits, sizeof bits);
        }
    }
}

/* which: none; all alike; of 1 to 256; mostly 0; extreme */
static const float *weigh(int which, float *w)
{
    nb_input_importance(w, COLUMNS);
    for (int i = 0; i < COLUMNS && which != 2; i++) {
        if (which == 1)
            w[i] = 3;
        else if (which == 3)
            w[i] = i < 600 || i % 7 ? 0 : w[i];
        else if (which == 4)
            w[i] = i % 3 ? 1e-30f * w[i] : 1e30f;
    }
    return which == 0 ? NULL : w;
}

static void check(const nb_type_info *type, const char *kind, int which, nb_rounding rounding)
{
    float x[COLUMNS], y[COLUMNS], w[COLUMNS];
    uint8_t expected[COLUMNS * 8 + 8], raw[COLUMNS * 8 + 8];
    size_t bytes = COLUMNS / type->block_values * type->block_bytes;
    fill(kind, 40 + which, x, COLUMNS);
    const float *weight = weigh(which, w);
    memset(expected, 0xa5, sizeof expected);
    nb_cpu_set_level(NB_CPU_REF);
    type->quantize(x, weight, COLUMNS, rounding, expected);
    for (int level = NB_CPU_REF + 1; level <= (int)nb_cpu_best(); level++) {
        memset(raw, 0xa5, sizeof raw);
        nb_cpu_set_level((nb_cpu_level)level);
        type->quantize(x, weight, COLUMNS, rounding, raw + 1); /* an odd address */
        assert_int_equal(raw[0], 0xa5);
        assert_int_equal(raw[bytes + 1], 0xa5);
        if (memcmp(expected, raw + 1, bytes))
            fail_msg("%s, %s values, weights %d: other bytes at level %s", type->name, kind, which,
                     nb_cpu_level_name((nb_cpu_level)level));
    }
    assert_int_equal(expected[bytes], 0xa5);
    type->dequantize(expected, y, COLUMNS);
    for (int i = 0; i < COLUMNS && rounding == NB_ROUND_SEARCH; i++)
        if (!isfinite(y[i]))
            fail_msg("%s, %s values, weights %d: value %d, %g, became %g", type->name, kind, which, i, (double)x[i],
                     (double)y[i]);
}

static void test_levels(void **state)
{
    (void)state;
    for (int id = 0; id < OURS; id++)
        for (int k = 0; k < FILLS; k++)
            for (int which = 0; which < 5; which++) {
                check(nb_type_get(ours[id]), fills[k], which, NB_ROUND_SEARCH);
                if (which == 0)
                    check(nb_type_get(ours[id]), fills[k], which, NB_ROUND_NEAREST);
            }
}

static void test_not_finite(void **state)
{
    (void)state;
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    float x[COLUMNS], w[COLUMNS];
    uint8_t raw[COLUMNS * 8];
    for (int id = 0; id < OURS; id++)
        for (int k = 0; k < 8; k++) {
            fill("even", 9, x, COLUMNS);
            for (int i = 0; i < COLUMNS; i++)
                x[i] = k >= 6 ? bad[i * 7 % 3] : i % 97 == 5 ? bad[k % 3] : x[i];
            for (int level = NB_CPU_REF; level <= (int)nb_cpu_best(); level++) {
                nb_cpu_set_level((nb_cpu_level)level);
                nb_type_get(ours[id])->quantize(x, weigh(k, w), COLUMNS, k & 1 ? NB_ROUND_NEAREST : NB_ROUND_SEARCH,
                                                raw);
            }
        }
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    for (int id = 0; id < OURS; id++)
        for (int rounding = NB_ROUND_SEARCH; rounding <= NB_ROUND_NEAREST; rounding++)
            nb_type_get(ours[id])->quantize(NULL, NULL, 0, (nb_rounding)rounding, NULL);
}

/* integers are not quantized to, nor what only activations are */
static void test_rows(void **state)
{
    (void)state;
    const nb_type without[] = {NB_TYPE_I8, NB_TYPE_I16, NB_TYPE_I32, NB_TYPE_I64, NB_TYPE_Q8_1, NB_TYPE_Q8_K};
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        assert_null(nb_type_get(without[i])->quantize);
    for (int i = 0; i < OURS; i++)
        assert_non_null(nb_type_get(ours[i])->quantize);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels), cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
