/* GGUF to a directory of Hugging Face and back: the same values, keys and vocabulary, and twice the same bytes. What the
 * directories hold is what transformers loads and computes the logits of tests/data/archs from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "hf/export.h"
#include "hf/hf.h"
#include "support/folder.h"

#define ARCHS NB_TEST_DATA "/archs/"

static const char *const files[] = {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"};

static nb_source *open_gguf(const char *path)
{
    nb_source *s;
    nb_error err = {0};
    if (nb_source_open_gguf(path, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

static void export_to(const nb_source *s, const char *dir, const char *type)
{
    nb_hf_export_params p = {.type = type ? nb_type_by_name(nb_str_of(type)) : NULL};
    nb_hf_export_result r;
    nb_error err = {0};
    if (nb_hf_export(s, dir, &p, NULL, NULL, &r, &err) != NB_OK)
        fail_msg("%s", err.message);
}

static void remove_model(const char *dir)
{
    char path[1024];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static float *values_of(const nb_source *s, const nb_source_tensor *t)
{
    size_t row_bytes, n = (size_t)(nb_source_rows(t) * t->dims[0]);
    nb_error err = {0};
    assert_true(nb_type_row_bytes(t->type, t->dims[0], &row_bytes));
    void *codes = malloc(row_bytes * nb_source_rows(t));
    float *x = malloc(n * sizeof *x);
    assert_int_equal(s->read(s, (size_t)(t - s->tensors), 0, nb_source_rows(t), codes, &err), NB_OK);
    t->type->dequantize(codes, x, n);
    free(codes);
    return x;
}

/* llama3's factors are computed again, in floats */
static void same_tensor(const nb_source *a, const nb_source_tensor *t, const nb_source *b)
{
    const nb_source_tensor *u = nb_source_find_tensor(b, t->name);
    if (!u)
        fail_msg("no tensor '%.*s'", NB_STR_ARG(t->name));
    assert_memory_equal(t->dims, u->dims, sizeof t->dims);
    float *x = values_of(a, t), *y = values_of(b, u);
    size_t n = (size_t)(nb_source_rows(t) * t->dims[0]);
    float tolerance = nb_str_eqz(t->name, "rope_freqs.weight") ? 1e-6f : 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(x[i] - y[i]) <= tolerance * fabsf(x[i])))
            fail_msg("'%.*s': value %zu was %a, is %a", NB_STR_ARG(t->name), i, (double)x[i], (double)y[i]);
    free(x);
    free(y);
}

/* what the model computes with; scores come back as ranks, pad and the like are put by what they say */
static bool is_compared(nb_str key)
{
    static const char *const others[] = {"general.", "tokenizer.ggml.scores", "tokenizer.ggml.add_",
                                         "tokenizer.ggml.token_type"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (nb_str_starts(key, nb_str_of(others[i])))
            return false;
    return true;
}

static void same_keys(const nb_source *a, const nb_source *b)
{
    char key[256];
    for (size_t i = 0; i < a->value_count; i++) {
        const nb_gguf_value *v = &a->values[i];
        if (!is_compared(v->key))
            continue;
        snprintf(key, sizeof key, "%.*s", NB_STR_ARG(v->key));
        const nb_gguf_value *w = nb_source_find(b, key);
        if (!w || w->kind != v->kind || w->bytes != v->bytes || memcmp(w->data, v->data, v->bytes) != 0)
            fail_msg("'%s' is %s", key, w ? "another" : "lost");
    }
}

static void same_files(const char *a, const char *b)
{
    for (size_t i = 0; i < 4; i++) {
        char path[1024];
        nb_map x, y;
        nb_error err = {0};
        snprintf(path, sizeof path, "%s/%s", a, files[i]);
        assert_int_equal(nb_map_open(path, &x, &err), NB_OK);
        snprintf(path, sizeof path, "%s/%s", b, files[i]);
        assert_int_equal(nb_map_open(path, &y, &err), NB_OK);
        if (x.size != y.size || memcmp(x.data, y.data, x.size) != 0)
            fail_msg("%s is another after the second way", files[i]);
        nb_map_close(&x);
        nb_map_close(&y);
    }
}

static void there_and_back(void **state)
{
    (void)state;
    static const char *const names[] = {
        "llama-2-mha", "llama-3.2-rope-scaled", "llama-mqa-wide-head", "mistral-sliding", "qwen2", "gemma-3",
        "gemma", "gemma-2", "gpt2", "phi-3-longrope", "phi-3-sliding", "qwen3", "mixtral", "mixtral-five", "qwen2-moe", "qwen2-moe-steps", "qwen3-moe", "qwen3-moe-five"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512], first[512], second[512];
        nb_source *back;
        nb_error err = {0};
        snprintf(path, sizeof path, ARCHS "%s.gguf", names[i]);
        snprintf(first, sizeof first, "%s", nb_folder_path("first"));
        snprintf(second, sizeof second, "%s", nb_folder_path("second"));
        nb_source *s = open_gguf(path);
        export_to(s, first, "F32");
        if (nb_hf_open(first, &back, &err) != NB_OK)
            fail_msg("%s: %s", names[i], err.message);
        assert_int_equal(back->tensor_count, s->tensor_count);
        for (size_t k = 0; k < s->tensor_count; k++)
            same_tensor(s, &s->tensors[k], back);
        same_keys(s, back);
        export_to(back, second, "F32");
        same_files(first, second);
        nb_source_free(back);
        nb_source_free(s);
        remove_model(first);
        remove_model(second);
    }
}

