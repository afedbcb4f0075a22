/* Directories of Hugging Face, run as they are and as the files made of them: tensors against files that an independent writer
 * made of the same checkpoints, logits against transformers, ids against tokenizers. */
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

#include "convert/open.h"
#include "convert/quantize.h"
#include "engine/engine.h"
#include "engine/vocab.h"
#include "hf/hf_arch.h"
#include "hf/hf_json.h"
#include "support/archs.h"
#include "support/folder.h"
#include "support/logits_file.h"
#include "support/runner.h"

#define HF NB_TEST_DATA "/hf/"

/* Rows of archs.def whose directories are not there yet: none. */
static const char *const without[] = {NULL};

static nb_archs_list models;

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static const char *path_of(const char *folder, const char *name, const char *end)
{
    static char path[512];
    snprintf(path, sizeof path, "%s%s%s", folder, name, end);
    return path;
}

static bool excused(const char *class)
{
    size_t i = 0;
    while (without[i] && strcmp(without[i], class) != 0)
        i++;
    return without[i] != NULL;
}

/* a row of archs.def has a directory among them */
static void test_rows(void **state)
{
    (void)state;
    bool seen[256] = {false};
    for (size_t i = 0; i < models.count; i++) {
        nb_tree config;
        must(nb_tree_open_any(path_of(HF, models.names[i], ""), "config.json", 1 << 20, false, &config, &err));
        const nb_node *classes = nb_node_get(config.root, "architectures");
        assert_non_null(classes);
        for (size_t a = 0; nb_hf_arch_at(a); a++)
            seen[a] |= nb_hf_arch_of_class(classes->list.first->str) == nb_hf_arch_at(a);
        nb_tree_free(&config);
    }
    for (size_t a = 0; nb_hf_arch_at(a); a++)
        if (seen[a] == excused(nb_hf_arch_at(a)->classes[0]))
            fail_msg("%s: %s", nb_hf_arch_at(a)->classes[0],
                     seen[a] ? "has a directory: take it off the list" : "no directory of tests/data/hf with logits");
}

/* ---- tensors ---- */

static float *values_of(const nb_type_info *type, const void *data, uint64_t count)
{
    float *y = malloc(count * sizeof *y);
    assert_non_null(y);
    type->dequantize(data, y, count);
    return y;
}

static void compare_tensor(const char *name, const nb_gguf_tensor *want, const nb_gguf_tensor *have)
{
    uint64_t count = want->dims[0] * want->dims[1] * want->dims[2] * want->dims[3];
    if (!have)
        fail_msg("%s: %.*s is missing", name, NB_STR_ARG(want->name));
    for (int d = 0; d < 4; d++)
        assert_int_equal(have->dims[d], want->dims[d]);
    float *a = values_of(want->type, want->data, count), *b = values_of(have->type, have->data, count);
    for (uint64_t i = 0; i < count; i++)
        if (!(a[i] == b[i])) /* MXFP4 has two zeros, its blocks in GGUF one */
            fail_msg("%s: %.*s: value %llu is %.9g, not %.9g", name, NB_STR_ARG(want->name), (unsigned long long)i,
                     (double)b[i], (double)a[i]);
    free(a);
    free(b);
}

/* the other writer may have the three in one */
static void compare_fused(const nb_gguf *have, const nb_gguf_tensor *want, char name[64])
{
    char *hole = strstr(name, "_qkv");
    int matrix = want->n_dims - 1;
    uint64_t offset = 0;
    for (const char *part = "qkv"; *part; part++) {
        char own[64];
        snprintf(own, sizeof own, "%.*s_%c%s", (int)(hole - name), name, *part, hole + 4);
        const nb_gguf_tensor *t = nb_gguf_find_tensor(have, nb_str_of(own));
        assert_non_null(t);
        nb_gguf_tensor piece = *want;
        size_t row = want->bytes / (size_t)want->dims[matrix];
        piece.dims[matrix] = t->dims[matrix];
        piece.data = (const char *)want->data + offset * row;
        compare_tensor(own, &piece, t);
        offset += t->dims[matrix];
    }
    assert_int_equal(offset, want->dims[matrix]);
}

