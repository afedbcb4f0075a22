/* Rounding with error feedback: the factors against plain sums in double precision; the codes against the algorithm as GPTQ
 * states it, by the inverse of the moments, also in double; every type at every level, with any number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/team.h"
#include "num/half.h"
#include "quant/feedback_table.h"

enum { MOST = 768, SAMPLES = 1500 };

static uint32_t seed;

static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f - 0.5f;
}

static float normal(void) { return uniform() + uniform() + uniform() + uniform(); }

/* Moments of inputs that go together: neighbours share much, and a few columns are large. */
typedef struct moments {
    size_t n;
    float *correlation, *rms; /* as nb_feedback_make takes them */
    double *h;                /* damped, full */
} moments;

static moments make_moments(size_t n, float floor, float damping, size_t silent)
{
    moments m = {n, calloc(n * n, sizeof(float)), calloc(n, sizeof(float)), calloc(n * n, sizeof(double))};
    double *x = calloc(n, sizeof *x), mean = 0;
    for (size_t s = 0; s < SAMPLES; s++) {
        double common = normal();
        for (size_t i = 0; i < n; i++) {
            x[i] = 0.6 * (i ? x[i - 1] : 0) + normal() + (i % 3 ? common : 0);
            x[i] *= i % 37 == 5 ? 3 : 1;
        }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++)
                m.h[i * n + j] += i == silent || j == silent ? 0 : x[i] * x[j] / SAMPLES;
    }
    for (size_t i = 0; i < n; i++) {
        m.rms[i] = (float)sqrt(m.h[i * n + i]);
        mean += m.h[i * n + i] / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double both = (double)m.rms[i] * (double)m.rms[j];
            m.correlation[i * n + j] = both > 0 ? (float)(m.h[i * n + j] / both) : 0;
        }
    for (size_t i = 0; i < n; i++) {
        m.h[i * n + i] = (m.h[i * n + i] + (double)floor * mean) * (1 + (double)damping);
        for (size_t j = 0; j < i; j++)
            m.h[j * n + i] = m.h[i * n + j];
    }
    free(x);
    return m;
}

static void free_moments(moments *m)
{
    free(m->correlation);
    free(m->rms);
    free(m->h);
}

typedef struct making {
    nb_feedback_input in;
    nb_team *team;
} making;

static void make_member(void *context, int member, int members)
{
    making *m = context;
    nb_feedback_make(&m->in, m->team, member, members);
}

static nb_feedback make(const moments *m, float floor, float damping, int threads)
{
    size_t n = m->n;
    nb_feedback f = {n, calloc(nb_feedback_panels(n), sizeof(float)), calloc(n, sizeof(float))};
    float *correlation = malloc(n * n * sizeof(float)), *rms = malloc(n * sizeof(float));
    float *panel = calloc(NB_FEEDBACK_FACTOR * n, sizeof(float));
    memcpy(correlation, m->correlation, n * n * sizeof(float));
    memcpy(rms, m->rms, n * sizeof(float));
    making job = {{&f, correlation, rms, panel, floor, damping}, NULL};
    assert_int_equal(nb_team_new(threads, false, &job.team, NULL), NB_OK);
    nb_team_run(job.team, make_member, &job);
    nb_team_free(job.team);
    free(correlation);
    free(rms);
    free(panel);
    return f;
}

static void free_feedback(nb_feedback *f)
{
    free(f->panels);
    free(f->weight);
}

static double upper(const nb_feedback *f, size_t i, size_t k)
{
    const float *panel = f->panels + nb_feedback_panels(k / NB_FEEDBACK_PANEL * NB_FEEDBACK_PANEL);
    return (double)panel[i * NB_FEEDBACK_PANEL + k % NB_FEEDBACK_PANEL];
}

/* ---- factors ---- */

