/* What good GGUF files say: every value type, both versions, alignments, shards, and a file that gguf-py wrote. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <time.h>

#include "format/gguf.h"
#include "format/gguf_parse.h"
#include "gguf_builder.h"

static nb_gguf *open_bytes(const builder *x)
{
    nb_gguf *g;
    nb_error err = {0};
    if (nb_gguf_open_memory("test.gguf", x->b.data, x->b.len, &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    return g;
}

static void expect_str(const nb_gguf *g, const char *key, const char *text)
{
    nb_str s;
    assert_int_equal(nb_gguf_get_str(g, key, &s, NULL), NB_OK);
    assert_true(nb_str_eqz(s, text));
}

static void expect_int(const nb_gguf *g, const char *key, nb_gguf_kind kind, int64_t expected)
{
    int64_t got = 0;
    uint64_t as_unsigned = 99;
    double as_double = 0;
    assert_int_equal(nb_gguf_find(g, key)->kind, kind);
    assert_int_equal(nb_gguf_get_i64(g, key, &got, NULL), NB_OK);
    assert_true(got == expected);
    assert_int_equal(nb_gguf_get_u64(g, key, &as_unsigned, NULL), expected < 0 ? NB_ERR_FORMAT : NB_OK);
    assert_true(as_unsigned == (expected < 0 ? 99 : (uint64_t)expected));
    assert_int_equal(nb_gguf_get_f64(g, key, &as_double, NULL), NB_OK);
    assert_true(as_double == (double)expected);
}

/* ---- the file gguf-py wrote (tools/make_gguf_vectors.py) ---- */

static void check_scalars(const nb_gguf *g)
{
    uint64_t u;
    int64_t i = 5;
    double d;
    bool b = false;
    expect_str(g, "general.architecture", "llama");
    expect_str(g, "general.name", "T\xc3\xa4st \xe6\xa8\xa1\xe5\x9e\x8b");
    expect_str(g, "t.empty", "");
    expect_int(g, "t.u8", NB_GGUF_U8, 200);
    expect_int(g, "t.i8", NB_GGUF_I8, -100);
    expect_int(g, "t.u16", NB_GGUF_U16, 60000);
    expect_int(g, "t.i16", NB_GGUF_I16, -30000);
    expect_int(g, "t.u32", NB_GGUF_U32, 4000000000);
    expect_int(g, "t.i32", NB_GGUF_I32, -2000000000);
    expect_int(g, "t.i64", NB_GGUF_I64, INT64_MIN);
    assert_int_equal(nb_gguf_get_u64(g, "t.u64", &u, NULL), NB_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(nb_gguf_get_i64(g, "t.u64", &i, NULL), NB_ERR_FORMAT);
    assert_int_equal(i, 5);
    assert_int_equal(nb_gguf_get_f64(g, "t.f32", &d, NULL), NB_OK);
    assert_true(d == (double)0.1f);
    assert_int_equal(nb_gguf_get_f64(g, "t.f64", &d, NULL), NB_OK);
    assert_true(d == 0.1);
    assert_int_equal(nb_gguf_get_bool(g, "t.yes", &b, NULL), NB_OK);
    assert_true(b);
    assert_int_equal(nb_gguf_get_bool(g, "t.no", &b, NULL), NB_OK);
    assert_false(b);
}

static void check_arrays(const nb_gguf *g)
{
    const char *expected[] = {"a", "", "caf\xc3\xa9", "<|end|>"};
    nb_arena arena = {0};
    nb_str *strings;
    size_t n;
    assert_int_equal(nb_gguf_get_strings(g, "t.strings", &arena, &strings, &n, NULL), NB_OK);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++)
        assert_true(nb_str_eqz(strings[i], expected[i]));
    nb_arena_free(&arena);
    const nb_gguf_value *v = nb_gguf_find(g, "t.i32s");
    assert_int_equal(v->element, NB_GGUF_I32);
    assert_int_equal(v->count, 3);
    assert_true(nb_gguf_elem_i64(v, 1) == -2 && nb_gguf_elem_u64(v, 2) == 3 && nb_gguf_elem_f64(v, 1) == -2.0);
    v = nb_gguf_find(g, "t.f32s");
    assert_true(v->count == 2 && nb_gguf_elem_f64(v, 0) == 0.5 && nb_gguf_elem_f64(v, 1) == -0.25);
    v = nb_gguf_find(g, "t.bools");
    assert_true(v->element == NB_GGUF_BOOL && v->count == 3);
    assert_true(nb_gguf_elem_u64(v, 0) == 1 && nb_gguf_elem_u64(v, 1) == 0 && nb_gguf_elem_i64(v, 2) == 1);
    v = nb_gguf_find(g, "t.u8s");
    assert_true(v->element == NB_GGUF_U8 && v->count == 3 && nb_gguf_elem_u64(v, 2) == 255);
    v = nb_gguf_find(g, "t.i64s");
    assert_true(nb_gguf_elem_i64(v, 0) == INT64_MIN && nb_gguf_elem_i64(v, 1) == INT64_MAX);
}

