/* Every function of vec.h at every level this machine has, against the formula written out in double precision: all
 * tails, in place, and extreme values. The list of tests is kernels.def: a row without its test does not compile. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernel/vec.h"

#define MOST 4200
static const size_t long_sizes[] = {128, 576, 640, 1024, 1536, 4099};
enum { N_SIZES = 70 + sizeof long_sizes / sizeof *long_sizes };

static size_t size_of(int i) { return i < 70 ? (size_t)i + 1 : long_sizes[i - 70]; }

static uint64_t seed;

static double uniform(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) * 0x1p-53;
}

static float normal(void) { return (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform())); }

static void fill(float *x, size_t n, double size)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * (double)normal());
}

static void each_level(void (*check)(void))
{
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        seed = 7;
        check();
    }
    nb_cpu_set_level(NB_CPU_LEVELS);
}

/* |got - want| <= units * 2^-24 (|want| + floor); a NaN is met by a NaN only */
static void near(const char *what, size_t i, float got, double want, double units, double floor)
{
    if (isnan(want) ? isnan(got)
                    : (double)got == want || fabs((double)got - want) <= units * 0x1p-24 * (fabs(want) + floor))
        return;
    fail_msg("%s[%zu] at level %s: %.9g, not %.17g", what, i, nb_cpu_level_name(nb_cpu_current()), (double)got, want);
}

/* ---- gated activations and other functions of one element ---- */

typedef void gated(const float *, const float *, size_t, float *);
typedef double formula(double);

static double silu(double x) { return x / (1 + exp(-x)); }
static double gelu_tanh(double x) /* 0.5 x (1 + tanh u), without the cancellation at the negative end */
{
    return x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}
static double gelu_erf(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }
static double relu(double x) { return x > 0 ? x : 0; }
static double relu2(double x) { return x > 0 ? x * x : 0; }

/* units: of the value; tail: further units for each unit of x^2, where the exponent's own rounding shows */
static void check_gated(const char *name, gated *f, formula *want, double units, double tail)
{
    static float x[MOST], up[MOST], y[MOST + 1];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(x, n, 3);
        fill(up, n, 1);
        y[n] = 12345;
        f(x, up, n, y);
        for (size_t i = 0; i < n; i++) {
            double w = want((double)x[i]);
            near(name, i, y[i], w * (double)up[i], units + 1 + tail * (double)x[i] * (double)x[i], 1e-37);
        }
        f(x, NULL, n, y);
        for (size_t i = 0; i < n; i++)
            near(name, i, y[i], want((double)x[i]), units + tail * (double)x[i] * (double)x[i], 1e-37);
        assert_true(y[n] == 12345);
        memcpy(up, x, n * sizeof *x);
        f(up, NULL, n, up);
        assert_memory_equal(up, y, n * sizeof *y);
    }
}

/* NMSE over inputs as a model has them: the other GELU would give 2e-8 */
static void check_nmse(gated *f, formula *want)
{
    static float x[MOST], y[MOST];
    double error = 0, power = 0;
    fill(x, MOST, 2);
    f(x, NULL, MOST, y);
    for (size_t i = 0; i < MOST; i++) {
        double w = want((double)x[i]);
        error += ((double)y[i] - w) * ((double)y[i] - w);
        power += w * w;
    }
    assert_true(error / power <= 1e-14);
}

static void check_extremes(gated *f, float at_minus_100)
{
    const float x[] = {0.0f, -0.0f, 1e-40f, -1e-40f, 1e30f, 3.4e38f, INFINITY, NAN, -100.0f, -1e30f};
    float y[10];
    f(x, NULL, 10, y);
    assert_true(y[0] == 0 && y[1] == 0);
    assert_true(y[2] >= 0 && y[2] <= 1e-40f && y[3] <= 0 && y[3] >= -1e-40f);
    assert_true(y[4] == x[4] && y[5] == x[5] && y[6] == x[6]);
    assert_true(isnan(y[7]));
    assert_true(fabsf(y[8] - at_minus_100) <= 1e-41f + 1e-4f * fabsf(at_minus_100));
    assert_true(y[9] == 0);
}

