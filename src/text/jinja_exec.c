/* Statements: what a template does between its values. */
#include "text/jinja_eval.h"
#include "text/jinja_scope.h"
#include "text/jinja_text.h"

/* ---- output ---- */

/* Runs a body with its output kept aside, as a string. */
static nb_jval captured(nb_jinja *j, const nb_jnode *body)
{
    nb_buf b = {0}, *outer = j->out;
    j->out = &b;
    nb_jexec(j, body);
    j->out = outer;
    return nb_jstr_take(j, &b);
}

static nb_jval captured_in_scope(nb_jinja *j, const nb_jnode *body)
{
    nb_jframe *outer = j->frame;
    nb_jval v = nb_jframe_push(j, outer) ? captured(j, body) : nb_jnone();
    j->frame = outer;
    return v;
}

/* ---- assignment ---- */

static void assign(nb_jinja *j, const nb_jnode *target, nb_jval value);

static void unpack(nb_jinja *j, const nb_jnode *target, nb_jval value)
{
    size_t want = 0;
    for (const nb_jnode *t = target->list; t; t = t->next)
        want++;
    nb_jval items = nb_jitems(j, value);
    if (!nb_jok(j))
        return;
    if (items.u.list->count != want) {
        nb_jfail(j, NB_ERR_ARGUMENT, "%zu values where %zu are wanted to unpack", items.u.list->count, want);
        return;
    }
    size_t i = 0;
    for (const nb_jnode *t = target->list; t; t = t->next)
        assign(j, t, items.u.list->items[i++]);
}

static void assign(nb_jinja *j, const nb_jnode *target, nb_jval value)
{
    if (!nb_jenter(j))
        return;
    if (target->kind == NB_JN_TUPLE) {
        unpack(j, target, value);
    } else if (target->kind == NB_JN_NSREF) {
        nb_jnode name = {.kind = NB_JN_NAME, .line = target->line, .name = target->name};
        nb_jval ns = nb_jeval(j, &name);
        if (ns.kind == NB_J_NAMESPACE)
            nb_jdict_set(j, ns.u.dict, nb_jstr(target->text2), value);
        else
            nb_jfail(j, NB_ERR_ARGUMENT, "cannot assign attribute on non-namespace object '%.*s'",
                     NB_STR_ARG(target->name));
    } else {
        nb_jassign(j, target->name, value);
    }
    nb_jleave(j);
}

/* ---- loops ---- */

typedef struct loop_state {
    nb_jval items;
    size_t index;
    int64_t depth0;
    const nb_jnode *node;
    nb_jframe *frame; /* around the loop */
    nb_jval changed;  /* the last arguments of loop.changed(), NB_J_MISSING before any */
} loop_state;

static nb_jflow run_loop(nb_jinja *j, const nb_jnode *n, nb_jval iterable, int64_t depth0);

static nb_jval loop_cycle(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    const loop_state *loop = self->state;
    if (args->count == 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "loop.cycle() needs items");
    return args->pos[loop->index % args->count];
}

static nb_jval loop_changed(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    loop_state *loop = self->state;
    nb_jval now = nb_jlist_new(j, NB_J_TUPLE, args->count);
    for (size_t i = 0; i < args->count; i++)
        nb_jlist_push(j, now, args->pos[i]);
    bool same = nb_jok(j) && loop->changed.kind == NB_J_TUPLE && nb_jequal(j, loop->changed, now);
    loop->changed = now;
    return nb_jbool(!same);
}

static nb_jval loop_recurse(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    const loop_state *loop = self->state;
    if (!loop->node->flag || args->count != 1)
        return nb_jfail(j, NB_ERR_ARGUMENT, "loop() needs a loop marked 'recursive' and one argument");
    nb_buf b = {0}, *outer_out = j->out;
    nb_jframe *outer = j->frame;
    j->out = &b;
    j->frame = loop->frame;
    run_loop(j, loop->node, args->pos[0], loop->depth0 + 1);
    j->frame = outer;
    j->out = outer_out;
    return nb_jstr_take(j, &b);
}