/* names, shapes, types, offsets and bytes as gguf-py's own reader prints them */
static void check_tensors(const nb_gguf *g)
{
    static const struct {
        const char *name;
        uint32_t n_dims;
        uint64_t dims[4], offset;
        nb_type type;
        size_t bytes;
    } expected[] = {
        {"plain", 1, {5, 1, 1, 1}, 928, NB_TYPE_F32, 20},
        {"half", 3, {32, 3, 2, 1}, 960, NB_TYPE_F16, 384},
        {"deep", 4, {4, 3, 2, 1}, 1344, NB_TYPE_F32, 96},
        {"blk.0.attn_q.weight", 2, {64, 3, 1, 1}, 1440, NB_TYPE_Q8_0, 204},
        {"ids", 1, {3, 1, 1, 1}, 1664, NB_TYPE_I32, 12},
    };
    const int32_t ids[] = {7, -7, 70000};
    assert_int_equal(nb_gguf_tensor_count(g), 5);
    for (size_t i = 0; i < 5; i++) {
        const nb_gguf_tensor *t = nb_gguf_find_tensor(g, nb_str_of(expected[i].name));
        assert_ptr_equal(t, nb_gguf_tensor_at(g, i));
        assert_int_equal(t->n_dims, expected[i].n_dims);
        assert_memory_equal(t->dims, expected[i].dims, sizeof t->dims);
        assert_int_equal(t->offset, expected[i].offset);
        assert_int_equal(t->type->id, expected[i].type);
        assert_int_equal(t->bytes, expected[i].bytes);
        assert_int_equal(t->shard, 0);
        assert_ptr_equal(t->data, nb_gguf_map(g, 0)->data + t->offset);
    }
    assert_memory_equal(nb_gguf_find_tensor(g, NB_STR("ids"))->data, ids, sizeof ids);
    float first;
    memcpy(&first, nb_gguf_find_tensor(g, NB_STR("plain"))->data, sizeof first);
    assert_true(first == -3.0f);
    assert_null(nb_gguf_find_tensor(g, NB_STR("plai")));
    assert_null(nb_gguf_find_tensor(g, NB_STR("plain\0")));
}

