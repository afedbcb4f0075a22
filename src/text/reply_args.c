/* reply_args.c - what a call says: the request's tools, calls as JSON objects, arguments as tags and in Python, made JSON. */
#include <stdlib.h>

#include "base/json_read.h"
#include "base/json_write.h"
#include "text/reply_internal.h"

#define TOOLS_MOST 10000

/* ---- tools ---- */

static void *grow(nb_json_reader *r, void *items, size_t count, size_t size)
{
    if (count >= TOOLS_MOST) {
        nb_json_read_fail(r, r->at, NB_ERR_LIMIT, "there are more than %d of them", TOOLS_MOST);
        return NULL;
    }
    if (count & (count - 1) || (count > 0 && count < 4))
        return items;
    void *bigger = nb_arena_array(r->arena, count ? 2 * count : 4, size);
    if (!bigger)
        nb_json_read_fail(r, r->at, NB_ERR_MEMORY, "out of memory for tools");
    else if (count)
        memcpy(bigger, items, count * size);
    return bigger;
}

/* "type": "string", or a list whose only other type is null */
static bool wants_text(nb_json_reader *r)
{
    bool text = false, other = false;
    char c = nb_json_read_peek(r);
    if (c == '"')
        return nb_str_eqz(nb_json_read_str(r), "string");
    if (c != '[') {
        nb_json_read_skip(r);
        return false;
    }
    nb_json_read_enter(r, '[');
    while (nb_json_read_more(r)) {
        if (nb_json_read_peek(r) != '"') {
            nb_json_read_skip(r);
            continue;
        }
        nb_str type = nb_json_read_str(r);
        text |= nb_str_eqz(type, "string");
        other |= !nb_str_eqz(type, "string") && !nb_str_eqz(type, "null");
    }
    return text && !other;
}

static void read_property(nb_json_reader *r, nb_tool *tool, nb_str name)
{
    nb_tool_param *list = grow(r, tool->params, tool->param_count, sizeof *list), p = {.name = name};
    if (!list)
        return;
    tool->params = list;
    if (nb_json_read_peek(r) != '{') {
        nb_json_read_skip(r);
    } else {
        nb_json_read_enter(r, '{');
        while (nb_json_read_more(r)) {
            nb_str key = nb_json_read_key(r);
            if (nb_str_eqz(key, "type"))
                p.text = wants_text(r);
            else
                nb_json_read_skip(r);
        }
    }
    list[tool->param_count++] = p;
}

static void read_schema(nb_json_reader *r, nb_tool *tool)
{
    if (nb_json_read_peek(r) != '{') {
        nb_json_read_skip(r);
        return;
    }
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        nb_str key = nb_json_read_key(r);
        if (!nb_str_eqz(key, "properties") || nb_json_read_peek(r) != '{') {
            nb_json_read_skip(r);
            continue;
        }
        nb_json_read_enter(r, '{');
        while (nb_json_read_more(r)) {
            nb_str name = nb_json_read_key(r);
            read_property(r, tool, name);
        }
    }
}

/* OpenAI's and Ollama's {"function": {...}}, or Anthropic's without */
static void read_tool(nb_json_reader *r, nb_tool *tool, int depth)
{
    if (nb_json_read_peek(r) != '{') {
        nb_json_read_skip(r);
        return;
    }
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        nb_str key = nb_json_read_key(r);
        if (nb_str_eqz(key, "name") && nb_json_read_peek(r) == '"')
            tool->name = nb_json_read_str(r);
        else if (nb_str_eqz(key, "parameters") || nb_str_eqz(key, "input_schema"))
            read_schema(r, tool);
        else if (nb_str_eqz(key, "function") && depth == 0)
            read_tool(r, tool, 1);
        else
            nb_json_read_skip(r);
    }
}