static nb_jval neighbour(const loop_state *loop, size_t index, const char *name)
{
    const nb_jlist *items = loop->items.u.list;
    return index < items->count ? items->items[index] : nb_jundefined(nb_str_of(name));
}

static nb_jval loop_attr(nb_jinja *j, nb_jobject *self, nb_str name)
{
    const loop_state *loop = self->state;
    int64_t count = (int64_t)loop->items.u.list->count, at = (int64_t)loop->index;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"index", at + 1}, {"index0", at},           {"revindex", count - at},   {"revindex0", count - at - 1},
        {"length", count}, {"depth0", loop->depth0}, {"depth", loop->depth0 + 1}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (nb_str_eqz(name, numbers[i].name))
            return nb_jint(numbers[i].value);
    if (nb_str_eqz(name, "first"))
        return nb_jbool(at == 0);
    if (nb_str_eqz(name, "last"))
        return nb_jbool(at == count - 1);
    if (nb_str_eqz(name, "previtem"))
        return neighbour(loop, loop->index - 1, "there is no previous item");
    if (nb_str_eqz(name, "nextitem"))
        return neighbour(loop, loop->index + 1, "there is no next item");
    bool cycle = nb_str_eqz(name, "cycle");
    if (cycle || nb_str_eqz(name, "changed"))
        return nb_jobject_new(j, (nb_jobject){.type = "bound method",
                                              .name = name,
                                              .state = self->state,
                                              .call = cycle ? loop_cycle : loop_changed});
    return (nb_jval){.kind = NB_J_MISSING};
}

/* The items for which the loop's own "if" holds. */
static nb_jval kept_items(nb_jinja *j, const nb_jnode *n, nb_jval items)
{
    nb_jframe *outer = j->frame;
    nb_jval kept = nb_jlist_new(j, NB_J_LIST, 0);
    for (size_t i = 0; nb_jok(j) && i < items.u.list->count; i++) {
        if (!nb_jframe_push(j, outer))
            break;
        assign(j, n->a, items.u.list->items[i]);
        if (nb_jtruth(nb_jeval(j, n->c)))
            nb_jlist_push(j, kept, items.u.list->items[i]);
    }
    j->frame = outer;
    return kept;
}

static nb_jflow run_body(nb_jinja *j, const nb_jnode *n, loop_state *loop)
{
    nb_jval handle = nb_jobject_new(
        j, (nb_jobject){.type = "LoopContext", .call = loop_recurse, .attr = loop_attr, .state = loop});
    for (; nb_jok(j) && loop->index < loop->items.u.list->count; loop->index++) {
        if (!nb_jframe_push(j, loop->frame))
            break;
        nb_jassign(j, NB_STR("loop"), handle);
        assign(j, n->a, loop->items.u.list->items[loop->index]);
        if (nb_jexec(j, n->list) == NB_JFLOW_BREAK)
            break;
    }
    j->frame = loop->frame;
    return NB_JFLOW_NEXT;
}

static nb_jflow run_loop(nb_jinja *j, const nb_jnode *n, nb_jval iterable, int64_t depth0)
{
    nb_jval items = nb_jitems(j, iterable);
    if (nb_jok(j) && n->c)
        items = kept_items(j, n, items);
    loop_state *loop = nb_jok(j) ? NB_NEW(&j->arena, loop_state) : NULL;
    if (!loop) {
        nb_jfail_memory(j);
        return NB_JFLOW_NEXT;
    }
    *loop = (loop_state){.items = items, .depth0 = depth0, .node = n, .frame = j->frame};
    if (items.u.list->count)
        return run_body(j, n, loop);
    nb_jflow flow = nb_jframe_push(j, loop->frame) ? nb_jexec(j, n->other) : NB_JFLOW_NEXT;
    j->frame = loop->frame;
    return flow;
}

