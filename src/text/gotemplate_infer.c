/* What the tree of a template tells without running it: which names it uses, where the prompt ends, what is written around
 * tool calls and thinking. The rules are Ollama's. */
#include <ctype.h>

#include "text/gotemplate_node.h"
#include "text/jinja_text.h"

static bool has_name(const nb_go_node *n, const char *name)
{
    for (size_t i = 0; i < n->name_count; i++)
        if (nb_str_eqz(n->names[i], name))
            return true;
    return false;
}

/* ---- names ---- */

static bool same_name(nb_str a, const char *name)
{
    size_t i = 0;
    while (i < a.n && name[i] && tolower((unsigned char)a.p[i]) == tolower((unsigned char)name[i]))
        i++;
    return i == a.n && !name[i];
}

/* Fields behind parentheses, (index .Messages 0).Role, do not count, nor does what is in such parentheses. */
static bool uses(const nb_go_node *n, const char *name)
{
    if (!n)
        return false;
    if (n->kind == NB_GO_FIELD || n->kind == NB_GO_VARIABLE)
        for (size_t i = 0; i < n->name_count; i++)
            if (same_name(n->names[i], name))
                return true;
    if (n->kind == NB_GO_CHAIN)
        return false;
    for (size_t i = 0; i < n->item_count; i++)
        if (uses(n->items[i], name))
            return true;
    return uses(n->pipe, name) || uses(n->list, name) || uses(n->else_list, name);
}

bool nb_gotemplate_uses(const nb_gotemplate *t, const char *name)
{
    bool found = t->turn != t->root && same_name(NB_STR("response"), name);
    for (size_t i = 0; i < t->tree_count && !found; i++)
        found = uses(t->trees[i].root, name);
    return found;
}

/* ---- the end of the prompt ---- */

typedef struct cutter {
    nb_arena *arena;
    bool cut; /* .Response has been met: nothing behind it stays */
    bool failed;
} cutter;

static nb_go_node *copied(cutter *c, const nb_go_node *n)
{
    nb_go_node *copy = NB_NEW(c->arena, nb_go_node);
    if (copy)
        *copy = *n;
    c->failed |= !copy;
    return copy;
}

static nb_go_node *up_to_response(cutter *c, nb_go_node *n);

/* A copy with what stays of its items, which may be none. */
static nb_go_node *with_items(cutter *c, const nb_go_node *n)
{
    nb_go_node *copy = copied(c, n);
    nb_go_node **items = NB_ARRAY(c->arena, nb_go_node *, n->item_count + 1);
    if (!copy || !items) {
        c->failed = true;
        return NULL;
    }
    copy->items = items;
    copy->item_count = 0;
    for (size_t i = 0; i < n->item_count && !c->failed; i++) {
        items[copy->item_count] = up_to_response(c, n->items[i]);
        copy->item_count += items[copy->item_count] != NULL;
    }
    return copy;
}

static nb_go_node *branch(cutter *c, const nb_go_node *n)
{
    nb_go_node *copy = copied(c, n);
    if (!copy)
        return NULL;
    copy->list = up_to_response(c, n->list);
    copy->else_list = n->else_list ? up_to_response(c, n->else_list) : NULL;
    return copy;
}

static nb_go_node *action(cutter *c, const nb_go_node *n)
{
    nb_go_node *copy = copied(c, n);
    if (!copy)
        return NULL;
    copy->pipe = up_to_response(c, n->pipe);
    return copy->pipe ? copy : NULL;
}

/* A pipeline with a command that lost all its operands goes as a whole. */
static nb_go_node *pipeline(cutter *c, const nb_go_node *n)
{
    nb_go_node *copy = with_items(c, n);
    return copy && copy->item_count == n->item_count && n->item_count ? copy : NULL;
}

static nb_go_node *command(cutter *c, const nb_go_node *n)
{
    nb_go_node *copy = with_items(c, n);
    return copy && copy->item_count ? copy : NULL;
}

