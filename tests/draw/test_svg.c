/* Figures: round ticks, where values lie, and the structure of what is written. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "draw/page.h"
#include "support/markup.h"

static void expect_ticks(const nb_axis *a, const double *ticks, size_t count)
{
    assert_int_equal(a->tick_count, count);
    for (size_t i = 0; i < count; i++)
        assert_true(fabs(a->ticks[i] - ticks[i]) <= 1e-9 * fabs(ticks[i]));
}

static void linear_axes(void **state)
{
    (void)state;
    nb_axis a = nb_axis_linear("x", 0, 97);
    expect_ticks(&a, (double[]){0, 20, 40, 60, 80, 100}, 6);
    assert_true(a.lo == 0 && a.hi == 100);
    a = nb_axis_linear("x", -0.26, 0.26);
    expect_ticks(&a, (double[]){-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3}, 7);
    a = nb_axis_linear("x", 5, 5);
    assert_true(a.lo < a.hi && a.lo <= 5 && a.hi >= 5 && a.tick_count >= 2);
    a = nb_axis_linear("x", NAN, INFINITY);
    assert_true(a.lo == 0 && a.hi == 1);
    a = nb_axis_linear("x", 1e9, 1.0000001e9);
    assert_true(a.lo < a.hi && a.tick_count >= 2 && a.tick_count <= NB_TICKS);
}

static void log_axes(void **state)
{
    (void)state;
    nb_axis a = nb_axis_log("y", 0.0021, 0.15);
    expect_ticks(&a, (double[]){0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2}, 7);
    a = nb_axis_log("y", 1.5e-6, 0.02);
    expect_ticks(&a, (double[]){1e-6, 1e-5, 1e-4, 1e-3, 1e-2}, 5);
    a = nb_axis_log("y", INFINITY, 0); /* no value at all */
    assert_true(a.lo == 1 && a.hi == 10);
    a = nb_axis_log("y", 1e-300, 1e300);
    assert_true(a.tick_count >= 2 && a.tick_count <= NB_TICKS);
    a = nb_axis_log("y", 1, 100);
    a.from = 200;
    a.to = 0;
    assert_true(nb_axis_at(&a, 1) == 200 && fabs(nb_axis_at(&a, 10) - 100) < 1e-9 && nb_axis_at(&a, 1000) == 0);
}