static void check_tensors(const char *name)
{
    nb_gguf *want, *have;
    size_t fused_ones = 0;
    must(nb_gguf_open(path_of(NB_TEST_DATA "/archs/", name, ".gguf"), &want, &err));
    must(nb_gguf_open_model(path_of(HF, name, ""), 2, &have, &err));
    for (size_t t = 0; t < nb_gguf_tensor_count(want); t++) {
        const nb_gguf_tensor *tensor = nb_gguf_tensor_at(want, t);
        char fused[64];
        snprintf(fused, sizeof fused, "%.*s", NB_STR_ARG(tensor->name));
        if (strstr(fused, "attn_qkv") && !nb_gguf_find_tensor(have, tensor->name)) {
            compare_fused(have, tensor, fused);
            fused_ones++;
        } else {
            compare_tensor(name, tensor, nb_gguf_find_tensor(have, tensor->name));
        }
    }
    assert_int_equal(nb_gguf_tensor_count(have), nb_gguf_tensor_count(want) + 2 * fused_ones);
    nb_gguf_close(want);
    nb_gguf_close(have);
}

static void test_tensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < models.count; i++)
        check_tensors(models.names[i]);
}

/* ---- logits ---- */

static double worse(double a, double b) { return b > a || isnan(b) ? b : a; }

/* what writes, through the public API */
static double session_nmse(nb_model *m, const nb_logits_file *f)
{
    size_t tokens = (size_t)f->tokens, row = (size_t)f->vocabulary;
    nb_session_params sp = {.context = tokens, .batch = tokens, .outputs = tokens, .kv_type = "f32"};
    double worst = 0;
    for (int32_t q = 0; q < f->sequences; q++) {
        nb_session *s;
        must(nb_session_open(m, &sp, &s, &err));
        must(nb_session_eval(s, nb_logits_ids(f, q), tokens, NB_LOGITS_ALL, &err));
        for (size_t t = 0; t < tokens; t++)
            worst = worse(worst, nb_nmse(nb_session_row(s, t), nb_logits_at(f, q, (int32_t)t), row));
        nb_session_close(s);
    }
    return worst;
}

/* what every token sees whole has no logits: hidden states of a text, by the backend */
static double hidden_nmse(const char *path, const nb_logits_file *f)
{
    size_t tokens = (size_t)f->tokens, row = (size_t)f->vocabulary;
    float *have = calloc(tokens * row, sizeof *have);
    nb_gguf *g;
    runner r;
    double worst = 0;
    assert_non_null(have);
    must(nb_gguf_open_model(path, 2, &g, &err));
    runner_open_gguf(&r, g, (runner_options){.exact = true, .threads = 2, .kv = NB_TYPE_F32});
    assert_int_equal(r.width, row);
    for (int32_t q = 0; q < f->sequences; q++) {
        runner_logits(&r, nb_logits_ids(f, q), tokens, tokens, have);
        for (size_t t = 0; t < tokens; t++)
            worst = worse(worst, nb_nmse(have + t * row, nb_logits_at(f, q, (int32_t)t), row));
    }
    runner_close(&r);
    free(have);
    return worst;
}

static void check_logits(const char *name, const char *path, const char *what)
{
    nb_logits_file f;
    nb_model *m;
    nb_model_params p = nb_model_defaults();
    p.threads = 2;
    p.exact = true;
    assert_true(nb_logits_read(path_of(NB_TEST_DATA "/archs/", name, ".logits.bin"), &f));
    must(nb_model_open(path, &p, &m, &err));
    double e = m->def->h.causal ? session_nmse(m, &f) : hidden_nmse(path, &f);
    printf("%-32s %-9s worst token: NMSE %.2e\n", name, what, e);
    if (!(e <= 1e-10))
        fail_msg("%s: NMSE %g", path, e);
    nb_model_close(m);
    nb_logits_free(&f);
}

