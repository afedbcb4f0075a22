/* LoRA adapters while a model runs, against transformers with peft in float32: PEFT directories and the GGUF files that
 * llama.cpp's converter makes of them, on GGUF files and on directories, one and two at once; what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "convert/merge.h"
#include "convert/open.h"
#include "convert/quantize.h"
#include "engine/engine.h"
#include "hf/export.h"
#include "support/allocations.h"
#include "support/folder.h"
#include "support/logits_file.h"

#define LORA NB_TEST_DATA "/lora/"

/* All of them are in tests/data/archs and tests/data/hf. gguf: adapter a is there as a GGUF file, too. */
static const struct base {
    const char *name;
    bool gguf;
} bases[] = {
    {"llama-3.2-rope-scaled", false}, /* permuted rows; patterns of ranks and alphas; a torch file */
    {"llama-mqa-wide-head", true},    /* one kv head; rank-stabilized; an adapter of the head */
    {"gemma-3", true},
    {"qwen2", true},               /* biases; the head is tied to the embedding and has an adapter */
    {"pythia", false},             /* queries, keys and values head by head */
    {"falcon-40b", false},         /* group by group */
    {"phi-3-sliding", true},       /* fused, gate and up too */
    {"gpt2", false},               /* Conv1D */
    {"phi-2-grouped", false},      /* three matrices in the directory, one in the file */
    {"granite-moe-shared", false}, /* gate and up in one in the directory, two in the file */
};
enum { BASES = sizeof bases / sizeof *bases };

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static const char *spell(char path[512], const char *folder, const char *name, const char *end)
{
    snprintf(path, 512, "%s%s%s", folder, name, end);
    return path;
}

typedef struct run {
    const char *path;
    const nb_model_adapter *adapters;
    size_t adapter_count, batch;
    bool fast;
    int threads;
    nb_load_params *load;
} run;

/* logits of all tokens [tokens][vocabulary] */
static float *logits_of(const run *r, const nb_logits_file *f)
{
    size_t tokens = (size_t)f->tokens, row = (size_t)f->vocabulary;
    float *out = malloc(tokens * row * sizeof *out);
    nb_model *m;
    nb_session *s;
    nb_model_params p = nb_model_defaults();
    nb_session_params sp = {.context = tokens, .batch = tokens, .outputs = tokens, .kv_type = "f32"};
    assert_non_null(out);
    p.exact = !r->fast;
    p.threads = r->threads ? r->threads : 2;
    p.adapters = r->adapters;
    p.adapter_count = r->adapter_count;
    p.load = r->load;
    must(nb_model_open(r->path, &p, &m, &err));
    assert_int_equal(nb_model_vocabulary(m), row);
    must(nb_session_open(m, &sp, &s, &err));
    for (size_t at = 0, n; at < tokens; at += n) {
        n = nb_min_size(r->batch ? r->batch : tokens, tokens - at);
        must(nb_session_eval(s, f->ids + at, n, NB_LOGITS_ALL, &err));
        for (size_t t = 0; t < n; t++)
            memcpy(out + (at + t) * row, nb_session_row(s, t), row * sizeof *out);
    }
    nb_session_close(s);
    nb_model_close(m);
    return out;
}

static double worst_nmse(const run *r, const nb_logits_file *f)
{
    float *have = logits_of(r, f);
    size_t row = (size_t)f->vocabulary;
    double worst = 0;
    for (int32_t t = 0; t < f->tokens; t++) {
        double e = nb_nmse(have + (size_t)t * row, nb_logits_at(f, 0, t), row);
        worst = e > worst || isnan(e) ? e : worst;
    }
    free(have);
    return worst;
}

static void check(const char *what, const run *r, const nb_logits_file *f)
{
    double e = worst_nmse(r, f);
    printf("%-60s %-12s NMSE %.2e\n", r->path + strlen(NB_TEST_DATA), what, e);
    if (!(e <= 1e-10))
        fail_msg("%s with %s: NMSE %g", r->path, what, e);
}

