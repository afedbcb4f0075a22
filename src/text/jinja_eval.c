#include "text/jinja_eval.h"

#include "text/jinja_defs.h"
#include "text/jinja_scope.h"
#include "text/jinja_text.h"

/* ---- names ---- */

nb_jframe *nb_jframe_push(nb_jinja *j, nb_jframe *parent)
{
    nb_jframe *f = nb_jok(j) ? NB_NEW(&j->arena, nb_jframe) : NULL;
    if (!f) {
        nb_jfail_memory(j);
        return NULL;
    }
    f->parent = parent;
    j->frame = f;
    return f;
}

static nb_jvar *find_in(const nb_jframe *f, nb_str name)
{
    for (nb_jvar *v = f->vars; v; v = v->next)
        if (nb_str_eq(v->name, name))
            return v;
    return NULL;
}

void nb_jassign(nb_jinja *j, nb_str name, nb_jval value)
{
    nb_jvar *v = nb_jok(j) ? find_in(j->frame, name) : NULL;
    if (!v && nb_jok(j)) {
        v = NB_NEW(&j->arena, nb_jvar);
        if (!v) {
            nb_jfail_memory(j);
            return;
        }
        v->name = name;
        v->next = j->frame->vars;
        j->frame->vars = v;
    }
    if (v)
        v->value = value;
}

static nb_jval lookup(nb_jinja *j, nb_str name)
{
    for (const nb_jframe *f = j->frame; f; f = f->parent) {
        nb_jvar *v = find_in(f, name);
        if (v)
            return v->value;
    }
    nb_jentry *e = nb_jdict_findz(j, j->globals, name);
    if (e)
        return e->value;
    return nb_jfunction(j, name);
}

/* ---- expressions ---- */

static nb_jval eval_list(nb_jinja *j, const nb_jnode *n, nb_jkind kind)
{
    nb_jval list = nb_jlist_new(j, kind, 0);
    for (const nb_jnode *e = n->list; e && nb_jok(j); e = e->next)
        nb_jlist_push(j, list, nb_jeval(j, e));
    return list;
}

static nb_jval eval_dict(nb_jinja *j, const nb_jnode *n)
{
    nb_jval dict = nb_jdict_new(j);
    for (const nb_jnode *e = n->list; e && nb_jok(j); e = e->next->next) {
        nb_jval key = nb_jeval(j, e);
        nb_jdict_set(j, dict.u.dict, key, nb_jeval(j, e->next));
    }
    return dict;
}

static nb_jval eval_concat(nb_jinja *j, const nb_jnode *n)
{
    nb_buf b = {0};
    for (const nb_jnode *e = n->list; e && nb_jok(j); e = e->next)
        nb_jwrite_str(j, &b, nb_jeval(j, e));
    return nb_jstr_take(j, &b);
}

static bool compare(nb_jinja *j, const nb_jnode *operand, nb_jval a, nb_jval b)
{
    switch (operand->op) {
    case NB_JT_EQ: return nb_jequal(j, a, b);
    case NB_JT_NE: return !nb_jequal(j, a, b);
    case NB_JT_NAME: return nb_jcontains(j, b, a) != operand->flag;
    default: break;
    }
    int order = nb_jcompare(j, a, b);
    if (order == 2)
        return false; /* NaN */
    switch (operand->op) {
    case NB_JT_LT: return order < 0;
    case NB_JT_LE: return order <= 0;
    case NB_JT_GT: return order > 0;
    default: return order >= 0;
    }
}

static nb_jval eval_compare(nb_jinja *j, const nb_jnode *n)
{
    nb_jval left = nb_jeval(j, n->a);
    bool holds = true;
    for (const nb_jnode *o = n->list; o && holds && nb_jok(j); o = o->next) {
        nb_jval right = nb_jeval(j, o->a);
        holds = nb_jok(j) && compare(j, o, left, right);
        left = right;
    }
    return nb_jbool(holds);
}

