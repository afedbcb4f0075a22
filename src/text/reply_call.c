/* reply_call.c - reads one call behind its opening tag, and what may stand between calls. Nothing leaves before the call is
 * known to be one; then all of it does at once. */
#include "text/reply_internal.h"

#define NAME_MOST 300 /* bytes of a name with what surrounds it */

void nb_reply_begin_call(nb_reply *r, const nb_call_row *row, size_t open, size_t at)
{
    r->call = (nb_call_reading){.row = row, .open = open, .at = at, .name_end = row->name_end};
    nb_arena_free(&r->scratch);
    r->scratch = (nb_arena){0};
    r->state = NB_AT_CALL;
}

/* It was no call: its opening is content, and what follows is looked at anew. */
static nb_step give_up(nb_reply *r)
{
    if (r->call.announced)
        nb_reply_void_call(r, 0);
    r->state = NB_AT_SAID;
    r->fresh = false;
    r->eating = false;
    r->scanned = 0;
    nb_reply_leave(r, NB_REPLY_CONTENT, r->call.open);
    return NB_ON;
}

static nb_step wait_or_give_up(nb_reply *r) { return r->over ? give_up(r) : NB_WAIT; }

/* The first n bytes are a call of `tool`. */
static nb_step complete(nb_reply *r, const nb_tool *tool, nb_str id, nb_str arguments, size_t n)
{
    nb_call_reading *c = &r->call;
    if (!c->announced) {
        nb_reply_announce(r, tool, id);
        nb_reply_arguments(r, arguments);
    }
    nb_reply_end_call(r, n);
    c->open = 0;
    c->at = 0;
    c->announced = false;
    c->sent = 0;
    c->prefix = (nb_json_prefix){0};
    c->tool = c->seen = NULL;
    r->state = NB_AFTER_CALL;
    return NB_ON;
}

/* ---- JSON ---- */