static void file_of_gguf_py(void **state)
{
    (void)state;
    nb_gguf *g;
    nb_error err = {0};
    if (nb_gguf_open(NB_TEST_DATA "/format/gguf-py.gguf", &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_gguf_version(g), 3);
    assert_int_equal(nb_gguf_file_bytes(g), 1696);
    assert_int_equal(nb_gguf_alignment(g), 32);
    assert_int_equal(nb_gguf_shards(g), 1);
    assert_string_equal(nb_gguf_path(g), NB_TEST_DATA "/format/gguf-py.gguf");
    check_scalars(g);
    check_arrays(g);
    check_tensors(g);
    nb_gguf_close(g);
    nb_gguf_close(NULL);
}

/* ---- typed reads that fail ---- */

static void wrong_reads(void **state)
{
    (void)state;
    builder x = {0};
    nb_error err;
    uint64_t u = 7;
    double d = 7;
    bool b = true;
    nb_str s = NB_STR("kept");
    nb_str *strings;
    size_t n;
    nb_arena arena = {0};
    put_header(&x, 3, 0, 2);
    put_key(&x, "text", 8);
    size_t at = x.b.len + 8;
    put_str(&x, "llama");
    put_key_u32(&x, "number", 3);
    nb_gguf *g = open_bytes(&x);
    assert_int_equal(nb_gguf_get_u64(g, "llama.block_count", &u, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "test.gguf: byte 16: "));
    assert_non_null(strstr(err.message, "'llama.block_count'"));
    char expected[64];
    snprintf(expected, sizeof expected, "test.gguf: byte %zu: 'text' is string", at);
    assert_int_equal(nb_gguf_get_u64(g, "text", &u, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, expected));
    assert_int_equal(nb_gguf_get_f64(g, "text", &d, &err), NB_ERR_FORMAT);
    assert_int_equal(nb_gguf_get_bool(g, "number", &b, &err), NB_ERR_FORMAT);
    assert_int_equal(nb_gguf_get_str(g, "number", &s, &err), NB_ERR_FORMAT);
    assert_int_equal(nb_gguf_get_strings(g, "text", &arena, &strings, &n, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "array of strings"));
    assert_int_equal(nb_gguf_get_strings(g, "none", &arena, &strings, &n, NULL), NB_ERR_NOT_FOUND);
    assert_true(u == 7 && d == 7 && b && nb_str_eqz(s, "kept"));
    assert_null(nb_gguf_find(g, "tex"));
    assert_null(nb_gguf_find(g, ""));
    nb_gguf_close(g);
    nb_buf_free(&x.b);
}

/* ---- shapes of files ---- */

static void version_2(void **state)
{
    (void)state;
    builder x = {0};
    put_header(&x, 2, 1, 1);
    put_key_u32(&x, "k", 17);
    put_info(&x, "t", 32, 2, NB_TYPE_Q4_0, 0);
    put_data(&x, 32, 36);
    nb_gguf *g = open_bytes(&x);
    assert_int_equal(nb_gguf_version(g), 2);
    expect_int(g, "k", NB_GGUF_U32, 17);
    assert_int_equal(nb_gguf_tensor_at(g, 0)->bytes, 36);
    nb_gguf_close(g);
    nb_buf_free(&x.b);
}

static void bare_header(void **state)
{
    (void)state;
    builder x = {0};
    put_header(&x, 3, 0, 0);
    nb_gguf *g = open_bytes(&x);
    assert_int_equal(nb_gguf_value_count(g), 0);
    assert_int_equal(nb_gguf_tensor_count(g), 0);
    assert_null(nb_gguf_find(g, "k"));
    assert_null(nb_gguf_find_tensor(g, NB_STR("t")));
    nb_gguf_close(g);
    nb_buf_free(&x.b);
}

static void alignments(void **state)
{
    (void)state;
    for (uint32_t alignment = 8; alignment <= 4096; alignment *= 2) {
        builder x = {0};
        put_header(&x, 3, 2, 1);
        put_key_u32(&x, "general.alignment", alignment);
        put_info(&x, "a", 3, 0, NB_TYPE_F32, 0);
        put_info(&x, "b", 3, 0, NB_TYPE_F32, alignment < 16 ? 16 : alignment);
        put_data(&x, alignment, 12);
        put_data(&x, alignment, 12); /* and the last one's padding is missing */
        nb_gguf *g = open_bytes(&x);
        assert_int_equal(nb_gguf_alignment(g), alignment);
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(nb_gguf_tensor_at(g, i)->offset % alignment, 0);
        assert_int_equal(nb_gguf_tensor_at(g, 1)->offset + 12, x.b.len);
        nb_gguf_close(g);
        nb_buf_free(&x.b);
    }
}

static void odd_but_good(void **state)
{
    (void)state;
    builder x = {0};
    nb_str s;
    put_header(&x, 3, 1, 3);
    put_key_array(&x, "nothing", 8, 0);
    put_key_array(&x, "no.numbers", 4, 0);
    put_key(&x, "bytes", 8);
    put_str_n(&x, "a\0\xff\n", 4);
    put_info(&x, "scalar", 0, 0, NB_TYPE_F32, 0);
    put_data(&x, 32, 4);
    put_data(&x, 32, 1000); /* what follows the last tensor is not ours */
    nb_gguf *g = open_bytes(&x);
    assert_int_equal(nb_gguf_find(g, "nothing")->count, 0);
    assert_int_equal(nb_gguf_find(g, "no.numbers")->count, 0);
    assert_int_equal(nb_gguf_get_str(g, "bytes", &s, NULL), NB_OK);
    assert_true(s.n == 4 && memcmp(s.p, "a\0\xff\n", 4) == 0);
    const nb_gguf_tensor *t = nb_gguf_tensor_at(g, 0);
    assert_true(t->n_dims == 1 && t->dims[0] == 1 && t->bytes == 4);
    nb_gguf_close(g);
    nb_buf_free(&x.b);
}

/* every type of the table, at the size the table says */
static void every_type(void **state)
{
    (void)state;
    int seen = 0;
    for (uint32_t id = 0; id < 80; id++) {
        builder x = {0};
        nb_gguf *g;
        const nb_type_info *type = id < NB_TYPE_FILE_LIMIT ? nb_type_get(id) : NULL; /* ours are in memory only */
        put_header(&x, 3, 1, 0);
        put_info(&x, "t", 512, 3, id, 0);
        put_data(&x, 32, type ? 3 * 512 / type->block_values * type->block_bytes : 65536);
        nb_status status = nb_gguf_open_memory("t", x.b.data, x.b.len, &g, NULL);
        assert_int_equal(status, type ? NB_OK : NB_ERR_UNSUPPORTED);
        seen += status == NB_OK;
        nb_gguf_close(g);
        nb_buf_free(&x.b);
    }
    assert_int_equal(seen, 43 - 8);
}

/* a vocabulary of 152,000 tokens and its merges, the largest header of real files, opens in milliseconds */
static void large_vocabulary(void **state)
{
    (void)state;
    enum { TOKENS = 152000 };
    builder x = {0};
    struct timespec a, b;
    double best = 1e9;
    put_header(&x, 3, 0, 2);
    for (int array = 0; array < 2; array++) {
        put_key_array(&x, array ? "tokenizer.ggml.merges" : "tokenizer.ggml.tokens", 8, TOKENS);
        for (int i = 0; i < TOKENS; i++) {
            char token[32];
            snprintf(token, sizeof token, "token %d", i * 7);
            put_str(&x, token);
        }
    }
    for (int i = 0; i < 5; i++) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        nb_gguf *g = open_bytes(&x);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double took = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
        best = took < best ? took : best;
        nb_gguf_close(g);
    }
    nb_buf_free(&x.b);
    if (best > (NB_TEST_SLOW ? 400 : 20))
        fail_msg("%.1f ms", best);
}

