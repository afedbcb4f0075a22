/* Every number format against PyTorch and ml_dtypes: all codes decoded, every rounding boundary encoded in both ways of
 * overflow, the limits (tests/data/num/numbers.txt, made by tools/make_number_vectors.py). TF32, UE4M3 and integers, which
 * these do not have or convert in another way, against their definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "num/fp8.h"
#include "num/number.h"
#include "support/digest.h"

static nb_number by_name(const char *name)
{
    for (int i = 0; i < NB_NUMBERS; i++)
        if (strcmp(nb_number_get((nb_number)i).name, name) == 0)
            return (nb_number)i;
    fail_msg("no format %s", name);
    return NB_NUMBERS;
}

static uint64_t decode_digest(nb_number format)
{
    nb_digest d = {0};
    for (uint64_t code = 0; code < (uint64_t)1 << nb_number_get(format).bits; code++) {
        float x = (float)nb_number_decode(format, code);
        nb_digest_floats(&d, &x, 1);
    }
    return d.sum;
}

/* ---- the inputs of tools/make_number_vectors.py, encode_inputs() ---- */

typedef struct inputs {
    uint32_t *bits;
    size_t count;
} inputs;

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* bits of the float nearest to x, and its two neighbours */
static void put_edge(inputs *in, double x)
{
    uint32_t bits = nb_f32_bits((float)x);
    if (bits >= 0x7f800000u)
        return;
    for (uint32_t near = bits ? bits - 1 : 0; near <= bits + 1; near++)
        in->bits[in->count++] = near;
    if (bits == 0)
        in->bits[in->count++] = 0;
}

static inputs make_inputs(nb_number format)
{
    size_t codes = (size_t)1 << nb_number_get(format).bits, finite = 0;
    double *value = calloc(codes, sizeof *value);
    inputs in = {.bits = calloc(12 * codes + (1 << 19) + 64, sizeof *in.bits)};
    assert_true(value && in.bits);
    for (uint64_t code = 0; code < codes; code++) {
        double x = nb_number_decode(format, code);
        if (isfinite(x) && !signbit(x))
            value[finite++] = x; /* ascending, since positive codes are */
    }
    for (size_t i = 0; i < finite; i++) {
        put_edge(&in, value[i]);
        put_edge(&in, i + 1 < finite ? (value[i] + value[i + 1]) / 2 : value[i] + (value[i] - value[i - 1]) / 2);
    }
    qsort(in.bits, in.count, sizeof *in.bits, by_value);
    size_t kept = 0;
    for (size_t i = 0; i < in.count; i++)
        if (i == 0 || in.bits[i] != in.bits[i - 1])
            in.bits[kept++] = in.bits[i];
    for (uint32_t i = 0; i < 1 << 17; i++)
        in.bits[kept++] = i * 16411u & 0x7fffffffu;
    in.bits[kept++] = 0x7f800000u;
    in.bits[kept++] = 0x7fc00000u;
    in.bits[kept++] = 0x7f7fffffu;
    in.count = 0;
    for (size_t i = 0; i < kept; i++) /* PyTorch's E8M0 rounds this span up, not to the nearest power */
        if (format != NB_NUMBER_F8_E8M0 || in.bits[i] <= 0x00400000u || in.bits[i] >= 0x00600000u)
            in.bits[in.count++] = in.bits[i];
    for (size_t i = 0; i < in.count; i++)
        in.bits[in.count + i] = in.bits[i] | 0x80000000u;
    in.count *= 2;
    free(value);
    return in;
}

static uint64_t encode_digest(nb_number format, const inputs *in, nb_overflow overflow)
{
    nb_digest d = {0};
    for (size_t i = 0; i < in->count; i++) {
        double x = (double)nb_f32_of_bits(in->bits[i]);
        uint64_t code = nb_number_encode(format, x, overflow);
        if (isnan(x)) {
            double back = nb_number_decode(format, code);
            assert_true(nb_number_get(format).has_nan ? isnan(back) : back == 0);
            code = 0xffffffffu;
        }
        nb_digest_u32(&d, (uint32_t)code);
    }
    return d.sum;
}

