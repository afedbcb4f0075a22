/* Replies as models write them, by their cards and templates: taken apart whole, byte by byte and in random pieces, with and
 * without streamed arguments; and whatever bytes in whatever format, of which none may be lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/reply_internal.h"

#define WEATHER                                                                                                        \
    "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"\",\"parameters\":{\"type\":"     \
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"},\"zip\":{\"type\":["    \
    "\"string\",\"null\"]},\"deep\":{\"type\":\"object\"}}}}}"
#define TIME "{\"type\":\"function\",\"function\":{\"name\":\"time\",\"parameters\":{}}}"
static const char tools[] = "[" WEATHER "," TIME "]";

/* ---- what came out ---- */

typedef struct outcome {
    nb_buf content, thinking, calls, raw; /* calls: "name(arguments)" a line; raw: all events' text */
    int begun, ended, voided;
    bool open;
    nb_buf arguments;
} outcome;

static void take(void *user, const nb_reply_event *e)
{
    outcome *o = user;
    nb_buf_str(&o->raw, e->text);
    switch (e->kind) {
    case NB_REPLY_CONTENT:
        assert_false(o->open);
        nb_buf_str(&o->content, e->text);
        break;
    case NB_REPLY_THINKING: nb_buf_str(&o->thinking, e->text); break;
    case NB_REPLY_CALL:
        assert_false(o->open);
        assert_int_equal(e->index, o->begun++);
        assert_true(e->id.n > 0);
        o->open = true;
        nb_buf_clear(&o->arguments);
        nb_buf_str(&o->arguments, e->name);
        nb_buf_char(&o->arguments, '(');
        break;
    case NB_REPLY_ARGUMENTS:
        assert_true(o->open && e->index == o->begun - 1);
        nb_buf_str(&o->arguments, e->arguments);
        break;
    case NB_REPLY_CALL_END: {
        assert_true(o->open && e->index == o->begun - 1);
        char *json = strchr(o->arguments.data, '(') + 1;
        json_t *value = json_loads(json, 0, NULL);
        assert_true(json_is_object(value)); /* by another program's reading */
        json_decref(value);
        nb_buf_printf(&o->calls, "%s)\n", o->arguments.data);
        o->open = false;
        o->ended++;
        break;
    }
    case NB_REPLY_CALL_VOID:
        assert_true(o->open);
        o->open = false;
        o->voided++;
        break;
    case NB_REPLY_MARKUP: break;
    }
}

static void outcome_free(outcome *o)
{
    nb_buf_free(&o->content);
    nb_buf_free(&o->thinking);
    nb_buf_free(&o->calls);
    nb_buf_free(&o->raw);
    nb_buf_free(&o->arguments);
}

