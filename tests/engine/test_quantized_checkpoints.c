/* Checkpoints that GPTQ, AWQ, compressed-tensors, FP8 and bitsandbytes made, run as they are and as the files made of them, against
 * the logits of transformers with the weights that those libraries dequantize to. */
#include <dirent.h>
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
#include "format/checkpoint.h"
#include "support/folder.h"

#define DATA NB_TEST_DATA "/hfquant/"

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static double compare(nb_session *s, const nb_checkpoint_tensor *want)
{
    size_t tokens = (size_t)want->dims[0], row = (size_t)want->dims[1];
    float expected[512];
    double difference = 0, power = 0;
    assert_true(row <= 512);
    for (size_t t = 0; t < tokens; t++) {
        nb_checkpoint_read_f32(want, t * row, row, expected);
        for (size_t i = 0; i < row; i++) {
            double d = (double)nb_session_row(s, t)[i] - (double)expected[i];
            difference += d * d;
            power += (double)expected[i] * (double)expected[i];
        }
    }
    return difference / power;
}

/* `key` of `expected`, a file, against what is made of path */
static double nmse_from(const char *expected, const char *key, const char *path, bool exact, const nb_load_params *load)
{
    nb_checkpoint *want;
    nb_model *m;
    nb_session *s;
    nb_model_params p = nb_model_defaults();
    p.threads = 2;
    p.exact = exact;
    p.load = load;
    must(nb_checkpoint_open(expected, &want, &err));
    const nb_checkpoint_tensor *ids = nb_checkpoint_find(want, NB_STR("input_ids"));
    const nb_checkpoint_tensor *logits = nb_checkpoint_find(want, nb_str_of(key));
    size_t tokens = (size_t)logits->dims[0];
    nb_session_params sp = {.context = tokens, .batch = tokens, .outputs = tokens, .kv_type = "f32"};
    must(nb_model_open(path, &p, &m, &err));
    must(nb_session_open(m, &sp, &s, &err));
    must(nb_session_eval(s, ids->data, tokens, NB_LOGITS_ALL, &err));
    double nmse = compare(s, logits);
    nb_session_close(s);
    nb_model_close(m);
    nb_checkpoint_close(want);
    return nmse;
}

static double nmse_of(const char *name, const char *path, bool exact)
{
    char file[512];
    snprintf(file, sizeof file, DATA "%s/expected.safetensors", name);
    return nmse_from(file, "logits", path, exact, NULL);
}

/* Converted in the types that hold the same numbers. */
static double converted(const char *name, const char *path)
{
    nb_source *s;
    nb_quantize_params p = nb_quantize_defaults();
    nb_quantize_result result;
    const char *file = nb_folder_path("model.gguf");
    p.mix = nb_mix_by_name(NB_STR("COPY"));
    must(nb_hf_open_as(path, &(nb_hf_params){.stored = true}, &s, &err));
    must(nb_quantize(s, file, &p, NULL, NULL, &result, &err));
    nb_source_free(s);
    double nmse = nmse_of(name, nb_folder_path("model.gguf"), true);
    assert_int_equal(unlink(nb_folder_path("model.gguf")), 0);
    return nmse;
}

static void check(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, DATA "%s", name);
    double exact = nmse_of(name, path, true), fast = nmse_of(name, path, false), file = converted(name, path);
    if (!(exact <= 1e-10) || !(file <= 1e-10) || !(fast <= 2e-3))
        fail_msg("%s: NMSE %g, %g as a file, %g in the fast mode", name, exact, file, fast);
}

static void test_logits(void **state)
{
    (void)state;
    int checked = 0;
    DIR *folder = opendir(DATA);
    assert_non_null(folder);
    for (const struct dirent *e; (e = readdir(folder));) {
        char path[512];
        snprintf(path, sizeof path, DATA "%s/config.json", e->d_name);
        if (access(path, R_OK) != 0)
            continue;
        check(e->d_name);
        checked++;
    }
    closedir(folder);
    assert_int_equal(checked, 34);
}

/* ---- experts, and bitsandbytes on the way ---- */