static void check_limits(const char *line)
{
    char name[16];
    int bits;
    double max, min, epsilon, tiny, least, resolution;
    assert_int_equal(sscanf(line, "limits %15s %d %lf %lf %lf %lf %lf %lf", name, &bits, &max, &min, &epsilon, &tiny,
                            &least, &resolution),
                     8);
    nb_number_info i = nb_number_get(by_name(name));
    bool same = i.bits == bits && i.max == max && i.min == min && i.epsilon == epsilon && i.least_normal == tiny &&
                i.least == least && fabs(i.resolution / resolution - 1) < 1e-12;
    if (!same)
        fail_msg("%s: %d %.17g %.17g %g %g %g %g", name, i.bits, i.max, i.min, i.epsilon, i.least_normal, i.least,
                 i.resolution);
}

static void check_integer(const char *line)
{
    char name[16];
    int bits;
    long long min;
    unsigned long long max;
    assert_int_equal(sscanf(line, "integer %15s %d %lld %llu", name, &bits, &min, &max), 4);
    nb_number_info i = nb_number_get(by_name(name));
    assert_true(i.is_integer && i.bits == bits && i.integer_min == min && i.integer_max == max);
}

static void test_oracle(void **state)
{
    (void)state;
    FILE *f = fopen(NB_TEST_DATA "/num/numbers.txt", "r");
    char line[256], name[16], mode[16];
    unsigned long long digest;
    int checked = 0;
    inputs in = {0};
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        uint64_t got = 0;
        digest = 0;
        if (sscanf(line, "decode %15s %llx", name, &digest) == 2)
            got = decode_digest(by_name(name));
        else if (sscanf(line, "inputs %15s %llx", name, &digest) == 2) {
            free(in.bits);
            in = make_inputs(by_name(name));
            nb_digest d = {0};
            for (size_t i = 0; i < in.count; i++)
                nb_digest_u32(&d, in.bits[i]);
            got = d.sum;
        } else if (sscanf(line, "encode %15s %15s %llx", name, mode, &digest) == 3)
            got = encode_digest(by_name(name), &in,
                                strcmp(mode, "saturate") == 0 ? NB_OVERFLOW_SATURATE : NB_OVERFLOW_SPECIAL);
        else if (strncmp(line, "limits", 6) == 0)
            check_limits(line);
        else
            check_integer(line);
        if (got != digest)
            fail_msg("%s: %llx", line, (unsigned long long)got);
        checked++;
    }
    free(in.bits);
    fclose(f);
    assert_int_equal(checked, 8 * 5 + 2 + 10);
}

/* Encoding what was decoded gives the code back, in every format; numbers ascend with their codes. */
static void test_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < NB_NUMBERS; i++) {
        nb_number_info info = nb_number_get((nb_number)i);
        uint64_t codes = info.bits >= 20 ? 1 << 20 : (uint64_t)1 << info.bits;
        uint64_t step = info.bits >= 20 ? ((uint64_t)1 << (info.bits - 20)) + (info.bits == 64 ? 2048 : 1) : 1;
        for (uint64_t c = 0; c + 1 < codes; c++) {
            uint64_t code = c * step & (UINT64_MAX >> (64 - info.bits));
            double x = nb_number_decode((nb_number)i, code);
            if (info.bits == 64 && info.is_integer)
                code = (uint64_t)(info.is_signed ? (uint64_t)(int64_t)x
                                                 : (uint64_t)x); /* 64 bits do not fit a double */
            if (isnan(x))
                continue;
            assert_true(nb_number_encode((nb_number)i, x, NB_OVERFLOW_SPECIAL) == code);
            if (isfinite(x))
                assert_true(x >= info.min && x <= info.max);
        }
    }
}