static void check_base(const struct base *b, const char *path)
{
    char one[512], two[512], file[512], logits[512];
    nb_logits_file f, both;
    assert_true(nb_logits_read(spell(logits, LORA, b->name, "-a.logits.bin"), &f));
    assert_true(nb_logits_read(spell(logits, LORA, b->name, "-ab.logits.bin"), &both));
    nb_model_adapter a[] = {{spell(one, LORA, b->name, "-a"), 1}}, g[] = {{spell(file, LORA, b->name, "-a.gguf"), 1}};
    nb_model_adapter ab[] = {{one, 0.75f}, {spell(two, LORA, b->name, "-b"), -1.5f}};
    check("peft", &(run){.path = path, .adapters = a, .adapter_count = 1}, &f);
    check("peft, chunks", &(run){.path = path, .adapters = a, .adapter_count = 1, .batch = 3, .threads = 1}, &f);
    check("peft, two", &(run){.path = path, .adapters = ab, .adapter_count = 2}, &both);
    if (b->gguf) {
        check("gguf", &(run){.path = path, .adapters = g, .adapter_count = 1}, &f);
        ab[0].path = file;
        check("gguf, peft", &(run){.path = path, .adapters = ab, .adapter_count = 2}, &both);
    }
    nb_logits_free(&f);
    nb_logits_free(&both);
}

static void test_logits(void **state)
{
    char path[512];
    (void)state;
    for (size_t i = 0; i < BASES; i++) {
        check_base(&bases[i], spell(path, NB_TEST_DATA "/archs/", bases[i].name, ".gguf"));
        check_base(&bases[i], spell(path, NB_TEST_DATA "/hf/", bases[i].name, ""));
    }
}

/* ---- merged ---- */

/* base and adapters as a file of that type; "COPY": every matrix keeps its own */
static void merge(const char *base, const nb_model_adapter *adapters, size_t count, const char *type, const char *file)
{
    nb_source *s;
    nb_quantize_params p = nb_quantize_defaults();
    nb_quantize_result result;
    p.mix = nb_mix_by_name(nb_str_of(type));
    p.threads = 2;
    must(nb_source_open(base, &s, &err));
    must(nb_source_merge(s, adapters, count, strcmp(type, "COPY") == 0, &s, &err));
    must(nb_quantize(s, file, &p, NULL, NULL, &result, &err));
    nb_source_free(s);
}

/* a merged file's matrices have the types of the base's; a tied head with an adapter is there by itself */
static void check_types(const char *base, const char *file)
{
    nb_gguf *a, *b;
    must(nb_gguf_open_model(base, 2, &a, &err));
    must(nb_gguf_open(file, &b, &err));
    size_t n = nb_gguf_tensor_count(a);
    bool untied = !nb_gguf_find_tensor(a, NB_STR("output.weight")) && nb_gguf_find_tensor(b, NB_STR("output.weight"));
    assert_int_equal(nb_gguf_tensor_count(b), n + untied);
    for (size_t i = 0; i < n; i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(a, i), *u = nb_gguf_find_tensor(b, t->name);
        assert_non_null(u);
        assert_ptr_equal(t->type, u->type);
    }
    nb_gguf_close(a);
    nb_gguf_close(b);
}

