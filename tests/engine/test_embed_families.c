/* Directories of sentence-transformers, and the files made of them, against the embeddings that sentence-transformers itself
 * computes of texts (tests/data/embed): tokenizer, prompts, where texts are cut, pooling, dense layers, normalization. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "convert/open.h"
#include "convert/quantize.h"
#include "engine/engine.h"
#include "format/embedding_keys.h"
#include "hf/hf.h"
#include "hf/hf_json.h"
#include "support/folder.h"

static const struct {
    const char *name;
    size_t width;
} families[] = {{"nomic-bert", 48},      {"nomic-bert-native", 40},     {"bert-cls", 40},
                {"distilbert", 48},      {"distilbert-masked", 40},     {"mpnet", 48},
                {"mpnet-odd", 40},       {"xlm-roberta", 48},           {"roberta-dense", 24},
                {"gemma-embedding", 32}, {"gemma-embedding-plain", 48}, {"qwen2-embedding", 40},
                {"qwen3-embedding", 40}};
enum { FAMILIES = sizeof families / sizeof *families, MOST_CASES = 16, MOST_WIDTH = 64, MOST_LABELS = 4 };

static nb_error err;

static void must(nb_status status)
{
    if (status != NB_OK)
        fail_msg("%s", err.message);
}

typedef struct text_case {
    nb_str text;
    char prompt[32]; /* empty: none was asked for */
    float embedding[MOST_WIDTH];
} text_case;

typedef struct cases {
    nb_tree tree;
    text_case list[MOST_CASES];
    size_t count;
} cases;

static void read_cases(const char *name, size_t width, cases *c)
{
    char file[64];
    *c = (cases){0};
    snprintf(file, sizeof file, "%s.json", name);
    must(nb_tree_open_any(NB_TEST_DATA "/embed", file, 1 << 20, false, &c->tree, &err));
    for (const nb_node *n = c->tree.root->list.first; n; n = n->next, c->count++) {
        text_case *t = &c->list[c->count];
        const nb_node *prompt = nb_node_get(n, "prompt"), *vector = nb_node_get(n, "embedding");
        size_t i = 0;
        assert_true(c->count < MOST_CASES);
        assert_int_equal(vector->list.count, width);
        t->text = nb_node_get(n, "text")->str;
        if (prompt)
            snprintf(t->prompt, sizeof t->prompt, "%.*s", NB_STR_ARG(prompt->str));
        for (const nb_node *x = vector->list.first; x; x = x->next)
            t->embedding[i++] = (float)x->num;
    }
    assert_true(c->count >= 7);
}

static double nmse(const float *want, const float *have, size_t n)
{
    double difference = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)have[i] - (double)want[i]) * ((double)have[i] - (double)want[i]);
        power += (double)want[i] * (double)want[i];
    }
    return difference / power;
}

static nb_model *open_model(const char *path, bool exact, int threads)
{
    nb_model *m;
    nb_model_params p = nb_model_defaults();
    p.exact = exact;
    p.threads = threads;
    must(nb_model_open(path, &p, &m, &err));
    return m;
}

static void check_texts(const char *path, const cases *c, size_t width, bool exact, double limit)
{
    nb_model *m = open_model(path, exact, 2);
    assert_int_equal(nb_model_embedding(m), width);
    for (size_t i = 0; i < c->count; i++) {
        const text_case *t = &c->list[i];
        nb_embed_params p = nb_embed_defaults();
        nb_embed_input input = {.text = t->text.p, .bytes = t->text.n};
        float got[MOST_WIDTH];
        p.truncate = true;
        p.prompt_name = t->prompt[0] ? t->prompt : NULL;
        must(nb_embed(m, &input, 1, &p, got, NULL, &err));
        double e = nmse(t->embedding, got, width);
        if (!(e <= limit))
            fail_msg("%s, %s: text %zu (\"%.*s\"), prompt \"%s\": NMSE %.2e", path, nb_cpu_level_name(nb_cpu_current()),
                     i, NB_STR_ARG(t->text), t->prompt, e);
    }
    nb_model_close(m);
}

static const char *directory_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/hf/%s", NB_TEST_DATA, name);
    return path;
}

static void convert(const char *name, const char *mix, const char *file)
{
    nb_source *s;
    nb_quantize_result result;
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(nb_str_of(mix));
    assert_non_null(p.mix);
    must(nb_source_open(directory_of(name), &s, &err));
    must(nb_quantize(s, file, &p, NULL, NULL, &result, &err));
    nb_source_free(s);
}