static nb_jval eval_getitem(nb_jinja *j, const nb_jnode *n)
{
    nb_jval object = nb_jeval(j, n->a);
    if (!n->b)
        return object;
    if (n->b->kind != NB_JN_SLICE)
        return nb_jgetitem(j, object, nb_jeval(j, n->b));
    nb_jval start = n->b->a ? nb_jeval(j, n->b->a) : nb_jnone();
    nb_jval stop = n->b->b ? nb_jeval(j, n->b->b) : nb_jnone();
    nb_jval step = n->b->c ? nb_jeval(j, n->b->c) : nb_jnone();
    return nb_jslice(j, object, start, stop, step);
}

static void add_keyword(nb_jinja *j, nb_jargs *args, size_t *cap, nb_str name, nb_jval value)
{
    if (args->kw_count == *cap) {
        size_t more = *cap ? *cap * 2 : 4;
        nb_jkeyword *kw = nb_jok(j) ? NB_ARRAY(&j->arena, nb_jkeyword, more) : NULL;
        if (!kw) {
            nb_jfail_memory(j);
            return;
        }
        if (args->kw_count)
            memcpy(kw, args->kw, args->kw_count * sizeof *kw);
        args->kw = kw;
        *cap = more;
    }
    args->kw[args->kw_count++] = (nb_jkeyword){name, value};
}

static void add_star(nb_jinja *j, nb_jval list, nb_jval value)
{
    nb_jval items = nb_jitems(j, value);
    for (size_t i = 0; nb_jok(j) && i < items.u.list->count; i++)
        nb_jlist_push(j, list, items.u.list->items[i]);
}

static void add_stars(nb_jinja *j, nb_jargs *args, size_t *cap, nb_jval value)
{
    if (nb_jok(j) && value.kind != NB_J_DICT) {
        nb_jfail(j, NB_ERR_ARGUMENT, "the argument after ** must be a mapping");
        return;
    }
    nb_jentry *e;
    for (size_t at = 0; nb_jok(j) && (e = nb_jdict_next(value.u.dict, &at)) != NULL;)
        add_keyword(j, args, cap, nb_jneed_str(j, e->key, "a keyword"), e->value);
}

nb_jargs nb_jeval_args(nb_jinja *j, const nb_jnode *first)
{
    nb_jargs args = {0};
    size_t cap = 0;
    nb_jval list = {.kind = NB_J_MISSING};
    if (first && first->kind != NB_JN_KEYWORD)
        list = nb_jlist_new(j, NB_J_LIST, 0);
    for (const nb_jnode *e = first; e && nb_jok(j); e = e->next) {
        bool wrapped = e->kind == NB_JN_KEYWORD || e->kind == NB_JN_STAR || e->kind == NB_JN_STARS;
        nb_jval v = nb_jeval(j, wrapped ? e->a : e);
        if (e->kind == NB_JN_KEYWORD)
            add_keyword(j, &args, &cap, e->name, v);
        else if (e->kind == NB_JN_STARS)
            add_stars(j, &args, &cap, v);
        else if (e->kind == NB_JN_STAR)
            add_star(j, list.kind ? list : (list = nb_jlist_new(j, NB_J_LIST, 0)), v);
        else
            nb_jlist_push(j, list, v);
    }
    if (nb_jok(j) && list.kind == NB_J_LIST) {
        args.pos = list.u.list->items;
        args.count = list.u.list->count;
    }
    return args;
}

static nb_jval eval_call(nb_jinja *j, const nb_jnode *n)
{
    nb_jval callee = nb_jeval(j, n->a);
    nb_jargs args = nb_jeval_args(j, n->list);
    j->line = n->line;
    return nb_jcall(j, callee, &args);
}

static nb_jval eval_filter(nb_jinja *j, const nb_jnode *n, nb_jval input)
{
    nb_jargs args = nb_jeval_args(j, n->list);
    j->line = n->line;
    if (!n->def)
        return nb_jfail(j, NB_ERR_UNSUPPORTED, "there is no filter named '%.*s'", NB_STR_ARG(n->name));
    return nb_jdef_call(j, n->def, input, &args);
}

static nb_jval eval_test(nb_jinja *j, const nb_jnode *n)
{
    nb_jval input = nb_jeval(j, n->a);
    nb_jargs args = nb_jeval_args(j, n->list);
    j->line = n->line;
    if (!n->def)
        return nb_jfail(j, NB_ERR_UNSUPPORTED, "there is no test named '%.*s'", NB_STR_ARG(n->name));
    return nb_jdef_call(j, n->def, input, &args);
}

