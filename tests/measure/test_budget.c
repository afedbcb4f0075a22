/* Types by budget: the choice against trying every combination, errors against those of a whole quantized file, sizes against
 * files that are written, divergences against an evaluation of the file beside its source. On a model of 3 layers whose
 * columns are multiples of 32, and on matrices of 256 columns made here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <sys/stat.h>

#include "base/file.h"
#include "convert/open.h"
#include "measure/budget_internal.h"
#include "measure/evaluate.h"
#include "measure/loss.h"
#include "support/folder.h"

#define SOURCE NB_TEST_DATA "/archs/qwen2.gguf"
enum { WINDOW = 32, TENSORS = 64 };

static nb_error err;
static nb_buf text;
static nb_source *source;
static nb_quantize_params plain;
static const nb_type_info *types[TENSORS];

static int set_up(void **state)
{
    plain = nb_quantize_defaults();
    plain.threads = 2;
    if (nb_folder_make(state) || nb_file_read(NB_TEST_DATA "/measure/text.txt", 1 << 20, &text, &err) != NB_OK ||
        nb_source_open(SOURCE, &source, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return source->tensor_count <= TENSORS ? 0 : -1;
}

static int tear_down(void **state)
{
    nb_source_free(source);
    nb_buf_free(&text);
    return nb_folder_remove(state);
}

static nb_budget_params budget_of(const nb_quantize_params *q)
{
    nb_budget_params p = {
        .in = SOURCE, .quantize = q, .window = WINDOW, .model = nb_model_defaults(), .session = nb_session_defaults()};
    p.model.threads = q->threads;
    return p;
}

static void choose(const nb_budget_params *p, nb_budget_result *out)
{
    if (nb_budget_types(source, p, types, out, &err) != NB_OK)
        fail_msg("%s", err.message);
}

static void refuse(const nb_budget_params *p, const char *part)
{
    nb_budget_result out;
    assert_int_equal(nb_budget_types(source, p, types, &out, &err), NB_ERR_ARGUMENT);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
}

static void write_types(const char *name)
{
    nb_quantize_params q = plain;
    q.types = types;
    assert_int_equal(nb_quantize(source, nb_folder_path(name), &q, NULL, NULL, NULL, &err), NB_OK);
}

static uint64_t written_bytes(void)
{
    struct stat st;
    write_types("out.gguf");
    assert_int_equal(stat(nb_folder_path("out.gguf"), &st), 0);
    assert_int_equal(unlink(nb_folder_path("out.gguf")), 0);
    return (uint64_t)st.st_size;
}

/* ---- the choice ---- */

static uint32_t seed = 1;

static double uniform(void)
{
    seed = seed * 1664525 + 1013904223;
    return (double)(seed >> 8) / (1 << 24);
}

/* Seven tensors of four types: more bytes, less error, nothing regular. */
enum { FREE = 7, EACH = 4 };

static void make_problem(nb_budget *b, nb_budget_tensor *tensors, uint64_t scale)
{
    static const nb_type ids[EACH] = {NB_TYPE_Q4_0, NB_TYPE_Q5_0, NB_TYPE_Q8_0, NB_TYPE_F32};
    *b = (nb_budget){.source = source, .types = types, .tensors = tensors, .count = FREE};
    for (size_t i = 0; i < FREE; i++) {
        uint64_t bytes = 0;
        double error = 1 + uniform();
        tensors[i] = (nb_budget_tensor){.index = i, .sensitivity = 0.1 + uniform(), .count = EACH};
        for (size_t o = 0; o < EACH; o++) {
            bytes += 1 + (uint64_t)((double)scale * uniform());
            error *= uniform();
            tensors[i].options[o] = (nb_budget_option){nb_type_get(ids[o]), bytes, o + 1 < EACH ? error : 0};
        }
    }
}

/* The least loss of low..high bytes, by trying all; infinite: there is none. */
static double least_loss(const nb_budget *b, uint64_t low, uint64_t high)
{
    double least = INFINITY;
    for (size_t all = 0; all < (size_t)1 << (2 * FREE); all++) {
        uint64_t bytes = 0;
        double loss = 0;
        for (size_t i = 0; i < FREE; i++) {
            const nb_budget_option *o = &b->tensors[i].options[all >> (2 * i) & 3];
            bytes += o->bytes;
            loss += o->error * b->tensors[i].sensitivity;
        }
        if (bytes >= low && bytes <= high && loss < least)
            least = loss;
    }
    return least;
}

