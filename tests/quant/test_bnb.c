/* bitsandbytes' arithmetic against what bitsandbytes 0.50 computed on a CPU (tests/data/bitsandbytes; blocks.safetensors and
 * layers.safetensors by tools/make_bnb_vectors.py), at every level this machine has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/cpu.h"
#include "base/team.h"
#include "num/half.h"
#include "quant/quant.h"
#include "support/cases.h"
#include "support/safetensors.h"

enum { MOST = 1 << 20 };
static nb_team *team;
static float *x, *y, *absmax;
static uint16_t *half;
static uint8_t *codes;

static int set_up(void **state)
{
    (void)state;
    x = malloc(MOST * sizeof *x);
    y = malloc(MOST * sizeof *y);
    absmax = malloc(MOST * sizeof *absmax);
    half = malloc(2 * MOST * sizeof *half);
    codes = malloc(MOST);
    return !(x && y && absmax && half && codes) || nb_team_new(2, false, &team, NULL) != NB_OK;
}

static int tear_down(void **state)
{
    (void)state;
    free(x);
    free(y);
    free(absmax);
    free(half);
    free(codes);
    nb_team_free(team);
    return 0;
}

/* ---- 4 bits ---- */

typedef struct case4 {
    nb_code4 code;
    size_t block, n;
    nb_float type;
} case4;

static void narrow(const float *from, size_t n, nb_float type, uint16_t *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = type == NB_FLOAT_BF16 ? nb_f32_to_bf16(from[i]) : nb_f32_to_f16(from[i]);
}

static float widen(uint16_t h, nb_float type) { return type == NB_FLOAT_BF16 ? nb_bf16_to_f32(h) : nb_f16_to_f32(h); }

/* dequantizes their bytes with their absmax: equal to the bit, but for the sign that FP4's second zero has in some of its
 * backends */
static void check_dequantize(const char *name, const case4 *c, const uint8_t *packed, const float *scale,
                             const float *want)
{
    void *to = c->type == NB_FLOAT_F32 ? (void *)y : half;
    assert_int_equal(
        nb_bnb_dequantize_4bit(packed, scale, nb_bnb_map4(c->code), c->block, c->n, to, c->type, team, NULL), NB_OK);
    for (size_t i = 0; i < c->n; i++) {
        float got = c->type == NB_FLOAT_F32 ? y[i] : widen(half[i], c->type);
        if (got != want[i])
            fail_msg("%s: value %zu is %g instead of %g", name, i, (double)got, (double)want[i]);
    }
}

static unsigned code_at(const uint8_t *packed, size_t i) { return i % 2 ? packed[i / 2] & 15 : packed[i / 2] >> 4; }

/* quantizes their values: absmax equal to the bit, NF4 codes equal, FP4 codes that stand for equal values */
static void check_quantize(const char *name, const case4 *c, const void *from, const uint8_t *packed,
                           const float *scale)
{
    const float *map = nb_bnb_map4(c->code);
    memset(codes, 0xee, c->n / 2 + 2);
    assert_int_equal(nb_bnb_quantize_4bit(from, c->type, c->n, c->code, c->block, codes, absmax, team, NULL), NB_OK);
    assert_int_equal(codes[(c->n + 1) / 2], 0xee);
    for (size_t b = 0; scale && b < nb_bnb_blocks(c->n, c->block); b++)
        if (absmax[b] != scale[b])
            fail_msg("%s: absmax %zu is %g instead of %g", name, b, (double)absmax[b], (double)scale[b]);
    for (size_t i = 0; i < (c->n + 1) / 2 * 2; i++) {
        unsigned got = code_at(codes, i), want = code_at(packed, i);
        if (c->code == NB_CODE_NF4 ? got != want : map[got] != map[want])
            fail_msg("%s: code %zu is %u instead of %u", name, i, got, want);
    }
}

