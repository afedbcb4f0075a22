/* LoRA adapters: the first byte chooses what the rest is: adapter_config.json beside fine weights, adapter_model.safetensors
 * beside a fine configuration, or a GGUF adapter. What is accepted is read and merged into a model, or refused there. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "convert/merge.h"
#include "convert/open.h"
#include "format/safetensors_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIDTH = 8, ROWS = 3, RANK = 2 };

static char folder[] = "/tmp/fuzz-adapter-XXXXXX";
static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":8,\"intermediate_size\":8,"
                             "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
                             "\"vocab_size\":3,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true}";
static const char fine[] = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"alpha_pattern\":{\"q_proj\":3}}";

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(path_of(name), "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static void put(nb_safetensors_writer *w, const char *name, uint64_t rows, uint64_t columns)
{
    nb_safetensors_put(w, nb_str_of(name), NB_DTYPE_F32, columns ? 2 : 1, (const uint64_t[]){rows, columns});
}

static void write_model(void)
{
    static const struct {
        const char *name;
        uint64_t rows, columns;
    } weights[] = {
        {"model.embed_tokens.weight", ROWS, WIDTH},
        {"model.norm.weight", WIDTH, 0},
        {"model.layers.0.input_layernorm.weight", WIDTH, 0},
        {"model.layers.0.post_attention_layernorm.weight", WIDTH, 0},
        {"model.layers.0.self_attn.q_proj.weight", WIDTH, WIDTH},
        {"model.layers.0.self_attn.k_proj.weight", WIDTH / 2, WIDTH},
        {"model.layers.0.self_attn.v_proj.weight", WIDTH / 2, WIDTH},
        {"model.layers.0.self_attn.o_proj.weight", WIDTH, WIDTH},
        {"model.layers.0.mlp.gate_proj.weight", WIDTH, WIDTH},
        {"model.layers.0.mlp.up_proj.weight", WIDTH, WIDTH},
        {"model.layers.0.mlp.down_proj.weight", WIDTH, WIDTH},
    };
    static const float zeros[1024];
    size_t values = 0;
    nb_safetensors_writer *w;
    if (nb_safetensors_writer_open(path_of("model"), 0, &w, NULL) != NB_OK)
        abort();
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        put(w, weights[i].name, weights[i].rows, weights[i].columns);
        values += weights[i].rows * (weights[i].columns ? weights[i].columns : 1);
    }
    if (nb_safetensors_data(w, zeros, values * 4, NULL) != NB_OK || nb_safetensors_writer_commit(w, NULL) != NB_OK)
        abort();
    write_file("model/config.json", config, sizeof config - 1);
}

static void write_adapter(void)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"};
    static const float zeros[1024];
    size_t values = 0;
    char name[128];
    nb_safetensors_writer *w;
    if (nb_safetensors_writer_open(path_of("peft"), 0, &w, NULL) != NB_OK)
        abort();
    for (int i = 0; i < 3; i++) {
        uint64_t rows = i == 1 ? WIDTH / 2 : WIDTH;
        snprintf(name, sizeof name, "base_model.model.model.layers.0.%s.lora_A.weight", names[i]);
        put(w, name, RANK, WIDTH);
        snprintf(name, sizeof name, "base_model.model.model.layers.0.%s.lora_B.weight", names[i]);
        put(w, name, rows, RANK);
        values += RANK * (WIDTH + rows);
    }
    if (nb_safetensors_data(w, zeros, values * 4, NULL) != NB_OK || nb_safetensors_writer_commit(w, NULL) != NB_OK)
        abort();
    char from[256];
    snprintf(from, sizeof from, "%s", path_of("peft/model.safetensors"));
    if (rename(from, path_of("peft/adapter_model.safetensors")) != 0)
        abort();
}

static void clean(void)
{
    static const char *const files[] = {"model/config.json",
                                        "model/model.safetensors",
                                        "model",
                                        "peft/adapter_config.json",
                                        "peft/adapter_model.safetensors",
                                        "peft",
                                        "lora.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        remove(path_of(files[i]));
    rmdir(folder);
}

/* merges it and reads all rows; false: refused */
static bool merge(const char *adapter)
{
    nb_source *s;
    nb_error err;
    nb_model_adapter a = {adapter, 0.5f};
    if (nb_source_open(path_of("model"), &s, &err) != NB_OK)
        abort();
    if (nb_source_merge(s, &a, 1, false, &s, &err) != NB_OK)
        return false;
    for (size_t i = 0; i < s->tensor_count; i++) {
        size_t row;
        uint64_t rows = nb_source_rows(&s->tensors[i]);
        if (!nb_type_row_bytes(s->tensors[i].type, s->tensors[i].dims[0], &row) || row * rows > 1 << 20)
            abort();
        void *room = malloc(row * rows);
        if (room)
            s->read(s, i, 0, rows, room, &err);
        free(room);
    }
    nb_source_free(s);
    return true;
}

static nb_buf weights; /* the fine ones */

static void start(void)
{
    if (!mkdtemp(folder) || mkdir(path_of("model"), 0777) != 0 || mkdir(path_of("peft"), 0777) != 0)
        abort();
    atexit(clean);
    write_model();
    write_adapter();
    write_file("peft/adapter_config.json", fine, sizeof fine - 1);
    char adapter[256];
    snprintf(adapter, sizeof adapter, "%s", path_of("peft"));
    if (!merge(adapter) ||
        nb_file_read(path_of("peft/adapter_model.safetensors"), 1 << 16, &weights, &(nb_error){0}) != NB_OK)
        abort(); /* all of it is fine */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    char adapter[256];
    if (!ready)
        start();
    ready = true;
    if (size == 0 || size > 1 << 16)
        return 0;
    int which = data[0] % 3;
    snprintf(adapter, sizeof adapter, "%s", path_of(which == 2 ? "lora.gguf" : "peft"));
    write_file(which == 0   ? "peft/adapter_config.json"
               : which == 1 ? "peft/adapter_model.safetensors"
                            : "lora.gguf",
               data + 1, size - 1);
    merge(adapter);
    if (which == 0)
        write_file("peft/adapter_config.json", fine, sizeof fine - 1);
    if (which == 1)
        write_file("peft/adapter_model.safetensors", weights.data, weights.len);
    return 0;
}
