/* Templates against what Python's jinja2 makes of them (tests/data/chat), and what no template may do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>

#include "text/chat.h"

static nb_status render(nb_str source, const char *variables, nb_buf *out, nb_error *err)
{
    nb_template *t;
    *err = (nb_error){0};
    nb_status status = nb_template_compile(source, &t, err);
    if (status != NB_OK)
        return status;
    const nb_chat_input input = {.variables = nb_str_of(variables), .now = 1753000000};
    status = nb_template_render(t, &input, out, err);
    nb_template_free(t);
    return status;
}

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!json)
        fail_msg("%s: %s", path, error.text);
    return json;
}

/* One [template, text or null]; says what differs. */
static int differs(const json_t *row, const char *variables)
{
    const json_t *source = json_array_get(row, 0), *want = json_array_get(row, 1);
    nb_buf out = {0};
    nb_error err;
    nb_str template = {json_string_value(source), json_string_length(source)};
    nb_status status = render(template, variables, &out, &err);
    nb_str text = nb_buf_view(&out);
    int wrong = json_is_null(want)
                    ? status == NB_OK
                    : status != NB_OK || !nb_str_eq(text, (nb_str){json_string_value(want), json_string_length(want)});
    if (wrong)
        print_error("%.*s\n  wanted %s\n  got    %.*s %s\n", NB_STR_ARG(template),
                    json_is_null(want) ? "an error" : json_string_value(want), NB_STR_ARG(text), err.message);
    if (status != NB_OK && !strstr(err.message, "line "))
        wrong = 1, print_error("%.*s\n  an error without its line: %s\n", NB_STR_ARG(template), err.message);
    nb_buf_free(&out);
    return wrong;
}

static void against_jinja2(void **state)
{
    (void)state;
    json_t *data = load(NB_TEST_DATA "/chat/expressions.json");
    char *variables = json_dumps(json_object_get(data, "variables"), 0);
    const char *const sections[] = {"cases", "changes"};
    size_t count = 0, wrong = 0;
    for (size_t s = 0; s < 2; s++) {
        const json_t *rows = json_object_get(data, sections[s]), *row;
        size_t i;
        json_array_foreach(rows, i, row) wrong += (size_t)differs(row, variables);
        count += json_array_size(rows);
    }
    free(variables);
    json_decref(data);
    assert_true(count >= 780);
    assert_int_equal(wrong, 0);
}

/* ---- limits ---- */

static void fails(const char *source, nb_status want, const char *message)
{
    nb_buf out = {0};
    nb_error err;
    nb_status status = render(nb_str_of(source), "{}", &out, &err);
    if (status != want || !strstr(err.message, message))
        fail_msg("%.200s: status %d (%s), wanted %d and '%s'", source, status, err.message, want, message);
    assert_int_equal(out.len, 0);
    nb_buf_free(&out);
}

/* begin, n times open, middle, n times close, end */
static void repeated_fails(const char *begin, const char *open, const char *middle, const char *close, const char *end,
                           size_t n, const char *message)
{
    nb_buf b = {0};
    nb_buf_z(&b, begin);
    for (size_t i = 0; i < n; i++)
        nb_buf_z(&b, open);
    nb_buf_z(&b, middle);
    for (size_t i = 0; i < n; i++)
        nb_buf_z(&b, close);
    nb_buf_z(&b, end);
    assert_false(b.failed);
    fails(b.data, NB_ERR_LIMIT, message);
    nb_buf_free(&b);
}

static void nested_fails(const char *open, const char *middle, const char *close, size_t n, const char *message)
{
    repeated_fails("", open, middle, close, "", n, message);
}

static void in_tag(const char *open, const char *middle, const char *close, size_t n, const char *message)
{
    repeated_fails("{{ ", open, middle, close, " }}", n, message);
}