static void tick_text(void **state)
{
    (void)state;
    char text[32];
    nb_axis a = nb_axis_linear("x", 0, 1);
    const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"}, {0.002, "0.002"}, {150, "150"}, {1e-4, "1e-4"}, {-5e-7, "-5e-7"}, {2e6, "2e6"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nb_axis_format(&a, cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void chart(void **state)
{
    (void)state;
    nb_buf b = {0};
    nb_chart c;
    nb_chart_begin(&c, &b, "size & loss", 400, 300, nb_axis_linear("size <MB>", 0, 10), nb_axis_log("loss", 0.01, 1));
    nb_chart_line(&c, (double[]){0, 1, 2, 3, 4}, (double[]){0.1, NAN, 0.2, 0, 0.4}, 5, 1);
    nb_chart_steps(&c, (double[]){1, 5}, (double[]){0.5, 0.05}, 2);
    nb_chart_point(&c, 5, 0.1, 9, "a \"point\"");
    nb_chart_point(&c, 5, -1, 0, "nowhere on a log axis");
    nb_chart_bars(&c, 0, 10, (double[]){0.1, 0, 0.5}, 3, 2);
    nb_chart_end(&c);
    assert_false(b.failed);
    nb_markup_check(b.data);
    assert_int_equal(nb_markup_count(b.data, "class=\"dot"), 1);
    assert_non_null(strstr(b.data, "class=\"dot s1\"")); /* 9 modulo 8 */
    assert_non_null(strstr(b.data, "a &quot;point&quot;"));
    assert_non_null(strstr(b.data, "size &lt;MB&gt;"));
    const char *line = strstr(b.data, "class=\"line s1\" d=\"");
    assert_non_null(line);
    size_t moves = 0;
    for (const char *p = strstr(line, "d=\"") + 3; *p != '"'; p++)
        moves += *p == 'M';
    assert_int_equal(moves, 3); /* broken by NaN and by 0 */
    const char *bars = strstr(b.data, "class=\"bars s2\"");
    assert_true(bars && nb_markup_count(bars, "Z") == 2); /* nothing for an empty one */
    nb_buf_free(&b);
}

/* labels of points that lie together do not cover each other */
static void labels(void **state)
{
    (void)state;
    nb_buf b = {0};
    nb_chart c;
    double x[4], y[4];
    nb_chart_begin(&c, &b, "t", 600, 300, nb_axis_linear("x", 0, 10), nb_axis_linear("y", 0, 10));
    for (int i = 0; i < 4; i++)
        nb_chart_point(&c, 5 + 0.05 * i, 5, 0, "");
    for (int i = 0; i < 4; i++)
        nb_chart_label(&c, 5 + 0.05 * i, 5, "name");
    nb_chart_end(&c);
    const char *at = b.data;
    for (int i = 0; i < 4; i++) {
        while ((at = strstr(at, "<text ")) && !strstr(at, "class=\"label\""))
            at++;
        at = strstr(at, "class=\"label\"");
        while (strncmp(at, "<text ", 6) != 0)
            at--;
        assert_int_equal(sscanf(at, "<text x=\"%lf\" y=\"%lf\"", &x[i], &y[i]), 2);
        for (int j = 0; j < i; j++)
            assert_true(fabs(x[i] - x[j]) >= 28 || fabs(y[i] - y[j]) >= 14);
        at += 6;
        at = strstr(at, "</text>");
    }
    nb_buf_free(&b);
}

static void heat_maps(void **state)
{
    (void)state;
    nb_buf b = {0};
    const float values[6] = {-1, -0.5F, 0, 0.5F, 1, NAN};
    nb_heat_map(&b, "map", values, 2, 3, 1, 4);
    nb_markup_check(b.data);
    assert_int_equal(nb_markup_count(b.data, "<path"), 4); /* zero and NaN are the ground */
    assert_non_null(strstr(b.data, "class=\"h0\" d=\"M0 0h1v1h-1z\""));
    assert_non_null(strstr(b.data, "class=\"h8\" d=\"M1 0h1v1h-1z\""));
    assert_non_null(strstr(b.data, "class=\"h32\" d=\"M1 1h1v1h-1z\""));
    assert_non_null(strstr(b.data, "width=\"12\" height=\"8\""));
    nb_buf_clear(&b);
    nb_heat_map(&b, "flat", values, 1, 3, 0, 4); /* no range */
    assert_int_equal(nb_markup_count(b.data, "<path"), 0);
    nb_buf_clear(&b);
    nb_heat_scale(&b, 0.25, 100);
    nb_markup_check(b.data);
    assert_int_equal(nb_markup_count(b.data, "<rect"), NB_HEAT_LEVELS);
    assert_non_null(strstr(b.data, ">-0.25<"));
    nb_buf_free(&b);
}

static void pages(void **state)
{
    (void)state;
    nb_buf b = {0};
    nb_page_begin(&b, "a < b");
    nb_page_section(&b, "one");
    nb_page_paragraph(&b, "%d & %s", 3, "<i>");
    nb_page_table_begin(&b, (const char *[]){"name", "value"}, 2);
    nb_page_row_begin(&b);
    nb_page_cell(&b, "x");
    nb_page_number(&b, "%.2f", 1.5);
    nb_page_row_end(&b);
    nb_page_table_end(&b);
    nb_page_code(&b, NB_STR("a > b"));
    nb_page_end(&b);
    nb_markup_check(b.data);
    assert_non_null(strstr(b.data, "<h1>a &lt; b</h1>"));
    assert_non_null(strstr(b.data, "<p>3 &amp; &lt;i&gt;</p>"));
    assert_non_null(strstr(b.data, "<td class=\"n\">1.50</td>"));
    assert_non_null(strstr(b.data, "<pre>a &gt; b</pre>"));
    assert_non_null(strstr(b.data, "prefers-color-scheme:dark"));
    assert_non_null(strstr(b.data, "@media print"));
    assert_null(strstr(b.data, "http"));
    assert_null(strstr(b.data, "<script"));
    nb_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_axes), cmocka_unit_test(log_axes), cmocka_unit_test(tick_text),
        cmocka_unit_test(chart),       cmocka_unit_test(labels),   cmocka_unit_test(heat_maps),
        cmocka_unit_test(pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
