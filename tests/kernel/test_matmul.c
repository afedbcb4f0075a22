/* The matrix product at every instruction-set level against double precision, and against itself: any number of
 * tokens, packed or not, any split of rows, must give the same bits; so must every level that has fma. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "kernel/matmul.h"
#include "num/half.h"

static uint64_t random_state = 1;

static uint32_t random_u32(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static float random_float(void) { return (float)(int32_t)random_u32() * 0x1p-31f; }

/* ---- weights: random bytes whose scales are sane, or extreme ---- */

typedef enum fill { FILL_RANDOM, FILL_ONES, FILL_ZERO_SCALES, FILL_HUGE, FILL_SUBNORMAL, FILLS } fill;

static uint16_t scale_bits(fill f)
{
    switch (f) {
    case FILL_ZERO_SCALES: return random_u32() & 1 ? 0x8000 : 0;
    case FILL_HUGE: return (uint16_t)(0x7bff | (random_u32() & 0x8000)); /* 65504 */
    case FILL_SUBNORMAL: return (uint16_t)(random_u32() & 0x83ff);
    default: return nb_f32_to_f16(random_float() * 0.02f);
    }
}

/* bytes of the f16 fields of a block; -1 ends */
static const int *scale_fields(nb_type type)
{
    static const int first[] = {0, -1}, both[] = {0, 2, -1}, q2[] = {80, 82, -1}, q3[] = {108, -1}, q6[] = {208, -1};
    static const int none[] = {-1};
    switch (type) {
    case NB_TYPE_Q4_0:
    case NB_TYPE_Q5_0:
    case NB_TYPE_IQ4_NL:
    case NB_TYPE_IQ4_XS:
    case NB_TYPE_Q8_0: return first;
    case NB_TYPE_Q4_1:
    case NB_TYPE_Q5_1:
    case NB_TYPE_Q4_K:
    case NB_TYPE_Q5_K: return both;
    case NB_TYPE_Q2_K: return q2;
    case NB_TYPE_Q3_K: return q3;
    case NB_TYPE_Q6_K: return q6;
    default: return none;
    }
}

static void fill_weights(nb_type type, fill f, uint8_t *w, size_t values)
{
    const nb_type_info *info = nb_type_get(type);
    for (size_t b = 0; b < values / info->block_values; b++, w += info->block_bytes) {
        for (size_t i = 0; i < info->block_bytes; i++)
            w[i] = f == FILL_ONES ? 0xff : (uint8_t)random_u32();
        for (const int *at = scale_fields(type); *at >= 0; at++) {
            uint16_t bits = scale_bits(f);
            memcpy(w + *at, &bits, 2);
        }
        if (type == NB_TYPE_MXFP4) /* an exponent: 2^(e - 128), 0 the least subnormal */
            w[0] = f == FILL_HUGE          ? (uint8_t)(140 + random_u32() % 4)
                   : f == FILL_SUBNORMAL   ? (uint8_t)(random_u32() % 3)
                   : f == FILL_ZERO_SCALES ? 0
                                           : (uint8_t)(115 + random_u32() % 12);
        if (type == NB_TYPE_NF4 || type == NB_TYPE_FP4 ||
            type == NB_TYPE_INT8) { /* a float, as extreme as the halves */
            float d = nb_f16_to_f32(scale_bits(f)) * (type == NB_TYPE_INT8 ? 1 : 8);
            memcpy(w, &d, 4);
        }
        float x = random_float();
        uint16_t half = nb_f32_to_f16(x), brain = nb_f32_to_bf16(x);
        if (type == NB_TYPE_F32)
            memcpy(w, &x, 4);
        if (type == NB_TYPE_F16)
            memcpy(w, &half, 2);
        if (type == NB_TYPE_BF16)
            memcpy(w, &brain, 2);
    }
}

/* ---- one problem and its parts ---- */

typedef struct problem {
    nb_type type;
    nb_act_format format;
    size_t rows, k, n_tokens;
    uint8_t *weights; /* file rows, deliberately misaligned */
    uint8_t *packed;
    float *x;
    void *allocated[2];
    size_t packed_bytes;
} problem;

static void *aligned(size_t bytes)
{
    void *p = aligned_alloc(64, nb_round_up(bytes + 64, 64));
    assert_non_null(p);
    memset(p, 0xee, nb_round_up(bytes + 64, 64));
    return p;
}