static void check_silu_mul(void)
{
    check_gated("silu", nb_vec_silu_mul, silu, 5, 0);
    check_nmse(nb_vec_silu_mul, silu);
    check_extremes(nb_vec_silu_mul, (float)silu(-100));
}
static void check_gelu_tanh_mul(void)
{
    check_gated("gelu_tanh", nb_vec_gelu_tanh_mul, gelu_tanh, 6, 4);
    check_nmse(nb_vec_gelu_tanh_mul, gelu_tanh);
    check_extremes(nb_vec_gelu_tanh_mul, 0);
}
static void check_gelu_erf_mul(void)
{
    check_gated("gelu_erf", nb_vec_gelu_erf_mul, gelu_erf, 8, 1);
    check_nmse(nb_vec_gelu_erf_mul, gelu_erf);
    check_extremes(nb_vec_gelu_erf_mul, 0);
}
static void check_relu_mul(void)
{
    check_gated("relu", nb_vec_relu_mul, relu, 0, 0);
    check_extremes(nb_vec_relu_mul, 0);
}
static void check_relu2_mul(void)
{
    const float x[] = {-INFINITY, -1, -0.0f, 0, 3, 1e30f, NAN};
    float y[7];
    check_gated("relu2", nb_vec_relu2_mul, relu2, 1, 0);
    nb_vec_relu2_mul(x, NULL, 7, y);
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0 && y[3] == 0 && y[4] == 9 && isinf(y[5]) && isnan(y[6]));
}

static void check_xielu(void)
{
    static const float parameters[][4] = {{0.8f, 0.8f, 0.5f, -1e-6f}, {1.7f, 0.55f, 0.5f, -0.25f}};
    static float x[MOST], y[MOST + 1];
    for (int k = 0; k < 2; k++) {
        double p = (double)parameters[k][0], n = (double)parameters[k][1], b = (double)parameters[k][2];
        for (int s = 0; s < N_SIZES; s++) {
            size_t count = size_of(s);
            fill(x, count, s % 2 ? 3 : 0.1f); /* near 0 too, where e^x - 1 - x has few digits */
            y[count] = 12345;
            nb_vec_xielu(x, parameters[k], count, y);
            for (size_t i = 0; i < count; i++) {
                double v = (double)x[i], m = v < (double)parameters[k][3] ? v : (double)parameters[k][3];
                double bend = v > 0 ? p * v * v : n * (expm1(m) - v);
                near("xielu", i, y[i], bend + b * v, 4 + 4 * (fabs(bend) + fabs(b * v)) / (fabs(bend + b * v) + 1e-30),
                     1e-37);
            }
            assert_true(y[count] == 12345);
        }
    }
    const float ends[] = {0, INFINITY, NAN};
    nb_vec_xielu(ends, parameters[0], 3, y);
    assert_true(fabsf(y[0] + 0.8e-6f) < 1e-12f && y[1] == INFINITY && isnan(y[2]));
}

static double clamped(double x)
{
    double g = x < 7 ? x : 7;
    return g / (1 + exp(-1.702 * g));
}

static void check_clamped_mul(void)
{
    static float x[MOST], up[MOST], y[MOST + 1];
    const float odd[] = {0.0f, -0.0f, 1e30f, INFINITY, -1e30f, 9.0f, NAN};
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(x, n, 6);
        fill(up, n, 6);
        y[n] = 12345;
        nb_vec_clamped_mul(x, up, n, y);
        for (size_t i = 0; i < n; i++) {
            double u = fmax(-7, fmin(7, (double)up[i]));
            near("clamped", i, y[i], clamped((double)x[i]) * (double)((float)u + 1), 9 + 4 * fabs((double)x[i]),
                 1e-37); /* the product with 1.702 is rounded before the exponent */
        }
        nb_vec_clamped_mul(x, NULL, n, y);
        for (size_t i = 0; i < n; i++)
            near("clamped", i, y[i], clamped((double)x[i]), 8 + 4 * fabs((double)x[i]), 1e-37);
        assert_true(y[n] == 12345);
    }
    nb_vec_clamped_mul(odd, odd, 7, y);
    assert_true(y[0] == 0 && y[1] == 0 && isnan(y[6]));
    for (int i = 2; i < 6; i++)
        near("clamped", (size_t)i, y[i], odd[i] > 0 ? clamped(7) * 8 : 0, 9, 1e-30);
}

static void check_add_scaled(void)
{
    static float a[MOST], b[MOST], y[MOST + 1];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(a, n, 1);
        fill(b, n, 1);
        y[n] = 12345;
        nb_vec_add_scaled(a, b, 1, n, y);
        for (size_t i = 0; i < n; i++)
            assert_true(y[i] == a[i] + b[i]);
        nb_vec_add_scaled(a, b, 0.22f, n, y);
        for (size_t i = 0; i < n; i++) /* one rounding where the level has fused multiply-add, else two */
            assert_true(fabsf(y[i] - fmaf(b[i], 0.22f, a[i])) <= 1.2e-7f * (fabsf(a[i]) + fabsf(b[i])));
        assert_true(y[n] == 12345);
        nb_vec_add_scaled(a, b, 0.22f, n, a);
        assert_memory_equal(a, y, n * sizeof *y);
    }
}

