#include "text/jinja_parser.h"

#include "text/jinja_defs.h"

typedef struct parser {
    nb_arena *arena;
    const nb_jtoken *t; /* the current token; the last one is NB_JT_EOF and is never passed */
    int nesting;
    int loops;     /* for bodies around us, within this macro */
    uint8_t *uses; /* of the innermost macro or call block */
    nb_error *err;
    nb_status status; /* sticky: once set, everything returns NULL */
} parser;

static nb_jnode *expression(parser *p);
static nb_jnode *unary(parser *p, bool with_filters);
static nb_jnode *statements(parser *p, const char *const *ends);

static void *fail(parser *p, const char *what)
{
    if (p->status == NB_OK)
        p->status = nb_fail(p->err, NB_ERR_FORMAT, "template line %u: %s, found '%.*s'", p->t->line, what,
                            NB_STR_ARG(p->t->text));
    return NULL;
}

static void *fail_limit(parser *p, const char *what)
{
    if (p->status == NB_OK)
        p->status = nb_fail(p->err, NB_ERR_LIMIT, "template line %u: %s", p->t->line, what);
    return NULL;
}

static bool enter(parser *p)
{
    if (p->status != NB_OK)
        return false;
    if (p->nesting >= NB_JINJA_NESTING) {
        fail_limit(p, "nested too deeply");
        return false;
    }
    p->nesting++;
    return true;
}

static void *leave(parser *p, void *result)
{
    p->nesting--;
    return p->status == NB_OK ? result : NULL;
}

static void next(parser *p)
{
    if (p->t->type != NB_JT_EOF)
        p->t++;
}

static bool is(const parser *p, nb_jtok type) { return p->status == NB_OK && p->t->type == type; }
static bool is_name(const parser *p, const char *name) { return is(p, NB_JT_NAME) && nb_str_eqz(p->t->text, name); }

static bool skip(parser *p, nb_jtok type)
{
    bool found = is(p, type);
    if (found)
        next(p);
    return found;
}

static bool skip_name(parser *p, const char *name)
{
    bool found = is_name(p, name);
    if (found)
        next(p);
    return found;
}

static void expect(parser *p, nb_jtok type, const char *what)
{
    if (!skip(p, type))
        fail(p, what);
}

static nb_str expect_name(parser *p)
{
    nb_str name = p->t->text;
    expect(p, NB_JT_NAME, "expected a name");
    return name;
}

static nb_jnode *node(parser *p, nb_jnode_kind kind)
{
    nb_jnode *n = p->status == NB_OK ? NB_NEW(p->arena, nb_jnode) : NULL;
    if (!n) {
        if (p->status == NB_OK)
            p->status = nb_fail_memory(p->err, "template", sizeof *n);
        return NULL;
    }
    n->kind = kind;
    n->line = p->t->line;
    n->depth = 1;
    return n;
}

/* Notes that child is below n. */
static void below(parser *p, nb_jnode *n, const nb_jnode *child)
{
    if (!n || !child || child->depth < n->depth)
        return;
    if (child->depth >= NB_JINJA_TREE_DEPTH)
        fail_limit(p, "an expression of too many parts");
    n->depth = (uint16_t)(child->depth + 1);
}

static nb_jnode *node_of(parser *p, nb_jnode_kind kind, nb_jnode *a, nb_jnode *b)
{
    nb_jnode *n = node(p, kind);
    if (!n)
        return NULL;
    n->a = a;
    n->b = b;
    if (a)
        n->line = a->line;
    below(p, n, a);
    below(p, n, b);
    return n;
}

/* Appends child to the chain whose last link is *tail. */
static void append(parser *p, nb_jnode *n, nb_jnode ***tail, nb_jnode *child)
{
    if (!child || !n)
        return;
    below(p, n, child);
    **tail = child;
    *tail = &child->next;
}

/* ---- expressions, loosest first ---- */

static nb_jnode *or_expression(parser *p);

static nb_jnode *conditional(parser *p)
{
    if (!enter(p))
        return NULL;
    nb_jnode *e = or_expression(p);
    while (skip_name(p, "if")) {
        nb_jnode *test = or_expression(p);
        nb_jnode *n = node_of(p, NB_JN_COND, e, test);
        if (n && skip_name(p, "else")) {
            n->c = conditional(p);
            below(p, n, n->c);
        }
        e = n;
    }
    return leave(p, e);
}

