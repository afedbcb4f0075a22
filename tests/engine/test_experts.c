/* Mixtures of experts: what a token reads, what a neighbour changes (nothing), what quantizing costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/cpu.h"
#include "base/file.h"
#include "convert/quantize.h"
#include "support/allocations.h"
#include "support/folder.h"
#include "support/logits_file.h"
#include "support/runner.h"

enum { TOKENS = 70, FEW = 3, MOST_WEIGHTS = 64, MOST_EXPERTS = 16 };

static const char *const models[] = {"mixtral", "mixtral-five", "qwen2-moe", "qwen2-moe-steps", "qwen3-moe-five",
                                     "gpt-oss"};
enum { MODELS = sizeof models / sizeof *models };

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/archs/%s.gguf", NB_TEST_DATA, name);
    return path;
}

static void make_ids(int32_t *ids, size_t count, size_t vocabulary, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % vocabulary);
    }
}

/* logits of `count` tokens; the caller frees them */
static float *logits_of(runner *r, size_t count, size_t chunk)
{
    int32_t ids[TOKENS];
    float *logits = calloc(count * r->width, sizeof *logits);
    assert_non_null(logits);
    make_ids(ids, count, r->model->h.vocab, 5);
    runner_logits(r, ids, count, chunk, logits);
    return logits;
}

/* ---- only what is chosen is read ---- */

typedef struct seen { /* rows that each expert's matrix met */
    size_t rows[MOST_WEIGHTS][MOST_EXPERTS];
} seen;

static void look(void *user, int weight, size_t matrix, const float *x, size_t stride, size_t rows, size_t first,
                 size_t columns)
{
    seen *s = user;
    (void)x, (void)stride, (void)columns;
    if (first == 0 && weight < MOST_WEIGHTS && matrix < MOST_EXPERTS)
        s->rows[weight][matrix] += rows;
}

static bool is_stack(nb_role role)
{
    return role == NB_FFN_GATE_EXPERTS || role == NB_FFN_UP_EXPERTS || role == NB_FFN_DOWN_EXPERTS;
}

/* which experts FEW tokens are for; each token has its number of them in every layer that has a router */
static void find_chosen(const char *name, seen *s)
{
    runner r;
    runner_open(&r, path_of(name), (runner_options){.exact = true, .threads = 2, .kv = NB_TYPE_F32});
    *s = (seen){0};
    nb_backend_cpu.tap(r.context, look, s);
    free(logits_of(&r, FEW, FEW));
    for (size_t w = 0; w < r.model->weight_count; w++) {
        size_t all = 0;
        for (size_t e = 0; e < MOST_EXPERTS; e++)
            all += s->rows[w][e];
        if (is_stack(r.model->weights[w].role))
            assert_int_equal(all, FEW * r.model->h.experts_used);
    }
    runner_close(&r);
}

