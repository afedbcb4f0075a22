/* y = W x in 4 bits at every level, packed and not: against bitsandbytes' dequantized weights times x in float64 (made by
 * tools/make_bnb_vectors.py), and on many shapes against a sum in double of our own dequantized weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/cpu.h"
#include "base/team.h"
#include "num/half.h"
#include "support/cases.h"
#include "support/safetensors.h"

static nb_team *team;
static const bool both[] = {false, true};

/* y = W x + bias by one of the two ways. Where a packed weight cannot be, that is what must be said. */
static bool linear(bool packed, const nb_weight_4bit *w, const void *x, const void *bias, void *y, nb_float type,
                   nb_team *use)
{
    nb_packed_4bit *p;
    if (!packed) {
        assert_int_equal(nb_linear_4bit(w, x, bias, y, type, use, NULL), NB_OK);
        return true;
    }
    nb_status status = nb_pack_4bit(w, use, &p, NULL);
    assert_int_equal(status, w->columns % w->block ? NB_ERR_ARGUMENT : NB_OK);
    if (status == NB_OK)
        assert_int_equal(nb_linear_packed_4bit(p, x, bias, y, type, use, NULL), NB_OK);
    else
        assert_null(p);
    nb_packed_4bit_free(p);
    return status == NB_OK;
}

/* y against sums in double, within a few roundings of the sum of magnitudes */
static void check_sums(const nb_weight_4bit *w, const float *dense, const float *x, const float *bias, const float *y)
{
    for (size_t r = 0; r < w->rows; r++) {
        double sum = bias ? (double)bias[r] : 0, magnitude = fabs(sum);
        for (size_t i = 0; i < w->columns; i++) {
            double p = (double)dense[r * w->columns + i] * (double)x[i];
            sum += p;
            magnitude += fabs(p);
        }
        if (!(fabs((double)y[r] - sum) <= 1e-6 * magnitude))
            fail_msg("%s, %zu x %zu, blocks of %zu: row %zu is %g instead of %g (magnitude %g)",
                     nb_cpu_level_name(nb_cpu_current()), w->rows, w->columns, w->block, r, (double)y[r], sum,
                     magnitude);
    }
}

static void check_bitsandbytes(const nb_vectors *v, const char *stem)
{
    nb_vector packed = nb_vectors_need(v, stem, ".packed"), absmax = nb_vectors_need(v, stem, ".absmax");
    nb_vector x = nb_vectors_need(v, stem, ".x"), want = nb_vectors_need(v, stem, ".y"),
              size = nb_vectors_need(v, stem, ".magnitude");
    nb_code4 code = strncmp(stem, "fp4", 3) == 0 ? NB_CODE_FP4 : NB_CODE_NF4;
    nb_weight_4bit w = {packed.p, absmax.p, nb_bnb_map4(code), want.n, x.n, strtoul(stem + 4, NULL, 10)};
    float y[64];
    assert_true(want.n <= 64);
    for (size_t way = 0; way < 2; way++) {
        if (!linear(both[way], &w, x.p, NULL, y, NB_FLOAT_F32, team))
            continue;
        for (size_t r = 0; r < want.n; r++) {
            float exact = ((const float *)want.p)[r], magnitude = ((const float *)size.p)[r];
            if (!(fabsf(y[r] - exact) <= 1e-6f * magnitude))
                fail_msg("%s: row %zu is %g instead of %g", stem, r, (double)y[r], (double)exact);
        }
    }
}

static void test_bitsandbytes(void **state)
{
    (void)state;
    nb_vectors v;
    nb_vector t;
    size_t cases = 0;
    assert_true(nb_vectors_open(&v, "bitsandbytes/linear4.safetensors"));
    while (nb_vectors_next(&v, &t)) {
        char *end = strstr(t.name, ".packed");
        if (!end)
            continue;
        *end = 0;
        check_bitsandbytes(&v, t.name);
        cases++;
    }
    assert_int_equal(cases, 8);
    nb_vectors_close(&v);
}

