/* Adapter files that are damaged, of another model, or ask for what is not done: an error that names it, never a crash. */
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

#include "convert/merge.h"
#include "engine/engine.h"
#include "format/gguf_write.h"
#include "support/folder.h"

#define LORA NB_TEST_DATA "/lora/"
#define BASE NB_TEST_DATA "/archs/qwen2.gguf" /* 64 wide, 3 layers, 512 tokens, no output.weight */

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

/* opens the base with the adapter, and merges the two */
static nb_status use_on(const char *base, const char *path, float scale)
{
    nb_model *m;
    nb_source *s;
    nb_model_params p = nb_model_defaults();
    nb_model_adapter a = {path, scale};
    p.adapters = &a;
    p.adapter_count = 1;
    p.threads = 1;
    nb_status status = nb_model_look(base, &p, &m, &err);
    if (status == NB_OK)
        nb_model_close(m);
    nb_error other;
    must(nb_source_open_gguf(base, &s, &other));
    nb_status merged = nb_source_merge(s, &a, 1, false, &s, &other);
    if (merged == NB_OK)
        nb_source_free(s);
    if ((merged == NB_OK) != (status == NB_OK))
        fail_msg("%s: run: %s; merge: %s", path, status == NB_OK ? "fine" : err.message,
                 merged == NB_OK ? "fine" : other.message);
    return status;
}

static nb_status use(const char *path, float scale) { return use_on(BASE, path, scale); }

static void refused(const char *what, const char *path, nb_status status, const char *part)
{
    nb_status got = use(path, 1);
    if (got != status || (got != NB_OK && !strstr(err.message, part)))
        fail_msg("%s: status %d (%s), not %d (%s)", what, (int)got, got ? err.message : "fine", (int)status, part);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    nb_writer *w;
    must(nb_writer_open(path, &w, &err));
    must(nb_writer_write(w, bytes, n, &err));
    must(nb_writer_commit(w, &err));
}

/* ---- GGUF ---- */

typedef struct matrix {
    const char *name;
    uint64_t dims[3];
} matrix;

typedef struct gguf_case {
    const char *what, *type, *adapter, *architecture;
    double alpha; /* 0.5: no key */
    bool tokens;  /* of an activated LoRA */
    matrix tensors[3];
    nb_status status;
    const char *part;
} gguf_case;

#define Q_A                                                                                                            \
    {                                                                                                                  \
        "blk.1.attn_q.weight.lora_a", { 64, 3, 1 }                                                                     \
    }
#define Q_B                                                                                                            \
    {                                                                                                                  \
        "blk.1.attn_q.weight.lora_b", { 3, 64, 1 }                                                                     \
    }
#define GOOD                                                                                                           \
    {                                                                                                                  \
        Q_A, Q_B                                                                                                       \
    }

