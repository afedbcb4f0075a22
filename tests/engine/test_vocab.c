/* Tokenizers made from GGUF files: the texts and ids of other programs (tools/make_tokenizer_vectors.py says which), and
 * files whose tokenizer keys make no sense. */
/* cmocka.h needs the others first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <jansson.h>
#include <unistd.h>

#include "engine/vocab.h"
#include "format/gguf_write.h"
#include "support/cases.h"

typedef struct open_vocab {
    nb_gguf *g;
    nb_tokenizer *t;
} open_vocab;

static open_vocab open_named(const char *folder, const char *name)
{
    char path[1024];
    nb_error err;
    open_vocab v;
    snprintf(path, sizeof path, "%s/%s/%s.gguf", NB_TEST_DATA, folder, name);
    if (nb_gguf_open(path, &v.g, &err) != NB_OK || nb_tokenizer_from_gguf(v.g, NULL, &v.t, &err) != NB_OK)
        fail_msg("%s", err.message);
    return v;
}

static void close_vocab(open_vocab *v)
{
    nb_tokenizer_free(v->t);
    nb_gguf_close(v->g);
}

/* ids become text again, whole and streamed */
static void check_decoding(const nb_tokenizer *t, const nb_ids *ids, nb_str text)
{
    nb_buf whole = {0}, streamed = {0};
    nb_detok d = {.tokenizer = t};
    assert_int_equal(nb_tokenizer_decode(t, ids->id, ids->count, false, &whole, NULL), NB_OK);
    for (size_t i = 0; i < ids->count; i++)
        assert_int_equal(nb_detok_push(&d, ids->id[i], &streamed, NULL), NB_OK);
    nb_detok_flush(&d, &streamed);
    assert_true(nb_str_eq(nb_buf_view(&whole), nb_buf_view(&streamed)));
    if (text.p && !nb_str_eq(nb_buf_view(&whole), text))
        fail_msg("'%s' became '%s'", text.p, whole.data);
    nb_buf_free(&whole);
    nb_buf_free(&streamed);
}

static void check_cases(const char *name, size_t count, bool decodes)
{
    char file[256];
    open_vocab v = open_named("tokenizers", name);
    nb_cases cases;
    nb_str line;
    nb_buf text = {0};
    nb_ids ids = {0};
    size_t checked = 0;
    snprintf(file, sizeof file, "tokenizers/%s.cases", name);
    assert_true(nb_cases_open(&cases, file));
    for (; nb_cases_next(&cases, &line); checked++) {
        nb_case_text(&line, &text);
        ids.count = 0;
        assert_int_equal(nb_tokenizer_encode(v.t, nb_buf_view(&text), NB_ENCODE_PLAIN, &ids, NULL), NB_OK);
        for (size_t i = 0; i < ids.count; i++) {
            if (line.n == 0)
                fail_msg("%s: '%s': %zu ids, wanted %zu", name, text.data, ids.count, i);
            uint64_t want = nb_case_number(&line, 10);
            if (ids.id[i] != (int32_t)want)
                fail_msg("%s: '%s': id %zu is %d, wanted %d", name, text.data, i, ids.id[i], (int)want);
        }
        if (line.n)
            fail_msg("%s: '%s': only %zu ids", name, text.data, ids.count);
        check_decoding(v.t, &ids, decodes ? nb_buf_view(&text) : (nb_str){0});
    }
    assert_int_equal(checked, count);
    nb_cases_close(&cases);
    nb_ids_free(&ids);
    nb_buf_free(&text);
    close_vocab(&v);
}

static void test_cases(void **state)
{
    (void)state;
    static const char *const reversible[] = {"gpt-2",  "llama-spm", "phi-3",  "deepseek-llm", "deepseek-coder",
                                             "falcon", "mpt",       "refact", "starcoder"};
    for (size_t i = 0; i < sizeof reversible / sizeof *reversible; i++)
        check_cases(reversible[i], 47, true);
    check_cases("bert-bge", 47, false);
    check_cases("bert", 120, false);
    check_cases("bert-checkpoint", 10, false);
    check_cases("unigram", 106, false);
}

static void expect_ids(const nb_tokenizer *t, const json_t *test, const char *key, unsigned flags)
{
    const json_t *want = json_object_get(test, key), *text = json_object_get(test, "text");
    nb_ids ids = {0};
    nb_str s = {json_string_value(text), json_string_length(text)};
    assert_int_equal(nb_tokenizer_encode(t, s, flags, &ids, NULL), NB_OK);
    assert_int_equal(ids.count, json_array_size(want));
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(ids.id[i], json_integer_value(json_array_get(want, i)));
    check_decoding(t, &ids, s);
    nb_ids_free(&ids);
}

