/* Go's text/template grammar by recursive descent. Spaces are tokens: they separate operands. */
#include <stdio.h>

#include "base/grown.h"
#include "text/gotemplate_lexer.h"
#include "text/gotemplate_node.h"
#include "text/gotemplate_text.h"

enum {
    LOOKAHEAD = 8,   /* tokens kept; the parser goes back three at most */
    MAX_NAMES = 1000 /* variables in scope, and templates */
};

typedef struct stack { /* of pointers or names while their number is not known */
    nb_grown memory;
    size_t count;
} stack;

typedef struct parser {
    nb_gotemplate *t;
    nb_go_lexer lexer;
    nb_go_token tokens[LOOKAHEAD];
    uint64_t at, lexed;
    const char *end; /* of the last token that was taken, spaces aside */
    nb_status status;
    nb_error *err;
    stack nodes, names, variables;
    size_t first_variable; /* of this template */
    int depth, ranges;
    uint32_t action_line;
} parser;

static bool ok(const parser *p) { return p->status == NB_OK; }

/* Go names the line of the token that was read last. */
static void *fail(parser *p, nb_status code, const char *format, ...)
{
    char text[400];
    va_list args;
    if (!ok(p))
        return NULL;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    uint32_t line = p->lexed ? p->tokens[(p->lexed - 1) % LOOKAHEAD].line : 1;
    p->status = nb_fail(p->err, code, "template line %u: %s", line, text);
    return NULL;
}

static void *fail_memory(parser *p)
{
    return fail(p, NB_ERR_MEMORY, "out of memory (%zu bytes used; the limit is %zu)", p->t->arena.used,
                p->t->arena.limit);
}

/* ---- tokens ---- */

static nb_go_token next(parser *p)
{
    if (p->at == p->lexed)
        p->tokens[p->lexed++ % LOOKAHEAD] = nb_go_lex(&p->lexer);
    nb_go_token t = p->tokens[p->at++ % LOOKAHEAD];
    if (t.kind != NB_GO_T_SPACE && t.kind != NB_GO_T_ERROR)
        p->end = t.text.p + t.text.n;
    return t;
}

static nb_go_token peek(parser *p)
{
    const char *end = p->end;
    nb_go_token t = next(p);
    p->at--;
    p->end = end;
    return t;
}

static nb_go_token next_word(parser *p) /* spaces aside */
{
    nb_go_token t = next(p);
    while (t.kind == NB_GO_T_SPACE)
        t = next(p);
    return t;
}

static nb_go_token peek_word(parser *p)
{
    while (peek(p).kind == NB_GO_T_SPACE)
        next(p);
    return peek(p);
}

static void *unexpected(parser *p, nb_go_token t, const char *context)
{
    int shown = (int)nb_min_size(t.text.n, 20);
    const char *more = t.text.n > 20 ? "..." : "";
    if (t.kind == NB_GO_T_ERROR && p->action_line && p->action_line != t.line)
        return fail(p, NB_ERR_FORMAT, "%.*s, in the action that begins on line %u", (int)t.text.n, t.text.p,
                    p->action_line);
    if (t.kind == NB_GO_T_ERROR)
        return fail(p, NB_ERR_FORMAT, "%.*s", (int)t.text.n, t.text.p);
    if (t.kind == NB_GO_T_END_OF_FILE)
        return fail(p, NB_ERR_FORMAT, "unexpected end of the template in %s", context);
    return fail(p, NB_ERR_FORMAT, "unexpected \"%.*s%s\" in %s", shown, t.text.p, more, context);
}

static bool expect_right(parser *p, const char *context)
{
    nb_go_token t = next_word(p);
    if (t.kind != NB_GO_T_RIGHT)
        unexpected(p, t, context);
    return ok(p);
}

/* ---- building ---- */

static bool push(parser *p, stack *s, const void *item, size_t size)
{
    if (!ok(p))
        return false;
    if (!nb_grown_reserve(&s->memory, s->count + 1, size)) {
        fail(p, NB_ERR_MEMORY, "out of memory");
        return false;
    }
    memcpy((char *)s->memory.p + s->count++ * size, item, size);
    return true;
}