static void test_definitions(void **state)
{
    (void)state;
    for (uint32_t top = 0; top < 65536; top++) /* TF32: float32 rounded half to even to ten bits of fraction */
        for (uint32_t low = 0; low < 65536; low += low < 0x800 || low > 0xf7f8 ? 0x7f : 0x7ff) {
            uint32_t bits = top << 16 | low, rounded = (bits + 0xfff + (bits >> 13 & 1)) >> 13;
            if ((bits & 0x7fffffffu) <= 0x7f800000u)
                assert_true(nb_number_encode(NB_NUMBER_TF32, (double)nb_f32_of_bits(bits), NB_OVERFLOW_SPECIAL) ==
                            rounded);
        }
    for (uint32_t code = 0; code < 1u << 19; code++)
        if ((code & 0x3ffff) <= 0x3fc00)
            assert_true(nb_number_decode(NB_NUMBER_TF32, code) == (double)nb_f32_of_bits(code << 13));
    for (uint32_t code = 0; code < 128; code++) { /* UE4M3: the positive half of E4M3 */
        double x = nb_number_decode(NB_NUMBER_UE4M3, code), same = nb_number_decode(NB_NUMBER_F8_E4M3, code);
        assert_true(isnan(x) ? isnan(same) : x == same);
    }
    for (double x = 0x1p-12; x < 1000; x *= 1.001)
        for (int mode = 0; mode < 2; mode++) {
            assert_true(nb_number_encode(NB_NUMBER_UE4M3, x, (nb_overflow)mode) ==
                        nb_number_encode(NB_NUMBER_F8_E4M3, x, (nb_overflow)mode));
            assert_true(nb_number_encode(NB_NUMBER_UE4M3, -x, (nb_overflow)mode) == 0);
        }
    assert_int_equal(nb_number_encode(NB_NUMBER_F8_E8M0, 0x1.2p-127, NB_OVERFLOW_SATURATE), 0);
    assert_int_equal(nb_number_encode(NB_NUMBER_F8_E8M0, 0x1.8p-127, NB_OVERFLOW_SATURATE), 1);
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        nb_number format;
        double x;
        uint64_t saturated, wrapped;
    } cases[] = {
        {NB_NUMBER_I8, 2.5, 2, 2},
        {NB_NUMBER_I8, 3.5, 4, 4},
        {NB_NUMBER_I8, -2.5, 0xfe, 0xfe},
        {NB_NUMBER_I8, 127.5, 0x7f, 0x80},
        {NB_NUMBER_I8, -129, 0x80, 0x7f},
        {NB_NUMBER_I8, 300, 0x7f, 44},
        {NB_NUMBER_U8, -1, 0, 255},
        {NB_NUMBER_U8, 256, 255, 0},
        {NB_NUMBER_U8, -0.5, 0, 0},
        {NB_NUMBER_I4, 8, 7, 8},
        {NB_NUMBER_I4, -8, 8, 8},
        {NB_NUMBER_U4, 16, 15, 0},
        {NB_NUMBER_I16, 40000, 32767, 40000},
        {NB_NUMBER_I64, 0x1p63, INT64_MAX, (uint64_t)1 << 63},
        {NB_NUMBER_U64, 0x1p64, UINT64_MAX, 0},
        {NB_NUMBER_I32, (double)NAN, 0, 0},
        {NB_NUMBER_I32, (double)INFINITY, INT32_MAX, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(nb_number_encode(cases[i].format, cases[i].x, NB_OVERFLOW_SATURATE) == cases[i].saturated);
        assert_true(nb_number_encode(cases[i].format, cases[i].x, NB_OVERFLOW_SPECIAL) == cases[i].wrapped);
    }
    assert_true(nb_number_decode(NB_NUMBER_I4, 0xff) == -1);
    assert_true(nb_number_decode(NB_NUMBER_U4, 0xff) == 15);
}

/* the quick routines against the definitions */
static void test_quick_routines(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        struct {
            float quick;
            double exact;
        } pairs[] = {
            {nb_f16_to_f32((uint16_t)code), nb_number_decode(NB_NUMBER_F16, code)},
            {nb_bf16_to_f32((uint16_t)code), nb_number_decode(NB_NUMBER_BF16, code)},
            {nb_f8_e4m3_to_f32((uint8_t)code), nb_number_decode(NB_NUMBER_F8_E4M3, code & 255)},
            {nb_f8_e5m2_to_f32((uint8_t)code), nb_number_decode(NB_NUMBER_F8_E5M2, code & 255)},
            {nb_f8_e8m0_to_f32((uint8_t)code), nb_number_decode(NB_NUMBER_F8_E8M0, code & 255)},
        };
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
            assert_true(isnan(pairs[i].exact) ? isnan(pairs[i].quick) : (double)pairs[i].quick == pairs[i].exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),   cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_integers), cmocka_unit_test(test_quick_routines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