/* into a directory of float32 */
static void check_merged_directory(const char *path, const nb_model_adapter ab[2], const nb_logits_file *f)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    char dir[512], file[600];
    nb_source *s;
    nb_hf_export_params p = {.type = nb_type_get(NB_TYPE_F32)};
    snprintf(dir, sizeof dir, "%s", nb_folder_path("directory"));
    must(nb_source_open(path, &s, &err));
    must(nb_source_merge(s, ab, 2, false, &s, &err));
    must(nb_hf_export(s, dir, &p, NULL, NULL, NULL, &err));
    nb_source_free(s);
    double e = worst_nmse(&(run){.path = dir}, f);
    printf("%-60s %-12s NMSE %.2e\n", path + strlen(NB_TEST_DATA), "a directory", e);
    assert_true(e <= 1e-10);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(file, sizeof file, "%s/%s", dir, files[i]);
        unlink(file);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void check_merged(const struct base *b, const char *path)
{
    char one[512], two[512], logits[512], file[512];
    nb_logits_file f;
    nb_model_adapter ab[] = {{spell(one, LORA, b->name, "-a"), 0.75f}, {spell(two, LORA, b->name, "-b"), -1.5f}};
    snprintf(file, sizeof file, "%s", nb_folder_path("merged.gguf"));
    assert_true(nb_logits_read(spell(logits, LORA, b->name, "-ab.logits.bin"), &f));
    merge(path, ab, 2, "F32", file);
    double e = worst_nmse(&(run){.path = file}, &f);
    printf("%-60s %-12s NMSE %.2e\n", path + strlen(NB_TEST_DATA), "merged", e);
    assert_true(e <= 1e-10);
    assert_int_equal(unlink(file), 0);
    check_merged_directory(path, ab, &f);
    merge(path, ab, 2, "COPY", file);
    check_types(path, file);
    e = worst_nmse(&(run){.path = file}, &f);
    printf("%-60s %-12s NMSE %.2e\n", path + strlen(NB_TEST_DATA), "own types", e);
    assert_true(e < 1e-2); /* BF16: 8 bits */
    assert_int_equal(unlink(file), 0);
    nb_logits_free(&f);
}

static void test_merged(void **state)
{
    char path[512];
    (void)state;
    for (size_t i = 0; i < BASES; i++) {
        check_merged(&bases[i], spell(path, NB_TEST_DATA "/archs/", bases[i].name, ".gguf"));
        check_merged(&bases[i], spell(path, NB_TEST_DATA "/hf/", bases[i].name, ""));
    }
}

/* into a quantized file, and into a file that is quantized already */
static void test_merged_types(void **state)
{
    char path[512], file[512], again[512], adapter[512], logits[512];
    nb_logits_file f;
    (void)state;
    nb_model_adapter a = {spell(adapter, LORA, "qwen2", "-a"), 1}, none = {adapter, 0};
    snprintf(file, sizeof file, "%s", nb_folder_path("merged.gguf"));
    snprintf(again, sizeof again, "%s", nb_folder_path("again.gguf"));
    assert_true(nb_logits_read(spell(logits, LORA, "qwen2", "-a.logits.bin"), &f));
    merge(spell(path, NB_TEST_DATA "/hf/", "qwen2", ""), &a, 1, "Q8_0", file);
    assert_true(worst_nmse(&(run){.path = file}, &f) < 1e-2);
    assert_int_equal(unlink(file), 0);
    merge(path, &none, 1, "Q8_0", file);
    assert_true(worst_nmse(&(run){.path = file}, &f) > 0.1); /* nothing was added */
    merge(file, &a, 1, "COPY", again);
    check_types(file, again);
    double e = worst_nmse(&(run){.path = again}, &f);
    printf("%-60s %-12s NMSE %.2e\n", "twice through Q8_0", "merged", e);
    assert_true(e < 5e-2);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(unlink(again), 0);
    nb_logits_free(&f);
}

static void assert_same(float *a, float *b, const nb_logits_file *f)
{
    assert_memory_equal(a, b, (size_t)f->tokens * (size_t)f->vocabulary * sizeof *a);
    free(a);
    free(b);
}