static const gguf_case gguf_cases[] = {
    {"good", "adapter", "lora", "qwen2", 8, false, GOOD, NB_OK, ""},
    {"alpha 0", "adapter", "lora", "qwen2", 0, false, GOOD, NB_OK, ""},
    {"alpha NaN", "adapter", "lora", "qwen2", 0.0 / 0.0, false, GOOD, NB_ERR_FORMAT, "adapter.lora.alpha is"},
    {"alpha infinite", "adapter", "lora", "qwen2", 1.0 / 0.0, false, GOOD, NB_ERR_FORMAT, "adapter.lora.alpha is inf"},
    {"no alpha", "adapter", "lora", "qwen2", 0.5, false, GOOD, NB_ERR_NOT_FOUND, "adapter.lora.alpha"},
    {"a model", "model", "lora", "qwen2", 8, false, GOOD, NB_ERR_UNSUPPORTED, "general.type is \"model\""},
    {"no type", NULL, "lora", "qwen2", 8, false, GOOD, NB_ERR_FORMAT, "has no general.type"},
    {"another kind", "adapter", "vector", "qwen2", 8, false, GOOD, NB_ERR_UNSUPPORTED, "adapter.type is \"vector\""},
    {"another model", "adapter", "lora", "llama", 8, false, GOOD, NB_ERR_ARGUMENT, "llama"},
    {"activated", "adapter", "lora", "qwen2", 8, true, GOOD, NB_ERR_UNSUPPORTED, "invocation_tokens"},
    {"no tensors", "adapter", "lora", "qwen2", 8, false, {{0}}, NB_ERR_FORMAT, "no tensors"},
    {"no b", "adapter", "lora", "qwen2", 8, false, {Q_A}, NB_ERR_FORMAT, "attn_q.weight.lora_b"},
    {"no a", "adapter", "lora", "qwen2", 8, false, {Q_B}, NB_ERR_FORMAT, "attn_q.weight.lora_a"},
    {"ranks",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {Q_A, {"blk.1.attn_q.weight.lora_b", {4, 64, 1}}},
     NB_ERR_FORMAT,
     "rank 3"},
    {"rows",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {Q_A, {"blk.1.attn_q.weight.lora_b", {3, 65, 1}}},
     NB_ERR_FORMAT,
     "64 x 65"},
    {"columns",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"blk.1.attn_q.weight.lora_a", {63, 3, 1}}, Q_B},
     NB_ERR_FORMAT,
     "63 x 64"},
    {"no such layer",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"blk.3.attn_q.weight.lora_a", {64, 3, 1}}, {"blk.3.attn_q.weight.lora_b", {3, 64, 1}}},
     NB_ERR_ARGUMENT,
     "blk.3.attn_q.weight"},
    {"a huge layer",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"blk.99999999999.attn_q.weight.lora_a", {64, 3, 1}}, {"blk.99999999999.attn_q.weight.lora_b", {3, 64, 1}}},
     NB_ERR_ARGUMENT,
     "blk.99999999999"},
    {"no such matrix",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"blk.1.attn_x.weight.lora_a", {64, 3, 1}}, {"blk.1.attn_x.weight.lora_b", {3, 64, 1}}},
     NB_ERR_ARGUMENT,
     "blk.1.attn_x.weight"},
    {"experts",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"blk.1.ffn_up_exps.weight.lora_a", {64, 3, 2}}, {"blk.1.ffn_up_exps.weight.lora_b", {3, 64, 2}}},
     NB_ERR_FORMAT,
     "expert"},
    {"embeddings",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"token_embd.weight.lora_a", {64, 3, 1}}, {"token_embd.weight.lora_b", {3, 512, 1}}},
     NB_ERR_UNSUPPORTED,
     "embeddings"},
    {"a tied head",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"output.weight.lora_a", {64, 3, 1}}, {"output.weight.lora_b", {3, 512, 1}}},
     NB_OK,
     ""},
    {"a norm",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {Q_A, Q_B, {"blk.1.attn_norm.weight", {64, 1, 1}}},
     NB_ERR_UNSUPPORTED,
     "attn_norm"},
    {"a pair for a norm",
     "adapter",
     "lora",
     "qwen2",
     8,
     false,
     {{"blk.1.attn_norm.weight.lora_a", {64, 3, 1}}, {"blk.1.attn_norm.weight.lora_b", {3, 1, 1}}},
     (nb_status)-1,
     "attn_norm"},
};

static void write_gguf(const char *path, const gguf_case *c)
{
    nb_gguf_writer *w;
    static const float values[64 * 512 * 2];
    uint32_t token = 5;
    must(nb_gguf_writer_open(path, 0, &w, &err));
    if (c->type)
        nb_gguf_put_str(w, "general.type", nb_str_of(c->type));
    nb_gguf_put_str(w, "general.architecture", nb_str_of(c->architecture));
    nb_gguf_put_str(w, "adapter.type", nb_str_of(c->adapter));
    if (c->alpha != 0.5)
        nb_gguf_put_f32(w, "adapter.lora.alpha", (float)c->alpha);
    if (c->tokens)
        nb_gguf_put_array(w, "adapter.alora.invocation_tokens", NB_GGUF_U32, &token, 1);
    for (int i = 0; i < 3 && c->tensors[i].name; i++)
        nb_gguf_put_tensor(w, nb_str_of(c->tensors[i].name), nb_type_get(NB_TYPE_F32),
                           c->tensors[i].dims[2] > 1 ? 3 : 2, c->tensors[i].dims);
    for (int i = 0; i < 3 && c->tensors[i].name; i++)
        must(nb_gguf_writer_data(
            w, values, (size_t)(c->tensors[i].dims[0] * c->tensors[i].dims[1] * c->tensors[i].dims[2]) * 4, &err));
    must(nb_gguf_writer_commit(w, &err));
}

