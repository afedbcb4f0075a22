/* Whole files: every tensor's bytes against gguf-py's (tests/data/convert: source.gguf and what gguf.quants makes of its
 * matrices), shards, metadata, importance, threads, and what must be refused. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "convert/quantize.h"
#include "format/gguf_write.h"
#include "support/folder.h"

#define SOURCE NB_TEST_DATA "/convert/source.gguf"

static nb_error err;

/* ---- helpers ---- */

static nb_source *open_source(const char *path)
{
    nb_source *s;
    if (nb_source_open_gguf(path, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

static nb_quantize_params params_of(const char *mix)
{
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(nb_str_of(mix));
    assert_non_null(p.mix);
    return p;
}

static nb_quantize_result quantize(const char *from, const char *to, const nb_quantize_params *p)
{
    nb_quantize_result result;
    nb_source *s = open_source(from);
    if (nb_quantize(s, to, p, NULL, NULL, &result, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_source_free(s);
    return result;
}

static void refused(const char *from, const char *to, const nb_quantize_params *p, nb_status status, const char *part)
{
    nb_source *s = open_source(from);
    if (nb_quantize(s, to, p, NULL, NULL, NULL, &err) != status)
        fail_msg("not refused (%s): %s", part, nb_mix_name(p->mix));
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
    nb_source_free(s);
}

static nb_buf file_bytes(const char *path)
{
    nb_buf b = {0};
    if (nb_file_read(path, 1 << 24, &b, &err) != NB_OK)
        fail_msg("%s", err.message);
    return b;
}

static nb_gguf *open_gguf(const char *path)
{
    nb_gguf *g;
    if (nb_gguf_open(path, &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    return g;
}

static const nb_gguf_tensor *tensor(const nb_gguf *g, const char *name)
{
    const nb_gguf_tensor *t = nb_gguf_find_tensor(g, nb_str_of(name));
    assert_non_null(t);
    return t;
}

static void empty_folder(void)
{
    DIR *d = opendir(nb_folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            unlink(nb_folder_path(e->d_name));
    closedir(d);
}

static size_t files_in_folder(void)
{
    size_t n = 0;
    DIR *d = opendir(nb_folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- bytes ---- */

static void as_gguf_py(void **state)
{
    (void)state;
    static const char *const types[] = {"f16", "bf16", "f32", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4"};
    static const char *const names[] = {"token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_down_exps.weight"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char data[256], *out = strdup(nb_folder_path("out.gguf"));
        const nb_type_info *type = nb_type_by_name(nb_str_of(types[i]));
        nb_quantize_params p = nb_quantize_defaults();
        p.mix = nb_mix_of_type(type);
        p.pure = true;
        p.rounding = NB_ROUND_NEAREST;
        nb_quantize_result result = quantize(SOURCE, out, &p);
        snprintf(data, sizeof data, "%s/convert/nearest-%s.bin", NB_TEST_DATA, types[i]);
        nb_buf want = file_bytes(data), whole = file_bytes(out);
        nb_gguf *g = open_gguf(out);
        size_t at = 0;
        for (size_t n = 0; n < 3; n++) {
            const nb_gguf_tensor *t = tensor(g, names[n]);
            assert_ptr_equal(t->type, type);
            assert_true(at + t->bytes <= want.len);
            assert_memory_equal(t->data, want.data + at, t->bytes);
            at += t->bytes;
        }
        assert_int_equal(at, want.len);
        assert_ptr_equal(tensor(g, "blk.0.attn_norm.weight")->type, nb_type_get(NB_TYPE_F32));
        assert_int_equal(result.file_bytes, whole.len);
        uint64_t file_type = 0;
        assert_int_equal(nb_gguf_get_u64(g, "general.file_type", &file_type, &err), NB_OK);
        assert_int_equal(file_type, nb_mix_file_type(p.mix));
        assert_int_equal(nb_gguf_get_u64(g, "general.quantization_version", &file_type, &err), NB_OK);
        assert_int_equal(file_type, 2);
        assert_non_null(nb_gguf_find(g, "tokenizer.ggml.tokens"));
        nb_gguf_close(g);
        nb_buf_free(&want);
        nb_buf_free(&whole);
        unlink(out);
        free(out);
    }
}

/* A larger source: [1024 x 300] F32, an expert stack [256 x 40 x 3] F16, a vector. `spoil` may change its values. */
static void make_source(const char *path, void (*spoil)(float *matrix, uint16_t *experts))
{
    static float matrix[300 * 1024], vector[1024];
    static uint16_t experts[3 * 40 * 256];
    nb_gguf_writer *w;
    for (size_t i = 0; i < 300 * 1024; i++)
        matrix[i] = (float)(int)(i * 2654435761u % 2000) / 1000.0f - 1.0f;
    for (size_t i = 0; i < 3 * 40 * 256; i++)
        experts[i] = (uint16_t)(i * 40503u % 0x3c00 | (i & 1) << 15);
    if (spoil)
        spoil(matrix, experts);
    assert_int_equal(nb_gguf_writer_open(path, 0, &w, &err), NB_OK);
    nb_gguf_put_str(w, "general.architecture", NB_STR("llama"));
    nb_gguf_put_u32(w, "llama.block_count", 1);
    nb_gguf_put_u32(w, "llama.attention.head_count", 8);
    nb_gguf_put_u64(w, "wide", 5);
    nb_gguf_put_tensor(w, NB_STR("blk.0.attn_q.weight"), nb_type_get(NB_TYPE_F32), 2, (uint64_t[]){1024, 300});
    nb_gguf_put_tensor(w, NB_STR("blk.0.attn_norm.weight"), nb_type_get(NB_TYPE_F32), 1, (uint64_t[]){1024});
    nb_gguf_put_tensor(w, NB_STR("blk.0.ffn_up_exps.weight"), nb_type_get(NB_TYPE_F16), 3, (uint64_t[]){256, 40, 3});
    nb_gguf_writer_data(w, matrix, sizeof matrix, &err);
    nb_gguf_writer_data(w, vector, sizeof vector, &err);
    nb_gguf_writer_data(w, experts, sizeof experts, &err);
    if (nb_gguf_writer_commit(w, &err) != NB_OK)
        fail_msg("%s", err.message);
}

static void same_for_any_threads(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("in.gguf")), *one = strdup(nb_folder_path("one.gguf")),
         *many = strdup(nb_folder_path("many.gguf"));
    make_source(in, NULL);
    static const char *const mixes[] = {"Q8_0", "Q4_K_M", "IQ4_XS", "F16"};
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        nb_quantize_params p = params_of(mixes[i]);
        p.threads = 1;
        quantize(in, one, &p);
        p.threads = 7;
        quantize(in, many, &p);
        nb_buf a = file_bytes(one), b = file_bytes(many);
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.data, b.data, a.len);
        nb_buf_free(&a);
        nb_buf_free(&b);
    }
    empty_folder();
    free(in);
    free(one);
    free(many);
}

/* Each row is quantized with the weights of its own expert, and without an entry as if there were no matrix. */
static void importance(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("in.gguf")), *out = strdup(nb_folder_path("out.gguf"));
    const nb_type_info *type = nb_type_get(NB_TYPE_Q4_K);
    nb_imatrix *m;
    nb_imatrix_entry *e;
    static float x[1024], weight[256];
    static unsigned char row[1024];
    make_source(in, NULL);
    assert_int_equal(nb_imatrix_new(&m, &err), NB_OK);
    assert_int_equal(nb_imatrix_add(m, NB_STR("blk.0.ffn_up_exps.weight"), 256, 3, &e, &err), NB_OK);
    for (size_t i = 0; i < 3 * 256; i++)
        e->sum[i] = (float)(i % 256 < 128) * (float)(i / 256 + 1) * 50 + (float)(i % 7) + 0.01f;
    e->count[0] = 1;
    e->count[1] = 2; /* the third one was never chosen */
    nb_imatrix_set_origin(m, NB_STR("text.txt"), 3, 512);
    nb_quantize_params p = params_of("Q4_K_S");
    p.imatrix = m;
    p.imatrix_name = "some.gguf";
    quantize(in, out, &p);
    nb_gguf *from = open_gguf(in), *to = open_gguf(out);
    const nb_gguf_tensor *a = tensor(from, "blk.0.ffn_up_exps.weight"), *b = tensor(to, "blk.0.ffn_up_exps.weight");
    size_t changed = 0;
    for (size_t r = 0; r < 120; r++) {
        a->type->dequantize((const uint16_t *)a->data + r * 256, x, 256);
        nb_imatrix_weights(e, r / 40, weight);
        type->quantize(x, weight, 256, NB_ROUND_SEARCH, row);
        assert_memory_equal(row, (const unsigned char *)b->data + r * 144, 144);
        type->quantize(x, NULL, 256, NB_ROUND_SEARCH, row);
        changed += memcmp(row, (const unsigned char *)b->data + r * 144, 144) != 0;
    }
    assert_true(changed > 60);
    a = tensor(from, "blk.0.attn_q.weight");
    b = tensor(to, "blk.0.attn_q.weight");
    for (size_t r = 0; r < 300; r++) {
        type->quantize((const float *)a->data + r * 1024, NULL, 1024, NB_ROUND_SEARCH, row);
        assert_memory_equal(row, (const unsigned char *)b->data + r * 576, 576);
    }
    nb_str s;
    uint64_t n;
    assert_int_equal(nb_gguf_get_str(to, "quantize.imatrix.file", &s, &err), NB_OK);
    assert_true(nb_str_eqz(s, "some.gguf"));
    assert_int_equal(nb_gguf_get_str(to, "quantize.imatrix.dataset", &s, &err), NB_OK);
    assert_true(nb_str_eqz(s, "text.txt"));
    assert_int_equal(nb_gguf_get_u64(to, "quantize.imatrix.entries_count", &n, &err), NB_OK);
    assert_int_equal(n, 1);
    assert_int_equal(nb_gguf_get_u64(to, "quantize.imatrix.chunks_count", &n, &err), NB_OK);
    assert_int_equal(n, 3);
    nb_gguf_close(from);
    nb_gguf_close(to);
    p.mix = nb_mix_by_name(NB_STR("IQ2_XS")); /* needs an entry that is not there */
    refused(in, out, &p, NB_ERR_ARGUMENT, "IQ2_XS of tensor 'blk.0.attn_q.weight' would be poor without");
    p.imatrix = NULL;
    refused(in, out, &p, NB_ERR_ARGUMENT, "make one with 'nibble imatrix");
    p.dry_run = true;
    nb_quantize_result result;
    const nb_type_info *types[3];
    nb_source *source = open_source(in);
    assert_int_equal(nb_quantize_plan(source, &p, types, &result, &err), NB_OK);
    assert_true(result.needs_imatrix);
    nb_source_free(source);
    assert_int_equal(nb_imatrix_add(m, NB_STR("blk.0.attn_q.weight"), 512, 1, &e, &err), NB_OK);
    p = params_of("Q4_K_S");
    p.imatrix = m;
    refused(in, out, &p, NB_ERR_FORMAT, "it is of another model");
    nb_imatrix_free(m);
    empty_folder();
    free(in);
    free(out);
}

/* ---- refused ---- */

static void not_finite_f32(float *matrix, uint16_t *experts)
{
    (void)experts;
    matrix[299 * 1024 + 17] = (float)INFINITY;
    matrix[123 * 1024 + 1000] = (float)NAN;
}

static void not_finite_f16(float *matrix, uint16_t *experts)
{
    (void)matrix;
    experts[85 * 256 + 3] = 0x7c00;
}

static void too_large(float *matrix, uint16_t *experts)
{
    (void)experts;
    matrix[7 * 1024] = 70000;
}

static void bad_values(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("in.gguf")), *out = strdup(nb_folder_path("out.gguf"));
    static const char *const mixes[] = {"Q8_0", "F16", "Q4_K_M", "F32"}; /* F32: the matrix is only copied */
    for (size_t i = 0; i < 4; i++)
        for (int threads = 1; threads <= 6; threads += 5) {
            nb_quantize_params p = params_of(mixes[i]);
            p.threads = threads;
            make_source(in, not_finite_f32);
            refused(in, out, &p, NB_ERR_FORMAT, "'blk.0.attn_q.weight' has nan at row 123, column 1000");
            make_source(in, not_finite_f16);
            refused(in, out, &p, NB_ERR_FORMAT, "'blk.0.ffn_up_exps.weight' has inf at row 85, column 3");
            assert_int_equal(files_in_folder(), 1);
        }
    nb_quantize_params p = params_of("F16");
    make_source(in, too_large);
    refused(in, out, &p, NB_ERR_FORMAT, "row 7: values are too large for F16");
    p = params_of("BF16");
    quantize(in, out, &p);
    empty_folder();
    free(in);
    free(out);
}

static int cancel(void *user, nb_str name, uint64_t done, uint64_t all)
{
    (void)user;
    assert_true(name.n > 0 && done > 0 && done <= all);
    return 1;
}

static void refusals(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("in.gguf")), *out = strdup(nb_folder_path("out.gguf"));
    make_source(in, NULL);
    nb_quantize_params p = params_of("Q8_0");
    refused(in, in, &p, NB_ERR_ARGUMENT, "is what is read");
    refused(in, nb_folder, &p, NB_ERR_IO, "is not a regular file");
    refused(in, nb_folder_path("no/such/folder.gguf"), &p, NB_ERR_IO, "cannot write beside it");
    quantize(in, out, &p);
    char *again = strdup(nb_folder_path("again.gguf"));
    p = params_of("Q4_0");
    refused(out, again, &p, NB_ERR_ARGUMENT, "is quantized already (Q8_0)");
    p.allow_requantize = true;
    quantize(out, again, &p);
    p = params_of("Q4_0");
    p.output_type = nb_type_get(NB_TYPE_Q8_K);
    p.patterns = &(nb_type_pattern){"attn_q", nb_type_get(NB_TYPE_Q8_K)};
    p.pattern_count = 1;
    refused(in, again, &p, NB_ERR_UNSUPPORTED, "'blk.0.attn_q.weight' cannot be made Q8_K");
    p.patterns = &(nb_type_pattern){"attn_(q", nb_type_get(NB_TYPE_F16)};
    refused(in, again, &p, NB_ERR_ARGUMENT, "the tensor pattern 'attn_(q': missing closing parenthesis");
    p.patterns = &(nb_type_pattern){"^(a|aa|(.+)+)+$x", nb_type_get(NB_TYPE_F16)};
    refused(in, again, &p, NB_ERR_ARGUMENT, "match limit exceeded");
    p = (nb_quantize_params){0};
    refused(in, again, &p, NB_ERR_ARGUMENT, "no type is given");
    p = params_of("Q4_0");
    unlink(again);
    nb_source *s = open_source(in);
    assert_int_equal(nb_quantize(s, again, &p, cancel, NULL, NULL, &err), NB_ERR_CANCELLED);
    nb_source_free(s);
    assert_int_equal(files_in_folder(), 2);
    empty_folder();
    free(in);
    free(out);
    free(again);
}

/* ---- metadata and types ---- */

static void overrides(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("in.gguf")), *out = strdup(nb_folder_path("out.gguf"));
    static const char *const set[] = {
        "wide=int:70000",      "llama.block_count=int:-3", "new.int=int:-7",
        "new.float=float:0.5", "new.bool=bool:true",       "general.name=str:a=b:c",
        "new.u8=u8:255",       "new.f64=f64:0.1",          "new.big=int:18446744073709551615"};
    make_source(in, NULL);
    nb_quantize_params p = params_of("COPY");
    p.override_kv = set;
    p.override_count = sizeof set / sizeof *set;
    quantize(in, out, &p);
    nb_gguf *g = open_gguf(out);
    static const struct {
        const char *key;
        nb_gguf_kind kind;
    } kinds[] = {{"wide", NB_GGUF_U64},      {"llama.block_count", NB_GGUF_I32}, {"new.int", NB_GGUF_I32},
                 {"new.float", NB_GGUF_F32}, {"new.bool", NB_GGUF_BOOL},         {"general.name", NB_GGUF_STRING},
                 {"new.u8", NB_GGUF_U8},     {"new.f64", NB_GGUF_F64},           {"new.big", NB_GGUF_U64}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const nb_gguf_value *v = nb_gguf_find(g, kinds[i].key);
        assert_non_null(v);
        assert_int_equal(v->kind, kinds[i].kind);
    }
    int64_t n = 0;
    double d = 0;
    nb_str s;
    assert_int_equal(nb_gguf_get_i64(g, "llama.block_count", &n, &err), NB_OK);
    assert_int_equal(n, -3);
    assert_int_equal(nb_gguf_get_i64(g, "wide", &n, &err), NB_OK);
    assert_int_equal(n, 70000);
    assert_int_equal(nb_gguf_get_f64(g, "new.f64", &d, &err), NB_OK);
    assert_true(d == 0.1);
    assert_int_equal(nb_gguf_get_str(g, "general.name", &s, &err), NB_OK);
    assert_true(nb_str_eqz(s, "a=b:c"));
    assert_null(nb_gguf_find(g, "general.file_type")); /* a copy says nothing new */
    nb_gguf_close(g);
    static const char *const bad[] = {"key",          "key=5",
                                      "=int:5",       "key=u9:5",
                                      "key=u8:256",   "key=u8:-1",
                                      "key=i8:-129",  "key=int:five",
                                      "key=int:5 ",   "key=int:",
                                      "key=bool:yes", "key=float:.x",
                                      "k\ney=int:1",  "key=int:99999999999999999999"};
    p.override_count = 1;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        p.override_kv = &bad[i];
        refused(in, out, &p, NB_ERR_ARGUMENT, bad[i]);
    }
    empty_folder();
    free(in);
    free(out);
}

static void patterns(void **state)
{
    (void)state;
    char *out = strdup(nb_folder_path("out.gguf"));
    nb_type_pattern list[] = {{"exps", nb_type_get(NB_TYPE_Q5_1)},
                              {"blk\\.0\\.(attn|ffn)_", nb_type_get(NB_TYPE_Q4_K)},
                              {"attn_q", nb_type_get(NB_TYPE_Q2_K)}};
    nb_quantize_params p = params_of("Q8_0");
    p.patterns = list;
    p.pattern_count = 3;
    quantize(SOURCE, out, &p);
    nb_gguf *g = open_gguf(out);
    assert_string_equal(tensor(g, "blk.0.ffn_down_exps.weight")->type->name, "Q5_1");
    assert_string_equal(tensor(g, "blk.0.attn_q.weight")->type->name, "Q4_K");
    assert_string_equal(tensor(g, "token_embd.weight")->type->name, "Q8_0");
    assert_string_equal(tensor(g, "blk.0.attn_norm.weight")->type->name, "F32");
    nb_gguf_close(g);
    unlink(out);
    free(out);
}

/* ---- shards ---- */

static void assert_same_model(const char *a, const char *b)
{
    nb_gguf *x = open_gguf(a), *y = open_gguf(b);
    assert_int_equal(nb_gguf_tensor_count(x), nb_gguf_tensor_count(y));
    for (size_t i = 0; i < nb_gguf_tensor_count(x); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(x, i), *u = nb_gguf_find_tensor(y, t->name);
        assert_non_null(u);
        assert_ptr_equal(t->type, u->type);
        assert_memory_equal(t->dims, u->dims, sizeof t->dims);
        assert_memory_equal(t->data, u->data, t->bytes);
    }
    nb_gguf_close(x);
    nb_gguf_close(y);
}

static void shards(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("in.gguf")), *out = strdup(nb_folder_path("out.gguf")),
         *first = strdup(nb_folder_path("out-00001-of-00002.gguf")), *merged = strdup(nb_folder_path("merged.gguf")),
         *kept = strdup(nb_folder_path("kept.gguf")), *kept_first = strdup(nb_folder_path("kept-00001-of-00002.gguf"));
    struct stat a, b;
    make_source(in, NULL);
    nb_quantize_params p = params_of("COPY");
    p.split_bytes = 1250000;
    nb_quantize_result result = quantize(in, out, &p);
    assert_int_equal(result.files, 2);
    assert_int_equal(stat(first, &a), 0);
    assert_int_equal(stat(nb_folder_path("out-00002-of-00002.gguf"), &b), 0);
    assert_int_equal(result.file_bytes, a.st_size + b.st_size);
    assert_true(a.st_size <= 1250000 && b.st_size <= 1250000);
    assert_same_model(in, first);
    nb_gguf *g = open_gguf(first);
    assert_int_equal(nb_gguf_shards(g), 2);
    assert_int_equal(nb_gguf_find(g, "split.count")->kind, NB_GGUF_U16);
    assert_int_equal(nb_gguf_find(g, "split.tensors.count")->kind, NB_GGUF_I32);
    nb_gguf_close(g);

    p = params_of("COPY");
    assert_int_equal(quantize(first, merged, &p).files, 1);
    nb_buf whole = file_bytes(in), again = file_bytes(merged); /* a split that is merged is what it was, to the byte */
    assert_int_equal(whole.len, again.len);
    assert_memory_equal(whole.data, again.data, whole.len);
    nb_buf_free(&whole);
    nb_buf_free(&again);

    p = params_of("Q8_0");
    p.keep_split = true;
    assert_int_equal(quantize(first, kept, &p).files, 2);
    p.keep_split = false;
    quantize(in, merged, &p);
    assert_same_model(kept_first, merged);
    p.split_bytes = 1;
    assert_int_equal(quantize(in, nb_folder_path("many.gguf"), &p).files, 3); /* a tensor each */
    p = params_of("COPY");
    p.keep_split = true;
    refused(first, out, &p, NB_ERR_ARGUMENT, "out-00001-of-00002.gguf: is what is read");
    empty_folder();
    free(in);
    free(out);
    free(first);
    free(merged);
    free(kept);
    free(kept_first);
}

/* ---- memory ---- */

static void in_memory(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("in.gguf")), *out = strdup(nb_folder_path("out.gguf"));
    make_source(in, NULL);
    nb_quantize_params p = params_of("Q4_K_M");
    quantize(in, out, &p);
    nb_source *s = open_source(in);
    const void *norm = nb_source_find_tensor(s, NB_STR("blk.0.attn_norm.weight"))->data;
    nb_gguf *g, *f = open_gguf(out);
    if (nb_quantize_to_memory(s, &p, &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_gguf_tensor_count(g), nb_gguf_tensor_count(f));
    for (size_t i = 0; i < nb_gguf_tensor_count(f); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(f, i), *u = nb_gguf_find_tensor(g, t->name);
        assert_non_null(u);
        assert_ptr_equal(t->type, u->type);
        assert_int_equal(t->bytes, u->bytes);
        assert_memory_equal(t->data, u->data, t->bytes);
    }
    assert_ptr_equal(tensor(g, "blk.0.attn_norm.weight")->data, norm); /* lies where it lay */
    assert_int_equal(nb_gguf_value_count(g), nb_gguf_value_count(f));
    for (size_t i = 0; i < nb_gguf_value_count(f); i++) {
        const nb_gguf_value *v = nb_gguf_value_at(f, i), *u = nb_gguf_value_at(g, i);
        assert_true(nb_str_eq(v->key, u->key) && v->kind == u->kind && v->bytes == u->bytes);
        assert_memory_equal(v->data, u->data, v->bytes);
        char key[64];
        snprintf(key, sizeof key, "%.*s", NB_STR_ARG(v->key));
        assert_ptr_equal(nb_gguf_find(g, key), u);
    }
    nb_gguf_close(f);
    nb_gguf_close(g);
    make_source(in, not_finite_f32);
    assert_int_equal(nb_quantize_to_memory(open_source(in), &p, &g, &err), NB_ERR_FORMAT);
    assert_null(g);
    empty_folder();
    free(in);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_gguf_py), cmocka_unit_test(same_for_any_threads),
        cmocka_unit_test(importance), cmocka_unit_test(bad_values),
        cmocka_unit_test(refusals),   cmocka_unit_test(overrides),
        cmocka_unit_test(patterns),   cmocka_unit_test(shards),
        cmocka_unit_test(in_memory),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