nb_status nb_tools_read(nb_str json, nb_arena *arena, nb_tools *out, nb_error *err)
{
    *out = (nb_tools){0};
    char *copy = nb_arena_strdup(arena, json); /* names point into it */
    if (!copy)
        return nb_fail_memory(err, "tools", json.n);
    nb_json_reader r = nb_json_read_begin("tools", (nb_str){copy, json.n}, arena, err);
    nb_json_read_enter(&r, '[');
    while (nb_json_read_more(&r)) {
        nb_tool *list = grow(&r, out->items, out->count, sizeof *list), tool = {.name = NB_STR("")};
        if (!list)
            break;
        out->items = list;
        read_tool(&r, &tool, 0);
        if (tool.name.n)
            list[out->count++] = tool;
    }
    return nb_json_read_end(&r);
}

const nb_tool *nb_tools_find(const nb_tools *t, nb_str name)
{
    for (size_t i = 0; i < t->count; i++)
        if (nb_str_eq(t->items[i].name, name))
            return &t->items[i];
    return NULL;
}

/* ---- a call as an object ---- */

bool nb_json_is_object(nb_str json, nb_arena *arena)
{
    nb_json_reader r = nb_json_read_begin("", json, arena, NULL);
    return nb_json_read_peek(&r) == '{' && (nb_json_read_skip(&r), nb_json_read_end(&r)) == NB_OK;
}

static nb_str raw_value(nb_json_reader *r)
{
    nb_json_read_peek(r); /* white space */
    size_t from = r->at;
    nb_json_read_skip(r);
    return (nb_str){r->text.p + from, r->at - from};
}

/* Arguments as an object, or as a string that holds one. */
static void read_arguments(nb_json_reader *r, nb_call *out, bool *good)
{
    char c = nb_json_read_peek(r);
    *good &= out->arguments.n == 0; /* said once */
    if (c == '{') {
        out->arguments = raw_value(r);
    } else if (c == '"') {
        nb_str text = nb_json_read_str(r);
        *good &= nb_json_is_object(text, r->arena);
        out->arguments = text;
    } else {
        *good &= c == 'n'; /* null: none */
        nb_json_read_skip(r);
    }
}

static void read_members(nb_json_reader *r, const nb_tools *tools, nb_call *out, bool *good, int depth)
{
    static const char *const names[] = {"name", "tool_name", "tool", "function", NULL},
                             *const arguments[] = {"arguments", "parameters", "input", NULL},
                             *const ids[] = {"id", "tool_call_id", "call_id", NULL};
    const nb_tool *tool;
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        nb_str key = nb_json_read_key(r);
        char c = nb_json_read_peek(r);
        if (c == '"' && nb_str_one_of(key, names)) {
            *good &= out->tool == NULL; /* said once, too */
            out->tool = nb_tools_find(tools, nb_json_read_str(r));
            *good &= out->tool != NULL;
        } else if (c == '"' && nb_str_one_of(key, ids)) {
            out->id = nb_json_read_str(r);
        } else if (nb_str_one_of(key, arguments)) {
            read_arguments(r, out, good);
        } else if (c == '{' && nb_str_eqz(key, "function") && depth == 0) {
            read_members(r, tools, out, good, 1);
        } else if (c == '{' && !out->tool && (tool = nb_tools_find(tools, key))) { /* {"get_weather": {...}} */
            out->tool = tool;
            out->arguments = raw_value(r);
        } else {
            nb_json_read_skip(r);
        }
    }
}

bool nb_call_from_object(const nb_tools *tools, nb_str json, nb_arena *arena, nb_call *out)
{
    bool good = true;
    *out = (nb_call){.id = NB_STR(""), .arguments = NB_STR("")};
    nb_json_reader r = nb_json_read_begin("", json, arena, NULL);
    read_members(&r, tools, out, &good, 0);
    if (out->arguments.n == 0)
        out->arguments = NB_STR("{}");
    return nb_json_read_end(&r) == NB_OK && good && out->tool;
}

/* ---- arguments as tags ---- */

static nb_str without_newlines(nb_str s)
{
    if (s.n && s.p[0] == '\n')
        s.p++, s.n--;
    if (s.n && s.p[s.n - 1] == '\n')
        s.n--;
    return s;
}

static bool is_json(nb_str s)
{
    nb_arena arena = {0};
    nb_json_reader r = nb_json_read_begin("", s, &arena, NULL);
    bool good = nb_json_read_peek(&r) != 0;
    nb_json_read_skip(&r);
    good &= nb_json_read_end(&r) == NB_OK;
    nb_arena_free(&arena);
    return good;
}

