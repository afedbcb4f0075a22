/* The mixes against llama-quantize: tests/data/convert/mixes.txt holds, for the shapes of twenty models, what its --dry-run says
 * each file type makes of each matrix, without and with an importance matrix. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "convert/mix.h"

enum { MAX_TENSORS = 4096, MAX_STEMS = 32, MAX_LAYERS = 128, MAX_VALUES = 8, BASE = -1 };

/* A model of the file: its matrices by layer, "blk.*.NAME" as it stands there. */
typedef struct model {
    char name[64], arch[32];
    unsigned numbers[4]; /* layers, heads, key and value heads, experts */
    struct stem {
        char name[64];
        uint64_t dims[4];
        uint32_t n_dims;
        bool layered;
    } stems[MAX_STEMS];
    int stem_count;
    nb_gguf_value values[MAX_VALUES];
    char keys[MAX_VALUES][64], names[MAX_TENSORS][64];
    nb_source_tensor tensors[MAX_TENSORS];
    int stem_of[MAX_TENSORS], layer_of[MAX_TENSORS];
    nb_source source;
} model;

static void add_tensor(model *m, int stem, int layer)
{
    struct stem *s = &m->stems[stem];
    size_t i = m->source.tensor_count++;
    assert_true(i < MAX_TENSORS);
    if (s->layered)
        snprintf(m->names[i], sizeof m->names[i], "blk.%d.%s", layer, s->name);
    else
        snprintf(m->names[i], sizeof m->names[i], "%s", s->name);
    bool single = s->n_dims == 1 || strstr(s->name, "gate_inp");
    m->tensors[i] = (nb_source_tensor){
        .name = nb_str_of(m->names[i]), .type = nb_type_get(single ? NB_TYPE_F32 : NB_TYPE_F16), .n_dims = s->n_dims};
    memcpy(m->tensors[i].dims, s->dims, sizeof s->dims);
    m->stem_of[i] = stem;
    m->layer_of[i] = s->layered ? layer : BASE;
}

static void build(model *m)
{
    static const char *const keys[] = {"block_count", "attention.head_count", "attention.head_count_kv",
                                       "expert_count"};
    m->source = (nb_source){.path = m->name, .values = m->values, .value_count = 5, .tensors = m->tensors};
    m->values[0] = (nb_gguf_value){NB_STR("general.architecture"), NB_GGUF_STRING, NB_GGUF_STRING, 1,
                                   (unsigned char *)m->arch,       strlen(m->arch)};
    for (int i = 0; i < 4; i++) {
        snprintf(m->keys[i], sizeof m->keys[i], "%s.%s", m->arch, keys[i]);
        m->values[i + 1] = (nb_gguf_value){
            nb_str_of(m->keys[i]), NB_GGUF_U32, NB_GGUF_U32, 1, (unsigned char *)&m->numbers[i], 4,
        };
    }
    /* layers in no order: what counts is in the names */
    for (int layer = (int)m->numbers[0] - 1; layer >= 0; layer--)
        for (int s = m->stem_count - 1; s >= 0; s--)
            if (m->stems[s].layered || layer == 0)
                add_tensor(m, s, layer);
}

static void read_model(model *m, const char *line)
{
    memset(m, 0, sizeof *m);
    assert_int_equal(sscanf(line, "model %63s %31s layers %u heads %u %u experts %u", m->name, m->arch, &m->numbers[0],
                            &m->numbers[1], &m->numbers[2], &m->numbers[3]),
                     6);
}

static void read_tensor(model *m, const char *line)
{
    char name[64];
    struct stem *s = &m->stems[m->stem_count++];
    assert_true(m->stem_count <= MAX_STEMS);
    s->dims[0] = s->dims[1] = s->dims[2] = s->dims[3] = 1;
    int n = sscanf(line, "tensor %63s %lu %lu %lu %lu", name, &s->dims[0], &s->dims[1], &s->dims[2], &s->dims[3]);
    assert_true(n >= 2);
    s->n_dims = (uint32_t)n - 1;
    s->layered = strncmp(name, "blk.*.", 6) == 0;
    snprintf(s->name, sizeof s->name, "%s", name + (s->layered ? 6 : 0));
}