/* with the tokens that a vocabulary adds, as transformers does it */
static void test_checkpoints(void **state)
{
    (void)state;
    static const char *const names[] = {"llama-2-mha", "mistral-sliding", "llama-3.2-rope-scaled",
                                        "llama-mqa-wide-head", "qwen2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        json_error_t err;
        size_t k;
        json_t *test;
        open_vocab v = open_named("archs", names[i]);
        snprintf(path, sizeof path, "%s/archs/%s.tokens.json", NB_TEST_DATA, names[i]);
        json_t *root = json_load_file(path, 0, &err);
        assert_int_equal(json_array_size(root), 10);
        json_array_foreach(root, k, test)
        {
            expect_ids(v.t, test, "ids", NB_ENCODE_ADD_SPECIAL | NB_ENCODE_PARSE_SPECIAL);
            expect_ids(v.t, test, "ids_plain", NB_ENCODE_PLAIN);
        }
        json_decref(root);
        close_vocab(&v);
    }
}

/* CLS and SEP around a text, read from the keys of a file that has no BOS */
static void test_bert_special(void **state)
{
    (void)state;
    open_vocab v = open_named("tokenizers", "bert-checkpoint");
    nb_ids ids = {0};
    assert_int_equal(
        nb_tokenizer_encode(v.t, NB_STR("[MASK]"), NB_ENCODE_ADD_SPECIAL | NB_ENCODE_PARSE_SPECIAL, &ids, NULL), NB_OK);
    assert_int_equal(ids.count, 3);
    assert_int_equal(ids.id[0], nb_tokenizer_find(v.t, NB_STR("[CLS]")));
    assert_int_equal(ids.id[1], nb_tokenizer_find(v.t, NB_STR("[MASK]")));
    assert_int_equal(ids.id[2], nb_tokenizer_find(v.t, NB_STR("[SEP]")));
    nb_ids_free(&ids);
    close_vocab(&v);
}

/* Phi-3's special tokens swallow the whitespace behind them, all but the three that begin a text */
static void test_phi3_space(void **state)
{
    (void)state;
    open_vocab v = open_named("tokenizers", "phi-3");
    nb_ids ids = {0}, plain = {0};
    assert_int_equal(nb_tokenizer_encode(v.t, NB_STR("<|user|> \n hi"), NB_ENCODE_PARSE_SPECIAL, &ids, NULL), NB_OK);
    assert_int_equal(nb_tokenizer_encode(v.t, NB_STR("hi"), NB_ENCODE_PLAIN, &plain, NULL), NB_OK);
    assert_int_equal(ids.count, plain.count + 1);
    assert_memory_equal(ids.id + 1, plain.id, plain.count * sizeof(int32_t));
    ids.count = 0;
    assert_int_equal(nb_tokenizer_encode(v.t, NB_STR("<s>  hi"), NB_ENCODE_PARSE_SPECIAL, &ids, NULL), NB_OK);
    assert_true(ids.count > plain.count + 1);
    nb_ids_free(&ids);
    nb_ids_free(&plain);
    close_vocab(&v);
}

/* ---- files that make no sense ---- */
typedef void spoil(nb_gguf_writer *w);

static const nb_str three[] = {{"a", 1}, {"b", 1}, {"ab", 2}};

static void plain_file(nb_gguf_writer *w)
{
    static const nb_str merges[] = {{"a b", 3}};
    nb_gguf_put_str(w, "general.architecture", NB_STR("llama"));
    nb_gguf_put_str(w, "tokenizer.ggml.model", NB_STR("gpt2"));
    nb_gguf_put_strings(w, "tokenizer.ggml.tokens", three, 3);
    nb_gguf_put_strings(w, "tokenizer.ggml.merges", merges, 1);
    nb_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
}

static nb_status open_spoiled(spoil *change, const char *pre, nb_error *err)
{
    char path[] = "/tmp/nibble-vocab-XXXXXX";
    nb_gguf_writer *w;
    nb_gguf *g = NULL;
    nb_tokenizer *t = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(nb_gguf_writer_open(path, 0, &w, err), NB_OK);
    plain_file(w);
    change(w);
    assert_int_equal(nb_gguf_writer_commit(w, err), NB_OK);
    nb_status status = nb_gguf_open(path, &g, err);
    if (status == NB_OK)
        status = nb_tokenizer_from_gguf(g, pre, &t, err);
    assert_true((status == NB_OK) == (t != NULL));
    nb_tokenizer_free(t);
    nb_gguf_close(g);
    unlink(path);
    return status;
}

