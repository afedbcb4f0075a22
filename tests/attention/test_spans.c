/* Several sequences in one call, rings of pages, padded rows, and keys that are no numbers: nothing of one query's
 * surroundings reaches its result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/cache.h"
#include "attention/spoiled.h"
#include "attention/teams.h"

static nb_attention_spec spec_of(int heads, int kv_heads, int dim)
{
    return (nb_attention_spec){.heads = heads,
                               .kv_heads = kv_heads,
                               .k_dim = dim,
                               .v_dim = dim,
                               .scale = 1.0f / sqrtf((float)dim),
                               .causal = true};
}

/* Sequences of 1 to 1500 positions, decoding and prefilling together, rows wider than they need to be. */
static void check_neighbours(void)
{
    enum { SPANS = 5, DIM = 32, HEADS = 4, ROW = HEADS * DIM, WIDE = ROW + 24 };
    static const struct {
        size_t position, queries;
    } at[SPANS] = {{0, 1}, {1499, 1}, {70, 20}, {511, 3}, {512, 1}};
    nb_attention_spec spec = spec_of(HEADS, 2, DIM);
    nb_kv_layout layout = {NB_TYPE_F16, 2, DIM, DIM};
    rng r = {11};
    cache caches[SPANS];
    nb_attention_span spans[SPANS];
    float *alone[SPANS];
    for (size_t s = 0; s < SPANS; s++) {
        size_t positions = at[s].position + at[s].queries;
        float *k = rng_normals(&r, positions * 2 * DIM), *v = rng_normals(&r, positions * 2 * DIM);
        float *q = rng_normals(&r, at[s].queries * WIDE), *out = rng_normals(&r, at[s].queries * WIDE);
        caches[s] = cache_new(&layout, k, v, positions);
        spans[s] = (nb_attention_span){caches[s].page,
                                       caches[s].pages,
                                       (int64_t)at[s].position,
                                       (int64_t)positions,
                                       at[s].queries,
                                       q,
                                       out,
                                       WIDE,
                                       WIDE,
                                       NULL};
        alone[s] = malloc(at[s].queries * WIDE * sizeof(float));
        memcpy(alone[s], out, at[s].queries * WIDE * sizeof(float));
        nb_attention_span one = spans[s];
        one.out = alone[s];
        run_spans(&spec, &layout, &one, 1, false, NULL);
        free(k);
        free(v);
    }
    for (size_t from = 0; from < SPANS; from++)
        for (size_t n = 1; from + n <= SPANS; n++)
            for (int t = 0; t < 3; t++) {
                run_spans(&spec, &layout, spans + from, n, false, teams[t]);
                for (size_t s = from; s < from + n; s++) {
                    assert_memory_equal(spans[s].out, alone[s], at[s].queries * WIDE * sizeof(float));
                    for (size_t i = 0; i < at[s].queries; i++)
                        memset(spans[s].out + i * WIDE, 0, ROW * sizeof(float));
                }
            }
    for (size_t s = 0; s < SPANS; s++) {
        cache_free(&caches[s]);
        free((void *)(uintptr_t)spans[s].q);
        free(spans[s].out);
        free(alone[s]);
    }
}

/* A single query's heads go over a page together, two queries' kv head by kv head: the same bits, in every cut. */
static void check_heads(void)
{
    enum { DIM = 32, POSITIONS = 2600, MOST_HEADS = 72 };
    static const nb_type types[] = {NB_TYPE_F32, NB_TYPE_F16, NB_TYPE_BF16, NB_TYPE_Q8_0, NB_TYPE_Q4_0};
    static const int kv_heads[] = {2, 3, 5, 8}, groups[] = {1, 2, 9};
    static const int64_t lengths[] = {60, 700, 1600, POSITIONS};
    static float two[2 * MOST_HEADS * DIM], one[MOST_HEADS * DIM];
    rng r = {17};
    for (size_t i = 0; i < 5 * 4 * 3; i++) {
        int kv = kv_heads[i / 5 % 4], heads = kv * groups[i / 20];
        size_t row = (size_t)heads * DIM;
        nb_attention_spec spec = spec_of(heads, kv, DIM);
        nb_kv_layout layout = {types[i % 5], kv, DIM, DIM};
        int64_t length = lengths[i % 4];
        spec.window = i % 3 == 2 ? 650 : 0;
        float *k = rng_normals(&r, (size_t)(length * kv * DIM)), *v = rng_normals(&r, (size_t)(length * kv * DIM));
        float *q = rng_normals(&r, 2 * row);
        cache c = cache_new(&layout, k, v, (size_t)length);
        nb_attention_span span = {c.page, c.pages, length - 2, length, 2, q, two, row, row, NULL};
        run_spans(&spec, &layout, &span, 1, false, NULL);
        for (int t = 0; t < 3; t++) {
            memset(one, 0xff, sizeof one);
            span = (nb_attention_span){c.page, c.pages, length - 1, length, 1, q + row, one, row, row, NULL};
            run_spans(&spec, &layout, &span, 1, false, teams[t]);
            assert_memory_equal(one, two + row, row * sizeof(float));
        }
        cache_free(&c);
        free(k);
        free(v);
        free(q);
    }
}

