/* What holds for every topic, and the document's three views. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "lab/lab_doc.h"
#include "support/lab.h"

/* Every topic on a tiny model, where it takes one: nb_lab_views_of checks time, columns, JSON and markup. */
static void topics(void **state)
{
    (void)state;
    size_t count = 0;
    for (const nb_lab_topic *t = nb_lab_topics; t->name; t++, count++) {
        nb_lab_params p = nb_lab_defaults();
        if (nb_lab_takes(t, "model"))
            p.model = NB_TEST_DATA "/types/F16.gguf";
        nb_lab_views v = nb_lab_views_of(t->name, &p);
        assert_string_equal(json_string_value(json_object_get(v.json, "topic")), t->name);
        assert_true(json_object_size(json_object_get(v.json, "sections")) > 1);
        assert_true(nb_markup_count(v.html.data, "<h2>") == json_object_size(json_object_get(v.json, "sections")));
        assert_non_null(strstr(v.svg.data, "class=\"title\""));
        assert_null(strstr(v.html.data, "%!"));
        nb_lab_views_free(&v);
    }
    assert_true(count >= 1);
}

static void options(void **state)
{
    (void)state;
    nb_lab_topic t = {.options = "model threshold seed"};
    assert_true(nb_lab_takes(&t, "model") && nb_lab_takes(&t, "seed") && nb_lab_takes(&t, "threshold"));
    assert_false(nb_lab_takes(&t, "hold") || nb_lab_takes(&t, "see") || nb_lab_takes(&t, "text"));
    assert_int_equal(nb_lab_defaults().seed, 42);
    assert_null(nb_lab_defaults().model);
}

static void expect_format(nb_lab_style style, int digits, double value, const char *expected)
{
    char text[64];
    nb_lab_format((nb_lab_value){NULL, value}, style, digits, text);
    assert_string_equal(text, expected);
}

static void numbers(void **state)
{
    (void)state;
    expect_format(NB_LAB_COUNT, 0, 0, "0");
    expect_format(NB_LAB_COUNT, 0, 999, "999");
    expect_format(NB_LAB_COUNT, 0, 22565376, "22'565'376");
    expect_format(NB_LAB_COUNT, 0, -1000, "-1'000");
    expect_format(NB_LAB_FIXED, 2, 2.0 / 3, "0.67");
    expect_format(NB_LAB_DIGITS, 3, 1.0 / 3000, "0.000333");
    expect_format(NB_LAB_BYTES, 0, 500, "500 B");
    expect_format(NB_LAB_BYTES, 0, 90261504, "90.3 MB");
    expect_format(NB_LAB_SECONDS, 0, 0.0123, "12.3 ms");
    expect_format(NB_LAB_SECONDS, 0, 2.5, "2.50 s");
    expect_format(NB_LAB_PERCENT, 1, 0.256, "25.6 %");
    expect_format(NB_LAB_FIXED, 2, NAN, "-");
}

static nb_status sample(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    (void)p;
    (void)err;
    static const nb_lab_column columns[] = {{"name", "a <name>", NB_LAB_TEXT, 0},
                                            {"share", "share", NB_LAB_PERCENT, 1}};
    const double x[] = {0, 1, 2, 3}, y[] = {1, 4, NAN, 9};
    const float cells[] = {0, 0.25f, -1, 0.5f};
    const char *const names[] = {"one", "two", "three", "four"};
    nb_lab_section(lab, "first", "A section & more");
    nb_lab_say(
        lab, "%s",
        "A sentence that is long enough to be broken into two lines, since it has far more than eighty characters.");
    nb_lab_fact(lab, "answer", "the answer", NB_LAB_COUNT, 0, 42, "kg");
    nb_lab_fact_text(lab, "file", "a longer label", "%s", "name.gguf");
    nb_lab_say(lab, "%s", "steers\x1b[2J\xc2\x9b, caf\xc3\xa9");
    nb_lab_code(lab, "x = 1");
    nb_lab_table *t = nb_lab_table_begin(lab, "rows", columns, 2);
    nb_lab_caption(lab, "A table");
    for (int i = 0; i < 9; i++) {
        nb_lab_cell_text(t, "<r%d>", i);
        nb_lab_cell(t, i == 5 ? NAN : i / 8.0);
    }
    nb_lab_chart *c = nb_lab_chart_begin(lab, "chart", (nb_lab_axis){.label = "x"},
                                         (nb_lab_axis){.label = "y", .log = true});
    nb_lab_series(c, "line & co", NB_LAB_LINE, x, y, 4);
    nb_lab_series(c, "points", NB_LAB_POINTS, x, y, 4);
    nb_lab_series_labels(c, names);
    c = nb_lab_chart_begin(lab, "bars", (nb_lab_axis){.label = "x", .names = names, .name_count = 4},
                           (nb_lab_axis){.label = "y"});
    nb_lab_series(c, "bars", NB_LAB_BARS, x, y, 4);
    nb_lab_series(c, "more", NB_LAB_BARS, x, y, 4);
    c = nb_lab_chart_begin(lab, "histogram", (nb_lab_axis){.label = "x"}, (nb_lab_axis){.label = "y"});
    nb_lab_series(c, "counts", NB_LAB_HISTOGRAM, x, y, 3);
    nb_lab_series(c, "stems", NB_LAB_STEMS, x, y, 3);
    nb_lab_grid g = {.rows = 2, .columns = 2, .row_names = names, .column_names = names + 2, .digits = 2};
    nb_lab_grid_add(lab, "grid", &g, cells);
    g.digits = -1;
    g.from_zero = true;
    nb_lab_grid_add(lab, "shades", &g, cells);
    nb_lab_strokes *s = nb_lab_strokes_begin(lab, "strokes", (nb_lab_axis){.label = "x"});
    nb_lab_strokes_row(s, "r", x, 4);
    nb_lab_boxes *b = nb_lab_boxes_begin(lab, "boxes");
    nb_lab_boxes_row(b, "v", "0101", "seef", "note");
    nb_buf art = {0};
    nb_buf_z(&art, "<svg width=\"5\" height=\"5\"><circle r=\"2\"/></svg>\n");
    nb_lab_art(lab, "art", 5, 5, &art);
    nb_buf_free(&art);
    return NB_OK;
}