/* What lies on the stack from `mark` on, as an array of the tree. */
static void *popped(parser *p, stack *s, size_t mark, size_t size, size_t *count)
{
    *count = s->count - mark;
    void *items = ok(p) && *count ? nb_arena_array(&p->t->arena, *count, size) : NULL;
    if (items)
        memcpy(items, (char *)s->memory.p + mark * size, *count * size);
    else if (*count)
        fail_memory(p);
    s->count = mark;
    return items;
}

static bool push_node(parser *p, nb_go_node *n) { return n && push(p, &p->nodes, &n, sizeof n); }

static void pop_nodes(parser *p, size_t mark, nb_go_node *into)
{
    into->items = popped(p, &p->nodes, mark, sizeof(nb_go_node *), &into->item_count);
}

static void pop_names(parser *p, size_t mark, nb_go_node *into)
{
    into->names = popped(p, &p->names, mark, sizeof(nb_str), &into->name_count);
}

static nb_go_node *make(parser *p, nb_go_node_kind kind, nb_go_token first)
{
    nb_go_node *n = ok(p) ? NB_NEW(&p->t->arena, nb_go_node) : NULL;
    if (!n)
        return fail_memory(p);
    n->kind = kind;
    n->line = first.line;
    n->source = first.text;
    return n;
}

/* The node's source reaches up to the last token that was taken. */
static nb_go_node *finish(parser *p, nb_go_node *n)
{
    if (ok(p) && n && p->end > n->source.p)
        n->source.n = (size_t)(p->end - n->source.p);
    return ok(p) ? n : NULL;
}

static bool enter(parser *p)
{
    if (p->depth >= NB_GO_DEPTH)
        fail(p, NB_ERR_LIMIT, "nested more than %d deep", NB_GO_DEPTH);
    else
        p->depth++;
    return ok(p);
}

static void declare(parser *p, nb_str name)
{
    if (p->variables.count - p->first_variable >= MAX_NAMES)
        fail(p, NB_ERR_LIMIT, "more than %d variables", MAX_NAMES);
    push(p, &p->variables, &name, sizeof name);
}

static bool is_declared(const parser *p, nb_str name)
{
    const nb_str *known = p->variables.memory.p;
    for (size_t i = p->variables.count; i-- > p->first_variable;)
        if (nb_str_eq(known[i], name))
            return true;
    return nb_str_eqz(name, "$");
}

/* ---- operands ---- */

static nb_go_node *pipeline(parser *p, const char *context, nb_go_token_kind end);

static nb_str unquoted(parser *p, nb_go_token t)
{
    nb_str s = {0};
    nb_status status = nb_go_unquote(&p->t->arena, t.text, &s);
    if (status == NB_ERR_MEMORY)
        fail_memory(p);
    else if (status != NB_OK)
        fail(p, NB_ERR_FORMAT, "invalid string %.*s", NB_STR_ARG(t.text));
    return s;
}

static nb_go_node *literal(parser *p, nb_go_token t)
{
    nb_go_node *n = make(p, NB_GO_LITERAL, t);
    int64_t c;
    if (!n)
        return NULL;
    if (t.kind == NB_GO_T_BOOL) {
        n->value = nb_go_bool(nb_str_eqz(t.text, "true"));
    } else if (t.kind == NB_GO_T_STRING) {
        n->value = nb_go_str(unquoted(p, t));
    } else if (t.kind == NB_GO_T_CHAR) {
        if (!nb_go_unquote_char(t.text, &c))
            return fail(p, NB_ERR_FORMAT, "malformed character constant: %.*s", NB_STR_ARG(t.text));
        n->value = nb_go_int(c);
    } else {
        const char *wrong = nb_go_parse_number(t.text, &n->value);
        if (wrong)
            return fail(p, NB_ERR_FORMAT, "%s: \"%.*s\"", wrong, NB_STR_ARG(t.text));
    }
    return ok(p) ? n : NULL;
}

static nb_go_node *call(parser *p, nb_go_token t)
{
    nb_go_node *n = make(p, NB_GO_CALL, t);
    if (!n)
        return NULL;
    n->text = t.text;
    n->function = nb_go_function_named(t.text);
    return n->function ? n : fail(p, NB_ERR_FORMAT, "function \"%.*s\" not defined", NB_STR_ARG(t.text));
}

static nb_go_node *parenthesized(parser *p)
{
    if (!enter(p))
        return NULL;
    nb_go_node *n = pipeline(p, "parenthesized pipeline", NB_GO_T_CLOSE);
    p->depth--;
    return n;
}