typedef struct layer {
    nb_weight_4bit w;
    uint8_t *packed;
    float *absmax, *dense, *x, *bias, *y;
} layer;

static void layer_free(layer *l)
{
    free(l->packed);
    free(l->absmax);
    free(l->dense);
    free(l->x);
    free(l->bias);
    free(l->y);
}

static float random_value(uint64_t *seed) { return (float)(int64_t)nb_random(seed) * 0x1p-63f; }

static void layer_make(layer *l, size_t rows, size_t columns, size_t block, nb_code4 code, uint64_t seed)
{
    size_t n = rows * columns, blocks = nb_bnb_blocks(n, block);
    /* of the exact size: a read past an end is seen */
    *l = (layer){.packed = malloc((n + 1) / 2),
                 .absmax = malloc(blocks * sizeof(float)),
                 .dense = malloc(n * sizeof(float)),
                 .x = malloc(columns * sizeof(float)),
                 .bias = malloc(rows * sizeof(float)),
                 .y = malloc(rows * sizeof(float))};
    assert_true(l->packed && l->absmax && l->dense && l->x && l->bias && l->y);
    for (size_t i = 0; i < n; i++)
        l->dense[i] = random_value(&seed) * (float)(1 + i % 7);
    for (size_t i = 0; i < columns; i++)
        l->x[i] = random_value(&seed);
    for (size_t i = 0; i < rows; i++)
        l->bias[i] = random_value(&seed);
    assert_int_equal(nb_bnb_quantize_4bit(l->dense, NB_FLOAT_F32, n, code, block, l->packed, l->absmax, team, NULL),
                     NB_OK);
    assert_int_equal(
        nb_bnb_dequantize_4bit(l->packed, l->absmax, nb_bnb_map4(code), block, n, l->dense, NB_FLOAT_F32, team, NULL),
        NB_OK);
    l->w = (nb_weight_4bit){l->packed, l->absmax, nb_bnb_map4(code), rows, columns, block};
}