/* "nf4.64.dq.f16" */
static case4 parse_case(const char *name, size_t n, bool *nested)
{
    case4 c = {.n = n};
    char kind[8], mode[16], type[8] = "f32";
    assert_true(sscanf(name, "%7[a-z0-9].%zu.%15[a-z_].%7[a-z0-9]", kind, &c.block, mode, type) >= 3);
    c.code = strcmp(kind, "fp4") == 0 ? NB_CODE_FP4 : NB_CODE_NF4;
    c.type = strcmp(type, "bf16") == 0 ? NB_FLOAT_BF16 : strcmp(type, "f16") == 0 ? NB_FLOAT_F16 : NB_FLOAT_F32;
    *nested = strcmp(mode, "dq") == 0;
    return c;
}

/* The nested absmax: ours decodes theirs to the bit, and ours encodes to their codes. */
static const float *check_nested(const nb_vectors *v, const char *name, const case4 *c, const float *plain)
{
    static float scale[4096];
    static uint8_t nested[4096];
    float most[16], offset;
    size_t count = nb_bnb_blocks(c->n, c->block);
    nb_vector codes8 = nb_vectors_need(v, name, ".absmax_u8"), absmax8 = nb_vectors_need(v, name, ".nested_absmax");
    nb_vector mean = nb_vectors_need(v, name, ".offset");
    assert_int_equal(codes8.n, count);
    assert_int_equal(nb_bnb_nest(plain, count, nested, most, &offset, NULL), NB_OK);
    assert_true(fabsf(offset - *(const float *)mean.p) <= 2e-7f * fabsf(offset));
    for (size_t i = 0; i < absmax8.n; i++)
        assert_true(fabsf(most[i] - ((const float *)absmax8.p)[i]) <= 2e-7f * (offset + most[i]));
    assert_memory_equal(nested, codes8.p, count);
    assert_int_equal(
        nb_bnb_unnest(codes8.p, absmax8.p, nb_bnb_map8(true), *(const float *)mean.p, 256, count, scale, NULL), NB_OK);
    return scale;
}

/* Theirs make 2e-5 of a zero. */
static void test_nested_zero(void **state)
{
    enum { COUNT = 300 };
    static uint8_t nested[COUNT];
    static float scales[COUNT], back[COUNT];
    float most[2], offset;
    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        scales[i] = i % 3 == 0 ? 2.5f : i % 3 == 1 ? 3.0f : 3.5f; /* the mean is 3 */
    assert_int_equal(nb_bnb_nest(scales, COUNT, nested, most, &offset, NULL), NB_OK);
    assert_int_equal(nb_bnb_unnest(nested, most, nb_bnb_map8(true), offset, 256, COUNT, back, NULL), NB_OK);
    for (size_t i = 1; i < COUNT; i += 3)
        assert_true(back[i] == 3.0f);
}

static void test_functional_4bit(void **state)
{
    (void)state;
    nb_vectors v;
    nb_vector t;
    size_t cases = 0;
    assert_true(nb_vectors_open(&v, "bitsandbytes/functional.safetensors"));
    nb_vector from = nb_vectors_need(&v, "x_float32", "");
    while (nb_vectors_next(&v, &t)) {
        char *end = strstr(t.name, ".packed");
        if (!end || strncmp(t.name, "blockwise8", 10) == 0)
            continue;
        *end = 0;
        bool nested;
        case4 c = parse_case(t.name, from.n, &nested);
        const void *values = from.p;
        if (c.type != NB_FLOAT_F32) {
            narrow(from.p, c.n, c.type, half + MOST);
            values = half + MOST;
        }
        const float *scale = nested ? NULL : nb_vectors_need(&v, t.name, ".absmax").p;
        check_quantize(t.name, &c, values, t.p, scale);
        if (nested)
            scale = check_nested(&v, t.name, &c, absmax);
        check_dequantize(t.name, &c, t.p, scale, nb_vectors_need(&v, t.name, ".dequant").p);
        cases++;
    }
    assert_int_equal(cases, 44);
    nb_vectors_close(&v);
}

