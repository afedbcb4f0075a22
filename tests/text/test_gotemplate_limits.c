/* What no Go template may do: run for ever, take all memory, crash when memory is out, or see another thread's rendering. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "support/allocations.h"
#include "text/gotemplate.h"

/* ---- limits ---- */

static void data_fails(const char *source, const char *data, nb_status want, const char *message)
{
    nb_gotemplate *t;
    nb_error err = {0};
    nb_buf out = {0};
    nb_buf_z(&out, "kept");
    nb_status status = nb_gotemplate_compile(nb_str_of(source), &t, &err);
    if (status == NB_OK)
        status = nb_gotemplate_render_data(t, nb_str_of(data), 0, &out, &err);
    if (status != want || !strstr(err.message, message))
        fail_msg("%.200s: %d %s", source, status, err.message);
    assert_string_equal(out.data, "kept");
    nb_buf_free(&out);
    nb_gotemplate_free(t);
}

static void fails(const char *source, nb_status want, const char *message) { data_fails(source, "{}", want, message); }

/* begin, n times open, middle, n times close */
static void nested_fails(const char *open, const char *middle, const char *close, int n, const char *message)
{
    nb_buf b = {0};
    for (int i = 0; i < n; i++)
        nb_buf_z(&b, open);
    nb_buf_z(&b, middle);
    for (int i = 0; i < n; i++)
        nb_buf_z(&b, close);
    fails(b.data, NB_ERR_LIMIT, message);
    nb_buf_free(&b);
}

static void depth(void **state)
{
    (void)state;
    nested_fails("{{ if 1 }}", "x", "{{ end }}", 13000, "nested more than 500 deep");
    nested_fails("{{ with 1 }}{{ range 1 }}", "x", "{{ end }}{{ end }}", 400, "nested more than 500 deep");
    nested_fails("{{ if 0 }}{{ else if 0 }}", "x", "{{ end }}", 1000, "nested more than 500 deep");
    nested_fails("{{ block \"a\" . }}", "x", "{{ end }}", 1000, "nested more than 500 deep");
    fails("{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}", NB_ERR_LIMIT,
          "nested more than 500 deep");
    nb_buf b = {0};
    nb_buf_z(&b, "{{ ");
    for (int i = 0; i < 1000; i++)
        nb_buf_char(&b, '(');
    fails(b.data, NB_ERR_LIMIT, "template line 1: nested more than 500 deep");
    nb_buf_clear(&b);
    for (int i = 0; i < 600; i++)
        nb_buf_char(&b, '[');
    for (int i = 0; i < 600; i++)
        nb_buf_char(&b, ']');
    data_fails("{{ . }}", b.data, NB_ERR_LIMIT, "nested more than 500 deep");
    nb_buf_free(&b);
}

static void steps_and_size(void **state)
{
    (void)state;
    fails("{{ range 1000000000 }}{{ end }}", NB_ERR_LIMIT, "does not end within 1000000 steps");
    fails("{{ define \"a\" }}{{ range 9 }}{{ template \"a\" . }}{{ end }}{{ end }}{{ template \"a\" . }}", NB_ERR_LIMIT,
          "nested more than 500 deep");
    fails("{{ define \"a\" }}{{ if gt . 0 }}{{ range . }}{{ template \"a\" . }}{{ end }}{{ end }}{{ end }}"
          "{{ template \"a\" 40 }}",
          NB_ERR_LIMIT, "steps");
    fails("{{ range 1000 }}{{ printf \"%1000000d\" 1 }}{{ end }}", NB_ERR_LIMIT, "steps");
    fails("{{ $s := \"0123456789\" }}{{ range 100 }}{{ $s = print $s $s }}{{ end }}", NB_ERR_LIMIT, "template line 1");
    fails("{{ $s := printf \"%1000000s\" \"\" }}{{ range 1000000 }}{{ $x := eq $s $s }}{{ end }}", NB_ERR_LIMIT,
          "steps");
    nb_buf b = {0};
    nb_buf_printf(&b, "{{ range 1000 }}%100000s{{ end }}", "");
    fails(b.data, NB_ERR_LIMIT, "bytes of text");
    nb_buf_clear(&b);
    for (int i = 0; i < 1100; i++)
        nb_buf_printf(&b, "{{ $x%d := 1 }}", i);
    fails(b.data, NB_ERR_LIMIT, "more than 1000 variables");
    nb_buf_clear(&b);
    for (int i = 0; i < 1100; i++)
        nb_buf_printf(&b, "{{ define \"%d\" }}x{{ end }}", i);
    fails(b.data, NB_ERR_LIMIT, "more than 1000 templates");
    nb_buf_clear(&b);
    assert_true(nb_buf_reserve(&b, 2 << 20));
    memset(b.data, 'a', 2 << 20);
    b.data[2 << 20] = 0;
    fails(b.data, NB_ERR_LIMIT, "at most 262144 are read");
    nb_buf_free(&b);
}