static uint32_t random_state = 1;
static uint32_t draw(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* pieces: 0 all at once, 1 byte by byte, else random ones up to this */
static void run(const nb_reply_params *given, nb_str reply, uint32_t pieces, outcome *o)
{
    nb_reply *r;
    nb_error err;
    nb_reply_params p = *given;
    *o = (outcome){0};
    nb_buf_z(&o->content, "");
    p.event = take;
    p.user = o;
    if (nb_reply_new(&p, &r, &err) != NB_OK)
        fail_msg("%s", err.message);
    for (size_t at = 0; at < reply.n;) {
        size_t n = pieces == 0 ? reply.n : 1 + draw(pieces);
        n = nb_min_size(n, reply.n - at);
        char *piece = malloc(n); /* of its size: reading beyond is seen */
        assert_non_null(piece);
        memcpy(piece, reply.p + at, n);
        assert_int_equal(nb_reply_feed(r, (nb_str){piece, n}, &err), NB_OK);
        free(piece);
        at += n;
    }
    assert_int_equal(nb_reply_finish(r, &err), NB_OK);
    assert_int_equal(nb_reply_calls(r), o->ended);
    nb_reply_free(r);
    assert_false(o->open);
    assert_int_equal(o->begun, o->ended + o->voided);
    if (o->raw.len != reply.n || (reply.n && memcmp(o->raw.data, reply.p, reply.n) != 0))
        fail_msg("lost: %.*s\nbecame %.*s", (int)reply.n, reply.p, (int)o->raw.len, o->raw.data);
}

static void same(const char *what, const char *reply, const nb_buf *got, const char *want)
{
    const char *text = got->data ? got->data : "";
    if (strcmp(text, want) != 0)
        fail_msg("%s of\n%s\nis\n%s\nnot\n%s", what, reply, text, want);
}

static void check(nb_reply_params p, const char *reply, const char *content, const char *thinking, const char *calls)
{
    for (int i = 0; i < 8; i++) {
        outcome o;
        p.stream_arguments = i & 1;
        run(&p, nb_str_of(reply), (uint32_t[]){0, 1, 3, 9}[i / 2], &o);
        same("content", reply, &o.content, content);
        same("thinking", reply, &o.thinking, thinking);
        same("calls", reply, &o.calls, calls);
        outcome_free(&o);
    }
}

static nb_reply_params params_of(const char *template)
{
    return (nb_reply_params){.format = nb_reply_detect(nb_str_of(template)), .tools = nb_str_of(tools)};
}

/* ---- thinking ---- */

static void thinking(void **state)
{
    (void)state;
    nb_reply_params p = params_of("{{ '<think>' }} {{ '</think>' }}");
    check(p, "<think>\nLet me see.\n\nYes.\n</think>\n\nIt is 4.", "It is 4.", "Let me see.\n\nYes.", "");
    check(p, "It is 4.", "It is 4.", "", "");
    check(p, "  It is <think>4</think>", "  It is <think>4</think>", "", "");
    check(p, "<think>never ends\n", "", "never ends\n", "");
    check(p, "<think></think>x", "x", "", "");
    check(p, "<think>\n\n</think>\n\nx", "x", "", "");
    check(p, "<thin", "<thin", "", "");
    check(p, "<think>a </thin b</think> c", "c", "a </thin b", "");
    check(p, "", "", "", "");
    check(p, " \n", " \n", "", "");
    p.thinking_open = true;
    check(p, "Hm.\n</think>\nx", "x", "Hm.", "");
    check(p, "<think>\nHm.</think>x", "x", "Hm.", ""); /* opened again */
    check(p, "\n\n</think>\n\nx\n", "x\n", "", "");
    p.thinking_open = false;
    p.keep_thinking = true;
    check(p, "<think>Hm.</think>x", "<think>Hm.</think>x", "", "");
    check(params_of("[THINK] [TOOL_CALLS]"), "[THINK]Hm.[/THINK]x", "x", "Hm.", "");
    check(params_of("<|START_THINKING|> <|START_ACTION|>"),
          "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>x<|END_RESPONSE|>", "x", "Hm.", "");
    check(params_of("<think></think>"), "<think>Hm.</think><response>x</response>", "x", "Hm.", "");
    check(params_of("Here is my thought process:"), "Here is my thought process: Hm.\n\nHere is my response: x", "x",
          "Hm.", "");
    check(params_of("<seed:think> <seed:tool_call>"), "<seed:think>a</seed:think>b", "b", "a", "");
}

/* ---- calls ---- */

static void hermes(void **state)
{
    (void)state;
    nb_reply_params p = params_of("<tool_call> <think>");
    check(p, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>", "", "",
          "get_weather({\"city\": \"Paris\"})\n");
    check(p,
          "<think>\nweather\n</think>\n\nOne moment.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": "
          "{\"city\": "
          "\"a}\\\"</tool_call>\\\\\"}}\n</tool_call>\n<tool_call>\n{\"name\":\"time\",\"arguments\":{}}\n</tool_call>",
          "One moment.", "weather", "get_weather({\"city\": \"a}\\\"</tool_call>\\\\\"})\ntime({})\n");
    /* without the end, with arguments first, as text, none at all, a name twice the function */
    check(p, "<tool_call>{\"name\":\"time\",\"arguments\":{}}", "", "", "time({})\n");
    check(p, "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":1} \n", "", "", "time({\"a\":1})\n");
    check(p, "<tool_call>{\"arguments\":{\"city\":\"x\"},\"name\":\"get_weather\"}</tool_call>", "", "",
          "get_weather({\"city\":\"x\"})\n");
    check(p, "<tool_call>{\"name\":\"get_weather\",\"arguments\":\"{\\\"city\\\":\\\"x\\\"}\"}</tool_call>", "", "",
          "get_weather({\"city\":\"x\"})\n");
    check(p, "<tool_call>{\"name\":\"time\"}</tool_call>", "", "", "time({})\n");
    check(p, "<tool_call>{\"name\":\"time\",\"arguments\":null}</tool_call>", "", "", "time({})\n");
    check(
        p,
        "<tool_call>{\"type\":\"function\",\"function\":{\"name\":\"time\",\"parameters\":{\"a\":[1,{}]}}}</tool_call>",
        "", "", "time({\"a\":[1,{}]})\n");
    /* two in one tag, text behind */
    check(p, "<tool_call>{\"name\":\"time\"}\n{\"name\":\"time\"}</tool_call>\nDone.", "Done.", "",
          "time({})\ntime({})\n");
    check(p, "a\n\n b <tool_call>[{\"name\":\"time\"}, {\"name\":\"time\"}]</tool_call>", "a\n\n b", "",
          "time({})\ntime({})\n");
}

static void no_calls(void **state)
{
    (void)state;
    nb_reply_params p = params_of("<tool_call>");
    static const char *const texts[] = {
        "<tool_call>{\"name\":\"unknown\",\"arguments\":{}}</tool_call>",
        "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":}}</tool_call>",
        "<tool_call>{\"name\":\"time\",\"arguments\":[1]}</tool_call>",
        "<tool_call>{\"name\":\"time\",\"arguments\":\"no object\"}</tool_call>",
        "<tool_call>\n",
        "<tool_call>not JSON</tool_call> and more\n",
        "<tool_call",
        "a < b and <tool_cal> x </tool_call>",
        "<tool_call>{\"name\":\"time\",\"name\":\"unknown\"}</tool_call>",
        "<tool_call>{\"name\":\"time\",\"arguments\":{},\"arguments\":{\"a\":1}}</tool_call>",
        "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":\"\n\"}}</tool_call>", /* a raw newline is no JSON */
        "use <tool_call> like so: <tool_call>{\"x\":1}</tool_call>",
        "{\"name\":\"time\",\"arguments\":{}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check(p, texts[i], texts[i], "", "");
    /* a broken one does not hide the next */
    check(p, "<tool_call>{]</tool_call>\n<tool_call>{\"name\":\"time\"}</tool_call>", "<tool_call>{]</tool_call>", "",
          "time({})\n");
    /* without tools nothing is a call */
    p.tools = NB_STR("");
    check(p, "<tool_call>{\"name\":\"time\"}</tool_call> ", "<tool_call>{\"name\":\"time\"}</tool_call> ", "", "");
}

static void tags(void **state)
{
    (void)state;
    nb_reply_params p = params_of("<tool_call>\n<function=");
    check(p,
          "Sure.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nNew\nYork\n</parameter>\n<parameter=days>\n3\n"
          "</parameter>\n<parameter=zip>\n10001\n</parameter>\n<parameter=deep>\n{\"a\": [1, "
          "2]}\n</parameter>\n</function>\n</tool_call>",
          "Sure.", "",
          "get_weather({\"city\":\"New\\nYork\",\"days\":3,\"zip\":\"10001\",\"deep\":{\"a\": [1, 2]}})\n");
    check(p, "<function=time>\n</function>\n</tool_call>", "", "", "time({})\n");
    check(p,
          "<tool_call>\n<function=time>\n</function>\n</"
          "tool_call>\n<tool_call>\n<function=time>\n<parameter=x>\nTrue\n</parameter>\n</function>\n</tool_call>",
          "", "", "time({})\ntime({\"x\":true})\n");
    check(p, "<tool_call>\n<function=nobody>\n</function>\n</tool_call>",
          "<tool_call>\n<function=nobody>\n</function>\n</tool_call>", "", "");
    check(params_of("<seed:tool_call>"),
          "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Rome</parameter>\n</function>\n</seed:tool_call>",
          "", "", "get_weather({\"city\":\"Rome\"})\n");
    /* GLM 4.5 and 4.6 */
    check(params_of("<tool_call> <arg_key>"),
          "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Beijing</arg_value>\n<arg_key>days</arg_key>\n"
          "<arg_value>2</arg_value>\n</tool_call>",
          "", "", "get_weather({\"city\":\"Beijing\",\"days\":2})\n");
    /* MiniMax M2 */
    check(params_of("<minimax:tool_call> <invoke name=\""),
          "I look.\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter "
          "name=\"city\">Wien</parameter>\n</invoke>\n"
          "<invoke name=\"time\">\n</invoke>\n</minimax:tool_call>",
          "I look.", "", "get_weather({\"city\":\"Wien\"})\ntime({})\n");
    /* DeepSeek V3.2 */
    check(params_of("<｜DSML｜function_calls>"),
          "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
          "string=\"true\">"
          "12</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" "
          "string=\"false\">12</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
          "</｜DSML｜function_calls>",
          "", "", "get_weather({\"city\":\"12\",\"days\":12})\n");
}

static void llama(void **state)
{
    (void)state;
    nb_reply_params p = params_of("Environment: ipython {\"name\": function name, \"parameters\"} <|python_tag|>");
    check(p, "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}", "", "",
          "get_weather({\"city\": \"Paris\"})\n");
    check(p, "<|python_tag|>{\"name\": \"time\", \"parameters\": {}}", "", "", "time({})\n");
    check(p, "{\"name\": \"time\", \"parameters\": {}}; {\"name\": \"time\", \"parameters\": {}}", "", "",
          "time({})\ntime({})\n");
    check(p, "<function=get_weather>{\"city\": \"Paris\"}</function>", "", "", "get_weather({\"city\": \"Paris\"})\n");
    check(p, "[get_weather(city='Paris', days=2), time()]", "", "",
          "get_weather({\"city\":\"Paris\",\"days\":2})\ntime({})\n");
    check(p, "{\"answer\": 42}", "{\"answer\": 42}", "", "");
    check(p, "{ not JSON }", "{ not JSON }", "", "");
    check(p, "[1] says so", "[1] says so", "", "");
    check(p, "[see below] {\"name\": \"time\"}", "[see below] {\"name\": \"time\"}", "", "");
    check(p, "Text, then {\"name\": \"time\", \"parameters\": {}}",
          "Text, then {\"name\": \"time\", \"parameters\": {}}", "", "");
    check(p, "<|python_tag|>print(1)", "<|python_tag|>print(1)", "", "");
    check(p, "```json\n{\"name\": \"time\", \"parameters\": {}}\n```", "", "", "time({})\n");
}

static void mistral(void **state)
{
    (void)state;
    nb_reply_params p = params_of("[TOOL_CALLS]");
    check(p,
          "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"VvvODy9mT\"}, "
          "{\"name\": \"time\", \"arguments\": {}}]",
          "", "", "get_weather({\"city\": \"Paris\"})\ntime({})\n");
    check(p, "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]time[ARGS]{}", "", "",
          "get_weather({\"city\": \"Paris\"})\ntime({})\n");
    check(p, "Fine.[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{\"city\": \"Paris\"}", "Fine.", "",
          "get_weather({\"city\": \"Paris\"})\n");
    check(p, "[TOOL_CALLS]get_weather{\"city\": \"Paris\"}", "", "", "get_weather({\"city\": \"Paris\"})\n");
    check(p, "[TOOL_CALLS]nobody[ARGS]{}", "[TOOL_CALLS]nobody[ARGS]{}", "", "");
    check(p, "[TOOL_CALLS]", "[TOOL_CALLS]", "", "");
}

static void others(void **state)
{
    (void)state;
    check(
        params_of("<|tool|>"),
        "<|tool_call|>[{\"type\": \"function\", \"function\": {\"name\": \"time\", \"arguments\": {}}}]<|/tool_call|>",
        "", "", "time({})\n");
    check(params_of("<|tool|>"), "functools[{\"name\": \"time\", \"arguments\": {}}]", "", "", "time({})\n");
    check(params_of("functools"), "import functools\nfunctools.wraps", "import functools\nfunctools.wraps", "", "");
    check(params_of("<|tool_call|>"), "<|tool_call|>[{\"name\":\"time\",\"arguments\":{}}]", "", "",
          "time({})\n"); /* Granite 3 */
    check(params_of("Action: ```json"),
          "Plan: look.\nAction: ```json\n[\n    {\n        \"tool_name\": \"get_weather\",\n        \"parameters\": "
          "{\n            \"city\": \"Rome\"\n        }\n    }\n]```",
          "Plan: look.", "", "get_weather({\n            \"city\": \"Rome\"\n        })\n");
    check(params_of("<|START_ACTION|>"),
          "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"time\", \"parameters\": {}},\n    "
          "{\"tool_call_id\": \"1\", "
          "\"tool_name\": \"time\", \"parameters\": {}}\n]<|END_ACTION|>",
          "", "", "time({})\ntime({})\n");
    check(params_of("<｜tool▁call▁begin｜>"),
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
          "\"Rome\"}\n```"
          "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n```json\n{}\n```<｜tool▁call▁end｜><"
          "｜tool▁calls▁end｜>",
          "", "", "get_weather({\"city\": \"Rome\"})\ntime({})\n");
    check(
        params_of("<｜tool▁call▁begin｜>"),
        "Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Rome\"}<｜tool▁call▁end｜>"
        "<｜tool▁call▁begin｜>time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "Ok.", "", "get_weather({\"city\": \"Rome\"})\ntime({})\n");
    check(params_of("<｜tool▁call▁begin｜>"), "<｜tool▁calls▁begin｜> nothing", "<｜tool▁calls▁begin｜> nothing", "",
          "");
    check(params_of("<｜tool▁call▁begin｜>"), "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>who<｜tool▁sep｜>{}",
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>who<｜tool▁sep｜>{}", "", "");
    check(params_of("<|tool_call_begin|>"),
          "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\":"
          " \"Rome\"}"
          "<|tool_call_end|><|tool_call_begin|>functions.time:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_"
          "calls_section_end|>",
          "", "", "get_weather({\"city\": \"Rome\"})\ntime({})\n");
    check(params_of("<|tool_call_start|>"),
          "<|tool_call_start|>[get_weather(city=\"New \\\"York\\\"\", days=-3, deep={'a': [1, None, True], \"b\": "
          "(1.5,)}), time()]"
          "<|tool_call_end|>Checking.",
          "Checking.", "",
          "get_weather({\"city\":\"New "
          "\\\"York\\\"\",\"days\":-3,\"deep\":{\"a\":[1,null,true],\"b\":[1.5]}})\ntime({})\n");
    check(params_of("<|tool_call_start|>"), "<|tool_call_start|>[time(1)]", "<|tool_call_start|>[time(1)]", "", "");
    check(params_of("<|tools_prefix|>"),
          "<|tools_prefix|>[{\"get_weather\": {\"city\": \"Rome\"}}, {\"time\": {}}]<|tools_suffix|>", "", "",
          "get_weather({\"city\": \"Rome\"})\ntime({})\n");
    check(params_of("<|function_call|>"), "<|function_call|>{\"name\": \"time\", \"arguments\": {}}<|message_sep|>", "",
          "", "time({})\n");
    check(params_of("<TOOLCALL>"), "<TOOLCALL>[{\"name\": \"time\", \"arguments\": {}}]</TOOLCALL>", "", "",
          "time({})\n");
    check(params_of("<tool_calls>"), "<tool_calls>[{\"name\": \"time\", \"arguments\": {}}]</tool_calls>", "", "",
          "time({})\n");
    /* a template that knows no tools: JSON, bare or fenced */
    check(params_of("{{ messages }}"), "{\"name\": \"time\", \"arguments\": {}}", "", "", "time({})\n");
    check(params_of("{{ messages }}"), "Calling:\n```json\n{\"name\": \"time\", \"parameters\": {}}\n```\n",
          "Calling:", "", "time({})\n");
    check(params_of("{{ messages }}"), "So:\n```json\n{\"a\": 1}\n```\n", "So:\n```json\n{\"a\": 1}\n```\n", "", "");
}

static void go_templates(void **state)
{
    (void)state;
    nb_reply_params p = params_of(
        "{{ range .Messages }}{{ if .ToolCalls }}@@CALL\n{{ range .ToolCalls }}{\"name\": \"{{ .Function.Name }}\"}"
        "{{ end }}{{ else }}{{ .Content }}{{ end }}{{ end }}{{ .Tools }}");
    assert_string_equal(p.format.prefix, "@@CALL");
    check(p, "x @@CALL\n{\"name\": \"time\", \"parameters\": {}}", "x", "", "time({})\n");
    p = params_of("{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}{{ if .Content }}{{ .Content }}{{ else if "
                  ".ToolCalls }}"
                  "{{ range .ToolCalls }}{\"name\": \"{{ .Function.Name }}\", \"parameters\": {{ .Function.Arguments "
                  "}}}{{ end }}{{ end }}{{ end }}");
    assert_int_equal(p.format.calls, 1ull << NB_CALL_BARE | 1ull << NB_CALL_FENCE);
    p = params_of("{{ range .Messages }}{{ if .ToolCalls }}<tool_call>{{ end }}{{ end }}");
    assert_int_equal(p.format.calls & ~(1ull << NB_CALL_FUNCTION), 1ull << NB_CALL_TAG);
    p = params_of("{{ .System }} <tool_call> {{ .Prompt }}"); /* a word, not tools */
    assert_int_equal(p.format.calls, 0);
}

static void harmony(void **state)
{
    (void)state;
    nb_reply_params p = params_of("<|start|>assistant<|channel|>final<|message|>");
    assert_true(p.format.harmony);
    check(p, "<|channel|>analysis<|message|>Need 2+2.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>",
          "4", "Need 2+2.", "");
    check(
        p,
        "<|channel|>analysis<|message|>Call it.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
        "<|constrain|>json<|message|>{\"city\": \"Rome\"}<|call|>",
        "", "Call it.", "get_weather({\"city\": \"Rome\"})\n");
    check(p, " to=functions.get_weather<|channel|>commentary json<|message|>{\"city\": \"Rome\"}", "", "",
          "get_weather({\"city\": \"Rome\"})\n");
    check(p,
          "<|channel|>commentary<|message|>First I look.<|end|><|start|>assistant<|channel|>commentary "
          "to=functions.time<|message|>{}<|call|>",
          "First I look.", "", "time({})\n");
    check(p, "Plain <text>.", "Plain <text>.", "", "");
    check(p, "<|channel|>final<|message|>a <b> <|c", "a <b> <|c", "", "");
    check(p, "<|channel|>commentary to=functions.nobody<|message|>{\"a\":1}<|call|>",
          "<|channel|>commentary to=functions.nobody<|message|>{\"a\":1}", "", "");
    check(p, "<|channel|>commentary to=functions.time<|message|>{\"a\":<|call|>",
          "<|channel|>commentary to=functions.time<|message|>{\"a\":", "", "");
    check(p, "<|channel|>analysis", "<|channel|>analysis", "", "");
}

/* ---- order, ids, prompts ---- */

static void first_id(void *user, const nb_reply_event *e)
{
    char *id = user;
    if (e->kind == NB_REPLY_CALL)
        snprintf(id, 32, "%.*s", (int)e->id.n, e->id.p);
}

static void ids(void **state)
{
    (void)state;
    char id[3][32];
    const char *replies[] = {"[TOOL_CALLS] [{\"name\": \"time\", \"arguments\": {}, \"id\": \"VvvODy9mT\"}]",
                             "[TOOL_CALLS]time[CALL_ID]abcdefghi[ARGS]{}", "[TOOL_CALLS]time[ARGS]{}"};
    for (int i = 0; i < 3; i++) {
        nb_reply_params p = params_of("[TOOL_CALLS]");
        nb_reply *r;
        p.event = first_id;
        p.user = id[i];
        p.seed = 7;
        assert_int_equal(nb_reply_new(&p, &r, NULL), NB_OK);
        assert_int_equal(nb_reply_feed(r, nb_str_of(replies[i]), NULL), NB_OK);
        assert_int_equal(nb_reply_finish(r, NULL), NB_OK);
        nb_reply_free(r);
    }
    assert_string_equal(id[0], "VvvODy9mT");
    assert_string_equal(id[1], "abcdefghi");
    assert_int_equal(strlen(id[2]), 9);
    assert_int_equal(strspn(id[2], "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), 9);
}

typedef struct arrival {
    int arguments; /* events before the end of the reply */
    bool announced;
    size_t said;
} arrival;

static void arrive(void *user, const nb_reply_event *e)
{
    arrival *a = user;
    a->arguments += e->kind == NB_REPLY_ARGUMENTS;
    a->announced |= e->kind == NB_REPLY_CALL;
    a->said += e->kind == NB_REPLY_CONTENT ? e->text.n : 0;
}

/* What is known is handed out at once, and no more than a tag's beginning waits. */
static void at_once(void **state)
{
    (void)state;
    nb_reply_params p = params_of("<tool_call>");
    arrival a = {0};
    nb_reply *r;
    p.event = arrive;
    p.user = &a;
    p.stream_arguments = true;
    assert_int_equal(nb_reply_new(&p, &r, NULL), NB_OK);
    assert_int_equal(nb_reply_feed(r, NB_STR("Hello <tool"), NULL), NB_OK);
    assert_int_equal(a.said, 5);
    assert_int_equal(nb_reply_feed(r, NB_STR("s"), NULL), NB_OK);
    assert_int_equal(a.said, 12);
    assert_int_equal(nb_reply_feed(r, NB_STR("<tool_call>{\"name\": \"get_weather\", \"arguments\": {"), NULL), NB_OK);
    assert_true(a.announced);
    for (int i = 0; i < 5; i++)
        assert_int_equal(nb_reply_feed(r, NB_STR("\"a\":1,"), NULL), NB_OK);
    assert_true(a.arguments >= 5);
    nb_reply_free(r);
}

/* A reply that ends within a call: streamed, the call stays as far as it goes and is not said again; else it is said. */
static void broken_off(void **state)
{
    static const struct {
        const char *template, *reply, *arguments;
    } cases[] = {
        {"<tool_call>", "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":[1, ", "time({\"a\":[1, "},
        {"<tool_call>", "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":1} x", "time({\"a\":1}"},
        {"[TOOL_CALLS]", "[TOOL_CALLS]time[ARGS]{\"a\":\"b", "time({\"a\":\"b"},
        {"<|python_tag|>", "<|python_tag|>{\"name\":\"time\",\"parameters\":{\"a\"", "time({\"a\""},
        {"<function=", "<function=time>{\"a\":tr", "time({\"a\":tr"},
        {"<|channel|>", "<|channel|>commentary to=functions.time<|message|>{\"a\":", "time({\"a\":"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t pieces = 0; pieces < 4; pieces++) {
            outcome o;
            nb_reply_params p = params_of(cases[i].template);
            p.format.harmony |= strcmp(cases[i].template, "<|channel|>") == 0;
            p.stream_arguments = true;
            run(&p, nb_str_of(cases[i].reply), pieces, &o);
            same("content", cases[i].reply, &o.content, "");
            same("arguments", cases[i].reply, &o.arguments, cases[i].arguments);
            assert_int_equal(o.voided, 1);
            outcome_free(&o);
            p.stream_arguments = false;
            run(&p, nb_str_of(cases[i].reply), pieces, &o);
            same("calls", cases[i].reply, &o.calls, "");
            assert_true(o.content.len > 0);
            outcome_free(&o);
        }
}

/* ---- arguments that are not whole ---- */

/* Whether some end makes JSON of a text, by another program's reading: what may be open, tried one after the other. */
static bool can_end(const char *text, size_t n)
{
    static const char *const ends[] = {"",        "\"",       "0",      "\"\":0", ":0",     "\":0",  "0\"",
                                       "00\"",    "000\"",    "0000\"", "n\"",    "n\":0",  "0\":0", "00\":0",
                                       "000\":0", "0000\":0", "e",      "ue",     "rue",    "l",     "ll",
                                       "ull",     "se",       "lse",    "alse",   ",\"\":0"};
    char stack[64] = "";
    size_t depth = 0;
    for (size_t i = 0, in = 0; i < n; i++) {
        in ^= text[i] == '"';
        i += in && text[i] == '\\';
        if (!in && (text[i] == '{' || text[i] == '['))
            stack[depth++] = text[i] == '{' ? '}' : ']';
        depth -= !in && depth && (text[i] == '}' || text[i] == ']');
    }
    for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
        char whole[300];
        int size = snprintf(whole, sizeof whole, "%.*s%s", (int)n, text, ends[k]);
        for (size_t d = depth; d > 0; d--)
            whole[size++] = stack[d - 1];
        json_t *v = json_loadb(whole, (size_t)size, JSON_ALLOW_NUL, NULL);
        bool good = json_is_object(v);
        json_decref(v);
        if (good)
            return true;
    }
    return false;
}

/* What is handed out of arguments can be gone on with; the first byte that is held back cannot. */
static void valid_beginnings(void **state)
{
    static const char *const words[] = {
        "{",       "}",       "[",    "]",    ",",    ":",     "\"a\"",         "\"\\u00e9b\"",
        "\"\\n\"", "0",       "-1.5", "2e-7", "true", "false", "null",          " ",
        "\"",      "{\"k\":", "1",    ".",    "\\",   "e",     "\"x\":[1,{}],", "\n"};
    (void)state;
    int held = 0;
    for (int round = 0; round < 20000; round++) {
        nb_buf text = {0}, out = {0};
        nb_json_prefix p = {0};
        nb_buf_char(&text, '{');
        for (uint32_t i = draw(12); i > 0; i--)
            nb_buf_z(&text, words[draw(sizeof words / sizeof *words)]);
        for (size_t at = 0; at < text.len;) {
            size_t n = nb_min_size(1 + draw(5), text.len - at);
            nb_buf_str(&out, nb_json_prefix_of(&p, (nb_str){text.data + at, n}));
            at += n;
        }
        if (!can_end(text.data, out.len))
            fail_msg("nothing ends %.*s", (int)out.len, text.data);
        if (out.len < text.len && can_end(text.data, out.len + 1))
            fail_msg("held back, and no reason: %.*s", (int)out.len + 1, text.data);
        held += out.len < text.len;
        nb_buf_free(&text);
        nb_buf_free(&out);
    }
    assert_true(held > 1000 && held < 19900);
}

static void prompts(void **state)
{
    (void)state;
    nb_reply_format f = nb_reply_detect(NB_STR("<think>\n"));
    assert_true(nb_reply_opened(&f, NB_STR("<|im_start|>assistant\n<think>\n")));
    assert_false(nb_reply_opened(&f, NB_STR("<|im_start|>assistant\n<think>\n\n</think>\n\n")));
    assert_false(nb_reply_opened(&f, NB_STR("")));
    f = nb_reply_detect(NB_STR("plain"));
    assert_false(nb_reply_opened(&f, NB_STR("<think>")));
    assert_true(nb_reply_named(NB_STR("harmony"), &f) && f.harmony);
    assert_true(nb_reply_named(NB_STR("qwen3-thinking"), &f) && f.think == NB_THINK_TAG &&
                f.calls == 1ull << NB_CALL_TAG);
    assert_false(nb_reply_named(NB_STR("nobody"), &f) || nb_reply_named(NB_STR(""), &f));
    const char *marks[64];
    f = nb_reply_detect(NB_STR("[TOOL_CALLS]"));
    size_t n = nb_reply_markers(&f, marks, 64), found = 0;
    for (size_t i = 0; i < n; i++)
        found += strcmp(marks[i], "[TOOL_CALLS]") == 0 || strcmp(marks[i], "[ARGS]") == 0;
    assert_int_equal(found, 2);
}

static void wrong_tools(void **state)
{
    (void)state;
    static const char *const bad[] = {"{}", "[", "[{\"function\":{\"name\":\"a\"}]", "[1] x", "null"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nb_error err = {0};
        nb_reply *r;
        nb_reply_params p = {.tools = nb_str_of(bad[i]), .event = take};
        assert_int_not_equal(nb_reply_new(&p, &r, &err), NB_OK);
        assert_null(r);
        assert_true(err.message[0]);
    }
    /* odd, but tools all the same; Anthropic's form */
    nb_reply *r;
    nb_reply_params p = {
        .tools = NB_STR("[1, null, {}, {\"name\":\"a\",\"input_schema\":{\"properties\":[]}}, {\"function\":7}]"),
        .event = take};
    assert_int_equal(nb_reply_new(&p, &r, NULL), NB_OK);
    nb_reply_free(r);
}

/* ---- any bytes ---- */

/* Words of all formats in any order: nothing is lost, and how a reply is cut changes nothing. */
static void any_words(void **state)
{
    (void)state;
    static const char *const words[] = {
#define NB_THINK_ROW(id, open, close) open, close,
#define NB_CALL_ROW(id, open, body, name_end, close) open, name_end, close,
#define NB_SECTION_ROW(open, close) open, close,
#define NB_SAID_ROW(open, close) open, close,
#include "text/reply_syntax.def"
        "time",
        "get_weather",
        "functions.time",
        "{\"name\":\"time\",",
        "\"arguments\":{",
        "}",
        "}}",
        "{",
        "[",
        "]",
        ",",
        "\"",
        "\\",
        "\n",
        " ",
        "```",
        "```json",
        "x",
        "<",
        "<parameter=a>",
        "</parameter>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "(",
        ")",
        "a=1",
        "'",
        "<|channel|>final",
        "<|message|>",
        "<|end|>",
        "<|start|>assistant",
        "<|channel|>commentary to=functions.time",
        "<|call|>",
        "{}",
        "{\"name\":\"time\",\"arguments\":{}}",
        "null",
        "\xff",
        "@@",
        "function",
        "[CALL_ID]",
        "<tool_call>{\"name\":\"time\",\"arguments\":{",
        "[TOOL_CALLS]time[ARGS]{",
        "<|tool_call_begin|>functions.time:0<|tool_call_argument_begin|>{",
        "<function=time>{",
        "<tool_call>time\n",
        "<invoke name=\"time\">",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>time<｜tool▁sep｜>{",
        "[time(a=",
        "<|channel|>commentary to=functions.time<|message|>{",
        "\"a\":1",
        "\"a\":1}",
        "<|python_tag|>{\"name\":\"time\",",
        "```json\n{\"name\":\"time\",\"arguments\":{",
        "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":1}}</tool_call>",
        "[TOOL_CALLS]time[ARGS]{\"a\":1}",
        "<function=time>{\"a\":1}</function>",
        "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":]}}",
        "[time(a='x'), time()]"};
    const uint32_t count = sizeof words / sizeof *words;
    const int rounds = NB_TEST_SLOW ? 5000 : 30000;
    int ended = 0, voided = 0;
    for (int round = 0; round < rounds; round++) {
        nb_reply_params p = {.tools = nb_str_of(tools), .stream_arguments = draw(2), .thinking_open = draw(4) == 0};
        outcome whole, cut;
        nb_buf text = {0};
        p.format.harmony = draw(8) == 0;
        p.format.think = (nb_think)draw(NB_THINKS);
        p.format.calls = draw(2) ? (1ull << NB_CALL_SYNTAXES) - 1 : 1ull << draw(NB_CALL_SYNTAXES);
        if (draw(4) == 0)
            strcpy(p.format.prefix, "@@");
        nb_buf_z(&text, "");
        for (uint32_t i = draw(14); i > 0; i--) {
            const char *word = words[draw(count)];
            nb_buf_add(&text, word, draw(12) ? strlen(word) : draw((uint32_t)strlen(word) + 1));
        }
        run(&p, nb_buf_view(&text), 0, &whole);
        run(&p, nb_buf_view(&text), draw(2) ? 1 : 7, &cut);
        assert_int_equal(whole.content.len, cut.content.len);
        assert_memory_equal(whole.content.data, cut.content.data, cut.content.len);
        assert_int_equal(whole.thinking.len, cut.thinking.len);
        same("calls", text.data, &cut.calls, whole.calls.data ? whole.calls.data : "");
        assert_int_equal(whole.voided, cut.voided);
        ended += whole.ended;
        voided += whole.voided;
        outcome_free(&whole);
        outcome_free(&cut);
        nb_buf_free(&text);
    }
    assert_true(ended > rounds / 50 && voided > rounds / 1000); /* words do meet to calls, whole and broken */
}

/* The arguments of a call may be long: the time is that of reading them once, not once a token. */
static void long_call(void **state)
{
    (void)state;
    nb_buf text = {0};
    nb_reply_params p = params_of("<tool_call>");
    outcome o;
    nb_buf_z(&text, "<tool_call>{\"name\":\"time\",\"arguments\":{\"a\":\"");
    for (int i = 0; i < 1 << 20; i++)
        nb_buf_char(&text, 'x');
    nb_buf_z(&text, "\"}}</tool_call>");
    run(&p, nb_buf_view(&text), 4, &o);
    assert_int_equal(o.ended, 1);
    outcome_free(&o);
    nb_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thinking),
        cmocka_unit_test(hermes),
        cmocka_unit_test(no_calls),
        cmocka_unit_test(tags),
        cmocka_unit_test(llama),
        cmocka_unit_test(mistral),
        cmocka_unit_test(others),
        cmocka_unit_test(go_templates),
        cmocka_unit_test(harmony),
        cmocka_unit_test(ids),
        cmocka_unit_test(at_once),
        cmocka_unit_test(prompts),
        cmocka_unit_test(wrong_tools),
        cmocka_unit_test(any_words),
        cmocka_unit_test(long_call),
        cmocka_unit_test(broken_off),
        cmocka_unit_test(valid_beginnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