/* blocks of 32, tails, an odd number of values, fewer values than a block, a tail of zeros */
static void test_tails(void **state)
{
    (void)state;
    nb_vectors v;
    nb_vector t;
    size_t cases = 0;
    assert_true(nb_vectors_open(&v, "bitsandbytes/blocks.safetensors"));
    while (nb_vectors_next(&v, &t)) {
        char *end = strstr(t.name, ".packed"), *input;
        if (!end)
            continue;
        *end = 0;
        bool nested;
        input = strrchr(t.name, '.') + 1;
        nb_vector from = nb_vectors_need(&v, "x_", input);
        case4 c = parse_case(t.name, from.n, &nested);
        const float *scale = nb_vectors_need(&v, t.name, ".absmax").p;
        check_quantize(t.name, &c, from.p, t.p, scale);
        check_dequantize(t.name, &c, t.p, scale, nb_vectors_need(&v, t.name, ".dequant").p);
        cases++;
    }
    assert_int_equal(cases, 24);
    nb_vectors_close(&v);
}

/* ---- what bitsandbytes' own tests ask of errors, and more ---- */

static void fill_normal(float *to, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i += 2) { /* Box and Muller */
        double u = ((double)(nb_random(&seed) >> 11) + 1) * 0x1p-53, w = (double)(nb_random(&seed) >> 11) * 0x1p-53;
        double r = sqrt(-2 * log(u));
        to[i] = (float)(r * cos(6.283185307179586 * w));
        to[i + 1] = (float)(r * sin(6.283185307179586 * w));
    }
}

static double mean_error(nb_code4 code, size_t block, bool nested)
{
    size_t n = MOST, count = nb_bnb_blocks(n, block);
    double sum = 0;
    assert_int_equal(nb_bnb_quantize_4bit(x, NB_FLOAT_F32, n, code, block, codes, absmax, team, NULL), NB_OK);
    if (nested) {
        uint8_t *u8 = malloc(count);
        float *most = malloc(nb_bnb_blocks(count, 256) * sizeof *most), offset;
        assert_int_equal(nb_bnb_nest(absmax, count, u8, most, &offset, NULL), NB_OK);
        assert_int_equal(nb_bnb_unnest(u8, most, nb_bnb_map8(true), offset, 256, count, absmax, NULL), NB_OK);
        free(u8);
        free(most);
    }
    assert_int_equal(nb_bnb_dequantize_4bit(codes, absmax, nb_bnb_map4(code), block, n, y, NB_FLOAT_F32, team, NULL),
                     NB_OK);
    for (size_t i = 0; i < n; i++)
        sum += fabs((double)x[i] - (double)y[i]);
    return sum / (double)n;
}

static void test_errors_on_normal_values(void **state)
{
    (void)state;
    static const struct {
        size_t block;
        double nf4, fp4;
    } most[] = {{32, .0677, .0889}, {64, .0728, .0965}, {128, .0768, .1030}, {256, .0803, .1087}, {4096, .0925, .1295}};
    const double slack = 1.01; /* the means of many draws; one draw of theirs differs by up to 0.9 % */
    fill_normal(x, MOST, 7);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        assert_true(mean_error(NB_CODE_NF4, most[i].block, false) < most[i].nf4 * slack);
        assert_true(mean_error(NB_CODE_FP4, most[i].block, false) < most[i].fp4 * slack);
        assert_true(mean_error(NB_CODE_NF4, most[i].block, true) < .11);
    }
    double sum = 0, relative = 0;
    assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, MOST, nb_bnb_map8(true), 4096, codes, absmax, team, NULL),
                     NB_OK);
    assert_int_equal(nb_bnb_dequantize_8bit(codes, absmax, nb_bnb_map8(true), 4096, MOST, y, NB_FLOAT_F32, team, NULL),
                     NB_OK);
    for (size_t i = 0; i < MOST; i++) {
        double e = fabs((double)x[i] - (double)y[i]);
        sum += e;
        relative += e / (fabs((double)x[i]) + 1e-8);
    }
    assert_true(sum / MOST < .011);
    assert_true(relative / MOST < .018);
}

