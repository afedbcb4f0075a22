/* Directories that people hand in by mistake, each of which is told what it is and what to do; and models of pictures and text,
 * of which the text is read. */
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

#include "convert/open.h"
#include "format/safetensors_write.h"
#include "hf/hf.h"
#include "hf/hf_adapter.h"
#include "support/folder.h"

#define HF NB_TEST_DATA "/hf/"

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

enum { FILES = 6 };

typedef struct made { /* a file; "@" links the one of that name of the model qwen2; NULL text: a folder */
    const char *name, *text;
} made;

static void make(const made *m)
{
    char from[512];
    for (; m->name; m++) {
        const char *path = nb_folder_path(m->name);
        snprintf(from, sizeof from, HF "qwen2/%s", m->name);
        if (!m->text) {
            assert_int_equal(mkdir(path, 0777), 0);
        } else if (strcmp(m->text, "@") == 0) {
            assert_int_equal(symlink(from, path), 0);
        } else {
            nb_writer *w;
            must(nb_writer_open(path, &w, &err));
            must(nb_writer_write(w, m->text, strlen(m->text), &err));
            must(nb_writer_commit(w, &err));
        }
    }
}

static void unmake(const made *m)
{
    if (!m->name)
        return;
    unmake(m + 1); /* what is in a folder before it */
    remove(nb_folder_path(m->name));
}

static void expect_parts(size_t number, nb_status status, const char *const parts[3])
{
    if (status == NB_OK)
        fail_msg("case %zu is opened", number);
    for (int i = 0; i < 3 && parts[i]; i++)
        if (!strstr(err.message, parts[i]))
            fail_msg("case %zu: '%s' lacks '%s'", number, err.message, parts[i]);
}

#define POINTER                                                                                                        \
    "version https://git-lfs.github.com/spec/v1\noid "                                                                 \
    "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 135\n"
#define INDEX "{\"metadata\": {}, \"weight_map\": {\"model.norm.weight\": \"model-00002-of-00002.safetensors\"}}"