static nb_go_node *named(parser *p, nb_go_node_kind kind, nb_go_token t)
{
    nb_go_node *n = make(p, kind, t);
    nb_str name = kind == NB_GO_FIELD ? (nb_str){t.text.p + 1, t.text.n - 1} : t.text;
    if (kind == NB_GO_VARIABLE && !is_declared(p, name))
        return fail(p, NB_ERR_FORMAT, "undefined variable \"%.*s\"", NB_STR_ARG(name));
    push(p, &p->names, &name, sizeof name);
    return ok(p) ? n : NULL;
}

/* NULL without a failure: what comes next is no operand. The names of fields and variables stay on the stack. */
static nb_go_node *term(parser *p)
{
    const char *end = p->end;
    nb_go_token t = next_word(p);
    switch (t.kind) {
    case NB_GO_T_IDENTIFIER: return call(p, t);
    case NB_GO_T_DOT: return make(p, NB_GO_DOT, t);
    case NB_GO_T_NIL: return make(p, NB_GO_NULL, t);
    case NB_GO_T_VARIABLE: return named(p, NB_GO_VARIABLE, t);
    case NB_GO_T_FIELD: return named(p, NB_GO_FIELD, t);
    case NB_GO_T_BOOL:
    case NB_GO_T_CHAR:
    case NB_GO_T_NUMBER:
    case NB_GO_T_STRING: return literal(p, t);
    case NB_GO_T_OPEN: return parenthesized(p);
    default: break;
    }
    p->at--;
    p->end = end;
    return NULL;
}

/* A term and the fields that follow it without a space. */
static nb_go_node *operand(parser *p)
{
    size_t names = p->names.count;
    nb_go_token first = peek_word(p);
    nb_go_node *n = term(p);
    if (!n)
        return NULL;
    if (peek(p).kind == NB_GO_T_FIELD) {
        if (n->kind == NB_GO_LITERAL || n->kind == NB_GO_NULL || n->kind == NB_GO_DOT)
            return fail(p, NB_ERR_FORMAT, "unexpected . after term \"%.*s\"", NB_STR_ARG(n->source));
        if (n->kind != NB_GO_FIELD && n->kind != NB_GO_VARIABLE) {
            nb_go_node *chain = make(p, NB_GO_CHAIN, first);
            if (!chain)
                return NULL;
            chain->pipe = n;
            n = chain;
        }
    }
    while (ok(p) && peek(p).kind == NB_GO_T_FIELD) {
        nb_str field = next(p).text;
        field = (nb_str){field.p + 1, field.n - 1};
        push(p, &p->names, &field, sizeof field);
    }
    if (n->kind == NB_GO_FIELD || n->kind == NB_GO_VARIABLE || n->kind == NB_GO_CHAIN)
        pop_names(p, names, n);
    return finish(p, n);
}

/* Operands between spaces, up to a pipe, which is taken, or a delimiter, which is not. */
static nb_go_node *command(parser *p)
{
    size_t mark = p->nodes.count;
    nb_go_node *n = make(p, NB_GO_COMMAND, peek_word(p));
    while (ok(p)) {
        peek_word(p);
        nb_go_node *arg = operand(p);
        if (arg)
            push_node(p, arg);
        nb_go_token t = peek(p);
        finish(p, n);
        if (t.kind == NB_GO_T_RIGHT || t.kind == NB_GO_T_CLOSE)
            break;
        next(p);
        if (t.kind == NB_GO_T_PIPE)
            break;
        if (t.kind != NB_GO_T_SPACE)
            unexpected(p, t, "operand");
    }
    if (!ok(p))
        return NULL;
    pop_nodes(p, mark, n);
    if (ok(p) && n->item_count && n->items[0]->kind == NB_GO_CALL)
        n->items[0]->source = n->source; /* messages show the arguments too */
    return n->item_count ? n : fail(p, NB_ERR_FORMAT, "empty command");
}

/* ---- pipelines ---- */