/* on an ascending ramp from -1 to 1 in one block */
static void test_ramp(void **state)
{
    (void)state;
    enum { N = 4096 };
    for (size_t i = 0; i < N; i++)
        x[i] = (float)((double)i * 2 / (N - 2) - 1);
    x[N - 1] = 1;
    for (int k = 0; k < 2; k++) {
        nb_code4 code = k ? NB_CODE_FP4 : NB_CODE_NF4;
        unsigned seen = 0;
        assert_int_equal(nb_bnb_quantize_4bit(x, NB_FLOAT_F32, N, code, N, codes, absmax, NULL, NULL), NB_OK);
        assert_int_equal(nb_bnb_dequantize_4bit(codes, absmax, nb_bnb_map4(code), N, N, y, NB_FLOAT_F32, NULL, NULL),
                         NB_OK);
        for (size_t i = 0; i < N; i++) {
            seen |= 1u << code_at(codes, i);
            assert_true(i == 0 || y[i] >= y[i - 1]);
        }
        assert_int_equal(seen, k ? 0xfeff : 0xffff); /* FP4's second zero is never written */
    }
    for (int k = 0; k < 2; k++) {
        const float *map = nb_bnb_map8(k == 0);
        uint8_t seen[256] = {0}, before = 0;
        memcpy(x, map, 256 * sizeof *x); /* every code's own value, then the ramp */
        assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, 256, map, 256, codes, absmax, NULL, NULL), NB_OK);
        for (size_t i = 0; i < 256; i++)
            seen[codes[i]] = 1;
        for (size_t i = 0; i < 256; i++)
            assert_true(seen[i] && codes[i] == i);
        for (size_t i = 0; i < N; i++)
            x[i] = (float)((double)i * 2 / (N - 2) - 1);
        assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, N, map, N, codes, absmax, NULL, NULL), NB_OK);
        for (size_t i = 0; i < N; before = codes[i], i++)
            assert_true(codes[i] >= before);
    }
}

static void test_zeros(void **state)
{
    (void)state;
    memset(x, 0, 300 * sizeof *x);
    x[290] = 5.0f; /* the last block has more than zeros */
    for (int k = 0; k < 4; k++) {
        if (k < 2) {
            nb_code4 code = k ? NB_CODE_FP4 : NB_CODE_NF4;
            assert_int_equal(nb_bnb_quantize_4bit(x, NB_FLOAT_F32, 300, code, 64, codes, absmax, NULL, NULL), NB_OK);
            nb_bnb_dequantize_4bit(codes, absmax, nb_bnb_map4(code), 64, 300, y, NB_FLOAT_F32, NULL, NULL);
        } else {
            const float *map = nb_bnb_map8(k == 2);
            assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, 300, map, 64, codes, absmax, NULL, NULL), NB_OK);
            nb_bnb_dequantize_8bit(codes, absmax, map, 64, 300, y, NB_FLOAT_F32, NULL, NULL);
        }
        assert_true(absmax[0] == 0.0f);
        for (size_t i = 0; i < 300; i++)
            assert_true(y[i] == x[i]);
    }
}

/* ---- 8 bits ---- */

/* bitsandbytes' CPU code looks codes up in 65,536 steps from -1 to 1: it errs beside the edges of a step and knows nothing
 * finer. Above its resolution: 99.5 % equal, the rest one away. Everywhere ours is the nearest. */