static const struct {
    made files[FILES];
    const char *parts[3]; /* of the message: what, where, the remedy */
} models[] = {
    {{{0}}, {"has no files", "config.json", "give the directory of a model"}},
    {{{"tokenizer.json", "@"}},
     {"files of a tokenizer alone (tokenizer.json", "config.json", "download the whole model"}},
    {{{"vocab.txt", "a\n"}}, {"files of a tokenizer alone (vocab.txt", "no config.json", "download the whole model"}},
    {{{"notes.md", "a"}}, {"has no config.json", "give one, or a GGUF file", NULL}},
    {{{"model.safetensors", "@"}}, {"has weights (model.safetensors)", "no config.json", "download config.json"}},
    {{{"pytorch_model.bin", "PK"}}, {"has weights (pytorch_model.bin)", "no config.json", "download config.json"}},
    {{{"model.safetensors.index.json", INDEX}}, {"index of shards", "model.safetensors.index.json", "download"}},
    {{{"zeta.gguf", ""}, {"alpha.gguf", ""}}, {"has no config.json", "GGUF file alpha.gguf", "give that file"}},
    {{{"model", NULL}, {"model/config.json", "{}"}},
     {"no config.json", "its folder model has one", "give that folder"}},
    {{{"model_index.json", "{}"}, {"unet", NULL}, {"unet/config.json", "{}"}},
     {"pipeline of diffusers", "model_index.json", "directory of a language model"}},
    {{{"config.json", "{\"_class_name\": \"UNet2DConditionModel\"}"}},
     {"config.json: byte 16", "UNet2DConditionModel", "directory of a language model"}},
    {{{"config.json", "{\"model_type\": \"qwen2\"}"}},
     {"no \"architectures\"", "config.json: byte 15", "\"architectures\": [\"Qwen2ForCausalLM\"]"}},
    {{{"params.json", "{}"}, {"consolidated.00.pth", "PK"}},
     {"form of its makers", "params.json", "form of transformers"}},
    {{{"adapter_config.json", "{\"base_model_name_or_path\": \"org/base\"}"}, {"adapter_model.safetensors", "a"}},
     {"is an adapter", "trained on (org/base)", "with --adapter"}},
    {{{"adapter_config.json", "{\"base"}, {"config.json", "@"}}, {"is an adapter", "no model", "with --adapter"}},
    {{{"config.json", "@"}, {"tokenizer.json", "@"}},
     {"has a config.json", "no model.safetensors", "download the weights"}},
    {{{"config.json", "@"}, {"model-00001-of-00002.safetensors", "a"}},
     {"has model-00001-of-00002.safetensors", "no model.safetensors.index.json", "download it"}},
    {{{"config.json", "@"}, {"model.safetensors.index.json", INDEX}},
     {"shard 1 of 1", "model-00002-of-00002.safetensors", "all are needed"}},
    {{{"config.json", "@"}, {"gptq_model-4bit-128g.safetensors", "a"}},
     {"no model.safetensors", "gptq_model-4bit-128g.safetensors", "rename it"}},
    {{{"config.json", "@"}, {"consolidated.safetensors", "a"}},
     {"form of its makers", "consolidated", "download model"}},
    {{{"config.json", "@"}, {"tf_model.h5", "a"}}, {"TensorFlow alone", "tf_model.h5", "download"}},
    {{{"config.json", "@"}, {"flax_model.msgpack", "a"}}, {"Flax alone", "flax_model.msgpack", "download"}},
    {{{"config.json", "@"}, {"model.onnx", "a"}}, {"ONNX alone", "model.onnx", "download"}},
    {{{"config.json", "@"}, {"model.gguf", "a"}}, {"no weights of its own", "GGUF file model.gguf", "give that file"}},
    {{{"config.json", "@"}, {"model.safetensors", POINTER}}, {"model.safetensors", "Git LFS pointer", "git lfs pull"}},
    {{{"config.json", "@"}, {"model.safetensors", "@"}, {"tokenizer.json", POINTER}},
     {"/tokenizer.json", "Git LFS pointer", "git lfs pull"}},
    {{{"config.json", "@"}, {"model.safetensors", "@"}, {"tokenizer.model", POINTER}},
     {"/tokenizer.model", "Git LFS pointer", "git lfs pull"}},
    {{{"config.json", POINTER}}, {"/config.json", "Git LFS pointer", "git lfs pull"}},
    {{{"config.json", "{\"architectures\": [\"MllamaForConditionalGeneration\"], \"text_config\": {\"model_type\": "
                      "\"mllama_text_model\"}}"}},
     {"config.json: byte 18",
      "MllamaForConditionalGeneration, a model of more than text around one of text (mllama_text_model)",
      "Gemma 3 is read"}},
    {{{"config.json",
       "{\"architectures\": [\"LlavaForConditionalGeneration\"], \"text_config\": {\"model_type\": \"mpt\"}}"}},
     {"config.json: byte 18", "around one of text (mpt)", "is read"}},
};

static void test_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        nb_source *s = NULL;
        nb_gguf *g = NULL;
        make(models[i].files);
        assert_true(nb_hf_is_model(nb_folder));
        expect_parts(i, nb_source_open(nb_folder, &s, &err), models[i].parts);
        expect_parts(i, nb_gguf_open_model(nb_folder, 1, &g, &err), models[i].parts);
        unmake(models[i].files);
    }
}