static void check_factor(size_t n, float floor, float damping, size_t silent)
{
    moments m = make_moments(n, floor, damping, silent);
    nb_feedback f = make(&m, floor, damping, 2);
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) { /* ((U + 1) D (U + 1)^T)[i][j] */
            double sum = 0;
            for (size_t k = i; k < n; k++)
                sum += (k == i ? 1 : upper(&f, i, k)) * (double)f.weight[k] * (k == j ? 1 : upper(&f, j, k));
            double unit = sqrt(m.h[i * n + i] * m.h[j * n + j]);
            worst = fmax(worst, fabs(sum - m.h[i * n + j]) / unit);
        }
    assert_true(worst < 2e-5);
    free_feedback(&f);
    free_moments(&m);
}

static void test_factor(void **state)
{
    (void)state;
    seed = 1;
    check_factor(32, 0, 0.01f, SIZE_MAX);
    check_factor(64, 0.01f, 0.3f, SIZE_MAX);
    check_factor(96, 0.01f, 0.01f, 40);
    check_factor(288, 0.003f, 0.1f, 287);
}

static void test_silent(void **state)
{
    moments m = {64, calloc(64 * 64, sizeof(float)), calloc(64, sizeof(float)), NULL};
    nb_feedback f = make(&m, 0.01f, 0.3f, 1);
    (void)state;
    for (size_t i = 0; i < 64; i++) {
        assert_true(f.weight[i] > 0 && isfinite(f.weight[i]));
        for (size_t k = 0; k < i; k++)
            assert_true(upper(&f, k, i) == 0);
    }
    free_feedback(&f);
    free_moments(&m);
}

static void test_threads(void **state)
{
    moments m = make_moments(224, 0.01f, 0.1f, SIZE_MAX);
    nb_feedback one = make(&m, 0.01f, 0.1f, 1);
    (void)state;
    for (int threads = 2; threads <= 3; threads++)
        for (int level = 0; level <= (int)nb_cpu_best(); level++) {
            nb_cpu_set_level((nb_cpu_level)level);
            nb_feedback f = make(&m, 0.01f, 0.1f, threads);
            assert_memory_equal(f.panels, one.panels, nb_feedback_panels(224) * sizeof(float));
            assert_memory_equal(f.weight, one.weight, 224 * sizeof(float));
            free_feedback(&f);
        }
    nb_cpu_set_level(nb_cpu_best());
    free_feedback(&one);
    free_moments(&m);
}

/* ---- rounding ---- */

static void round_rows(const nb_feedback *f, const nb_type_info *type, const float *x, size_t rows, uint8_t *dst)
{
    size_t bytes = f->columns / type->block_values * type->block_bytes, scratch = nb_feedback_scratch(f->columns);
    void *memory = nb_pages_alloc(scratch);
    assert_non_null(memory);
    for (size_t r = 0; r < rows; r += NB_FEEDBACK_ROWS)
        nb_feedback_round(f, type, x + r * f->columns, f->columns, nb_min_size(NB_FEEDBACK_ROWS, rows - r),
                          dst + r * bytes, bytes, memory);
    nb_pages_free(memory, scratch);
}

/* the expected squared error of the outputs of all rows */
static double output_error(const moments *m, const float *x, const float *q, size_t rows)
{
    double sum = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < m->n; i++) {
            double at = 0;
            for (size_t j = 0; j < m->n; j++)
                at += m->h[i * m->n + j] * (double)(x[r * m->n + j] - q[r * m->n + j]);
            sum += at * (double)(x[r * m->n + i] - q[r * m->n + i]);
        }
    return sum;
}

static bool is_fed(const nb_type_info *t) { return t && nb_feedback_can(t); }

