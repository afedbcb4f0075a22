/* Runs a parsed Go template: text/template's rules for what a pipeline gives, what a field of a value is, and when there is
 * none. A key that a map lacks gives nothing (missingkey=zero). */
#include "text/gotemplate_exec.h"

#include <stdlib.h>

#include "text/gotemplate_text.h"

typedef enum walked { WALK_ON, WALK_BREAK, WALK_CONTINUE } walked;

/* an operand that a pipe hands to the command behind it */
typedef struct operand {
    bool given;
    nb_go_value value;
} operand;

static const operand NOTHING = {0};

void nb_go_begin(nb_go *g, const nb_gotemplate *t, nb_buf *out, int64_t now, nb_error *err)
{
    *g = (nb_go){.arena.limit = NB_GO_MEMORY, .err = err, .steps = NB_GO_STEPS, .template = t, .out = out, .now = now};
    g->out_limit = out->len + NB_GO_OUTPUT;
}

void nb_go_end(nb_go *g)
{
    nb_arena_free(&g->arena);
    free(g->variables);
}

/* ---- variables ---- */

static void push_variable(nb_go *g, nb_str name, nb_go_value value)
{
    if (g->variable_count == g->variable_cap) {
        size_t cap = g->variable_cap ? g->variable_cap * 2 : 16;
        nb_go_variable *more = realloc(g->variables, cap * sizeof *more);
        if (!more) {
            nb_go_fail_memory(g);
            return;
        }
        g->variables = more;
        g->variable_cap = cap;
    }
    g->variables[g->variable_count++] = (nb_go_variable){name, value};
}

static nb_go_variable *find_variable(nb_go *g, nb_str name)
{
    for (size_t i = g->variable_count; i-- > g->frame;)
        if (nb_str_eq(g->variables[i].name, name))
            return nb_go_spend(g, (g->variable_count - i) / 4) ? &g->variables[i] : NULL;
    nb_go_fail(g, NB_ERR_ARGUMENT, "undefined variable: %.*s", NB_STR_ARG(name));
    return NULL;
}

static void set_variable(nb_go *g, nb_str name, nb_go_value value)
{
    nb_go_variable *v = find_variable(g, name);
    if (v)
        v->value = value;
}

/* ---- operands ---- */

static nb_go_value eval_pipe(nb_go *g, nb_go_value dot, const nb_go_node *pipe);
static nb_go_value eval_arg(nb_go *g, nb_go_value dot, const nb_go_node *arg);

static nb_go_value eval_literal(nb_go *g, const nb_go_node *n)
{
    if (!n->value.type)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "the number overflows int");
    return n->value;
}

/* The methods that Ollama's types have. */
static bool eval_method(nb_go *g, nb_go_value v, nb_str name, nb_go_value *out)
{
    nb_str text;
    if (!v.type)
        return false;
    if (v.type->trait == NB_GO_PROPERTY && nb_str_eqz(name, "ToTypeScriptType"))
        text = nb_go_typescript(g, v);
    else if (!nb_str_eqz(name, "String") || !nb_go_text_of(g, v, &text))
        return false;
    *out = nb_go_str(text);
    return true;
}

static bool eval_member(nb_go *g, nb_go_value v, nb_str name, bool arguments, nb_go_value *out)
{
    if (nb_go_kind_of(v) == NB_GO_STRUCT)
        for (size_t i = 0; i < v.type->field_count; i++)
            if (nb_str_eqz(name, v.type->fields[i].name)) {
                *out = arguments
                           ? nb_go_fail(g, NB_ERR_ARGUMENT, "%.*s has arguments but is no function", NB_STR_ARG(name))
                           : v.u.fields[i];
                return true;
            }
    if (nb_go_kind_of(v) != NB_GO_MAP)
        return false;
    if (arguments)
        *out = nb_go_fail(g, NB_ERR_ARGUMENT, "%.*s is not a method but has arguments", NB_STR_ARG(name));
    else if (!nb_go_find(v, name, out))
        *out = v.type->elem->kind == NB_GO_STRUCT ? nb_go_struct(g, v.type->elem) : nb_go_zero(v.type->elem);
    return true;
}