/* As JSON where the schema wants no string and it is some; else a string. */
static void put_value(nb_json *j, const nb_tool *tool, nb_str key, nb_str value, bool text)
{
    for (size_t i = 0; i < tool->param_count; i++)
        if (nb_str_eq(tool->params[i].name, key))
            text |= tool->params[i].text;
    nb_json_key_str(j, key);
    if (!text && nb_str_eqz(value, "True"))
        nb_json_bool(j, true);
    else if (!text && nb_str_eqz(value, "False"))
        nb_json_bool(j, false);
    else if (!text && nb_str_eqz(value, "None"))
        nb_json_null(j);
    else if (!text && is_json(value)) {
        nb_json_null(j); /* the writer's commas; its null gives way to the value as it stands */
        j->out->len -= 4;
        nb_buf_str(j->out, value);
    } else
        nb_json_str(j, value);
}

static bool cut(nb_str *s, const char *mark, nb_str *before)
{
    size_t n = strlen(mark);
    for (size_t i = 0; i + n <= s->n; i++)
        if (memcmp(s->p + i, mark, n) == 0) {
            *before = (nb_str){s->p, i};
            *s = (nb_str){s->p + i + n, s->n - i - n};
            return true;
        }
    return false;
}

static void skip_space(nb_str *s)
{
    while (s->n && nb_reply_space(s->p[0]))
        s->p++, s->n--;
}

static bool take(nb_str *s, const char *mark)
{
    size_t n = strlen(mark);
    if (s->n < n || memcmp(s->p, mark, n) != 0)
        return false;
    *s = (nb_str){s->p + n, s->n - n};
    return true;
}

/* One argument at the beginning of s; *text: it says itself that it is a string. */
static bool take_argument(nb_str *s, nb_str *key, nb_str *value, bool *text)
{
    nb_str said;
    *text = false;
    if (take(s, "<｜DSML｜parameter name=\"")) {
        bool good = cut(s, "\" string=\"", key) && cut(s, "\">", &said) && cut(s, "</｜DSML｜parameter>", value);
        *text = good && nb_str_eqz(said, "true");
        return good;
    }
    if (take(s, "<parameter=")) {
        if (!cut(s, ">", key) || !cut(s, "</parameter>", value))
            return false;
        *value = without_newlines(*value);
        return true;
    }
    if (take(s, "<parameter name=\""))
        return cut(s, "\">", key) && cut(s, "</parameter>", value);
    if (!take(s, "<arg_key>") || !cut(s, "</arg_key>", key))
        return false;
    skip_space(s);
    return take(s, "<arg_value>") && cut(s, "</arg_value>", value);
}

bool nb_call_from_tags(const nb_tool *tool, nb_str text, nb_buf *json)
{
    nb_json j = nb_json_begin(json, false);
    nb_str key, value;
    bool is_text;
    nb_json_open(&j, '{');
    for (skip_space(&text); text.n; skip_space(&text)) {
        if (!take_argument(&text, &key, &value, &is_text))
            return false;
        put_value(&j, tool, key, value, is_text);
    }
    nb_json_close(&j, '}');
    return true;
}

/* ---- arguments in Python ---- */

enum { DEEPEST = 32 };

static bool python_value(nb_str *s, nb_json *j, int depth);

