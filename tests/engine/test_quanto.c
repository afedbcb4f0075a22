/* Linear layers in optimum-quanto's form, against quanto's own tensors and logits of the same checkpoint. */
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

#include "engine/engine.h"
#include "format/checkpoint.h"
#include "hf/bnb_write.h"
#include "support/folder.h"

#define PLAIN NB_TEST_DATA "/hf/qwen2"
#define QUANTO NB_TEST_DATA "/quanto/"

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static void write_quanto(nb_quanto_form form)
{
    nb_bnb_write_params p = {.load = nb_load_defaults(NB_LOAD_INT8),
                             .has_dtype = true,
                             .dtype = NB_FLOAT_F32,
                             .storage = "uint8",
                             .compute_dtype = "float32",
                             .quanto = form,
                             .threads = 1};
    nb_bnb_write_result result;
    must(nb_bnb_write(PLAIN, nb_folder, &p, NULL, NULL, &result, &err));
    assert_int_equal(result.quantized, 21);
}

static void remove_files(void)
{
    static const char *const files[] = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json",
                                        "quanto_qmap.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(nb_folder_path(files[i]));
}

/* Every tensor of quanto's, and no other of its kinds. */
static void compare_tensors(const nb_checkpoint *want)
{
    nb_checkpoint *have;
    must(nb_checkpoint_open(nb_folder_path("model.safetensors"), &have, &err));
    size_t compared = 0, theirs = 0;
    for (size_t i = 0; i < nb_checkpoint_count(want); i++) {
        const nb_checkpoint_tensor *a = nb_checkpoint_at(want, i), *b = nb_checkpoint_find(have, a->name);
        if (nb_str_eqz(a->name, "logits") || nb_str_eqz(a->name, "input_ids"))
            continue;
        if (!b || b->dtype != a->dtype || b->n_dims != a->n_dims || memcmp(a->dims, b->dims, sizeof a->dims) != 0 ||
            memcmp(a->data, b->data, (size_t)a->values * nb_dtype_bytes(a->dtype)) != 0)
            fail_msg("%.*s differs", NB_STR_ARG(a->name));
        compared++;
    }
    for (size_t i = 0; i < nb_checkpoint_count(have); i++) {
        nb_str name = nb_checkpoint_at(have, i)->name;
        theirs += memmem(name.p, name.n, "weight._", 8) || memmem(name.p, name.n, "put_scale", 9);
    }
    assert_int_equal(compared, theirs);
    nb_checkpoint_close(have);
}

static double nmse_of(const nb_checkpoint *want, bool exact)
{
    const nb_checkpoint_tensor *y = nb_checkpoint_find(want, NB_STR("logits"));
    size_t tokens = (size_t)y->dims[0], row = (size_t)y->dims[1];
    const int32_t *ids = nb_checkpoint_find(want, NB_STR("input_ids"))->data;
    float expected[1024];
    nb_model *m;
    nb_session *s;
    nb_model_params p = nb_model_defaults();
    double difference = 0, power = 0;
    p.threads = 2;
    p.exact = exact;
    assert_true(row <= 1024);
    must(nb_model_open(nb_folder, &p, &m, &err));
    nb_session_params sp = {.context = tokens, .batch = tokens, .outputs = tokens, .kv_type = "f32"};
    must(nb_session_open(m, &sp, &s, &err));
    must(nb_session_eval(s, ids, tokens, NB_LOGITS_ALL, &err));
    for (size_t t = 0; t < tokens; t++) {
        nb_checkpoint_read_f32(y, t * row, row, expected);
        for (size_t i = 0; i < row; i++) {
            double d = (double)nb_session_row(s, t)[i] - (double)expected[i];
            difference += d * d;
            power += (double)expected[i] * (double)expected[i];
        }
    }
    nb_session_close(s);
    nb_model_close(m);
    return difference / power;
}

/* most: NMSE of the fast mode: float activations, or 8-bit ones */
static void check(nb_quanto_form form, const char *vectors, double least, double most)
{
    nb_checkpoint *want;
    must(nb_checkpoint_open(vectors, &want, &err));
    write_quanto(form);
    compare_tensors(want);
    double exact = nmse_of(want, true), fast = nmse_of(want, false);
    if (!(exact <= 1e-10) || !(fast >= least && fast <= most))
        fail_msg("form %d: NMSE %g exact, %g fast", form, exact, fast);
    remove_files();
    nb_checkpoint_close(want);
}

static void test_forms(void **state)
{
    (void)state;
    check(NB_QUANTO_W8A16, QUANTO "int8.safetensors", 0, 1e-5);
    check(NB_QUANTO_W8A8, QUANTO "int8.safetensors", 1e-5, 5e-3);
    check(NB_QUANTO_W4G128, QUANTO "int4.safetensors", 0, 1e-5);
}

/* ---- damaged ---- */

static void replace_file(const char *name, const char *from, const char *to)
{
    nb_buf text = {0};
    must(nb_file_read(nb_folder_path(name), 1 << 24, &text, &err));
    char *at = memmem(text.data, text.len, from, strlen(from));
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    FILE *f = fopen(nb_folder_path(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text.data, 1, text.len, f), text.len);
    assert_int_equal(fclose(f), 0);
    nb_buf_free(&text);
}

static void refused(const char *says)
{
    nb_source *s;
    nb_status status = nb_hf_open(nb_folder, &s, &err);
    if (status == NB_OK || !strstr(err.message, says))
        fail_msg("status %d, '%s' does not say '%s'", status, err.message, says);
    remove_files();
}

static void test_damaged(void **state)
{
    (void)state;
    write_quanto(NB_QUANTO_W8A16);
    replace_file("model.safetensors", "layers.0.mlp.up_proj.weight._scale", "layers.0.mlp.up_proj.weight._scolo");
    refused("up_proj.weight._scale' is missing or not 128 values");
    write_quanto(NB_QUANTO_W8A16);
    replace_file("config.json", "\"int8\"", "\"int3\"");
    refused("neither int8 nor int4");
    write_quanto(NB_QUANTO_W4G128);
    replace_file("quanto_qmap.json", "shape", "shade");
    refused("has no \"shape\" of model.layers.0");
    write_quanto(NB_QUANTO_W4G128);
    unlink(nb_folder_path("quanto_qmap.json"));
    refused("quanto_qmap.json: has no \"shape\"");
    write_quanto(NB_QUANTO_W4G128);
    replace_file("quanto_qmap.json", "128", "999");
    refused("is not as long as its shape and groups say");
    write_quanto(NB_QUANTO_W4G128);
    replace_file("model.safetensors", "layers.0.mlp.up_proj.weight._shift", "layers.0.mlp.up_proj.weight._shaft");
    refused("_shift' is missing or not 128 values");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forms, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_damaged, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