static nb_go_value eval_field(nb_go *g, nb_go_value receiver, nb_str name, bool arguments)
{
    bool nil;
    nb_go_value out;
    if (!receiver.type || !nb_go_spend(g, 1))
        return nb_go_none();
    nb_go_value v = nb_go_indirect(receiver, &nil);
    if (nil)
        return nb_go_fail(g, NB_ERR_ARGUMENT, "nil pointer evaluating %s.%.*s", nb_go_type_name(receiver),
                          NB_STR_ARG(name));
    if (eval_method(g, v, name, &out))
        return arguments ? nb_go_fail(g, NB_ERR_ARGUMENT, "%.*s takes no arguments", NB_STR_ARG(name)) : out;
    if (eval_member(g, v, name, arguments, &out))
        return out;
    return nb_go_fail(g, NB_ERR_ARGUMENT, "can't evaluate field %.*s in type %s", NB_STR_ARG(name),
                      nb_go_type_name(receiver));
}

static nb_go_value eval_fields(nb_go *g, nb_go_value v, const nb_go_node *n, size_t from, bool arguments)
{
    for (size_t i = from; i < n->name_count && nb_go_ok(g); i++)
        v = eval_field(g, v, n->names[i], arguments && i + 1 == n->name_count);
    return v;
}

static void no_arguments(nb_go *g, const nb_go_node *n, bool arguments)
{
    if (arguments)
        nb_go_fail(g, NB_ERR_ARGUMENT, "can't give argument to non-function %.*s", NB_STR_ARG(n->source));
}

static nb_go_value eval_variable(nb_go *g, const nb_go_node *n, bool arguments)
{
    nb_go_variable *v = find_variable(g, n->names[0]);
    if (!v)
        return nb_go_none();
    if (n->name_count == 1)
        no_arguments(g, n, arguments);
    return eval_fields(g, v->value, n, 1, arguments);
}

static nb_go_value eval_chain(nb_go *g, nb_go_value dot, const nb_go_node *n, bool arguments)
{
    return eval_fields(g, eval_arg(g, dot, n->pipe), n, 0, arguments);
}

/* ---- calls ---- */

static void check_count(nb_go *g, const nb_go_function *f, size_t count)
{
    if (f->most < 0 && count < (size_t)f->least)
        nb_go_fail(g, NB_ERR_ARGUMENT, "wrong number of args for %s: want at least %d got %zu", f->name, f->least,
                   count);
    else if (f->most >= 0 && count != (size_t)f->most)
        nb_go_fail(g, NB_ERR_ARGUMENT, "wrong number of args for %s: want %d got %zu", f->name, f->most, count);
}

/* and, or: the first argument that decides, else the last; those behind it are not evaluated. */
static nb_go_value eval_logic(nb_go *g, nb_go_value dot, const nb_go_function *f, nb_go_node *const *args, size_t count,
                              operand final)
{
    nb_go_value v = nb_go_none();
    for (size_t i = 0; i < count && nb_go_ok(g); i++) {
        v = eval_arg(g, dot, args[i]);
        if (nb_go_truth(v) == (f->stops_at == 't'))
            return v;
    }
    return final.given ? final.value : v;
}

static void need_text(nb_go *g, nb_go_value v, const nb_go_node *arg)
{
    if (nb_go_kind_of(v) == NB_GO_STRING || !nb_go_ok(g))
        return;
    if (arg && arg->kind == NB_GO_LITERAL)
        nb_go_fail(g, NB_ERR_ARGUMENT, "expected string; found %.*s", NB_STR_ARG(arg->source));
    else
        nb_go_fail(g, NB_ERR_ARGUMENT, "wrong type for value; expected string; got %s", nb_go_type_name(v));
}

/* args [count]: the operands as they are written */
static nb_go_value eval_call(nb_go *g, nb_go_value dot, const nb_go_node *n, nb_go_node *const *args, size_t count,
                             operand final)
{
    const nb_go_function *f = n->function;
    size_t total = count + final.given;
    g->node = n;
    nb_go_spend(g, NB_GO_CALL_STEPS);
    check_count(g, f, total);
    if (f->stops_at)
        return eval_logic(g, dot, f, args, count, final);
    nb_go_value *values = nb_go_memory(g, total, sizeof *values);
    for (size_t i = 0; values && i < total && nb_go_ok(g); i++) {
        values[i] = i < count ? eval_arg(g, dot, args[i]) : final.value;
        if (f->accepts == NB_GO_ARGS_TEXT || (f->accepts == NB_GO_ARGS_TEXT_FIRST && i == 0))
            need_text(g, values[i], i < count ? args[i] : NULL);
    }
    if (!values || !nb_go_ok(g))
        return nb_go_none();
    g->node = n;
    return f->run(g, values, total);
}