static int hex_value(nb_str s, size_t n)
{
    int v = 0;
    for (size_t i = 0; i < n; i++) {
        char c = i < s.n ? s.p[i] : 0;
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static bool python_escape(nb_str *s, nb_buf *out)
{
    static const char from[] = "nrtbf0\\'\"", to[] = "\n\r\t\b\f\0\\'\"";
    char c = s->n ? s->p[0] : 0;
    const char *at = c ? strchr(from, c) : NULL;
    size_t digits = c == 'u' ? 4 : c == 'x' ? 2 : 0;
    if (at) {
        nb_buf_char(out, to[at - from]);
    } else if (digits) {
        int v = hex_value((nb_str){s->p + 1, s->n - 1}, digits);
        if (v < 0 || (v >= 0xd800 && v <= 0xdfff))
            return false;
        nb_buf_utf8(out, (uint32_t)v);
        s->p += digits;
        s->n -= digits;
    } else {
        nb_buf_char(out, '\\'); /* as Python has it: both stay */
        return s->n > 0;
    }
    s->p++, s->n--;
    return true;
}

static bool python_string(nb_str *s, nb_buf *out)
{
    char quote = s->p[0];
    s->p++, s->n--;
    while (s->n && s->p[0] != quote) {
        char c = s->p[0];
        if (c != '\\')
            nb_buf_char(out, c);
        s->p++, s->n--;
        if (c == '\\' && !python_escape(s, out))
            return false;
    }
    if (!s->n)
        return false;
    s->p++, s->n--;
    return true;
}

static bool python_word(nb_str *s, nb_json *j)
{
    size_t n = 0;
    while (n < s->n && !nb_reply_space(s->p[n]) && !strchr(",)]}:", s->p[n]))
        n++;
    nb_str word = {s->p, n};
    *s = (nb_str){s->p + n, s->n - n};
    if (nb_str_eqz(word, "True") || nb_str_eqz(word, "true"))
        nb_json_bool(j, true);
    else if (nb_str_eqz(word, "False") || nb_str_eqz(word, "false"))
        nb_json_bool(j, false);
    else if (nb_str_eqz(word, "None") || nb_str_eqz(word, "null"))
        nb_json_null(j);
    else if (is_json(word) && n && word.p[0] != '"') {
        nb_json_null(j);
        j->out->len -= 4;
        nb_buf_str(j->out, word);
    } else
        return false;
    return true;
}

/* The text of s, a string, is a key. */
static bool python_key(nb_str *s, nb_json *j)
{
    nb_buf text = {0};
    bool good = s->n && (s->p[0] == '"' || s->p[0] == '\'') && python_string(s, &text);
    if (good)
        nb_json_key_str(j, nb_buf_view(&text));
    j->out->failed |= text.failed;
    nb_buf_free(&text);
    skip_space(s);
    return good && take(s, ":");
}

static bool python_items(nb_str *s, nb_json *j, char close, int depth)
{
    char json_close = close == ')' ? ']' : close;
    nb_json_open(j, json_close == ']' ? '[' : '{');
    s->p++, s->n--;
    for (skip_space(s); s->n && s->p[0] != close; skip_space(s)) {
        if ((json_close == '}' && !python_key(s, j)) || !python_value(s, j, depth + 1))
            return false;
        skip_space(s);
        if (!take(s, ",") && (!s->n || s->p[0] != close))
            return false;
    }
    if (!s->n)
        return false;
    s->p++, s->n--;
    nb_json_close(j, json_close);
    return true;
}

static bool python_value(nb_str *s, nb_json *j, int depth)
{
    skip_space(s);
    if (!s->n || depth > DEEPEST)
        return false;
    char c = s->p[0];
    if (c == '"' || c == '\'') {
        nb_buf text = {0};
        bool good = python_string(s, &text);
        if (good)
            nb_json_str(j, nb_buf_view(&text));
        j->out->failed |= text.failed;
        nb_buf_free(&text);
        return good;
    }
    if (c == '[' || c == '(' || c == '{')
        return python_items(s, j, c == '[' ? ']' : c == '(' ? ')' : '}', depth);
    return python_word(s, j);
}

bool nb_call_from_python(nb_str text, nb_buf *json)
{
    nb_json j = nb_json_begin(json, false);
    nb_str key;
    nb_json_open(&j, '{');
    for (skip_space(&text); text.n; skip_space(&text)) {
        if (!cut(&text, "=", &key))
            return false;
        while (key.n && nb_reply_space(key.p[key.n - 1]))
            key.n--;
        for (size_t i = 0; i < key.n; i++)
            if (strchr("(){}[],'\"", key.p[i]) || nb_reply_space(key.p[i]))
                return false;
        if (!key.n)
            return false;
        nb_json_key_str(&j, key);
        if (!python_value(&text, &j, 0))
            return false;
        skip_space(&text);
        if (text.n && !take(&text, ","))
            return false;
    }
    nb_json_close(&j, '}');
    return true;
}