/* A window layer's ring: as many pages as the window needs, each used again by the positions past it. */
static void check_ring(void)
{
    enum { DIM = 32, WINDOW = 100, POSITIONS = 900, PAGES = 3 };
    nb_attention_spec spec = spec_of(6, 2, DIM);
    spec.window = WINDOW;
    nb_kv_layout layout = {NB_TYPE_BF16, 2, DIM, DIM};
    rng r = {5};
    float *k = rng_normals(&r, POSITIONS * 2 * DIM), *v = rng_normals(&r, POSITIONS * 2 * DIM);
    float *q = rng_normals(&r, 6 * DIM), out[6 * DIM], whole[6 * DIM];
    cache c = cache_new(&layout, k, v, POSITIONS);
    void *ring[PAGES];
    for (int p = 0; p < PAGES; p++)
        ring[p] = aligned_alloc(64, nb_kv_page_bytes(&layout));
    for (int64_t at = 0; at < POSITIONS; at++) {
        nb_kv_store(&layout, ring[at / NB_PAGE % PAGES], (int)(at % NB_PAGE), k + at * 2 * DIM, v + at * 2 * DIM, 0, 2);
        if (at % 7 != 0 && at % NB_PAGE > 1)
            continue;
        nb_attention_span span = {ring, PAGES, at, at + 1, 1, q, out, 6 * DIM, 6 * DIM, NULL};
        run_spans(&spec, &layout, &span, 1, false, teams[at % 3]);
        span.pages = c.page;
        span.page_count = c.pages;
        span.out = whole;
        run_spans(&spec, &layout, &span, 1, false, NULL);
        assert_memory_equal(out, whole, sizeof out);
    }
    for (int p = 0; p < PAGES; p++)
        free(ring[p]);
    cache_free(&c);
    free(k);
    free(v);
    free(q);
}

/* Key and value 150 are NaN: queries that see them are NaN, the others as they would be alone, in any block. */
static void check_not_numbers(void)
{
    enum { DIM = 16, POSITIONS = 300, ROW = 3 * DIM };
    nb_attention_spec spec = spec_of(3, 1, DIM);
    spec.window = 60;
    nb_kv_layout layout = {NB_TYPE_F32, 1, DIM, DIM};
    rng r = {6};
    float *k = rng_normals(&r, POSITIONS * DIM), *v = rng_normals(&r, POSITIONS * DIM);
    float *q = rng_normals(&r, POSITIONS * ROW), *clean = malloc(POSITIONS * ROW * sizeof *clean);
    cache c = cache_new(&layout, k, v, POSITIONS);
    run_steps(&spec, &c, q, 0, POSITIONS, POSITIONS, false, NULL, clean);
    cache_free(&c);
    for (int d = 0; d < DIM; d++)
        k[150 * DIM + d] = v[150 * DIM + d] = NAN;
    c = cache_new(&layout, k, v, POSITIONS);
    check_spoiled(&spec, &c, q, 150, clean);
    cache_free(&c);
    free(k);
    free(v);
    free(q);
    free(clean);
}

/* One key 1e4 above all others takes everything, exactly; no keys at all give zeros; equal keys give the mean. */
static void check_extremes(void)
{
    enum { DIM = 32, POSITIONS = 700 };
    nb_attention_spec spec = spec_of(2, 1, DIM);
    spec.causal = false;
    nb_kv_layout layout = {NB_TYPE_F32, 1, DIM, DIM};
    rng r = {8};
    float *k = calloc(POSITIONS * DIM, sizeof *k), *v = rng_normals(&r, POSITIONS * DIM), q[2 * DIM], out[2 * DIM];
    for (int d = 0; d < 2 * DIM; d++)
        q[d] = 100;
    for (int at = 0; at < POSITIONS; at += 233) {
        k[at * DIM] = 1000;
        cache c = cache_new(&layout, k, v, POSITIONS);
        run_steps(&spec, &c, q, 10, 1, 1, false, teams[at % 3], out);
        for (int d = 0; d < DIM; d++)
            assert_true(out[d] == v[at * DIM + d] && out[DIM + d] == v[at * DIM + d]);
        cache_free(&c);
        k[at * DIM] = 0;
    }
    cache c = cache_new(&layout, k, v, POSITIONS);
    run_steps(&spec, &c, q, 10, 1, 1, true, NULL, out);
    for (int d = 0; d < DIM; d++) {
        double mean = 0;
        for (int j = 0; j < POSITIONS; j++)
            mean += (double)v[j * DIM + d] / POSITIONS;
        assert_true(fabs((double)out[d] - mean) < 1e-6);
    }
    nb_attention_span empty = {c.page, c.pages, 0, 0, 1, q, out, 2 * DIM, 2 * DIM, NULL};
    for (int t = 0; t < 3; t++) {
        memset(out, 0xff, sizeof out);
        run_spans(&spec, &layout, &empty, 1, false, teams[t]);
        for (int d = 0; d < 2 * DIM; d++)
            assert_true(out[d] == 0);
    }
    cache_free(&c);
    free(k);
    free(v);
}

static void test_neighbours(void **state) { (void)state, each_level(check_neighbours); }
static void test_heads(void **state) { (void)state, each_level(check_heads); }
static void test_ring(void **state) { (void)state, each_level(check_ring); }
static void test_not_numbers(void **state) { (void)state, each_level(check_not_numbers); }
static void test_extremes(void **state) { (void)state, each_level(check_extremes); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_neighbours), cmocka_unit_test(test_heads),
                                       cmocka_unit_test(test_ring), cmocka_unit_test(test_not_numbers),
                                       cmocka_unit_test(test_extremes)};
    return cmocka_run_group_tests(tests, teams_new, teams_free);
}