/* What is rendered of n: all up to .Response, which is empty then; NULL: nothing. */
static nb_go_node *up_to_response(cutter *c, nb_go_node *n)
{
    if (n->kind == NB_GO_FIELD && has_name(n, "Response")) {
        c->cut = true;
        return n;
    }
    if (c->cut && n->kind != NB_GO_COMMAND) /* a command is gone when its operands are */
        return NULL;
    switch (n->kind) {
    case NB_GO_LIST: return with_items(c, n);
    case NB_GO_IF:
    case NB_GO_WITH:
    case NB_GO_RANGE: return branch(c, n);
    case NB_GO_ACTION: return action(c, n);
    case NB_GO_PIPE: return pipeline(c, n);
    case NB_GO_COMMAND: return command(c, n);
    default: return n;
    }
}

/* {{ .Response }} */
static nb_go_node *response_action(nb_arena *a)
{
    static nb_str name = {"Response", 8};
    static const nb_go_node_kind kinds[] = {NB_GO_FIELD, NB_GO_COMMAND, NB_GO_PIPE, NB_GO_ACTION};
    nb_go_node *n[4];
    for (int i = 0; i < 4; i++) {
        nb_go_node **item = NB_ARRAY(a, nb_go_node *, 1);
        if (!(n[i] = NB_NEW(a, nb_go_node)) || !item)
            return NULL;
        *n[i] = (nb_go_node){.kind = kinds[i], .source = NB_STR(".Response"), .line = 1};
        if (i == 1 || i == 2) {
            *item = n[i - 1];
            n[i]->items = item;
            n[i]->item_count = 1;
        }
    }
    n[0]->names = &name;
    n[0]->name_count = 1;
    n[3]->pipe = n[2];
    return n[3];
}

static nb_go_node *with_response(nb_arena *a, const nb_go_node *root)
{
    nb_go_node *copy = NB_NEW(a, nb_go_node), *response = response_action(a);
    nb_go_node **items = NB_ARRAY(a, nb_go_node *, root->item_count + 1);
    if (!copy || !response || !items)
        return NULL;
    *copy = *root;
    copy->items = items;
    if (root->item_count)
        memcpy(items, root->items, root->item_count * sizeof *items);
    items[copy->item_count++] = response;
    return copy;
}

/* ---- tool calls ---- */

/* The text without the white space around it. */
static nb_str trimmed(nb_str s)
{
    while (s.n && isspace((unsigned char)s.p[0]))
        s.p++, s.n--;
    while (s.n && isspace((unsigned char)s.p[s.n - 1]))
        s.n--;
    return s;
}

static bool asks_for(const nb_go_node *pipe, const char *name)
{
    for (size_t i = 0; i < pipe->item_count; i++)
        for (size_t j = 0; j < pipe->items[i]->item_count; j++) {
            const nb_go_node *arg = pipe->items[i]->items[j];
            if (arg->kind == NB_GO_FIELD && has_name(arg, name))
                return true;
        }
    return false;
}

/* The first {{if}} that asks for .ToolCalls. */
static const nb_go_node *tool_call_node(const nb_go_node *list)
{
    const nb_go_node *found = NULL;
    for (size_t i = 0; list && i < list->item_count && !found; i++) {
        const nb_go_node *n = list->items[i];
        if (n->kind == NB_GO_IF && asks_for(n->pipe, "ToolCalls"))
            return n;
        if (n->kind == NB_GO_IF || n->kind == NB_GO_WITH || n->kind == NB_GO_RANGE)
            found = tool_call_node(n->list);
        if (!found && n->else_list)
            found = tool_call_node(n->else_list);
    }
    return found;
}