static void depth(void **state)
{
    (void)state;
    in_tag("(", "1", ")", 100000, "open brackets");
    in_tag("(", "1", ")", 250, "nested too deeply");
    in_tag("[", "1", "]", 250, "nested too deeply");
    in_tag("{1:", "1", "}", 250, "nested too deeply");
    in_tag("x[", "1", "]", 250, "nested too deeply");
    in_tag("x(", "1", ")", 250, "nested too deeply");
    in_tag("x|f(", "1", ")", 250, "nested too deeply");
    in_tag("- ", "1", "", 100000, "nested too deeply");
    in_tag("not ", "1", "", 100000, "nested too deeply");
    in_tag("1 if 1 else ", "1", "", 100000, "nested too deeply");
    in_tag("1 + ", "1", "", 100000, "too many parts");
    in_tag("1 ** ", "1", "", 100000, "too many parts");
    in_tag("1 and ", "1", "", 100000, "too many parts");
    in_tag("", "x", ".a", 100000, "too many parts");
    in_tag("", "x", "[0]", 100000, "too many parts");
    in_tag("", "x", "()", 100000, "too many parts");
    in_tag("", "x", "|f", 100000, "too many parts");
    nested_fails("{% if 1 %}", "x", "{% endif %}", 100000, "nested too deeply");
    nested_fails("{% for x in [1] %}", "x", "{% endfor %}", 100000, "nested too deeply");
    nested_fails("{% macro m() %}", "x", "{% endmacro %}", 100000, "nested too deeply");
    nested_fails("{% set x %}", "x", "{% endset %}", 100000, "nested too deeply");
    repeated_fails("{% set ", "(", "a", ",)", " = 1 %}", 240, "nested too deeply");
    fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", NB_ERR_LIMIT, "nested more than");
    fails("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% call a() %}{% endcall %}{{ a() }}{% endmacro %}{{ "
          "b() }}",
          NB_ERR_ARGUMENT, "caller");
    fails("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", NB_ERR_LIMIT, "nested more than");
    fails("{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}", NB_ERR_LIMIT, "nested more than");
    fails("{% set l = [] %}{% set m = [] %}{% set _ = l.append(m) %}{% set _ = m.append(l) %}{{ l == m }}",
          NB_ERR_LIMIT, "nested more than");
    fails("{% set ns = namespace(l=[]) %}{% for i in range(2000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
          NB_ERR_LIMIT, "nested more than");
    fails("{% set ns = namespace(t=()) %}{% for i in range(2000) %}{% set ns.t = (ns.t,) %}{% endfor %}{{ {ns.t: 1} }}",
          NB_ERR_LIMIT, "nested more than");
    fails("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", NB_ERR_LIMIT, "nested more than");
}

static void steps_and_size(void **state)
{
    (void)state;
    fails("{% set l = range(99999) | list %}{% for a in l %}{% if 'x' in l %}{% endif %}{% endfor %}", NB_ERR_LIMIT,
          "steps");
    fails("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", NB_ERR_LIMIT, "steps");
    fails("{% set l = range(99999) | list %}{% for a in l %}{% set x = l | sort %}{% endfor %}", NB_ERR_LIMIT, "steps");
    fails("{% set ns = namespace(s='x') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
          NB_ERR_LIMIT, "");
    fails("{% set ns = namespace(s='x') %}{% for a in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
          NB_ERR_LIMIT, "steps");
    fails("{% set ns = namespace(l=[1]) %}{% for a in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
          NB_ERR_LIMIT, "");
    fails("{% for a in range(9999) %}{% for b in range(9) %}{{ 'x' * 9999 }}{% endfor %}{% endfor %}", NB_ERR_LIMIT,
          "");
    fails("{{ 'x' * 9999999999 }}", NB_ERR_LIMIT, "repetition");
    fails("{{ ['x'] * 9999999999 }}", NB_ERR_LIMIT, "repetition");
    fails("{{ 'x' * 9223372036854775807 }}", NB_ERR_LIMIT, "repetition");
    fails("{{ ('x' * 9999999) | replace('x', 'y' * 9999999) }}", NB_ERR_LIMIT, "");
    fails("{{ ('x' * 9999999) | indent(99999999) }}", NB_ERR_LIMIT, "");
    fails("{{ '%999999999d' % 1 }}", NB_ERR_LIMIT, "width");
    fails("{{ '%.999999999f' % 1 }}", NB_ERR_LIMIT, "precision");
    fails("{{ '{:999999999}'.format(1) }}", NB_ERR_LIMIT, "width");
    fails("{{ range(9223372036854775807) }}", NB_ERR_LIMIT, "range");
    fails("{{ strftime_now('%9999d') }}", NB_ERR_LIMIT, "strftime_now");
    fails("{{ [1] | batch(9223372036854775807, 1) | list }}", NB_ERR_LIMIT, "steps");
    fails("{{ [1] | slice(9223372036854775807) | list }}", NB_ERR_LIMIT, "steps");
    fails("{{ 'x'.center(9223372036854775807) }}", NB_ERR_LIMIT, "repetition");
    fails("{{ [[1, 2]] | tojson(indent=99999999) }}", NB_ERR_LIMIT, "");
}

