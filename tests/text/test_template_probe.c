/* What real templates can do, read off their source by hand; and each template's own way of writing a call, taken apart
 * again: what was put in comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "text/reply.h"
#include "text/template_probe.h"

static const struct model {
    const char *file;
    const char *can;  /* s: system, t: tools, c: calls, p: several, r: results, x: arguments as text, n: content null,
                         k: thinking, e: a switch, o: opened */
    const char *key;  /* earlier thinking */
    const char *last; /* with thinking switched off the prompt ends so; NULL: there is no switch */
} models[] = {
    {"reply/qwen3", "stcprke", "reasoning_content", "<think>\n\n</think>\n\n"},
    {"reply/qwen3-coder", "stcpr", NULL, NULL},
    {"reply/mistral-nemo", "stcpr", NULL, NULL},
    {"reply/mistral-small-3.2", "stcpr", NULL, NULL},
    {"reply/deepseek-r1-distill", "scprxnko", NULL, NULL},
    {"reply/gpt-oss", "stcrk", "thinking", NULL}, /* one call a message */
    {"reply/granite-4.0", "stcpr", NULL, NULL},
    {"reply/phi-3.5", "s", NULL, NULL},
    {"reply/minimax-m2", "stcprko", "reasoning_content", NULL},
    {"reply/glm-4.6", "stcprke", "reasoning_content", "<think></think>"},
    {"reply/seed-oss", "stcprk", "reasoning_content", NULL},
    {"chat/qwen2.5", "stcpr", NULL, NULL},
    {"chat/smollm2", "s", NULL, NULL},
};

#define EACH for (size_t i = 0; i < sizeof models / sizeof *models; i++)

static nb_str source_of(const char *file, nb_buf *text)
{
    char path[400];
    nb_error err;
    snprintf(path, sizeof path, "%s/%s.jinja", NB_TEST_DATA, file);
    nb_buf_clear(text);
    if (nb_file_read(path, 1 << 20, text, &err) != NB_OK)
        fail_msg("%s", err.message);
    return nb_buf_view(text);
}

static void traits(void **state)
{
    (void)state;
    nb_buf text = {0};
    EACH
    {
        nb_template_traits t;
        char can[16] = "";
        nb_template_probe_source(source_of(models[i].file, &text), &t);
        const struct {
            bool is;
            const char *letter;
        } found[] = {{t.system, "s"},          {t.tools, "t"},          {t.tool_calls, "c"},   {t.parallel_calls, "p"},
                     {t.tool_results, "r"},    {t.arguments_text, "x"}, {t.content_null, "n"}, {t.thinking, "k"},
                     {t.thinking_switch, "e"}, {t.opens_thinking, "o"}};
        for (size_t j = 0; j < sizeof found / sizeof *found; j++)
            if (found[j].is)
                strcat(can, found[j].letter);
        if (strcmp(can, models[i].can) != 0)
            fail_msg("%s: %s, not %s", models[i].file, can, models[i].can);
        assert_string_equal(t.thinking_key ? t.thinking_key : "", models[i].key ? models[i].key : "");
        assert_false(t.content_parts || t.empty_tools || t.suffix);
        if (models[i].last)
            assert_string_equal(t.switch_name, "enable_thinking");
    }
    nb_buf_free(&text);
}

/* ---- rendering and back ---- */

#define TOOLS                                                                                                          \
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"weather\",\"parameters\":{"      \
    "\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"description\":\"c\"},\"days\":{\"type\":"     \
    "\"integer\",\"description\":\"d\"}},\"required\":[\"city\"]}}}]"
#define ARGUMENTS "{\"city\": \"New \\\"York\\\"\", \"days\": 3}"

static void render(const nb_template *t, const nb_chat_message *m, size_t count, bool generation, const char *variables,
                   nb_buf *out)
{
    nb_error err;
    nb_chat_input in = {.messages = m,
                        .count = count,
                        .tools = NB_STR(TOOLS),
                        .variables = nb_str_of(variables),
                        .bos_token = NB_STR("<s>"),
                        .eos_token = NB_STR("</s>"),
                        .add_generation_prompt = generation};
    nb_buf_clear(out);
    if (nb_template_render(t, &in, out, &err) != NB_OK)
        fail_msg("%s", err.message);
}

typedef struct called {
    int calls;
    char name[40];
    nb_buf arguments, thinking;
} called;

