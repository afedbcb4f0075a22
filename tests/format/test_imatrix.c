/* Importance matrices: files of llama-imatrix in both forms, round trips, merging, and files that lie. imatrix.gguf and
 * imatrix.dat are llama-imatrix's of one run (archs/llama-2-mha.gguf, 4 chunks of 32 tokens, --process-output). */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "../../fuzz/fuzz_imatrix.c"
#include "base/file.h"
#include "format/gguf_write.h"
#include "num/half.h"
#include "support/allocations.h"
#include "support/corpus.h"
#include "support/folder.h"

#define GGUF NB_TEST_DATA "/format/imatrix.gguf"
#define BINARY NB_TEST_DATA "/format/imatrix.dat"

static nb_imatrix *open_file(const char *path)
{
    nb_imatrix *m;
    nb_error err = {0};
    if (nb_imatrix_open(path, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    return m;
}

static nb_buf read_file(const char *path)
{
    nb_buf b = {0};
    assert_int_equal(nb_file_read(path, 1 << 20, &b, NULL), NB_OK);
    return b;
}

/* ---- what llama-imatrix wrote ---- */

static void reads_gguf(void **state)
{
    (void)state;
    float weight[64];
    nb_imatrix *m = open_file(GGUF);
    assert_int_equal(nb_imatrix_count(m), 22);
    assert_int_equal(nb_imatrix_chunks(m), 4);
    assert_int_equal(nb_imatrix_chunk_tokens(m), 32);
    assert_int_equal(nb_imatrix_texts(m), 1);
    assert_true(nb_str_eqz(nb_imatrix_text(m, 0), "text.txt"));
    const nb_imatrix_entry *e = nb_imatrix_find(m, NB_STR("blk.0.attn_k.weight"));
    assert_true(e && e->columns == 64 && e->matrices == 1 && e->count[0] == 128);
    assert_true(e->sum[0] == 58.6737174987793F && e->sum[1] == 88.80992126464844F); /* as gguf-py reads them */
    nb_imatrix_weights(e, 0, weight);
    assert_true(weight[1] == 88.80992126464844F / 128);
    assert_int_equal(nb_imatrix_find(m, NB_STR("blk.2.ffn_down.weight"))->columns, 176);
    assert_non_null(nb_imatrix_find(m, NB_STR("output.weight")));
    assert_null(nb_imatrix_find(m, NB_STR("output.weigh")));
    assert_null(nb_imatrix_find(m, NB_STR("token_embd.weight")));
    nb_imatrix_free(m);
    nb_imatrix_free(NULL);
}

/* the means of the two forms are the same */
static void reads_binary(void **state)
{
    (void)state;
    float a[176], b[176];
    nb_imatrix *m = open_file(BINARY), *other = open_file(GGUF);
    assert_int_equal(nb_imatrix_count(m), 22);
    assert_int_equal(nb_imatrix_chunks(m), 4);
    assert_int_equal(nb_imatrix_chunk_tokens(m), 0);
    assert_true(nb_str_eqz(nb_imatrix_text(m, 0), "text.txt"));
    for (size_t i = 0; i < 22; i++) {
        const nb_imatrix_entry *e = nb_imatrix_at(m, i), *o = nb_imatrix_at(other, i);
        assert_true(nb_str_eq(e->name, o->name) && e->columns == o->columns);
        nb_imatrix_weights(e, 0, a);
        nb_imatrix_weights(o, 0, b);
        for (size_t j = 0; j < e->columns; j++)
            assert_true(fabsf(a[j] - b[j]) <= 1e-6F * b[j]);
    }
    nb_imatrix_free(m);
    nb_imatrix_free(other);
}

static void write_to(const nb_imatrix *m, const char *path, nb_imatrix_form form)
{
    nb_error err = {0};
    if (nb_imatrix_write(m, path, form, &err) != NB_OK)
        fail_msg("%s", err.message);
}

/* the older form of what the GGUF file says is llama-imatrix's own, byte for byte */
static void writes_binary(void **state)
{
    (void)state;
    nb_imatrix *m = open_file(GGUF);
    write_to(m, nb_folder_path("out.dat"), NB_IMATRIX_BINARY);
    nb_buf ours = read_file(nb_folder_path("out.dat")), theirs = read_file(BINARY);
    assert_int_equal(ours.len, theirs.len);
    assert_memory_equal(ours.data, theirs.data, theirs.len);
    unlink(nb_folder_path("out.dat"));
    nb_buf_free(&ours);
    nb_buf_free(&theirs);
    nb_imatrix_free(m);
}

static void writes_gguf(void **state)
{
    (void)state;
    nb_imatrix *m = open_file(GGUF);
    write_to(m, nb_folder_path("out.gguf"), NB_IMATRIX_GGUF);
    nb_imatrix *again = open_file(nb_folder_path("out.gguf"));
    assert_int_equal(nb_imatrix_count(again), 22);
    assert_int_equal(nb_imatrix_chunks(again), 4);
    assert_int_equal(nb_imatrix_chunk_tokens(again), 32);
    assert_true(nb_str_eqz(nb_imatrix_text(again, 0), "text.txt"));
    for (size_t i = 0; i < 22; i++) {
        const nb_imatrix_entry *e = nb_imatrix_at(m, i), *o = nb_imatrix_at(again, i);
        assert_true(nb_str_eq(e->name, o->name) && e->columns == o->columns && e->count[0] == o->count[0]);
        assert_memory_equal(e->sum, o->sum, e->columns * sizeof *e->sum);
    }
    unlink(nb_folder_path("out.gguf"));
    nb_imatrix_free(m);
    nb_imatrix_free(again);
}

/* ---- merging, experts ---- */

static void merges(void **state)
{
    (void)state;
    nb_imatrix *all, *gguf = open_file(GGUF), *binary = open_file(BINARY);
    nb_error err = {0};
    assert_int_equal(nb_imatrix_new(&all, &err), NB_OK);
    assert_int_equal(nb_imatrix_merge(all, gguf, 32, &err), NB_OK);
    assert_int_equal(nb_imatrix_merge(all, binary, 32, &err), NB_OK); /* 4 chunks of 32: as many tokens again */
    const nb_imatrix_entry *e = nb_imatrix_find(all, NB_STR("blk.1.attn_v.weight"));
    const nb_imatrix_entry *o = nb_imatrix_find(gguf, NB_STR("blk.1.attn_v.weight"));
    assert_true(e->count[0] == 256);
    for (size_t i = 0; i < 64; i++)
        assert_true(fabsf(e->sum[i] - 2 * o->sum[i]) <= 2e-6F * o->sum[i]);
    assert_int_equal(nb_imatrix_chunks(all), 8);
    assert_int_equal(nb_imatrix_chunk_tokens(all), 32);
    assert_int_equal(nb_imatrix_texts(all), 2);
    nb_imatrix_free(all);
    nb_imatrix_free(gguf);
    nb_imatrix_free(binary);
}

static nb_imatrix *one_entry(size_t columns, size_t matrices, float sum, float count)
{
    nb_imatrix *m;
    nb_imatrix_entry *e;
    assert_int_equal(nb_imatrix_new(&m, NULL), NB_OK);
    assert_int_equal(nb_imatrix_add(m, NB_STR("x"), columns, matrices, &e, NULL), NB_OK);
    assert_true(e->sum[columns * matrices - 1] == 0 && e->count[matrices - 1] == 0);
    for (size_t i = 0; i < columns * matrices; i++)
        e->sum[i] = sum * (float)(i + 1);
    for (size_t i = 0; i < matrices; i++)
        e->count[i] = count * (float)i;
    nb_imatrix_set_origin(m, NB_STR("t"), 1, 8);
    return m;
}

static void experts(void **state)
{
    (void)state;
    float w[4], v[4];
    nb_error err = {0};
    nb_imatrix *m = one_entry(4, 3, 2, 8);
    const nb_imatrix_entry *e = nb_imatrix_at(m, 0);
    nb_imatrix_weights(e, 0, w); /* no token reached the first */
    assert_true(w[0] == 1 && w[3] == 1);
    nb_imatrix_weights(e, 2, w);
    assert_true(w[0] == 18.0F / 16 && w[3] == 24.0F / 16);
    assert_true(nb_imatrix_weights_of(e, 4, 3, 2, v));
    assert_memory_equal(v, w, sizeof v);
    assert_false(nb_imatrix_weights_of(e, 3, 4, 0, v));
    assert_false(nb_imatrix_weights_of(e, 4, 3, 3, v));
    /* the older form does not say that there are three: it is asked for them */
    write_to(m, nb_folder_path("x.dat"), NB_IMATRIX_BINARY);
    nb_imatrix *old = open_file(nb_folder_path("x.dat"));
    assert_true(nb_imatrix_at(old, 0)->columns == 12 && nb_imatrix_at(old, 0)->matrices == 1);
    assert_true(nb_imatrix_weights_of(nb_imatrix_at(old, 0), 4, 3, 2, v));
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(v[i] - w[i]) < 1e-6F);
    assert_true(nb_imatrix_weights_of(nb_imatrix_at(old, 0), 4, 3, 0, v) && v[0] == 1);
    /* and takes the shape of what it is merged with */
    assert_int_equal(nb_imatrix_merge(old, m, 8, &err), NB_OK);
    assert_int_equal(nb_imatrix_at(old, 0)->matrices, 3);
    nb_imatrix *other = one_entry(5, 1, 1, 1);
    assert_int_equal(nb_imatrix_merge(old, other, 8, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "not of the same model"));
    unlink(nb_folder_path("x.dat"));
    nb_imatrix_free(m);
    nb_imatrix_free(old);
    nb_imatrix_free(other);
}

static void refuses_entries(void **state)
{
    (void)state;
    nb_error err = {0};
    nb_imatrix_entry *e;
    nb_imatrix *m = one_entry(4, 1, 1, 1);
    assert_int_equal(nb_imatrix_add(m, NB_STR("x"), 4, 1, &e, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "two entries"));
    assert_int_equal(nb_imatrix_add(m, NB_STR("y"), 0, 1, &e, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_imatrix_add(m, NB_STR(""), 1, 1, &e, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_imatrix_add(m, NB_STR("y"), SIZE_MAX, 2, &e, &err), NB_ERR_ARGUMENT);
#ifndef NB_SANITIZED /* the sanitizer ends a program that asks for so much */
    assert_int_equal(nb_imatrix_add(m, NB_STR("y"), SIZE_MAX / 16, 2, &e, &err), NB_ERR_MEMORY);
#endif
    assert_int_equal(nb_imatrix_count(m), 1);
    nb_imatrix_free(m);
}

/* ---- files that lie ---- */

static void refused(const void *bytes, size_t size, const char *reason)
{
    nb_imatrix *m;
    nb_error err = {0};
    if (nb_imatrix_open_memory("bad", bytes, size, &m, &err) == NB_OK)
        fail_msg("%zu bytes were taken", size);
    assert_null(m);
    assert_non_null(strstr(err.message, "bad"));
    if (reason && !strstr(err.message, reason))
        fail_msg("'%s' is not in: %s", reason, err.message);
}

/* every shorter file is refused, but for the older form that ends before its last two fields */
static void truncated(void **state)
{
    (void)state;
    nb_buf b = read_file(BINARY), g = read_file(GGUF);
    size_t entries_end = b.len - 8 - strlen("text.txt");
    for (size_t n = 0; n < b.len; n++)
        if (n != entries_end && n != entries_end + 4)
            refused(b.data, n, NULL);
    for (size_t n = 0; n < g.len - 28; n++) /* the last tensor ends 28 bytes of padding before the file does */
        refused(g.data, n, NULL);
    nb_buf_char(&b, 'x');
    refused(b.data, b.len, "9 are left");
    nb_buf_free(&b);
    nb_buf_free(&g);
}

static void lies(void **state)
{
    (void)state;
    struct {
        int32_t entries, length;
        char name[4];
        int32_t calls, values;
        float x[2];
    } file = {1, 4, "name", 3, 2, {1, 2}}, bad;
    nb_imatrix *m;
    assert_int_equal(nb_imatrix_open_memory("good", &file, sizeof file, &m, NULL), NB_OK);
    nb_imatrix_free(m);
    bad = file;
    bad.entries = 0;
    refused(&bad, sizeof bad, "number of entries is 0");
    bad = file;
    bad.entries = 2;
    refused(&bad, sizeof bad, "length of a name");
    bad = file;
    bad.entries = INT32_MIN;
    refused(&bad, sizeof bad, "number of entries");
    bad = file;
    bad.length = 1000;
    refused(&bad, sizeof bad, "length of a name is 1000");
    bad = file;
    bad.name[1] = '\n';
    refused(&bad, sizeof bad, "name");
    bad = file;
    bad.calls = -1;
    refused(&bad, sizeof bad, "calls is -1");
    bad = file;
    bad.values = INT32_MAX;
    refused(&bad, sizeof bad, "values of 'name'");
    bad = file;
    bad.x[1] = NAN;
    refused(&bad, sizeof bad, "sum 1");
    bad = file;
    bad.x[0] = -1;
    refused(&bad, sizeof bad, "sum 0 is -1");
    bad = file;
    bad.x[0] = INFINITY;
    refused(&bad, sizeof bad, "sum 0 is inf");
}

static void not_a_matrix(void **state)
{
    (void)state;
    nb_buf b = read_file(NB_TEST_DATA "/types/Q4_0.gguf");
    refused(b.data, b.len, "not an importance matrix");
    nb_buf_free(&b);
    b = read_file(NB_TEST_DATA "/../../fuzz/corpus/imatrix/no_counts.gguf");
    refused(b.data, b.len, "no '.counts' beside it");
    nb_buf_free(&b);
    b = read_file(NB_TEST_DATA "/../../fuzz/corpus/imatrix/odd.gguf");
    refused(b.data, b.len, "do not divide");
    nb_buf_free(&b);
    b = read_file(NB_TEST_DATA "/../../fuzz/corpus/imatrix/bare.gguf");
    refused(b.data, b.len, "count 0 is -1");
    nb_buf_free(&b);
    b = read_file(NB_TEST_DATA "/../../fuzz/corpus/imatrix/nothing.gguf");
    refused(b.data, b.len, "no entries");
    nb_buf_free(&b);
}

static void corpus(void **state)
{
    (void)state;
    nb_corpus_replay("imatrix", 12);
}

/* ---- memory that runs out ---- */

static nb_status read_and_write(const char *path, const char *out, nb_imatrix_form form, nb_error *err)
{
    nb_imatrix *m, *all = NULL;
    nb_status status = nb_imatrix_open(path, &m, err);
    if (status == NB_OK)
        status = nb_imatrix_new(&all, err);
    if (status == NB_OK)
        status = nb_imatrix_merge(all, m, 32, err);
    if (status == NB_OK)
        status = nb_imatrix_write(all, out, form, err);
    nb_imatrix_free(m);
    nb_imatrix_free(all);
    return status;
}

static void out_of_memory(void **state)
{
    (void)state;
    const char *paths[] = {GGUF, BINARY};
    const nb_imatrix_form forms[] = {NB_IMATRIX_GGUF, NB_IMATRIX_BINARY};
    char out[400];
    snprintf(out, sizeof out, "%s", nb_folder_path("out"));
#ifndef NB_SANITIZED
    for (int form = 0; form < 2; form++) {
        nb_status status = NB_ERR_MEMORY;
        long live = nb_allocations.live, n = 0;
        while (status != NB_OK && n < 2000) {
            nb_error err = {0};
            nb_allocations.count = 0;
            nb_allocations.fail_at = ++n;
            status = read_and_write(paths[form], out, forms[form], &err);
            nb_allocations.fail_at = 0;
            if (status != NB_OK && (status != NB_ERR_MEMORY || !err.message[0]))
                fail_msg("allocation %ld: %s", n, err.message);
            if (status != NB_OK)
                assert_int_equal(access(out, F_OK), -1);
            assert_int_equal(nb_allocations.live, live);
        }
        assert_true(status == NB_OK && n > 5);
        unlink(out);
    }
#else
    for (int form = 0; form < 2; form++) {
        assert_int_equal(read_and_write(paths[form], out, forms[form], NULL), NB_OK);
        unlink(out);
    }
#endif
}

/* ---- second moments ---- */

/* Two entries that share moments in two blocks, one with its own, one without. */
static nb_imatrix *with_moments(float scale)
{
    nb_imatrix *m;
    nb_imatrix_entry *e[4];
    uint16_t *c;
    assert_int_equal(nb_imatrix_new(&m, NULL), NB_OK);
    for (int i = 0; i < 4; i++) {
        const char name[] = {(char)('a' + i), 0};
        assert_int_equal(nb_imatrix_add(m, nb_str_of(name), i < 2 ? 96 : 32, 1, &e[i], NULL), NB_OK);
        for (size_t j = 0; j < e[i]->columns; j++)
            e[i]->sum[j] = scale * (float)(j + 1);
        e[i]->count[0] = scale * 100;
    }
    for (int i = 1; i < 3; i++) {
        assert_int_equal(nb_imatrix_add_moments(e[i], i == 1 ? 64 : 32, &c, NULL), NB_OK);
        for (size_t k = 0, n = nb_moments_values(e[i]->columns, e[i]->moments->block); k < n; k++)
            c[k] = nb_f32_to_f16(scale * (float)(k % 101) / 200);
    }
    assert_int_equal(nb_imatrix_share_moments(e[0], e[1], NULL), NB_OK);
    nb_imatrix_set_origin(m, NB_STR("t"), 1, 100);
    return m;
}

static void moments_round_trip(void **state)
{
    nb_imatrix *m = with_moments(1), *back;
    (void)state;
    assert_int_equal(nb_moments_block(1536, 2048), 1536);
    assert_int_equal(nb_moments_block(8960, 2048), 1792);
    assert_int_equal(nb_moments_block(576, 256), 192);
    assert_int_equal(nb_moments_block(4864, 1024), 1024);
    assert_int_equal(nb_moments_block(100, 1024), 0);
    assert_int_equal(nb_moments_values(96, 64), 64 * 65 / 2 + 32 * 33 / 2);
    write_to(m, nb_folder_path("moments.gguf"), NB_IMATRIX_GGUF);
    nb_imatrix_free(m);
    nb_buf bytes = read_file(nb_folder_path("moments.gguf"));
    for (int copied = 0; copied < 2; copied++) { /* from the mapped file, and from memory that goes away */
        if (copied) {
            char *elsewhere = malloc(bytes.len);
            memcpy(elsewhere, bytes.data, bytes.len);
            assert_int_equal(nb_imatrix_open_memory("memory", elsewhere, bytes.len, &back, NULL), NB_OK);
            free(elsewhere);
        } else {
            back = open_file(nb_folder_path("moments.gguf"));
        }
        const nb_moments *a = nb_imatrix_at(back, 0)->moments, *c = nb_imatrix_at(back, 2)->moments;
        assert_true(a && a == nb_imatrix_at(back, 1)->moments && a->columns == 96 && a->block == 64);
        assert_true(c && c->columns == 32 && c->block == 32 && !nb_imatrix_at(back, 3)->moments);
        for (size_t k = 0; k < nb_moments_values(96, 64); k++)
            assert_int_equal(a->correlation[k], nb_f32_to_f16((float)(k % 101) / 200));
        nb_imatrix_free(back);
    }
    unlink(nb_folder_path("moments.gguf"));
    nb_buf_free(&bytes);
}

/* Sums of products add up; an entry that is new takes what it is given; what fits nothing is refused. */
static void moments_merge(void **state)
{
    nb_imatrix *sum, *a = with_moments(1), *b = with_moments(0.5F);
    nb_error err;
    (void)state;
    assert_int_equal(nb_imatrix_new(&sum, NULL), NB_OK);
    assert_int_equal(nb_imatrix_merge(sum, a, 100, NULL), NB_OK);
    assert_ptr_equal(nb_imatrix_at(sum, 0)->moments, nb_imatrix_at(a, 1)->moments);
    nb_imatrix_free(a);
    assert_int_equal(nb_imatrix_merge(sum, b, 100, NULL), NB_OK);
    const nb_imatrix_entry *e = nb_imatrix_find(sum, NB_STR("b"));
    for (size_t k = 0; k < nb_moments_values(96, 64); k++) { /* both have the same ratios of sums: weights 1 and 0.5 */
        float expected = (float)(k % 101) / 200 * (1 + 0.25F) / 1.5F, got = nb_f16_to_f32(e->moments->correlation[k]);
        assert_true(fabsf(got - expected) < 5e-4F);
    }
    assert_true(e->count[0] == 150 && e->sum[1] == 3);
    uint16_t *c;
    nb_imatrix_entry *other = nb_imatrix_entry_of(b, NB_STR("b"));
    assert_int_equal(nb_imatrix_add_moments(other, 32, &c, NULL), NB_OK);
    assert_int_equal(nb_imatrix_merge(sum, b, 100, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "'b' has second moments of 64 columns in one file and of 32 in another"));
    assert_int_equal(nb_imatrix_share_moments(other, nb_imatrix_find(b, NB_STR("c")), NULL), NB_ERR_ARGUMENT);
    assert_int_equal(nb_imatrix_add_moments(other, 33, &c, NULL), NB_ERR_ARGUMENT);
    nb_imatrix_free(sum);
    nb_imatrix_free(b);
}

static void moments_that_lie(void **state)
{
    nb_imatrix *m = with_moments(1), *back;
    nb_error err;
    (void)state;
    write_to(m, nb_folder_path("lies.gguf"), NB_IMATRIX_GGUF);
    nb_imatrix_free(m);
    nb_buf b = read_file(nb_folder_path("lies.gguf"));
    unlink(nb_folder_path("lies.gguf"));
    static const struct {
        const char *find;
        size_t offset;
        unsigned char byte;
        const char *message;
    } lies[] = {
        {"nibble.moments.blocks", 21 + 4 + 4 + 8, 96, "not correlations of the entry's columns"}, /* other columns */
        {"nibble.moments.blocks", 21 + 4 + 4 + 8, 0, "not correlations of the entry's columns"},  /* none */
        {"nibble.moments.shared_of", 24 + 4 + 4 + 8 + 8, 'c', "cannot have the moments of 'c'"},
        {"nibble.moments.shared_of", 24 + 4 + 4 + 8 + 8, 'z', "cannot have the moments of 'z'"},
        {"a.moments", 0, 'q', "'q.moments' holds"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        char *at = memmem(b.data, b.len, lies[i].find, strlen(lies[i].find));
        assert_non_null(at);
        char kept = at[lies[i].offset];
        at[lies[i].offset] = (char)lies[i].byte;
        if (nb_imatrix_open_memory("lies", b.data, b.len, &back, &err) != NB_ERR_FORMAT ||
            !strstr(err.message, lies[i].message))
            fail_msg("%zu: %s", i, err.message);
        at[lies[i].offset] = kept;
    }
    uint16_t pair[2] = {nb_f32_to_f16(7 / 200.0F), nb_f32_to_f16(8 / 200.0F)}, two = nb_f32_to_f16(2);
    char *values = memmem(b.data, b.len, pair, sizeof pair);
    assert_non_null(values);
    memcpy(values, &two, sizeof two);
    assert_int_equal(nb_imatrix_open_memory("lies", b.data, b.len, &back, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "is not between -1 and 1"));
    nb_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_gguf),         cmocka_unit_test(reads_binary),  cmocka_unit_test(writes_binary),
        cmocka_unit_test(writes_gguf),        cmocka_unit_test(merges),        cmocka_unit_test(experts),
        cmocka_unit_test(refuses_entries),    cmocka_unit_test(truncated),     cmocka_unit_test(lies),
        cmocka_unit_test(moments_round_trip), cmocka_unit_test(moments_merge), cmocka_unit_test(moments_that_lie),
        cmocka_unit_test(not_a_matrix),       cmocka_unit_test(corpus),        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