static nb_jval eval_logic(nb_jinja *j, const nb_jnode *n)
{
    nb_jval left = nb_jeval(j, n->a);
    if (!nb_jok(j) || nb_jtruth(left) == (n->kind == NB_JN_OR))
        return left;
    return nb_jeval(j, n->b);
}

static nb_jval eval_condition(nb_jinja *j, const nb_jnode *n)
{
    if (nb_jtruth(nb_jeval(j, n->b)))
        return nb_jeval(j, n->a);
    return n->c ? nb_jeval(j, n->c) : nb_jundefined(NB_STR("the inline if-expression without else"));
}

static nb_jval eval_node(nb_jinja *j, const nb_jnode *n)
{
    nb_jval a;
    switch (n->kind) {
    case NB_JN_NONE: return nb_jnone();
    case NB_JN_BOOL: return nb_jbool(n->number.i != 0);
    case NB_JN_INT: return nb_jint(n->number.i);
    case NB_JN_FLOAT: return nb_jfloat(n->number.f);
    case NB_JN_STRING: return nb_jstr(n->name);
    case NB_JN_NAME: return lookup(j, n->name);
    case NB_JN_TUPLE: return eval_list(j, n, NB_J_TUPLE);
    case NB_JN_LIST: return eval_list(j, n, NB_J_LIST);
    case NB_JN_DICT: return eval_dict(j, n);
    case NB_JN_COND: return eval_condition(j, n);
    case NB_JN_OR:
    case NB_JN_AND: return eval_logic(j, n);
    case NB_JN_NOT: return nb_jbool(!nb_jtruth(nb_jeval(j, n->a)));
    case NB_JN_NEG:
    case NB_JN_POS: return nb_junary(j, n->kind == NB_JN_NEG, nb_jeval(j, n->a));
    case NB_JN_BINARY: a = nb_jeval(j, n->a); return nb_jbinary(j, n->op, a, nb_jeval(j, n->b));
    case NB_JN_CONCAT: return eval_concat(j, n);
    case NB_JN_COMPARE: return eval_compare(j, n);
    case NB_JN_GETATTR: return nb_jgetattr(j, nb_jeval(j, n->a), n->name);
    case NB_JN_GETITEM: return eval_getitem(j, n);
    case NB_JN_CALL: return eval_call(j, n);
    case NB_JN_FILTER: return eval_filter(j, n, nb_jeval(j, n->a));
    case NB_JN_TEST: return eval_test(j, n);
    default: return nb_jfail(j, NB_ERR_ARGUMENT, "this is no value");
    }
}

nb_jval nb_jeval(nb_jinja *j, const nb_jnode *n)
{
    if (!nb_jenter(j))
        return nb_jnone();
    j->line = n->line;
    nb_jval v = eval_node(j, n);
    nb_jleave(j);
    return v;
}

nb_jval nb_jeval_filters(nb_jinja *j, const nb_jnode *n, nb_jval input)
{
    if (!n || !nb_jenter(j))
        return input;
    input = nb_jeval_filters(j, n->a, input);
    nb_jval v = nb_jok(j) ? eval_filter(j, n, input) : input;
    nb_jleave(j);
    return v;
}

/* ---- a rendering ---- */

nb_status nb_jinja_begin(nb_jinja *j, nb_buf *out, int64_t now, nb_error *err)
{
    *j = (nb_jinja){.err = err, .steps = NB_JINJA_STEPS, .out = out, .out_limit = NB_JINJA_OUTPUT, .now = now};
    j->arena.limit = NB_JINJA_MEMORY;
    j->globals = nb_jdict_new(j).u.dict;
    nb_jframe_push(j, NULL);
    return j->status;
}

nb_status nb_jinja_run(nb_jinja *j, const nb_jnode *body)
{
    nb_jexec(j, body);
    if (nb_jok(j) && j->out->failed)
        nb_jfail_memory(j);
    return j->status;
}

void nb_jinja_end(nb_jinja *j) { nb_arena_free(&j->arena); }