/* ---- shards ---- */

enum { SHARDS = 3 };
static const char *const shard_names[SHARDS] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                                "m-00003-of-00003.gguf"};

typedef struct shard_fault {
    int shard; /* the one that is wrong */
    uint64_t no, count, tensors;
    const char *says;
} shard_fault;

/* Shard i holds i + 1 tensors, "s<i>.<k>", of two values each. */
static void build_shard(builder *x, int i, uint64_t no, uint64_t count, uint64_t tensors)
{
    put_header(x, 3, (uint64_t)i + 1, i == 0 ? 4 : 3);
    put_key(x, "split.no", 2);
    put_bytes(x, &no, 2);
    put_key(x, "split.count", 2);
    put_bytes(x, &count, 2);
    put_key(x, "split.tensors.count", 5);
    put_bytes(x, &tensors, 4);
    if (i == 0)
        put_key_u32(x, "only.in.the.first", 11);
    for (int k = 0; k <= i; k++) {
        char name[16];
        snprintf(name, sizeof name, "s%d.%d", i, k);
        put_info(x, name, 2, 0, NB_TYPE_F32, (uint64_t)k * 32);
    }
    put_data(x, 32, 0);
    for (int k = 0; k <= i; k++) {
        float values[8] = {(float)i, (float)k};
        put_bytes(x, values, sizeof values);
    }
}