static void nothing(nb_gguf_writer *w) { (void)w; }
static void no_id(nb_gguf_writer *w) { nb_gguf_put_u32(w, "tokenizer.ggml.padding_token_id", UINT32_MAX); }
static void minus_id(nb_gguf_writer *w) { nb_gguf_put_i32(w, "tokenizer.ggml.padding_token_id", -1); }
static void id_high(nb_gguf_writer *w) { nb_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 3); }
static void id_negative(nb_gguf_writer *w) { nb_gguf_put_i32(w, "tokenizer.ggml.bos_token_id", -2); }
static void id_huge(nb_gguf_writer *w) { nb_gguf_put_u64(w, "tokenizer.ggml.bos_token_id", UINT64_MAX); }
static void id_text(nb_gguf_writer *w) { nb_gguf_put_str(w, "tokenizer.ggml.mask_token_id", NB_STR("2")); }
static void model_unknown(nb_gguf_writer *w) { nb_gguf_put_str(w, "tokenizer.ggml.model", NB_STR("rwkv")); }
static void model_number(nb_gguf_writer *w) { nb_gguf_put_u32(w, "tokenizer.ggml.model", 1); }
static void pre_unknown(nb_gguf_writer *w) { nb_gguf_put_str(w, "tokenizer.ggml.pre", NB_STR("my-own")); }
static void tokens_empty(nb_gguf_writer *w) { nb_gguf_put_strings(w, "tokenizer.ggml.tokens", three, 0); }
static void tokens_numbers(nb_gguf_writer *w) { nb_gguf_put_u32(w, "tokenizer.ggml.tokens", 3); }
static void merges_number(nb_gguf_writer *w) { nb_gguf_put_u32(w, "tokenizer.ggml.merges", 3); }
static void flag_text(nb_gguf_writer *w) { nb_gguf_put_str(w, "tokenizer.ggml.add_bos_token", NB_STR("yes")); }
static void types_few(nb_gguf_writer *w)
{
    nb_gguf_put_array(w, "tokenizer.ggml.token_type", NB_GGUF_I32, (int32_t[]){1, 1}, 2);
}
static void types_wild(nb_gguf_writer *w)
{
    nb_gguf_put_array(w, "tokenizer.ggml.token_type", NB_GGUF_I32, (int32_t[]){1, 9, 1}, 3);
}
static void types_float(nb_gguf_writer *w)
{
    nb_gguf_put_array(w, "tokenizer.ggml.token_type", NB_GGUF_F32, (float[]){1, 1, 1}, 3);
}
static void scores_few(nb_gguf_writer *w)
{
    nb_gguf_put_array(w, "tokenizer.ggml.scores", NB_GGUF_F32, (float[]){1, 1}, 2);
}
static void scores_int(nb_gguf_writer *w)
{
    nb_gguf_put_array(w, "tokenizer.ggml.scores", NB_GGUF_I32, (int32_t[]){1, 1, 1}, 3);
}
static void scores_nan(nb_gguf_writer *w)
{
    float nan = (float)strtod("nan", NULL);
    nb_gguf_put_array(w, "tokenizer.ggml.scores", NB_GGUF_F32, (float[]){1, nan, 1}, 3);
}
static void charsmap_strings(nb_gguf_writer *w)
{
    nb_gguf_put_str(w, "tokenizer.ggml.model", NB_STR("t5"));
    nb_gguf_put_strings(w, "tokenizer.ggml.precompiled_charsmap", three, 3);
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        spoil *change;
        const char *why;
    } rows[] = {{id_high, "tokenizer.ggml.eos_token_id"},
                {id_negative, "tokenizer.ggml.bos_token_id"},
                {id_huge, "tokenizer.ggml.bos_token_id"},
                {id_text, "tokenizer.ggml.mask_token_id"},
                {model_unknown, "'rwkv'"},
                {model_number, "tokenizer.ggml.model"},
                {pre_unknown, "'my-own'"},
                {pre_unknown, "--pre"},
                {tokens_empty, "tokenizer.ggml.tokens"},
                {tokens_numbers, "tokenizer.ggml.tokens"},
                {merges_number, "tokenizer.ggml.merges"},
                {flag_text, "tokenizer.ggml.add_bos_token"},
                {types_few, "tokenizer.ggml.token_type"},
                {types_wild, "tokenizer.ggml.token_type"},
                {types_float, "tokenizer.ggml.token_type"},
                {scores_few, "tokenizer.ggml.scores"},
                {scores_int, "tokenizer.ggml.scores"},
                {scores_nan, "tokenizer.ggml.scores"},
                {charsmap_strings, "precompiled_charsmap"}};
    nb_error err;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err.message[0] = 0;
        assert_true(open_spoiled(rows[i].change, NULL, &err) != NB_OK);
        if (!strstr(err.message, rows[i].why) || !strstr(err.message, "/tmp/nibble-vocab-"))
            fail_msg("'%s' does not name the file and '%s'", err.message, rows[i].why);
    }
    assert_int_equal(open_spoiled(nothing, NULL, &err), NB_OK);
    assert_int_equal(open_spoiled(no_id, NULL, &err), NB_OK);
    assert_int_equal(open_spoiled(minus_id, NULL, &err), NB_OK);
    assert_int_equal(open_spoiled(pre_unknown, "gpt-2", &err), NB_OK);
    assert_int_equal(open_spoiled(nothing, "no-such", &err), NB_ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_checkpoints),
                                       cmocka_unit_test(test_bert_special), cmocka_unit_test(test_phi3_space),
                                       cmocka_unit_test(test_hostile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
