/* A 4-bit weight and what lies beside it: first byte: which part the rest is (quant_state, or a whole safetensors file); opened
 * and read in both forms, or refused. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/safetensors_write.h"
#include "hf/hf.h"

static char folder[] = "/tmp/fuzz-bnb-XXXXXX";
static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":4,\"intermediate_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":1,\"vocab_size\":3,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,"
    "\"quantization_config\":{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}}";

static const struct {
    const char *name;
    uint64_t rows, columns;
} weights[] = {
    {"model.embed_tokens.weight", 3, 4},
    {"model.norm.weight", 4, 0},
    {"model.layers.0.input_layernorm.weight", 4, 0},
    {"model.layers.0.post_attention_layernorm.weight", 4, 0},
    {"model.layers.0.self_attn.k_proj.weight", 4, 4},
    {"model.layers.0.self_attn.v_proj.weight", 4, 4},
    {"model.layers.0.self_attn.o_proj.weight", 4, 4},
    {"model.layers.0.mlp.gate_proj.weight", 8, 4},
    {"model.layers.0.mlp.up_proj.weight", 8, 4},
    {"model.layers.0.mlp.down_proj.weight", 4, 8},
};
enum { WEIGHTS = sizeof weights / sizeof *weights };
#define Q "model.layers.0.self_attn.q_proj.weight"

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void clean(void)
{
    unlink(path_of("config.json"));
    unlink(path_of("tokenizer.json"));
    unlink(path_of("model.safetensors"));
    rmdir(folder);
}

static void write_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(path_of(name), "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static void put(nb_safetensors_writer *w, const char *name, nb_dtype dtype, uint32_t n_dims, uint64_t a, uint64_t b)
{
    nb_safetensors_put(w, (nb_str){name, strlen(name)}, dtype, n_dims, (const uint64_t[]){a, b});
}

/* q_proj in 4 bits, 16 values in a block, with this quant_state */
static void write_checkpoint(const uint8_t *state, size_t n)
{
    static const uint8_t zeros[4096];
    nb_safetensors_writer *w;
    size_t bytes = 8 + 64 + 4 + 1024 + 1;
    if (nb_safetensors_writer_open(folder, 0, &w, NULL) != NB_OK)
        abort();
    for (int i = 0; i < WEIGHTS; i++) {
        put(w, weights[i].name, NB_DTYPE_F32, weights[i].columns ? 2 : 1, weights[i].rows, weights[i].columns);
        bytes += 4 * weights[i].rows * (weights[i].columns ? weights[i].columns : 1);
    }
    put(w, Q, NB_DTYPE_U8, 2, 8, 1);
    put(w, Q ".quant_map", NB_DTYPE_F32, 1, 16, 0);
    put(w, Q ".nested_absmax", NB_DTYPE_F32, 1, 1, 0);
    put(w, Q ".nested_quant_map", NB_DTYPE_F32, 1, 256, 0);
    put(w, Q ".absmax", NB_DTYPE_U8, 1, 1, 0);
    put(w, Q ".quant_state.bitsandbytes__nf4", NB_DTYPE_U8, 1, n, 0);
    if (nb_safetensors_data(w, zeros, bytes, NULL) != NB_OK || nb_safetensors_data(w, state, n, NULL) != NB_OK ||
        nb_safetensors_writer_commit(w, NULL) != NB_OK)
        abort();
}

static void read_all(bool packed)
{
    nb_source *s;
    nb_error err;
    nb_hf_params p = {.packed = packed, .as_cpu = !packed, .threads = 1};
    if (nb_hf_open_as(folder, &p, &s, &err) != NB_OK)
        return;
    for (size_t i = 0; i < s->tensor_count; i++) {
        size_t row;
        uint64_t rows = nb_source_rows(&s->tensors[i]);
        if (!nb_type_row_bytes(s->tensors[i].type, s->tensors[i].dims[0], &row) || row * rows > 1 << 20)
            abort(); /* larger than what the file can hold */
        void *room = malloc(row * rows);
        if (room)
            s->read(s, i, 0, rows, room, &err);
        free(room);
    }
    nb_source_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready) {
        if (!mkdtemp(folder))
            abort();
        atexit(clean);
        write_file("config.json", config, sizeof config - 1);
        static const char tokenizer[] =
            "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]},"
            "\"decoder\":{\"type\":\"ByteLevel\"}}";
        write_file("tokenizer.json", tokenizer, sizeof tokenizer - 1);
        ready = true;
    }
    if (size == 0 || size > 1 << 16)
        return 0;
    if (data[0] % 2)
        write_file("model.safetensors", data + 1, size - 1);
    else
        write_checkpoint(data + 1, size - 1);
    read_all(false);
    read_all(true);
    return 0;
}
