/* Checkpoints of bitsandbytes that are damaged: each is refused by the name of the file, the tensor and what to do. Tensors of a
 * good one are copied with one of them changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/safetensors_write.h"
#include "hf/hf.h"
#include "support/folder.h"

#define SAVED NB_TEST_DATA "/bitsandbytes/"
#define Q "model.layers.0.self_attn.q_proj."

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

/* what becomes of one tensor */
typedef struct change {
    const char *name;
    bool drop;
    const char *text; /* NULL, or its new bytes */
    size_t n;
    int dtype;       /* -1: its own */
    uint32_t n_dims; /* 0: its own */
    uint64_t dims[2];
} change;

static bool is_changed(const nb_checkpoint_tensor *t, const change *c) { return nb_str_eqz(t->name, c->name); }

static void put(nb_safetensors_writer *w, const nb_checkpoint_tensor *t, const change *c)
{
    uint64_t one = c->n;
    if (!is_changed(t, c))
        nb_safetensors_put(w, t->name, t->dtype, t->n_dims, t->dims);
    else if (c->text)
        nb_safetensors_put(w, t->name, NB_DTYPE_U8, 1, &one);
    else
        nb_safetensors_put(w, t->name, c->dtype < 0 ? t->dtype : (nb_dtype)c->dtype, c->n_dims ? c->n_dims : t->n_dims,
                           c->n_dims ? c->dims : t->dims);
}

/* New shapes may be larger than the old ones: zeros follow. */
static void put_data(nb_safetensors_writer *w, const nb_checkpoint_tensor *t, const change *c)
{
    static const char zeros[1 << 16];
    size_t have = (size_t)t->values * nb_dtype_bytes(t->dtype), want = have;
    if (is_changed(t, c) && c->text) {
        must(nb_safetensors_data(w, c->text, c->n, &err));
        return;
    }
    if (is_changed(t, c)) {
        want = nb_dtype_bytes(c->dtype < 0 ? t->dtype : (nb_dtype)c->dtype);
        for (uint32_t d = 0; d < (c->n_dims ? c->n_dims : t->n_dims); d++)
            want *= (size_t)(c->n_dims ? c->dims[d] : t->dims[d]);
    }
    must(nb_safetensors_data(w, t->data, nb_min_size(have, want), &err));
    for (size_t more = want > have ? want - have : 0; more;) {
        size_t n = nb_min_size(more, sizeof zeros);
        must(nb_safetensors_data(w, zeros, n, &err));
        more -= n;
    }
}

static const char *const others[] = {"config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"};

static void write_changed(const char *model, const change *c)
{
    char path[512];
    nb_checkpoint *from;
    nb_safetensors_writer *w;
    snprintf(path, sizeof path, SAVED "%s/model.safetensors", model);
    must(nb_checkpoint_open(path, &from, &err));
    must(nb_safetensors_writer_open(nb_folder, 0, &w, &err));
    for (size_t i = 0; i < nb_checkpoint_count(from); i++)
        if (!(c->drop && is_changed(nb_checkpoint_at(from, i), c)))
            put(w, nb_checkpoint_at(from, i), c);
    for (size_t i = 0; i < nb_checkpoint_count(from); i++)
        if (!(c->drop && is_changed(nb_checkpoint_at(from, i), c)))
            put_data(w, nb_checkpoint_at(from, i), c);
    must(nb_safetensors_writer_commit(w, &err));
    nb_checkpoint_close(from);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, SAVED "%s/%s", model, others[i]);
        if (access(path, R_OK) == 0)
            assert_int_equal(symlink(path, nb_folder_path(others[i])), 0);
    }
}

static void remove_changed(void)
{
    unlink(nb_folder_path("model.safetensors"));
    for (int i = 0; i < 4; i++)
        unlink(nb_folder_path(others[i]));
}