static void save_shards(const char *directory, const shard_fault *fault)
{
    for (int i = 0; i < SHARDS; i++) {
        char path[400];
        builder x = {0};
        bool wrong = fault && fault->shard == i;
        build_shard(&x, i, wrong ? fault->no : (uint64_t)i, wrong ? fault->count : SHARDS, wrong ? fault->tensors : 6);
        snprintf(path, sizeof path, "%s/%s", directory, shard_names[i]);
        assert_true(builder_save(&x, path));
        nb_buf_free(&x.b);
    }
}

static void expect_failure(const char *path, nb_status expected, const char *file, const char *says)
{
    nb_gguf *g;
    nb_error err = {0};
    nb_status status = nb_gguf_open(path, &g, &err);
    assert_null(g);
    if (status != expected || !strstr(err.message, file) || !strstr(err.message, says))
        fail_msg("expected '%s' of %s, got %d: %s", says, file, status, err.message);
}

static void open_shards(const char *path)
{
    nb_gguf *g;
    nb_error err = {0};
    if (nb_gguf_open(path, &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_gguf_shards(g), SHARDS);
    assert_int_equal(nb_gguf_tensor_count(g), 6);
    assert_string_equal(nb_gguf_path(g), path);
    expect_int(g, "only.in.the.first", NB_GGUF_U32, 11);
    size_t bytes = 0;
    for (int i = 0; i < SHARDS; i++)
        bytes += nb_gguf_map(g, i)->size;
    assert_int_equal(nb_gguf_file_bytes(g), bytes);
    for (int i = 0; i < SHARDS; i++)
        for (int k = 0; k <= i; k++) {
            char name[16];
            float values[2];
            snprintf(name, sizeof name, "s%d.%d", i, k);
            const nb_gguf_tensor *t = nb_gguf_find_tensor(g, nb_str_of(name));
            assert_non_null(t);
            assert_int_equal(t->shard, i);
            assert_ptr_equal(t->data, nb_gguf_map(g, i)->data + t->offset);
            memcpy(values, t->data, sizeof values);
            assert_true(values[0] == (float)i && values[1] == (float)k);
        }
    nb_gguf_close(g);
}

static void shards(void **state)
{
    (void)state;
    static const shard_fault faults[] = {
        {1, 2, 3, 6, "'split.no' is 2, but should be 1"},
        {0, 1, 3, 6, "'split.no' is 1, but should be 0"},
        {2, 2, 4, 6, "'split.count' is 4, but should be 3"},
        {0, 0, 2, 6, "'split.count' is 2, but should be 3"},
        {0, 0, 3, 7, "'split.tensors.count' is 7, but should be 6"},
        {2, 2, 3, 0, "'split.tensors.count' is 0, but should be 6"},
        {0, 0, 3, 0xffffffff, "'split.tensors.count' is -1, but should be 6"},
    };
    char *directory = temporary_directory(), path[400], other[400];
    assert_non_null(directory);
    save_shards(directory, NULL);
    for (int i = 0; i < SHARDS; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, shard_names[i]);
        open_shards(path);
    }
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        save_shards(directory, &faults[i]);
        expect_failure(path, NB_ERR_FORMAT, shard_names[faults[i].shard], faults[i].says);
        expect_failure(path, NB_ERR_FORMAT, "byte ", faults[i].says);
    }
    save_shards(directory, NULL);
    snprintf(other, sizeof other, "%s/renamed.gguf", directory);
    assert_int_equal(rename(path, other), 0);
    expect_failure(other, NB_ERR_FORMAT, "renamed.gguf: byte ", "one of 3 shards");
    snprintf(path, sizeof path, "%s/%s", directory, shard_names[0]);
    expect_failure(path, NB_ERR_NOT_FOUND, shard_names[2], "shard 3 of 3");
    unlink(other);
    unlink(path);
    snprintf(path, sizeof path, "%s/%s", directory, shard_names[1]);
    unlink(path);
    rmdir(directory);
}