/* The linear layers alone are quantized: experts' matrices and routers are none in transformers. */
static void test_load(void **state)
{
    static const char *const names[] = {"moe-qwen2", "moe-granite"};
    (void)state;
    for (int i = 0; i < 4; i++) {
        char folder[512], expected[512];
        bool eight = i % 2;
        nb_load_params load = nb_load_defaults(eight ? NB_LOAD_INT8 : NB_LOAD_NF4);
        snprintf(folder, sizeof folder, NB_TEST_DATA "/bitsandbytes/%s", names[i / 2]);
        snprintf(expected, sizeof expected, NB_TEST_DATA "/bitsandbytes/%s/expected.safetensors", names[i / 2]);
        double exact = nmse_from(expected, eight ? "int8" : "nf4", folder, true, &load);
        double fast = nmse_from(expected, eight ? "int8" : "nf4", folder, false, &load);
        if (!(exact <= 1e-10) || !(fast <= 5e-3))
            fail_msg("%s, %d bits: NMSE %g, %g in the fast mode", names[i / 2], eight ? 8 : 4, exact, fast);
    }
}

/* ---- which types ---- */

static void type_is(const char *name, const char *tensor, const char *floats, const char *stored, const char *packed)
{
    const char *const want[] = {floats, stored, packed};
    char path[512];
    snprintf(path, sizeof path, DATA "%s", name);
    for (int i = 0; i < 3; i++) {
        nb_source *s;
        must(nb_hf_open_as(path, &(nb_hf_params){.stored = i == 1, .packed = i == 2}, &s, &err));
        const char *have = nb_source_find_tensor(s, nb_str_of(tensor))->type->name;
        if (strcmp(have, want[i]) != 0)
            fail_msg("%s: %s is %s, not %s, in form %d", name, tensor, have, want[i], i);
        nb_source_free(s);
    }
}

static void test_types(void **state)
{
    (void)state;
    type_is("gptq-4-sym", "blk.1.attn_q.weight", "F32", "Q4_0", "Q4_0");
    type_is("gptq-4-asym", "blk.1.attn_q.weight", "F32", "Q8_0", "Q4_1");
    type_is("gptq-4-asym-order", "blk.1.attn_q.weight", "F32", "F32", "F16");
    type_is("gptq-4-odd-group", "blk.1.attn_q.weight", "F32", "F32", "F16");
    type_is("gptq-3", "blk.1.ffn_down.weight", "F32", "Q4_0", "Q4_0");
    type_is("gptq-8", "blk.0.ffn_down.weight", "F32", "Q8_0", "Q8_0");
    type_is("gptq-8-asym", "blk.0.ffn_down.weight", "F32", "F32", "F16");
    type_is("awq", "blk.0.ffn_down.weight", "F32", "Q8_0", "Q4_1");
    type_is("awq", "blk.1.ffn_down.weight", "F16", "F16", "F16");
    type_is("fp8-block", "blk.0.ffn_up.weight", "F32", "F32", "BF16");
    type_is("ct-int4-sym", "blk.0.ffn_up.weight", "F32", "Q4_0", "Q4_0");
    type_is("ct-mixed", "blk.0.ffn_down.weight", "F32", "Q8_0", "Q8_0");
    type_is("ct-mixed", "blk.0.ffn_up.weight", "F32", "F32", "BF16");
    type_is("moe-gptq", "blk.0.ffn_gate_exps.weight", "F32", "Q4_0", "Q4_0");
    type_is("moe-bnb-nf4", "blk.0.ffn_gate_exps.weight", "F32", "F32", "NF4");
    type_is("moe-awq", "blk.0.ffn_down_exps.weight", "F32", "Q8_0", "Q4_1");
    type_is("moe-fp8-stacked", "blk.0.ffn_up_exps.weight", "F32", "F32", "BF16");
    type_is("moe-ct-mixed", "blk.0.ffn_gate_exps.weight", "F32", "Q8_0", "Q4_1"); /* one that is not centered */
    type_is("moe-ct-mixed", "blk.0.ffn_up_exps.weight", "F32", "Q4_0", "Q4_0");
    type_is("moe-ct-mixed", "blk.0.ffn_down_exps.weight", "F32", "Q8_0", "Q8_0"); /* two of 8 bits */
    type_is("ct-int8-packed", "blk.0.ffn_up.weight", "F32", "Q8_0", "Q8_0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_logits, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