/* The variables that a pipeline declares or sets; their names stay on the stack. */
static void declarations(parser *p, nb_go_node *pipe, const char *context)
{
    bool range = strcmp(context, "range") == 0;
    for (int n = 1; ok(p) && peek_word(p).kind == NB_GO_T_VARIABLE; n++) {
        uint64_t before = p->at;
        nb_go_token v = next(p), t = peek_word(p);
        bool comma = t.kind == NB_GO_T_OTHER && nb_str_eqz(t.text, ",");
        if (t.kind != NB_GO_T_ASSIGN && t.kind != NB_GO_T_DECLARE && !comma) {
            p->at = before; /* an operand */
            return;
        }
        next(p);
        push(p, &p->names, &v.text, sizeof v.text);
        declare(p, v.text);
        if (!comma) {
            pipe->assign = t.kind == NB_GO_T_ASSIGN;
            return;
        }
        if (!range || n == 2)
            fail(p, NB_ERR_FORMAT, "too many declarations in %s", context);
        t = peek_word(p);
        if (t.kind != NB_GO_T_VARIABLE && t.kind != NB_GO_T_RIGHT && t.kind != NB_GO_T_CLOSE)
            fail(p, NB_ERR_FORMAT, "range can only initialize variables");
    }
}

static nb_go_node *check_pipeline(parser *p, nb_go_node *pipe, const char *context)
{
    if (!ok(p))
        return NULL;
    if (pipe->item_count == 0)
        return fail(p, NB_ERR_FORMAT, "missing value for %s", context);
    for (size_t i = 1; i < pipe->item_count; i++) {
        nb_go_node_kind k = pipe->items[i]->items[0]->kind;
        if (k == NB_GO_LITERAL || k == NB_GO_DOT || k == NB_GO_NULL)
            return fail(p, NB_ERR_FORMAT, "non executable command in pipeline stage %zu", i + 1);
    }
    return pipe;
}

static nb_go_node *pipeline(parser *p, const char *context, nb_go_token_kind end)
{
    size_t nodes = p->nodes.count, names = p->names.count;
    nb_go_node *pipe = make(p, NB_GO_PIPE, peek_word(p));
    if (!pipe)
        return NULL;
    declarations(p, pipe, context);
    pop_names(p, names, pipe);
    while (ok(p)) {
        finish(p, pipe);
        nb_go_token t = next_word(p);
        if (t.kind == end)
            break;
        bool operand_begins = t.kind == NB_GO_T_BOOL || t.kind == NB_GO_T_CHAR || t.kind == NB_GO_T_DOT ||
                              t.kind == NB_GO_T_FIELD || t.kind == NB_GO_T_IDENTIFIER || t.kind == NB_GO_T_NUMBER ||
                              t.kind == NB_GO_T_NIL || t.kind == NB_GO_T_STRING || t.kind == NB_GO_T_VARIABLE ||
                              t.kind == NB_GO_T_OPEN;
        p->at--;
        if (!operand_begins)
            return unexpected(p, t, context);
        push_node(p, command(p));
    }
    if (!ok(p))
        return NULL;
    pop_nodes(p, nodes, pipe);
    return check_pipeline(p, pipe, context);
}

/* ---- actions ---- */

static nb_go_node *item_list(parser *p, nb_go_token_kind *end);

static nb_go_node *list_of(parser *p, nb_go_node *only)
{
    size_t mark = p->nodes.count;
    nb_go_node *n = only ? make(p, NB_GO_LIST, (nb_go_token){.text = only->source, .line = only->line}) : NULL;
    if (!n || !push_node(p, only))
        return NULL;
    pop_nodes(p, mark, n);
    return ok(p) ? n : NULL;
}

static nb_go_node *control(parser *p, nb_go_node_kind kind);

/* What follows {{else: another if or with of the same kind, or a list. */
static void parse_else(parser *p, nb_go_node *n)
{
    nb_go_token t = peek(p);
    nb_go_token_kind end;
    if ((n->kind == NB_GO_IF && t.kind == NB_GO_T_IF) || (n->kind == NB_GO_WITH && t.kind == NB_GO_T_WITH)) {
        next(p);
        n->else_list = list_of(p, control(p, n->kind));
        return;
    }
    n->else_list = item_list(p, &end);
    if (ok(p) && end != NB_GO_T_END)
        fail(p, NB_ERR_FORMAT, "expected end; found {{else}}");
}