static void test_sentence_transformers(void **state)
{
    (void)state;
    char file[512];
    snprintf(file, sizeof file, "%s", nb_folder_path("model.gguf"));
    for (int f = 0; f < FAMILIES; f++) {
        cases c;
        read_cases(families[f].name, families[f].width, &c);
        for (int level = 0; level <= (int)nb_cpu_best(); level++) {
            nb_cpu_set_level((nb_cpu_level)level);
            check_texts(directory_of(families[f].name), &c, families[f].width, true, 1e-10);
        }
        convert(families[f].name, "COPY", file);
        check_texts(file, &c, families[f].width, true, 1e-10);
        convert(families[f].name, "F16", file);
        check_texts(file, &c, families[f].width, true, 1e-4);
        convert(families[f].name, "Q8_0", file);
        check_texts(file, &c, families[f].width, false, 2e-3);
        assert_int_equal(unlink(file), 0);
        nb_tree_free(&c.tree);
    }
}

/* all texts in one call, in steps of any size, are to the bit what each is alone */
static void test_batches(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 150, 64, 9};
    for (int f = 0; f < FAMILIES; f++) {
        cases c;
        size_t width = families[f].width;
        nb_embed_input inputs[MOST_CASES];
        static float all[MOST_CASES * MOST_WIDTH], alone[MOST_WIDTH];
        read_cases(families[f].name, width, &c);
        nb_model *m = open_model(directory_of(families[f].name), false, 2);
        nb_model *one = open_model(directory_of(families[f].name), false, 1);
        nb_embed_params p = nb_embed_defaults();
        p.truncate = true;
        for (size_t i = 0; i < c.count; i++)
            inputs[i] = (nb_embed_input){.text = c.list[i].text.p, .bytes = c.list[i].text.n};
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            p.batch = sizes[s];
            must(nb_embed(m, inputs, c.count, &p, all, NULL, &err));
            p.batch = 0;
            for (size_t i = 0; i < c.count; i++) {
                must(nb_embed(one, &inputs[i], 1, &p, alone, NULL, &err));
                if (memcmp(alone, all + i * width, width * sizeof *alone) != 0)
                    fail_msg("%s: text %zu, steps of %zu", families[f].name, i, sizes[s]);
            }
        }
        nb_model_close(m);
        nb_model_close(one);
        nb_tree_free(&c.tree);
    }
}

/* ---- pairs ---- */

static void check_pairs(const char *path, const nb_tree *pairs, nb_model *m, double limit)
{
    nb_embed_input texts[MOST_CASES], ids_only[MOST_CASES];
    static int32_t ids[MOST_CASES][128];
    float scores[MOST_CASES * MOST_LABELS], alone[MOST_LABELS], by_ids[MOST_CASES * MOST_LABELS];
    size_t count = 0, tokens, wanted_tokens = 0, labels = nb_model_labels(m);
    assert_true(labels > 0 && labels <= MOST_LABELS);
    const nb_node *first = pairs->root->list.first;
    nb_str query = nb_node_get(first, "query")->str;
    for (const nb_node *n = first; n && nb_str_eq(nb_node_get(n, "query")->str, query); n = n->next, count++) {
        nb_str text = nb_node_get(n, "text")->str;
        size_t i = 0;
        for (const nb_node *id = nb_node_get(n, "ids")->list.first; id; id = id->next)
            ids[count][i++] = (int32_t)id->num;
        texts[count] = (nb_embed_input){.text = text.p, .bytes = text.n};
        ids_only[count] = (nb_embed_input){.ids = ids[count], .count = i};
        wanted_tokens += i;
    }
    must(nb_rank(m, query.p, query.n, texts, count, NULL, scores, &tokens, &err));
    assert_int_equal(tokens, wanted_tokens);
    must(nb_rank(m, NULL, 0, ids_only, count, NULL, by_ids, NULL, &err));
    assert_memory_equal(scores, by_ids, count * labels * sizeof *scores);
    size_t i = 0;
    for (const nb_node *n = first; i < count; n = n->next, i++) {
        must(nb_rank(m, query.p, query.n, &texts[i], 1, NULL, alone, NULL, &err));
        assert_memory_equal(alone, &scores[i * labels], labels * sizeof *alone);
        size_t label = 0;
        for (const nb_node *want = nb_node_get(n, "scores")->list.first; want; want = want->next, label++)
            if (!(fabs((double)alone[label] - want->num) <= limit))
                fail_msg("%s: pair %zu: %.9g, not %.9g", path, i, (double)alone[label], want->num);
        assert_int_equal(label, labels);
    }
}