/* scale 0 is no adapter at all; how tokens are cut and threads counted changes nothing either */
static void test_bits(void **state)
{
    char path[512], adapter[512], logits[512];
    nb_logits_file f;
    nb_load_params nf4 = nb_load_defaults(NB_LOAD_NF4);
    (void)state;
    nb_model_adapter off = {spell(adapter, LORA, "llama-3.2-rope-scaled", "-a"), 0}, on = {adapter, 1};
    assert_true(nb_logits_read(spell(logits, LORA, "llama-3.2-rope-scaled", "-a.logits.bin"), &f));
    run plain = {.path = spell(path, NB_TEST_DATA "/hf/", "llama-3.2-rope-scaled", "")};
    for (int fast = 0; fast < 2; fast++)
        for (int load = 0; load < 2; load++) {
            run r = plain;
            r.fast = fast;
            r.load = load ? &nf4 : NULL;
            float *alone = logits_of(&r, &f);
            r.adapters = &off;
            r.adapter_count = 1;
            assert_same(alone, logits_of(&r, &f), &f);
            r.adapters = &on;
            r.threads = 3;
            float *whole = logits_of(&r, &f);
            for (r.batch = 1; r.batch < 12; r.batch += 5) {
                r.threads = 1 + (int)r.batch % 2;
                float *copy = malloc((size_t)f.tokens * (size_t)f.vocabulary * sizeof *copy);
                assert_non_null(copy);
                memcpy(copy, whole, (size_t)f.tokens * (size_t)f.vocabulary * sizeof *copy);
                assert_same(copy, logits_of(&r, &f), &f);
            }
            free(whole);
        }
    nb_logits_free(&f);
}

/* fast mode differs from the reference with an adapter about as much as without */
static void test_fast(void **state)
{
    char path[512], adapter[512], logits[512];
    nb_logits_file f;
    (void)state;
    for (size_t i = 0; i < BASES; i++) {
        assert_true(nb_logits_read(spell(logits, LORA, bases[i].name, "-a.logits.bin"), &f));
        nb_model_adapter a = {spell(adapter, LORA, bases[i].name, bases[i].gguf ? "-a.gguf" : "-a"), 1};
        run r = {.path = spell(path, NB_TEST_DATA "/archs/", bases[i].name, ".gguf"),
                 .adapters = &a,
                 .adapter_count = 1,
                 .fast = true};
        double e = worst_nmse(&r, &f);
        printf("%-60s %-12s NMSE %.2e\n", bases[i].name, "fast", e);
        assert_true(e < 1e-3);
        nb_logits_free(&f);
    }
}

/* what the plan says is what is taken, adapters included, and a step takes nothing */
static void test_memory(void **state)
{
    char path[512], adapter[512];
    nb_model *with, *without;
    nb_memory m = {0}, n = {0};
    nb_context_params c;
    nb_session_params sp = {.context = 64, .batch = 32};
    (void)state;
    nb_model_params p = nb_model_defaults();
    nb_model_adapter a = {spell(adapter, LORA, "qwen2", "-a.gguf"), 1};
    p.exact = true; /* nothing is copied */
    p.threads = 2;
    must(nb_model_look(spell(path, NB_TEST_DATA "/archs/", "qwen2", ".gguf"), &p, &without, &err));
    p.adapters = &a;
    p.adapter_count = 1;
    must(nb_model_look(path, &p, &with, &err));
    must(nb_session_plan(with, &sp, &c, &err));
    must(nb_session_memory(with, &c, &m, &err));
    must(nb_session_memory(without, &c, &n, &err));
    /* rank 3; q 64 and k, v 32 rows, o 64, over 64 columns; float32; 3 layers */
    assert_int_equal(m.weights_mapped - n.weights_mapped, 3 * (4 * 3 * 64 + 3 * (64 + 32 + 32 + 64)) * 4);
    assert_true(m.buffers > n.buffers);
    nb_model_close(with);
    nb_model_close(without);
    nb_session *s;
    int32_t ids[] = {5, 6, 7, 8};
    must(nb_model_open(path, &p, &with, &err));
    must(nb_session_open(with, &sp, &s, &err));
    must(nb_session_eval(s, ids, 4, NB_LOGITS_LAST, &err));
    nb_allocations.count = 0;
    must(nb_session_eval(s, ids, 4, NB_LOGITS_LAST, &err));
    must(nb_session_eval(s, ids, 1, NB_LOGITS_LAST, &err));
    assert_int_equal(nb_allocations.count, 0);
    nb_session_close(s);
    nb_model_close(with);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test_setup_teardown(test_merged, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_merged_types, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_fast),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