static nb_jnode *expression(parser *p) { return conditional(p); }

static nb_jnode *not_expression(parser *p);

static nb_jnode *and_expression(parser *p)
{
    nb_jnode *left = not_expression(p);
    while (skip_name(p, "and")) {
        nb_jnode *right = not_expression(p);
        left = node_of(p, NB_JN_AND, left, right);
    }
    return left;
}

static nb_jnode *or_expression(parser *p)
{
    nb_jnode *left = and_expression(p);
    while (skip_name(p, "or")) {
        nb_jnode *right = and_expression(p);
        left = node_of(p, NB_JN_OR, left, right);
    }
    return left;
}

static nb_jnode *math1(parser *p);

static nb_jnode *comparison(parser *p)
{
    nb_jnode *first = math1(p), *n = NULL, **tail = NULL;
    for (;;) {
        nb_jtok op = p->t->type;
        bool compares = op >= NB_JT_EQ && op <= NB_JT_GE;
        bool negated = is_name(p, "not") && p->t[1].type == NB_JT_NAME && nb_str_eqz(p->t[1].text, "in");
        if (p->status != NB_OK || (!compares && !negated && !is_name(p, "in")))
            return n ? n : first;
        next(p);
        if (negated)
            next(p);
        nb_jnode *operand = node_of(p, NB_JN_OPERAND, math1(p), NULL);
        if (!operand)
            return NULL;
        operand->op = compares ? op : NB_JT_NAME;
        operand->flag = negated;
        if (!n) {
            n = node_of(p, NB_JN_COMPARE, first, NULL);
            if (!n)
                return NULL;
            tail = &n->list;
        }
        append(p, n, &tail, operand);
    }
}

static nb_jnode *not_expression(parser *p)
{
    if (!is_name(p, "not"))
        return comparison(p);
    if (!enter(p))
        return NULL;
    next(p);
    nb_jnode *operand = not_expression(p);
    return leave(p, node_of(p, NB_JN_NOT, operand, NULL));
}

static nb_jnode *binary(parser *p, nb_jtok op, nb_jnode *left, nb_jnode *right)
{
    nb_jnode *n = node_of(p, NB_JN_BINARY, left, right);
    if (n)
        n->op = op;
    return n;
}

static nb_jnode *power(parser *p)
{
    nb_jnode *left = unary(p, true);
    while (skip(p, NB_JT_POW))
        left = binary(p, NB_JT_POW, left, unary(p, true));
    return left;
}

static nb_jnode *math2(parser *p)
{
    nb_jnode *left = power(p);
    for (;;) {
        nb_jtok op = p->t->type;
        if (p->status != NB_OK || (op != NB_JT_MUL && op != NB_JT_DIV && op != NB_JT_FLOORDIV && op != NB_JT_MOD))
            return left;
        next(p);
        left = binary(p, op, left, power(p));
    }
}

static nb_jnode *concatenation(parser *p)
{
    nb_jnode *first = math2(p);
    if (!is(p, NB_JT_TILDE))
        return first;
    nb_jnode *n = node(p, NB_JN_CONCAT);
    if (!n)
        return NULL;
    nb_jnode **tail = &n->list;
    append(p, n, &tail, first);
    while (skip(p, NB_JT_TILDE))
        append(p, n, &tail, math2(p));
    return p->status == NB_OK ? n : NULL;
}

static nb_jnode *math1(parser *p)
{
    nb_jnode *left = concatenation(p);
    while (is(p, NB_JT_ADD) || is(p, NB_JT_SUB)) {
        nb_jtok op = p->t->type;
        next(p);
        left = binary(p, op, left, concatenation(p));
    }
    return left;
}

/* ---- primaries ---- */

static bool tuple_ends(const parser *p, const char *stop)
{
    return is(p, NB_JT_VAR_END) || is(p, NB_JT_BLOCK_END) || is(p, NB_JT_RPAREN) || (stop && is_name(p, stop));
}

typedef nb_jnode *parse_fn(parser *p);

