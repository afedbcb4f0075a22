/* Models created: the manifest to the byte as Python makes it, what a model's own Modelfile creates again, and everything that
 * FROM, ADAPTER and --quantize take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "convert/open.h"
#include "store/create.h"
#include "store/library.h"
#include "support/folder.h"
#include "support/gguf_edit.h"
#include "support/whole_store.h"

#define ARCHS NB_TEST_DATA "/archs/"
#define HF NB_TEST_DATA "/hf/"

static char folder[260], root[300];
static nb_library *library;

static int make(void **state)
{
    (void)state;
    unsetenv("OLLAMA_NOPRUNE");
    snprintf(folder, sizeof folder, "%s", temporary_directory());
    snprintf(root, sizeof root, "%s/store", folder);
    return nb_library_open(&(nb_library_params){.root = root}, &library, NULL) == NB_OK ? 0 : -1;
}

static int clean(void **state)
{
    (void)state;
    char command[400];
    nb_library_close(library);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* ---- creating ---- */

static nb_buf told; /* status lines, each with a newline */

static bool on_status(void *user, const char *status, uint64_t done, uint64_t total)
{
    (void)user;
    assert_true(done <= total || total == 0);
    if (total == 0)
        nb_buf_printf(&told, "%s\n", status);
    return true;
}

static nb_status try_with(const char *name, nb_create_params p, const char *modelfile, nb_error *err)
{
    nb_store *s;
    nb_modelfile m = {0};
    nb_arena arena = {0};
    nb_buf_free(&told);
    p.status = on_status;
    assert_int_equal(nb_name_parse(nb_str_of(name), &p.name, err), NB_OK);
    nb_status status = nb_modelfile_parse(nb_str_of(modelfile), &m, err);
    if (status == NB_OK)
        status = nb_create_read(&m, folder, &arena, &p, err);
    if (status == NB_OK)
        status = nb_store_open(root, &s, err);
    if (status == NB_OK) {
        status = nb_create(s, &p, err);
        nb_store_close(s);
    }
    nb_modelfile_free(&m);
    nb_arena_free(&arena);
    return status;
}