static problem make_problem(nb_type type, nb_act_format format, fill f, size_t rows, size_t k, size_t n_tokens)
{
    problem p = {.type = type, .format = format, .rows = rows, .k = k, .n_tokens = n_tokens};
    size_t row;
    assert_true(nb_type_row_bytes(nb_type_get(type), k, &row));
    p.allocated[0] = malloc(rows * row + 1);
    p.weights = (uint8_t *)p.allocated[0] + 1;
    fill_weights(type, f, p.weights, rows * k);
    p.x = malloc(n_tokens * k * sizeof(float));
    assert_non_null(p.x);
    for (size_t i = 0; i < n_tokens * k; i++)
        p.x[i] = f == FILL_ONES ? (random_u32() & 1 ? 3.0f : -3.0f) : random_float() * (i % 37 == 0 ? 20.0f : 1.0f);
    if (n_tokens > 1)
        memset(p.x + k, 0, nb_min_size(k, 64) * sizeof(float)); /* blocks of zeros */
    if (nb_matmul_packs(type, rows, k)) {
        assert_true(nb_packed_bytes(type, rows, k, &p.packed_bytes));
        p.packed = p.allocated[1] = aligned(p.packed_bytes);
        size_t tiles = (rows + 15) / 16;
        nb_pack(type, p.weights, rows, k, p.packed, 0, tiles / 2);
        nb_pack(type, p.weights, rows, k, p.packed, tiles / 2, tiles);
    }
    return p;
}

static void free_problem(problem *p)
{
    free(p->allocated[0]);
    free(p->allocated[1]);
    free(p->x);
}

/* tokens [first, first + n) in one call; rows split in two calls when split is not 0 */
static void run(const problem *p, bool packed, size_t first, size_t n, size_t split, const float *bias, bool add,
                float *y)
{
    size_t panels = nb_act_panels(n), middle = p->k / 64 * 32;
    void *act = aligned(nb_act_bytes(p->format, p->k, n));
    void *scratch = aligned(nb_matmul_scratch(p->type, p->format, p->k, n));
    const float *x = p->x + first * p->k;
    nb_act_write(p->format, x, p->k, n, p->k, 0, panels, middle, p->k, act);
    nb_act_write(p->format, x, p->k, n, p->k, 0, panels / 2, 0, middle, act);
    nb_act_write(p->format, x, p->k, n, p->k, panels / 2, panels, 0, middle, act);
    nb_matmul m = {.type = p->type,
                   .packed = packed,
                   .weights = packed ? p->packed : p->weights,
                   .rows = p->rows,
                   .k = p->k,
                   .format = p->format,
                   .act = act,
                   .n_tokens = n,
                   .y = y,
                   .y_stride = p->rows + 3,
                   .bias = bias,
                   .add = add,
                   .scratch = scratch};
    if (split)
        nb_matmul_run(&m, split, p->rows);
    nb_matmul_run(&m, 0, split ? split : p->rows);
    free(act);
    free(scratch);
}

static float *make_y(const problem *p, size_t n)
{
    float *y = malloc(n * (p->rows + 3) * sizeof(float));
    assert_non_null(y);
    for (size_t i = 0; i < n * (p->rows + 3); i++)
        y[i] = 0.5f;
    return y;
}

static void assert_same(const problem *p, const float *a, const float *b, size_t n, const char *what)
{
    for (size_t t = 0; t < n; t++)
        if (memcmp(a + t * (p->rows + 3), b + t * (p->rows + 3), p->rows * sizeof(float)) != 0)
            fail_msg("%s %s: %s differs at token %zu of %zu (rows %zu, k %zu)", nb_cpu_level_name(nb_cpu_current()),
                     nb_type_get(p->type)->name, what, t, n, p->rows, p->k);
}

/* What the activations are after quantization: written out here, not the kernel's code. */
static void quantized(const problem *p, const float *x, double *out)
{
    for (size_t i = 0; i < p->k; i += 32) {
        float absmax = 0;
        for (size_t j = 0; j < 32 && p->format == NB_ACT_Q8; j++)
            absmax = fmaxf(absmax, fabsf(x[i + j]));
        for (size_t j = i; j < nb_min_size(p->k, i + 32); j++)
            out[j] = p->format == NB_ACT_F32    ? (double)x[j]
                     : p->format == NB_ACT_BF16 ? (double)nb_bf16_to_f32(nb_f32_to_bf16(x[j]))
                     : absmax == 0              ? 0
                                                : (double)rintf(x[j] * (127.0f / absmax)) * (double)(absmax / 127.0f);
    }
}