static const nb_lab_topic sample_topic = {"sample", "", "seed", "a <sample>", sample};

static void check_sample_json(const char *text)
{
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    json_t *first = json_object_get(json_object_get(root, "sections"), "first");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(first, "facts"), "answer")), 42);
    assert_string_equal(json_string_value(json_object_get(json_object_get(first, "facts"), "file")), "name.gguf");
    json_t *rows = json_object_get(json_object_get(first, "tables"), "rows");
    assert_int_equal(json_array_size(rows), 9);
    assert_true(json_is_null(json_object_get(json_array_get(rows, 5), "share")));
    assert_true(json_number_value(json_object_get(json_array_get(rows, 1), "share")) == 0.125);
    json_t *figures = json_object_get(first, "figures");
    assert_int_equal(json_array_size(json_object_get(json_object_get(figures, "chart"), "series")), 2);
    json_t *series = json_array_get(json_object_get(json_object_get(figures, "histogram"), "series"), 0);
    assert_int_equal(json_array_size(json_object_get(series, "x")), 4);
    assert_int_equal(json_array_size(json_object_get(series, "y")), 3);
    assert_null(json_object_get(figures, "art"));
    json_decref(root);
}

static void views(void **state)
{
    (void)state;
    nb_lab_params p = nb_lab_defaults();
    nb_lab *lab;
    nb_buf text = {0}, json = {0}, html = {0}, svg = {0};
    assert_int_equal(nb_lab_run(&sample_topic, &p, &lab, NULL), NB_OK);
    nb_lab_text(lab, &text);
    nb_lab_json(lab, &json);
    nb_lab_html(lab, &html);
    nb_lab_svg(lab, &svg);
    nb_lab_free(lab);
    assert_non_null(strstr(text.data, "A section & more\n----------------\n"));
    assert_non_null(strstr(text.data, "  the answer      42 kg\n  a longer label  name.gguf\n"));
    assert_non_null(strstr(text.data, "A table\na <name>    share\n<r0>        0.0 %\n"));
    assert_non_null(strstr(text.data, "<r5>            -\n"));
    assert_non_null(strstr(text.data, "       three   four\n  one   0.00   0.25\n  two  -1.00   0.50\n"));
    assert_non_null(strstr(text.data, "  one  :\n")); /* 0 and 0.25 of 1 in shades */
    assert_non_null(strstr(text.data, "  v  0 10 1   note\n"));
    assert_non_null(strstr(text.data, "steers?[2J??, caf\xc3\xa9\n"));
    nb_lab_check_columns(text.data);
    check_sample_json(json.data);
    nb_markup_check(html.data);
    nb_markup_check(svg.data);
    assert_non_null(strstr(html.data, "&lt;r0&gt;"));
    assert_non_null(strstr(svg.data, "line &amp; co"));
    assert_int_equal(nb_markup_count(svg.data, "<circle"), 1);
    nb_buf_free(&text);
    nb_buf_free(&json);
    nb_buf_free(&html);
    nb_buf_free(&svg);
}

static nb_status failing(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    (void)p;
    lab->arena.limit = 4096;
    for (int i = 0; i < 1000; i++)
        nb_lab_say(lab, "a sentence that takes memory, number %d", i);
    (void)err;
    return NB_OK;
}

static void memory(void **state)
{
    (void)state;
    const nb_lab_topic topic = {"failing", "", "", "", failing};
    nb_lab_params p = nb_lab_defaults();
    nb_lab *lab;
    assert_int_equal(nb_lab_run(&topic, &p, &lab, NULL), NB_ERR_MEMORY);
    assert_null(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(topics), cmocka_unit_test(options), cmocka_unit_test(numbers),
                                       cmocka_unit_test(views), cmocka_unit_test(memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