static uint64_t chosen_bytes(const nb_budget *b)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < b->count; i++)
        for (size_t o = 0; o < b->tensors[i].count; o++)
            if (b->tensors[i].options[o].type == types[b->tensors[i].index])
                bytes += b->tensors[i].options[o].bytes;
    return bytes;
}

static void is_the_best_of_all(void **state)
{
    (void)state;
    for (int problem = 0; problem < 6; problem++) {
        nb_budget b;
        nb_budget_table t;
        nb_arena arena = {0};
        nb_budget_tensor tensors[FREE];
        bool exact = problem < 3; /* sizes that fit the table's cells; then a hundred bytes a cell */
        make_problem(&b, tensors, exact ? 300 : 100000);
        assert_int_equal(nb_budget_table_make(&b, &arena, &t, &err), NB_OK);
        for (int i = 0; i <= 20; i++) {
            uint64_t high = t.least + (t.most - t.least) * (uint64_t)i / 20, low = high - high / 50;
            double least = least_loss(&b, low, high), slack = exact ? 1e-9 : 0.01;
            bool found = nb_budget_table_by_bytes(&t, low, high);
            assert_int_equal(found, isfinite(least));
            if (found) {
                assert_in_range(chosen_bytes(&b), low, high);
                assert_true(nb_budget_loss(&b) <= least * (1 + slack) + 1e-12);
            }
            nb_budget_table_by_loss(&t, 0, least); /* no more bytes than that needs */
            if (isfinite(least)) {
                assert_true(nb_budget_loss(&b) <= least * (1 + 1e-9));
                assert_true(!exact || chosen_bytes(&b) <= high);
            }
        }
        nb_arena_free(&arena);
    }
}

/* ---- errors ---- */

static void measures_what_a_file_has(void **state)
{
    (void)state;
    nb_budget_params p = budget_of(&plain);
    nb_budget b = {.source = source, .params = &p, .types = types};
    nb_source *made;
    nb_team *team;
    nb_loss loss;
    nb_arena arena = {0};
    size_t compared = 0;
    assert_int_equal(nb_budget_measure_errors(&b, &err), NB_OK);
    assert_int_equal(b.count, 3 * 7 + 1); /* the embedding is the output too */
    for (size_t i = 0; i < b.count; i++)
        types[b.tensors[i].index] = b.tensors[i].options[0].type;
    write_types("small.gguf");
    assert_int_equal(nb_source_open(nb_folder_path("small.gguf"), &made, &err), NB_OK);
    assert_int_equal(nb_team_new(1, false, &team, &err), NB_OK);
    assert_int_equal(nb_loss_measure(source, made, NULL, team, &arena, &loss, &err), NB_OK);
    for (size_t i = 0; i < b.count; i++)
        for (size_t j = 0; j < loss.count; j++) {
            const nb_budget_tensor *t = &b.tensors[i];
            double whole = loss.tensors[j].error / loss.tensors[j].norm;
            bool sampled = source->tensors[t->index].dims[1] > 128; /* all rows of the others are */
            if (!nb_str_eq(loss.tensors[j].name, source->tensors[t->index].name))
                continue;
            assert_ptr_equal(loss.tensors[j].type, t->options[0].type);
            assert_true(fabs(t->options[0].error / whole - 1) < (sampled ? 0.05 : 1e-6));
            compared++;
        }
    assert_int_equal(compared, b.count);
    nb_team_free(team);
    nb_source_free(made);
    nb_arena_free(&arena);
    nb_arena_free(&b.arena);
    assert_int_equal(unlink(nb_folder_path("small.gguf")), 0);
}