static nb_entry *created_with(const char *name, nb_create_params p, const char *modelfile)
{
    static ws_store w;
    nb_error err;
    nb_entry *e;
    nb_store *s;
    if (try_with(name, p, modelfile, &err) != NB_OK)
        fail_msg("%s\n%s", modelfile, err.message);
    assert_non_null(strstr(told.data, "writing manifest\nsuccess\n"));
    if (nb_library_find(library, nb_str_of(name), &e, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_store_open(root, &s, &err), NB_OK);
    nb_store_close(s);
    if (!ws_whole(&w, root) || !ws_clean(&w))
        fail_msg("%s: %s", name, w.why);
    return e;
}

static nb_entry *created(const char *name, const char *modelfile)
{
    return created_with(name, (nb_create_params){0}, modelfile);
}

static void refused(nb_create_params p, const char *modelfile, nb_status code, const char *part)
{
    nb_error err = {0};
    nb_entry *e;
    if (try_with("refused", p, modelfile, &err) != code || !strstr(err.message, part))
        fail_msg("%s\n%d: %s", modelfile, err.code, err.message);
    assert_int_equal(nb_library_find(library, NB_STR("refused"), &e, NULL), NB_ERR_NOT_FOUND);
}

/* The model's own Modelfile creates the same model again: manifest and all. */
static void comes_back(nb_entry *e)
{
    nb_buf text = {0};
    assert_int_equal(nb_entry_modelfile(e, &text, NULL), NB_OK);
    nb_entry *again = created("came-back", text.data);
    assert_string_equal(nb_entry_digest(again), nb_entry_digest(e));
    nb_entry_release(again);
    nb_buf_free(&text);
}

static void is(nb_str got, const char *want)
{
    if (!nb_str_eqz(got, want))
        fail_msg("%.*s, not %s", (int)got.n, got.p, want);
}

static const nb_contents *contents_of(nb_entry *e)
{
    const nb_contents *c;
    nb_error err;
    if (nb_entry_contents(e, &c, &err) != NB_OK)
        fail_msg("%s", err.message);
    return c;
}

/* as many tensors, of the same names and values */
static void same_tensors(const char *a_path, const char *b_path)
{
    nb_gguf *a, *b;
    nb_error err;
    if (nb_gguf_open(a_path, &a, &err) != NB_OK || nb_gguf_open(b_path, &b, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_gguf_tensor_count(a), nb_gguf_tensor_count(b));
    for (size_t i = 0; i < nb_gguf_tensor_count(a); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(a, i), *u = nb_gguf_find_tensor(b, t->name);
        assert_non_null(u);
        size_t n = (size_t)(t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]);
        float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        assert_true(x && y && memcmp(t->dims, u->dims, sizeof t->dims) == 0);
        t->type->dequantize(t->data, x, n);
        u->type->dequantize(u->data, y, n);
        assert_memory_equal(x, y, n * sizeof *x);
        free(x);
        free(y);
    }
    nb_gguf_close(a);
    nb_gguf_close(b);
}

/* ---- tests ---- */

static void to_the_byte(void **state)
{
    (void)state;
    nb_entry *e = created("all",
                          "FROM " ARCHS "llama-2-mha.gguf\n"
                          "LICENSE MIT\nLICENSE \"second\nline\"\nMESSAGE user hi\nMESSAGE assistant \" two\nlines\"\n"
                          "PARAMETER temperature 0.5\nPARAMETER temperature 0.7\nPARAMETER num_ctx 4096\n"
                          "PARAMETER stop <|end|>\nPARAMETER stop \"\n\"\nRENDERER qwen3\nPARSER qwen3\n"
                          "REQUIRES v0.14.0\nSYSTEM You are \"x\".\n"
                          "TEMPLATE \"\"\"{{ .Prompt }}\n{{ .Response }}\"\"\"\n");
    /* of the manifest that Ollama 0.32 writes for this Modelfile: all layers and the configuration have its bytes */
    assert_string_equal(nb_entry_digest(e), "a23d0ecb49aebc54eb1eddf881ef55a970a606619d5ba860632980be5974e1e6");
    assert_true(
        nb_str_starts(nb_buf_view(&told), NB_STR("gathering model components\ncreating new layer sha256:a3f98c74")));
    comes_back(e);
    assert_non_null(strstr(told.data, "using existing layer sha256:a3f98c74"));
    assert_null(strstr(told.data, "creating new layer"));
    nb_entry_release(e);
}

static void from_another(void **state)
{
    (void)state;
    nb_entry_release(created("base",
                             "FROM " ARCHS "llama-2-mha.gguf\nSYSTEM base\nTEMPLATE {{ .Prompt }}\nLICENSE MIT\n"
                             "PARAMETER top_k 5\nPARAMETER stop a\nPARAMETER stop b\nMESSAGE user hi\n"
                             "RENDERER r\nPARSER p\n"));
    nb_entry *e = created("derived", "FROM BASE\nSYSTEM derived\nPARAMETER stop c\nLICENSE mine\n");
    const nb_contents *c = contents_of(e);
    is(c->system, "derived");
    is(c->go_template, "{{ .Prompt }}");
    is(c->config.renderer, "r");
    is(c->config.parser, "p");
    is(c->config.type, "233K");
    assert_true(c->license_count == 2 && c->message_count == 1 && c->param_count == 2);
    is(c->params[0].text, "c");
    assert_true(c->params[1].number == 5);
    comes_back(e);
    nb_entry_release(e);
    /* said to be empty is not there */
    e = created("bare", "FROM derived\nSYSTEM \"\"\nTEMPLATE \"\"\nMESSAGE assistant x\nRENDERER s");
    c = contents_of(e);
    assert_true(c->system.n == 0 && !c->has_template && c->message_count == 1);
    is(c->messages[0].role, "assistant");
    is(c->config.renderer, "s");
    comes_back(e);
    nb_entry_release(e);
    refused((nb_create_params){0}, "FROM nobody", NB_ERR_NOT_FOUND, "model 'nobody' not found");
    refused((nb_create_params){0}, "FROM base\nFROM derived", NB_ERR_ARGUMENT, "(line 2): a model is made from one");
}

/* A directory becomes the file that an independent writer made of it. */
static void checkpoints(void **state)
{
    (void)state;
    nb_entry *e = created("dir", "FROM " HF "llama-2-mha");
    same_tensors(contents_of(e)->model, ARCHS "llama-2-mha.gguf");
    assert_non_null(strstr(told.data, "gathering model components\nconverting model\ncreating new layer"));
    comes_back(e);
    nb_entry_release(e);
    e = created("shards", "FROM " HF "llama-3.2-rope-scaled"); /* three safetensors */
    same_tensors(contents_of(e)->model, ARCHS "llama-3.2-rope-scaled.gguf");
    nb_entry_release(e);
    e = created("bnb", "FROM " NB_TEST_DATA "/bitsandbytes/llama-nf4-double");
    is(contents_of(e)->config.file_type, "Q8_0"); /* as `convert` has it */
    nb_entry_release(e);
    refused((nb_create_params){0}, "FROM " NB_TEST_DATA "/store", NB_ERR_NOT_FOUND, "config.json");
}

static void shards(void **state)
{
    (void)state;
    nb_source *s;
    nb_error err;
    char out[400];
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(NB_STR("COPY"));
    p.split_bytes = 200000;
    snprintf(out, sizeof out, "%s/cut/m.gguf", folder);
    char *end = strrchr(out, '/');
    *end = 0;
    assert_int_equal(mkdir(out, 0755), 0);
    *end = '/';
    assert_int_equal(nb_source_open_gguf(ARCHS "llama-2-mha.gguf", &s, &err), NB_OK);
    nb_quantize_result result;
    if (nb_quantize(s, out, &p, NULL, NULL, &result, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(result.files, 3);
    nb_source_free(s);
    nb_entry *e = created("whole", "FROM cut/m-00001-of-00003.gguf");
    same_tensors(contents_of(e)->model, ARCHS "llama-2-mha.gguf");
    nb_gguf *g;
    assert_int_equal(nb_gguf_open(contents_of(e)->model, &g, &err), NB_OK);
    assert_null(nb_gguf_find(g, "split.count"));
    nb_gguf_close(g);
    nb_entry *folder_of_them = created("folder", "FROM ./cut");
    assert_string_equal(nb_entry_digest(e), nb_entry_digest(folder_of_them));
    nb_entry_release(e);
    nb_entry_release(folder_of_them);
}

static void quantizes(void **state)
{
    (void)state;
    struct stat st;
    nb_create_params p = {.quantize = "q4_k_m"};
    nb_entry *e = created_with("mix", p, "FROM " ARCHS "gemma-3.gguf");
    is(contents_of(e)->config.file_type, "Q4_K_M");
    assert_non_null(strstr(told.data, "quantizing BF16 model to Q4_K_M\n"));
    nb_entry_release(e);
    p.quantize = "Q8_0";
    e = created_with("directory", p, "FROM " HF "llama-2-mha\nSYSTEM x");
    is(contents_of(e)->config.file_type, "Q8_0");
    nb_entry_release(e);
    /* of a model of the store */
    nb_entry_release(created("base", "FROM " ARCHS "llama-2-mha.gguf\nSYSTEM base"));
    p.quantize = "size=300k";
    e = created_with("sized", p, "FROM base");
    assert_int_equal(stat(contents_of(e)->model, &st), 0);
    assert_true(st.st_size <= 300000 && st.st_size > 290000);
    is(contents_of(e)->system, "base");
    nb_entry_release(e);
    p.quantize = "bpw=9";
    e = created_with("bits", p, "FROM base");
    nb_entry_release(e);
    /* to a divergence, measured on a text */
    nb_buf text = {0};
    for (int i = 0; i < 900; i++)
        nb_buf_printf(&text, "the %d. line of a text of no sense, %d\n", i, i * i % 97);
    p.quantize = "kld=0.05";
    refused(p, "FROM base", NB_ERR_ARGUMENT, "kld=0.05 needs the text to measure on");
    p.text = nb_buf_view(&text);
    e = created_with("lossy", p, "FROM base");
    assert_non_null(strstr(told.data, "chosen types have a KL divergence of 0.0"));
    assert_int_equal(stat(contents_of(e)->model, &st), 0);
    assert_true(st.st_size < 480000);
    nb_entry_release(e);
    nb_buf_free(&text);
    /* and what cannot be */
    p = (nb_create_params){.quantize = "Q8_0"};
    refused(p, "FROM mix", NB_ERR_ARGUMENT, "is quantized already");
    p.quantize = "Q5_9";
    refused(p, "FROM base", NB_ERR_ARGUMENT, "'Q5_9' is nothing to quantize to; give a type such as Q4_K_M");
    p.quantize = "1k";
    refused(p, "FROM base", NB_ERR_ARGUMENT, "1000 bytes is out of reach");
}

/* A PEFT directory becomes what llama.cpp's converter made of it; a GGUF adapter stays as it is. */
static void adapters(void **state)
{
    (void)state;
    nb_adapter_base base = {.architecture = NB_STR("gemma3"), .heads = 4, .kv_heads = 1};
    nb_adapter *got = NULL, *want = NULL;
    nb_error err;
    nb_entry *e = created("peft", "FROM " ARCHS "gemma-3.gguf\nADAPTER " NB_TEST_DATA "/lora/gemma-3-a\n"
                                  "ADAPTER " NB_TEST_DATA "/lora/gemma-3-a.gguf");
    const nb_contents *c = contents_of(e);
    assert_int_equal(c->adapter_count, 2);
    if (nb_adapter_open_gguf(c->adapters[0], &base, &got, &err) != NB_OK ||
        nb_adapter_open(NB_TEST_DATA "/lora/gemma-3-a", &base, &want, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(got->count, want->count);
    for (size_t i = 0; i < got->count; i++) {
        const nb_adapter_pair *x = &got->pairs[i], *y = &want->pairs[i];
        assert_true(nb_str_eq(x->name, y->name) && x->scale == y->scale);
        assert_memory_equal(x->a->data, y->a->data, y->a->bytes);
        assert_memory_equal(x->b->data, y->b->data, y->b->bytes);
    }
    nb_adapter_free(got);
    nb_adapter_free(want);
    comes_back(e);
    nb_entry_release(e);
    refused((nb_create_params){0}, "FROM " ARCHS "llama-2-mha.gguf\nADAPTER " NB_TEST_DATA "/lora/gemma-3-a.gguf",
            NB_ERR_ARGUMENT, "gemma3");
    refused((nb_create_params){0}, "FROM " NB_TEST_DATA "/lora/gemma-3-a.gguf", NB_ERR_ARGUMENT,
            "name it with ADAPTER");
    refused((nb_create_params){0}, "FROM " ARCHS "gemma-3.gguf\nADAPTER " ARCHS "gemma-3.gguf", NB_ERR_UNSUPPORTED,
            "adapter");
}

static void as_projector(nb_gguf_writer *w, const void *user)
{
    (void)user;
    nb_gguf_put_str(w, "general.architecture", NB_STR("clip"));
}

static void projectors_and_drafts(void **state)
{
    (void)state;
    nb_error err;
    char path[1500];
    snprintf(path, sizeof path, "%s/mmproj.gguf", folder);
    if (gguf_edit_write(ARCHS "llama-2-mha.gguf", path, as_projector, NULL, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_entry *e = created("sees", "FROM ./mmproj.gguf\nFROM " ARCHS "gemma-3.gguf\nDRAFT " ARCHS "gemma-3-untied.gguf");
    const nb_contents *c = contents_of(e);
    assert_true(c->projector_count == 1 && c->draft && c->config.family_count == 2);
    is(c->config.families[0], "gemma3");
    is(c->config.families[1], "clip");
    comes_back(e);
    nb_entry_release(e);
    /* with a checkpoint: beside it or in it, where other GGUF files are left alone */
    nb_entry *beside = created("beside", "FROM " HF "llama-2-mha\nFROM ./mmproj.gguf");
    assert_int_equal(contents_of(beside)->projector_count, 1);
    snprintf(path, sizeof path,
             "mkdir '%s/ck' && cp " HF "llama-2-mha/* '%s/mmproj.gguf' " ARCHS "gemma-3.gguf '%s/ck'", folder, folder,
             folder);
    assert_int_equal(system(path), 0);
    e = created("within", "FROM ck");
    assert_int_equal(contents_of(e)->projector_count, 1);
    is(contents_of(e)->config.family, "llama");
    comes_back(e);
    nb_entry_release(e);
    nb_entry_release(beside);
    refused((nb_create_params){0}, "FROM ./mmproj.gguf", NB_ERR_ARGUMENT, "there is no model");
    refused((nb_create_params){0}, "FROM " ARCHS "gemma-3.gguf\nDRAFT mmproj.gguf", NB_ERR_ARGUMENT, "a draft is one");
}

static void links(void **state)
{
    (void)state;
    char file[300], command[800];
    struct stat a, b;
    nb_source *s;
    nb_error err;
    snprintf(file, sizeof file, "%s/mine.gguf", folder);
    snprintf(command, sizeof command, "cp " ARCHS "llama-2-mha.gguf '%s' && chmod u+w '%s'", file, file);
    assert_int_equal(system(command), 0);
    nb_entry *e = created_with("linked", (nb_create_params){.link = true}, "FROM mine.gguf");
    assert_true(stat(file, &a) == 0 && stat(contents_of(e)->model, &b) == 0 && a.st_ino == b.st_ino);
    comes_back(e);
    assert_int_equal(truncate(file, 1000), 0);
    assert_int_equal(nb_entry_open(e, &s, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, "mine.gguf: it was linked into the model store and has changed since"));
    refused((nb_create_params){0}, "FROM linked", NB_ERR_IO, "mine.gguf: it was linked");
    nb_entry_release(e);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        nb_status code;
        const char *part;
    } rows[] = {
        {"FROM ./nowhere.gguf", NB_ERR_NOT_FOUND, "(line 1): "},
        {"FROM /nowhere/at/all", NB_ERR_NOT_FOUND, "/nowhere/at/all: No such file"},
        {"\n\nFROM nowhere.gguf", NB_ERR_NOT_FOUND, "(line 3): "},
        {"FROM x y", NB_ERR_NOT_FOUND, "x y: No such file"},
        {"FROM " ARCHS "llama-2-mha.gguf\nADAPTER nowhere", NB_ERR_NOT_FOUND, "(line 2): "},
        {"FROM " ARCHS "llama-2-mha.gguf\nTEMPLATE {{ if }}", NB_ERR_ARGUMENT, "the template is no Go template"},
        {"FROM " ARCHS "llama-2-mha.gguf\nREQUIRES new", NB_ERR_ARGUMENT, "'new' is no version"},
        {"FROM " ARCHS "llama-2-mha.gguf\nREQUIRES 1.2", NB_ERR_ARGUMENT, "'1.2' is no version"},
        {"FROM " ARCHS "llama-2-mha.gguf\nFROM " ARCHS "gemma-3.gguf", NB_ERR_ARGUMENT, "is a second model"},
        {"FROM " ARCHS "llama-2-mha.gguf\nFROM " HF "llama-2-mha", NB_ERR_ARGUMENT, "is a second model"},
        {"FROM " HF "llama-2-mha/config.json", NB_ERR_FORMAT, "config.json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused((nb_create_params){0}, rows[i].text, rows[i].code, rows[i].part);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clean)
    const struct CMUnitTest tests[] = {TEST(to_the_byte), TEST(from_another), TEST(checkpoints),           TEST(shards),
                                       TEST(quantizes),   TEST(adapters),     TEST(projectors_and_drafts), TEST(links),
                                       TEST(refuses)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nb_buf_free(&told);
    return failed;
}