static void test_gguf(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof gguf_cases / sizeof *gguf_cases; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s", nb_folder_path("adapter.gguf"));
        write_gguf(path, &gguf_cases[i]);
        if (gguf_cases[i].status == (nb_status)-1)
            assert_true(use(path, 1) != NB_OK && strstr(err.message, gguf_cases[i].part));
        else
            refused(gguf_cases[i].what, path, gguf_cases[i].status, gguf_cases[i].part);
        assert_int_equal(unlink(path), 0);
    }
}

static void test_scales(void **state)
{
    (void)state;
    assert_int_equal(use(LORA "qwen2-a.gguf", 0), NB_OK);
    assert_int_equal(use(LORA "qwen2-a.gguf", -3), NB_OK);
    assert_int_equal(use(LORA "qwen2-a.gguf", (float)(0.0 / 0.0)), NB_ERR_ARGUMENT);
    assert_int_equal(use(LORA "qwen2-a.gguf", 3e38f), NB_ERR_ARGUMENT);
    assert_int_equal(use(LORA "nothing.gguf", 1), NB_ERR_NOT_FOUND);
    assert_int_equal(use(BASE, 1), NB_ERR_UNSUPPORTED); /* a model */
}

/* ---- PEFT ---- */

#define CONFIG(more) "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6, \"bias\": \"none\"" more "}"
#define MODULE(m) "base_model.model.model.layers.1." m
#define TENSOR(name, dtype, shape, from, to)                                                                           \
    "\"" name "\": {\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": [" from ", " to "]}"
#define F32_A(m) TENSOR(MODULE(m) ".lora_A.weight", "F32", "[3, 64]", "0", "768")
#define F32_B(m) TENSOR(MODULE(m) ".lora_B.weight", "F32", "[64, 3]", "768", "1536")
#define WEIGHTS "{" F32_A("self_attn.q_proj") ", " F32_B("self_attn.q_proj") "}"