/* One item, or a tuple of them when there are commas. */
static nb_jnode *tuple(parser *p, parse_fn *item, const char *stop, bool may_be_empty)
{
    nb_jnode *n = node(p, NB_JN_TUPLE);
    if (!n)
        return NULL;
    nb_jnode **tail = &n->list;
    bool commas = false;
    while (!tuple_ends(p, stop) && p->status == NB_OK) {
        append(p, n, &tail, item(p));
        if (!skip(p, NB_JT_COMMA))
            break;
        commas = true;
    }
    if (!commas && !n->list && !may_be_empty)
        return fail(p, "expected an expression");
    if (p->status != NB_OK)
        return NULL;
    return commas || !n->list ? n : n->list;
}

static nb_jnode *list_literal(parser *p)
{
    nb_jnode *n = node(p, NB_JN_LIST);
    if (!n)
        return NULL;
    nb_jnode **tail = &n->list;
    next(p);
    while (p->status == NB_OK && !is(p, NB_JT_RBRACKET)) {
        append(p, n, &tail, expression(p));
        if (!skip(p, NB_JT_COMMA))
            break;
    }
    expect(p, NB_JT_RBRACKET, "expected ',' or ']'");
    return n;
}

static nb_jnode *dict_literal(parser *p)
{
    nb_jnode *n = node(p, NB_JN_DICT);
    if (!n)
        return NULL;
    nb_jnode **tail = &n->list;
    next(p);
    while (p->status == NB_OK && !is(p, NB_JT_RBRACE)) {
        append(p, n, &tail, expression(p));
        expect(p, NB_JT_COLON, "expected ':'");
        append(p, n, &tail, expression(p));
        if (!skip(p, NB_JT_COMMA))
            break;
    }
    expect(p, NB_JT_RBRACE, "expected ',' or '}'");
    return n;
}

static nb_jnode *string_literal(parser *p)
{
    nb_jnode *n = node(p, NB_JN_STRING);
    if (!n)
        return NULL;
    n->name = p->t->text;
    next(p);
    while (is(p, NB_JT_STRING)) { /* neighbours join, as in Python */
        size_t total = n->name.n + p->t->text.n;
        char *joined = nb_arena_alloc(p->arena, total + 1, 1);
        if (!joined)
            return fail_limit(p, "out of memory");
        if (n->name.n)
            memcpy(joined, n->name.p, n->name.n);
        if (p->t->text.n)
            memcpy(joined + n->name.n, p->t->text.p, p->t->text.n);
        n->name = (nb_str){joined, total};
        next(p);
    }
    return n;
}

static nb_jnode *name_or_constant(parser *p)
{
    nb_str s = p->t->text;
    bool yes = nb_str_eqz(s, "true") || nb_str_eqz(s, "True");
    nb_jnode_kind kind = NB_JN_NAME;
    if (yes || nb_str_eqz(s, "false") || nb_str_eqz(s, "False"))
        kind = NB_JN_BOOL;
    else if (nb_str_eqz(s, "none") || nb_str_eqz(s, "None"))
        kind = NB_JN_NONE;
    nb_jnode *n = node(p, kind);
    if (!n)
        return NULL;
    n->name = s;
    n->number.i = yes;
    if (p->uses && nb_str_eqz(s, "caller"))
        *p->uses |= NB_JM_CALLER;
    if (p->uses && nb_str_eqz(s, "kwargs"))
        *p->uses |= NB_JM_KWARGS;
    if (p->uses && nb_str_eqz(s, "varargs"))
        *p->uses |= NB_JM_VARARGS;
    next(p);
    return n;
}

static nb_jnode *primary(parser *p)
{
    nb_jnode *n;
    if (p->status != NB_OK)
        return NULL;
    switch (p->t->type) {
    case NB_JT_NAME: return name_or_constant(p);
    case NB_JT_STRING: return string_literal(p);
    case NB_JT_LBRACKET: return list_literal(p);
    case NB_JT_LBRACE: return dict_literal(p);
    case NB_JT_INT:
    case NB_JT_FLOAT:
        n = node(p, p->t->type == NB_JT_INT ? NB_JN_INT : NB_JN_FLOAT);
        if (n && n->kind == NB_JN_INT)
            n->number.i = p->t->number.i;
        else if (n)
            n->number.f = p->t->number.f;
        next(p);
        return n;
    case NB_JT_LPAREN:
        next(p);
        n = tuple(p, expression, NULL, true);
        expect(p, NB_JT_RPAREN, "expected ')'");
        return n;
    default: return fail(p, "expected an expression");
    }
}