static void check_scale(void)
{
    static float x[MOST], y[MOST + 1];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(x, n, 1);
        y[n] = 12345;
        nb_vec_scale(x, 0.3f, n, y);
        for (size_t i = 0; i < n; i++)
            assert_true(y[i] == x[i] * 0.3f);
        assert_true(y[n] == 12345);
        nb_vec_scale(x, 0.3f, n, x);
        assert_memory_equal(x, y, n * sizeof *y);
    }
}

static void check_softcap(void)
{
    static float x[MOST], y[MOST + 1];
    const float caps[] = {1, 30, 50};
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        float cap = caps[s % 3];
        fill(x, n, s % 2 ? 1 : 40);
        y[n] = 12345;
        nb_vec_softcap(x, cap, n, y);
        for (size_t i = 0; i < n; i++)
            near("softcap", i, y[i], (double)cap * tanh((double)x[i] / (double)cap), 6, 0);
        assert_true(y[n] == 12345);
    }
    const float edge[] = {0.0f, INFINITY, -INFINITY, NAN, 1e-40f};
    nb_vec_softcap(edge, 30, 5, y);
    assert_true(y[0] == 0 && y[1] == 30 && y[2] == -30 && isnan(y[3]) && fabsf(y[4] - 1e-40f) < 5e-44f);
}

/* ---- reductions ---- */

static void check_dot(void)
{
    static float a[MOST], b[MOST];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(a, n, 1);
        fill(b, n, 1);
        double want = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            want += (double)a[i] * (double)b[i];
            size += fabs((double)a[i] * (double)b[i]);
        }
        near("dot", n, nb_vec_dot(a, b, n), want, 8, size);
    }
    assert_true(nb_vec_dot(a, b, 0) == 0);
    a[3] = NAN;
    assert_true(isnan(nb_vec_dot(a, b, 70)));
    a[3] = INFINITY, b[3] = 1;
    assert_true(nb_vec_dot(a, b, 70) == INFINITY);
}

static void check_max(void)
{
    static float x[MOST];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(x, n, 1);
        float want = x[0];
        for (size_t i = 1; i < n; i++)
            want = x[i] > want ? x[i] : want;
        assert_true(nb_vec_max(x, n) == want);
        for (size_t at = 0; at < n && n <= 70; at++) { /* wherever it is, and beside NaNs, which do not count */
            float old = x[at];
            x[at] = 100;
            assert_true(nb_vec_max(x, n) == 100);
            x[at] = NAN;
            float rest = nb_vec_max(x, n);
            assert_true(n == 1 ? rest == -INFINITY : rest <= want);
            x[at] = old;
        }
    }
    assert_true(nb_vec_max(x, 0) == -INFINITY);
    x[0] = x[1] = -INFINITY;
    assert_true(nb_vec_max(x, 2) == -INFINITY);
}

static void check_exp_sum(void)
{
    static float x[MOST], y[MOST + 1];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(x, n, 10);
        float top = nb_vec_max(x, n), shift = s % 2 ? top : 0;
        double want = 0;
        y[n] = 12345;
        float sum = nb_vec_exp_sum(x, shift, n, y);
        for (size_t i = 0; i < n; i++) {
            near("exp", i, y[i], exp((double)(x[i] - shift)), 3, 1e-37);
            want += exp((double)(x[i] - shift));
        }
        near("exp sum", n, sum, want, 6, 0);
        assert_true(y[n] == 12345);
    }
    const float edge[] = {0, -INFINITY, INFINITY, NAN, -87.0f, -100.0f, -104.0f, 88.7f, 89.0f, -1e30f, 1e30f, 1e-40f};
    nb_vec_exp_sum(edge, 0, 12, y);
    for (int i = 0; i < 12; i++)
        near("exp edge", (size_t)i, y[i], (double)(float)exp((double)edge[i]), 3, edge[i] < -87.2f ? 0x1p-125 : 0);
    assert_true(nb_vec_exp_sum(x, 0, 0, y) == 0);
}

