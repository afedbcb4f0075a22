/* Embeddings of tiny models against the hidden states and logits that transformers gives, and against themselves: alone or
 * among others, in one step or many. */
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "engine/engine.h"
#include "support/logits_file.h"

enum { TEXTS = 7, MOST_IDS = 64 };

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

static nb_model *open_model(const char *name, bool exact, int threads)
{
    char path[512];
    nb_model *m;
    nb_model_params p = nb_model_defaults();
    p.exact = exact;
    p.threads = threads;
    snprintf(path, sizeof path, "%s/archs/%s.gguf", NB_TEST_DATA, name);
    must(nb_model_open(path, &p, &m, &err));
    return m;
}

static void read_oracle(const char *name, nb_logits_file *want)
{
    char path[512];
    snprintf(path, sizeof path, "%s/archs/%s.logits.bin", NB_TEST_DATA, name);
    assert_true(nb_logits_read(path, want));
}

static nb_embed_input input_of(const int32_t *ids, size_t count)
{
    return (nb_embed_input){.ids = ids, .count = count};
}

/* ---- against transformers ---- */

/* the vector that a pooling makes of the oracle's hidden states, in double precision */
static void pool(const nb_logits_file *f, int32_t sequence, nb_pooling pooling, bool normalize, float *out)
{
    size_t width = (size_t)f->vocabulary;
    double square = 0, *sum = calloc(width, sizeof *sum);
    int32_t first = pooling == NB_POOLING_LAST ? f->tokens - 1 : 0,
            last = pooling == NB_POOLING_CLS ? 0 : f->tokens - 1;
    assert_non_null(sum);
    for (int32_t t = first; t <= last; t++)
        for (size_t i = 0; i < width; i++)
            sum[i] += (double)nb_logits_at(f, sequence, t)[i] / (double)(last - first + 1);
    for (size_t i = 0; i < width; i++)
        square += sum[i] * sum[i];
    for (size_t i = 0; i < width; i++)
        out[i] = (float)(normalize ? sum[i] / sqrt(square) : sum[i]);
    free(sum);
}

static void test_encoder(void **state)
{
    (void)state;
    nb_logits_file want;
    float vectors[2][64], wanted[64];
    read_oracle("bert", &want);
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        nb_model *m = open_model("bert", true, 2);
        assert_int_equal(nb_model_embedding(m), 64);
        nb_embed_input inputs[2] = {input_of(nb_logits_ids(&want, 0), (size_t)want.tokens),
                                    input_of(nb_logits_ids(&want, 1), (size_t)want.tokens)};
        for (int pooling = NB_POOLING_MODEL; pooling <= NB_POOLING_LAST; pooling++)
            for (int raw = 0; raw < 2; raw++) {
                nb_embed_params p = nb_embed_defaults();
                size_t tokens = 0;
                p.pooling = (nb_pooling)pooling;
                p.normalize = raw ? NB_NORMALIZE_NO : NB_NORMALIZE_MODEL;
                must(nb_embed(m, inputs, 2, &p, vectors[0], &tokens, &err));
                assert_int_equal(tokens, 2 * want.tokens);
                for (int32_t s = 0; s < 2; s++) {
                    pool(&want, s, pooling == NB_POOLING_MODEL ? NB_POOLING_MEAN : (nb_pooling)pooling, !raw, wanted);
                    double nmse = nb_nmse(vectors[s], wanted, 64);
                    if (!(nmse <= 1e-10))
                        fail_msg("pooling %d, level %d: NMSE %.2e", pooling, level, nmse);
                }
            }
        nb_model_close(m);
    }
    nb_logits_free(&want);
}