/* ---- what follows a primary: .name [index] (arguments) |filter is test ---- */

static nb_jnode *argument(parser *p, int *stage)
{
    if (skip(p, NB_JT_MUL)) {
        if (*stage >= 2)
            return fail(p, "wrong order of arguments");
        *stage = 2;
        return node_of(p, NB_JN_STAR, expression(p), NULL);
    }
    if (skip(p, NB_JT_POW)) {
        if (*stage >= 3)
            return fail(p, "wrong order of arguments");
        *stage = 3;
        return node_of(p, NB_JN_STARS, expression(p), NULL);
    }
    if (is(p, NB_JT_NAME) && p->t[1].type == NB_JT_ASSIGN) {
        nb_str name = p->t->text;
        if (*stage == 3)
            return fail(p, "wrong order of arguments");
        *stage = *stage > 1 ? *stage : 1;
        next(p);
        next(p);
        nb_jnode *n = node_of(p, NB_JN_KEYWORD, expression(p), NULL);
        if (n)
            n->name = name;
        return n;
    }
    if (*stage > 0)
        return fail(p, "wrong order of arguments");
    return expression(p);
}

/* "(a, b=c)" into n->list */
static void arguments(parser *p, nb_jnode *n)
{
    int stage = 0; /* 1: keywords seen, 2: *args, 3: **kwargs */
    if (!n)
        return;
    nb_jnode **tail = &n->list;
    expect(p, NB_JT_LPAREN, "expected '('");
    while (p->status == NB_OK && !is(p, NB_JT_RPAREN)) {
        append(p, n, &tail, argument(p, &stage));
        if (!skip(p, NB_JT_COMMA))
            break;
    }
    expect(p, NB_JT_RPAREN, "expected ',' or ')'");
}

static nb_jnode *call(parser *p, nb_jnode *callee)
{
    nb_jnode *n = node_of(p, NB_JN_CALL, callee, NULL);
    arguments(p, n);
    return n;
}

/* What stands between the brackets of a[...]: an expression or a slice. */
static nb_jnode *subscript_part(parser *p)
{
    nb_jnode *first = is(p, NB_JT_COLON) ? NULL : expression(p);
    if (!skip(p, NB_JT_COLON))
        return first;
    nb_jnode *n = node_of(p, NB_JN_SLICE, first, NULL);
    if (!n)
        return NULL;
    if (!is(p, NB_JT_COLON) && !is(p, NB_JT_RBRACKET) && !is(p, NB_JT_COMMA))
        n->b = expression(p);
    if (skip(p, NB_JT_COLON) && !is(p, NB_JT_RBRACKET) && !is(p, NB_JT_COMMA))
        n->c = expression(p);
    below(p, n, n->b);
    below(p, n, n->c);
    return n;
}

static nb_jnode *subscript(parser *p, nb_jnode *object)
{
    if (skip(p, NB_JT_DOT)) {
        bool number = is(p, NB_JT_INT);
        nb_jnode *index = number ? primary(p) : NULL;
        nb_jnode *n = node_of(p, number ? NB_JN_GETITEM : NB_JN_GETATTR, object, index);
        if (n && !number)
            n->name = expect_name(p);
        return n;
    }
    next(p);
    nb_jnode *index = subscript_part(p);
    if (is(p, NB_JT_COMMA)) {
        nb_jnode *n = node_of(p, NB_JN_TUPLE, NULL, NULL);
        nb_jnode **tail = n ? &n->list : NULL;
        append(p, n, &tail, index);
        while (skip(p, NB_JT_COMMA))
            append(p, n, &tail, subscript_part(p));
        index = n;
    }
    expect(p, NB_JT_RBRACKET, "expected ']'");
    return node_of(p, NB_JN_GETITEM, object, index);
}

static nb_jnode *postfix(parser *p, nb_jnode *n)
{
    while (p->status == NB_OK) {
        if (is(p, NB_JT_DOT) || is(p, NB_JT_LBRACKET))
            n = subscript(p, n);
        else if (is(p, NB_JT_LPAREN))
            n = call(p, n);
        else
            return n;
    }
    return NULL;
}