/* Whether "0-3,6" (NULL: all) names the layer. */
static bool names_layer(const char *list, int layer)
{
    for (const char *p = list; p && *p;) {
        char *end;
        long from = strtol(p, &end, 10), to = from;
        if (*end == '-')
            to = strtol(end + 1, &end, 10);
        if (layer >= from && layer <= to)
            return true;
        p = *end == ',' ? end + 1 : end;
    }
    return list == NULL;
}

/* The type that "BASE stem=TYPE stem=TYPE:LAYERS ..." gives a matrix. */
static const nb_type_info *expected(const char *line, const struct stem *s, int layer)
{
    char copy[4096], *next = copy, *word = NULL;
    snprintf(copy, sizeof copy, "%s", line);
    word = strsep(&next, " \n");
    const nb_type_info *type = nb_type_by_name(nb_str_of(word));
    while ((word = strsep(&next, " \n")) != NULL) {
        char *equals = strchr(word, '='), *layers;
        if (!equals)
            continue;
        *equals = '\0';
        layers = strchr(equals + 1, ':');
        if (layers)
            *layers++ = '\0';
        if (strncmp(s->name, word, strlen(word)) == 0 &&
            (s->name[strlen(word)] == '\0' || strcmp(s->name + strlen(word), ".weight") == 0) &&
            names_layer(layers, layer))
            type = nb_type_by_name(nb_str_of(equals + 1));
    }
    assert_non_null(type);
    return type;
}

static void check_answer(const model *m, const char *mix_name, bool imatrix, const char *answer)
{
    static const nb_type_info *types[MAX_TENSORS];
    nb_mix_options options = {.imatrix = imatrix};
    size_t fallbacks;
    nb_error err;
    const nb_mix *mix = nb_mix_by_name(nb_str_of(mix_name));
    assert_non_null(mix);
    assert_string_equal(nb_mix_name(mix), mix_name);
    assert_int_equal(nb_mix_types(mix, &m->source, &options, types, &fallbacks, &err), NB_OK);
    for (size_t i = 0; i < m->source.tensor_count; i++) {
        const struct stem *s = &m->stems[m->stem_of[i]];
        bool kept = m->tensors[i].type->id == NB_TYPE_F32;
        const nb_type_info *want = kept ? m->tensors[i].type : expected(answer, s, m->layer_of[i]);
        if (types[i] != want)
            fail_msg("%s, %s%s: %s is %s, not %s", m->name, mix_name, imatrix ? " with imatrix" : "", m->names[i],
                     types[i]->name, want->name);
    }
}

static void as_llama_quantize(void **state)
{
    (void)state;
    static model m;
    char line[4096], plain[4096] = "", last[32] = "";
    int models = 0, answers = 0;
    FILE *f = fopen(NB_TEST_DATA "/convert/mixes.txt", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char mix[32], with[16];
        int at = 0;
        if (strncmp(line, "model ", 6) == 0) {
            read_model(&m, line);
            models++;
        } else if (strncmp(line, "tensor ", 7) == 0) {
            read_tensor(&m, line);
            m.source.tensor_count = 0;
        } else if (sscanf(line, "%31s %15s %n", mix, with, &at) == 2 && at > 0) {
            if (m.source.tensor_count == 0)
                build(&m);
            bool imatrix = strcmp(with, "imatrix") == 0;
            check_answer(&m, mix, imatrix, line + at);
            assert_true(!imatrix || strcmp(last, mix) == 0);
            if (!imatrix)
                snprintf(plain, sizeof plain, "%s", line + at);
            snprintf(last, sizeof last, "%s", mix);
            answers++;
        }
    }
    fclose(f);
    assert_int_equal(models, 20);
    assert_true(answers > 700);
}