static const struct peft_case {
    const char *what, *config, *weights;
    size_t bytes;
    nb_status status;
    const char *part;
} peft_cases[] = {
    {"good", CONFIG(""), WEIGHTS, 1536, NB_OK, ""},
    {"nothing asked",
     CONFIG(", \"use_dora\": false, \"modules_to_save\": null, \"layer_replication\": [], \"loftq_config\": {}"),
     WEIGHTS, 1536, NB_OK, ""},
    {"no JSON", "peft", WEIGHTS, 1536, NB_ERR_FORMAT, "adapter_config.json"},
    {"empty", "", WEIGHTS, 1536, NB_ERR_FORMAT, "adapter_config.json"},
    {"a list", "[]", WEIGHTS, 1536, NB_ERR_FORMAT, "adapter_config.json"},
    {"no type", "{\"r\": 3, \"lora_alpha\": 6}", WEIGHTS, 1536, NB_ERR_FORMAT, "peft_type"},
    {"another type", "{\"peft_type\": \"IA3\", \"r\": 3, \"lora_alpha\": 6}", WEIGHTS, 1536, NB_ERR_UNSUPPORTED, "IA3"},
    {"alpha NaN", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": NaN}", WEIGHTS, 1536, NB_ERR_FORMAT,
     "adapter_config.json"},
    {"alpha large", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 1e300}", WEIGHTS, 1536, NB_ERR_FORMAT,
     "lora_alpha"},
    {"alpha text", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": \"6\"}", WEIGHTS, 1536, NB_ERR_FORMAT,
     "lora_alpha"},
    {"no alpha", "{\"peft_type\": \"LORA\", \"r\": 3}", WEIGHTS, 1536, NB_ERR_FORMAT, "lora_alpha"},
    {"rank 0", "{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 6}", WEIGHTS, 1536, NB_ERR_FORMAT,
     "r is no number"},
    {"another rank", "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6}", WEIGHTS, 1536, NB_ERR_FORMAT, "rank 4"},
    {"DoRA", CONFIG(", \"use_dora\": true"), WEIGHTS, 1536, NB_ERR_UNSUPPORTED, "use_dora asks for DoRA"},
    {"modules", CONFIG(", \"modules_to_save\": [\"lm_head\"]"), WEIGHTS, 1536, NB_ERR_UNSUPPORTED, "modules_to_save"},
    {"biases", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6, \"bias\": \"lora_only\"}", WEIGHTS, 1536,
     NB_ERR_UNSUPPORTED, "bias is not \"none\""},
    {"own biases", CONFIG(", \"lora_bias\": true"), WEIGHTS, 1536, NB_ERR_UNSUPPORTED, "lora_bias"},
    {"replication", CONFIG(", \"layer_replication\": [[0, 2], [1, 3]]"), WEIGHTS, 1536, NB_ERR_UNSUPPORTED,
     "layer_replication"},
    {"PiSSA", CONFIG(", \"init_lora_weights\": \"pissa_niter_16\""), WEIGHTS, 1536, NB_ERR_UNSUPPORTED,
     "pissa_niter_16"},
    {"a harmless start", CONFIG(", \"init_lora_weights\": \"gaussian\""), WEIGHTS, 1536, NB_OK, ""},
    {"patterns", CONFIG(", \"rank_pattern\": {\"q_proj\": 3}, \"alpha_pattern\": {\"(.*)\": 4}"), WEIGHTS, 1536, NB_OK,
     ""},
    {"a bad pattern", CONFIG(", \"alpha_pattern\": {\"(\": 4}"), WEIGHTS, 1536, NB_ERR_FORMAT, "is no expression"},
    {"a bad number", CONFIG(", \"alpha_pattern\": {\"q_proj\": null}"), WEIGHTS, 1536, NB_ERR_FORMAT,
     "q_proj is no number"},
    {"no object", CONFIG(", \"rank_pattern\": [3]"), WEIGHTS, 1536, NB_ERR_FORMAT, "rank_pattern"},
    {"slow expressions", CONFIG(", \"rank_pattern\": {\"([a-z._]|.)*([a-z._]|.)*[A-Z]{2}\": 3}"), WEIGHTS, 1536,
     NB_ERR_FORMAT, "limit"},
    {"no tensors", CONFIG(""), "{}", 0, NB_ERR_FORMAT, "no tensors"},
    {"no B", CONFIG(""), "{" F32_A("self_attn.q_proj") "}", 768, NB_ERR_FORMAT, "lora_B is not"},
    {"no A", CONFIG(""), "{" TENSOR(MODULE("self_attn.q_proj") ".lora_B.weight", "F32", "[64, 3]", "0", "768") "}", 768,
     NB_ERR_FORMAT, "lora_A is not"},
    {"no such module", CONFIG(""), "{" F32_A("self_attn.qq_proj") ", " F32_B("self_attn.qq_proj") "}", 1536,
     NB_ERR_UNSUPPORTED, "qq_proj"},
    {"an expert", CONFIG(""), "{" F32_A("mlp.experts.0.up_proj") ", " F32_B("mlp.experts.0.up_proj") "}", 1536,
     NB_ERR_UNSUPPORTED, "expert"},
    {"the embedding", CONFIG(""),
     "{" TENSOR("base_model.model.model.embed_tokens.lora_embedding_A", "F32", "[3, 64]", "0", "768") "}", 768,
     NB_ERR_UNSUPPORTED, "embedding"},
    {"DoRA's tensor", CONFIG(""),
     "{" TENSOR(MODULE("self_attn.q_proj") ".lora_magnitude_vector", "F32", "[192]", "0", "768") "}", 768,
     NB_ERR_UNSUPPORTED, "DoRA"},
    {"a whole module", CONFIG(""), "{" TENSOR("base_model.model.lm_head.weight", "F32", "[3, 64]", "0", "768") "}", 768,
     NB_ERR_UNSUPPORTED, "lm_head.weight"},
    {"a copy of the base", CONFIG(""),
     "{" F32_A("self_attn.q_proj") ", " F32_B("self_attn.q_proj") ", " TENSOR(
         MODULE("self_attn.q_proj") ".base_layer.weight", "F32", "[3, 64]", "1536", "2304") "}",
     2304, NB_OK, ""},
    {"a copy without a pair", CONFIG(""),
     "{" TENSOR("base_model.model.lm_head.base_layer.weight", "F32", "[3, 64]", "0", "768") "}", 768,
     NB_ERR_UNSUPPORTED, "lm_head"},
    {"integers", CONFIG(""),
     "{" TENSOR(MODULE("self_attn.q_proj") ".lora_A.weight", "I32", "[3, 64]", "0",
                "768") ", " F32_B("self_attn.q_proj") "}",
     1536, NB_ERR_UNSUPPORTED, "floating-point"},
    {"a vector", CONFIG(""),
     "{" TENSOR(MODULE("self_attn.q_proj") ".lora_A.weight", "F32", "[192]", "0",
                "768") ", " F32_B("self_attn.q_proj") "}",
     1536, NB_ERR_UNSUPPORTED, "no matrix"},
    {"a convolution", CONFIG(""),
     "{" TENSOR(MODULE("self_attn.q_proj") ".lora_A.weight", "F32", "[3, 64, 1]", "0",
                "768") ", " F32_B("self_attn.q_proj") "}",
     1536, NB_ERR_UNSUPPORTED, "no matrix"},
    {"no rows", CONFIG(""),
     "{" TENSOR(MODULE("self_attn.q_proj") ".lora_A.weight", "F32", "[0, 64]", "0",
                "0") ", " TENSOR(MODULE("self_attn.q_proj") ".lora_B.weight", "F32", "[64, 0]", "0", "0") "}",
     0, NB_ERR_FORMAT, "rank 3"},
    {"other rows", CONFIG(""), "{" F32_A("self_attn.k_proj") ", " F32_B("self_attn.k_proj") "}", 1536, NB_ERR_FORMAT,
     "64 x 32"},
    {"a norm", CONFIG(""), "{" F32_A("input_layernorm") ", " F32_B("input_layernorm") "}", 1536, (nb_status)-1,
     "input_layernorm"},
    {"truncated", CONFIG(""), WEIGHTS, 1535, NB_ERR_FORMAT, "adapter_model.safetensors"},
};