/* the head's product of a decoder's last hidden state is the oracle's logits */
static void check_decoder(const char *name, size_t batch)
{
    nb_logits_file want;
    read_oracle(name, &want);
    nb_model *m = open_model(name, true, 2);
    size_t width = nb_model_embedding(m), vocabulary = nb_model_vocabulary(m);
    float *vector = calloc(width, sizeof *vector), *row = calloc(width, sizeof *row);
    float *logits = calloc(vocabulary, sizeof *logits);
    assert_true(vector && row && logits);
    nb_embed_params p = nb_embed_defaults();
    p.normalize = NB_NORMALIZE_NO;
    p.batch = batch;
    nb_embed_input input = input_of(nb_logits_ids(&want, 0), (size_t)want.tokens);
    must(nb_embed(m, &input, 1, &p, vector, NULL, &err)); /* a decoder's own pooling is the last token */
    const nb_gguf_tensor *t = nb_gguf_find_tensor(m->gguf, NB_STR("output.weight"));
    t = t ? t : nb_gguf_find_tensor(m->gguf, NB_STR("token_embd.weight"));
    assert_int_equal(t->dims[0], width);
    for (size_t i = 0; i < vocabulary; i++) {
        double sum = 0;
        t->type->dequantize((const char *)t->data + i * (t->bytes / vocabulary), row, width);
        for (size_t k = 0; k < width; k++)
            sum += (double)row[k] * (double)vector[k];
        logits[i] = (float)sum;
    }
    double nmse = nb_nmse(logits, nb_logits_at(&want, 0, want.tokens - 1), vocabulary);
    if (!(nmse <= 1e-10))
        fail_msg("%s: NMSE %.2e", name, nmse);
    free(vector);
    free(row);
    free(logits);
    nb_model_close(m);
    nb_logits_free(&want);
}

static void test_decoder(void **state)
{
    (void)state;
    check_decoder("qwen2", 0);
    check_decoder("qwen2", 7); /* a causal text may take several steps */
    check_decoder("gemma-3", 20);
    check_decoder("opt-350m-post-norm", 0); /* 32 values: after the projection */
}

/* ---- against itself ---- */

static const size_t lengths[TEXTS] = {3, 64, 1, 40, 63, 17, 2};

static void make_inputs(const nb_model *m, int32_t ids[TEXTS][MOST_IDS], nb_embed_input *inputs)
{
    uint32_t seed = 9;
    for (size_t t = 0; t < TEXTS; t++) {
        for (size_t i = 0; i < lengths[t]; i++) {
            seed = seed * 1664525u + 1013904223u;
            ids[t][i] = (int32_t)((seed >> 8) % nb_model_vocabulary(m));
        }
        inputs[t] = input_of(ids[t], lengths[t]);
    }
}

static void check_neighbours(const char *name, nb_pooling pooling)
{
    static int32_t ids[TEXTS][MOST_IDS];
    nb_embed_input inputs[TEXTS];
    nb_model *m = open_model(name, false, 2), *one = open_model(name, false, 1);
    size_t width = nb_model_embedding(m), bytes = width * sizeof(float);
    make_inputs(m, ids, inputs);
    float *all = calloc(TEXTS, bytes), *alone = calloc(1, bytes);
    assert_true(all && alone);
    nb_embed_params p = nb_embed_defaults();
    p.pooling = pooling;
    const size_t batches[] = {0, 70, 33, 5};
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        p.batch = batches[b];
        must(nb_embed(m, inputs, TEXTS, &p, all, NULL, &err));
        p.batch = 0;
        for (size_t t = 0; t < TEXTS; t++) {
            must(nb_embed(one, &inputs[t], 1, &p, alone, NULL, &err));
            if (memcmp(alone, all + t * width, bytes) != 0)
                fail_msg("%s: text %zu, batches of %zu", name, t, batches[b]);
        }
    }
    free(all);
    free(alone);
    nb_model_close(m);
    nb_model_close(one);
}

static void test_neighbours(void **state)
{
    (void)state;
    for (int pooling = NB_POOLING_MEAN; pooling <= NB_POOLING_LAST; pooling++)
        check_neighbours("bert", (nb_pooling)pooling);
    check_neighbours("gemma-3", NB_POOLING_MEAN);
    check_neighbours("phi-2", NB_POOLING_LAST);
}