static void check_8bit(const float *from, size_t n, const float *map, const uint8_t *want, const float *scale)
{
    size_t off = 0, told = 0;
    assert_int_equal(nb_bnb_quantize_8bit(from, NB_FLOAT_F32, n, map, 256, codes, absmax, team, NULL), NB_OK);
    for (size_t i = 0; i < n; i++) {
        float most = absmax[i / 256], at = from[i] / most, error = fabsf(map[codes[i]] - at);
        assert_true(most == scale[i / 256]);
        assert_true(error <= fabsf(map[want[i]] - at) + 1e-7f);
        assert_true(from[i] != 0 || map[codes[i]] == 0);
        if (fabsf(at) < 0x1p-12f)
            continue;
        int distance = abs(codes[i] - want[i]);
        assert_true(distance <= 1);
        off += distance != 0;
        told++;
    }
    assert_true(told > n * 8 / 10);
    assert_true(off * 200 <= told);
}

static void test_8bit(void **state)
{
    (void)state;
    nb_vectors v;
    assert_true(nb_vectors_open(&v, "bitsandbytes/functional.safetensors"));
    nb_vector map = nb_vectors_need(&v, "blockwise8.code", ""), from = nb_vectors_need(&v, "x_float32", "");
    assert_memory_equal(map.p, nb_bnb_map8(true), 1024);
    assert_memory_equal(nb_vectors_need(&v, "dynamic_map_signed", "").p, nb_bnb_map8(true), 1024);
    assert_memory_equal(nb_vectors_need(&v, "dynamic_map_unsigned", "").p, nb_bnb_map8(false), 1024);
    nb_vector packed = nb_vectors_need(&v, "blockwise8", ".packed"),
              scale = nb_vectors_need(&v, "blockwise8", ".absmax");
    check_8bit(from.p, from.n, map.p, packed.p, scale.p);
    assert_int_equal(nb_bnb_dequantize_8bit(packed.p, scale.p, map.p, 256, from.n, y, NB_FLOAT_F32, team, NULL), NB_OK);
    assert_memory_equal(y, nb_vectors_need(&v, "blockwise8", ".dequant").p, from.n * sizeof *y);
    nb_vectors_close(&v);
}

static void test_8bit_maps(void **state)
{
    (void)state;
    nb_vectors v;
    assert_true(nb_vectors_open(&v, "bitsandbytes/blocks.safetensors"));
    for (int k = 0; k < 2; k++) {
        const char *stem = k ? "q8.unsigned" : "q8.signed";
        nb_vector from = nb_vectors_need(&v, stem, ".x"), want = nb_vectors_need(&v, stem, ".codes");
        nb_vector scale = nb_vectors_need(&v, stem, ".absmax");
        check_8bit(from.p, from.n, nb_bnb_map8(k == 0), want.p, scale.p);
        nb_bnb_dequantize_8bit(want.p, scale.p, nb_bnb_map8(k == 0), 256, from.n, y, NB_FLOAT_F32, team, NULL);
        assert_memory_equal(y, nb_vectors_need(&v, stem, ".dequant").p, from.n * sizeof *y);
    }
    nb_vectors_close(&v);
}

/* every code in every place of a vector, blocks of every size, a partial last one: the map's value times the scale */
static void test_8bit_values(void **state)
{
    (void)state;
    enum { N = 3 * 4096 + 1077 };
    const float *map = nb_bnb_map8(true);
    for (size_t i = 0; i < N; i++)
        codes[i] = (uint8_t)(i + i / 256);
    for (size_t block = 64; block <= 4096; block *= 2) {
        for (size_t b = 0; b < nb_bnb_blocks(N, block); b++)
            absmax[b] = 1.0f + (float)b / 7;
        nb_bnb_dequantize_8bit(codes, absmax, map, block, N, y, NB_FLOAT_F32, team, NULL);
        for (size_t i = 0; i < N; i++)
            assert_true(y[i] == map[codes[i]] * absmax[i / block]);
    }
}

/* any ascending map: equal to a search through all 256 */
static void test_any_map(void **state)
{
    (void)state;
    uint64_t seed = 99;
    float map[256];
    for (int i = 0; i < 256; i++)
        map[i] = i < 3 ? -1.0f : (float)(i - 128) / 127.0f * (float)abs(i - 128) / 127.0f;
    for (size_t i = 0; i < 8192; i++)
        x[i] = (float)(int64_t)nb_random(&seed) * 0x1p-63f * powf(2.0f, -(float)(i % 40));
    x[5] = x[4101] = 1.0f;
    assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, 8192, map, 4096, codes, absmax, NULL, NULL), NB_OK);
    for (size_t i = 0; i < 8192; i++) {
        int c = 0;
        while (c < 255 && x[i] > (map[c] + map[c + 1]) / 2)
            c++;
        assert_int_equal(codes[i], c);
    }
}

