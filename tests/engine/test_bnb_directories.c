/* Checkpoints of bitsandbytes, against what transformers and bitsandbytes saved and computed: read, made while reading, and
 * written. */
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
#include "convert/source_loss.h"
#include "engine/engine.h"
#include "format/checkpoint.h"
#include "hf/bnb_write.h"
#include "hf/hf_json.h"
#include "support/folder.h"

#define SAVED NB_TEST_DATA "/bitsandbytes/"
#define PLAIN NB_TEST_DATA "/hf/"

static const char *const phi_skips[] = {"lm_head", "fc1"};

static const struct model {
    const char *saved, *plain;
    nb_load_params load;
    const char *compute_dtype;
    const char *packed, *odd; /* a tensor whose shape allows packed rows; one whose columns do not */
    uint32_t type;
} models[] = {
    {"llama-nf4-double",
     "llama-2-mha",
     {NB_LOAD_NF4, true, 6, NULL, 0},
     "bfloat16",
     "blk.1.attn_q.weight",
     "blk.1.ffn_down.weight",
     NB_TYPE_NF4},
    {"llama-fp4",
     "llama-2-mha",
     {NB_LOAD_FP4, false, 6, NULL, 0},
     "float32",
     "blk.1.attn_q.weight",
     "blk.1.ffn_down.weight",
     NB_TYPE_FP4},
    {"opt-350m-nf4",
     "opt-350m-post-norm",
     {NB_LOAD_NF4, false, 6, NULL, 0},
     "float32",
     "output_proj.weight",
     "token_embd_proj_in.weight",
     NB_TYPE_NF4},
    {"qwen2-int8", "qwen2", {NB_LOAD_INT8, false, 6, NULL, 0}, "float32", "blk.2.ffn_down.weight", NULL, NB_TYPE_INT8},
    {"phi-2-int8-skip",
     "phi-2",
     {NB_LOAD_INT8, false, 6, phi_skips, 2},
     "float32",
     "blk.0.ffn_down.weight",
     "blk.0.ffn_up.weight",
     NB_TYPE_INT8},
};
enum { MODELS = sizeof models / sizeof *models };

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

/* ---- logits ---- */

static double nmse(const float *want, const float *have, size_t n)
{
    double difference = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)have[i] - (double)want[i]) * ((double)have[i] - (double)want[i]);
        power += (double)want[i] * (double)want[i];
    }
    return difference / power;
}

/* Logits of the first sequence of the vector, [tokens][vocabulary]; the caller frees. */
static float *logits_of(const char *path, const struct model *m, bool exact, bool load, const float **want, size_t *n)
{
    static float expected[64 * 1024];
    nb_checkpoint *c;
    nb_model *model;
    nb_session *s;
    nb_model_params p = nb_model_defaults();
    char file[512];
    snprintf(file, sizeof file, SAVED "%s/expected.safetensors", m->saved);
    must(nb_checkpoint_open(file, &c, &err));
    const nb_checkpoint_tensor *ids = nb_checkpoint_find(c, NB_STR("input_ids")),
                               *y = nb_checkpoint_find(c, NB_STR("logits"));
    size_t tokens = (size_t)ids->dims[1], row = (size_t)y->dims[2];
    float as_floats[256];
    int32_t id[256];
    assert_true(tokens <= 256 && tokens * row <= sizeof expected / sizeof *expected);
    nb_checkpoint_read_f32(ids, 0, tokens, as_floats);
    for (size_t i = 0; i < tokens; i++)
        id[i] = (int32_t)as_floats[i];
    nb_checkpoint_read_f32(y, 0, tokens * row, expected);
    nb_checkpoint_close(c);
    p.threads = 2;
    p.exact = exact;
    p.load = load ? &m->load : NULL;
    must(nb_model_open(path, &p, &model, &err));
    nb_session_params sp = {.context = tokens, .batch = tokens, .outputs = tokens, .kv_type = "f32"};
    must(nb_session_open(model, &sp, &s, &err));
    must(nb_session_eval(s, id, tokens, NB_LOGITS_ALL, &err));
    float *have = malloc(tokens * row * sizeof *have);
    assert_non_null(have);
    for (size_t t = 0; t < tokens; t++)
        memcpy(have + t * row, nb_session_row(s, t), row * sizeof *have);
    nb_session_close(s);
    nb_model_close(model);
    *want = expected;
    *n = tokens * row;
    return have;
}