/* if, with, range, whose word has been read, up to their end */
static nb_go_node *control(parser *p, nb_go_node_kind kind)
{
    size_t variables = p->variables.count;
    bool range = kind == NB_GO_RANGE;
    nb_go_token_kind end = NB_GO_T_END;
    nb_go_node *n = enter(p) ? make(p, kind, peek_word(p)) : NULL;
    if (!n)
        return NULL;
    n->pipe = pipeline(p, range ? "range" : kind == NB_GO_IF ? "if" : "with", NB_GO_T_RIGHT);
    if (!ok(p))
        return NULL;
    n->source = n->pipe->source;
    p->ranges += range;
    n->list = item_list(p, &end);
    p->ranges -= range;
    if (ok(p) && end == NB_GO_T_ELSE)
        parse_else(p, n);
    p->variables.count = variables;
    p->depth--;
    return ok(p) ? n : NULL;
}

static nb_go_node *loop_word(parser *p, nb_go_node_kind kind, nb_go_token t)
{
    const char *name = kind == NB_GO_BREAK ? "{{break}}" : "{{continue}}";
    if (!expect_right(p, name))
        return NULL;
    return p->ranges ? make(p, kind, t) : fail(p, NB_ERR_FORMAT, "%s outside {{range}}", name);
}

static nb_str template_name(parser *p, nb_go_token t, const char *context)
{
    if (t.kind == NB_GO_T_STRING)
        return unquoted(p, t);
    unexpected(p, t, context);
    return (nb_str){0};
}

static bool is_blank(nb_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!memchr(" \t\n\v\f\r", s.p[i], 6))
            return false;
    return true;
}

static bool is_empty(const nb_go_node *list)
{
    for (size_t i = 0; i < list->item_count; i++)
        if (list->items[i]->kind != NB_GO_TEXT || !is_blank(list->items[i]->text))
            return false;
    return true;
}

/* An empty template gives way to another of its name; two others are an error. */
static void add_tree(parser *p, nb_str name, nb_go_node *root)
{
    nb_gotemplate *t = p->t;
    if (!ok(p))
        return;
    for (size_t i = 0; i < t->tree_count; i++) {
        if (!nb_str_eq(t->trees[i].name, name))
            continue;
        if (is_empty(t->trees[i].root))
            t->trees[i].root = root;
        else if (!is_empty(root))
            fail(p, NB_ERR_FORMAT, "multiple definition of template \"%.*s\"", NB_STR_ARG(name));
        return;
    }
    if (t->tree_count == MAX_NAMES)
        fail(p, NB_ERR_LIMIT, "more than %d templates", MAX_NAMES);
    else
        t->trees[t->tree_count++] = (nb_go_tree){name, root};
}

/* The body of a define or block: it sees no variables and no loop of what is around it. */
static void definition(parser *p, nb_str name, const char *context)
{
    size_t variables = p->variables.count, first = p->first_variable;
    int ranges = p->ranges;
    nb_go_token_kind end = NB_GO_T_END;
    if (!enter(p))
        return;
    p->first_variable = variables;
    p->ranges = 0;
    nb_go_node *root = item_list(p, &end);
    if (ok(p) && end != NB_GO_T_END)
        fail(p, NB_ERR_FORMAT, "unexpected {{else}} in %s", context);
    add_tree(p, name, root);
    p->variables.count = variables;
    p->first_variable = first;
    p->ranges = ranges;
    p->depth--;
}

static void define(parser *p)
{
    nb_str name = template_name(p, next_word(p), "define clause");
    if (expect_right(p, "define clause"))
        definition(p, name, "define clause");
}

/* template and block, whose word has been read */
static nb_go_node *invocation(parser *p, bool block)
{
    const char *context = block ? "block clause" : "template clause";
    nb_go_token t = next_word(p);
    nb_str name = template_name(p, t, context);
    nb_go_node *n = make(p, NB_GO_INVOKE, t);
    if (!n)
        return NULL;
    n->text = name;
    if (!block && peek_word(p).kind == NB_GO_T_RIGHT)
        next(p);
    else
        n->pipe = pipeline(p, context, NB_GO_T_RIGHT);
    if (block && ok(p))
        definition(p, name, context);
    return ok(p) ? n : NULL;
}

static nb_go_node *plain_action(parser *p)
{
    nb_go_node *n = make(p, NB_GO_ACTION, peek_word(p));
    if (!n)
        return NULL;
    n->pipe = pipeline(p, "command", NB_GO_T_RIGHT);
    return ok(p) ? n : NULL;
}