static void test_shapes(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {
        {1, 32, 32},  {3, 64, 32},    {4, 96, 32},   {5, 160, 32},   {9, 224, 32},   {7, 64, 64},     {4, 192, 64},
        {6, 320, 64}, {33, 448, 64},  {8, 128, 128}, {5, 384, 128},  {2, 4096, 256}, {4, 8192, 4096}, {3, 100, 64},
        {5, 33, 32},  {6, 4000, 128}, {2, 1, 64},    {70, 1024, 64}, {64, 96, 32},   {65, 64, 64},    {129, 256, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        layer l;
        layer_make(&l, shapes[i][0], shapes[i][1], shapes[i][2], i % 2 ? NB_CODE_FP4 : NB_CODE_NF4, i + 1);
        for (size_t way = 0; way < 2; way++) {
            if (linear(both[way], &l.w, l.x, NULL, l.y, NB_FLOAT_F32, team))
                check_sums(&l.w, l.dense, l.x, NULL, l.y);
            if (linear(both[way], &l.w, l.x, l.bias, l.y, NB_FLOAT_F32, NULL))
                check_sums(&l.w, l.dense, l.x, l.bias, l.y);
        }
        layer_free(&l);
    }
}

/* 16-bit x, bias and y: within half a step of the exact sum, and what 15-bit integers for x and the map may be off by */
static void check_half(layer *l, nb_float type, float size, bool packed)
{
    size_t n = l->w.columns, rows = l->w.rows;
    if (packed && n % l->w.block != 0)
        return;
    uint16_t *x = calloc(n, 2), *bias = calloc(rows, 2), *y = calloc(rows, 2);
    assert_true(x && bias && y);
    for (size_t i = 0; i < n; i++)
        x[i] = type == NB_FLOAT_BF16 ? nb_f32_to_bf16(l->x[i] * size) : nb_f32_to_f16(l->x[i] * size);
    for (size_t i = 0; i < rows; i++)
        bias[i] = type == NB_FLOAT_BF16 ? nb_f32_to_bf16(l->bias[i]) : nb_f32_to_f16(l->bias[i]);
    assert_true(linear(packed, &l->w, x, bias, y, type, team));
    for (size_t r = 0; r < rows; r++) {
        double sum = (double)(type == NB_FLOAT_BF16 ? nb_bf16_to_f32(bias[r]) : nb_f16_to_f32(bias[r])),
               magnitude = fabs(sum);
        for (size_t i = 0; i < n; i++) {
            double v = (double)(type == NB_FLOAT_BF16 ? nb_bf16_to_f32(x[i]) : nb_f16_to_f32(x[i]));
            sum += (double)l->dense[r * n + i] * v;
            magnitude += fabs((double)l->dense[r * n + i] * v);
        }
        double got = (double)(type == NB_FLOAT_BF16 ? nb_bf16_to_f32(y[r]) : nb_f16_to_f32(y[r]));
        double step = fabs(sum) * (type == NB_FLOAT_BF16 ? 0x1p-8 : 0x1p-11);
        if (!(fabs(got - sum) <= step + 4e-5 * magnitude + 1e-7))
            fail_msg("%s, %zu x %zu: row %zu is %g instead of %g (magnitude %g)", nb_cpu_level_name(nb_cpu_current()),
                     rows, n, r, got, sum, magnitude);
    }
    free(x);
    free(bias);
    free(y);
}

static void test_half_types(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{33, 448, 64},   {5, 160, 32}, {9, 384, 128},
                                       {4, 4096, 4096}, {3, 100, 64}, {130, 256, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        layer l;
        layer_make(&l, shapes[i][0], shapes[i][1], shapes[i][2], i % 2 ? NB_CODE_FP4 : NB_CODE_NF4, i + 50);
        memset(l.x, 0, 3 * sizeof *l.x);
        for (size_t way = 0; way < 2; way++) {
            check_half(&l, NB_FLOAT_F16, 1, both[way]);
            check_half(&l, NB_FLOAT_BF16, 1, both[way]);
            check_half(&l, NB_FLOAT_BF16, 1e-18f, both[way]);
            check_half(&l, NB_FLOAT_BF16, 1e-33f, both[way]); /* too small for integers: in floats */
        }
        layer_free(&l);
    }
}

/* The largest sums there are, and x of which a few values hide the others: every code the largest magnitude, every x the
 * same or a few of them a thousand times the rest. 512 values: sums of BF16 are off by half a step. */
static void test_extremes(void **state)
{
    (void)state;
    enum { N = 512 };
    uint8_t codes[N / 2];
    float absmax[N / 32];
    uint16_t x[N], y;
    for (size_t i = 0; i < N / 32; i++)
        absmax[i] = 3;
    for (size_t block = 32; block <= 256; block *= 2)
        for (int sign = 0; sign < 2; sign++)
            for (size_t every = 1; every <= 97; every += 16) {
                double sum = 0;
                memset(codes, sign ? 0 : 0xff, sizeof codes); /* -1 or 1 */
                for (size_t i = 0; i < N; i++) {
                    x[i] = nb_f32_to_bf16(i % every ? 0.0009765625f : 1.9921875f);
                    sum += 3 * (sign ? -1 : 1) * (double)nb_bf16_to_f32(x[i]);
                }
                nb_weight_4bit w = {codes, absmax, nb_bnb_map4(NB_CODE_NF4), 1, N, block};
                for (size_t way = 0; way < 2; way++) {
                    linear(both[way], &w, x, NULL, &y, NB_FLOAT_BF16, NULL);
                    if (!(fabs((double)nb_bf16_to_f32(y) - sum) <= (0x1p-8 + 1e-4) * fabs(sum)))
                        fail_msg("%s: %g instead of %g", nb_cpu_level_name(nb_cpu_current()), (double)nb_bf16_to_f32(y),
                                 sum);
                }
            }
}

/* x that is not a number or infinite makes all of y so, in any place */
static void test_not_finite(void **state)
{
    (void)state;
    layer l;
    uint16_t x[192], y[70];
    layer_make(&l, 70, 192, 64, NB_CODE_FP4, 77);
    for (size_t at = 0; at < 192; at += 13)
        for (int nan = 0; nan < 2; nan++)
            for (size_t way = 0; way < 2; way++) {
                for (size_t i = 0; i < 192; i++)
                    x[i] = nb_f32_to_bf16(i != at ? l.x[i] : nan ? NAN : INFINITY);
                linear(both[way], &l.w, x, NULL, y, NB_FLOAT_BF16, team);
                for (size_t r = 0; r < 70; r++)
                    assert_false(isfinite(nb_bf16_to_f32(y[r])));
            }
    layer_free(&l);
}

/* one bad scale spoils its own row only, and the number of threads changes nothing */
static void test_rows_are_apart(void **state)
{
    (void)state;
    layer l;
    float one[133];
    layer_make(&l, 133, 96, 32, NB_CODE_NF4, 9);
    l.absmax[3 * 7] = NAN;
    for (size_t way = 0; way < 2; way++) {
        linear(both[way], &l.w, l.x, NULL, one, NB_FLOAT_F32, NULL);
        linear(both[way], &l.w, l.x, NULL, l.y, NB_FLOAT_F32, team);
        for (size_t i = 0; i < 133; i++)
            assert_true(isnan(one[i]) ? i == 7 && isnan(l.y[i]) : i != 7 && one[i] == l.y[i]);
    }
    layer_free(&l);
}

static void test_every_level(void **state)
{
    nb_cpu_level best = nb_cpu_best();
    assert_int_equal(nb_team_new(2, false, &team, NULL), NB_OK);
    for (int level = NB_CPU_REF; level <= (int)best; level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        test_bitsandbytes(state);
        test_shapes(state);
        test_half_types(state);
        test_extremes(state);
        test_not_finite(state);
        test_rows_are_apart(state);
    }
    nb_cpu_set_level(best);
    nb_team_free(team);
}

static void test_refusals(void **state)
{
    (void)state;
    nb_error err;
    float x[64] = {0};
    nb_weight_4bit w = {(const uint8_t *)x, x, nb_bnb_map4(NB_CODE_NF4), 1, 64, 48};
    assert_int_equal(nb_linear_4bit(&w, x, NULL, x, NB_FLOAT_F32, NULL, &err), NB_ERR_ARGUMENT);
    nb_packed_4bit *packed;
    assert_int_equal(nb_pack_4bit(&w, NULL, &packed, &err), NB_ERR_ARGUMENT);
    assert_null(packed);
    nb_packed_4bit_free(packed);
    w.block = 64;
    w.rows = SIZE_MAX / 32;
    assert_int_equal(nb_pack_4bit(&w, NULL, &packed, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_linear_4bit(&w, x, NULL, x, NB_FLOAT_F32, NULL, &err), NB_ERR_ARGUMENT);
    w.rows = 1;
    assert_int_equal(nb_linear_4bit(&w, x, NULL, x, (nb_float)9, NULL, &err), NB_ERR_ARGUMENT);
    w.rows = 0; /* nothing is no error */
    assert_int_equal(nb_pack_4bit(&w, NULL, &packed, &err), NB_OK);
    assert_int_equal(nb_linear_packed_4bit(packed, x, NULL, NULL, NB_FLOAT_F32, NULL, &err), NB_OK);
    assert_int_equal(nb_linear_packed_4bit(packed, x, NULL, NULL, (nb_float)9, NULL, &err), NB_ERR_ARGUMENT);
    nb_packed_4bit_free(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_level), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