/* The 8-bit product takes the lists of NF4 and FP4 rounded: to 112.030218 and 120 steps an absmax. */
static void round_list(const problem *p, const uint8_t *row, float *w)
{
    double one = p->type == NB_TYPE_NF4 ? 112.030218 : 120;
    for (size_t i = 0; i < p->k; i++) {
        float d;
        memcpy(&d, row + i / 64 * 36, 4);
        if (d != 0)
            w[i] = (float)(rint((double)w[i] / (double)d * one) / one * (double)d);
    }
}

static void assert_close(const problem *p, const float *y, size_t n)
{
    float *w = malloc(p->k * sizeof(float));
    double *a = malloc(n * p->k * sizeof(double));
    size_t row;
    assert_true(nb_type_row_bytes(nb_type_get(p->type), p->k, &row));
    void *copy = aligned(row);
    for (size_t t = 0; t < n; t++)
        quantized(p, p->x + t * p->k, a + t * p->k);
    for (size_t r = 0; r < p->rows; r++) {
        memcpy(copy, p->weights + r * row, row);
        nb_type_get(p->type)->dequantize(copy, w, p->k);
        if ((p->type == NB_TYPE_NF4 || p->type == NB_TYPE_FP4) && p->format == NB_ACT_Q8)
            round_list(p, copy, w);
        for (size_t t = 0; t < n; t++) {
            double sum = 0, magnitude = 0;
            for (size_t i = 0; i < p->k; i++) {
                sum += (double)w[i] * a[t * p->k + i];
                magnitude += fabs((double)w[i] * a[t * p->k + i]);
            }
            double got = (double)y[t * (p->rows + 3) + r];
            /* a type with minima adds two sums that may cancel: their own magnitude counts too */
            if (!(fabs(got - sum) <= 1e-5 * magnitude + 1e-30))
                fail_msg("%s %s: row %zu token %zu of %zu: %.9g, expected %.9g (magnitude %.3g; rows %zu, k %zu)",
                         nb_cpu_level_name(nb_cpu_current()), nb_type_get(p->type)->name, r, t, n, got, sum, magnitude,
                         p->rows, p->k);
        }
    }
    free(w);
    free(a);
    free(copy);
}

/* ---- what holds for every level ---- */

static const size_t token_counts[] = {1, 2, 3, 5, 7, 8, 9, 17, 24, 29, 64, 65};

/* every number of tokens, packed and not, split and not, against the results token by token */
static void check_invariance(const problem *p, const float *y)
{
    for (size_t i = 0; i < sizeof token_counts / sizeof *token_counts; i++) {
        size_t n = token_counts[i];
        if (n > p->n_tokens)
            break;
        size_t first = (p->n_tokens - n) / 2;
        for (int way = 0; way < 4; way++) {
            bool packed = way & 1;
            if (packed && !p->packed)
                continue;
            float *other = make_y(p, n);
            run(p, packed, first, n, way & 2 && p->rows > 16 ? 16 : 0, NULL, false, other);
            assert_same(p, y + first * (p->rows + 3), other, n, packed ? "packed" : "file layout");
            assert_true(other[p->rows] == 0.5f && other[n * (p->rows + 3) - 1] == 0.5f);
            free(other);
        }
    }
}

static void check_bias_add(const problem *p, const float *y)
{
    float *bias = malloc(p->rows * sizeof(float)), *other = make_y(p, p->n_tokens);
    for (size_t r = 0; r < p->rows; r++)
        bias[r] = random_float();
    run(p, p->packed != NULL, 0, p->n_tokens, 0, bias, true, other);
    for (size_t t = 0; t < p->n_tokens; t++)
        for (size_t r = 0; r < p->rows; r++) {
            float biased = y[t * (p->rows + 3) + r] + bias[r];
            assert_true(other[t * (p->rows + 3) + r] == 0.5f + biased);
        }
    free(bias);
    free(other);
}