/* A file type that has only a plain answer is made the same with an importance matrix. */
static void imatrix_changes_some(void **state)
{
    (void)state;
    static model m;
    char line[4096], pending[32] = "", answer[4096] = "";
    FILE *f = fopen(NB_TEST_DATA "/convert/mixes.txt", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char mix[32], with[16];
        int at = 0;
        bool is_answer = sscanf(line, "%31s %15s %n", mix, with, &at) == 2 && at > 0 && strncmp(line, "model ", 6) &&
                         strncmp(line, "tensor ", 7);
        if (pending[0] && !(is_answer && strcmp(with, "imatrix") == 0))
            check_answer(&m, pending, true, answer);
        pending[0] = '\0';
        if (strncmp(line, "model ", 6) == 0)
            read_model(&m, line);
        else if (strncmp(line, "tensor ", 7) == 0)
            read_tensor(&m, line);
        if (!is_answer || strcmp(with, "plain") != 0)
            continue;
        if (m.source.tensor_count == 0)
            build(&m);
        snprintf(pending, sizeof pending, "%s", mix);
        snprintf(answer, sizeof answer, "%s", line + at);
    }
    fclose(f);
}

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *given, *name;
        uint32_t file_type;
    } rows[] = {{"q4_k_m", "Q4_K_M", 15}, {"Q4_K", "Q4_K_M", 15}, {"q3_k", "Q3_K_M", 12},
                {"Q5_k", "Q5_K_M", 17},   {"7", "Q8_0", 7},       {"mxfp4_moe", "MXFP4_MOE", 38},
                {"0", "F32", 0},          {"30", "IQ4_XS", 30}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const nb_mix *mix = nb_mix_by_name(nb_str_of(rows[i].given));
        assert_non_null(mix);
        assert_string_equal(nb_mix_name(mix), rows[i].name);
        assert_int_equal(nb_mix_file_type(mix), rows[i].file_type);
    }
    static const char *const unknown[] = {"", "Q4", "Q4_K_X", "4", "33", "Q4_K_M ", "-1", "99999999999"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_null(nb_mix_by_name(nb_str_of(unknown[i])));
    assert_null(nb_mix_type(nb_mix_by_name(NB_STR("copy"))));
    assert_string_equal(nb_mix_name(nb_mix_of_type(nb_type_get(NB_TYPE_Q4_K))), "Q4_K_S");
    assert_null(nb_mix_of_type(nb_type_get(NB_TYPE_I8)));
}

/* What somebody asks for comes before the rules, is made to fit, and is passed over when layers are counted. */
static void wishes(void **state)
{
    (void)state;
    static model m;
    const nb_type_info *types[MAX_TENSORS], *chosen[MAX_TENSORS] = {0};
    size_t fallbacks;
    nb_error err;
    read_model(&m, "model wishes llama layers 8 heads 8 8 experts 0");
    read_tensor(&m, "tensor token_embd.weight 512 1000");
    read_tensor(&m, "tensor output.weight 512 1000");
    read_tensor(&m, "tensor blk.*.attn_v.weight 512 512");
    read_tensor(&m, "tensor blk.*.attn_q.weight 96 512");
    build(&m);
    nb_mix_options o = {
        .output_type = nb_type_get(NB_TYPE_F16), .embedding_type = nb_type_get(NB_TYPE_Q8_0), .chosen = chosen};
    for (size_t i = 0; i < m.source.tensor_count; i++)
        if (strcmp(m.names[i], "blk.0.attn_v.weight") == 0)
            chosen[i] = nb_type_get(NB_TYPE_BF16);
    const nb_mix *mix = nb_mix_by_name(NB_STR("Q3_K_M"));
    assert_int_equal(nb_mix_types(mix, &m.source, &o, types, &fallbacks, &err), NB_OK);
    for (size_t i = 0; i < m.source.tensor_count; i++) {
        const char *name = m.names[i];
        const char *want = strcmp(name, "token_embd.weight") == 0     ? "Q8_0"
                           : strcmp(name, "output.weight") == 0       ? "F16"
                           : strcmp(name, "blk.0.attn_v.weight") == 0 ? "BF16"
                           : strstr(name, "attn_q")                   ? "Q4_0" /* 96 columns */
                           : name[4] < '3'                            ? "Q5_K" /* the first two that are counted */
                                                                      : "Q4_K";
        assert_string_equal(types[i]->name, want);
    }
    assert_int_equal(fallbacks, 8);
    o = (nb_mix_options){.pure = true, .keep_output = true};
    assert_int_equal(nb_mix_types(mix, &m.source, &o, types, &fallbacks, &err), NB_OK);
    for (size_t i = 0; i < m.source.tensor_count; i++)
        assert_string_equal(types[i]->name, strcmp(m.names[i], "output.weight") == 0 ? "F16"
                                            : strstr(m.names[i], "attn_q")           ? "Q4_0"
                                                                                     : "Q3_K");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_llama_quantize),
        cmocka_unit_test(imatrix_changes_some),
        cmocka_unit_test(names),
        cmocka_unit_test(wishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
