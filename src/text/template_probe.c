#define _GNU_SOURCE /* memmem */
#include "text/template_probe.h"

#include "base/json_read.h"
#include "base/json_write.h"
#include "text/reply.h"

/* Texts that no template has of itself. */
#define SYSTEM "probe-system-text"
#define USER "probe-user-text"
#define RESULT "probe-result-text"
#define THOUGHT "probe-thought-text"
#define TOOL "probe_tool"
#define OTHER "probe_other"

typedef struct probe {
    const nb_template *t;
    bool stop;            /* a limit was met: a template that costs this much is not asked again */
    const char *no_tools; /* what is given where there are none */
    nb_buf out;
} probe;

/* What the conversation renders to; empty when it does not. */
static nb_str render(probe *p, const nb_chat_message *messages, size_t count, const char *tools, const char *variables,
                     bool generation)
{
    nb_error why;
    nb_chat_input in = {.messages = messages,
                        .count = count,
                        .tools = nb_str_of(tools ? tools : p->no_tools),
                        .variables = nb_str_of(variables),
                        .bos_token = NB_STR("<s>"),
                        .eos_token = NB_STR("</s>"),
                        .add_generation_prompt = generation};
    nb_buf_clear(&p->out);
    if (p->stop)
        return NB_STR("");
    if (nb_template_render(p->t, &in, &p->out, &why) != NB_OK) {
        p->stop = why.code == NB_ERR_LIMIT || why.code == NB_ERR_MEMORY;
        return NB_STR("");
    }
    return nb_buf_view(&p->out);
}

static bool shows(nb_str text, const char *needle) { return text.n && memmem(text.p, text.n, needle, strlen(needle)); }

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"" TOOL "\",\"description\":\"probe\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"probe_argument\":{\"type\":\"string\",\"description\":\"probe\"}},\"required\":["
    "\"probe_argument\"]}}}]";

static nb_chat_message said(const char *role, const char *content, const char *extra)
{
    return (nb_chat_message){nb_str_of(role), nb_str_of(content), nb_str_of(extra)};
}

/* ---- what shows up ---- */

static void probe_texts(probe *p, nb_template_traits *out)
{
    static const char *const parts[] = {"{\"content\":[{\"type\":\"text\",\"text\":\"" SYSTEM "\"}]}",
                                        "{\"content\":[{\"type\":\"text\",\"text\":\"" USER "\"}]}"};
    nb_chat_message m[2] = {said("system", SYSTEM, NULL), said("user", USER, NULL)};
    if (!shows(render(p, m + 1, 1, NULL, NULL, true), USER)) {
        nb_chat_message in_parts = said("user", USER, parts[1]);
        p->no_tools = "[]";
        out->empty_tools = shows(render(p, m + 1, 1, NULL, NULL, true), USER);
        p->no_tools = out->empty_tools ? "[]" : NULL;
        out->content_parts = !out->empty_tools && shows(render(p, &in_parts, 1, NULL, NULL, true), USER);
    }
    for (int i = 0; i < 2 && out->content_parts; i++)
        m[i].extra = nb_str_of(parts[i]);
    nb_str text = render(p, m, 2, NULL, NULL, true);
    out->system = shows(text, SYSTEM) && shows(text, USER);
    out->tools = shows(render(p, m + 1, 1, tools_json, NULL, true), TOOL) ||
                 shows(render(p, m, 2, tools_json, NULL, true), TOOL);
}

/* ---- calls ---- */

#define CALL(id, name, arguments)                                                                                      \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"arguments\":" arguments "}}"
#define OBJECT "{\"probe_argument\":\"probe_value\"}"
#define TEXT "\"{\\\"probe_argument\\\": \\\"probe_value\\\"}\""
#define RESULT_OF "{\"tool_call_id\":\"abcdefgh1\",\"name\":\"" TOOL "\"}"

static nb_str render_call(probe *p, const char *extra)
{
    nb_chat_message m[] = {said("user", USER, NULL), said("assistant", "", extra), said("tool", RESULT, RESULT_OF)};
    return render(p, m, 3, tools_json, NULL, true);
}

/* The arguments as they were meant: neither Python's repr of an object nor a string's escapes. */
static bool shows_call(nb_str text)
{
    return shows(text, TOOL) && shows(text, "probe_value") && !shows(text, "'probe_argument'") &&
           !shows(text, "\\\"probe_argument");
}