static void check_problem(nb_type type, nb_act_format format, fill f, size_t rows, size_t k, size_t n_tokens)
{
    float *reference = NULL;
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        if (format == NB_ACT_BF16 && level != NB_CPU_BF16)
            continue;
        nb_cpu_set_level((nb_cpu_level)level);
        random_state = type * 1000 + k + f;
        problem p = make_problem(type, format, f, rows, k, n_tokens);
        float *y = make_y(&p, n_tokens);
        run(&p, false, 0, n_tokens, 0, NULL, false, y);
        assert_close(&p, y, n_tokens);
        check_invariance(&p, y);
        check_bias_add(&p, y);
        if (!reference)
            reference = y;
        else {
            if (level != NB_CPU_AVX2)
                assert_same(&p, reference, y, n_tokens, "the plain C level");
            free(y);
        }
        free_problem(&p);
    }
    free(reference);
    nb_cpu_set_level(nb_cpu_best());
}

static bool packs(nb_type type) { return nb_matmul_packs(type, 16, 256); }

static void test_types(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++) {
        if (!nb_type_get(id) || !packs((nb_type)id))
            continue;
        nb_type type = (nb_type)id;
        nb_act_format format = nb_matmul_act_format(type, 512);
        size_t block = nb_type_get(id)->block_values < 32 ? 32 : nb_type_get(id)->block_values;
        check_problem(type, format, FILL_RANDOM, 37, block == 256 ? 512 : 3 * block, 65);
        check_problem(type, format, FILL_RANDOM, 16, block, 9);
        if (format != NB_ACT_F32) /* exact mode */
            check_problem(type, NB_ACT_F32, FILL_RANDOM, 21, block == 256 ? 512 : 3 * block, 29);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    check_problem(NB_TYPE_Q4_0, NB_ACT_Q8, FILL_RANDOM, 33, 64, 65);
    check_problem(NB_TYPE_Q4_1, NB_ACT_Q8, FILL_RANDOM, 17, 576, 65);
    check_problem(NB_TYPE_Q8_0, NB_ACT_Q8, FILL_RANDOM, 17, 1536, 9);
    check_problem(NB_TYPE_Q4_K, NB_ACT_Q8, FILL_RANDOM, 5, 1536, 29);
    check_problem(NB_TYPE_Q6_K, NB_ACT_Q8, FILL_RANDOM, 17, 8960, 29);
    check_problem(NB_TYPE_Q5_0, NB_ACT_Q8, FILL_RANDOM, 17, 4864, 29);
    check_problem(NB_TYPE_F32, NB_ACT_F32, FILL_RANDOM, 19, 37, 29);
    check_problem(NB_TYPE_F32, NB_ACT_F32, FILL_RANDOM, 1, 1, 9);
    check_problem(NB_TYPE_F16, NB_ACT_F32, FILL_RANDOM, 17, 1100, 29);
    check_problem(NB_TYPE_BF16, NB_ACT_F32, FILL_RANDOM, 17, 2049, 9);
    check_problem(NB_TYPE_BF16, NB_ACT_F32, FILL_RANDOM, 35, 2050, 65);
    if (nb_cpu_best() >= NB_CPU_BF16) {
        check_problem(NB_TYPE_BF16, NB_ACT_BF16, FILL_RANDOM, 35, 2050, 65);
        check_problem(NB_TYPE_BF16, NB_ACT_BF16, FILL_RANDOM, 1, 2, 9);
        check_problem(NB_TYPE_BF16, NB_ACT_BF16, FILL_RANDOM, 17, 34, 29);
        check_problem(NB_TYPE_BF16, NB_ACT_BF16, FILL_ONES, 16, 576, 9);
    }
}

static void test_extremes(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++)
        if (nb_type_get(id) && packs((nb_type)id) && nb_matmul_act_format((nb_type)id, 256) == NB_ACT_Q8)
            for (fill f = FILL_ONES; f < FILLS; f++)
                check_problem((nb_type)id, NB_ACT_Q8, f, 17, 256, 29);
}

/* More than the 512 tokens that share a pass, and more tiles than share a chunk of a long k. */
static void test_large(void **state)
{
    (void)state;
    nb_cpu_set_level(nb_cpu_best());
    problem p = make_problem(NB_TYPE_Q4_0, NB_ACT_Q8, FILL_RANDOM, 16 * 9 + 3, 2304, 523);
    float *y = make_y(&p, p.n_tokens), *one = make_y(&p, 1);
    run(&p, true, 0, p.n_tokens, 0, NULL, false, y);
    for (size_t t = 0; t < p.n_tokens; t += 29) {
        run(&p, true, t, 1, 0, NULL, false, one);
        assert_same(&p, y + t * (p.rows + 3), one, 1, "a token alone");
    }
    free(y);
    free(one);
    free_problem(&p);
}