static void write_peft(const char *folder, const char *config, const char *weights, size_t bytes)
{
    char path[512];
    nb_buf file = {0};
    uint64_t header = strlen(weights);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    write_file(path, config, strlen(config));
    nb_buf_add(&file, &header, 8);
    nb_buf_z(&file, weights);
    for (size_t i = 0; i < bytes; i++)
        nb_buf_char(&file, 0);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    write_file(path, file.data, file.len);
    nb_buf_free(&file);
}

static void remove_peft(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    unlink(path);
}

static void test_peft(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof peft_cases / sizeof *peft_cases; i++) {
        const struct peft_case *c = &peft_cases[i];
        write_peft(nb_folder, c->config, c->weights, c->bytes);
        if (c->status == (nb_status)-1)
            assert_true(use(nb_folder, 1) != NB_OK && strstr(err.message, c->part));
        else
            refused(c->what, nb_folder, c->status, c->part);
        remove_peft(nb_folder);
    }
    write_peft(nb_folder, CONFIG(""), WEIGHTS, 1536);
    char path[512];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", nb_folder);
    assert_int_equal(unlink(path), 0);
    refused("no weights", nb_folder, NB_ERR_NOT_FOUND, "adapter_model.safetensors");
    remove_peft(nb_folder);
    refused("an empty folder", nb_folder, NB_ERR_NOT_FOUND, "has no adapter_config.json");
}

/* Pairs on experts' matrices, as peft names them in models that have experts, one by one and of all in one tensor, are refused by
 * the tensor's name, never passed over. */