static void check_logits(const char *path, const struct model *m, bool load)
{
    const float *want;
    size_t n;
    float *have = logits_of(path, m, true, load, &want, &n);
    double e = nmse(want, have, n);
    if (!(e <= 1e-10))
        fail_msg("%s: NMSE %g", path, e);
    free(have);
}

static void test_saved(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++)
        check_logits(path_of(SAVED, models[i].saved, ""), &models[i], false);
}

static void test_made_while_reading(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++)
        check_logits(path_of(PLAIN, models[i].plain, ""), &models[i], true);
}

/* The fast mode against float32 throughout with the same weights; what differs is 8-bit activations and, in 4 bits, maps of
 * whole numbers. A file holds the weights with each block's own scale, as the fast mode has them. */
static void test_fast(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const struct model *m = &models[i];
        const float *expected;
        size_t n;
        nb_source *s;
        nb_quantize_params p = nb_quantize_defaults();
        p.mix = nb_mix_by_name(NB_STR("COPY"));
        must(nb_source_open(path_of(SAVED, m->saved, ""), &s, &err));
        must(nb_quantize(s, nb_folder_path("model.gguf"), &p, NULL, NULL, NULL, &err));
        nb_source_free(s);
        float *want = logits_of(nb_folder_path("model.gguf"), m, true, false, &expected, &n);
        float *saved = logits_of(path_of(SAVED, m->saved, ""), m, false, false, &expected, &n);
        float *made = logits_of(path_of(PLAIN, m->plain, ""), m, false, true, &expected, &n);
        double a = nmse(want, saved, n), b = nmse(want, made, n);
        if (!(a > 1e-9 && a < 5e-3 && b > 1e-9 && b < 5e-3))
            fail_msg("%s: NMSE %g, quantized while reading %g", m->saved, a, b);
        free(want);
        free(saved);
        free(made);
        assert_int_equal(unlink(nb_folder_path("model.gguf")), 0);
    }
}

static void test_types(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const struct model *m = &models[i];
        nb_source *s;
        nb_hf_params p = {.packed = true};
        must(nb_hf_open_as(path_of(SAVED, m->saved, ""), &p, &s, &err));
        assert_true(nb_hf_is_quantized(s));
        assert_int_equal(nb_source_find_tensor(s, nb_str_of(m->packed))->type->id, m->type);
        if (m->odd)
            assert_int_equal(nb_source_find_tensor(s, nb_str_of(m->odd))->type->id, NB_TYPE_F32);
        assert_int_equal(nb_source_find(s, NB_HF_INT8_THRESHOLD) != NULL, m->type == NB_TYPE_INT8);
        nb_source_free(s);
        p.load = &m->load;
        must(nb_hf_open_as(path_of(PLAIN, m->plain, ""), &p, &s, &err));
        assert_false(nb_hf_is_quantized(s));
        assert_int_equal(nb_source_find_tensor(s, nb_str_of(m->packed))->type->id, m->type);
        nb_source_free(s);
    }
}

/* A GGUF file of floats, quantized while it is opened: NF4 of the blocks' matrices; what it cannot do is said. */
static void test_gguf(void **state)
{
    (void)state;
    nb_gguf *g;
    nb_load_params load = nb_load_defaults(NB_LOAD_NF4);
    nb_hf_params p = {.load = &load, .threads = 1};
    must(nb_gguf_open_model_as(NB_TEST_DATA "/archs/qwen2.gguf", &p, &g, &err));
    assert_int_equal(nb_gguf_find_tensor(g, NB_STR("blk.0.attn_q.weight"))->type->id, NB_TYPE_NF4);
    assert_true(nb_gguf_find_tensor(g, NB_STR("token_embd.weight"))->type->block_values == 1);
    nb_gguf_close(g);
    load.double_quant = true;
    assert_int_equal(nb_gguf_open_model_as(NB_TEST_DATA "/archs/qwen2.gguf", &p, &g, &err), NB_ERR_UNSUPPORTED);
}

/* ---- LLM.int8() ---- */