static nb_jnode *filter(parser *p, nb_jnode *input)
{
    nb_jnode *n = node_of(p, NB_JN_FILTER, input, NULL);
    if (!n)
        return NULL;
    n->line = p->t->line;
    n->name = expect_name(p);
    n->def = nb_jdef_find(NB_JDEF_FILTERS, n->name);
    if (is(p, NB_JT_LPAREN))
        arguments(p, n);
    return n;
}

static bool test_takes_argument(const parser *p)
{
    nb_jtok type = p->t->type;
    if (type == NB_JT_NAME)
        return !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and");
    return type == NB_JT_STRING || type == NB_JT_INT || type == NB_JT_FLOAT || type == NB_JT_LBRACKET ||
           type == NB_JT_LBRACE;
}

static nb_jnode *test(parser *p, nb_jnode *input)
{
    next(p);
    bool negated = skip_name(p, "not");
    nb_jnode *n = node_of(p, NB_JN_TEST, input, NULL);
    if (!n)
        return NULL;
    n->name = expect_name(p);
    n->def = nb_jdef_find(NB_JDEF_TESTS, n->name);
    if (is(p, NB_JT_LPAREN)) {
        arguments(p, n);
    } else if (p->status == NB_OK && test_takes_argument(p)) {
        if (is_name(p, "is"))
            return fail(p, "tests cannot be chained with 'is'");
        nb_jnode **tail = &n->list;
        append(p, n, &tail, postfix(p, primary(p)));
    }
    return negated ? node_of(p, NB_JN_NOT, n, NULL) : n;
}

static nb_jnode *filters_and_tests(parser *p, nb_jnode *n)
{
    while (p->status == NB_OK) {
        if (skip(p, NB_JT_PIPE))
            n = filter(p, n);
        else if (is_name(p, "is"))
            n = test(p, n);
        else if (is(p, NB_JT_LPAREN))
            n = call(p, n);
        else
            return n;
    }
    return NULL;
}

static nb_jnode *unary(parser *p, bool with_filters)
{
    if (!enter(p))
        return NULL;
    nb_jnode *n;
    if (is(p, NB_JT_SUB) || is(p, NB_JT_ADD)) {
        nb_jnode_kind kind = is(p, NB_JT_SUB) ? NB_JN_NEG : NB_JN_POS;
        next(p);
        n = node_of(p, kind, unary(p, false), NULL);
    } else {
        n = primary(p);
    }
    n = postfix(p, n);
    if (with_filters)
        n = filters_and_tests(p, n);
    return leave(p, n);
}

/* ---- statements ---- */

static nb_jnode *target_item(parser *p)
{
    if (is(p, NB_JT_NAME) && p->t[1].type == NB_JT_DOT) {
        nb_jnode *n = node(p, NB_JN_NSREF);
        if (!n)
            return NULL;
        n->name = p->t->text;
        next(p);
        next(p);
        n->text2 = expect_name(p);
        return n;
    }
    if (is(p, NB_JT_LPAREN)) {
        if (!enter(p))
            return NULL;
        next(p);
        nb_jnode *n = tuple(p, target_item, NULL, true);
        expect(p, NB_JT_RPAREN, "expected ')'");
        return leave(p, n);
    }
    nb_jnode *n = is(p, NB_JT_NAME) ? name_or_constant(p) : NULL;
    return n && n->kind == NB_JN_NAME ? n : fail(p, "expected a name to assign to");
}

static nb_jnode *body_of(parser *p, const char *const *ends)
{
    expect(p, NB_JT_BLOCK_END, "expected the end of the tag");
    return statements(p, ends);
}

static nb_jnode *body_until(parser *p, const char *end)
{
    nb_jnode *body = body_of(p, (const char *const[]){end, NULL});
    next(p);
    return body;
}

static nb_jnode *for_statement(parser *p)
{
    nb_jnode *n = node(p, NB_JN_FOR);
    if (!n)
        return NULL;
    n->a = tuple(p, target_item, "in", false);
    if (!skip_name(p, "in"))
        return fail(p, "expected 'in'");
    n->b = tuple(p, or_expression, "recursive", false);
    if (skip_name(p, "if"))
        n->c = expression(p);
    n->flag = skip_name(p, "recursive");
    p->loops++;
    n->list = body_of(p, (const char *const[]){"endfor", "else", NULL});
    p->loops--;
    if (skip_name(p, "else"))
        n->other = body_until(p, "endfor");
    else
        next(p);
    return n;
}