/* ---- what is wrong with a request ---- */

static nb_status render(const char *source, const nb_gotemplate_input *in, nb_buf *out, nb_error *err)
{
    nb_gotemplate *t;
    *err = (nb_error){0};
    nb_status status = nb_gotemplate_compile(nb_str_of(source), &t, err);
    if (status == NB_OK)
        status = nb_gotemplate_render(t, in, out, err);
    nb_gotemplate_free(t);
    return status;
}

static void request_fails(const char *extra, const char *tools, const char *message)
{
    const nb_chat_message m = {NB_STR("user"), NB_STR("Hi"), nb_str_of(extra)};
    const nb_gotemplate_input in = {.messages = &m, .count = 1, .tools = nb_str_of(tools)};
    nb_error err;
    nb_buf out = {0};
    assert_int_equal(render("{{ .Messages }}{{ .Tools }}", &in, &out, &err), NB_ERR_ARGUMENT);
    if (!strstr(err.message, message))
        fail_msg("%s %s: %s", extra, tools, err.message);
    assert_int_equal(out.len, 0);
    nb_buf_free(&out);
}

static void bad_requests(void **state)
{
    (void)state;
    request_fails("{", "", "a message's further fields: not valid JSON");
    request_fails("[]", "", "a message's further fields must be an object");
    request_fails("{\"thinking\":1}", "", "\"thinking\" must be a string");
    request_fails("{\"tool_calls\":{}}", "", "\"tool_calls\" must be a list");
    request_fails("{\"tool_calls\":[{\"function\":{\"index\":1.5}}]}", "", "\"index\" must be a whole number");
    request_fails("{\"tool_calls\":[{\"function\":{\"arguments\":[]}}]}", "", "\"arguments\" must be an object");
    request_fails("{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}}]}", "",
                  "the arguments of a tool call: not valid");
    request_fails("", "{}", "the tools must be a list");
    request_fails("", "[1]", "the tools must be an object");
    request_fails("", "[{\"function\":{\"name\":null,\"description\":[]}}]", "\"description\" must be a string");
    request_fails("", "[{\"function\":{\"parameters\":{\"properties\":{\"a\":{\"type\":1}}}}}]",
                  "\"type\" must be a list");
}

/* OpenAI's clients send arguments as text. */
static void arguments_as_text(void **state)
{
    (void)state;
    const nb_chat_message m = {NB_STR("assistant"), NB_STR(""),
                               NB_STR("{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"b\\\":1,"
                                      "\\\"a\\\":[\\\"<\\\"]}\"}}]}")};
    const nb_gotemplate_input in = {.messages = &m, .count = 1};
    nb_error err;
    nb_buf out = {0};
    assert_int_equal(render("{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}",
                            &in, &out, &err),
                     NB_OK);
    assert_string_equal(out.data, "{\"a\":[\"\\u003c\"],\"b\":1}");
    nb_buf_free(&out);
}

/* Where we go on and Ollama would not. */
static void beyond_ollama(void **state)
{
    (void)state;
    const nb_chat_message m[] = {{NB_STR("user"), NB_STR("a"), {0}},
                                 {NB_STR("assistant"), NB_STR("b"), {0}},
                                 {NB_STR("user"), NB_STR("c"), {0}}};
    const nb_gotemplate_input in = {.messages = m, .count = 3};
    nb_error err;
    nb_buf out = {0};
    assert_int_equal(render("{{ define \"p\" }}<{{ . }}>{{ end }}{{ template \"p\" .Prompt }}{{ json .Response }}|",
                            &in, &out, &err),
                     NB_OK);
    assert_string_equal(out.data, "<a>\"b\"|<c>\"\"");
    nb_buf_clear(&out);
    assert_int_equal(render("{{ if .Prompt }}{{ .Prompt }}{{ .Response }}{{ else }}x{{ end }}|", &in, &out, &err),
                     NB_OK);
    assert_string_equal(out.data, "ab|c");
    nb_buf_free(&out);
}

/* ---- memory ---- */