static void shard_names_without_keys(void **state)
{
    (void)state;
    static const char *const names[] = {"m-00001-of-00001.gguf", "m-00002-of-00001.gguf", "m-00000-of-00002.gguf",
                                        "m-0001-of-00002.gguf",  "m-00001-of-0000a.gguf", "00001-of-00002.gguf",
                                        "m-00001-of-00002.ggu"};
    char *directory = temporary_directory(), path[400], second[400];
    builder x = {0};
    nb_gguf *g;
    assert_non_null(directory);
    put_header(&x, 3, 0, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        assert_true(builder_save(&x, path));
        assert_int_equal(nb_gguf_open(path, &g, NULL), NB_OK);
        nb_gguf_close(g);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/m-00001-of-00002.gguf", directory);
    snprintf(second, sizeof second, "%s/m-00002-of-00002.gguf", directory);
    assert_true(builder_save(&x, path) && builder_save(&x, second));
    expect_failure(second, NB_ERR_FORMAT, "m-00001-of-00002.gguf: byte 16: ", "'split.count' is missing");
    unlink(path);
    unlink(second);
    rmdir(directory);
    nb_buf_free(&x.b);
}

static void tensor_in_two_shards(void **state)
{
    (void)state;
    char *directory = temporary_directory(), path[400];
    assert_non_null(directory);
    for (uint16_t i = 0; i < 2; i++) {
        builder x = {0};
        put_header(&x, 3, 1, 3);
        put_key(&x, "split.no", 2);
        put_bytes(&x, &i, 2);
        put_key(&x, "split.count", 2);
        put_bytes(&x, "\2", 2);
        put_key_u32(&x, "split.tensors.count", 2);
        put_info(&x, "twice", 2, 0, NB_TYPE_F32, 0);
        put_data(&x, 32, 8);
        snprintf(path, sizeof path, "%s/d-%05d-of-00002.gguf", directory, i + 1);
        assert_true(builder_save(&x, path));
        nb_buf_free(&x.b);
    }
    expect_failure(path, NB_ERR_FORMAT, "d-00002-of-00002.gguf: byte ", "'twice' is there twice");
    unlink(path);
    snprintf(path, sizeof path, "%s/d-00001-of-00002.gguf", directory);
    unlink(path);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_of_gguf_py),
        cmocka_unit_test(wrong_reads),
        cmocka_unit_test(version_2),
        cmocka_unit_test(bare_header),
        cmocka_unit_test(alignments),
        cmocka_unit_test(odd_but_good),
        cmocka_unit_test(every_type),
        cmocka_unit_test(large_vocabulary),
        cmocka_unit_test(shards),
        cmocka_unit_test(shard_names_without_keys),
        cmocka_unit_test(tensor_in_two_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