static void test_experts(void **state)
{
    (void)state;
    static const struct {
        const char *base, *weights, *name;
    } cases[] = {
        {"mixtral", "{" F32_A("block_sparse_moe.experts.3.w1") ", " F32_B("block_sparse_moe.experts.3.w1") "}",
         "layers.1.block_sparse_moe.experts.3.w1.lora_A.weight' is of an expert"},
        {"qwen2-moe", "{" F32_A("mlp.experts.0.down_proj") ", " F32_B("mlp.experts.0.down_proj") "}",
         "layers.1.mlp.experts.0.down_proj.lora_A.weight' is of an expert"},
        {"qwen3-moe", "{" F32_A("mlp.experts.base_layer") ", " F32_B("mlp.experts.base_layer") "}",
         "layers.1.mlp.experts.base_layer.lora_A.weight' is of an expert"},
        {"gpt-oss", "{" F32_A("mlp.experts") ", " F32_B("mlp.experts") "}",
         "layers.1.mlp.experts.lora_A.weight' is of an expert"},
        {"granite-moe", "{" F32_A("block_sparse_moe.input_linear") ", " F32_B("block_sparse_moe.input_linear") "}",
         "layers.1.block_sparse_moe.input_linear.lora_"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char base[512];
        snprintf(base, sizeof base, NB_TEST_DATA "/archs/%s.gguf", cases[i].base);
        write_peft(nb_folder, CONFIG(""), cases[i].weights, 1536);
        if (use_on(base, nb_folder, 1) == NB_OK || !strstr(err.message, cases[i].name))
            fail_msg("%s: %s", cases[i].base, err.message);
        remove_peft(nb_folder);
    }
}

/* ---- damage ---- */

/* cut at many places, and with bytes changed: whatever comes of it is an answer */
static void damage(const char *from, const char *to, size_t header)
{
    nb_buf whole = {0};
    uint32_t seed = 1;
    must(nb_file_read(from, 1 << 20, &whole, &err));
    header = nb_min_size(header, whole.len);
    for (size_t n = 0; n < whole.len; n += n < header ? 1 + header / 200 : whole.len / 20) {
        write_file(to, whole.data, n);
        if (use(to[strlen(to) - 1] == 'f' ? to : nb_folder, 1) == NB_OK)
            fail_msg("%s cut at %zu is read", from, n);
    }
    for (int i = 0; i < (NB_TEST_SLOW ? 300 : 1000); i++) {
        size_t at[2];
        char was[2];
        for (int k = 0; k < 2; k++) {
            seed = seed * 1664525 + 1013904223;
            at[k] = (seed >> 8) % header;
            was[k] = whole.data[at[k]];
            whole.data[at[k]] = (char)(i % 3 ? was[k] ^ (1 << (seed >> 28 & 7)) : (char)(seed >> 24));
        }
        write_file(to, whole.data, whole.len);
        (void)use(to[strlen(to) - 1] == 'f' ? to : nb_folder, 1);
        whole.data[at[1]] = was[1];
        whole.data[at[0]] = was[0];
    }
    nb_buf_free(&whole);
}

static void copy_file(const char *from, const char *to)
{
    nb_buf b = {0};
    must(nb_file_read(from, 1 << 20, &b, &err));
    write_file(to, b.data, b.len);
    nb_buf_free(&b);
}

static void test_damage(void **state)
{
    char path[512], config[512];
    (void)state;
    snprintf(path, sizeof path, "%s", nb_folder_path("adapter.gguf"));
    damage(LORA "qwen2-a.gguf", path, 4096);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", nb_folder);
    snprintf(config, sizeof config, "%s/adapter_config.json", nb_folder);
    copy_file(LORA "qwen2-a/adapter_config.json", config);
    damage(LORA "qwen2-a/adapter_model.safetensors", path, 2048);
    copy_file(LORA "qwen2-a/adapter_model.safetensors", path);
    damage(LORA "qwen2-a/adapter_config.json", config, 1 << 20);
    remove_peft(nb_folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gguf, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_scales),
        cmocka_unit_test_setup_teardown(test_peft, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_experts, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_damage, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