static void probe_calls(probe *p, nb_template_traits *out)
{
    static const struct {
        const char *extra;
        bool text, null;
    } forms[] = {
        {"{\"tool_calls\":[" CALL("abcdefgh1", TOOL, OBJECT) "]}", false, false},
        {"{\"content\":null,\"tool_calls\":[" CALL("abcdefgh1", TOOL, OBJECT) "]}", false, true},
        {"{\"tool_calls\":[" CALL("abcdefgh1", TOOL, TEXT) "]}", true, false},
        {"{\"content\":null,\"tool_calls\":[" CALL("abcdefgh1", TOOL, TEXT) "]}", true, true},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !out->tool_calls; i++) {
        nb_str text = render_call(p, forms[i].extra);
        out->tool_calls = shows_call(text);
        out->tool_results = out->tool_calls && shows(text, RESULT);
        out->arguments_text = out->tool_calls && forms[i].text;
        out->content_null = out->tool_calls && forms[i].null;
    }
    if (!out->tool_calls)
        return;
    const char *both[] = {
        "{\"tool_calls\":[" CALL("abcdefgh1", TOOL, OBJECT) "," CALL("abcdefgh2", OTHER, OBJECT) "]}",
        "{\"content\":null,\"tool_calls\":[" CALL("abcdefgh1", TOOL, OBJECT) "," CALL("abcdefgh2", OTHER, OBJECT) "]}",
        "{\"tool_calls\":[" CALL("abcdefgh1", TOOL, TEXT) "," CALL("abcdefgh2", OTHER, TEXT) "]}",
        "{\"content\":null,\"tool_calls\":[" CALL("abcdefgh1", TOOL, TEXT) "," CALL("abcdefgh2", OTHER, TEXT) "]}"};
    nb_str text = render_call(p, both[2 * out->arguments_text + out->content_null]);
    out->parallel_calls = shows_call(text) && shows(text, OTHER);
}

/* ---- thinking ---- */

static void probe_switch(probe *p, const nb_reply_format *f, nb_template_traits *out)
{
    static const char *const names[][3] = {
        {"enable_thinking", "{\"enable_thinking\":true}", "{\"enable_thinking\":false}"},
        {"thinking", "{\"thinking\":true}", "{\"thinking\":false}"}};
    nb_chat_message m = said("user", USER,
                             out->content_parts ? "{\"content\":[{\"type\":\"text\",\"text\":\"" USER "\"}]}" : NULL);
    out->opens_thinking = nb_reply_opened(f, render(p, &m, 1, NULL, NULL, true));
    for (size_t i = 0; i < 2 && !out->thinking_switch; i++) {
        nb_buf on = {0};
        nb_buf_str(&on, render(p, &m, 1, NULL, names[i][1], true));
        nb_str off = render(p, &m, 1, NULL, names[i][2], true);
        if (on.len && off.n && !nb_str_eq(nb_buf_view(&on), off)) {
            out->thinking_switch = true;
            out->switch_name = names[i][0];
        }
        nb_buf_free(&on);
    }
}

/* Earlier thinking shows up behind the last question only, in most templates: as a last reply, or with a call. */
static void probe_thoughts(probe *p, nb_template_traits *out)
{
    static const struct {
        const char *key, *alone, *with_call;
    } forms[] = {
#define FORM(key)                                                                                                      \
    {key, "{\"" key "\":\"" THOUGHT "\"}",                                                                             \
     "{\"" key "\":\"" THOUGHT "\",\"tool_calls\":[" CALL("abcdefgh1", TOOL, OBJECT) "]}"}
        FORM("reasoning_content"), FORM("thinking"), FORM("reasoning")
#undef FORM
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !out->thinking_key; i++) {
        nb_chat_message m[] = {said("user", USER, NULL), said("assistant", "probe-reply", forms[i].alone)};
        if (shows(render(p, m, 2, NULL, NULL, false), THOUGHT) || shows(render_call(p, forms[i].with_call), THOUGHT))
            out->thinking_key = forms[i].key;
    }
}

/* ---- all of it ---- */

void nb_template_probe(const nb_template *t, nb_str source, nb_template_traits *out)
{
    probe p = {.t = t};
    nb_reply_format f = nb_reply_detect(source);
    *out = (nb_template_traits){.thinking = f.think != NB_THINK_NONE || f.harmony};
    probe_texts(&p, out);
    probe_calls(&p, out);
    probe_switch(&p, &f, out);
    probe_thoughts(&p, out);
    nb_buf_free(&p.out);
}

void nb_template_probe_source(nb_str source, nb_template_traits *out)
{
    nb_template *t;
    *out = (nb_template_traits){0};
    if (nb_template_compile(source, &t, NULL) != NB_OK)
        return;
    nb_template_probe(t, source, out);
    nb_template_free(t);
}

/* ---- Go ---- */

static bool word_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* ".Field" in the text of one action, outside its strings */
static bool action_mentions(nb_str action, nb_str field)
{
    char quote = 0;
    for (size_t i = 0; i < action.n; i++) {
        char c = action.p[i];
        if (quote) {
            if (c == '\\' && quote == '"')
                i++;
            else if (c == quote)
                quote = 0;
        } else if (c == '"' || c == '`' || c == '\'') {
            quote = c;
        } else if (c == '.' && action.n - i - 1 >= field.n && memcmp(action.p + i + 1, field.p, field.n) == 0 &&
                   (i + 1 + field.n == action.n || !word_char(action.p[i + 1 + field.n]))) {
            return true;
        }
    }
    return false;
}