/* a copy whose experts that were (or were not) chosen hold nothing but not-a-number; says how many those are */
static size_t write_spoilt(const char *name, const seen *s, bool chosen, const char *out)
{
    nb_buf file = {0};
    nb_gguf *g;
    nb_model_def *m;
    size_t spoilt = 0;
    must(nb_file_read(path_of(name), 1 << 24, &file, &err));
    must(nb_gguf_open(path_of(name), &g, &err));
    must(nb_model_def_new(g, &m, &err));
    assert_true(m->weight_count <= MOST_WEIGHTS && m->h.experts <= MOST_EXPERTS);
    for (size_t w = 0; w < m->weight_count; w++) {
        const nb_gguf_tensor *t = m->weights[w].tensor;
        for (size_t e = 0; is_stack(m->weights[w].role) && e < (size_t)m->h.experts; e++)
            if ((s->rows[w][e] > 0) == chosen) {
                size_t bytes = t->bytes / (size_t)m->h.experts;
                memset((char *)file.data + t->offset + e * bytes, 0xff, bytes); /* no number in any float type */
                spoilt++;
            }
    }
    nb_model_def_free(m);
    nb_gguf_close(g);
    FILE *f = fopen(out, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
    assert_int_equal(fclose(f), 0);
    nb_buf_free(&file);
    return spoilt;
}

static void expect_same(const char *name, const char *spoilt, runner_options o, size_t chunk, bool same)
{
    runner r;
    runner_open(&r, path_of(name), o);
    float *want = logits_of(&r, FEW, chunk);
    size_t bytes = FEW * r.width * sizeof *want;
    runner_close(&r);
    runner_open(&r, spoilt, o);
    float *got = logits_of(&r, FEW, chunk);
    runner_close(&r);
    if ((memcmp(want, got, bytes) == 0) != same)
        fail_msg("%s, chunks of %zu: experts that were %schosen %s the logits", name, chunk, same ? "not " : "",
                 same ? "change" : "do not change");
    free(want);
    free(got);
}

static void test_only_chosen_are_read(void **state)
{
    (void)state;
    char spoilt[400];
    snprintf(spoilt, sizeof spoilt, "%s", nb_folder_path("spoilt.gguf"));
    runner_options exact = {.exact = true, .threads = 2, .kv = NB_TYPE_F32};
    runner_options fast = {.repack = true, .threads = 2, .kv = NB_TYPE_F16}, mapped = fast;
    mapped.repack = false;
    for (int i = 0; i < MODELS; i++) {
        seen s;
        find_chosen(models[i], &s);
        if (strcmp(models[i], "mixtral") == 0) /* 8 experts, at most 6 of them chosen by 3 tokens */
            assert_true(write_spoilt(models[i], &s, false, spoilt) >= 2 * 3 * 2);
        write_spoilt(models[i], &s, false, spoilt);
        for (size_t chunk = 1; chunk <= FEW; chunk++) {
            expect_same(models[i], spoilt, exact, chunk, true);
            expect_same(models[i], spoilt, fast, chunk, true);
            expect_same(models[i], spoilt, mapped, chunk, true);
        }
        write_spoilt(models[i], &s, true, spoilt);
        expect_same(models[i], spoilt, fast, FEW, false);
    }
    unlink(spoilt);
}

/* ---- quantized ---- */

/* type NULL: as the file is */
static void open_as(runner *r, const char *name, const char *type, runner_options o)
{
    if (!type) {
        runner_open(r, path_of(name), o);
        return;
    }
    nb_source *s;
    nb_gguf *g;
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(nb_str_of(type));
    p.pure = strcmp(type, "MXFP4_MOE") != 0;
    p.threads = 1;
    assert_non_null(p.mix);
    must(nb_source_open_gguf(path_of(name), &s, &err));
    must(nb_quantize_to_memory(s, &p, &g, &err));
    runner_open_gguf(r, g, o);
}

static double divergence(const float *p, const float *q, size_t n) /* of softmax(q) from softmax(p) */
{
    double sp = 0, sq = 0, kl = 0;
    for (size_t i = 0; i < n; i++)
        sp += exp((double)p[i]), sq += exp((double)q[i]);
    for (size_t i = 0; i < n; i++)
        kl += exp((double)p[i]) / sp * ((double)p[i] - log(sp) - (double)q[i] + log(sq));
    return kl;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static const struct {
    const char *model, *type;
} quantized[] = {{"mixtral", "Q8_0"},
                 {"mixtral", "Q4_0"},
                 {"gpt-oss-mxfp4", NULL},
                 {"mixtral", "Q5_1"},
                 {"mixtral", "MXFP4_MOE"},
                 {"gpt-oss", "MXFP4_MOE"}};
enum { QUANTIZED = sizeof quantized / sizeof *quantized };

/* The fast mode rounds activations: with 32 columns of random weights a few tokens then have another expert. */
static void test_quantized(void **state)
{
    (void)state;
    for (int i = 0; i < QUANTIZED; i++) {
        const char *model = quantized[i].model, *type = quantized[i].type;
        runner exact, fast;
        double kl[TOKENS], mean = 0;
        open_as(&exact, model, type, (runner_options){.exact = true, .threads = 2, .kv = NB_TYPE_F32});
        open_as(&fast, model, type, (runner_options){.repack = true, .threads = 2, .kv = NB_TYPE_F16});
        float *a = logits_of(&exact, TOKENS, TOKENS), *b = logits_of(&fast, TOKENS, TOKENS);
        for (size_t t = 0; t < TOKENS; t++)
            mean += (kl[t] = divergence(a + t * exact.width, b + t * fast.width, exact.width)) / TOKENS;
        qsort(kl, TOKENS, sizeof *kl, by_value);
        printf("%-13s as %-9s fast from exact: KL %.1e, of half the tokens up to %.1e\n", model, type ? type : "it is",
               mean, kl[TOKENS / 2]);
        assert_true(mean < 0.1 && kl[TOKENS / 2] < 5e-3);
        free(a);
        free(b);
        runner_close(&exact);
        runner_close(&fast);
    }
}

static void expect_equal(const char *model, const char *type, const float *want, runner_options o, size_t chunk)
{
    runner r;
    open_as(&r, model, type, o);
    float *got = logits_of(&r, TOKENS, chunk);
    if (memcmp(got, want, TOKENS * r.width * sizeof *got) != 0)
        fail_msg("%s, level %s, chunks of %zu: logits differ", model, nb_cpu_level_name(nb_cpu_current()), chunk);
    free(got);
    runner_close(&r);
}

/* Tokens are grouped by expert, and each group is another part of the step: whoever shares it, a token's logits are the same. */
static void test_invariance(void **state)
{
    (void)state;
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (int i = 0; i < (level == (int)nb_cpu_best() ? QUANTIZED : 3); i++) {
            const char *model = quantized[i].model, *type = quantized[i].type;
            runner r;
            runner_options one = {.repack = true, .threads = 1, .kv = NB_TYPE_F16}, two = one, file = one;
            two.threads = 2;
            file.repack = false;
            open_as(&r, model, type, one);
            float *want = logits_of(&r, TOKENS, TOKENS);
            runner_close(&r);
            expect_equal(model, type, want, i % 2 ? one : two, 1);
            expect_equal(model, type, want, two, 7);
            expect_equal(model, type, want, two, 33);
            expect_equal(model, type, want, file, 9);
            free(want);
        }
    }
    nb_cpu_set_level(nb_cpu_best());
}

#ifndef NB_SANITIZED
static void test_step_allocates_nothing(void **state)
{
    (void)state;
    runner r;
    int32_t ids[TOKENS];
    runner_open(&r, path_of("qwen2-moe"), (runner_options){.repack = true, .threads = 2, .kv = NB_TYPE_F16});
    float *logits = calloc(TOKENS * r.width, sizeof *logits);
    make_ids(ids, TOKENS, r.model->h.vocab, 9);
    long before = nb_allocations.count;
    runner_logits(&r, ids, TOKENS, 1, logits);
    runner_logits(&r, ids, TOKENS, TOKENS, logits);
    assert_int_equal(nb_allocations.count, before);
    free(logits);
    runner_close(&r);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_chosen_are_read, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_quantized),
#ifndef NB_SANITIZED
        cmocka_unit_test(test_step_allocates_nothing),
#endif
        cmocka_unit_test(test_invariance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