static nb_jnode *if_statement(parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    nb_jnode *first = NULL, **link = &first;
    do {
        nb_jnode *n = node(p, NB_JN_IF);
        if (!n)
            return NULL;
        *link = n;
        link = &n->c;
        n->a = tuple(p, or_expression, NULL, false);
        n->list = body_of(p, ends);
        if (skip_name(p, "else")) {
            n->other = body_until(p, "endif");
            return first;
        }
    } while (skip_name(p, "elif"));
    next(p);
    return first;
}

static nb_jnode *set_statement(parser *p)
{
    nb_jnode *target = tuple(p, target_item, NULL, false);
    nb_jnode *n = node(p, NB_JN_SET);
    if (!n)
        return NULL;
    n->a = target;
    if (skip(p, NB_JT_ASSIGN)) {
        n->b = tuple(p, expression, NULL, false);
        return n;
    }
    n->kind = NB_JN_SETBLOCK;
    while (skip(p, NB_JT_PIPE))
        n->b = filter(p, n->b);
    n->list = body_until(p, "endset");
    return n;
}

/* "(a, b=c)" into n->params */
static void signature(parser *p, nb_jnode *n)
{
    nb_jnode **tail = &n->params;
    bool defaults = false;
    expect(p, NB_JT_LPAREN, "expected '('");
    while (p->status == NB_OK && !is(p, NB_JT_RPAREN)) {
        nb_jnode *param = node(p, NB_JN_PARAM);
        if (!param)
            return;
        param->name = expect_name(p);
        if (skip(p, NB_JT_ASSIGN)) {
            param->a = expression(p);
            defaults = true;
        } else if (defaults) {
            fail(p, "a parameter without a default after one with it");
        }
        *tail = param;
        tail = &param->next;
        if (!skip(p, NB_JT_COMMA))
            break;
    }
    expect(p, NB_JT_RPAREN, "expected ',' or ')'");
}

/* The body of a macro or call block: its own loops, its own special names. */
static void macro_body(parser *p, nb_jnode *n, const char *end)
{
    uint8_t *outer_uses = p->uses;
    int outer_loops = p->loops;
    p->uses = &n->uses;
    p->loops = 0;
    n->list = body_until(p, end);
    p->uses = outer_uses;
    p->loops = outer_loops;
    if (outer_uses)
        *outer_uses |= n->uses;
}

static nb_jnode *macro_statement(parser *p)
{
    nb_jnode *n = node(p, NB_JN_MACRO);
    if (!n)
        return NULL;
    n->name = expect_name(p);
    signature(p, n);
    macro_body(p, n, "endmacro");
    return n;
}

static nb_jnode *call_statement(parser *p)
{
    nb_jnode *n = node(p, NB_JN_CALLBLOCK);
    if (!n)
        return NULL;
    n->name = NB_STR("caller");
    if (is(p, NB_JT_LPAREN))
        signature(p, n);
    n->a = expression(p);
    if (p->status == NB_OK && n->a->kind != NB_JN_CALL)
        return fail(p, "expected a call");
    macro_body(p, n, "endcall");
    return n;
}

static nb_jnode *filter_statement(parser *p)
{
    nb_jnode *n = node(p, NB_JN_FILTERBLOCK);
    if (!n)
        return NULL;
    do
        n->b = filter(p, n->b);
    while (skip(p, NB_JT_PIPE));
    n->list = body_until(p, "endfilter");
    return n;
}

static nb_jnode *with_statement(parser *p)
{
    nb_jnode *n = node(p, NB_JN_WITH);
    if (!n)
        return NULL;
    nb_jnode **tail = &n->params;
    while (p->status == NB_OK && !is(p, NB_JT_BLOCK_END)) {
        if (n->params)
            expect(p, NB_JT_COMMA, "expected ','");
        nb_jnode *param = node(p, NB_JN_PARAM);
        if (!param)
            return NULL;
        param->b = target_item(p);
        expect(p, NB_JT_ASSIGN, "expected '='");
        param->a = expression(p);
        *tail = param;
        tail = &param->next;
    }
    n->list = body_until(p, "endwith");
    return n;
}