/* For every type: less error than its search with the same moments' diagonal as importance; a tail of rows; all levels. */
static void test_types(void **state)
{
    enum { N = 512, ROWS = 41 };
    seed = 7;
    moments m = make_moments(N, 0.01f, 0.05f, SIZE_MAX);
    nb_feedback f = make(&m, 0.01f, 0.05f, 2);
    float *x = calloc(ROWS * N, sizeof *x), *q = calloc(ROWS * N, sizeof *q), weight[N];
    uint8_t *fed = calloc(ROWS * N, 4), *again = calloc(ROWS * N, 4);
    size_t types = 0;
    (void)state;
    for (size_t i = 0; i < ROWS * N; i++)
        x[i] = i / N == 3 ? 0 : normal() * 0.03f; /* a row of zeros */
    for (size_t i = 0; i < N; i++)
        weight[i] = (float)m.h[i * N + i];
    for (uint32_t id = 0; id < NB_TYPE_FILE_LIMIT; id++) {
        const nb_type_info *t = nb_type_get(id);
        if (!is_fed(t))
            continue;
        size_t bytes = N / t->block_values * t->block_bytes;
        round_rows(&f, t, x, ROWS, fed);
        t->dequantize(fed, q, ROWS * N);
        double with = output_error(&m, x, q, ROWS);
        for (size_t r = 0; r < ROWS; r++)
            t->quantize(x + r * N, weight, N, NB_ROUND_SEARCH, again + r * bytes);
        t->dequantize(again, q, ROWS * N);
        double without = output_error(&m, x, q, ROWS), most = 0.72 * without;
        if (!(with < most) || with <= 0)
            fail_msg("%s: %g with feedback, %g without: %g", t->name, with, without, with / without);
        for (int level = 0; level <= (int)nb_cpu_best(); level++) {
            nb_cpu_set_level((nb_cpu_level)level);
            memset(again, 0xee, ROWS * bytes);
            round_rows(&f, t, x, ROWS, again);
            assert_memory_equal(again, fed, ROWS * bytes);
        }
        nb_cpu_set_level(nb_cpu_best());
        types++;
    }
    assert_true(types == 22);
    free(x);
    free(q);
    free(fed);
    free(again);
    free_feedback(&f);
    free_moments(&m);
}

/* ---- the algorithm as GPTQ has it: columns in order, the error of each spread by the Cholesky factor of the inverse ---- */

static void invert(const double *h, size_t n, double *inverse) /* Gauss-Jordan */
{
    double *a = malloc(2 * n * n * sizeof *a);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < 2 * n; j++)
            a[i * 2 * n + j] = j < n ? h[i * n + j] : j - n == i;
    for (size_t k = 0; k < n; k++) {
        double by = 1 / a[k * 2 * n + k];
        for (size_t j = 0; j < 2 * n; j++)
            a[k * 2 * n + j] *= by;
        for (size_t i = 0; i < n; i++) {
            double factor = i == k ? 0 : a[i * 2 * n + k];
            for (size_t j = 0; j < 2 * n && factor != 0; j++)
                a[i * 2 * n + j] -= factor * a[k * 2 * n + j];
        }
    }
    for (size_t i = 0; i < n; i++)
        memcpy(inverse + i * n, a + i * 2 * n + n, n * sizeof *inverse);
    free(a);
}

static void upper_cholesky(double *a, size_t n) /* a = U^T U; the upper triangle becomes U */
{
    for (size_t k = 0; k < n; k++) {
        for (size_t r = 0; r < k; r++)
            for (size_t j = k; j < n; j++)
                a[k * n + j] -= a[r * n + k] * a[r * n + j];
        double root = sqrt(a[k * n + k]);
        for (size_t j = k; j < n; j++)
            a[k * n + j] /= root;
    }
}

/* what a code would be at a column of a row whose blocks are known */
static void candidates(const nb_feedback_type *codes, const nb_type_info *t, const uint8_t *row, size_t n, float *value)
{
    uint8_t *copy = malloc(n * 4), same[256];
    size_t bytes = n / t->block_values * t->block_bytes;
    for (int c = 0; c < codes->levels; c++) {
        memset(same, c, sizeof same);
        memcpy(copy, row, bytes);
        for (size_t b = 0; b < n / t->block_values; b++)
            codes->put(same, copy + b * t->block_bytes);
        t->dequantize(copy, value + (size_t)c * n, n);
    }
    free(copy);
}