/* A type without kernels of its own goes by its dequantizer. */
static void test_generic(void **state)
{
    (void)state;
    assert_false(packs(NB_TYPE_F64));
    assert_int_equal(nb_matmul_act_format(NB_TYPE_F64, 256), NB_ACT_F32);
    problem p = {.type = NB_TYPE_F64, .format = NB_ACT_F32, .rows = 18, .k = 100, .n_tokens = 9};
    double *w = malloc(p.rows * p.k * sizeof(double));
    p.x = malloc(p.n_tokens * p.k * sizeof(float));
    for (size_t i = 0; i < p.rows * p.k; i++)
        w[i] = (double)random_float();
    for (size_t i = 0; i < p.n_tokens * p.k; i++)
        p.x[i] = random_float();
    p.weights = (uint8_t *)w;
    p.allocated[0] = w;
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        float *y = make_y(&p, p.n_tokens);
        run(&p, false, 0, p.n_tokens, 16, NULL, false, y);
        assert_close(&p, y, p.n_tokens);
        free(y);
    }
    free_problem(&p);
}

/* The panel's bytes: the scale is the largest magnitude / 127, halves go to even, sums are exact; all levels agree. */
static void test_activations(void **state)
{
    (void)state;
    enum { K = 160, N = 13 };
    float x[N * K];
    for (size_t i = 0; i < N * K; i++)
        x[i] = random_float();
    for (int i = 0; i < 32; i++)
        x[i] = i == 0 ? 127.0f : (float)i * 0.5f; /* 0.5, 1.5, ... round to even */
    x[40] = 1e30f;
    x[K + 5] = 1e-38f;
    size_t bytes = nb_act_bytes(NB_ACT_Q8, K, N);
    assert_int_equal(bytes, 16 * 5 * 44);
    uint8_t *first = NULL;
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        uint8_t *act = aligned(bytes);
        nb_act_write(NB_ACT_Q8, x, K, N, K, 0, 2, 0, K, act);
        if (!first) {
            first = act;
            continue;
        }
        assert_memory_equal(first, act, bytes);
        free(act);
    }
    const int8_t *q = (const int8_t *)first;
    int32_t minus = 0;
    for (int i = 0; i < 32; i++) {
        int expected = i == 0 ? 127 : (int)rintf((float)i * 0.5f);
        assert_int_equal(q[i / 4 * 32 + i % 4], expected);
        minus -= expected;
    }
    int32_t stored;
    float scale;
    memcpy(&stored, first + 256, 4);
    memcpy(&scale, first + 320, 4);
    assert_int_equal(stored, minus);
    assert_true(scale == 1.0f);
    free(first);
    assert_int_equal(nb_act_bytes(NB_ACT_F32, 10, 8), 320);
    assert_int_equal(nb_act_bytes(NB_ACT_F32, 10, 11), 12 * 40);
    assert_int_equal(nb_act_panels(65), 9);
}

static void test_not_finite(void **state)
{
    (void)state;
    for (int level = 0; level <= (int)nb_cpu_best(); level++)
        for (int bad = 0; bad < 2; bad++) {
            nb_cpu_set_level((nb_cpu_level)level);
            problem p = make_problem(NB_TYPE_Q8_0, NB_ACT_Q8, FILL_RANDOM, 16, 64, 3);
            p.x[5] = bad ? NAN : -INFINITY;
            float *y = make_y(&p, 3);
            run(&p, true, 0, 3, 0, NULL, false, y);
            assert_false(isfinite(y[0]));
            assert_true(isfinite(y[p.rows + 3]));
            free(y);
            free_problem(&p);
        }
    size_t bytes;
    assert_false(nb_packed_bytes(NB_TYPE_F32, SIZE_MAX / 4, 64, &bytes));
    assert_false(nb_packed_bytes(NB_TYPE_Q4_K, 16, 64, &bytes));
    assert_true(nb_packed_bytes(NB_TYPE_Q4_K, 17, 512, &bytes));
    assert_int_equal(bytes, 32 * 288);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),      cmocka_unit_test(test_shapes),  cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_large),      cmocka_unit_test(test_generic), cmocka_unit_test(test_activations),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