static const struct {
    made files[FILES];
    const char *parts[3];
} adapters[] = {
    {{{0}}, {"has no adapter_config.json", "give its directory, or a GGUF file", NULL}},
    {{{"config.json", "@"}, {"model.safetensors", "@"}},
     {"is a model (config.json), no adapter", "give it as the model", NULL}},
    {{{"lora.gguf", ""}}, {"no adapter_config.json", "GGUF file lora.gguf", "give that file"}},
    {{{"checkpoint-9", NULL}, {"checkpoint-9/adapter_config.json", "{}"}},
     {"no adapter_config.json", "folder checkpoint-9 has one", "give that folder"}},
    {{{"adapter_model.safetensors", "a"}},
     {"has weights (adapter_model.safetensors)", "no adapter_config.json", "download it"}},
    {{{"adapter_config.json", "{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 8}"}},
     {"has no adapter_model.safetensors", "get the whole adapter", NULL}},
    {{{"adapter_config.json", POINTER}}, {"adapter_config.json", "Git LFS pointer", "git lfs pull"}},
    {{{"adapter_config.json", "{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 8}"},
      {"adapter_model.safetensors", POINTER}},
     {"adapter_model.safetensors", "Git LFS pointer", "git lfs pull"}},
};

static void test_adapters(void **state)
{
    (void)state;
    nb_adapter_base base = {NB_STR("qwen2"), 4, 2};
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        nb_adapter *a = NULL;
        make(adapters[i].files);
        assert_true(nb_hf_is_adapter(nb_folder));
        expect_parts(i, nb_adapter_open(nb_folder, &base, &a, &err), adapters[i].parts);
        unmake(adapters[i].files);
    }
}

/* ---- the text of a model of pictures and text ---- */

/* The checkpoint `model` with its names changed as such a model has them, and a tower's tensor. */
static void wrap_weights(const char *model, const char *prefix, const char *head, const char *tower)
{
    nb_checkpoint *c;
    nb_safetensors_writer *w;
    uint64_t one = 1;
    char name[256];
    snprintf(name, sizeof name, HF "%s/model.safetensors", model);
    must(nb_checkpoint_open(name, &c, &err));
    must(nb_safetensors_writer_open(nb_folder, 0, &w, &err));
    for (size_t i = 0; i < nb_checkpoint_count(c); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i);
        bool inner = nb_str_starts(t->name, NB_STR("model."));
        int skip = inner ? 6 : 0;
        snprintf(name, sizeof name, "%s%.*s", inner ? prefix : head, (int)t->name.n - skip, t->name.p + skip);
        nb_safetensors_put(w, nb_str_of(name), t->dtype, t->n_dims, t->dims);
    }
    nb_safetensors_put(w, nb_str_of(tower), NB_DTYPE_F32, 1, &one);
    for (size_t i = 0; i < nb_checkpoint_count(c); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, i);
        must(nb_safetensors_data(w, t->data, (size_t)t->values * nb_dtype_bytes(t->dtype), &err));
    }
    must(nb_safetensors_data(w, &(float){7}, sizeof(float), &err));
    must(nb_safetensors_writer_commit(w, &err));
    nb_checkpoint_close(c);
}

