/* GGUF to a directory of Hugging Face and back: the same values, keys and vocabulary, and twice the same bytes. What the
 * directories hold is what transformers loads and computes the logits of tests/data/archs from. */
#define _GNU_SOURCE
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
#include "hf/hf_json.h"
#include "support/archs.h"
#include "support/folder.h"

#define ARCHS NB_TEST_DATA "/archs/"

static const char *const files[] = {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json",
                                    /* of sentence-transformers */
                                    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
                                    "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
                                    "3_Dense/config.json", "3_Dense/model.safetensors", "1_Pooling", "2_Dense",
                                    "3_Dense"};
enum { FILES = sizeof files / sizeof *files, FOLDERS = 3 };

static nb_archs_list models;

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
    for (size_t i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        remove(path);
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

static bool is_fused(const nb_source_tensor *t, const nb_source *back)
{
    return t->name.n > 8 && memmem(t->name.p, t->name.n, "attn_qkv", 8) && !nb_source_find_tensor(back, t->name);
}

/* the checkpoint has three matrices for the one; 1 */
static size_t same_thirds(const nb_source *a, const nb_source_tensor *t, const nb_source *b)
{
    const char *at = memmem(t->name.p, t->name.n, "qkv", 3);
    float *x = values_of(a, t);
    size_t done = 0;
    for (const char *c = "qkv"; *c; c++) {
        char name[128];
        snprintf(name, sizeof name, "%.*s%c%.*s", (int)(at - t->name.p), t->name.p, *c,
                 (int)(t->name.p + t->name.n - at - 3), at + 3);
        const nb_source_tensor *u = nb_source_find_tensor(b, nb_str_of(name));
        assert_non_null(u);
        float *y = values_of(b, u);
        size_t n = (size_t)(nb_source_rows(u) * u->dims[0]);
        assert_memory_equal(x + done, y, n * sizeof *y);
        done += n;
        free(y);
    }
    assert_int_equal(done, nb_source_rows(t) * t->dims[0]);
    free(x);
    return 1;
}

/* what the model computes with; scores come back as ranks, pad and the like are put by what they say */
static bool is_compared(nb_str key)
{
    static const char *const others[] = {"general.", "tokenizer.ggml.scores", "tokenizer.ggml.add_",
                                         "tokenizer.ggml.token_type", "tokenizer.ggml.pre"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (nb_str_starts(key, nb_str_of(others[i])))
            return false;
    return true;
}

static uint64_t number_beside(const nb_source *s, nb_str key, const char *name)
{
    char other[256];
    const char *dot = memchr(key.p, '.', key.n);
    snprintf(other, sizeof other, "%.*s.%s", dot ? (int)(dot - key.p) : 0, key.p, name);
    const nb_gguf_value *v = nb_source_find(s, other);
    return v ? nb_gguf_elem_u64(v, 0) : 0;
}

/* it says what readers take without it */
static bool follows(const nb_source *s, const nb_gguf_value *v, const char *key)
{
    uint64_t heads = number_beside(s, v->key, "attention.head_count"),
             width = number_beside(s, v->key, "embedding_length");
    if (strstr(key, ".attention.head_count_kv"))
        return nb_gguf_elem_u64(v, 0) == heads;
    if (strstr(key, ".token_embedding_length"))
        return nb_gguf_elem_u64(v, 0) == width;
    if (strstr(key, ".yarn_log_multiplier")) /* rope.scaling.attn_factor is made of it */
        return true;
    if (strstr(key, "sliding_window_pattern")) /* a list, or a number that says the same */
        return true;
    return (strstr(key, ".attention.key_length") || strstr(key, ".attention.value_length")) && heads &&
           nb_gguf_elem_u64(v, 0) == width / heads;
}

static void same_keys(const nb_source *a, const nb_source *b, const char *name)
{
    char key[256];
    for (size_t i = 0; i < a->value_count; i++) {
        const nb_gguf_value *v = &a->values[i];
        if (!is_compared(v->key))
            continue;
        snprintf(key, sizeof key, "%.*s", NB_STR_ARG(v->key));
        const nb_gguf_value *w = nb_source_find(b, key);
        if ((!w || w->kind != v->kind) && follows(a, v, key))
            continue;
        if (!w || w->kind != v->kind || w->bytes != v->bytes || memcmp(w->data, v->data, v->bytes) != 0)
            fail_msg("%s: '%s' is %s", name, key, w ? "another" : "lost");
    }
}

static void same_files(const char *name, const char *a, const char *b)
{
    for (size_t i = 0; i < FILES - FOLDERS; i++) {
        char path[1024], other[1024];
        nb_map x, y;
        nb_error err = {0};
        snprintf(path, sizeof path, "%s/%s", a, files[i]);
        snprintf(other, sizeof other, "%s/%s", b, files[i]);
        if (access(path, F_OK) != 0) {
            assert_int_not_equal(access(other, F_OK), 0);
            continue;
        }
        assert_int_equal(nb_map_open(path, &x, &err), NB_OK);
        assert_int_equal(nb_map_open(other, &y, &err), NB_OK);
        if (x.size != y.size || memcmp(x.data, y.data, x.size) != 0)
            fail_msg("%s: %s is another after the second way", name, files[i]);
        nb_map_close(&x);
        nb_map_close(&y);
    }
}

/* a family that has been forgotten */
static void is_written(const nb_source *s, const char *name)
{
    const nb_gguf_value *v = nb_source_find(s, "general.architecture");
    nb_str architecture = {(const char *)v->data, v->bytes};
    if (!nb_hf_exports(architecture))
        fail_msg("%s: %.*s models are not written as directories", name, NB_STR_ARG(architecture));
}

static void there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < models.count; i++) {
        char path[512], first[512], second[512];
        nb_source *back;
        nb_error err = {0};
        snprintf(path, sizeof path, ARCHS "%s.gguf", models.names[i]);
        snprintf(first, sizeof first, "%s", nb_folder_path("first"));
        snprintf(second, sizeof second, "%s", nb_folder_path("second"));
        nb_source *s = open_gguf(path);
        is_written(s, models.names[i]);
        export_to(s, first, "F32");
        if (nb_hf_open(first, &back, &err) != NB_OK)
            fail_msg("%s: %s", models.names[i], err.message);
        size_t fused = 0;
        for (size_t k = 0; k < s->tensor_count; k++)
            if (is_fused(&s->tensors[k], back))
                fused += same_thirds(s, &s->tensors[k], back);
            else
                same_tensor(s, &s->tensors[k], back);
        assert_int_equal(back->tensor_count, s->tensor_count + 2 * fused);
        same_keys(s, back, models.names[i]);
        export_to(back, second, "F32");
        same_files(models.names[i], first, second);
        nb_source_free(back);
        nb_source_free(s);
        remove_model(first);
        remove_model(second);
    }
}