/* logits of 24 ids in steps of `step` */
static void logits_in_steps(nb_model *model, size_t step, float *out)
{
    enum { TOKENS = 24 };
    nb_session *s;
    int32_t ids[TOKENS];
    size_t row = nb_model_vocabulary(model);
    nb_session_params sp = {.context = TOKENS, .batch = step, .outputs = step};
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 5) % 500;
    must(nb_session_open(model, &sp, &s, &err));
    for (size_t t = 0; t < TOKENS; t += step) {
        must(nb_session_eval(s, ids + t, step, NB_LOGITS_ALL, &err));
        for (size_t i = 0; i < step; i++)
            memcpy(out + (t + i) * row, nb_session_row(s, i), row * sizeof *out);
    }
    nb_session_close(s);
}

/* With outliers in every token: what a token gets does not depend on the others of its step, or on threads; and they matter. */
static void test_outliers(void **state)
{
    enum { VALUES = 24 * 512 };
    (void)state;
    float *want = malloc(VALUES * sizeof *want), *have = malloc(VALUES * sizeof *have);
    nb_load_params load = nb_load_defaults(NB_LOAD_INT8);
    nb_model_params p = nb_model_defaults();
    assert_true(want && have);
    p.load = &load;
    for (int threads = 1; threads <= 2; threads++) {
        nb_model *m;
        load.int8_threshold = 1;
        p.threads = threads;
        must(nb_model_open(PLAIN "qwen2", &p, &m, &err));
        assert_int_equal(nb_model_vocabulary(m), 512);
        if (threads == 1)
            logits_in_steps(m, 24, want);
        for (size_t step = 1; step <= 24; step *= step == 3 ? 4 : 3) {
            logits_in_steps(m, step, have);
            assert_memory_equal(have, want, VALUES * sizeof *have);
        }
        nb_model_close(m);
    }
    nb_model *m;
    load.int8_threshold = 0;
    must(nb_model_open(PLAIN "qwen2", &p, &m, &err));
    logits_in_steps(m, 24, have);
    assert_memory_not_equal(have, want, VALUES * sizeof *have);
    nb_model_close(m);
    free(want);
    free(have);
}

/* ---- written ---- */

static void compare_member(const struct model *m, const nb_node *want, const nb_node *have)
{
    if (!have || have->kind != want->kind)
        fail_msg("%s: quantization_config.%.*s", m->saved, NB_STR_ARG(want->key));
    if (want->kind == '"')
        assert_true(nb_str_eq(want->str, have->str));
    else if (want->kind == '0')
        assert_true(want->num == have->num);
    else if (want->kind == '[')
        for (const nb_node *a = want->list.first, *b = have->list.first; a || b; a = a->next, b = b->next)
            assert_true(a && b && nb_str_eq(a->str, b->str));
}

static void compare_config(const struct model *m)
{
    nb_tree want, have;
    must(nb_tree_open(path_of(SAVED, m->saved, ""), "config.json", 1 << 20, false, &want, &err));
    must(nb_tree_open(nb_folder, "config.json", 1 << 20, false, &have, &err));
    const nb_node *a = nb_node_get(want.root, "quantization_config"),
                  *b = nb_node_get(have.root, "quantization_config");
    assert_int_equal(a->list.count, b->list.count);
    for (const nb_node *x = a->list.first, *y = b->list.first; x; x = x->next, y = y->next) {
        assert_true(nb_str_eq(x->key, y->key));
        compare_member(m, x, y);
    }
    assert_int_equal(want.root->list.count, have.root->list.count);
    nb_tree_free(&want);
    nb_tree_free(&have);
}

/* FP4 has two codes of zero, of which bitsandbytes' backends take different ones. */
static bool same_fp4(const uint8_t *a, const uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int shift = 0; shift < 8; shift += 4)
            if ((a[i] >> shift & 15) != (b[i] >> shift & 15) && ((a[i] >> shift & 7) || (b[i] >> shift & 7)))
                return false;
    return true;
}