/* ---- LLM.int8() ---- */

static void test_int8_rows(void **state)
{
    (void)state;
    nb_vectors v;
    float scale[16];
    uint32_t outliers[64];
    size_t count;
    int8_t *to = (int8_t *)codes;
    assert_true(nb_vectors_open(&v, "bitsandbytes/functional.safetensors"));
    nb_vector from = nb_vectors_need(&v, "int8.x", "");
    assert_int_equal(nb_bnb_quantize_int8(from.p, NB_FLOAT_F16, 16, 64, to, scale, team, NULL), NB_OK);
    assert_memory_equal(to, nb_vectors_need(&v, "int8.q", "").p, 1024);
    assert_memory_equal(scale, nb_vectors_need(&v, "int8.scb", "").p, 64);
    assert_int_equal(
        nb_bnb_quantize_int8_outliers(from.p, NB_FLOAT_F16, 16, 64, 6.0f, to, scale, outliers, &count, NULL), NB_OK);
    assert_memory_equal(to, nb_vectors_need(&v, "int8.q_threshold6", "").p, 1024);
    assert_memory_equal(scale, nb_vectors_need(&v, "int8.scb_threshold6", "").p, 64);
    nb_vector columns = nb_vectors_need(&v, "int8.outlier_cols", "");
    assert_int_equal(count, columns.n);
    assert_memory_equal(outliers, columns.p, count * sizeof *outliers);
    nb_vectors_close(&v);
}

/* the distance to the next number of the type, at the size of `at` */
static float step_of(float at, nb_float type)
{
    int e;
    frexpf(at, &e);
    return ldexpf(1.0f, (e < -13 && type == NB_FLOAT_F16 ? -13 : e) - (type == NB_FLOAT_F16 ? 11 : 8));
}

/* the scaled products without the columns of outliers, before anything is added or rounded: [tokens][rows] */
static void products_of(const nb_vector *in, const nb_weight_int8 *w, nb_float type, float threshold, float *to)
{
    size_t tokens = in->dims[0], columns = w->columns;
    const uint16_t *from = in->p;
    for (size_t i = 0; i < tokens * columns; i++)
        x[i] = widen(from[i], type);
    for (size_t c = 0; threshold > 0 && c < columns; c++) {
        bool outlier = false;
        for (size_t t = 0; t < tokens; t++)
            outlier |= fabsf(x[t * columns + c]) >= threshold;
        for (size_t t = 0; outlier && t < tokens; t++)
            x[t * columns + c] = 0;
    }
    assert_int_equal(nb_linear_int8(w, x, tokens, NULL, 0, to, NB_FLOAT_F32, team, NULL), NB_OK);
}

/* Within one step of bitsandbytes' output, at the size of the output or of the sum that is rounded before outliers are
 * added; plus what its constant for 1 / 127^2 is off by: 1.8e-5 of the products, which a bias may cancel. */
