/* A directory of Hugging Face with one file that is anything. The input: a byte that chooses the file, then its text. The
 * other files are a tiny llama checkpoint. What is accepted has metadata and rows that can be read. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hf/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 300, COLUMNS = 8 };

static char folder[] = "/tmp/nibble-fuzz-hf-XXXXXX";
static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                                    "vocab.txt",   "vocab.json",     "merges.txt",      "added_tokens.json",
                                    "README.md",   "modules.json"};
enum { FILES = sizeof files / sizeof *files };

static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":8,\"intermediate_size\":8,"
                             "\"num_hidden_layers\":1,\"num_attention_heads\":2}";

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(path_of(name), "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static void write_checkpoint(void)
{
    static const char *const square[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                         "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    static const char *const norms[] = {"model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm",
                                        "model.norm"};
    nb_buf b = {0}, all = {0};
    size_t at = 0;
    for (int i = 0; i < 7; i++, at += COLUMNS * COLUMNS * 2)
        nb_buf_printf(&b,
                      "\"model.layers.0.%s.weight\":{\"dtype\":\"F16\",\"shape\":[8,8],\"data_offsets\":[%zu,%zu]},",
                      square[i], at, at + COLUMNS * COLUMNS * 2);
    for (int i = 0; i < 3; i++, at += COLUMNS * 2)
        nb_buf_printf(&b, "\"%s.weight\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[%zu,%zu]},", norms[i], at,
                      at + COLUMNS * 2);
    nb_buf_printf(&b, "\"model.embed_tokens.weight\":{\"dtype\":\"F16\",\"shape\":[%d,8],\"data_offsets\":[%zu,%zu]}}",
                  ROWS, at, at + (size_t)ROWS * COLUMNS * 2);
    at += (size_t)ROWS * COLUMNS * 2;
    uint64_t header = b.len + 1;
    nb_buf_add(&all, &header, 8);
    nb_buf_char(&all, '{');
    nb_buf_str(&all, nb_buf_view(&b));
    for (size_t i = 0; i < at; i++)
        nb_buf_char(&all, 0);
    write_file("model.safetensors", all.data, all.len);
    nb_buf_free(&b);
    nb_buf_free(&all);
}

static void clean(void)
{
    for (int i = 0; i < FILES; i++)
        unlink(path_of(files[i]));
    unlink(path_of("model.safetensors"));
    rmdir(folder);
}

static void read_all(const nb_source *s)
{
    static unsigned char row[4096];
    nb_error err;
    for (size_t i = 0; i < s->tensor_count; i++)
        if (s->tensors[i].dims[0] <= 512 && s->read(s, i, nb_source_rows(&s->tensors[i]) - 1, 1, row, &err) != NB_OK)
            abort();
    for (size_t i = 0; i < s->value_count; i++)
        if (s->values[i].key.n == 0 || (s->values[i].bytes && !s->values[i].data))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    nb_error err;
    nb_source *s;
    if (!ready) {
        if (!mkdtemp(folder))
            abort();
        atexit(clean);
        write_checkpoint();
        ready = true;
    }
    if (size == 0)
        return 0;
    const char *name = files[data[0] % FILES];
    write_file("config.json", config, sizeof config - 1);
    write_file(name, data + 1, size - 1);
    if (data[0] % FILES == 5) /* one half of a pair */
        write_file("merges.txt", "a b\n", 4);
    if (data[0] % FILES == 6)
        write_file("vocab.json", "{\"a\":0,\"b\":1,\"ab\":2}", 20);
    if (nb_hf_open(folder, &s, &err) == NB_OK) {
        read_all(s);
        nb_source_free(s);
    }
    for (int i = 0; i < FILES; i++)
        unlink(path_of(files[i]));
    return 0;
}