/* Opens it, and when that works reads every row in both forms. */
static nb_status read_all(void)
{
    for (int packed = 0; packed < 2; packed++) {
        nb_source *s;
        nb_hf_params p = {.packed = packed, .as_cpu = !packed, .threads = 1};
        NB_TRY(nb_hf_open_as(nb_folder, &p, &s, &err));
        for (size_t i = 0; i < s->tensor_count; i++) {
            size_t bytes;
            uint64_t rows = nb_source_rows(&s->tensors[i]);
            assert_true(nb_type_row_bytes(s->tensors[i].type, s->tensors[i].dims[0], &bytes));
            void *room = malloc(bytes * rows);
            must(s->read(s, i, 0, rows, room, &err));
            free(room);
        }
        nb_source_free(s);
    }
    return NB_OK;
}

static void refused(const char *model, const change *c, const char *says)
{
    write_changed(model, c);
    nb_status status = read_all();
    if (status == NB_OK || !strstr(err.message, says))
        fail_msg("%s, %s: status %d, '%s' does not say '%s'", model, c->name, status, err.message, says);
    remove_changed();
}

static void drop(const char *model, const char *name, const char *says)
{
    refused(model, &(change){.name = name, .drop = true, .dtype = -1}, says);
}

static void reshape(const char *model, const char *name, int dtype, uint32_t n_dims, uint64_t a, uint64_t b,
                    const char *says)
{
    refused(model, &(change){.name = name, .dtype = dtype, .n_dims = n_dims, .dims = {a, b}}, says);
}

static void test_parts(void **state)
{
    (void)state;
    const char *plain = "llama-fp4", *nested = "llama-nf4-double";
    drop(plain, Q "weight.absmax", "q_proj.weight.absmax' is missing");
    drop(plain, Q "weight.quant_map", "q_proj.weight.quant_map' is missing");
    drop(plain, Q "weight.quant_state.bitsandbytes__fp4", "is missing; download");
    drop(nested, Q "weight.absmax", "is missing");
    drop(nested, Q "weight.nested_absmax", "is missing");
    drop(nested, Q "weight.nested_quant_map", "is missing");
    reshape(plain, Q "weight.absmax", -1, 1, 63, 0, "is not 64 values of F32");
    reshape(plain, Q "weight.absmax", NB_DTYPE_U8, 1, 64, 0, "is not 64 values of F32");
    reshape(plain, Q "weight.quant_map", -1, 1, 15, 0, "is not 16 values of F32");
    reshape(plain, Q "weight", -1, 2, 2047, 1, "is not as long as its quant_state says");
    reshape(plain, Q "weight", -1, 2, 1, 2048, "is not as long as its quant_state says");
    reshape(plain, Q "weight", NB_DTYPE_F64, 2, 256, 1, "in a dtype that bitsandbytes does not store");
    reshape(plain, Q "weight", NB_DTYPE_F32, 2, 511, 1, "is not as long as");
    reshape(nested, Q "weight.absmax", NB_DTYPE_F32, 1, 64, 0, "is not 64 values of U8");
    reshape(nested, Q "weight.nested_absmax", -1, 1, 2, 0, "is not 1 values of F32");
    reshape(nested, Q "weight.nested_quant_map", -1, 1, 255, 0, "is not 256 values of F32");
}

static void state_is(const char *model, const char *name, const char *text, const char *says)
{
    refused(model, &(change){.name = name, .text = text, .n = strlen(text), .dtype = -1}, says);
}

#define FP4(members) "{\"quant_type\": \"fp4\", " members "}"
#define NF4(members)                                                                                                   \
    "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [64, 64]" members "}"