static void check_exp_sum_of_a_vocabulary(void)
{
    size_t n = 262144;
    float *x = malloc(n * sizeof *x);
    fill(x, n, 1);
    double want = 0;
    for (size_t i = 0; i < n; i++)
        want += exp((double)x[i]);
    near("exp sum", n, nb_vec_exp_sum(x, 0, n, x), want, 6, 0);
    free(x);
}

/* ---- norms ---- */

static void check_rmsnorm(void)
{
    static float x[MOST], w[MOST], y[MOST + 1];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(x, n, s % 3 ? 1 : 1e-3);
        fill(w, n, 1);
        double square = 0;
        for (size_t i = 0; i < n; i++)
            square += (double)x[i] * (double)x[i];
        double scale = 1 / sqrt(square / (double)n + (double)1e-5f);
        y[n] = 12345;
        nb_vec_rmsnorm(x, w, n, 1e-5f, y);
        for (size_t i = 0; i < n; i++)
            near("rmsnorm", i, y[i], (double)x[i] * scale * (double)w[i], 8, 0);
        nb_vec_rmsnorm(x, NULL, n, 1e-5f, y);
        for (size_t i = 0; i < n; i++)
            near("rmsnorm", i, y[i], (double)x[i] * scale, 8, 0);
        assert_true(y[n] == 12345);
        nb_vec_rmsnorm(x, NULL, n, 1e-5f, x);
        assert_memory_equal(x, y, n * sizeof *y);
    }
    memset(x, 0, sizeof x);
    nb_vec_rmsnorm(x, w, 100, 1e-5f, y);
    assert_true(y[0] == 0 && y[99] == 0);
}

static void check_layernorm(void)
{
    static float x[MOST], w[MOST], b[MOST], y[MOST + 1];
    for (int s = 0; s < N_SIZES; s++) {
        size_t n = size_of(s);
        fill(x, n, 1);
        for (size_t i = 0; i < n; i++)
            x[i] += 3; /* a mean that must be taken out before squaring */
        fill(w, n, 1);
        fill(b, n, 1);
        double mean = 0, square = 0;
        for (size_t i = 0; i < n; i++)
            mean += (double)x[i] / (double)n;
        for (size_t i = 0; i < n; i++)
            square += ((double)x[i] - mean) * ((double)x[i] - mean);
        double scale = 1 / sqrt(square / (double)n + (double)1e-5f), floor = 3 * scale;
        y[n] = 12345;
        nb_vec_layernorm(x, w, b, n, 1e-5f, y);
        for (size_t i = 0; i < n; i++)
            near("layernorm", i, y[i], ((double)x[i] - mean) * scale * (double)w[i] + (double)b[i], 10,
                 floor * fabs((double)w[i]));
        assert_true(y[n] == 12345);
        nb_vec_layernorm(x, NULL, NULL, n, 1e-5f, x);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs((double)(w[i] * x[i] + b[i] - y[i])) <= 1e-5);
    }
}

/* ---- rotary embedding ---- */

static void check_rope(void)
{
    static float x[512], old[512], cos_sin[512];
    for (size_t half = 1; half <= 128; half++)
        for (int neox = 0; neox < 2; neox++) {
            size_t rot = 2 * half;
            fill(x, rot + 1, 1);
            memcpy(old, x, sizeof x);
            for (size_t i = 0; i < half; i++) {
                double angle = 37 * pow(10000, -(double)i / (double)half);
                cos_sin[2 * i] = (float)cos(angle);
                cos_sin[2 * i + 1] = (float)sin(angle);
            }
            nb_vec_rope(x, cos_sin, rot, neox);
            for (size_t i = 0; i < half; i++) {
                size_t a = neox ? i : 2 * i, b = neox ? i + half : 2 * i + 1;
                double c = (double)cos_sin[2 * i], s = (double)cos_sin[2 * i + 1], p = (double)old[a],
                       q = (double)old[b];
                near("rope", a, x[a], p * c - q * s, 2, fabs(p) + fabs(q));
                near("rope", b, x[b], p * s + q * c, 2, fabs(p) + fabs(q));
            }
            assert_true(x[rot] == old[rot]);
        }
}

#define NB_VEC(name, type, give, params, args)                                                                         \
    static void test_##name(void **state)                                                                              \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        each_level(check_##name);                                                                                      \
    }
#include "kernel/kernels.def"
#undef NB_VEC

static void test_vocabulary(void **state)
{
    (void)state;
    each_level(check_exp_sum_of_a_vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define NB_VEC(name, type, give, params, args) cmocka_unit_test(test_##name),
#include "kernel/kernels.def"
#undef NB_VEC
        cmocka_unit_test(test_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