static nb_go_value eval_arg(nb_go *g, nb_go_value dot, const nb_go_node *arg)
{
    nb_go_value v = nb_go_none();
    if (!nb_go_enter(g))
        return v;
    g->node = arg;
    switch (arg->kind) {
    case NB_GO_DOT: v = dot; break;
    case NB_GO_NULL: break;
    case NB_GO_FIELD: v = eval_fields(g, dot, arg, 0, false); break;
    case NB_GO_VARIABLE: v = eval_variable(g, arg, false); break;
    case NB_GO_PIPE: v = eval_pipe(g, dot, arg); break;
    case NB_GO_CALL: v = eval_call(g, dot, arg, NULL, 0, NOTHING); break;
    case NB_GO_CHAIN: v = eval_chain(g, dot, arg, false); break;
    default: v = eval_literal(g, arg);
    }
    nb_go_leave(g);
    return v;
}

/* ---- pipelines ---- */

static nb_go_value eval_command(nb_go *g, nb_go_value dot, const nb_go_node *command, operand final)
{
    const nb_go_node *first = command->items[0];
    bool arguments = command->item_count > 1 || final.given;
    g->node = first;
    switch (first->kind) {
    case NB_GO_FIELD: return eval_fields(g, dot, first, 0, arguments);
    case NB_GO_CHAIN: return eval_chain(g, dot, first, arguments);
    case NB_GO_VARIABLE: return eval_variable(g, first, arguments);
    case NB_GO_CALL: return eval_call(g, dot, first, command->items + 1, command->item_count - 1, final);
    default: break;
    }
    no_arguments(g, first, arguments);
    switch (first->kind) {
    case NB_GO_PIPE: return eval_pipe(g, dot, first);
    case NB_GO_DOT: return dot;
    case NB_GO_NULL: return nb_go_fail(g, NB_ERR_ARGUMENT, "nil is not a command");
    default: return eval_literal(g, first);
    }
}

/* A nil in an interface becomes no value on its way. */
static nb_go_value eval_pipe(nb_go *g, nb_go_value dot, const nb_go_node *pipe)
{
    operand v = NOTHING;
    if (!nb_go_enter(g))
        return nb_go_none();
    for (size_t i = 0; i < pipe->item_count && nb_go_ok(g); i++)
        v = (operand){true, nb_go_unwrap(eval_command(g, dot, pipe->items[i], v))};
    for (size_t i = 0; i < pipe->name_count && nb_go_ok(g); i++) {
        if (pipe->assign)
            set_variable(g, pipe->names[i], v.value);
        else
            push_variable(g, pipe->names[i], v.value);
    }
    nb_go_leave(g);
    return nb_go_ok(g) ? v.value : nb_go_none();
}

/* ---- actions ---- */

static walked walk(nb_go *g, nb_go_value dot, const nb_go_node *n);

static walked walk_list(nb_go *g, nb_go_value dot, const nb_go_node *list)
{
    for (size_t i = 0; list && i < list->item_count && nb_go_ok(g); i++) {
        walked w = walk(g, dot, list->items[i]);
        if (w != WALK_ON)
            return w;
    }
    return WALK_ON;
}

static walked walk_if(nb_go *g, nb_go_value dot, const nb_go_node *n)
{
    size_t mark = g->variable_count;
    nb_go_value v = eval_pipe(g, dot, n->pipe);
    walked w = WALK_ON;
    if (nb_go_ok(g) && nb_go_truth(v))
        w = walk_list(g, n->kind == NB_GO_WITH ? v : dot, n->list);
    else if (nb_go_ok(g))
        w = walk_list(g, dot, n->else_list);
    g->variable_count = mark;
    return w;
}

/* The variables of a range: the element, or its index and the element. */
static void set_loop_variables(nb_go *g, const nb_go_node *pipe, size_t mark, nb_go_value index, nb_go_value element)
{
    size_t n = pipe->name_count;
    if (n == 0)
        return;
    if (pipe->assign) {
        set_variable(g, pipe->names[0], n > 1 ? index : element);
        if (n > 1)
            set_variable(g, pipe->names[1], element);
        return;
    }
    g->variables[mark - 1].value = element;
    if (n > 1)
        g->variables[mark - 2].value = index;
}

/* The i-th pair of what is ranged over. */
static void pair_at(nb_go_value v, size_t i, nb_go_value *index, nb_go_value *element)
{
    *index = nb_go_int((int64_t)i);
    if (v.type->kind == NB_GO_SLICE) {
        *element = nb_go_item(v, i);
    } else if (v.type->kind == NB_GO_MAP) {
        *index = nb_go_str(v.u.map->entries[i].key);
        *element = v.u.map->entries[i].value;
    } else
        *element = (nb_go_value){.type = v.type, .u.i = (int64_t)i};
}

