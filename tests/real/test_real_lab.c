/* The lab on a real model, SmolLM2-135M: what text and JSON say is the same, known numbers of the model, errors in limits. */
#define _GNU_SOURCE
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "lab/lab_doc.h"
#include "support/cached.h"
#include "support/lab.h"

/* ---- text and JSON ---- */

static void same_value(const json_t *got, const nb_lab_value *want, const char *key)
{
    if (want->text)
        assert_string_equal(json_string_value(got), want->text);
    else if (!isfinite(want->number))
        assert_true(json_is_null(got));
    else if (!json_is_number(got) || json_number_value(got) != want->number)
        fail_msg("%s: the JSON has another number than %.17g", key, want->number);
}

/* A line with the whole row in it, from `from` on; returns its end. */
static const char *find_row(const char *from, const nb_lab_table *t, size_t first)
{
    for (const char *line = from; *line; line += strcspn(line, "\n") + 1) {
        const char *at = line, *end = line + strcspn(line, "\n");
        size_t i = 0;
        for (char text[64]; i < t->column_count && at; i++) {
            nb_lab_format(t->cells[first + i], t->columns[i].style, t->columns[i].digits, text);
            at = memmem(at, (size_t)(end - at), text, strlen(text));
            at = at ? at + strlen(text) : NULL;
        }
        if (at)
            return end;
        if (!*end)
            break;
    }
    fail_msg("the text lacks row %zu of the table that begins with '%s'", first / t->column_count, t->columns[0].head);
    return NULL;
}

static const char *same_table(const char *text, const json_t *rows, const nb_lab_table *t)
{
    assert_int_equal(json_array_size(rows) * t->column_count, t->cell_count);
    for (size_t i = 0; i < t->cell_count; i++)
        same_value(json_object_get(json_array_get(rows, i / t->column_count), t->columns[i % t->column_count].key),
                   &t->cells[i], t->columns[i % t->column_count].key);
    for (size_t i = 0; i < t->cell_count; i += t->column_count)
        text = find_row(text, t, i);
    return text;
}

/* Everything in its order: sections, facts, tables. */
static void same_everywhere(const nb_lab *lab, const char *text, const json_t *root)
{
    const json_t *section = NULL;
    for (const nb_lab_block *b = lab->first; b; b = b->next) {
        const nb_lab_fact_content *f = b->content;
        char shown[64];
        if (b->kind == NB_LAB_BLOCK_SECTION) {
            section = json_object_get(json_object_get(root, "sections"), b->key);
            assert_string_equal(json_string_value(json_object_get(section, "title")), b->text);
            assert_non_null(text = strstr(text, b->text));
        }
        if (b->kind == NB_LAB_BLOCK_TABLE)
            text = same_table(text, json_object_get(json_object_get(section, "tables"), b->key), b->content);
        if (b->kind != NB_LAB_BLOCK_FACT)
            continue;
        same_value(json_object_get(json_object_get(section, "facts"), b->key), &f->value, b->key);
        nb_lab_format(f->value, f->style, f->digits, shown);
        assert_non_null(text = strstr(text, b->text));
        assert_non_null(text = strstr(text, shown));
    }
}

static nb_lab_views views_of(const char *topic)
{
    static char path[1024];
    nb_lab_params p = nb_lab_defaults();
    nb_error err;
    nb_lab *lab;
    nb_buf text = {0}, json = {0};
    nb_cached("models", "smollm2-135m-instruct-q4_1.gguf", path);
    p.model = path;
    if (nb_lab_run(nb_lab_topic_named(topic), &p, &lab, &err) != NB_OK)
        fail_msg("%s: %s", topic, err.message);
    nb_lab_text(lab, &text);
    nb_lab_json(lab, &json);
    nb_lab_views v = {.json = json_loads(json.data, JSON_REJECT_DUPLICATES, NULL)};
    assert_non_null(v.json);
    same_everywhere(lab, text.data, v.json);
    nb_lab_check_columns(text.data);
    nb_lab_svg(lab, &v.svg);
    nb_lab_html(lab, &v.html);
    nb_markup_check(v.svg.data);
    nb_markup_check(v.html.data);
    v.text = text;
    nb_lab_free(lab);
    nb_buf_free(&json);
    return v;
}

/* ---- topics ---- */

static void dtypes(void **state)
{
    (void)state;
    nb_lab_views v = views_of("dtypes");
    assert_true(nb_lab_fact_of(&v, "model", "values") == 134515008); /* as its card says */
    const json_t *types = nb_lab_find(&v, "model", "tables", "types");
    assert_true(nb_lab_number(nb_lab_row(types, "dtype", "Q4_1"), "parameters") == 30 * 7);
    assert_true(nb_lab_number(nb_lab_row(types, "dtype", "Q8_0"), "values") == 49152 * 576);
    nb_lab_views_free(&v);
}