static size_t check_layer(const nb_vectors *v, const char *stem)
{
    nb_float type = strstr(stem, "bf16") ? NB_FLOAT_BF16 : NB_FLOAT_F16;
    float threshold = (float)atof(strstr(stem, ".t") + 2);
    nb_vector in = nb_vectors_need(v, stem, ".x"), want = nb_vectors_need(v, stem, ".y"),
              w = nb_vectors_need(v, stem, ".w");
    size_t rows = w.dims[0], columns = w.dims[1], tokens = in.dims[0], equal = 0;
    const void *bias = strstr(stem, "bias") ? nb_vectors_need(v, stem, ".bias").p : NULL;
    float *scale = absmax;
    int8_t *c8 = (int8_t *)codes;
    uint16_t *got = half;
    assert_int_equal(nb_bnb_quantize_int8(w.p, NB_FLOAT_F16, rows, columns, c8, scale, team, NULL), NB_OK);
    assert_memory_equal(c8, nb_vectors_need(v, stem, ".codes").p, rows * columns);
    assert_memory_equal(scale, nb_vectors_need(v, stem, ".scale").p, rows * sizeof *scale);
    assert_int_equal(nb_bnb_dequantize_int8(c8, scale, rows, columns, y, NB_FLOAT_F32, team, NULL), NB_OK);
    assert_memory_equal(y, nb_vectors_need(v, stem, ".dequant").p, rows * columns * sizeof *y);
    nb_weight_int8 weight = {c8, scale, rows, columns};
    assert_int_equal(nb_linear_int8(&weight, in.p, tokens, bias, threshold, got, type, team, NULL), NB_OK);
    products_of(&in, &weight, type, threshold, y);
    for (size_t i = 0; i < tokens * rows; i++) {
        float a = widen(got[i], type), b = widen(((const uint16_t *)want.p)[i], type);
        float sum = y[i] + (bias ? widen(((const uint16_t *)bias)[i % rows], type) : 0);
        float step = fmaxf(step_of(b, type), step_of(sum, type));
        if (!(fabsf(a - b) <= step + 1.9e-5f * fabsf(y[i])))
            fail_msg("%s: output %zu is %g instead of %g", stem, i, (double)a, (double)b);
        equal += a == b;
    }
    if (!(equal * 10 >= tokens * rows * 9))
        fail_msg("%s: only %zu of %zu outputs are equal", stem, equal, tokens * rows);
    return 1;
}

static void test_int8_layers(void **state)
{
    (void)state;
    nb_vectors v;
    nb_vector t;
    size_t cases = 0;
    assert_true(nb_vectors_open(&v, "bitsandbytes/layers.safetensors"));
    while (nb_vectors_next(&v, &t)) {
        size_t n = strlen(t.name);
        if (n > 2 && strcmp(t.name + n - 2, ".y") == 0) {
            t.name[n - 2] = 0;
            cases += check_layer(&v, t.name);
        }
    }
    assert_int_equal(cases, 7);
    nb_vectors_close(&v);
}

/* ---- arguments ---- */

static void test_refusals(void **state)
{
    (void)state;
    nb_error err;
    float map[256], scale[2];
    for (int i = 0; i < 200; i++)
        x[i] = 1;
    assert_int_equal(nb_bnb_quantize_4bit(x, NB_FLOAT_F32, 64, NB_CODE_NF4, 48, codes, absmax, NULL, &err),
                     NB_ERR_ARGUMENT);
    assert_int_equal(nb_bnb_quantize_4bit(x, NB_FLOAT_F32, 64, NB_CODE_NF4, 16, codes, absmax, NULL, &err),
                     NB_ERR_ARGUMENT);
    assert_int_equal(nb_bnb_quantize_4bit(x, NB_FLOAT_F32, 64, (nb_code4)2, 64, codes, absmax, NULL, &err),
                     NB_ERR_ARGUMENT);
    assert_int_equal(nb_bnb_quantize_4bit(x, (nb_float)7, 64, NB_CODE_NF4, 64, codes, absmax, NULL, &err),
                     NB_ERR_ARGUMENT);
    assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, 64, nb_bnb_map8(true), 32, codes, absmax, NULL, &err),
                     NB_ERR_ARGUMENT);
    memcpy(map, nb_bnb_map8(true), sizeof map);
    map[9] = map[7];
    assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, 64, map, 64, codes, absmax, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "entry 9"));
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        x[133] = bad[i];
        assert_int_equal(nb_bnb_quantize_4bit(x, NB_FLOAT_F32, 200, NB_CODE_NF4, 64, codes, absmax, team, &err),
                         NB_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "value 133 is"));
        assert_int_equal(nb_bnb_quantize_8bit(x, NB_FLOAT_F32, 200, nb_bnb_map8(true), 64, codes, absmax, NULL, &err),
                         NB_ERR_ARGUMENT);
        assert_int_equal(nb_bnb_quantize_int8(x, NB_FLOAT_F32, 2, 100, (int8_t *)codes, scale, NULL, &err),
                         NB_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "value 133 is"));
    }
    x[133] = 65520; /* finite, but not as float16 */
    assert_int_equal(nb_bnb_quantize_int8(x, NB_FLOAT_F32, 2, 100, (int8_t *)codes, scale, NULL, &err),
                     NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "65504"));
    nb_weight_int8 wide = {(const int8_t *)codes, scale, 1, 140000};
    assert_int_equal(nb_linear_int8(&wide, x, 1, NULL, 0, y, NB_FLOAT_F32, NULL, &err), NB_ERR_LIMIT);
}