static nb_jnode *print_statement(parser *p)
{
    nb_jnode *n = node(p, NB_JN_SCOPE);
    if (!n)
        return NULL;
    nb_jnode **tail = &n->list;
    do
        append(p, n, &tail, node_of(p, NB_JN_OUTPUT, expression(p), NULL));
    while (skip(p, NB_JT_COMMA));
    return n;
}

static nb_jnode *generation_statement(parser *p)
{
    nb_jnode *n = node(p, NB_JN_SCOPE);
    if (n)
        n->list = body_until(p, "endgeneration");
    return n;
}

static nb_jnode *jump_statement(parser *p, nb_jnode_kind kind)
{
    return p->loops ? node(p, kind) : fail(p, "break or continue outside a loop");
}

static nb_jnode *break_statement(parser *p) { return jump_statement(p, NB_JN_BREAK); }
static nb_jnode *continue_statement(parser *p) { return jump_statement(p, NB_JN_CONTINUE); }

static const struct {
    const char *name;
    parse_fn *parse;
} tags[] = {{"for", for_statement},
            {"if", if_statement},
            {"set", set_statement},
            {"macro", macro_statement},
            {"call", call_statement},
            {"filter", filter_statement},
            {"with", with_statement},
            {"print", print_statement},
            {"generation", generation_statement},
            {"break", break_statement},
            {"continue", continue_statement}};

static nb_jnode *unknown_statement(parser *p)
{
    static const char *const other_files[] = {"include", "import", "from", "extends", "block"};
    for (size_t i = 0; i < sizeof other_files / sizeof *other_files && p->status == NB_OK; i++)
        if (is_name(p, other_files[i]))
            p->status = nb_fail(p->err, NB_ERR_UNSUPPORTED,
                                "template line %u: {%% %s %%} needs other templates, and a chat template has none",
                                p->t->line, other_files[i]);
    return fail(p, "expected a tag's name");
}

static nb_jnode *statement(parser *p)
{
    if (!is(p, NB_JT_NAME))
        return fail(p, "expected a tag's name");
    if (!enter(p))
        return NULL;
    uint32_t line = p->t->line;
    nb_jnode *n = NULL;
    bool known = false;
    for (size_t i = 0; i < sizeof tags / sizeof *tags && !known; i++) {
        known = is_name(p, tags[i].name);
        if (!known)
            continue;
        next(p);
        n = tags[i].parse(p);
    }
    if (!known)
        n = unknown_statement(p);
    if (n && p->status == NB_OK)
        n->line = line;
    expect(p, NB_JT_BLOCK_END, "expected the end of the tag");
    return leave(p, n);
}

static bool at_end_tag(const parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (is_name(p, *ends))
            return true;
    return false;
}

/* Statements until one of the end tags, whose name is then the current token; ends NULL: until the end. */
static nb_jnode *statements(parser *p, const char *const *ends)
{
    nb_jnode *first = NULL, **tail = &first;
    while (p->status == NB_OK && !is(p, NB_JT_EOF)) {
        nb_jnode *n = NULL;
        if (is(p, NB_JT_DATA)) {
            n = node(p, NB_JN_DATA);
            if (n)
                n->name = p->t->text;
            next(p);
        } else if (skip(p, NB_JT_VAR_BEGIN)) {
            n = node_of(p, NB_JN_OUTPUT, tuple(p, expression, NULL, false), NULL);
            expect(p, NB_JT_VAR_END, "expected '}}'");
        } else {
            next(p); /* the block's opening */
            if (at_end_tag(p, ends))
                return first;
            n = statement(p);
        }
        if (n) {
            *tail = n;
            tail = &n->next;
        }
    }
    if (ends && p->status == NB_OK) {
        p->status = nb_fail(p->err, NB_ERR_FORMAT, "template line %u: the template ends before {%% %s %%}", p->t->line,
                            ends[0]);
    }
    return first;
}

nb_status nb_jinja_parse(nb_arena *arena, nb_str source, nb_jnode **body, nb_error *err)
{
    nb_jtoken *tokens;
    size_t count;
    NB_TRY(nb_jinja_tokenize(arena, source, &tokens, &count, err));
    parser p = {.arena = arena, .t = tokens, .err = err};
    *body = statements(&p, NULL);
    return p.status;
}