/* ---- directory to GGUF to directory ---- */

/* a tensor of the model's own directory, whatever its names begin with */
static const nb_checkpoint_tensor *find_own(const nb_checkpoint *own, nb_str name)
{
    const nb_checkpoint_tensor *t = nb_checkpoint_find(own, name);
    for (size_t i = 0; !t && i < nb_checkpoint_count(own); i++) {
        nb_str other = nb_checkpoint_at(own, i)->name, longer = other.n > name.n ? other : name,
               shorter = other.n > name.n ? name : other;
        size_t before = longer.n - shorter.n;
        if (before > 0 && longer.p[before - 1] == '.' && memcmp(longer.p + before, shorter.p, shorter.n) == 0)
            t = nb_checkpoint_at(own, i);
    }
    return t;
}

/* The same numbers from the first that is somebody's on: two rows of some tables of positions are nobody's. added: 1 stood added
 * in between, in float32. */
static bool same_numbers(const nb_checkpoint_tensor *a, const nb_checkpoint_tensor *b, uint64_t from, bool added)
{
    if (a->values != b->values)
        return false;
    bool same = true;
    float *x = malloc(a->values * sizeof *x), *y = malloc(a->values * sizeof *y);
    nb_checkpoint_read_f32(a, 0, a->values, x);
    nb_checkpoint_read_f32(b, 0, a->values, y);
    for (uint64_t i = from; i < a->values; i++)
        same = same && (added ? fabsf(x[i] - y[i]) <= 1.2e-7f : memcmp(&x[i], &y[i], sizeof *x) == 0);
    free(x);
    free(y);
    return same;
}

static const nb_checkpoint_tensor *find_older(const nb_checkpoint *own, nb_str name)
{
    char text[256];
    const char *dot = memrchr(name.p, '.', name.n);
    snprintf(text, sizeof text, "%.*s%s", dot ? (int)(dot - name.p) : 0, name.p,
             name.n > 5 && memcmp(name.p + name.n - 5, ".bias", 5) == 0 ? ".beta" : ".gamma");
    return find_own(own, nb_str_of(text));
}

