/* Batch invariance: a token's logits are bit-equal whatever the chunk, the threads, the neighbours, the layout of the
 * weights. Every weight type at every instruction-set level; and decode allocates nothing. */
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>

#include "base/cpu.h"
#include "support/allocations.h"
#include "support/logits_file.h"
#include "support/runner.h"

enum { TOKENS = 70 };

static const char *const files[] = {"types/F16",
                                    "types/BF16",
                                    "types/Q4_0",
                                    "types/Q4_1",
                                    "types/Q5_0",
                                    "types/Q5_1",
                                    "types/Q8_0",
                                    "types/Q2_K",
                                    "types/Q3_K",
                                    "types/Q4_K",
                                    "types/Q5_K",
                                    "types/Q6_K",
                                    "archs/gemma-3",
                                    "archs/llama-3.2-rope-scaled",
                                    "archs/opt-350m-post-norm",
                                    "archs/phi-2",
                                    "archs/bert"};

static void make_ids(int32_t *ids, size_t count, size_t vocabulary, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % vocabulary);
    }
}

static float *logits_of(const char *file, runner_options o, size_t chunk, size_t *vocabulary)
{
    char path[512];
    runner r;
    int32_t ids[TOKENS];
    snprintf(path, sizeof path, "%s/%s.gguf", NB_TEST_DATA, file);
    runner_open(&r, path, o);
    *vocabulary = r.width;
    if (!r.model->h.causal)
        chunk = TOKENS;
    make_ids(ids, TOKENS, r.model->h.vocab, 5);
    float *logits = calloc(TOKENS * *vocabulary, sizeof *logits);
    assert_non_null(logits);
    runner_logits(&r, ids, TOKENS, chunk, logits);
    runner_close(&r);
    return logits;
}

static void expect_equal(const char *file, const char *what, const float *want, runner_options o, size_t chunk)
{
    size_t vocabulary;
    float *got = logits_of(file, o, chunk, &vocabulary);
    if (memcmp(got, want, TOKENS * vocabulary * sizeof *got) != 0)
        fail_msg("%s, level %s: logits differ for %s", file, nb_cpu_level_name(nb_cpu_current()), what);
    free(got);
}

static void check_file(const char *file)
{
    size_t vocabulary;
    runner_options base = {.repack = true, .threads = 1, .kv = NB_TYPE_F16}, two = base, unpacked = base;
    two.threads = 2;
    unpacked.repack = false;
    float *want = logits_of(file, base, 512, &vocabulary);
    for (size_t i = 0; i < TOKENS * vocabulary; i++)
        assert_true(isfinite(want[i]));
    expect_equal(file, "one token at a time", want, base, 1);
    expect_equal(file, "chunks of 7", want, base, 7);
    expect_equal(file, "chunks of 32 on two threads", want, two, 32);
    expect_equal(file, "chunks of 64", want, base, 64);
    expect_equal(file, "one token at a time on two threads", want, two, 1);
    expect_equal(file, "weights in the file's layout", want, unpacked, 9);
    free(want);
}

static void test_invariance(void **state)
{
    (void)state;
    /* sanitizers look at each kind of code once: every fourth file at every level, the kernels' own tests see the rest */
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (size_t i = 0; i < sizeof files / sizeof *files; i += NB_TEST_SLOW ? 4 : 1)
            check_file(files[i]);
    }
}

/* the fast mode stays near --exact for every weight type */
static void test_close_to_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t vocabulary;
        float *exact = logits_of(files[i], (runner_options){.exact = true, .threads = 2, .kv = NB_TYPE_F32}, 512,
                                 &vocabulary);
        float *fast = logits_of(files[i], (runner_options){.repack = true, .threads = 2, .kv = NB_TYPE_F16}, 512,
                                &vocabulary);
        double nmse = nb_nmse(fast, exact, TOKENS * vocabulary);
        printf("%-28s fast against exact: NMSE %.2e\n", files[i], nmse);
        assert_true(nmse < 1e-2);
        free(exact);
        free(fast);
    }
}

/* two sequences in one step, with pages of their own, against each alone */
static void test_neighbours(void **state)
{
    (void)state;
    enum { N = 9 };
    const char *path = NB_TEST_DATA "/types/Q4_K.gguf";
    int32_t ids[2 * N];
    runner r, alone;
    runner_open(&r, path, (runner_options){.repack = true, .threads = 2, .kv = NB_TYPE_Q8_0});
    runner_open(&alone, path, (runner_options){.repack = true, .threads = 1, .kv = NB_TYPE_Q8_0});
    size_t vocabulary = r.model->h.vocab;
    make_ids(ids, 2 * N, vocabulary, 11);
    float *want = calloc(2 * N * vocabulary, sizeof *want);
    assert_non_null(want);
    runner_logits(&alone, ids, N, N, want);
    runner_logits(&alone, ids + N, N, N, want + N * vocabulary);
    uint32_t other[8] = {7, 6, 5, 4, 3, 2, 1, 0};
    nb_span spans[2] = {runner_span(&r, 0, N, 0), runner_span(&r, N, N, 0)};
    spans[0].pages[0] = spans[0].pages[1] = other; /* page 7 and page 3: not shared */
    nb_batch batch = {.tokens = ids,
                      .n_tokens = 2 * N,
                      .spans = spans,
                      .n_spans = 2,
                      .outputs = runner_outputs(),
                      .n_outputs = 2 * N};
    runner_step(&r, &batch);
    for (size_t i = 0; i < 2 * N; i++)
        assert_memory_equal(nb_backend_cpu.logits(r.context, i), want + i * vocabulary, vocabulary * sizeof *want);
    free(want);
    runner_close(&alone);
    runner_close(&r);
}

/* ---- allocation ---- */

#ifndef NB_SANITIZED
static void test_decode_allocates_nothing(void **state)
{
    (void)state;
    int32_t ids[TOKENS];
    runner r;
    runner_open(&r, NB_TEST_DATA "/types/Q4_K.gguf", (runner_options){.repack = true, .threads = 2, .kv = NB_TYPE_F16});
    make_ids(ids, TOKENS, r.model->h.vocab, 3);
    float *logits = malloc(TOKENS * r.model->h.vocab * sizeof *logits);
    assert_non_null(logits);
    assert_true(nb_allocations.count > 0); /* the counter counts */
    long before = nb_allocations.count;
    runner_logits(&r, ids, TOKENS, 1, logits);
    runner_logits(&r, ids, TOKENS, 64, logits);
    assert_int_equal(nb_allocations.count, before);
    free(logits);
    runner_close(&r);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_to_exact), cmocka_unit_test(test_neighbours),
#ifndef NB_SANITIZED
        cmocka_unit_test(test_decode_allocates_nothing),
#endif
        cmocka_unit_test(test_invariance), /* last: it changes the level */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