static void take(void *user, const nb_reply_event *e)
{
    called *c = user;
    if (e->kind == NB_REPLY_CALL) {
        c->calls++;
        snprintf(c->name, sizeof c->name, "%.*s", (int)e->name.n, e->name.p);
        nb_buf_clear(&c->arguments);
    }
    nb_buf_str(&c->arguments, e->arguments);
    if (e->kind == NB_REPLY_THINKING)
        nb_buf_str(&c->thinking, e->text);
}

/* One call of an earlier reply, written by the template and read by the parser that was chosen by the template. */
static void round_trip(const struct model *m, nb_str source)
{
    nb_template *t;
    nb_template_traits traits;
    nb_reply *r;
    nb_error err;
    nb_buf extra = {0}, prompt = {0}, whole = {0};
    called c = {0};
    nb_past_call call = {NB_STR("abcdefgh1"), NB_STR("get_weather"), NB_STR(ARGUMENTS)};
    bool several = strchr(m->can, 'p') != NULL;
    nb_past_call calls[] = {call, {NB_STR("abcdefgh2"), NB_STR("get_weather"), NB_STR(ARGUMENTS)}};
    nb_chat_message messages[] = {{NB_STR("user"), NB_STR("Weather?"), {0}}, {NB_STR("assistant"), NB_STR(""), {0}}};
    assert_int_equal(nb_template_compile(source, &t, &err), NB_OK);
    nb_template_probe(t, source, &traits);
    assert_int_equal(
        nb_template_message_fields(&traits, NB_STR(""), calls, several ? 2 : 1, NB_STR("Hm."), &extra, &err), NB_OK);
    messages[1].extra = nb_buf_view(&extra);
    render(t, messages, 1, true, NULL, &prompt);
    render(t, messages, 2, false, NULL, &whole);
    size_t same = 0; /* what is behind the prompt is the reply */
    while (same < prompt.len && same < whole.len && prompt.data[same] == whole.data[same])
        same++;
    assert_true(same > 20 && same < whole.len);
    nb_reply_params p = {.format = nb_reply_detect(source), .tools = NB_STR(TOOLS), .event = take, .user = &c};
    p.thinking_open = same == prompt.len && nb_reply_opened(&p.format, nb_buf_view(&prompt));
    assert_int_equal(nb_reply_new(&p, &r, &err), NB_OK);
    assert_int_equal(nb_reply_feed(r, (nb_str){whole.data + same, whole.len - same}, &err), NB_OK);
    assert_int_equal(nb_reply_finish(r, &err), NB_OK);
    nb_reply_free(r);
    if (c.calls != (several ? 2 : 1))
        fail_msg("%s: %d calls in %s", m->file, c.calls, whole.data + same);
    assert_string_equal(c.name, "get_weather");
    json_t *got = json_loads(c.arguments.data, 0, NULL), *want = json_loads(ARGUMENTS, 0, NULL);
    if (!json_equal(got, want))
        fail_msg("%s: %s", m->file, c.arguments.data);
    if (traits.thinking_key && strcmp(m->file, "reply/gpt-oss") != 0) /* whose analysis stands before the call */
        assert_string_equal(c.thinking.data ? c.thinking.data : "", "Hm.");
    json_decref(got);
    json_decref(want);
    nb_buf_free(&extra);
    nb_buf_free(&prompt);
    nb_buf_free(&whole);
    nb_buf_free(&c.arguments);
    nb_buf_free(&c.thinking);
    nb_template_free(t);
}

static void round_trips(void **state)
{
    (void)state;
    nb_buf text = {0};
    int done = 0;
    EACH if (strchr(models[i].can, 'c'))
    {
        round_trip(&models[i], source_of(models[i].file, &text));
        done++;
    }
    assert_int_equal(done, 11);
    nb_buf_free(&text);
}

/* Switched off, the prompt says that thinking is over: the reply does not begin inside it. */
static void switches(void **state)
{
    (void)state;
    nb_buf text = {0}, prompt = {0};
    nb_chat_message m = {NB_STR("user"), NB_STR("Hi"), {0}};
    EACH if (models[i].last)
    {
        nb_template *t;
        nb_str source = source_of(models[i].file, &text);
        nb_reply_format f = nb_reply_detect(source);
        assert_int_equal(nb_template_compile(source, &t, NULL), NB_OK);
        render(t, &m, 1, true, "{\"enable_thinking\":false}", &prompt);
        size_t n = strlen(models[i].last);
        while (prompt.len && prompt.data[prompt.len - 1] == '\n' && models[i].last[n - 1] != '\n')
            prompt.data[--prompt.len] = 0;
        assert_true(prompt.len > n && strcmp(prompt.data + prompt.len - n, models[i].last) == 0);
        assert_false(nb_reply_opened(&f, nb_buf_view(&prompt)));
        nb_template_free(t);
    }
    nb_buf_free(&text);
    nb_buf_free(&prompt);
}

