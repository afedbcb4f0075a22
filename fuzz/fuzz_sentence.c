/* sentence-transformers' files beside a tiny checkpoint: the first byte chooses the one that the rest is, the others are fine.
 * What is accepted has values and rows that can be read. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/safetensors_write.h"
#include "hf/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIDTH = 4, FILES = 7 };

static char folder[] = "/tmp/fuzz-sentence-XXXXXX";
#define S "sentence_transformers.models."
static const char *const files[FILES][2] = {
    {"modules.json",
     "[{\"path\":\"\",\"type\":\"" S "Transformer\"},{\"path\":\"1_Pooling\",\"type\":\"" S "Pooling\"},"
     "{\"path\":\"2_Dense\",\"type\":\"" S "Dense\"},{\"path\":\"3_Normalize\",\"type\":\"" S "Normalize\"}]"},
    {"1_Pooling/config.json", "{\"word_embedding_dimension\":4,\"pooling_mode_mean_tokens\":true}"},
    {"2_Dense/config.json", "{\"in_features\":4,\"out_features\":4,\"bias\":true}"},
    {"2_Dense/model.safetensors", NULL},
    {"sentence_bert_config.json", "{\"max_seq_length\":5}"},
    {"config_sentence_transformers.json", "{\"prompts\":{\"query\":\"q: \"},\"default_prompt_name\":\"query\"}"},
    {"config.json",
     "{\"architectures\":[\"BertModel\"],\"hidden_size\":4,\"intermediate_size\":4,\"num_hidden_layers\":1,"
     "\"num_attention_heads\":2,\"max_position_embeddings\":4,\"vocab_size\":3}"},
};

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

static void put(nb_safetensors_writer *w, const char *name, uint32_t n_dims, uint64_t rows)
{
    nb_safetensors_put(w, nb_str_of(name), NB_DTYPE_F32, n_dims,
                       n_dims == 2 ? (const uint64_t[]){rows, WIDTH} : (const uint64_t[]){WIDTH});
}

static void write_weights(void)
{
    static const char *const parts[] = {"attention.self.query",       "attention.self.key", "attention.self.value",
                                        "attention.output.dense",     "intermediate.dense", "output.dense",
                                        "attention.output.LayerNorm", "output.LayerNorm"};
    static const float zeros[1024];
    nb_safetensors_writer *w;
    char name[128];
    if (nb_safetensors_writer_open(folder, 0, &w, NULL) != NB_OK)
        abort();
    put(w, "embeddings.word_embeddings.weight", 2, 3);
    put(w, "embeddings.token_type_embeddings.weight", 2, 2);
    put(w, "embeddings.position_embeddings.weight", 2, 4);
    put(w, "embeddings.LayerNorm.weight", 1, 0);
    put(w, "embeddings.LayerNorm.bias", 1, 0);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "encoder.layer.0.%s.weight", parts[i]);
        put(w, name, i < 6 ? 2 : 1, WIDTH);
        snprintf(name, sizeof name, "encoder.layer.0.%s.bias", parts[i]);
        put(w, name, 1, 0);
    }
    size_t values = (3 + 2 + 4 + 2) * WIDTH + 6 * WIDTH * WIDTH + 2 * WIDTH + 8 * WIDTH;
    if (nb_safetensors_data(w, zeros, values * 4, NULL) != NB_OK || nb_safetensors_writer_commit(w, NULL) != NB_OK)
        abort();
}

static void write_dense(void)
{
    static const float zeros[WIDTH * WIDTH + WIDTH];
    nb_safetensors_writer *w;
    if (nb_safetensors_writer_open(path_of("2_Dense"), 0, &w, NULL) != NB_OK)
        abort();
    put(w, "linear.weight", 2, WIDTH);
    put(w, "linear.bias", 1, 0);
    if (nb_safetensors_data(w, zeros, sizeof zeros, NULL) != NB_OK || nb_safetensors_writer_commit(w, NULL) != NB_OK)
        abort();
}

static nb_buf dense; /* the fine weights */

static void write_one(int i)
{
    if (files[i][1])
        write_file(files[i][0], files[i][1], strlen(files[i][1]));
    else if (dense.len)
        write_file(files[i][0], dense.data, dense.len);
    else
        write_dense();
}

static void clean(void)
{
    for (int i = 0; i < FILES; i++)
        unlink(path_of(files[i][0]));
    unlink(path_of("model.safetensors"));
    rmdir(path_of("1_Pooling"));
    rmdir(path_of("2_Dense"));
    rmdir(folder);
}

static void start(void)
{
    if (!mkdtemp(folder) || mkdir(path_of("1_Pooling"), 0777) != 0 || mkdir(path_of("2_Dense"), 0777) != 0)
        abort();
    atexit(clean);
    write_weights();
    for (int i = 0; i < FILES; i++)
        write_one(i);
    nb_source *s; /* all of it is fine */
    nb_error err;
    if (nb_hf_open(folder, &s, &err) != NB_OK ||
        nb_file_read(path_of("2_Dense/model.safetensors"), 1 << 16, &dense, &err) != NB_OK)
        abort();
    nb_source_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    nb_source *s;
    nb_error err;
    if (!ready)
        start();
    ready = true;
    if (size == 0 || size > 1 << 16)
        return 0;
    int which = data[0] % FILES;
    write_file(files[which][0], data + 1, size - 1);
    if (nb_hf_open(folder, &s, &err) == NB_OK) {
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
        for (size_t i = 0; i < s->value_count; i++)
            if (s->values[i].key.n == 0 || (s->values[i].bytes && !s->values[i].data))
                abort();
        nb_source_free(s);
    }
    write_one(which);
    return 0;
}