/* several classes become one architecture: these come back as another, with its names and order of rows */
static bool is_another_class(const char *name)
{
    static const char *const names[] = {"chatglm3", "granite-4-dense", "helium-1", "baichuan2-7b", "baichuan2-13b",
                                        "gpt-oss-mxfp4", "codegen", "codegen-odd"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void compare_checkpoints(const char *name, const char *own_path, const char *made_path)
{
    nb_checkpoint *own, *made;
    nb_error err = {0};
    size_t compared = 0;
    assert_int_equal(nb_checkpoint_open(own_path, &own, &err), NB_OK);
    assert_int_equal(nb_checkpoint_open(made_path, &made, &err), NB_OK);
    for (size_t i = 0; i < nb_checkpoint_count(made); i++) {
        const nb_checkpoint_tensor *m = nb_checkpoint_at(made, i), *t = find_own(own, m->name);
        char text[256];
        if (!t) /* BERT's older names of a norm's two */
            t = find_older(own, m->name);
        snprintf(text, sizeof text, "%.*s", NB_STR_ARG(m->name));
        bool positions = strstr(text, "position") != NULL;
        uint64_t from = positions && (strstr(name, "roberta") || strncmp(name, "mpnet", 5) == 0 ||
                                      strncmp(name, "opt", 3) == 0)
                            ? 2 * m->dims[1]
                            : 0;
        if (!t)
            continue;
        assert_int_equal(t->n_dims, m->n_dims);
        assert_memory_equal(t->dims, m->dims, t->n_dims * sizeof *t->dims);
        bool adds = strncmp(name, "gemma", 5) == 0 || strstr(name, "nemotron") || strstr(name, "minitron");
        bool added = adds && strstr(text, "norm");
        if (!same_numbers(t, m, from, added))
            fail_msg("%s: '%s' is another", name, text);
        compared++;
    }
    if (compared < nb_checkpoint_count(made))
        fail_msg("%s: %zu of %zu tensors have names of their own", name, nb_checkpoint_count(made) - compared,
                 nb_checkpoint_count(made));
    nb_checkpoint_close(own);
    nb_checkpoint_close(made);
}

static bool same_node(const nb_node *a, const nb_node *b)
{
    if (a->kind != b->kind)
        return false;
    const nb_node *x = a->list.first, *y = b->list.first;
    switch (a->kind) {
    case '"': return nb_str_eq(a->str, b->str);
    case '0': return fabs(a->num - b->num) <= 1e-6 * fabs(a->num); /* some are made of float32 */
    case '[':
        if (a->list.count != b->list.count)
            return false;
        for (; x; x = x->next, y = y->next)
            if (!same_node(x, y))
                return false;
        return true;
    case '{': /* members that both have */
        for (; x; x = x->next)
            for (y = b->list.first; y; y = y->next)
                if (nb_str_eq(x->key, y->key) && !same_node(x, y))
                    return false;
        return true;
    default: return true;
    }
}

/* keys that both have say the same */
static void compare_configs(const char *name, const char *own_path, const char *made_path)
{
    static const char *const others[] = {
        "architectures", "model_type", "torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id",
        /* said by other keys */
        "decoder_sparse_step", "mlp_only_layers", "max_window_layers",
        /* where they say what is not so: multi_query counts, model_max_length, gelu's
                                          * form in Gemma */
        "falcon-7b num_kv_heads", "command-r max_position_embeddings", "gemma hidden_act",
        "gpt2-base-names activation_function", "granite-4-dense intermediate_size", "hunyuan-7b rope_theta",
        /* few factors fit several numbers */
        "exaone-3.5 rope_scaling", "exaone-4-1.2b rope_scaling", "apertus-8b rope_scaling",
        /* another way to say the same */
        "gpt-neo attention_types", "gpt-neo-wide attention_types",
        /* Qwen 1's two lengths: what a model is run with stands in both */
        "qwen-1 max_position_embeddings", "qwen-1-f16 seq_length"};
    nb_tree own, made;
    nb_error err = {0};
    assert_int_equal(nb_tree_open(own_path, "config.json", 1 << 20, false, &own, &err), NB_OK);
    assert_int_equal(nb_tree_open(made_path, "config.json", 1 << 20, false, &made, &err), NB_OK);
    for (const nb_node *n = made.root->list.first; n; n = n->next) {
        char key[128];
        snprintf(key, sizeof key, "%.*s", NB_STR_ARG(n->key));
        const nb_node *was = nb_node_get(own.root, key);
        char full[200];
        snprintf(full, sizeof full, "%s %s", name, key);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            was = strcmp(key, others[i]) == 0 || strcmp(full, others[i]) == 0 ? NULL : was;
        if (was && n->kind != 'n' && !same_node(was, n))
            fail_msg("%s: config.json: %s is another", name, key);
    }
    nb_tree_free(&own);
    nb_tree_free(&made);
}

static void and_from_a_directory(void **state)
{
    (void)state;
    for (size_t i = 0; i < models.count; i++) {
        char own[512], made[512];
        nb_source *s;
        nb_error err = {0};
        snprintf(own, sizeof own, NB_TEST_DATA "/hf/%s", models.names[i]);
        snprintf(made, sizeof made, "%s", nb_folder_path("first"));
        assert_int_equal(nb_hf_open(own, &s, &err), NB_OK);
        is_written(s, models.names[i]);
        export_to(s, made, "F32");
        if (!is_another_class(models.names[i]))
            compare_checkpoints(models.names[i], own, made);
        compare_configs(models.names[i], own, made);
        nb_source_free(s);
        remove_model(made);
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

/* a tensor of another shape than its row's */
static void odd_shape(const char *file, const char *tensor, uint32_t n_dims, const char *says)
{
    nb_source *s = open_gguf(file);
    nb_source_tensor *changed = malloc(s->tensor_count * sizeof *changed);
    nb_source odd = *s;
    memcpy(changed, s->tensors, s->tensor_count * sizeof *changed);
    for (size_t i = 0; i < s->tensor_count; i++)
        if (nb_str_eqz(changed[i].name, tensor))
            changed[i].n_dims = n_dims;
    odd.tensors = changed;
    refused(&odd, NULL, says);
    free(changed);
    nb_source_free(s);
}

static void odd_shapes(void **state)
{
    (void)state;
    odd_shape(ARCHS "granite-moe-shared.gguf", "blk.0.ffn_gate_shexp.weight", 1, "has 1 dimensions");
    odd_shape(ARCHS "falcon-40b.gguf", "blk.1.attn_qkv.weight", 3, "has 3 dimensions");
    odd_shape(ARCHS "opt-125m.gguf", "position_embd.weight", 1, "has 1 dimensions");
    odd_shape(ARCHS "phi-2.gguf", "blk.0.attn_qkv.weight", 4, "not whole heads");
    odd_shape(ARCHS "gpt2.gguf", "blk.0.attn_qkv.weight", 3, "has 3 dimensions");
    odd_shape(ARCHS "gpt-oss.gguf", "blk.0.ffn_up_exps.weight", 2, "has 2 dimensions");
    odd_shape(ARCHS "gpt-oss.gguf", "blk.1.ffn_gate_exps.bias", 1, "has 1 dimensions");
    odd_shape(ARCHS "internlm2.gguf", "blk.0.attn_k.weight", 1, "has 1 dimensions");
    odd_shape(ARCHS "internlm2-biased.gguf", "blk.0.attn_v.bias", 2, "has 2 dimensions");
}

static void what_cannot_be_written(void **state)
{
    (void)state;
    nb_source *s = open_gguf(ARCHS "qwen2.gguf");
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
    nb_source *apart = open_gguf(ARCHS "deepseek-v3-apart.gguf");
    refused(apart, NULL, "the matrices of keys and values apart (attn_k_b, attn_v_b)");
    nb_source_free(apart);
    nb_gguf_value *values = malloc(s->value_count * sizeof *values);
    memcpy(values, s->values, s->value_count * sizeof *values);
    for (size_t i = 0; i < s->value_count; i++)
        if (nb_str_eqz(values[i].key, "general.architecture")) {
            values[i].data = (const unsigned char *)"mamba";
            values[i].bytes = 5;
        }
    nb_source other = *s;
    other.values = values;
    refused(&other, NULL, "'mamba' are not written as directories; these are: llama, qwen2, ");
    free(values);
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
        cmocka_unit_test(and_from_a_directory),
        cmocka_unit_test(rope_scaling_is_found_again),
        cmocka_unit_test(types),
        cmocka_unit_test(odd_shapes),
        cmocka_unit_test(what_cannot_be_written),
    };
    nb_archs_find(NB_TEST_DATA, NB_TEST_DATA "/hf", "/config.json", &models);
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