static void offers_what_fits(void **state)
{
    (void)state;
    nb_source *wide;
    nb_imatrix *importance;
    nb_imatrix_entry *entry;
    const nb_type_info *its[8];
    assert_int_equal(nb_source_open(NB_TEST_DATA "/convert/source.gguf", &wide, &err), NB_OK);
    assert_int_equal(nb_imatrix_new(&importance, &err), NB_OK);
    for (int with = 0; with < 2; with++) {
        nb_quantize_params q = plain;
        q.imatrix = with ? importance : NULL;
        nb_budget_params p = budget_of(&q);
        nb_budget b = {.source = wide, .params = &p, .types = its};
        assert_true(wide->tensor_count <= 8);
        assert_int_equal(nb_budget_measure_errors(&b, &err), NB_OK);
        for (size_t i = 0; i < b.count; i++) {
            const nb_source_tensor *t = &wide->tensors[b.tensors[i].index];
            bool fits = t->dims[0] % 256 == 0, important = with && nb_str_eqz(t->name, "blk.0.attn_q.weight");
            const nb_budget_option *least = &b.tensors[i].options[0];
            double bits = (double)least->bytes * 8 / (double)(t->dims[0] * nb_source_rows(t));
            assert_true(important ? bits < 2.2 : fits ? bits > 2.5 && bits < 3 : bits > 4.4 && bits < 5.4);
            assert_true(b.tensors[i].options[b.tensors[i].count - 1].type == t->type);
            for (size_t o = 1; o < b.tensors[i].count; o++) {
                assert_true(b.tensors[i].options[o].bytes > b.tensors[i].options[o - 1].bytes);
                assert_true(b.tensors[i].options[o].error < b.tensors[i].options[o - 1].error);
            }
        }
        assert_true(b.count > 0);
        nb_arena_free(&b.arena);
        if (!with) {
            assert_int_equal(nb_imatrix_add(importance, NB_STR("blk.0.attn_q.weight"), 256, 1, &entry, &err), NB_OK);
            for (size_t i = 0; i < 256; i++)
                entry->sum[i] = (float)(1 + i % 7);
            entry->count[0] = 1;
        }
    }
    nb_imatrix_free(importance);
    nb_source_free(wide);
}

/* ---- sizes ---- */

static void meets_sizes(void **state)
{
    (void)state;
    nb_budget_params p = budget_of(&plain);
    nb_budget_result r;
    double before = INFINITY;
    for (p.bytes = 100000; p.bytes < 300000; p.bytes += 23000) {
        choose(&p, &r);
        uint64_t bytes = written_bytes();
        assert_int_equal(bytes, r.size.file_bytes);
        assert_in_range(bytes, (p.bytes * 99 + 99) / 100, p.bytes);
        assert_true(r.expected < before);
        before = r.expected;
    }
}

static void meets_bits(void **state)
{
    (void)state;
    nb_budget_params p = budget_of(&plain);
    nb_budget_result r;
    for (p.bits = 5; p.bits < 21; p.bits *= 1.3) {
        choose(&p, &r);
        double bits = 8 * (double)r.size.bytes / (double)r.size.values;
        assert_true(bits <= p.bits && bits >= 0.99 * p.bits);
    }
}

static void names_what_can_be_reached(void **state)
{
    (void)state;
    nb_budget_params p = budget_of(&plain);
    nb_budget_result r;
    unsigned long long least, most;
    p.bytes = 50000;
    refuse(&p, "50000 bytes is out of reach; files of ");
    assert_int_equal(sscanf(strstr(err.message, "files of"), "files of %llu to %llu bytes", &least, &most), 2);
    p.bytes = 700000;
    refuse(&p, "700000 bytes is out of reach; files of ");
    p.bytes = least;
    choose(&p, &r);
    assert_int_equal(written_bytes(), least);
    p.bytes = most;
    choose(&p, &r);
    assert_int_equal(written_bytes(), most);
    p.bytes = least - 1;
    refuse(&p, "out of reach");
    p.bytes = 0;
    p.bits = 2;
    refuse(&p, "2 bits a weight is out of reach; 4.");
    p.bits = 0;
    refuse(&p, "one budget has to be given");
    p.divergence = 0.1;
    refuse(&p, "for a divergence a text");
}

static void leaves_what_is_pinned(void **state)
{
    (void)state;
    nb_quantize_params q = plain;
    nb_type_pattern pattern = {"ffn_down", nb_type_by_name(NB_STR("Q8_0"))};
    q.patterns = &pattern;
    q.pattern_count = 1;
    q.embedding_type = nb_type_by_name(NB_STR("BF16"));
    nb_budget_params p = budget_of(&q);
    nb_budget_result r;
    size_t pinned = 0;
    p.bytes = 250000;
    choose(&p, &r);
    for (size_t i = 0; i < source->tensor_count; i++) {
        nb_str name = source->tensors[i].name;
        bool down = name.n == 21 && memcmp(name.p + 6, "ffn_down", 8) == 0;
        if (down)
            assert_string_equal(types[i]->name, "Q8_0");
        if (nb_str_eqz(name, "token_embd.weight"))
            assert_string_equal(types[i]->name, "BF16");
        if (source->tensors[i].n_dims == 1)
            assert_string_equal(types[i]->name, "F32");
        pinned += down;
    }
    assert_int_equal(pinned, 3);
    assert_in_range(written_bytes(), 247500, 250000);
}