static nb_str text_of(const char *dir, const char *name, nb_buf *b)
{
    char path[1024];
    nb_error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    nb_buf_clear(b);
    assert_int_equal(nb_file_read(path, 1 << 20, b, &err), NB_OK);
    return nb_buf_view(b);
}

/* llama 3's four numbers, which stand nowhere in the file, are those that the checkpoint had */
static void rope_scaling_is_found_again(void **state)
{
    (void)state;
    nb_buf b = {0};
    nb_source *s = open_gguf(ARCHS "llama-3.2-rope-scaled.gguf");
    const char *dir = nb_folder_path("first");
    export_to(s, dir, "F32");
    text_of(dir, "config.json", &b);
    assert_non_null(strstr(b.data, "\"rope_type\": \"llama3\""));
    assert_non_null(strstr(b.data, "\"factor\": 8.0"));
    assert_non_null(strstr(b.data, "\"low_freq_factor\": 1.0"));
    assert_non_null(strstr(b.data, "\"high_freq_factor\": 4.0"));
    assert_non_null(strstr(b.data, "\"original_max_position_embeddings\": 64"));
    nb_buf_free(&b);
    nb_source_free(s);
    remove_model(nb_folder_path("first"));
}

static void types(void **state)
{
    (void)state;
    static const struct {
        const char *file, *type;
        nb_dtype dtype;
    } rows[] = {
        {ARCHS "qwen2.gguf", NULL, NB_DTYPE_F32},
        {ARCHS "gemma-3.gguf", NULL, NB_DTYPE_BF16},
        {NB_TEST_DATA "/types/Q4_0.gguf", NULL, NB_DTYPE_F16},
        {NB_TEST_DATA "/types/Q4_K.gguf", "BF16", NB_DTYPE_BF16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_checkpoint *c;
        nb_error err = {0};
        nb_source *s = open_gguf(rows[i].file);
        const char *dir = nb_folder_path("first");
        export_to(s, dir, rows[i].type);
        assert_int_equal(nb_checkpoint_open(dir, &c, &err), NB_OK);
        for (size_t k = 0; k < nb_checkpoint_count(c); k++)
            assert_int_equal(nb_checkpoint_at(c, k)->dtype, rows[i].dtype);
        nb_checkpoint_close(c);
        nb_source_free(s);
        remove_model(nb_folder_path("first"));
    }
}

static void refused(const nb_source *s, const char *type, const char *says)
{
    struct stat st;
    nb_hf_export_params p = {.type = type ? nb_type_by_name(nb_str_of(type)) : NULL};
    nb_error err = {0};
    const char *dir = nb_folder_path("first");
    assert_int_not_equal(nb_hf_export(s, dir, &p, NULL, NULL, NULL, &err), NB_OK);
    if (!strstr(err.message, says))
        fail_msg("'%s' wanted, got: %s", says, err.message);
    char config[1024];
    snprintf(config, sizeof config, "%s/config.json", dir);
    assert_int_not_equal(stat(config, &st), 0);
    remove_model(dir);
}

static int cancel(void *user, nb_str tensor, uint64_t done, uint64_t all)
{
    (void)user, (void)tensor;
    return done > all / 2;
}

static void what_cannot_be_written(void **state)
{
    (void)state;
    nb_source *s = open_gguf(ARCHS "bert.gguf");
    refused(s, NULL, "architecture 'bert' are not written");
    nb_source_free(s);
    s = open_gguf(ARCHS "qwen2.gguf");
    refused(s, "Q8_0", "cannot hold Q8_0");
    nb_source fewer = *s; /* without its last tensor, and with one that has no place */
    fewer.tensor_count--;
    refused(&fewer, NULL, "has no tensor '");
    nb_source_tensor *renamed = malloc(s->tensor_count * sizeof *renamed);
    memcpy(renamed, s->tensors, s->tensor_count * sizeof *renamed);
    for (size_t i = 0; i < s->tensor_count; i++)
        if (nb_str_eqz(renamed[i].name, "output_norm.weight"))
            renamed[i].name = NB_STR("output_norm.bias2");
    nb_source odd = *s;
    odd.tensors = renamed;
    refused(&odd, NULL, "output_norm.weight");
    free(renamed);
    nb_hf_export_params p = {0};
    nb_error err = {0};
    assert_int_equal(nb_hf_export(s, nb_folder_path("first"), &p, cancel, NULL, NULL, &err), NB_ERR_CANCELLED);
    assert_int_not_equal(access(nb_folder_path("first/model.safetensors"), F_OK), 0);
    remove_model(nb_folder_path("first"));
    nb_source_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(rope_scaling_is_found_again),
        cmocka_unit_test(types),
        cmocka_unit_test(what_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