static void odd_templates(void **state)
{
    (void)state;
    nb_template_traits t;
    nb_template_probe_source(NB_STR("{% if"), &t); /* does not compile */
    assert_false(t.system || t.tools);
    nb_template_probe_source(NB_STR("{% for i in range(100000000) %}{% endfor %}{{ messages[0].content }}"), &t);
    assert_false(t.system || t.tool_calls); /* costs too much, and is asked once */
    nb_template_probe_source(NB_STR("{% for m in messages %}{{ m.content[0].text }}{% endfor %}"), &t);
    assert_true(t.content_parts && t.system);
    nb_template_probe_source(NB_STR("{% for t in tools %}{{ t.function.name }}{% endfor %}{{ messages[-1].content }}"),
                             &t);
    assert_true(t.tools && t.empty_tools);
    nb_template_probe_source(NB_STR("{{ messages[0].content }}{% for m in messages %}{% for c in m.tool_calls or [] "
                                    "%}{{ c.function.name }} {{ c.function.arguments }}"
                                    "{% endfor %}{% endfor %}"),
                             &t);
    assert_true(t.tool_calls && t.arguments_text); /* an object would come as Python prints it */
}

static void go_templates(void **state)
{
    (void)state;
    nb_template_traits t;
    assert_true(nb_go_mentions(NB_STR("a {{ if .Tools }}"), "Tools"));
    assert_true(nb_go_mentions(NB_STR("{{range $i, $m := $.Messages}}{{end}}"), "Messages"));
    assert_false(
        nb_go_mentions(NB_STR(".Tools {{ .ToolsX }} {{ \".Tools\" }} {{/* .Tools */}} {{ `.Tools` }}"), "Tools"));
    assert_false(nb_go_mentions(NB_STR("{{ .To"), "Tools"));
    assert_false(nb_go_mentions(NB_STR(""), "Tools"));
    nb_template_probe_go(NB_STR("{{ .System }}{{ if .Suffix }}{{ end }}{{ .Prompt }}"), &t);
    assert_true(t.system && t.suffix && !t.tools && !t.thinking);
    nb_template_probe_go(NB_STR("{{ range .Messages }}{{ .Thinking }}{{ range .ToolCalls }}{{ end }}{{ end }}{{ .Tools "
                                "}}{{ if .Think }}x{{ end }}"),
                         &t);
    assert_true(t.tools && t.tool_calls && t.thinking && t.thinking_switch);
}

static void fields(void **state)
{
    (void)state;
    nb_buf out = {0};
    nb_error err = {0};
    nb_template_traits t = {0};
    nb_past_call call = {NB_STR("1"), NB_STR("f\""), NB_STR("")};
    assert_int_equal(nb_template_message_fields(&t, NB_STR(""), &call, 1, NB_STR("x"), &out, NULL), NB_OK);
    assert_string_equal(
        out.data,
        "{\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\\\"\",\"arguments\":{}}}]}");
    static const char *const bad[] = {"[]", "{", "7", "{} {}", "{\"a\":}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nb_buf_clear(&out);
        call.arguments = nb_str_of(bad[i]);
        assert_int_equal(nb_template_message_fields(&t, NB_STR(""), &call, 1, NB_STR(""), &out, &err), NB_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "arguments"));
    }
    nb_buf_clear(&out);
    t = (nb_template_traits){.content_parts = true, .thinking_key = "thinking"};
    assert_int_equal(nb_template_message_fields(&t, NB_STR("a"), NULL, 0, NB_STR("b"), &out, NULL), NB_OK);
    assert_string_equal(out.data, "{\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"thinking\":\"b\"}");
    nb_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(traits),       cmocka_unit_test(round_trips),
                                       cmocka_unit_test(switches),     cmocka_unit_test(odd_templates),
                                       cmocka_unit_test(go_templates), cmocka_unit_test(fields)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