/* ---- macros ---- */

static const nb_jkeyword *keyword(const nb_jargs *args, nb_str name)
{
    for (size_t i = 0; i < args->kw_count; i++)
        if (nb_str_eq(args->kw[i].name, name))
            return &args->kw[i];
    return NULL;
}

static bool is_param(const nb_jnode *macro, nb_str name, size_t from)
{
    for (const nb_jnode *p = macro->params; p; p = p->next)
        if (nb_str_eq(p->name, name))
            return from == 0;
        else
            from -= from > 0;
    return false;
}

/* varargs, kwargs and caller of a macro that mentions them; an error for arguments that nothing takes. */
static void bind_rest(nb_jinja *j, const nb_jnode *macro, const nb_jargs *args, size_t params)
{
    nb_jval kwargs = nb_jdict_new(j), varargs = nb_jlist_new(j, NB_J_TUPLE, 0), caller = {0};
    bool takes_caller = (macro->uses & NB_JM_CALLER) && !is_param(macro, NB_STR("caller"), 0);
    for (size_t i = 0; i < args->kw_count && nb_jok(j); i++) {
        const nb_jkeyword *kw = &args->kw[i];
        if (is_param(macro, kw->name, args->count))
            continue;
        if (takes_caller && nb_str_eqz(kw->name, "caller"))
            caller = kw->value;
        else if (macro->uses & NB_JM_KWARGS)
            nb_jdict_set(j, kwargs.u.dict, nb_jstr(kw->name), kw->value);
        else
            nb_jfail(j, NB_ERR_ARGUMENT, "macro '%.*s' takes no keyword argument '%.*s'", NB_STR_ARG(macro->name),
                     NB_STR_ARG(kw->name));
    }
    if (args->count > params && !(macro->uses & NB_JM_VARARGS))
        nb_jfail(j, NB_ERR_ARGUMENT, "macro '%.*s' takes not more than %zu argument(s)", NB_STR_ARG(macro->name),
                 params);
    for (size_t i = params; i < args->count; i++)
        nb_jlist_push(j, varargs, args->pos[i]);
    if (macro->uses & NB_JM_KWARGS)
        nb_jassign(j, NB_STR("kwargs"), kwargs);
    if (macro->uses & NB_JM_VARARGS)
        nb_jassign(j, NB_STR("varargs"), varargs);
    if (takes_caller)
        nb_jassign(j, NB_STR("caller"), caller.kind ? caller : nb_jundefined(NB_STR("caller")));
}

static void bind(nb_jinja *j, const nb_jnode *macro, const nb_jargs *args)
{
    size_t i = 0;
    for (const nb_jnode *p = macro->params; p && nb_jok(j); p = p->next, i++) {
        const nb_jkeyword *kw = i < args->count ? NULL : keyword(args, p->name);
        nb_jval v = nb_jundefined(p->name);
        if (i < args->count)
            v = args->pos[i];
        else if (kw)
            v = kw->value;
        else if (p->a)
            v = nb_jeval(j, p->a);
        nb_jassign(j, p->name, v);
    }
    bind_rest(j, macro, args, i);
}

static nb_jval call_macro(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    const nb_jnode *macro = self->data;
    nb_jframe *outer = j->frame;
    nb_jval result = nb_jnone();
    if (nb_jframe_push(j, self->state)) {
        bind(j, macro, args);
        result = captured(j, macro->list);
    }
    j->frame = outer;
    return result;
}

static nb_jval macro_attr(nb_jinja *j, nb_jobject *self, nb_str name)
{
    (void)j;
    return nb_str_eqz(name, "name") ? nb_jstr(self->name) : (nb_jval){.kind = NB_J_MISSING};
}

static nb_jval macro_value(nb_jinja *j, const nb_jnode *n)
{
    return nb_jobject_new(
        j, (nb_jobject){
               .type = "Macro", .name = n->name, .call = call_macro, .attr = macro_attr, .data = n, .state = j->frame});
}