static void test_states(void **state)
{
    static const char name[] = Q "weight.quant_state.bitsandbytes__fp4", *model = "llama-fp4";
    static const char other[] = Q "weight.quant_state.bitsandbytes__nf4", *nested = "llama-nf4-double";
    (void)state;
    state_is(model, name, "", "quant_state.bitsandbytes__fp4': byte 0");
    state_is(model, name, "{\"quant_type\": \"fp4\"", "byte");
    state_is(model, name, "[]", "byte 0");
    state_is(model, name, "{} {}", "byte 3");
    state_is(model, name, "{}", "another quant_type");
    state_is(model, name, "{\"quant_type\": \"nf4\"}", "another quant_type");
    state_is(model, name, FP4("\"blocksize\": 0, \"dtype\": \"float32\", \"shape\": [64, 64]"), "no power of two");
    state_is(model, name, FP4("\"blocksize\": 65, \"dtype\": \"float32\", \"shape\": [64, 64]"), "no power of two");
    state_is(model, name, FP4("\"blocksize\": 8192, \"dtype\": \"float32\", \"shape\": [64, 64]"), "no power of two");
    state_is(model, name, FP4("\"blocksize\": -64, \"dtype\": \"float32\", \"shape\": [64, 64]"), "byte");
    state_is(model, name, FP4("\"blocksize\": 64, \"blocksize\": 64"), "\"blocksize\" is given twice");
    state_is(model, name, FP4("\"blocksize\": 64, \"dtype\": \"float64\", \"shape\": [64, 64]"), "none of float32");
    state_is(model, name, FP4("\"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [64]"), "none of a matrix");
    state_is(model, name, FP4("\"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [64, 0]"), "none of a matrix");
    state_is(model, name, FP4("\"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [4294967296, 4294967296]"),
             "none of a matrix");
    state_is(model, name, FP4("\"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [16777216, 16777216]"),
             "is not as long as its quant_state says");
    state_is(model, name, FP4("\"blocksize\": 32, \"dtype\": \"float32\", \"shape\": [64, 64]"), "is not 128 values");
    state_is(nested, other, NF4(""), "nested_blocksize, nested_dtype or nested_offset");
    state_is(nested, other, NF4(", \"nested_blocksize\": 0, \"nested_offset\": 1"), "nested_blocksize");
    state_is(nested, other, NF4(", \"nested_blocksize\": 256, \"nested_offset\": 1e300"), "nested_offset");
    state_is(nested, other, NF4(", \"nested_blocksize\": 256, \"nested_offset\": 1, \"nested_dtype\": \"float16\""),
             "nested_dtype");
    state_is(nested, other, NF4(", \"nested_blocksize\": 32, \"nested_offset\": 1"), "is not 2 values of F32");
}

static void test_8bit(void **state)
{
    static const char *model = "qwen2-int8";
    (void)state;
    drop(model, Q "SCB", "q_proj.SCB' is missing");
    reshape(model, Q "SCB", -1, 1, 63, 0, "is not 64 values of F32");
    reshape(model, Q "SCB", NB_DTYPE_F16, 1, 64, 0, "is not 64 values of F32");
    reshape(model, Q "weight", -1, 1, 4096, 0, "is no matrix");
    refused(model, &(change){.name = Q "weight_format", .text = "\1", .n = 1, .dtype = -1}, "bitsandbytes of 0.45");
    refused(model, &(change){.name = Q "weight_format", .text = "\0\0", .n = 2, .dtype = -1}, "is not one byte");
    write_changed(model, &(change){.name = Q "weight_format", .drop = true, .dtype = -1}); /* older ones have none */
    must(read_all());
    remove_changed();
}

/* Every byte of a quant_state replaced: refused or read, never worse. */
static void test_bytes(void **state)
{
    static const char name[] = Q "weight.quant_state.bitsandbytes__nf4";
    static const char bytes[] = "\"{}[],:0912eE.-nx\x80";
    char text[256];
    nb_checkpoint *c;
    (void)state;
    must(nb_checkpoint_open(SAVED "llama-nf4-double/model.safetensors", &c, &err));
    const nb_checkpoint_tensor *t = nb_checkpoint_find(c, NB_STR(Q "weight.quant_state.bitsandbytes__nf4"));
    size_t n = (size_t)t->values, ok = 0;
    assert_true(n < sizeof text);
    for (size_t i = 0; i < n; i += 3) {
        memcpy(text, t->data, n);
        text[i] = bytes[i / 3 % (sizeof bytes - 1)];
        write_changed("llama-nf4-double", &(change){.name = name, .text = text, .n = n, .dtype = -1});
        ok += read_all() == NB_OK;
        remove_changed();
    }
    assert_true(ok < n / 9);
    nb_checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_8bit),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