/* Rows of alphas are shares, and none looks ahead. */
static void attention(void **state)
{
    (void)state;
    nb_lab_views v = views_of("attention");
    const json_t *rows = json_object_get(nb_lab_find(&v, "model", "figures", "alphas"), "values");
    assert_true(nb_lab_fact_of(&v, "model", "head_count") == 9 && nb_lab_fact_of(&v, "model", "kv_heads") == 3);
    assert_true(nb_lab_fact_of(&v, "model", "error") < 1e-5);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        double sum = 0;
        for (size_t j = 0; j < json_array_size(rows); j++) {
            double share = json_number_value(json_array_get(json_array_get(rows, i), j));
            assert_true(share >= 0 && (j <= i || share == 0));
            sum += share;
        }
        assert_true(fabs(sum - 1) < 1e-5);
    }
    nb_lab_views_free(&v);
}

static void heads(void **state)
{
    (void)state;
    nb_lab_views v = views_of("heads");
    const json_t *lengths = nb_lab_find(&v, "model", "tables", "lengths");
    assert_true(nb_lab_fact_of(&v, "model", "parameters") == 30 * 2 * (576 * 576 + 576 * 192));
    assert_int_equal(json_array_size(lengths), 8);
    for (size_t i = 0; i < 8; i++) {
        const json_t *row = json_array_get(lengths, i);
        double n = 128 << i;
        assert_true(nb_lab_number(row, "length") == n && nb_lab_number(row, "cache") == 23040 * n);
        assert_true(nb_lab_number(row, "mha") == 3 * 23040 * n && nb_lab_number(row, "decode") > 0);
    }
    nb_lab_views_free(&v);
}

/* With a cache a token is far faster; each type costs more than the one before it, within limits. */
static void kvcache(void **state)
{
    (void)state;
    static const char *const names[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
    static const double most[] = {0, 1e-5, 2e-4, 5e-3, 0.2}, bytes[] = {46080, 23040, 23040, 12240, 6480};
    double before = -1;
    nb_lab_views v = views_of("kvcache");
    const json_t *speed = nb_lab_find(&v, "speed", "tables", "speed");
    assert_true(nb_lab_number(json_array_get(speed, json_array_size(speed) - 1), "gain") > 2);
    assert_true(nb_lab_fact_of(&v, "prefix", "difference") == 0);
    for (size_t i = 0; i < 5; i++) {
        const json_t *row = nb_lab_row(nb_lab_find(&v, "types", "tables", "types"), "type", names[i]);
        double nats = nb_lab_number(row, "divergence"), perplexity = nb_lab_number(row, "perplexity");
        if (!(nats > before && nats <= most[i] && perplexity > 12 && perplexity < 20))
            fail_msg("%s: %g nats, perplexity %g", names[i], nats, perplexity);
        before = nats;
        row = nb_lab_row(nb_lab_find(&v, "bytes", "tables", "types"), "type", names[i]);
        assert_true(nb_lab_number(row, "token") == bytes[i]);
    }
    nb_lab_views_free(&v);
}

static double error_of(const nb_lab_views *v, const char *type)
{
    return nb_lab_number(nb_lab_row(nb_lab_find(v, "types", "tables", "types"), "type", type), "error");
}

static void quant(void **state)
{
    (void)state;
    nb_lab_views v = views_of("quant");
    nb_lab_expect_text(&v, "This file is quantized already");
    assert_true(error_of(&v, "Q4_1") < 1e-3); /* its own grid */
    assert_true(error_of(&v, "F16") < 3e-4 && error_of(&v, "Q8_0") < 0.01 && error_of(&v, "Q8_0") > 0.003);
    assert_true(error_of(&v, "NF4") < error_of(&v, "FP4") && error_of(&v, "FP4") < error_of(&v, "Q2_K"));
    assert_true(nb_lab_fact_of(&v, "nf4", "off") < 1e-6);
    assert_true(nb_lab_fact_of(&v, "double_quantization", "values") == 106168320);
    nb_lab_views_free(&v);
}

static void int8(void **state)
{
    (void)state;
    nb_lab_views v = views_of("int8");
    nb_lab_expect_text(&v, "rounded to Q4_1 before");
    double plain = nb_lab_fact_of(&v, "decomposition", "plain_error"),
           apart = nb_lab_fact_of(&v, "decomposition", "decomposed_error"),
           weights = nb_lab_fact_of(&v, "decomposition", "weight_error");
    assert_true(nb_lab_fact_of(&v, "outliers", "outlier_columns") > 0);
    if (!(2 * apart < plain && weights < apart && weights < 0.02))
        fail_msg("plain %g, outliers apart %g, weights %g", plain, apart, weights);
    nb_lab_views_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(dtypes),  cmocka_unit_test(attention), cmocka_unit_test(heads),
                                       cmocka_unit_test(kvcache), cmocka_unit_test(quant),     cmocka_unit_test(int8)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