/* How often the body runs; false and an error for what cannot be ranged over. */
static bool range_count(nb_go *g, const nb_go_node *n, nb_go_value v, size_t *count)
{
    nb_go_kind k = nb_go_kind_of(v);
    *count = 0;
    if (k == NB_GO_SLICE || k == NB_GO_MAP) {
        *count = nb_go_length(v);
    } else if (nb_go_is_integer(v)) {
        *count = v.u.i > 0 ? (size_t)v.u.i : 0;
        if (n->pipe->name_count > 1)
            nb_go_fail(g, NB_ERR_ARGUMENT, "can't use %lld to iterate over more than one variable", (long long)v.u.i);
    } else if (k != NB_GO_INVALID)
        nb_go_fail(g, NB_ERR_ARGUMENT, "range can't iterate over a value of type %s", nb_go_type_name(v));
    return nb_go_ok(g);
}

static walked walk_range(nb_go *g, nb_go_value dot, const nb_go_node *n)
{
    size_t before = g->variable_count, count;
    bool nil;
    walked w = WALK_ON;
    nb_go_value index, element, v = eval_pipe(g, dot, n->pipe);
    g->node = n;
    if (!nb_go_ok(g) || !range_count(g, n, nb_go_indirect(v, &nil), &count))
        return WALK_ON;
    v = nb_go_indirect(v, &nil);
    size_t mark = g->variable_count;
    for (size_t i = 0; i < count && w != WALK_BREAK && nb_go_spend(g, 1); i++) {
        pair_at(v, i, &index, &element);
        set_loop_variables(g, n->pipe, mark, index, element);
        w = walk_list(g, element, n->list);
        g->variable_count = mark;
    }
    if (count == 0)
        w = walk_list(g, dot, n->else_list);
    g->variable_count = before;
    return count || w == WALK_BREAK ? WALK_ON : w; /* a break in {{else}} ends this range too */
}

static const nb_go_node *tree_named(nb_go *g, nb_str name)
{
    const nb_gotemplate *t = g->template;
    for (size_t i = 0; i < t->tree_count && nb_go_spend(g, 1); i++)
        if (nb_str_eq(t->trees[i].name, name))
            return t->trees[i].root;
    nb_go_fail(g, NB_ERR_ARGUMENT, "template \"%.*s\" not defined", NB_STR_ARG(name));
    return NULL;
}

/* Another template sees only $, which is its dot. */
static void walk_invoke(nb_go *g, nb_go_value dot, const nb_go_node *n)
{
    const nb_go_node *root = tree_named(g, n->text);
    if (!root)
        return;
    nb_go_value v = n->pipe ? eval_pipe(g, dot, n->pipe) : nb_go_none();
    size_t frame = g->frame, mark = g->variable_count;
    g->frame = mark;
    push_variable(g, NB_STR("$"), v);
    walk_list(g, v, root);
    g->frame = frame;
    g->variable_count = mark;
}

static void walk_action(nb_go *g, nb_go_value dot, const nb_go_node *n)
{
    nb_go_value v = eval_pipe(g, dot, n->pipe);
    g->node = n->pipe;
    if (nb_go_ok(g) && n->pipe->name_count == 0)
        nb_go_print_action(g, g->out, v);
}

static walked walk(nb_go *g, nb_go_value dot, const nb_go_node *n)
{
    walked w = WALK_ON;
    if (!nb_go_enter(g))
        return WALK_ON;
    g->node = n;
    switch (n->kind) {
    case NB_GO_TEXT: nb_go_write(g, g->out, n->text); break;
    case NB_GO_ACTION: walk_action(g, dot, n); break;
    case NB_GO_IF:
    case NB_GO_WITH: w = walk_if(g, dot, n); break;
    case NB_GO_RANGE: w = walk_range(g, dot, n); break;
    case NB_GO_INVOKE: walk_invoke(g, dot, n); break;
    case NB_GO_BREAK: w = WALK_BREAK; break;
    case NB_GO_CONTINUE: w = WALK_CONTINUE; break;
    default: break;
    }
    nb_go_leave(g);
    return w;
}

nb_status nb_go_run(nb_go *g, const nb_go_node *root, nb_go_value dot)
{
    g->frame = g->variable_count = 0;
    push_variable(g, NB_STR("$"), dot);
    walk_list(g, dot, root);
    g->node = NULL;
    return g->status;
}