/* An action whose opening delimiter has been read. {{end}} and {{else}} give NULL and *end. */
static nb_go_node *action(parser *p, nb_go_token_kind *end)
{
    nb_go_token t = next_word(p), after;
    switch (t.kind) {
    case NB_GO_T_BLOCK: return invocation(p, true);
    case NB_GO_T_TEMPLATE: return invocation(p, false);
    case NB_GO_T_BREAK: return loop_word(p, NB_GO_BREAK, t);
    case NB_GO_T_CONTINUE: return loop_word(p, NB_GO_CONTINUE, t);
    case NB_GO_T_IF: return control(p, NB_GO_IF);
    case NB_GO_T_WITH: return control(p, NB_GO_WITH);
    case NB_GO_T_RANGE: return control(p, NB_GO_RANGE);
    case NB_GO_T_END: *end = expect_right(p, "end") ? t.kind : NB_GO_T_ERROR; return NULL;
    case NB_GO_T_ELSE:
        after = peek_word(p);
        *end = t.kind;
        if (after.kind != NB_GO_T_IF && after.kind != NB_GO_T_WITH)
            expect_right(p, "else");
        return NULL;
    default: p->at--; return plain_action(p);
    }
}

/* Text or an action; NULL and *end for {{end}} and {{else}}. */
static nb_go_node *text_or_action(parser *p, nb_go_token_kind *end)
{
    nb_go_token t = next_word(p);
    *end = NB_GO_T_ERROR;
    if (t.kind == NB_GO_T_TEXT) {
        nb_go_node *n = make(p, NB_GO_TEXT, t);
        if (n)
            n->text = t.text;
        return n;
    }
    if (t.kind != NB_GO_T_LEFT)
        return unexpected(p, t, "input");
    p->action_line = t.line;
    nb_go_node *n = action(p, end);
    p->action_line = 0;
    return n;
}

/* Up to {{end}} or {{else}}: *end. */
static nb_go_node *item_list(parser *p, nb_go_token_kind *end)
{
    size_t mark = p->nodes.count;
    nb_go_node *n = make(p, NB_GO_LIST, peek_word(p));
    while (ok(p) && peek_word(p).kind != NB_GO_T_END_OF_FILE) {
        nb_go_node *item = text_or_action(p, end);
        if (!ok(p))
            return NULL;
        if (!item) {
            pop_nodes(p, mark, n);
            return ok(p) ? n : NULL;
        }
        push_node(p, item);
    }
    return fail(p, NB_ERR_FORMAT, "unexpected end of the template: an {{end}} is missing");
}

static void parse(parser *p)
{
    nb_go_token_kind end;
    size_t mark = p->nodes.count;
    nb_go_node *root = make(p, NB_GO_LIST, peek(p));
    while (ok(p) && peek(p).kind != NB_GO_T_END_OF_FILE) {
        if (peek(p).kind == NB_GO_T_LEFT) {
            uint64_t before = p->at;
            next(p);
            if (next_word(p).kind == NB_GO_T_DEFINE) {
                define(p);
                continue;
            }
            p->at = before;
        }
        nb_go_node *n = text_or_action(p, &end);
        if (ok(p) && !n)
            fail(p, NB_ERR_FORMAT, "unexpected {{%s}}", end == NB_GO_T_END ? "end" : "else");
        push_node(p, n);
    }
    if (!ok(p))
        return;
    pop_nodes(p, mark, root);
    add_tree(p, NB_STR(""), root);
    for (size_t i = 0; ok(p) && i < p->t->tree_count; i++)
        if (p->t->trees[i].name.n == 0)
            p->t->root = p->t->trees[i].root;
}

nb_status nb_go_parse(nb_gotemplate *t, nb_str source, nb_error *err)
{
    parser p = {.t = t, .lexer = nb_go_lex_begin(source), .err = err, .end = source.p};
    t->trees = NB_ARRAY(&t->arena, nb_go_tree, MAX_NAMES);
    if (!t->trees)
        return nb_fail_memory(err, "template", MAX_NAMES * sizeof *t->trees);
    parse(&p);
    nb_grown_free(&p.nodes.memory);
    nb_grown_free(&p.names.memory);
    nb_grown_free(&p.variables.memory);
    return p.status;
}
