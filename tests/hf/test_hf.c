/* What a directory's files become as metadata, and what is said about files that make no sense. Each case edits a copy of a
 * tiny checkpoint's file. */
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

#include "format/checkpoint.h"
#include "hf/hf.h"
#include "hf/hf_arch.h"
#include "support/folder.h"

#define HF NB_TEST_DATA "/hf/"

static nb_error err;

/* ---- a copy of a directory: links to its files, and one file with other text ---- */

static const char *const files[] = {"config.json", "tokenizer.json",    "tokenizer_config.json", "tokenizer.model",
                                    "vocab.txt",   "model.safetensors", "modules.json",          "chat_template.jinja"};
enum { FILES = sizeof files / sizeof *files };

static void write_file(const char *name, const char *text, size_t n)
{
    FILE *f = fopen(nb_folder_path(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void link_files(const char *model)
{
    for (int i = 0; i < FILES; i++) {
        char from[512];
        snprintf(from, sizeof from, HF "%s/%s", model, files[i]);
        if (access(from, R_OK) == 0)
            assert_int_equal(symlink(from, nb_folder_path(files[i])), 0);
    }
}

static void unlink_files(void)
{
    for (int i = 0; i < FILES; i++)
        unlink(nb_folder_path(files[i]));
}

/* the file with the first `from` in it replaced */
static void edit(const char *model, const char *name, const char *from, const char *to)
{
    char path[512];
    nb_buf text = {0}, out = {0};
    snprintf(path, sizeof path, HF "%s/%s", model, name);
    assert_int_equal(nb_file_read(path, 1 << 24, &text, &err), NB_OK);
    char *at = strstr(text.data, from);
    if (!at)
        fail_msg("%s/%s has no '%s'", model, name, from);
    nb_buf_add(&out, text.data, (size_t)(at - text.data));
    nb_buf_z(&out, to);
    nb_buf_z(&out, at + strlen(from));
    unlink(nb_folder_path(name));
    write_file(name, out.data, out.len);
    nb_buf_free(&text);
    nb_buf_free(&out);
}

static nb_source *open_ok(const char *path)
{
    nb_source *s;
    if (nb_hf_open(path, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

/* ---- metadata ---- */

static uint32_t u32_of(const nb_source *s, const char *key)
{
    const nb_gguf_value *v = nb_source_find(s, key);
    if (!v || v->kind != NB_GGUF_U32)
        fail_msg("%s is missing", key);
    return (uint32_t)nb_gguf_elem_u64(v, 0);
}

static double f32_of(const nb_source *s, const char *key)
{
    const nb_gguf_value *v = nb_source_find(s, key);
    if (!v || v->kind != NB_GGUF_F32)
        fail_msg("%s is missing", key);
    return nb_gguf_elem_f64(v, 0);
}

static void expect_str(const nb_source *s, const char *key, const char *want)
{
    const nb_gguf_value *v = nb_source_find(s, key);
    if (!v || v->kind != NB_GGUF_STRING || !nb_str_eqz((nb_str){(const char *)v->data, v->bytes}, want))
        fail_msg("%s is '%.*s', not '%s'", key, v ? (int)v->bytes : 0, v ? (const char *)v->data : "", want);
}

static void test_metadata(void **state)
{
    (void)state;
    nb_source *s = open_ok(HF "mistral-sliding");
    expect_str(s, "general.architecture", "llama");
    expect_str(s, "general.name", "Mistral Sliding");
    expect_str(s, "tokenizer.ggml.model", "llama");
    assert_int_equal(u32_of(s, "llama.attention.sliding_window"), 16);
    assert_int_equal(u32_of(s, "llama.attention.head_count_kv"), 2);
    assert_int_equal(u32_of(s, "general.file_type"), 32);
    assert_int_equal(u32_of(s, "tokenizer.ggml.bos_token_id"), 1);
    nb_source_free(s);
    s = open_ok(HF "gemma-3");
    assert_true(f32_of(s, "gemma3.rope.freq_base") == 1000000 && f32_of(s, "gemma3.rope.freq_base_swa") == 10000);
    expect_str(s, "gemma3.rope.scaling.type", "linear");
    assert_true(f32_of(s, "gemma3.rope.scaling.factor") == 8);
    nb_source_free(s);
    s = open_ok(HF "opt-350m-post-norm");
    assert_int_equal(u32_of(s, "opt.token_embedding_length"), 32);
    assert_int_equal(nb_gguf_elem_u64(nb_source_find(s, "opt.norm_first"), 0), 0);
    nb_source_free(s);
    s = open_ok(HF "tokenizer-unknown-expressions");
    assert_int_equal(nb_source_find(s, "nibble.tokenizer.pre_expressions")->count, 3);
    expect_str(s, "tokenizer.ggml.pre", "default");
    nb_source_free(s);
    s = open_ok(HF "tokenizer-llama3");
    assert_null(nb_source_find(s, "nibble.tokenizer.pre_expressions"));
    expect_str(s, "tokenizer.ggml.pre", "dbrx");
    expect_str(s, "tokenizer.chat_template", "{{ bos_token }}");
    expect_str(s, "tokenizer.chat_template.tool_use", "{{ eos_token }}");
    nb_source_free(s);
}

/* the two styles of config.json say the same */
static void test_rope_styles(void **state)
{
    (void)state;
    link_files("gemma-3");
    edit("gemma-3", "config.json",
         "\"rope_theta\": 1000000.0,\n \"rope_local_base_freq\": 10000.0,\n \"rope_scaling\": {\n  \"rope_type\": "
         "\"linear\","
         "\n  \"factor\": 8.0\n },",
         "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8.0, \"rope_theta\": "
         "1000000.0},"
         "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}},");
    nb_source *old = open_ok(HF "gemma-3"), *new = open_ok(nb_folder);
    for (size_t i = 0; i < old->value_count; i++) {
        const nb_gguf_value *a = &old->values[i];
        char key[128];
        snprintf(key, sizeof key, "%.*s", NB_STR_ARG(a->key));
        const nb_gguf_value *b = nb_source_find(new, key);
        if (strcmp(key, "general.name") != 0 && (!b || b->bytes != a->bytes || memcmp(a->data, b->data, a->bytes) != 0))
            fail_msg("%s differs", key);
    }
    nb_source_free(old);
    nb_source_free(new);
    unlink_files();
}

static void test_no_tokenizer(void **state)
{
    (void)state;
    link_files("qwen2");
    unlink(nb_folder_path("tokenizer.json"));
    unlink(nb_folder_path("tokenizer_config.json"));
    nb_source *s = open_ok(nb_folder);
    expect_str(s, "tokenizer.ggml.model", "no_vocab");
    nb_source_free(s);
    unlink_files();
}

/* ---- files that make no sense ---- */

static void test_refused(void **state)
{
    static const struct {
        const char *model, *file, *from, *to, *message;
        nb_status status;
    } cases[] = {
        {"qwen2", "config.json", "{", "[", "byte", NB_ERR_FORMAT},
        {"qwen2", "config.json", "Qwen2ForCausalLM", "NoSuchModel", "NoSuchModel", NB_ERR_UNSUPPORTED},
        {"qwen2", "config.json", "\"architectures\"", "\"a\"", "architectures", NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_size\": 64", "\"hidden_size\": -64", "hidden_size", NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_size\": 64", "\"hidden_size\": 1e99", "hidden_size", NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_size\": 64", "\"hidden_size\": \"64\"", "hidden_size", NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_size\": 64,", "", "hidden_size is missing", NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_size\": 64", "\"hidden_size\": 64, \"hidden_size\": 64", "twice",
         NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "model.layers.3.",
         NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2", "model.layers.2.",
         NB_ERR_UNSUPPORTED},
        {"qwen2", "config.json", "\"silu\"", "\"relu\"", "hidden_act", NB_ERR_UNSUPPORTED},
        {"qwen2", "config.json", "\"rope_theta\": 1000000.0", "\"rope_theta\": 0", "rope_theta", NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_act\"", "\"rope_scaling\": {\"type\": \"spiral\"}, \"hidden_act\"", "spiral",
         NB_ERR_UNSUPPORTED},
        {"qwen2", "config.json", "\"hidden_act\"", "\"rope_scaling\": 7, \"hidden_act\"", "rope_scaling",
         NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_act\"",
         "\"rope_scaling\": {\"type\": \"longrope\", \"original_max_position_embeddings\": 4, \"long_factor\": [1]}, "
         "\"hidden_act\"",
         "long_factor", NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_act\"",
         "\"rope_scaling\": {\"type\": \"llama3\", \"low_freq_factor\": 0}, \"hidden_act\"", "low_freq_factor",
         NB_ERR_FORMAT},
        {"qwen2", "config.json", "\"hidden_act\"",
         "\"quantization_config\": {\"quant_method\": \"hqq\"}, \"hidden_act\"", "of hqq", NB_ERR_UNSUPPORTED},
        {"llama-2-mha", "config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "heads",
         NB_ERR_FORMAT},
        {"gemma-3", "config.json", "\"query_pre_attn_scalar\": 32", "\"query_pre_attn_scalar\": 0",
         "query_pre_attn_scalar", NB_ERR_FORMAT},
        {"gpt2", "config.json", "\"n_embd\"", "\"scale_attn_by_inverse_layer_idx\": true, \"n_embd\"",
         "scale_attn_by_inverse_layer_idx", NB_ERR_UNSUPPORTED},
        {"gpt2", "config.json", "\"n_embd\"", "\"scale_attn_weights\": false, \"n_embd\"", "scale_attn_weights",
         NB_ERR_UNSUPPORTED},
        {"gemma-3", "config.json", "\"sliding_window_pattern\"", "\"layer_types\": [\"full_attention\"], \"s\"",
         "layer_types", NB_ERR_FORMAT},
        {"gemma-3", "config.json", "\"sliding_window_pattern\"", "\"layer_types\": [\"chunked\"], \"s\"", "layer_types",
         NB_ERR_UNSUPPORTED},
        {"bloom", "config.json", "\"apply_residual_connection_post_layernorm\": false",
         "\"apply_residual_connection_post_layernorm\": true", "apply_residual", NB_ERR_UNSUPPORTED},
        {"mpt", "config.json", "\"prefix_lm\": false", "\"prefix_lm\": true", "prefix_lm", NB_ERR_UNSUPPORTED},
        {"mpt", "config.json", "\"clip_qkv\": 0.75", "\"clip_qkv\": \"a\"", "clip_qkv", NB_ERR_FORMAT},
        {"mpt", "config.json", "low_precision_layernorm", "rmsnorm", "norm_type", NB_ERR_UNSUPPORTED},
        {"mpt", "config.json", "\"logit_scale\": null", "\"logit_scale\": 2", "logit_scale", NB_ERR_UNSUPPORTED},
        {"falcon-7b", "config.json", "\"num_attention_heads\": 3", "\"num_attention_heads\": 5",
         "query_key_value.weight' cannot be cut into heads", NB_ERR_FORMAT},
        {"falcon-7b", "config.json", "\"num_attention_heads\": 3", "\"num_attention_heads\": 37", "no head",
         NB_ERR_FORMAT},
        {"falcon-multi-head", "config.json", "gelu_pytorch_tanh", "quick_gelu", "activation", NB_ERR_UNSUPPORTED},
        {"pythia", "config.json", "\"rotary_pct\": 0.25", "\"rotary_pct\": 0", "partial_rotary_factor", NB_ERR_FORMAT},
        {"qwen2", "tokenizer.json", "{", "", "tokenizer.json", NB_ERR_FORMAT},
        {"qwen2", "tokenizer.json", "\"BPE\"", "\"WordLevel\"", "WordPiece", NB_ERR_UNSUPPORTED},
        {"qwen2", "tokenizer.json", "\"model\"", "\"mode\"", "no model", NB_ERR_FORMAT},
        {"qwen2", "tokenizer.json", "\"merges\"", "\"mergers\"", "no merges", NB_ERR_FORMAT},
        {"qwen2", "tokenizer.json", "\"ByteLevel\"", "\"Whitespace\"", "Whitespace", NB_ERR_UNSUPPORTED},
        {"qwen2", "tokenizer.json", "\"<|im_start|>\": 1", "\"<|im_start|>\": 0", "same id", NB_ERR_FORMAT},
        {"qwen2", "tokenizer.json", "\"<|im_start|>\": 1", "\"<|im_start|>\": 600", "600", NB_ERR_FORMAT},
        {"qwen2", "tokenizer.json", "\"<|im_start|>\": 1", "\"<|im_start|>\": 1.5", "whole number", NB_ERR_FORMAT},
        {"llama-2-mha", "tokenizer.model", "<unk>", "<unk", "tokenizer.model", NB_ERR_FORMAT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nb_source *s = NULL;
        link_files(cases[i].model);
        edit(cases[i].model, cases[i].file, cases[i].from, cases[i].to);
        nb_status status = nb_hf_open(nb_folder, &s, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].message))
            fail_msg("case %zu (%s -> %s): status %d, '%s'", i, cases[i].from, cases[i].to, status,
                     status == NB_OK ? "" : err.message);
        assert_null(s);
        unlink_files();
    }
}

/* tiktoken's ranks are no tokenizer that is read, and a model of SentencePiece that is none says so */
static void test_ranks(void **state)
{
    static const char *const names[] = {"qwen.tiktoken", "tiktoken.model", "tokenizer.model"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        nb_source *s = NULL;
        char says[128];
        link_files("qwen-1");
        FILE *f = fopen(nb_folder_path(names[i]), "wb");
        assert_non_null(f);
        fputs("IQ== 0\nIg== 1\n", f);
        fclose(f);
        snprintf(says, sizeof says, "/%s: is a tokenizer of tiktoken's ranks alone", names[i]);
        if (nb_hf_open(nb_folder, &s, &err) != NB_ERR_UNSUPPORTED || !strstr(err.message, says))
            fail_msg("%s: %s", names[i], err.message);
        unlink(nb_folder_path(names[i]));
        unlink_files();
    }
}

/* every cut of the files is an error or a model, and nothing worse */
static void test_cut(void **state)
{
    static const char *const models[][2] = {{"qwen2", "config.json"},
                                            {"tokenizer-llama3", "tokenizer.json"},
                                            {"older-pieces", "tokenizer.model"},
                                            {"tokenizer-unigram", "tokenizer.json"},
                                            {"older-wordpiece", "vocab.txt"}};
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        char path[512];
        nb_buf text = {0};
        size_t refused = 0;
        snprintf(path, sizeof path, HF "%s/%s", models[m][0], models[m][1]);
        assert_int_equal(nb_file_read(path, 1 << 24, &text, &err), NB_OK);
        link_files(models[m][0]);
        for (size_t n = 0; n < text.len; n += 1 + text.len / 60) {
            nb_source *s = NULL;
            unlink(nb_folder_path(models[m][1]));
            write_file(models[m][1], text.data, n);
            refused += nb_hf_open(nb_folder, &s, &err) != NB_OK;
            nb_source_free(s);
        }
        assert_true(refused > 0 || strcmp(models[m][1], "vocab.txt") == 0);
        nb_buf_free(&text);
        unlink_files();
    }
}

/* ---- the permutation of rotary halves and its way back ---- */

static void test_permutation(void **state)
{
    (void)state;
    for (uint64_t head = 2; head <= 32; head += 2)
        for (uint64_t r = 0; r < head * 3; r++) {
            uint64_t i = r % head, want = r - i + (i % 2 ? head / 2 : 0) + i / 2;
            assert_int_equal(nb_hf_permuted(r, head), want);
            assert_int_equal(nb_hf_unpermuted(nb_hf_permuted(r, head), head), r);
        }
}

/* groups of queries with a key and a value: all queries, all keys, all values */
static void test_ungrouped(void **state)
{
    (void)state;
    enum { HEAD = 3 };
    for (uint64_t queries = 1; queries <= 4; queries++)
        for (uint64_t groups = 1; groups <= 3; groups++) {
            uint64_t r = 0;
            for (uint64_t part = 0; part < 3; part++) /* in the order of the file that is written */
                for (uint64_t group = 0; group < groups; group++)
                    for (uint64_t q = 0; q < (part ? 1 : queries); q++)
                        for (uint64_t i = 0; i < HEAD; i++, r++)
                            assert_int_equal(nb_hf_ungrouped(r, HEAD, queries, groups),
                                             group * (queries + 2) * HEAD + (part ? queries + part - 1 : q) * HEAD + i);
        }
}

/* Conv1D's matrices: any rows of theirs are the checkpoint's columns, however many are asked for at a time */
static void test_transposed(void **state)
{
    (void)state;
    nb_source *s = open_ok(HF "gpt2");
    nb_checkpoint *c;
    assert_int_equal(nb_checkpoint_open(HF "gpt2", &c, &err), NB_OK);
    const nb_source_tensor *t = nb_source_find_tensor(s, NB_STR("blk.1.ffn_up.weight"));
    const nb_checkpoint_tensor *from = nb_checkpoint_find(c, NB_STR("transformer.h.1.mlp.c_fc.weight"));
    assert_true(t && from && t->n_dims == 2 && t->dims[0] == from->dims[0] && t->dims[1] == from->dims[1]);
    assert_int_not_equal(t->dims[0], t->dims[1]);
    size_t columns = (size_t)t->dims[0], rows = (size_t)t->dims[1];
    uint16_t *got = malloc(columns * rows * 2), *want = malloc(columns * rows * 2);
    assert_non_null(got);
    assert_non_null(want);
    nb_checkpoint_read_raw(from, 0, columns * rows, want);
    for (size_t step = 1; step <= 200; step += 66)
        for (size_t row = 0; row < rows; row += step) {
            size_t n = rows - row < step ? rows - row : step;
            assert_int_equal(s->read(s, (size_t)(t - s->tensors), row, n, got, &err), NB_OK);
            for (size_t i = 0; i < n * columns; i++)
                assert_int_equal(got[i], want[i % columns * rows + row + i / columns]);
        }
    free(got);
    free(want);
    nb_checkpoint_close(c);
    nb_source_free(s);
}

/* what these families' keys become */
static void test_families(void **state)
{
    (void)state;
    nb_source *s = open_ok(HF "gemma-3-scale");
    assert_true(fabs(f32_of(s, "gemma3.attention.scale") - 1 / sqrt(20)) < 1e-7);
    const nb_gguf_value *v = nb_source_find(s, "gemma3.attention.sliding_window_pattern");
    assert_true(v && v->kind == NB_GGUF_ARRAY && v->element == NB_GGUF_BOOL && v->count == 4);
    assert_memory_equal(v->data, "\1\0\0\1", 4);
    nb_source_free(s);
    s = open_ok(HF "gemma-2-mqa");
    assert_int_equal(u32_of(s, "gemma2.attention.sliding_window_pattern"), 3);
    assert_true(f32_of(s, "gemma2.attn_logit_softcapping") == 20 && f32_of(s, "gemma2.final_logit_softcapping") == 0);
    nb_source_free(s);
    s = open_ok(HF "smollm3-pairs");
    assert_int_equal(u32_of(s, "smollm3.rope.skip_interval"), 2);
    nb_source_free(s);
    s = open_ok(HF "command-r");
    assert_int_equal(u32_of(s, "command-r.context_length"), 128);
    nb_source_free(s);
    s = open_ok(HF "phi-4-mini");
    assert_int_equal(u32_of(s, "phi3.rope.dimension_count"), 12);
    assert_true(fabs(f32_of(s, "phi3.rope.scaling.attn_factor") - sqrt(2)) < 1e-6); /* 1 + ln 16 / ln 16 */
    nb_source_free(s);
    s = open_ok(HF "mistral-nemo");
    assert_null(nb_source_find(s, "llama.attention.sliding_window"));
    assert_int_equal(u32_of(s, "llama.attention.key_length"), 32);
    nb_source_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata),  cmocka_unit_test(test_rope_styles), cmocka_unit_test(test_no_tokenizer),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_cut),         cmocka_unit_test(test_permutation),
        cmocka_unit_test(test_transposed), cmocka_unit_test(test_families),
        cmocka_unit_test(test_ungrouped),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