static size_t equal_to_gptq(const moments *m, const double *u, const nb_type_info *t, const uint8_t *row,
                            const float *x, float *value)
{
    const nb_feedback_type *codes = nb_feedback_type_of(t->id);
    size_t n = m->n, equal = 0;
    float *q = malloc(n * sizeof *q);
    double *w = malloc(n * sizeof *w);
    candidates(codes, t, row, n, value);
    t->dequantize(row, q, n);
    for (size_t i = 0; i < n; i++)
        w[i] = (double)x[i];
    for (size_t k = 0; k < n; k++) {
        float best = value[k];
        for (int c = 1; c < codes->levels; c++)
            if (fabs((double)value[(size_t)c * n + k] - w[k]) < fabs((double)best - w[k]))
                best = value[(size_t)c * n + k];
        equal += best == q[k];
        double error = (w[k] - (double)q[k]) / u[k * n + k]; /* go on from what was taken */
        for (size_t j = k + 1; j < n; j++)
            w[j] -= error * u[k * n + j];
    }
    free(q);
    free(w);
    return equal;
}

static void test_gptq(void **state)
{
    enum { N = 256, ROWS = 32 };
    seed = 3;
    moments m = make_moments(N, 0.01f, 0.02f, 77);
    nb_feedback f = make(&m, 0.01f, 0.02f, 2);
    float *x = calloc(ROWS * N, sizeof *x), *value = calloc(256 * N, sizeof *value);
    double *u = calloc(N * N, sizeof *u);
    uint8_t *fed = calloc(ROWS * N, 4);
    (void)state;
    for (size_t i = 0; i < ROWS * N; i++)
        x[i] = normal() * 0.03f;
    invert(m.h, N, u);
    upper_cholesky(u, N);
    for (uint32_t id = 0; id < NB_TYPE_FILE_LIMIT; id++) {
        const nb_type_info *t = nb_type_get(id);
        if (!t || !nb_feedback_type_of(id))
            continue;
        size_t bytes = N / t->block_values * t->block_bytes, equal = 0;
        round_rows(&f, t, x, ROWS, fed);
        for (size_t r = 0; r < ROWS; r++)
            equal += equal_to_gptq(&m, u, t, fed + r * bytes, x + r * N, value);
        if (equal < ROWS * N - 8) /* ties and nearly: a float here, a double there */
            fail_msg("%s: %zu of %d codes are GPTQ's", t->name, equal, ROWS * N);
    }
    free(x);
    free(value);
    free(u);
    free(fed);
    free_feedback(&f);
    free_moments(&m);
}

/* Values at the ends of what a type holds, and rows whose blocks have no scale. */
static void test_extremes(void **state)
{
    enum { N = 256, ROWS = 5 };
    static const float magnitude[] = {0, 1e-30f, 6e-8f, 6e4f, 1e9f};
    moments m = make_moments(N, 0.01f, 0.3f, SIZE_MAX);
    nb_feedback f = make(&m, 0.01f, 0.3f, 1);
    float *x = calloc(ROWS * N, sizeof *x), *q = calloc(ROWS * N, sizeof *q);
    uint8_t *fed = calloc(ROWS * N, 4);
    (void)state;
    for (size_t i = 0; i < ROWS * N; i++)
        x[i] = magnitude[i / N] * (i % 2 ? -1 : 1);
    for (uint32_t id = 0; id < NB_TYPE_FILE_LIMIT; id++) {
        const nb_type_info *t = nb_type_get(id);
        if (!is_fed(t))
            continue;
        round_rows(&f, t, x, ROWS, fed);
        t->dequantize(fed, q, 4 * N); /* the last row is more than a half-precision scale may hold */
        for (size_t i = 0; i < 4 * N; i++)
            if (!isfinite(q[i]) || (i < N && fabsf(q[i]) > 1e-30f) || fabsf(q[i]) > 40 * magnitude[i / N] + 1e-4f)
                fail_msg("%s: %g for %g", t->name, (double)q[i], (double)x[i]);
    }
    free(x);
    free(q);
    free(fed);
    free_feedback(&f);
    free_moments(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_factor),  cmocka_unit_test(test_silent),
                                       cmocka_unit_test(test_threads), cmocka_unit_test(test_types),
                                       cmocka_unit_test(test_gptq),    cmocka_unit_test(test_extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