static void run_call_block(nb_jinja *j, const nb_jnode *n)
{
    nb_jval callee = nb_jeval(j, n->a->a);
    nb_jargs args = nb_jeval_args(j, n->a->list);
    nb_jkeyword *kw = nb_jok(j) ? NB_ARRAY(&j->arena, nb_jkeyword, args.kw_count + 1) : NULL;
    if (!kw) {
        nb_jfail_memory(j);
        return;
    }
    if (args.kw_count)
        memcpy(kw, args.kw, args.kw_count * sizeof *kw);
    kw[args.kw_count++] = (nb_jkeyword){NB_STR("caller"), macro_value(j, n)};
    args.kw = kw;
    nb_jwrite_str(j, j->out, nb_jcall(j, callee, &args));
}

/* ---- the rest ---- */

static nb_jflow run_if(nb_jinja *j, const nb_jnode *n)
{
    for (; n && nb_jok(j); n = n->c) {
        if (nb_jtruth(nb_jeval(j, n->a)))
            return nb_jok(j) ? nb_jexec(j, n->list) : NB_JFLOW_NEXT;
        if (!n->c && n->other)
            return nb_jexec(j, n->other);
    }
    return NB_JFLOW_NEXT;
}

static nb_jflow run_scope(nb_jinja *j, const nb_jnode *n)
{
    nb_jframe *outer = j->frame;
    nb_jframe *inner = nb_jframe_push(j, outer);
    for (const nb_jnode *p = n->params; p && inner && nb_jok(j); p = p->next) {
        j->frame = outer; /* the values of a with see what is around it */
        nb_jval v = nb_jeval(j, p->a);
        j->frame = inner;
        assign(j, p->b, v);
    }
    nb_jflow flow = inner && nb_jok(j) ? nb_jexec(j, n->list) : NB_JFLOW_NEXT;
    j->frame = outer;
    return flow;
}

static nb_jflow run(nb_jinja *j, const nb_jnode *n)
{
    switch (n->kind) {
    case NB_JN_DATA: nb_jwrite(j, j->out, n->name); break;
    case NB_JN_OUTPUT: nb_jwrite_str(j, j->out, nb_jeval(j, n->a)); break;
    case NB_JN_FOR: {
        nb_jval iterable = nb_jeval(j, n->b);
        return nb_jok(j) ? run_loop(j, n, iterable, 0) : NB_JFLOW_NEXT;
    }
    case NB_JN_IF: return run_if(j, n);
    case NB_JN_SET: assign(j, n->a, nb_jeval(j, n->b)); break;
    case NB_JN_SETBLOCK: assign(j, n->a, nb_jeval_filters(j, n->b, captured_in_scope(j, n->list))); break;
    case NB_JN_MACRO: nb_jassign(j, n->name, macro_value(j, n)); break;
    case NB_JN_CALLBLOCK: run_call_block(j, n); break;
    case NB_JN_FILTERBLOCK: nb_jwrite_str(j, j->out, nb_jeval_filters(j, n->b, captured_in_scope(j, n->list))); break;
    case NB_JN_WITH:
    case NB_JN_SCOPE: return run_scope(j, n);
    case NB_JN_BREAK: return NB_JFLOW_BREAK;
    case NB_JN_CONTINUE: return NB_JFLOW_CONTINUE;
    default: nb_jfail(j, NB_ERR_INTERNAL, "this is no statement");
    }
    return NB_JFLOW_NEXT;
}

nb_jflow nb_jexec(nb_jinja *j, const nb_jnode *first)
{
    nb_jflow flow = NB_JFLOW_NEXT;
    if (!first || !nb_jenter(j))
        return flow;
    for (const nb_jnode *n = first; n && flow == NB_JFLOW_NEXT && nb_jspend(j, 1); n = n->next) {
        j->line = n->line;
        flow = run(j, n);
    }
    nb_jleave(j);
    return flow;
}
