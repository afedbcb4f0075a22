/* Checkpoints of GPTQ, AWQ, compressed-tensors and FP8 that are damaged, and ones of ways that are not read: each is refused by
 * the name of the file, what is wrong and what to do. Tensors of a good one are copied with one of them changed. */
#define _GNU_SOURCE
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

#define DATA NB_TEST_DATA "/hfquant/"
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
    int dtype;       /* -1: its own */
    uint32_t n_dims; /* 0: its own */
    uint64_t dims[2];
    size_t at, bytes; /* these of its bytes are replaced by `with` */
    const void *with;
} change;

static bool is_changed(const nb_checkpoint_tensor *t, const change *c) { return c && nb_str_eqz(t->name, c->name); }

static void put(nb_safetensors_writer *w, const nb_checkpoint_tensor *t, const change *c)
{
    bool is = is_changed(t, c), shaped = is && c->n_dims;
    nb_safetensors_put(w, t->name, is && c->dtype >= 0 ? (nb_dtype)c->dtype : t->dtype, shaped ? c->n_dims : t->n_dims,
                       shaped ? c->dims : t->dims);
}

/* New shapes may be larger than the old ones: zeros follow. */
static void put_data(nb_safetensors_writer *w, const nb_checkpoint_tensor *t, const change *c)
{
    size_t have = (size_t)t->values * nb_dtype_bytes(t->dtype), want = have;
    if (is_changed(t, c)) {
        want = nb_dtype_bytes(c->dtype < 0 ? t->dtype : (nb_dtype)c->dtype);
        for (uint32_t d = 0; d < (c->n_dims ? c->n_dims : t->n_dims); d++)
            want *= (size_t)(c->n_dims ? c->dims[d] : t->dims[d]);
    }
    char *bytes = calloc(1, want + 1);
    assert_non_null(bytes);
    memcpy(bytes, t->data, nb_min_size(have, want));
    if (is_changed(t, c) && c->with)
        memcpy(bytes + c->at, c->with, c->bytes);
    must(nb_safetensors_data(w, bytes, want, &err));
    free(bytes);
}

static void write_tensors(const char *model, const change *c)
{
    char path[512];
    nb_checkpoint *from;
    nb_safetensors_writer *w;
    snprintf(path, sizeof path, DATA "%s/model.safetensors", model);
    must(nb_checkpoint_open(path, &from, &err));
    must(nb_safetensors_writer_open(nb_folder, 0, &w, &err));
    for (size_t i = 0; i < nb_checkpoint_count(from); i++)
        if (!(is_changed(nb_checkpoint_at(from, i), c) && c->drop))
            put(w, nb_checkpoint_at(from, i), c);
    for (size_t i = 0; i < nb_checkpoint_count(from); i++)
        if (!(is_changed(nb_checkpoint_at(from, i), c) && c->drop))
            put_data(w, nb_checkpoint_at(from, i), c);
    must(nb_safetensors_writer_commit(w, &err));
    nb_checkpoint_close(from);
}

/* config.json with `from` replaced by `to` */
static void write_config(const char *model, const char *from, const char *to)
{
    char path[512];
    nb_buf text = {0};
    snprintf(path, sizeof path, DATA "%s/config.json", model);
    must(nb_file_read(path, 1 << 20, &text, &err));
    char *at = from ? memmem(text.data, text.len, from, strlen(from)) : (char *)text.data;
    if (!at)
        fail_msg("%s has no %s", path, from);
    size_t before = (size_t)(at - (char *)text.data), gone = from ? strlen(from) : 0;
    FILE *f = fopen(nb_folder_path("config.json"), "wb");
    assert_non_null(f);
    fprintf(f, "%.*s%s%.*s", (int)before, (char *)text.data, from ? to : "", (int)(text.len - before - gone),
            at + gone);
    assert_int_equal(fclose(f), 0);
    nb_buf_free(&text);
    snprintf(path, sizeof path, DATA "%s/tokenizer.json", model);
    assert_int_equal(symlink(path, nb_folder_path("tokenizer.json")), 0);
}