static void integers_are_64_bits(void **state)
{
    (void)state;
    fails("{{ 9223372036854775808 }}", NB_ERR_LIMIT, "64 bits");
    fails("{{ 9223372036854775807 + 1 }}", NB_ERR_LIMIT, "64-bit");
    fails("{{ -9223372036854775807 - 2 }}", NB_ERR_LIMIT, "64-bit");
    fails("{{ 4611686018427387904 * 2 }}", NB_ERR_LIMIT, "64-bit");
    fails("{{ 2 ** 63 }}", NB_ERR_LIMIT, "64-bit");
    fails("{{ 1e19 | int }}{{ '9223372036854775808' | int }}", NB_ERR_LIMIT, "64 bits");
    fails("{{ 10 ** 99999 }}", NB_ERR_LIMIT, "64-bit");
    fails("{{ (-9223372036854775807 - 1) // -1 }}", NB_ERR_LIMIT, "64-bit");
    fails("{{ -(-9223372036854775807 - 1) }}", NB_ERR_LIMIT, "64-bit");
    fails("{{ (-9223372036854775807 - 1) | abs }}", NB_ERR_LIMIT, "64-bit");
}

static void errors_say_where(void **state)
{
    (void)state;
    fails("a\nb\n{{ x.y.z }}", NB_ERR_ARGUMENT, "template line 3: 'x' is undefined");
    fails("{% if 1 %}\n\n{{ d }}", NB_ERR_FORMAT, "template line 3: the template ends before {% elif %}");
    fails("\n{% for x in [1] %}\n{{ 1 + 'a' }}{% endfor %}", NB_ERR_ARGUMENT,
          "template line 3: '+' does not work on 'int' and 'str'");
    fails("\n\n{{ 'x' | nope }}", NB_ERR_UNSUPPORTED, "template line 3: there is no filter named 'nope'");
    fails("{{ raise_exception('only user and assistant') }}", NB_ERR_ARGUMENT, "only user and assistant");
    fails("\n{{ 'a", NB_ERR_FORMAT, "template line 2: a string without its closing quote");
    fails("{{ (1] }}", NB_ERR_FORMAT, "template line 1: unexpected ']'");
    fails("{% include 'a' %}", NB_ERR_UNSUPPORTED, "include");
    fails("{% import 'a' as b %}", NB_ERR_UNSUPPORTED, "import");
    fails("{% from 'a' import b %}", NB_ERR_UNSUPPORTED, "from");
    fails("{% extends 'a' %}", NB_ERR_UNSUPPORTED, "extends");
    fails("{% block a %}{% endblock %}", NB_ERR_UNSUPPORTED, "block");
}

/* what jinja2 does not know, but templates written for other engines use */
static void beyond_jinja2(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{{ '{\"b\": [1, 2.5, null], \"a\": \"x\"}' | from_json | tojson }}", "{\"b\": [1, 2.5, null], \"a\": \"x\"}"},
        {"{{ 'abc' is startingwith 'ab' }}{{ 'abc' is endingwith('x') }}", "TrueFalse"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nb_buf out = {0};
        nb_error err;
        if (render(nb_str_of(cases[i][0]), "{}", &out, &err) != NB_OK)
            fail_msg("%s: %s", cases[i][0], err.message);
        assert_string_equal(out.data, cases[i][1]);
        nb_buf_free(&out);
    }
    fails("{{ '{' | from_json }}", NB_ERR_FORMAT, "not valid JSON");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_jinja2),   cmocka_unit_test(depth),
                                       cmocka_unit_test(steps_and_size),   cmocka_unit_test(integers_are_64_bits),
                                       cmocka_unit_test(errors_say_where), cmocka_unit_test(beyond_jinja2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