/* more texts than a step has spans: the ring of pages and tables goes round */
static void test_many(void **state)
{
    (void)state;
    enum { MANY = 700 };
    nb_model *m = open_model("bert", false, 2);
    static nb_embed_input inputs[MANY];
    static int32_t ids[MANY][9];
    static float all[MANY][64], alone[64];
    for (size_t t = 0; t < MANY; t++) {
        for (size_t i = 0; i < 9; i++)
            ids[t][i] = (int32_t)((t * 31 + i * 7) % 600);
        inputs[t] = input_of(ids[t], 1 + t % 9);
    }
    must(nb_embed(m, inputs, MANY, NULL, all[0], NULL, &err));
    for (size_t t = 0; t < MANY; t += 13) {
        must(nb_embed(m, &inputs[t], 1, NULL, alone, NULL, &err));
        assert_memory_equal(alone, all[t], sizeof alone);
    }
    must(nb_embed(m, inputs, 0, NULL, all[0], NULL, &err));
    nb_model_close(m);
}

static void test_text(void **state)
{
    (void)state;
    static const char text[] = "Hello world";
    static float from_text[64], from_ids[64];
    int32_t ids[32];
    size_t count, tokens;
    nb_model *m = open_model("bert", false, 1);
    must(nb_tokenize(m, text, strlen(text), NB_TEXT_ADD_SPECIAL, ids, 32, &count, &err));
    assert_int_equal(ids[0], 2); /* [CLS] */
    nb_embed_input inputs[2] = {{.text = text, .bytes = strlen(text)}, input_of(ids, count)};
    must(nb_embed(m, &inputs[0], 1, NULL, from_text, &tokens, &err));
    assert_int_equal(tokens, count);
    must(nb_embed(m, &inputs[1], 1, NULL, from_ids, NULL, &err));
    assert_memory_equal(from_text, from_ids, sizeof from_ids);
    nb_model_close(m);
}

/* ---- what does not fit ---- */

static void test_long_text(void **state)
{
    (void)state;
    enum { MOST = 128 };
    static char text[3 * MOST + 2];
    static float cut[64], wanted[64];
    int32_t ids[2 * MOST];
    size_t count;
    nb_model *m = open_model("bert", false, 1);
    memset(text, 'a', sizeof text - 1);
    for (size_t i = 1; i < sizeof text - 1; i += 2)
        text[i] = ' ';
    nb_embed_input input = {.text = text, .bytes = strlen(text)};
    nb_embed_params p = nb_embed_defaults();
    assert_int_equal(nb_embed(m, &input, 1, &p, cut, NULL, &err), NB_ERR_LIMIT);
    assert_non_null(strstr(err.message, "128"));
    p.truncate = true;
    must(nb_embed(m, &input, 1, &p, cut, NULL, &err));
    must(nb_tokenize(m, text, strlen(text), NB_TEXT_ADD_SPECIAL, ids, 2 * MOST, &count, &err));
    assert_true(count > MOST);
    ids[MOST - 1] = ids[count - 1]; /* [SEP] still ends it */
    input = input_of(ids, MOST);
    must(nb_embed(m, &input, 1, NULL, wanted, NULL, &err));
    assert_memory_equal(cut, wanted, sizeof cut);
    nb_model_close(m);
}

static void test_refused(void **state)
{
    (void)state;
    static float out[64];
    int32_t ids[2] = {5, 600};
    nb_session *s;
    nb_model *m = open_model("bert", false, 1), *decoder = open_model("opt-125m", false, 1);
    nb_embed_input input = input_of(ids, 2);
    assert_int_equal(nb_embed(m, &input, 1, NULL, out, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "600"));
    ids[1] = -1;
    assert_int_equal(nb_embed(m, &input, 1, NULL, out, NULL, &err), NB_ERR_ARGUMENT);
    input.count = 0;
    assert_int_equal(nb_embed(m, &input, 1, NULL, out, NULL, &err), NB_ERR_ARGUMENT);
    input = (nb_embed_input){.text = "", .bytes = 0}; /* no special tokens here */
    assert_int_equal(nb_embed(decoder, &input, 1, NULL, out, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "text 0 is empty"));
    assert_int_equal(nb_session_open(m, NULL, &s, &err), NB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "bert"));
    assert_non_null(strstr(err.message, "nibble embed"));
    nb_model_close(m);
    nb_model_close(decoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoder), cmocka_unit_test(test_neighbours), cmocka_unit_test(test_many),
        cmocka_unit_test(test_text),    cmocka_unit_test(test_long_text),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_encoder), /* last: it changes the level */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