static void compare_checkpoints(const struct model *m)
{
    nb_checkpoint *want, *have;
    must(nb_checkpoint_open(path_of(SAVED, m->saved, "/model.safetensors"), &want, &err));
    must(nb_checkpoint_open(nb_folder_path("model.safetensors"), &have, &err));
    assert_int_equal(nb_checkpoint_count(want), nb_checkpoint_count(have));
    for (size_t i = 0; i < nb_checkpoint_count(want); i++) {
        const nb_checkpoint_tensor *a = nb_checkpoint_at(want, i), *b = nb_checkpoint_at(have, i);
        size_t bytes = (size_t)a->values * nb_dtype_bytes(a->dtype);
        bool codes = a->dtype == NB_DTYPE_U8;
        assert_true(nb_str_eq(a->name, b->name) && a->dtype == b->dtype && a->n_dims == b->n_dims);
        assert_memory_equal(a->dims, b->dims, sizeof a->dims);
        if (codes && m->type == NB_TYPE_FP4 && a->n_dims == 2)
            assert_true(same_fp4(a->data, b->data, bytes));
        else if (memcmp(a->data, b->data, bytes) != 0)
            fail_msg("%s: %.*s differs", m->saved, NB_STR_ARG(a->name));
    }
    nb_checkpoint_close(want);
    nb_checkpoint_close(have);
}

static nb_bnb_write_params params_of(const struct model *m)
{
    return (nb_bnb_write_params){.load = m->load,
                                 .has_dtype = true,
                                 .dtype = NB_FLOAT_F32,
                                 .storage = "uint8",
                                 .compute_dtype = m->compute_dtype,
                                 .threads = 2};
}

static void remove_files(void)
{
    static const char *const files[] = {"model.safetensors", "config.json",   "tokenizer.json", "tokenizer_config.json",
                                        "tokenizer.model",   "expected.json", "cases.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(nb_folder_path(files[i]));
}

static void test_written(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        nb_bnb_write_params p = params_of(&models[i]);
        must(nb_bnb_write(path_of(PLAIN, models[i].plain, ""), nb_folder, &p, NULL, NULL, NULL, &err));
        compare_checkpoints(&models[i]);
        compare_config(&models[i]);
        check_logits(nb_folder, &models[i], false);
        assert_int_not_equal(nb_bnb_write(nb_folder, nb_folder, &p, NULL, NULL, NULL, &err), NB_OK); /* already */
        remove_files();
    }
}

/* Codes as bytes of another dtype; floats that stay BF16. */
static void test_storage(void **state)
{
    (void)state;
    const struct model *m = &models[2];
    nb_bnb_write_params p = params_of(m);
    nb_checkpoint *c;
    const float *want;
    size_t n;
    p.has_dtype = false;
    p.storage = "bfloat16";
    must(nb_bnb_write(path_of(PLAIN, m->plain, ""), nb_folder, &p, NULL, NULL, NULL, &err));
    must(nb_checkpoint_open(nb_folder_path("model.safetensors"), &c, &err));
    const nb_checkpoint_tensor *t = nb_checkpoint_find(c, NB_STR("model.decoder.layers.0.fc1.weight"));
    assert_int_equal(t->dtype, NB_DTYPE_BF16);
    assert_int_equal(t->dims[0], 128 * 64 / 4);
    assert_int_equal(nb_checkpoint_find(c, NB_STR("model.decoder.layers.0.fc1.bias"))->dtype, NB_DTYPE_BF16);
    nb_checkpoint_close(c);
    float *have = logits_of(nb_folder, m, true, false, &want,
                            &n); /* weights are rounded to BF16 as its quant_state says */
    double e = nmse(want, have, n);
    assert_true(e > 1e-8 && e < 1e-4);
    free(have);
    remove_files();
}

/* ---- to GGUF ---- */

static void test_loss(void **state)
{
    (void)state;
    nb_source *s, *made;
    double loss;
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(NB_STR("Q8_0"));
    must(nb_source_open(SAVED "qwen2-int8", &s, &err));
    must(nb_quantize(s, nb_folder_path("model.gguf"), &p, NULL, NULL, NULL, &err));
    must(nb_source_open_gguf(nb_folder_path("model.gguf"), &made, &err));
    must(nb_source_loss(s, made, &loss, &err));
    assert_true(loss > 1e-6 && loss < 5e-5);
    nb_source_free(s);
    nb_source_free(made);
    assert_int_equal(unlink(nb_folder_path("model.gguf")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saved),
        cmocka_unit_test(test_made_while_reading),
        cmocka_unit_test_setup_teardown(test_fast, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test_setup_teardown(test_written, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_storage, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_loss, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