/* {"architectures": [WRAPPER], "model_type": "m", "text_config": the model's config.json without its classes} */
static void wrap_config(const char *model, const char *wrapper, bool flat)
{
    char path[512];
    nb_buf text = {0}, out = {0};
    snprintf(path, sizeof path, HF "%s/config.json", model);
    must(nb_file_read(path, 1 << 20, &text, &err));
    char *classes = strstr(text.data, "\"architectures\""), *end = classes ? strchr(classes, ']') : NULL;
    assert_non_null(end);
    nb_buf_printf(&out, "{\"architectures\": [\"%s\"], ", wrapper);
    nb_buf_z(&out, flat ? "\"_x\": 0, " : "\"model_type\": \"m\", \"text_config\": {");
    nb_buf_add(&out, text.data + strspn(text.data, " \n{"), (size_t)(classes - text.data) - strspn(text.data, " \n{"));
    nb_buf_z(&out, end + 1 + strspn(end + 1, " \n,"));
    if (!flat)
        nb_buf_z(&out, "}");
    FILE *f = fopen(nb_folder_path("config.json"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(out.data, 1, out.len, f), out.len);
    assert_int_equal(fclose(f), 0);
    nb_buf_free(&text);
    nb_buf_free(&out);
}

static void same_values(const nb_source *a, const nb_source *b, size_t i, size_t k)
{
    const nb_source_tensor *t = &a->tensors[i], *u = &b->tensors[k];
    size_t row = 0, n = (size_t)nb_source_rows(t);
    assert_ptr_equal(t->type, u->type);
    assert_memory_equal(t->dims, u->dims, sizeof t->dims);
    assert_true(nb_type_row_bytes(t->type, t->dims[0], &row));
    char *x = malloc(row * n), *y = malloc(row * n);
    must(a->read(a, i, 0, n, x, &err));
    must(b->read(b, k, 0, n, y, &err));
    assert_memory_equal(x, y, row * n);
    free(x);
    free(y);
}

/* the tensors and keys are those of the model alone */
static void test_wrapped(void **state)
{
    static const struct {
        const char *model, *wrapper, *prefix, *head, *tower;
        bool flat;
    } rows[] = {
        {"llama-mqa-wide-head", "LlavaForConditionalGeneration", "language_model.model.", "language_model.",
         "vision_tower.x", false},
        {"mistral-sliding", "LlavaNextForConditionalGeneration", "model.language_model.", "", "model.image_newline",
         false},
        {"mistral-nemo", "Mistral3ForConditionalGeneration", "language_model.model.", "language_model.",
         "multi_modal_projector.x", false},
        {"llama-f16-wide", "SmolVLMForConditionalGeneration", "model.text_model.", "", "model.connector.x", false},
        {"llama-f16-wide", "Idefics3ForConditionalGeneration", "model.text_model.", "", "model.vision_model.x", false},
        {"qwen3", "InternVLForConditionalGeneration", "language_model.model.", "language_model.", "vision_tower.x",
         false},
        {"qwen2-untied", "Qwen2VLForConditionalGeneration", "model.", "", "visual.x", true},
        {"qwen2", "Qwen2_5_VLForConditionalGeneration", "model.language_model.", "", "model.visual.x", false},
    };
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        nb_source *plain, *wrapped;
        char path[512];
        snprintf(path, sizeof path, HF "%s", rows[r].model);
        wrap_config(rows[r].model, rows[r].wrapper, rows[r].flat);
        wrap_weights(rows[r].model, rows[r].prefix, rows[r].head, rows[r].tower);
        must(nb_hf_open(path, &plain, &err));
        if (nb_hf_open(nb_folder, &wrapped, &err) != NB_OK)
            fail_msg("%s: %s", rows[r].wrapper, err.message);
        assert_int_equal(wrapped->tensor_count, plain->tensor_count);
        for (size_t i = 0; i < plain->tensor_count; i++) {
            const nb_source_tensor *t = nb_source_find_tensor(wrapped, plain->tensors[i].name);
            assert_non_null(t);
            same_values(plain, wrapped, i, (size_t)(t - wrapped->tensors));
        }
        for (size_t i = 0; i < plain->value_count; i++) {
            char key[256];
            const nb_gguf_value *v = &plain->values[i];
            snprintf(key, sizeof key, "%.*s", NB_STR_ARG(v->key));
            if (strncmp(key, "general.", 8) == 0 || strncmp(key, "tokenizer.", 10) == 0)
                continue;
            const nb_gguf_value *u = nb_source_find(wrapped, key);
            if (!u || u->bytes != v->bytes || memcmp(u->data, v->data, v->bytes) != 0)
                fail_msg("%s: %s is %s", rows[r].wrapper, key, u ? "another" : "missing");
        }
        nb_source_free(plain);
        nb_source_free(wrapped);
        unlink(nb_folder_path("config.json"));
        unlink(nb_folder_path("model.safetensors"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_adapters),
        cmocka_unit_test(test_wrapped),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