static void check_ranker(const char *name, size_t labels)
{
    char file[512];
    nb_tree pairs;
    nb_embed_input text = {.text = "a", .bytes = 1};
    static float out[MOST_WIDTH];
    snprintf(file, sizeof file, "%s.json", name);
    must(nb_tree_open_any(NB_TEST_DATA "/embed", file, 1 << 20, false, &pairs, &err));
    nb_model *m = open_model(directory_of(name), true, 2);
    assert_int_equal(nb_model_labels(m), labels);
    check_pairs(name, &pairs, m, 1e-5);
    assert_int_equal(nb_embed(m, &text, 1, NULL, out, NULL, &err), NB_ERR_UNSUPPORTED); /* it has no embeddings */
    assert_non_null(strstr(err.message, "--rank"));
    nb_model_close(m);
    snprintf(file, sizeof file, "%s", nb_folder_path("model.gguf"));
    convert(name, "COPY", file);
    m = open_model(file, true, 1);
    check_pairs(file, &pairs, m, 1e-5);
    nb_model_close(m);
    assert_int_equal(unlink(file), 0);
    nb_tree_free(&pairs);
}

static void test_rank(void **state)
{
    (void)state;
    nb_embed_input text = {.text = "a", .bytes = 1};
    static float out[MOST_WIDTH];
    check_ranker("xlm-roberta-ranker", 1);
    check_ranker("bert-ranker", 1);
    check_ranker("bert-ranker-labels", 3);
    nb_model *m = open_model(directory_of("xlm-roberta"), true, 1);
    assert_int_equal(nb_model_labels(m), 0);
    assert_int_equal(nb_rank(m, "a", 1, &text, 1, NULL, out, NULL, &err), NB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "cls.output.weight"));
    nb_model_close(m);
}

/* ---- prompts and lengths ---- */

static void test_prompts(void **state)
{
    (void)state;
    static float by_name[MOST_WIDTH], by_hand[MOST_WIDTH], without[MOST_WIDTH];
    nb_model *m = open_model(directory_of("bert-cls"), false, 1);
    nb_embed_params p = nb_embed_defaults();
    nb_embed_input text = {.text = "Hello", .bytes = 5},
                   whole = {.text = "Represent this sentence: Hello", .bytes = 30};
    p.prompt_name = "";
    must(nb_embed(m, &whole, 1, &p, by_hand, NULL, &err));
    must(nb_embed(m, &text, 1, &p, without, NULL, &err));
    p.prompt_name = NULL; /* the file's default: query */
    must(nb_embed(m, &text, 1, &p, by_name, NULL, &err));
    assert_memory_equal(by_name, by_hand, 40 * sizeof(float));
    assert_memory_not_equal(by_name, without, 40 * sizeof(float));
    p.prompt_name = "passage";
    assert_int_equal(nb_embed(m, &text, 1, &p, by_name, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "passage"));
    assert_non_null(strstr(err.message, "it has query"));
    nb_model_close(m);
    m = open_model(directory_of("xlm-roberta"), false, 1);
    assert_int_equal(nb_embed(m, &text, 1, &p, by_name, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "nor any other"));
    nb_model_close(m);
}

/* max_seq_length is where a text ends that is cut; without, the positions are the limit */
static void test_lengths(void **state)
{
    (void)state;
    enum { LENGTH = 64, POSITIONS = 128 };
    static float got[MOST_WIDTH], wanted[MOST_WIDTH];
    int32_t ids[POSITIONS + 1];
    nb_model *m = open_model(directory_of("xlm-roberta"), false, 1);
    nb_embed_params p = nb_embed_defaults();
    for (int i = 0; i <= POSITIONS; i++)
        ids[i] = 5 + i % 200;
    ids[0] = 0;
    ids[POSITIONS - 1] = 2; /* </s> */
    nb_embed_input long_text = {.ids = ids, .count = POSITIONS};
    must(nb_embed(m, &long_text, 1, &p, got, NULL, &err));
    p.truncate = true;
    must(nb_embed(m, &long_text, 1, &p, got, NULL, &err));
    ids[LENGTH - 1] = 2;
    long_text.count = LENGTH;
    must(nb_embed(m, &long_text, 1, &p, wanted, NULL, &err));
    assert_memory_equal(got, wanted, 48 * sizeof(float));
    p.truncate = false;
    long_text.count = POSITIONS + 1;
    assert_int_equal(nb_embed(m, &long_text, 1, &p, got, NULL, &err), NB_ERR_LIMIT);
    nb_model_close(m);
}

/* ---- what is refused, or broken ---- */

static void put_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static const char *copy_of(const char *name)
{
    static char folder[512];
    char command[2048];
    snprintf(folder, sizeof folder, "%s", nb_folder_path("copy"));
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", folder, directory_of(name), folder);
    assert_int_equal(system(command), 0);
    return folder;
}

static void remove_copy(void)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", nb_folder_path("copy"));
    assert_int_equal(system(command), 0);
}

