/* A checkpoint that is quantized, in any way but bitsandbytes' (fuzz_bnb.c): the quantization_config, a NUL, then lines of
 * tensors beside q_proj: "NAME DTYPE [DIM...]". Values are noise. Opened in all three forms and read, or refused. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/checkpoint.h"
#include "hf/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIDTH = 32, INNER = 64, ROWS = 3, VALUES = 1 << 14, TENSORS = 32 };

static char folder[] = "/tmp/fuzz-quantized-XXXXXX";
static const char head[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"vocab_size\":3,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,"
    "\"quantization_config\":";

static const struct {
    const char *name;
    uint64_t rows, columns;
} weights[] = {
    {"model.embed_tokens.weight", ROWS, WIDTH},
    {"model.norm.weight", WIDTH, 0},
    {"model.layers.0.input_layernorm.weight", WIDTH, 0},
    {"model.layers.0.post_attention_layernorm.weight", WIDTH, 0},
    {"model.layers.0.self_attn.k_proj.weight", WIDTH, WIDTH},
    {"model.layers.0.self_attn.v_proj.weight", WIDTH, WIDTH},
    {"model.layers.0.self_attn.o_proj.weight", WIDTH, WIDTH},
    {"model.layers.0.mlp.gate_proj.weight", INNER, WIDTH},
    {"model.layers.0.mlp.up_proj.weight", INNER, WIDTH},
    {"model.layers.0.mlp.down_proj.weight", WIDTH, INNER},
};
enum { WEIGHTS = sizeof weights / sizeof *weights };
#define Q "model.layers.0.self_attn.q_proj"

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void clean(void)
{
    unlink(path_of("config.json"));
    unlink(path_of("model.safetensors"));
    rmdir(folder);
}

static void write_config(const char *quantization, size_t n)
{
    FILE *f = fopen(path_of("config.json"), "wb");
    if (!f || fwrite(head, 1, sizeof head - 1, f) != sizeof head - 1 || fwrite(quantization, 1, n, f) != n ||
        fputc('}', f) < 0 || fclose(f) != 0)
        abort();
}

/* Written here and not by safetensors_write.h, which waits for the disk. */
static void put_tensor(nb_buf *header, const char *name, nb_dtype dtype, uint32_t n, const uint64_t *dims, size_t at)
{
    size_t bytes = nb_dtype_bytes(dtype);
    nb_buf_printf(header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", header->len > 1 ? "," : "", name,
                  nb_dtype_name(dtype));
    for (uint32_t d = 0; d < n; d++) {
        nb_buf_printf(header, "%s%llu", d ? "," : "", (unsigned long long)dims[d]);
        bytes *= dims[d];
    }
    nb_buf_printf(header, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
}

typedef struct told {         /* a tensor that says where things are: noise would be refused at once */
    size_t at, values, bytes; /* in the data; of each value */
    unsigned char value;      /* of the first half; 0 in the second for an order of columns */
    bool all;
} told;

/* declares the tensor of a line, and returns its bytes; 0: the line makes no sense */
static size_t put_line(nb_buf *header, char *line, size_t at, told *t)
{
    char name[300], *rest = NULL, *word = strtok_r(line, " ", &rest);
    uint64_t dims[NB_CHECKPOINT_DIMS], values = 1;
    uint32_t n = 0;
    int dtype = 0;
    if (!word || strlen(word) > 200)
        return 0;
    for (const char *c = word; *c; c++)
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
            return 0;
    snprintf(name, sizeof name, Q "%s%s", *word == '_' ? "" : ".", word);
    word = strtok_r(NULL, " ", &rest);
    while (word && dtype < NB_DTYPES && strcmp(word, nb_dtype_name((nb_dtype)dtype)) != 0)
        dtype++;
    if (!word || dtype == NB_DTYPES)
        return 0;
    while (n < 4 && (word = strtok_r(NULL, " ", &rest))) {
        dims[n] = strtoull(word, NULL, 10);
        if (dims[n] > VALUES || (values *= dims[n++]) > VALUES)
            return 0;
    }
    put_tensor(header, name, (nb_dtype)dtype, n, dims, at);
    *t = (told){at, 0, nb_dtype_bytes((nb_dtype)dtype), 1, false};
    if (strstr(name, "weight_shape"))
        *t = (told){at, values, t->bytes, WIDTH, true};
    else if (strstr(name, "g_idx"))
        t->values = values;
    return values * nb_dtype_bytes((nb_dtype)dtype);
}

static void write_checkpoint(char *lines)
{
    nb_buf header = {0};
    size_t bytes = 0;
    char *rest = NULL, *line = strtok_r(lines, "\n", &rest);
    told told_ones[TENSORS] = {{0}};
    nb_buf_char(&header, '{');
    for (int i = 0; i < WEIGHTS; i++) {
        uint64_t values = weights[i].rows * (weights[i].columns ? weights[i].columns : 1);
        put_tensor(&header, weights[i].name, NB_DTYPE_F32, weights[i].columns ? 2 : 1,
                   (const uint64_t[]){weights[i].rows, weights[i].columns}, bytes);
        bytes += 4 * values;
    }
    for (int i = 0; line && i < TENSORS; i++, line = strtok_r(NULL, "\n", &rest))
        bytes += put_line(&header, line, bytes, &told_ones[i]);
    nb_buf_char(&header, '}');
    unsigned char *noise = malloc(bytes);
    uint32_t state = 1;
    for (size_t i = 0; noise && i < bytes; i++)
        noise[i] = (unsigned char)((state = state * 1664525u + 1013904223u) >> 24 & (i % 2 ? 0x3f : 0xff));
    for (int i = 0; noise && i < TENSORS; i++)
        for (size_t k = 0; k < told_ones[i].values; k++) {
            unsigned char *value = noise + told_ones[i].at + k * told_ones[i].bytes;
            memset(value, 0, told_ones[i].bytes);
            *value = told_ones[i].all || k < told_ones[i].values / 2 ? told_ones[i].value : 0;
        }
    FILE *f = fopen(path_of("model.safetensors"), "wb");
    uint64_t length = header.len;
    if (!noise || header.failed || !f || fwrite(&length, 8, 1, f) != 1 ||
        fwrite(header.data, 1, header.len, f) != header.len || fwrite(noise, 1, bytes, f) != bytes || fclose(f) != 0)
        abort();
    free(noise);
    nb_buf_free(&header);
}

/* false: refused */
static bool read_all(const nb_hf_params *p)
{
    nb_source *s;
    nb_error err;
    if (nb_hf_open_as(folder, p, &s, &err) != NB_OK)
        return false;
    for (size_t i = 0; i < s->tensor_count; i++) {
        size_t row;
        uint64_t rows = nb_source_rows(&s->tensors[i]);
        if (!nb_type_row_bytes(s->tensors[i].type, s->tensors[i].dims[0], &row) || row * rows > 1 << 22)
            abort(); /* larger than what the file can hold */
        void *room = malloc(row * rows);
        if (room && s->read(s, i, 0, rows, room, &err) == NB_OK && rows > 1)
            s->read(s, i, rows - 1, 1, room, &err);
        free(room);
    }
    nb_source_free(s);
    return true;
}

static void start(void)
{
    static const char fine[] = "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":16,\"zero_point\":true}";
    char lines[] = "qweight I32 32 4\nqzeros I32 2 4\nscales F16 2 32";
    if (!mkdtemp(folder))
        abort();
    atexit(clean);
    write_config(fine, sizeof fine - 1);
    write_checkpoint(lines);
    if (!read_all(&(nb_hf_params){.threads = 1}))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready)
        start();
    ready = true;
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    if (!end || size > 1 << 14)
        return 0;
    size_t n = (size_t)(end - data);
    char *lines = malloc(size - n);
    if (!lines)
        return 0;
    memcpy(lines, end + 1, size - n - 1);
    lines[size - n - 1] = 0;
    write_config((const char *)data, n);
    write_checkpoint(lines);
    read_all(&(nb_hf_params){.threads = 1});
    read_all(&(nb_hf_params){.packed = true, .threads = 1});
    read_all(&(nb_hf_params){.stored = true, .threads = 1});
    free(lines);
    return 0;
}