/* ---- the engine's types ---- */

static void test_engine_types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        nb_code4 code;
    } types[] = {{"NF4", NB_CODE_NF4}, {"FP4", NB_CODE_FP4}};
    fill_normal(x, 4096, 3);
    memset(x + 64, 0, 64 * sizeof *x);
    for (size_t k = 0; k < 2; k++) {
        const nb_type_info *type = nb_type_by_name(nb_str_of(types[k].name));
        assert_non_null(type);
        assert_true(type->id >= NB_TYPE_FILE_LIMIT);
        uint8_t *blocks = (uint8_t *)half;
        type->quantize(x, NULL, 4096, NB_ROUND_NEAREST, blocks);
        nb_bnb_quantize_4bit(x, NB_FLOAT_F32, 4096, types[k].code, 64, codes, absmax, NULL, NULL);
        for (size_t b = 0; b < 64; b++) {
            assert_memory_equal(blocks + 36 * b, absmax + b, 4);
            assert_memory_equal(blocks + 36 * b + 4, codes + 32 * b, 32);
        }
        nb_bnb_dequantize_4bit(codes, absmax, nb_bnb_map4(types[k].code), 64, 4096, y, NB_FLOAT_F32, NULL, NULL);
        type->dequantize(blocks, x + 8192, 4096);
        assert_memory_equal(x + 8192, y, 4096 * sizeof *y);
    }
    const nb_type_info *type = nb_type_by_name(NB_STR("INT8"));
    assert_non_null(type);
    nb_block_int8 *blocks = (nb_block_int8 *)(void *)half;
    float scale;
    type->quantize(x, NULL, 4096, NB_ROUND_SEARCH, blocks);
    nb_bnb_quantize_int8(x, NB_FLOAT_F32, 1, 4096, (int8_t *)codes, &scale, NULL, NULL);
    for (size_t b = 0; b < 128; b++) {
        assert_true(blocks[b].d == scale / 127.0f);
        assert_memory_equal(blocks[b].qs, codes + 32 * b, 32);
    }
    type->dequantize(blocks, y, 4096);
    for (size_t i = 0; i < 4096; i++)
        assert_true(y[i] == (float)(int8_t)codes[i] * (scale / 127.0f));
}

/* ---- every level ---- */

static void (*const everywhere[])(void **) = {test_functional_4bit,
                                              test_tails,
                                              test_errors_on_normal_values,
                                              test_ramp,
                                              test_zeros,
                                              test_8bit,
                                              test_8bit_maps,
                                              test_8bit_values,
                                              test_any_map,
                                              test_int8_rows,
                                              test_int8_layers};

static void test_every_level(void **state)
{
    nb_cpu_level best = nb_cpu_best();
    for (int level = NB_CPU_REF; level <= (int)best; level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (size_t i = 0; i < sizeof everywhere / sizeof *everywhere; i++)
            everywhere[i](state);
    }
    nb_cpu_set_level(best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_level), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_engine_types), cmocka_unit_test(test_nested_zero)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