static void refuses(const char *name, const char *file, const char *text, nb_status code, const char *words)
{
    const char *folder = copy_of(name);
    nb_source *s;
    put_file(folder, file, text);
    nb_status status = nb_hf_open(folder, &s, &err);
    if (status == NB_OK)
        fail_msg("%s: %s: %s was taken", name, file, text);
    assert_int_equal(status, code);
    if (!strstr(err.message, words) || !strstr(err.message, folder))
        fail_msg("%s: '%s' does not tell '%s'", file, err.message, words);
}

static void test_refused_modules(void **state)
{
    (void)state;
    const char *pooling = "1_Pooling/config.json", *dense = "2_Dense/config.json", *name = "roberta-dense";
    refuses(name, pooling, "{\"pooling_mode_max_tokens\": true}", NB_ERR_UNSUPPORTED, "\"max\"");
    refuses(name, pooling, "{\"pooling_mode_weightedmean_tokens\": true}", NB_ERR_UNSUPPORTED, "weightedmean");
    refuses(name, pooling, "{\"pooling_mode_mean_tokens\": true, \"pooling_mode_cls_token\": true}", NB_ERR_UNSUPPORTED,
            "\"cls\" beside mean");
    refuses(name, pooling, "{\"pooling_mode\": [\"mean\", \"max\"]}", NB_ERR_UNSUPPORTED, "\"max\" beside mean");
    refuses(name, pooling, "{}", NB_ERR_UNSUPPORTED, "none of mean, cls and lasttoken");
    refuses(name, pooling, "{\"pooling_mode\": \"mean\", \"include_prompt\": false}", NB_ERR_UNSUPPORTED,
            "include_prompt");
    refuses(name, dense, "{\"activation_function\": \"torch.nn.modules.activation.ReLU\"}", NB_ERR_UNSUPPORTED, "ReLU");
    refuses(name, dense, "{\"use_residual\": true}", NB_ERR_UNSUPPORTED, "use_residual");
    refuses(name, "modules.json", "[{\"type\": \"sentence_transformers.models.LSTM\", \"path\": \"\"}]",
            NB_ERR_UNSUPPORTED, "is a module that is not supported");
    refuses(name, "modules.json", "[{\"type\": \"x.Pooling\", \"path\": \"../bert-cls\"}]", NB_ERR_FORMAT, "path");
    refuses(name, "modules.json", "[{\"type\": \"x.Dense\", \"path\": \"2_Dense\"}]", NB_ERR_UNSUPPORTED,
            "before the Pooling");
    refuses(name, "modules.json", "[{\"path\": \"\"}]", NB_ERR_UNSUPPORTED, "is a module that is not supported");
    refuses("xlm-roberta", "sentence_bert_config.json", "{\"do_lower_case\": true}", NB_ERR_UNSUPPORTED,
            "do_lower_case");
    refuses("xlm-roberta", "sentence_bert_config.json", "{\"max_seq_length\": 0}", NB_ERR_FORMAT, "max_seq_length");
    refuses("xlm-roberta", "config_sentence_transformers.json", "{\"prompts\": {\"a\": 7}}", NB_ERR_FORMAT,
            "is no text");
    refuses("xlm-roberta", "config_sentence_transformers.json", "{\"default_prompt_name\": \"query\"}", NB_ERR_FORMAT,
            "is none of the prompts");
    remove_copy();
}

/* keys that say what a tensor is not */
static void test_refused_heads(void **state)
{
    (void)state;
    nb_model *m;
    nb_gguf *g;
    nb_embed_head head;
    const char *folder = copy_of("roberta-dense"); /* a dense layer over another width than the model's */
    put_file(folder, "modules.json",
             "[{\"type\": \"x.Pooling\", \"path\": \"1_Pooling\"}, {\"type\": \"x.Dense\", \"path\": \"2_Dense\"},"
             " {\"type\": \"x.Dense\", \"path\": \"2_Dense\"}]");
    assert_int_equal(nb_model_open(folder, NULL, &m, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "dense_3.weight"));
    assert_non_null(strstr(err.message, "24 values"));
    must(nb_gguf_open(NB_TEST_DATA "/archs/roberta-dense.gguf", &g, &err));
    must(nb_embed_head_read(g, 56, &head, &err));
    assert_int_equal(head.count, 1);
    assert_int_equal(head.width, 24);
    assert_true(head.layers[0].tanh && head.layers[0].bias);
    assert_int_equal(nb_embed_head_read(g, 55, &head, &err), NB_ERR_FORMAT);
    nb_gguf_close(g);
    remove_copy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test_setup_teardown(test_rank, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test_setup_teardown(test_refused_modules, nb_folder_make, nb_folder_remove),
        cmocka_unit_test_setup_teardown(test_refused_heads, nb_folder_make, nb_folder_remove),
        /* last: it changes the level */
        cmocka_unit_test_setup_teardown(test_sentence_transformers, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