/* ---- divergence ---- */

/* Of the types as they are, by an evaluation of a file beside the source. */
static double divergence_of_file(size_t windows)
{
    nb_model *base, *model;
    nb_evaluation found;
    nb_model_params params = nb_model_defaults();
    params.threads = 2;
    write_types("judged.gguf");
    assert_int_equal(nb_model_open(SOURCE, &params, &base, &err), NB_OK);
    assert_int_equal(nb_model_open(nb_folder_path("judged.gguf"), &params, &model, &err), NB_OK);
    assert_int_equal(nb_evaluate(model, base, nb_buf_view(&text), WINDOW, windows, NULL, NULL, NULL, &found, &err),
                     NB_OK);
    nb_model_close(model);
    nb_model_close(base);
    assert_int_equal(unlink(nb_folder_path("judged.gguf")), 0);
    return found.kl_mean;
}

static void meets_divergences(void **state)
{
    (void)state;
    static const double factors[] = {0.5, 0.1, 0.02};
    nb_budget_params p = budget_of(&plain);
    nb_budget_result r;
    p.bytes = 110000;
    choose(&p, &r);
    double much = divergence_of_file(10);
    uint64_t before = 0;
    p.bytes = 0;
    p.windows = 12;
    p.text = nb_buf_view(&text);
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        p.divergence = much * factors[i];
        choose(&p, &r);
        assert_true(r.divergence <= p.divergence && r.divergence >= 0.9 * p.divergence);
        assert_true(fabs(divergence_of_file(r.windows) / r.divergence - 1) < 0.01);
        assert_true(r.held_back > 0 && r.held_back < 4 * p.divergence);
        assert_true(r.held_back_windows == 2 && r.windows == 10);
        assert_true(r.size.file_bytes > before);
        before = r.size.file_bytes;
    }
    p.divergence = 100 * much;
    refuse(&p, "is out of reach; the types that fit give ");
    assert_true(strtod(strstr(err.message, "fit give ") + 9, NULL) < 1e-5); /* F16's, but for noise */
    p.text.n = 60;
    refuse(&p, "the text");
}

/* ---- the same always ---- */

static void depends_on_nothing_else(void **state)
{
    (void)state;
    const nb_type_info *first[TENSORS];
    nb_budget_result r, again;
    for (int threads = 1; threads <= 4; threads += 3) {
        nb_quantize_params q = plain;
        q.threads = threads;
        nb_budget_params p = budget_of(&q);
        p.bits = 5.5;
        p.text = nb_buf_view(&text);
        choose(&p, threads == 1 ? &r : &again);
        if (threads == 1)
            memcpy(first, types, sizeof first);
    }
    assert_memory_equal(first, types, source->tensor_count * sizeof *types);
    assert_true(r.expected == again.expected);
    assert_int_equal(r.kind_count, 8);
}

static int cancel(void *user, const char *what, size_t done, size_t all)
{
    int *left = user;
    assert_true(*what && done <= all);
    return (*left)-- == 0;
}

static void can_be_cancelled(void **state)
{
    (void)state;
    nb_budget_result r;
    nb_budget_params p = budget_of(&plain);
    p.bits = 6;
    p.text = nb_buf_view(&text);
    p.progress = cancel;
    for (int calls = 0; calls < 60; calls += 30) {
        int left = calls;
        p.user = &left;
        assert_int_equal(nb_budget_types(source, &p, types, &r, &err), NB_ERR_CANCELLED);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_best_of_all),
        cmocka_unit_test(measures_what_a_file_has),
        cmocka_unit_test(offers_what_fits),
        cmocka_unit_test(meets_sizes),
        cmocka_unit_test(meets_bits),
        cmocka_unit_test(names_what_can_be_reached),
        cmocka_unit_test(leaves_what_is_pinned),
        cmocka_unit_test(meets_divergences),
        cmocka_unit_test(depends_on_nothing_else),
        cmocka_unit_test(can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