static bool name_start(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'; }

/* Hands out the arguments up to where they are read. The call is announced as soon as its name and where its arguments
 * begin are known, and what is read of a broken one is handed out before it is given up: so pieces make no difference. */
static void stream_arguments(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    size_t to = c->whole && c->args_end ? c->args_end : c->at;
    if (!r->stream || (!c->announced && (!c->seen || (c->whole && !c->args_at))))
        return;
    if (!c->announced) {
        nb_reply_announce(r, c->seen, (nb_str){r->text + c->id_at, c->id_n});
        c->announced = true;
        c->tool = c->seen;
        c->sent = c->args_at;
    }
    if (to > c->sent)
        nb_reply_arguments(r, nb_json_prefix_of(&c->prefix, (nb_str){r->text + c->sent, to - c->sent}));
    c->sent = nb_max_size(c->sent, to);
}

static nb_step begin_object(nb_reply *r, bool whole)
{
    nb_call_reading *c = &r->call;
    c->phase = NB_CALL_JSON_OBJECT;
    c->begin = c->at;
    c->whole = whole;
    c->depth = 0;
    c->in_string = c->escaped = c->wants_key = false;
    c->key_n = 0;
    c->args_at = c->args_end = whole ? 0 : c->begin;
    c->seen = whole ? NULL : c->tool;
    stream_arguments(r);
    return NB_ON;
}

static bool key_is(const nb_reply *r, const char *word)
{
    return nb_str_eqz((nb_str){r->text + r->call.key_at, r->call.key_n}, word);
}

/* A key that no call has says at once that this is other JSON. */
static bool key_of_call(const nb_reply *r)
{
    static const char *const keys[] = {"name",         "arguments", "parameters", "tool_name", "id",    "type",
                                       "tool_call_id", "function",  "call_id",    "index",     "input", "tool"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (key_is(r, keys[i]))
            return true;
    return nb_tools_find(&r->tools, (nb_str){r->text + r->call.key_at, r->call.key_n}) != NULL;
}

/* A string at the first level ends before r->call.at: a key, or perhaps the name. False: this is no call. */
static bool end_of_string(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    nb_str s = {r->text + c->string_at, c->at - c->string_at};
    bool is_key = c->wants_key && c->depth == 1;
    c->wants_key &= c->depth != 1;
    if (c->depth != 1 || !c->whole)
        return true;
    if (is_key) {
        c->key_at = c->string_at;
        c->key_n = s.n;
        return key_of_call(r);
    }
    if ((key_is(r, "name") || key_is(r, "tool_name")) && !memchr(s.p, '\\', s.n)) {
        c->seen = nb_tools_find(&r->tools, s);
        stream_arguments(r);
        return c->seen != NULL;
    }
    return true;
}

static void begin_arguments(nb_reply *r)
{
    r->call.args_at = r->call.at;
    stream_arguments(r);
}

/* One byte outside strings. False: no call. */
static bool structure(nb_reply *r, char ch)
{
    nb_call_reading *c = &r->call;
    if (ch == '"') {
        c->in_string = true;
        c->string_at = c->at + 1;
    } else if (ch == '{' || ch == '[') {
        if (c->whole && c->depth == 1 && ch == '{' && !c->args_at &&
            (key_is(r, "arguments") || key_is(r, "parameters")))
            begin_arguments(r);
        c->depth++;
        c->wants_key |= c->depth == 1;
    } else if (ch == '}' || ch == ']') {
        c->depth--;
        if (c->whole && c->depth == 1 && c->args_at && !c->args_end)
            c->args_end = c->at + 1;
    } else if (ch == ',' && c->depth == 1) {
        c->wants_key = true;
    } else if (c->wants_key && c->depth == 1 && !nb_reply_space(ch)) {
        return false;
    }
    return true;
}

static nb_step end_object(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    nb_str json = {r->text + c->begin, c->at - c->begin};
    nb_call call;
    stream_arguments(r);
    if (c->whole) {
        if (!nb_call_from_object(&r->tools, json, &r->scratch, &call) || (c->announced && call.tool != c->tool))
            return give_up(r);
        return complete(r, call.tool, call.id, call.arguments, c->at);
    }
    if (!nb_json_is_object(json, &r->scratch))
        return give_up(r);
    return complete(r, c->tool, (nb_str){r->text + c->id_at, c->id_n}, json, c->at);
}

static nb_step broken_object(nb_reply *r)
{
    stream_arguments(r);
    return give_up(r);
}

/* The reply ends within an object. One whose arguments were its last is a call all the same: small models forget the bracket.
 * One that is being handed out stays as far as it goes; any other is none. */
static nb_step unfinished_object(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    size_t at = c->args_end;
    nb_str arguments = {r->text + c->args_at, c->args_end - c->args_at};
    if (c->whole && c->seen && c->args_end && !nb_reply_skip_space(r, &at) && nb_json_is_object(arguments, &r->scratch))
        return complete(r, c->seen, (nb_str){r->text + c->id_at, c->id_n}, arguments, r->size);
    if (!c->announced)
        return give_up(r);
    nb_reply_void_call(r, r->size);
    r->state = NB_AT_SAID;
    return NB_WAIT;
}

static nb_step step_object(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    while (c->at < r->size) {
        char ch = r->text[c->at];
        if (c->escaped) {
            c->escaped = false;
        } else if (c->in_string) {
            c->escaped = ch == '\\';
            if (ch == '"') {
                c->in_string = false;
                if (!end_of_string(r))
                    return broken_object(r);
            }
        } else if (!structure(r, ch)) {
            return broken_object(r);
        }
        c->at++;
        if (c->depth == 0)
            return end_object(r);
    }
    stream_arguments(r);
    return r->over ? unfinished_object(r) : NB_WAIT;
}

/* ---- names ---- */

static nb_str trimmed(nb_str s)
{
    while (s.n && nb_reply_space(s.p[0]))
        s.p++, s.n--;
    while (s.n && nb_reply_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* "functions.get_weather:0" is get_weather; "get_weather[CALL_ID]abc" has an id. */
static const nb_tool *tool_named(nb_reply *r, nb_str name)
{
    static const char id_mark[] = "[CALL_ID]";
    const nb_tool *tool;
    name = trimmed(name);
    for (size_t i = 0; i + sizeof id_mark - 1 <= name.n; i++)
        if (memcmp(name.p + i, id_mark, sizeof id_mark - 1) == 0) {
            r->call.id_at = (size_t)(name.p - r->text) + i + sizeof id_mark - 1;
            r->call.id_n = name.n - i - (sizeof id_mark - 1);
            name.n = i;
        }
    if ((tool = nb_tools_find(&r->tools, name)))
        return tool;
    if (nb_str_starts(name, NB_STR("functions.")))
        name = (nb_str){name.p + 10, name.n - 10};
    if ((tool = nb_tools_find(&r->tools, name)))
        return tool;
    for (size_t i = name.n; i-- > 0 && ((name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == ':');)
        if (name.p[i] == ':')
            return nb_tools_find(&r->tools, (nb_str){name.p, i});
    return NULL;
}

static nb_step step_name(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    size_t part, found = nb_reply_search(r, c->at, c->name_end, &part);
    size_t end = found == SIZE_MAX ? part : found;
    const char *brace = c->row == &nb_call_rows[NB_CALL_MISTRAL] ? memchr(r->text + c->begin, '{', end - c->begin)
                                                                 : NULL;
    if (brace) { /* [ARGS] is left out by some */
        found = (size_t)(brace - r->text);
        c->name_end = NB_STR("");
    }
    if (end - c->begin > NAME_MOST)
        return give_up(r);
    if (found == SIZE_MAX) {
        c->at = part;
        return wait_or_give_up(r);
    }
    nb_str name = {r->text + c->begin, found - c->begin};
    c->at = found + c->name_end.n;
    if (c->row == &nb_call_rows[NB_CALL_DEEPSEEK] && nb_str_eqz(name, "function")) { /* the name is on this line */
        c->begin = c->at;
        c->name_end = NB_STR("\n");
        return NB_ON;
    }
    c->tool = tool_named(r, name);
    c->phase = NB_CALL_ARGS;
    return c->tool ? NB_ON : give_up(r);
}

static nb_step begin_name(nb_reply *r, nb_str name_end)
{
    r->call.phase = NB_CALL_NAME;
    r->call.begin = r->call.at;
    r->call.name_end = name_end;
    return NB_ON;
}

/* ---- ways to begin ---- */

/* ``` and a word: what follows is within. */
static nb_step step_fence(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    size_t at = c->at + 3;
    nb_match m = nb_reply_starts(r, c->at, NB_STR("```"));
    if (m == NB_MORE)
        return NB_WAIT;
    if (m == NB_NO || c->fenced)
        return give_up(r);
    while (at < r->size && name_start(r->text[at]))
        at++;
    if (at == r->size)
        return wait_or_give_up(r);
    if (at - c->at > 20)
        return give_up(r);
    c->fenced = true;
    c->at = at;
    return NB_ON;
}

static nb_step step_open(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    if (!nb_reply_skip_space(r, &c->at))
        return wait_or_give_up(r);
    char ch = r->text[c->at];
    bool list = ch == '[', any = c->row->body == NB_BODY_ANY;
    if (c->row->body == NB_BODY_NAMED && !(c->row == &nb_call_rows[NB_CALL_MISTRAL] && (list || ch == '{')))
        return begin_name(r, c->row->name_end);
    if (ch == '`')
        return step_fence(r);
    if (ch == '{')
        return begin_object(r, true);
    if (list) {
        c->list = true;
        c->at++;
        c->phase = NB_CALL_LIST;
        return NB_ON;
    }
    if (ch == '<' && any) {
        nb_match m = nb_reply_starts(r, c->at, NB_STR("<function="));
        if (m == NB_MORE)
            return NB_WAIT;
        if (m == NB_NO)
            return give_up(r);
        c->at += 10;
        return begin_name(r, NB_STR(">"));
    }
    if (name_start(ch) && any && c->row->open.n) {
        c->phase = NB_CALL_PY;
        c->begin = c->at;
        return NB_ON;
    }
    return give_up(r);
}

static nb_step step_list(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    if (!nb_reply_skip_space(r, &c->at))
        return wait_or_give_up(r);
    if (r->text[c->at] == '{')
        return begin_object(r, true);
    if (!name_start(r->text[c->at]) || c->row->body != NB_BODY_ANY)
        return give_up(r);
    c->phase = NB_CALL_PY;
    c->begin = c->at;
    return NB_ON;
}

/* ---- arguments ---- */

static nb_step step_args(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    if (!nb_reply_skip_space(r, &c->at))
        return wait_or_give_up(r);
    char ch = r->text[c->at];
    if (ch == '`')
        return step_fence(r);
    if (ch == '{')
        return begin_object(r, false);
    if (ch != '<')
        return give_up(r);
    c->phase = NB_CALL_XML;
    c->begin = c->at;
    return NB_ON;
}

/* <parameter=...> up to what ends the call */
static nb_step step_xml(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    nb_str end = c->row->body == NB_BODY_NAMED ? c->row->close : NB_STR("</function>");
    if (c->name_end.n == 0) /* GLM's: the name stood alone */
        end = c->row->close;
    size_t part, found = nb_reply_search(r, c->at, end, &part);
    if (found == SIZE_MAX) {
        c->at = part;
        return wait_or_give_up(r);
    }
    r->built.len = 0;
    if (!nb_call_from_tags(c->tool, (nb_str){r->text + c->begin, found - c->begin}, &r->built))
        return give_up(r);
    return complete(r, c->tool, NB_STR(""), nb_buf_view(&r->built), found + end.n);
}

static bool name_char(char c) { return name_start(c) || (c >= '0' && c <= '9') || c == '-' || c == '.'; }

/* A bare name: "f(a=1)" is Python's, "f" on a line of its own GLM's. */
static nb_step step_bare_name(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    while (c->at < r->size && name_char(r->text[c->at]))
        c->at++;
    if (c->at - c->begin > NAME_MOST)
        return give_up(r);
    if (c->at == r->size)
        return wait_or_give_up(r);
    c->tool = tool_named(r, (nb_str){r->text + c->begin, c->at - c->begin});
    if (!c->tool)
        return give_up(r);
    if (r->text[c->at] == '(') {
        c->args_at = c->at + 1;
        c->in_string = c->escaped = false;
        return NB_ON;
    }
    if (c->list || !c->row->close.n)
        return give_up(r);
    c->name_end = NB_STR("");
    c->phase = NB_CALL_ARGS;
    return NB_ON;
}

/* f(...) to its closing parenthesis */
static nb_step step_python(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    if (!c->args_at)
        return step_bare_name(r);
    for (; c->at < r->size; c->at++) {
        char ch = r->text[c->at];
        if (c->escaped)
            c->escaped = false;
        else if (c->in_string && ch == '\\')
            c->escaped = true;
        else if (c->in_string)
            c->in_string = ch != r->text[c->string_at];
        else if (ch == '"' || ch == '\'')
            c->in_string = true, c->string_at = c->at;
        else if (ch == '(' || ch == '[' || ch == '{')
            c->depth++;
        else if ((ch == ')' || ch == ']' || ch == '}') && --c->depth == 0)
            break;
    }
    if (c->at == r->size)
        return wait_or_give_up(r);
    r->built.len = 0;
    if (r->text[c->at] != ')' || !nb_call_from_python((nb_str){r->text + c->args_at, c->at - c->args_at}, &r->built))
        return give_up(r);
    return complete(r, c->tool, NB_STR(""), nb_buf_view(&r->built), c->at + 1);
}

nb_step nb_reply_step_call(nb_reply *r)
{
    switch (r->call.phase) {
    case NB_CALL_OPEN: return step_open(r);
    case NB_CALL_LIST: return step_list(r);
    case NB_CALL_NAME: return step_name(r);
    case NB_CALL_ARGS: return step_args(r);
    case NB_CALL_JSON_OBJECT: return step_object(r);
    case NB_CALL_XML: return step_xml(r);
    case NB_CALL_PY: return step_python(r);
    }
    return NB_WAIT;
}

/* ---- between calls ---- */

static nb_match tag_after(const nb_reply *r, size_t at, size_t *n)
{
    nb_match best = NB_NO, m;
    const nb_str tags[] = {r->call.row->close, NB_STR("</function>"), NB_STR("</tool_call>")};
    const size_t many = sizeof tags / sizeof *tags;
    for (size_t i = 0; i < many + nb_section_count; i++) {
        nb_str tag = i < many ? tags[i] : nb_section_rows[i - many].close;
        if (tag.n == 0 || (m = nb_reply_starts(r, at, tag)) == NB_NO)
            continue;
        *n = tag.n;
        if (m == NB_YES)
            return m;
        best = m;
    }
    return best;
}

static nb_step next_call(nb_reply *r, size_t at, nb_call_phase phase)
{
    bool list = r->call.list, fenced = r->call.fenced;
    nb_reply_leave(r, NB_REPLY_MARKUP, at);
    nb_reply_begin_call(r, r->call.row, 0, 0);
    r->call.list = list;
    r->call.fenced = fenced;
    r->call.phase = phase;
    return NB_ON;
}

/* Commas and brackets of a list, marks, closing tags and white space are markup; another call may follow. */
nb_step nb_reply_step_after(nb_reply *r)
{
    nb_call_reading *c = &r->call;
    size_t at = 0, n = 0;
    if (!nb_reply_skip_space(r, &at) && !r->over)
        return NB_WAIT;
    if (at == r->size) {
        nb_reply_leave(r, NB_REPLY_MARKUP, at);
        return NB_WAIT;
    }
    char ch = r->text[at];
    if (c->list && ch == ',')
        return next_call(r, at + 1, NB_CALL_LIST);
    if ((c->list && ch == ']') || (!c->list && ch == ';' && c->row->body != NB_BODY_NAMED)) {
        c->list = false;
        nb_reply_leave(r, NB_REPLY_MARKUP, at + 1);
        return NB_ON;
    }
    if (!c->list && ch == '{' && c->row->body != NB_BODY_NAMED)
        return next_call(r, at, NB_CALL_OPEN);
    nb_match m = c->fenced ? nb_reply_starts(r, at, NB_STR("```")) : NB_NO;
    n = 3;
    if (m == NB_YES)
        c->fenced = false;
    else if (m == NB_NO)
        m = tag_after(r, at, &n);
    if (m == NB_MORE)
        return NB_WAIT;
    if (m == NB_YES) {
        nb_reply_leave(r, NB_REPLY_MARKUP, at + n);
        return NB_ON;
    }
    nb_reply_leave(r, NB_REPLY_MARKUP, at);
    r->state = NB_AT_SAID;
    r->scanned = 0;
    return NB_ON;
}