static void test_logits(void **state)
{
    (void)state;
    for (size_t i = 0; i < models.count; i++) {
        char file[512], folder[512];
        nb_source *s;
        nb_quantize_params p = nb_quantize_defaults();
        nb_quantize_result result;
        snprintf(file, sizeof file, "%s", nb_folder_path("model.gguf"));
        p.mix = nb_mix_by_name(NB_STR("COPY"));
        snprintf(folder, sizeof folder, "%s%s", HF, models.names[i]);
        check_logits(models.names[i], folder, "directory");
        must(nb_source_open(folder, &s, &err));
        must(nb_quantize(s, file, &p, NULL, NULL, &result, &err));
        nb_source_free(s);
        check_logits(models.names[i], file, "converted");
        assert_int_equal(unlink(file), 0);
    }
}

/* quantized on the way: near the original, and not it */
static void test_quantized(void **state)
{
    (void)state;
    nb_source *s;
    nb_gguf *g;
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(NB_STR("Q8_0"));
    must(nb_source_open(path_of(HF, "llama-2-mha", ""), &s, &err));
    must(nb_quantize_to_memory(s, &p, &g, &err));
    const nb_gguf_tensor *t = nb_gguf_find_tensor(g, NB_STR("blk.0.attn_q.weight"));
    assert_string_equal(t->type->name, "Q8_0");
    t = nb_gguf_find_tensor(g, NB_STR("blk.0.attn_norm.weight"));
    assert_string_equal(t->type->name, "F32");
    nb_gguf_close(g);
}

/* ---- tokenizers ---- */

static void check_ids(const char *name, const nb_tokenizer *t, nb_str text, const nb_node *want, unsigned flags)
{
    nb_ids ids = {0};
    size_t i = 0;
    must(nb_tokenizer_encode(t, text, flags, &ids, &err));
    for (const nb_node *n = want->list.first; n; n = n->next, i++)
        if (i >= ids.count || ids.id[i] != (int32_t)n->num)
            fail_msg("%s: '%.*s': id %zu is %d, not %g", name, NB_STR_ARG(text), i, i < ids.count ? ids.id[i] : -1,
                     n->num);
    if (i != ids.count)
        fail_msg("%s: '%.*s': %zu ids, not %zu", name, NB_STR_ARG(text), ids.count, i);
    nb_ids_free(&ids);
}

static void check_tokenizer(const char *name)
{
    nb_gguf *g;
    nb_tokenizer *t;
    nb_tree cases;
    size_t checked = 0;
    must(nb_gguf_open_model(path_of(HF, name, ""), 1, &g, &err));
    must(nb_tokenizer_from_gguf(g, NULL, &t, &err));
    must(nb_tree_open_any(path_of(HF, name, ""), "cases.json", 1 << 20, false, &cases, &err));
    for (const nb_node *n = cases.root->list.first; n; n = n->next, checked++) {
        nb_str text = nb_node_get(n, "text")->str;
        check_ids(name, t, text, nb_node_get(n, "ids"), NB_ENCODE_ADD_SPECIAL | NB_ENCODE_PARSE_SPECIAL);
        check_ids(name, t, text, nb_node_get(n, "ids_plain"), NB_ENCODE_PARSE_SPECIAL);
    }
    assert_int_equal(checked, 20);
    nb_tree_free(&cases);
    nb_tokenizer_free(t);
    nb_gguf_close(g);
}

static void test_tokenizers(void **state)
{
    static const char *const names[] = {"tokenizer-gpt2",
                                        "tokenizer-llama3",
                                        "tokenizer-qwen2-nfc",
                                        "tokenizer-digits",
                                        "tokenizer-pieces-bytes",
                                        "tokenizer-pieces-no-prefix",
                                        "tokenizer-unknown-expressions",
                                        "tokenizer-unigram",
                                        "tokenizer-wordpiece",
                                        "tokenizer-wordpiece-cased",
                                        "older-fairseq",
                                        "older-gpt2",
                                        "older-pieces",
                                        "older-spiece",
                                        "older-unigram",
                                        "older-wordpiece"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_tokenizer(names[i]);
}

int main(void)
{
    nb_archs_find(NB_TEST_DATA, NB_TEST_DATA "/hf", "/config.json", &models);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test_setup_teardown(test_logits, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_tokenizers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