bool nb_go_mentions(nb_str source, const char *field)
{
    nb_str rest = source;
    for (;;) {
        const char *open = rest.n ? memmem(rest.p, rest.n, "{{", 2) : NULL;
        if (!open)
            return false;
        rest = (nb_str){open + 2, rest.n - (size_t)(open + 2 - rest.p)};
        const char *close = memmem(rest.p, rest.n, "}}", 2);
        nb_str action = {rest.p, close ? (size_t)(close - rest.p) : rest.n};
        if (!(action.n >= 2 && action.p[0] == '/' && action.p[1] == '*') && action_mentions(action, nb_str_of(field)))
            return true;
        if (!close)
            return false;
        rest = (nb_str){close + 2, rest.n - action.n - 2};
    }
}

void nb_template_probe_go(nb_str source, nb_template_traits *out)
{
    nb_reply_format f = nb_reply_detect(source);
    *out = (nb_template_traits){.system = nb_go_mentions(source, "System") || nb_go_mentions(source, "Messages"),
                                .tools = nb_go_mentions(source, "Tools"),
                                .tool_calls = nb_go_mentions(source, "ToolCalls"),
                                .suffix = nb_go_mentions(source, "Suffix"),
                                .thinking = nb_go_mentions(source, "Thinking") || f.harmony,
                                .thinking_switch = nb_go_mentions(source, "Think")};
    out->parallel_calls = out->tool_calls;
    out->tool_results = out->tool_calls;
    out->thinking_key = nb_go_mentions(source, "Thinking") ? "thinking" : NULL;
}

/* ---- earlier messages ---- */

static nb_status put_arguments(nb_json *j, bool text, nb_str arguments, nb_error *err)
{
    nb_arena arena = {0};
    nb_json_reader r = nb_json_read_begin("arguments of a call", arguments, &arena, err);
    if (nb_json_read_peek(&r) != '{')
        nb_json_read_fail(&r, r.at, NB_ERR_ARGUMENT, "they are no JSON object");
    nb_json_read_skip(&r);
    nb_status status = nb_json_read_end(&r);
    nb_arena_free(&arena);
    if (status != NB_OK)
        return status == NB_ERR_FORMAT ? nb_fail_prefix(err, NB_ERR_ARGUMENT, "tool_calls") : status;
    if (text) {
        nb_json_str(j, arguments);
    } else {
        nb_json_null(j); /* commas are the writer's; the object stands as it is */
        if (j->out->len >= 4)
            j->out->len -= 4;
        nb_buf_str(j->out, arguments);
    }
    return NB_OK;
}

static nb_status put_call(nb_json *j, const nb_template_traits *traits, const nb_past_call *call, nb_error *err)
{
    nb_json_open(j, '{');
    nb_json_key(j, "id");
    nb_json_str(j, call->id);
    nb_json_put_z(j, "type", "function");
    nb_json_key(j, "function");
    nb_json_open(j, '{');
    nb_json_key(j, "name");
    nb_json_str(j, call->name);
    nb_json_key(j, "arguments");
    NB_TRY(put_arguments(j, traits->arguments_text, call->arguments.n ? call->arguments : NB_STR("{}"), err));
    nb_json_close(j, '}');
    nb_json_close(j, '}');
    return NB_OK;
}

static void put_content(nb_json *j, const nb_template_traits *traits, nb_str content, bool calls)
{
    if (content.n == 0 && calls && traits->content_null) {
        nb_json_key(j, "content");
        nb_json_null(j);
    } else if (traits->content_parts) {
        nb_json_key(j, "content");
        nb_json_open(j, '[');
        nb_json_open(j, '{');
        nb_json_put_z(j, "type", "text");
        nb_json_key(j, "text");
        nb_json_str(j, content);
        nb_json_close(j, '}');
        nb_json_close(j, ']');
    }
}

nb_status nb_template_message_fields(const nb_template_traits *traits, nb_str content, const nb_past_call *calls,
                                     size_t count, nb_str thinking, nb_buf *out, nb_error *err)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    put_content(&j, traits, content, count != 0);
    if (count) {
        nb_json_key(&j, "tool_calls");
        nb_json_open(&j, '[');
        for (size_t i = 0; i < count; i++)
            NB_TRY(put_call(&j, traits, &calls[i], err));
        nb_json_close(&j, ']');
    }
    if (thinking.n && traits->thinking_key) {
        nb_json_key(&j, traits->thinking_key);
        nb_json_str(&j, thinking);
    }
    nb_json_close(&j, '}');
    return out->failed ? nb_fail_memory(err, "fields of a message", out->len) : NB_OK;
}