static const char everything[] =
    "{{ define \"t\" }}{{ printf \"%5s|%q|%x|%v\" .Role .Content .Content . }}{{ end }}"
    "{{ $x := \"a\\tb\" }}{{ with .Tools }}{{ . }}{{ json . }}{{ range . }}{{ .Function }}{{ "
    ".Function.Parameters.Properties }}"
    "{{ range $k, $p := .Function.Parameters.Properties }}{{ $p.Type }}{{ toTypeScriptType $p }}{{ end }}{{ end }}{{ "
    "end }}"
    "{{ range $i, $m := .Messages }}{{ template \"t\" . }}{{ $y := slice $.Messages $i }}{{ len $y }}"
    "{{ if .ToolCalls }}\r\n<call>\r\n<x>{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}"
    "{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ html .Content | js | urlquery | print 1.5 | println }}{{ end "
    "}}"
    "{{ .System }}{{ currentDate }}{{ `r\r` }}";

static nb_status render_everything(const char *source, nb_buf *out, nb_error *err)
{
    const nb_chat_message m[] = {{NB_STR("system"), NB_STR("S"), {0}},
                                 {NB_STR("user"), NB_STR("a <b> & \"c\""), {0}},
                                 {NB_STR("user"), NB_STR("d"), {0}},
                                 {NB_STR("assistant"), NB_STR(""),
                                  NB_STR("{\"thinking\":\"t\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                                         "\"arguments\":{\"x\":[1,\"\\u00e9\"]}}}]}")},
                                 {NB_STR("tool"), NB_STR("r"), NB_STR("{\"tool_name\":\"f\"}")}};
    const nb_gotemplate_input in = {
        .messages = m,
        .count = 5,
        .tools = NB_STR(
            "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"x\":{\"type\":"
            "[\"string\",\"null\"],\"properties\":{\"z\":{\"anyOf\":[{\"type\":\"number\"}]}}}}}}}]"),
        .now = 1753000000};
    return render(source, &in, out, err);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const sources[] = {everything,
                                          "{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}{{ .Response }}"};
    for (int i = 0; i < 2; i++) {
        nb_buf whole = {0};
        nb_error err;
        if (render_everything(sources[i], &whole, &err) != NB_OK)
            fail_msg("%s", err.message);
        nb_status status = NB_ERR_MEMORY;
        long live = nb_allocations.live;
        for (long n = 1; status != NB_OK; n++) { /* with a sanitizer none fails */
            nb_buf out = {0};
            nb_allocations.count = 0;
            nb_allocations.fail_at = n;
            status = render_everything(sources[i], &out, &err);
            nb_allocations.fail_at = 0;
            bool jansson = strstr(err.message, "not valid JSON") != NULL; /* what it sometimes says of memory */
            if (status != NB_OK && status != NB_ERR_MEMORY && !jansson)
                fail_msg("allocation %ld: %s", n, err.message);
            assert_true(status == NB_OK ? nb_str_eq(nb_buf_view(&out), nb_buf_view(&whole)) : out.len == 0);
            nb_buf_free(&out);
            if (nb_allocations.live != live)
                fail_msg("allocation %ld: %ld pieces are left, %s", n, nb_allocations.live - live, err.message);
            assert_true(n < 10000);
        }
        nb_buf_free(&whole);
    }
}

/* ---- threads ---- */

typedef struct job {
    const nb_gotemplate *t;
    int64_t now;
    bool right;
} job;

static void *work(void *p)
{
    job *j = p;
    char data[64], want[64];
    j->right = true;
    for (int i = 0; i < 200; i++) {
        nb_buf out = {0};
        snprintf(data, sizeof data, "{\"n\":[%lld,%d]}", (long long)j->now, i);
        snprintf(want, sizeof want, "%lld;%d;2", (long long)j->now, i);
        nb_status status = nb_gotemplate_render_data(j->t, nb_str_of(data), 0, &out, NULL);
        j->right &= status == NB_OK && nb_str_eqz(nb_buf_view(&out), want);
        nb_buf_free(&out);
    }
    return NULL;
}

static void shared_by_threads(void **state)
{
    (void)state;
    nb_gotemplate *t;
    nb_error err = {0};
    pthread_t threads[4];
    job jobs[4];
    assert_int_equal(nb_gotemplate_compile(NB_STR("{{ range $x := .n }}{{ . }};{{ end }}{{ len .n }}"), &t, &err),
                     NB_OK);
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){t, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].right);
    }
    nb_gotemplate_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depth),
        cmocka_unit_test(steps_and_size),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(arguments_as_text),
        cmocka_unit_test(beyond_ollama),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(shared_by_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