/* The first text that is not blank; none behind an action or a branch without one. */
static const nb_go_node *text_node(const nb_go_node *list)
{
    const nb_go_node *found = NULL;
    for (size_t i = 0; list && i < list->item_count; i++) {
        const nb_go_node *n = list->items[i];
        if (n->kind == NB_GO_TEXT && trimmed(n->text).n)
            return n;
        if (n->kind == NB_GO_ACTION)
            return NULL;
        if (n->kind == NB_GO_IF || n->kind == NB_GO_WITH || n->kind == NB_GO_RANGE) {
            found = text_node(n->list);
            return found ? found : text_node(n->else_list);
        }
    }
    return NULL;
}

/* Of the text up to a brace; lines end in \n. */
static nb_status infer_tool_prefix(nb_gotemplate *t, nb_error *err)
{
    const nb_go_node *calls = tool_call_node(t->root), *text = calls ? text_node(calls->list) : NULL;
    nb_str s = text ? text->text : NB_STR("");
    const char *brace = s.n ? memchr(s.p, '{', s.n) : NULL;
    s.n = brace ? (size_t)(brace - s.p) : s.n;
    s = trimmed(s);
    t->tool_prefix = s.n ? s : NB_STR("{");
    if (!s.n || nb_jfind(s, NB_STR("\r\n"), 0) == SIZE_MAX)
        return NB_OK;
    char *to = nb_arena_strdup(&t->arena, s);
    if (!to)
        return nb_fail_memory(err, "template", s.n);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\r' || i + 1 == s.n || s.p[i + 1] != '\n')
            to[n++] = s.p[i];
    t->tool_prefix = (nb_str){to, n};
    return NB_OK;
}

/* ---- thinking ---- */

static bool mentions(const nb_go_node *n, const char *first)
{
    if (n->kind == NB_GO_FIELD)
        return nb_str_eqz(n->names[0], first);
    for (size_t i = 0; i < n->item_count && n->kind != NB_GO_CHAIN; i++)
        if (mentions(n->items[i], first))
            return true;
    return false;
}

/* The text at the beginning and the end of the list around .Thinking, in a range over .Messages; the last one counts. */
static void find_thinking(nb_gotemplate *t, const nb_go_node *n, const nb_go_node *list, const nb_go_node *range)
{
    if (!n || n->kind == NB_GO_CHAIN)
        return;
    if (n->kind == NB_GO_FIELD && nb_str_eqz(n->names[0], "Thinking") && range && mentions(range->pipe, "Messages")) {
        const nb_go_node *first = list->items[0], *last = list->items[list->item_count - 1];
        if (first->kind == NB_GO_TEXT)
            t->thinking_open = trimmed(first->text);
        if (last->kind == NB_GO_TEXT)
            t->thinking_close = trimmed(last->text);
    }
    if (n->kind == NB_GO_LIST)
        list = n;
    if (n->kind == NB_GO_RANGE)
        range = n;
    find_thinking(t, n->pipe, list, range);
    for (size_t i = 0; i < n->item_count; i++)
        find_thinking(t, n->items[i], list, range);
    find_thinking(t, n->list, list, range);
    find_thinking(t, n->else_list, list, range);
}

nb_str nb_gotemplate_tool_prefix(const nb_gotemplate *t) { return t->tool_prefix; }

bool nb_gotemplate_thinking_tags(const nb_gotemplate *t, nb_str *open, nb_str *close)
{
    *open = t->thinking_open;
    *close = t->thinking_close;
    return open->n && close->n;
}

nb_status nb_go_infer(nb_gotemplate *t, nb_error *err)
{
    t->turn = t->root;
    t->thinking_open = t->thinking_close = NB_STR("");
    t->uses_messages = nb_gotemplate_uses(t, "messages");
    if (!t->uses_messages) {
        cutter c = {.arena = &t->arena};
        if (!nb_gotemplate_uses(t, "response"))
            t->turn = with_response(&t->arena, t->root);
        t->prompt = t->turn ? up_to_response(&c, t->turn) : NULL;
        if (!t->prompt || c.failed)
            return nb_fail_memory(err, "template", t->arena.limit);
    }
    find_thinking(t, t->root, NULL, NULL);
    return infer_tool_prefix(t, err);
}