static void remove_all(void)
{
    static const char *const files[] = {"model.safetensors", "config.json", "tokenizer.json", "quantize_config.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(nb_folder_path(files[i]));
}

/* Opens it in all forms, and when that works reads every row. */
static nb_status read_all(void)
{
    for (int form = 0; form < 3; form++) {
        nb_source *s;
        nb_hf_params p = {.packed = form == 2, .stored = form == 1, .threads = 1};
        NB_TRY(nb_hf_open_as(nb_folder, &p, &s, &err));
        nb_status status = NB_OK;
        for (size_t i = 0; i < s->tensor_count && status == NB_OK; i++) {
            size_t bytes;
            uint64_t rows = nb_source_rows(&s->tensors[i]);
            assert_true(nb_type_row_bytes(s->tensors[i].type, s->tensors[i].dims[0], &bytes));
            void *room = malloc(bytes * rows);
            status = s->read(s, i, 0, rows, room, &err);
            free(room);
        }
        nb_source_free(s);
        NB_TRY(status);
    }
    return NB_OK;
}

static void check(const char *model, const char *what, const char *says)
{
    nb_status status = read_all();
    if (!says && status != NB_OK)
        fail_msg("%s, %s: %s", model, what, err.message);
    if (says && (status == NB_OK || !strstr(err.message, says)))
        fail_msg("%s, %s: status %d, '%s' does not say '%s'", model, what, status, err.message, says);
    remove_all();
}

static void refused(const char *model, const change *c, const char *says)
{
    write_tensors(model, c);
    write_config(model, NULL, NULL);
    check(model, c->name, says);
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

static void bytes(const char *model, const char *name, size_t at, const void *with, size_t n, const char *says)
{
    refused(model, &(change){.name = name, .dtype = -1, .at = at, .with = with, .bytes = n}, says);
}

static void config(const char *model, const char *from, const char *to, const char *says)
{
    write_tensors(model, NULL);
    write_config(model, from, to);
    check(model, to, says);
}

static const uint16_t nan16 = 0x7e00, infinite16 = 0x7c00;
static const float nan32 = __builtin_nanf("");

static void test_gptq(void **state)
{
    (void)state;
    static const int32_t far = 2, below = -1;
    const char *plain = "gptq-4-sym", *order = "gptq-4-asym-order", *three = "gptq-3";
    drop(plain, Q "qzeros", "q_proj.qzeros' is missing, without which");
    drop(plain, Q "scales", "q_proj.scales' is missing");
    drop(plain, Q "g_idx", NULL);
    drop(order, Q "g_idx", "q_proj.g_idx' is missing");
    drop(plain, Q "qweight", "has no tensor");
    reshape(plain, Q "qweight", -1, 2, 7, 64, "is not a matrix of 8 x 64");
    reshape(plain, Q "qweight", -1, 2, 8, 63, "is not a matrix of");
    reshape(plain, Q "qweight", NB_DTYPE_F32, 0, 0, 0, "is not a matrix of I32");
    reshape(plain, Q "qweight", -1, 1, 512, 0, "is not a matrix of I32");
    reshape(plain, Q "qzeros", -1, 2, 2, 7, "is not a matrix of 2 x 8");
    reshape(plain, Q "scales", -1, 2, 3, 64, "has 3 groups, not one for each 32 of 64 columns");
    reshape(plain, Q "scales", -1, 2, 2, 63, "is not a matrix of 2 x 64 scales");
    reshape(plain, Q "scales", NB_DTYPE_I16, 0, 0, 0, "is not a matrix of 2 x 64 scales");
    reshape(plain, Q "g_idx", -1, 1, 65, 0, "one for each 32 of 65 columns");
    reshape(order, Q "g_idx", NB_DTYPE_F32, 0, 0, 0, "is not 64 values of I32");
    reshape(three, Q "qweight", -1, 2, 5, 64, "is not a matrix of 6 x 64, as 3 bits");
    bytes(plain, Q "scales", 6, &nan16, 2, "q_proj.scales' is no number at value 3");
    bytes(plain, Q "scales", 6, &infinite16, 2, "is no number at value 3");
    bytes(order, Q "g_idx", 20, &far, 4, "has 2 at 5: there are 2 groups");
    bytes(order, Q "g_idx", 20, &below, 4, "has -1 at 5");
    config(plain, "\"bits\": 4", "\"bits\": 5", "is not 2, 3, 4 or 8");
    config(plain, "\"bits\": 4", "\"bits\": 0", "is not a whole number from 2 to 8");
    config(plain, "\"bits\": 4", "\"bids\": 4", "has no bits");
    config(plain, "\"bits\": 4", "\"bits\": 8", "is not a matrix of");
    config(plain, "\"group_size\": 32", "\"group_size\": 0", "is not a whole number from 1");
    config(plain, "\"group_size\": 32", "\"group_size\": -1", "has 2 groups, not one for each 64 of 64 columns");
    config(plain, "\"group_size\": 32", "\"group_size\": 16", "has 2 groups, not one for each 16 of 64 columns");
    config(order, "\"gptq_v2\"", "\"marlin\"", "of GPTQ, gptq and gptq_v2 are read");
    config(plain, "\"bits\": 4", "\"bits\": 4, \"is_marlin_format\": true", "is packed for Marlin");
    config(plain, "\"bits\": 4", "\"bits\": 3, \"dynamic\": {\"-:x\": {}}", NULL);
}

static void test_awq(void **state)
{
    (void)state;
    const char *model = "awq";
    drop(model, Q "qzeros", "q_proj.qzeros' is missing");
    drop(model, Q "scales", "q_proj.scales' is missing");
    reshape(model, Q "qweight", -1, 2, 65, 8, "is not a matrix of 3 x 8");
    reshape(model, Q "qweight", NB_DTYPE_F32, 0, 0, 0, "is not a matrix of I32");
    reshape(model, Q "qzeros", -1, 2, 2, 7, "is not a matrix of 2 x 8");
    reshape(model, Q "scales", -1, 2, 2, 56, "is not a matrix of 2 x 64 scales");
    bytes(model, Q "scales", 0, &nan16, 2, "is no number at value 0");
    config(model, "\"gemm\"", "\"gemv\"", "is \"gemv\"; of AWQ, gemm is read");
    config(model, "\"gemm\"", "\"GEMM\"", NULL);
    config(model, "\"bits\": 4", "\"bits\": 3", "is not 4, which alone is read of AWQ");
    config(model, "\"bits\"", "\"w_bit\"", NULL);
}

static void test_fp8(void **state)
{
    static const uint8_t nan8 = 0x7f;
    (void)state;
    drop("fp8-block", Q "weight_scale_inv", "q_proj.weight_scale_inv' is missing");
    drop("fp8-tensor", Q "weight_scale", "q_proj.weight_scale' is missing");
    drop("fp8-tensor", Q "input_scale", NULL);
    reshape("fp8-block", Q "weight_scale_inv", -1, 2, 2, 1, "is not a matrix of 2 x 2 scales");
    reshape("fp8-block", Q "weight_scale_inv", -1, 1, 4, 0, "is not a matrix of 2 x 2 scales");
    reshape("fp8-partial-block", "model.layers.0.mlp.up_proj.weight_scale_inv", -1, 2, 1, 1,
            "is not a matrix of 2 x 1");
    reshape("fp8-row", Q "weight_scale", -1, 2, 63, 1, "is not a matrix of 64 x 1 scales");
    bytes("fp8-row", Q "weight_scale", 8, &nan32, 4, "is no number at value 2");
    bytes("fp8-row", Q "weight", 70, &nan8, 1, "q_proj.weight' is no number in row 1");
    config("fp8-block", "\"weight_block_size\": [\n   32,", "\"weight_block_size\": [\n   0,",
           "is not a whole number from 1");
    config("fp8-block", "\"weight_block_size\": [\n   32,", "\"weight_block_size\": [\n   1, 1,",
           "is not a list of rows and columns");
}

static void test_compressed(void **state)
{
    static const int64_t huge[2] = {INT64_MAX, 2}, other[2] = {64, 72};
    static const int32_t far = 99;
    (void)state;
    const char *sym = "ct-int4-sym", *asym = "ct-int4-asym";
    drop(sym, Q "weight_scale", "q_proj.weight_scale' is missing");
    drop(sym, Q "weight_shape", "q_proj.weight_shape' is missing");
    drop(asym, Q "weight_zero_point", "q_proj.weight_zero_point' is missing");
    reshape(sym, Q "weight_shape", -1, 1, 1, 0, "is not two values of I64");
    bytes(sym, Q "weight_shape", 0, huge, sizeof huge, "no shape of a matrix");
    bytes(sym, Q "weight_shape", 0, other, sizeof other, "is not a matrix of 64 x 9");
    reshape(sym, Q "weight_packed", -1, 2, 64, 7, "is not a matrix of 64 x 8");
    reshape(sym, Q "weight_packed", NB_DTYPE_F32, 0, 0, 0, "holds F32, which its config group does not say");
    reshape(sym, Q "weight_scale", -1, 2, 64, 1, "is not a matrix of 64 x 2 scales");
    reshape(asym, Q "weight_zero_point", -1, 2, 8, 1, "is not a matrix of 8 x 2");
    reshape("ct-int8", Q "weight", NB_DTYPE_F8_E4M3, 0, 0, 0, "holds F8_E4M3, which its config group does not say");
    reshape("ct-int8-asym", Q "weight_zero_point", -1, 2, 63, 1, "is not a matrix of 64 x 1");
    bytes("ct-int4-order", Q "weight_g_idx", 8, &far, 4, "has 99 at 2: there are 2 groups");
    bytes("ct-int8-packed", Q "weight_scale", 4, &nan32, 4, "is no number at value 1");
    bytes("ct-fp8-channel", Q "weight_scale", 0, "\xff\xff", 2, "is no number at value 0");
    config(sym, "\"num_bits\": 4", "\"num_bits\": 9", "is not 8 of float or 2 to 8 of int");
    config(sym, "\"Linear\"", "\"re:.*(\"", "the target 're:.*('");
    config(sym, "\"Linear\"", "\"re:lm_head\"", "has no group for model.layers.0");
    config(sym, "\"Linear\"", "7", "is a target that is no string");
    config(sym, "\"strategy\": \"group\"", "\"strategy\": \"token\"", "is none of tensor, channel, group and block");
    config(sym, "\"pack-quantized\"", "\"marlin-24\"", "is marlin-24; of compressed-tensors, pack-quantized");
    config(sym, "\"config_groups\"", "\"groups\"", "has no config_groups");
    config(sym, "\"kv_cache_scheme\": null", "\"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}",
           "is sparse-24-bitmask");
    config("ct-fp8-block", "\"block_structure\"", "\"blocks\"", "has no block_structure");
}

#define EXPERT(n) "model.layers.0.block_sparse_moe.experts." n
#define STACK "model.layers.0.mlp.experts."

static void test_experts(void **state)
{
    const char *oss = "../hf/gpt-oss-mxfp4";
    (void)state;
    drop("moe-gptq", EXPERT("2.w1.qweight"), "has no tensor 'model.layers.0.block_sparse_moe.experts.2.w1");
    drop("moe-gptq", EXPERT("2.w1.qzeros"), "experts.2.w1.qzeros' is missing");
    reshape("moe-gptq", EXPERT("1.w2.scales"), -1, 2, 2, 63, "experts.1.w2.scales' is not a matrix of 2 x 64 scales");
    reshape("moe-ct-fp8", EXPERT("1.w1.weight"), NB_DTYPE_F16, 0, 0, 0, "is unlike that of the first expert");
    reshape("moe-ct-fp8", EXPERT("0.w1.weight"), NB_DTYPE_F16, 0, 0, 0, "is unlike that of the first expert");
    drop("moe-fp8-stacked", STACK "gate_up_proj_scale_inv", "gate_up_proj_scale_inv' is missing");
    reshape("moe-fp8-stacked", STACK "down_proj", -1, 1, 64, 0, "down_proj' is not a matrix for each expert");
    reshape("moe-fp8-stacked", STACK "down_proj", -1, 2, 192, 64, "down_proj' is not a matrix for each expert");
    config("moe-fp8-stacked", "\"weight_block_size\": [\n   32,", "\"weight_block_size\": [\n   48,",
           "are not whole blocks of 48");
    config("moe-fp8-stacked", "\"num_local_experts\": 3", "\"num_local_experts\": 5",
           "does not have a matrix for each expert");
    drop(oss, STACK "gate_up_proj_scales", "gate_up_proj_scales' is missing");
    drop(oss, STACK "gate_up_proj_bias", NULL); /* some lack them */
    reshape(oss, STACK "down_proj_bias", -1, 1, 160, 0, "does not have a vector for each expert");
    reshape(oss, STACK "gate_up_proj_bias", -1, 2, 5, 127, "does not have a vector for each expert");
    reshape(oss, STACK "down_proj_blocks", -1, 2, 5, 16, "is not bytes in blocks of 16");
    config(oss, "\"num_local_experts\": 5", "\"num_local_experts\": 4", "does not have a matrix for each expert");
    config(oss, "\"swiglu_limit\": 7.0", "\"swiglu_limit\": 8.0", "swiglu_limit 8");
}

/* by name, with what is read */
static void test_others(void **state)
{
    static const char *const others[] = {"hqq",  "eetq",   "quark", "torchao", "aqlm", "vptq",
                                         "spqr", "bitnet", "higgs", "mxfp8",   "x"};
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char to[80], says[80];
        snprintf(to, sizeof to, "\"quant_method\": \"%s\"", others[i]);
        snprintf(says, sizeof says, "quantization_config is that of %s: such a checkpoint is not read", others[i]);
        config("awq", "\"quant_method\": \"awq\"", to, says);
        config("awq", "\"quant_method\": \"awq\"", to, "one of bitsandbytes, quanto, gptq, awq");
    }
}

static bool is_kept(nb_str name)
{
    return !nb_str_eqz(name, "model.layers.0.self_attn.v_proj.weight") &&
           !nb_str_starts(name, NB_STR("model.layers.2."));
}

/* A plain checkpoint's tensors of two layers, but one matrix as blocks of MXFP4 */
static void write_mxfp4(const nb_checkpoint *plain, const nb_checkpoint *blocks)
{
    const nb_checkpoint_tensor *b = nb_checkpoint_find(blocks, NB_STR("model.layers.0.mlp.experts.down_proj_blocks"));
    const nb_checkpoint_tensor *s = nb_checkpoint_find(blocks, NB_STR("model.layers.0.mlp.experts.down_proj_scales"));
    nb_safetensors_writer *w;
    size_t n = nb_checkpoint_count(plain);
    must(nb_safetensors_writer_open(nb_folder, 0, &w, &err));
    for (size_t i = 0; i < n; i++)
        if (is_kept(nb_checkpoint_at(plain, i)->name))
            put(w, nb_checkpoint_at(plain, i), NULL);
    nb_safetensors_put(w, NB_STR("model.layers.0.self_attn.v_proj_blocks"), b->dtype, b->n_dims, b->dims);
    nb_safetensors_put(w, NB_STR("model.layers.0.self_attn.v_proj_scales"), s->dtype, s->n_dims, s->dims);
    for (size_t i = 0; i < n; i++)
        if (is_kept(nb_checkpoint_at(plain, i)->name))
            put_data(w, nb_checkpoint_at(plain, i), NULL);
    put_data(w, b, NULL);
    put_data(w, s, NULL);
    must(nb_safetensors_writer_commit(w, &err));
}

/* against transformers' convert_moe_packed_tensors, in both types */
static void test_mxfp4(void **state)
{
    (void)state;
    nb_checkpoint *plain, *blocks;
    must(nb_checkpoint_open(NB_TEST_DATA "/hf/qwen2", &plain, &err));
    must(nb_checkpoint_open(DATA "mxfp4.safetensors", &blocks, &err));
    const nb_checkpoint_tensor *want = nb_checkpoint_find(blocks, NB_STR("values"));
    write_config("awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"mxfp4\"");
    for (int stored = 0; stored < 2; stored++) {
        nb_source *s;
        float have[64], expected[64];
        unsigned char row[256];
        write_mxfp4(plain, blocks);
        must(nb_hf_open_as(nb_folder, &(nb_hf_params){.stored = stored}, &s, &err));
        const nb_source_tensor *t = nb_source_find_tensor(s, NB_STR("blk.0.attn_v.weight"));
        assert_string_equal(t->type->name, stored ? "MXFP4" : "F32");
        assert_int_equal(t->dims[0], 64);
        assert_int_equal(t->dims[1], 120);
        for (uint64_t r = 0; r < 120; r++) {
            must(s->read(s, (size_t)(t - s->tensors), r, 1, row, &err));
            t->type->dequantize(row, have, 64);
            nb_checkpoint_read_f32(want, r * 64, 64, expected);
            for (int i = 0; i < 64; i++)
                assert_true(have[i] == expected[i]);
        }
        nb_source_free(s);
    }
    nb_checkpoint_close(plain);
    nb_checkpoint_close(blocks);
    remove_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gptq, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_awq, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_fp8, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_compressed, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_experts, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_mxfp4, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_others, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
