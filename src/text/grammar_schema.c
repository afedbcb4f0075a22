/* grammar_schema.c - reads a schema, brings it into alternatives, and makes a rule of each list of schemas. */
#include "text/grammar_schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 256, WORK = 1 << 22 };

/* ---- errors ---- */

static void add_step(nb_buf *b, nb_str step)
{
    nb_buf_char(b, '/');
    for (size_t i = 0; i < step.n; i++)
        if (step.p[i] == '~' || step.p[i] == '/')
            nb_buf_z(b, step.p[i] == '~' ? "~0" : "~1");
        else
            nb_buf_char(b, step.p[i]);
}

/* Appends the JSON pointer of `wanted`, looked for below `at`. */
static bool find_pointer(const json_t *at, const json_t *wanted, int depth, nb_buf *b)
{
    if (at == wanted)
        return true;
    size_t before = b->len, i;
    const char *key;
    json_t *value, *object = (json_t *)(uintptr_t)at; /* jansson's loops take no const */
    if (depth > DEPTH)
        return false;
    json_object_foreach(object, key, value)
    {
        add_step(b, nb_str_of(key));
        if (find_pointer(value, wanted, depth + 1, b))
            return true;
        b->len = before;
    }
    json_array_foreach(object, i, value)
    {
        nb_buf_printf(b, "/%zu", i);
        if (find_pointer(value, wanted, depth + 1, b))
            return true;
        b->len = before;
    }
    return false;
}

static void place_of(nb_schema *s, const json_t *node, const char *key, nb_buf *b)
{
    if (node && !find_pointer(s->root, node, 0, b))
        nb_buf_clear(b);
    if (key)
        add_step(b, nb_str_of(key));
    if (b->len == 0)
        nb_buf_z(b, "at its top");
}

nb_status nb_schema_fail(nb_schema *s, const json_t *node, const char *key, nb_status code, const char *format, ...)
{
    char what[600];
    nb_buf place = {0};
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    place_of(s, node, key, &place);
    nb_str at = nb_buf_view(&place);
    nb_fail(s->err, code, "schema, %.*s: %s", NB_STR_ARG(at), what);
    nb_buf_free(&place);
    return code;
}

nb_status nb_schema_memory(nb_schema *s) { return nb_fail_memory(s->err, "a schema", s->arena.used); }

nb_status nb_schema_at(nb_schema *s, nb_status status, const json_t *node, const char *key)
{
    if (status == NB_OK || status == NB_ERR_MEMORY || !s->err)
        return status;
    char what[sizeof s->err->message];
    memcpy(what, s->err->message, sizeof what);
    return nb_schema_fail(s, node, key, status, "%s", what);
}

nb_status nb_schema_work(nb_schema *s, size_t steps)
{
    s->work += steps;
    return s->work <= WORK ? NB_OK
                           : nb_fail(s->err, NB_ERR_LIMIT,
                                     "the schema is too complex: its alternatives multiply; use fewer anyOf and oneOf");
}

/* ---- references ---- */

static const json_t *find_anchor(const json_t *at, nb_str name, int depth)
{
    const json_t *anchor = json_object_get(at, "$anchor"), *id = json_object_get(at, "$id"), *found = NULL;
    if (json_is_string(anchor) && nb_str_eq(nb_json_text(anchor), name))
        return at;
    if (json_is_string(id) && json_string_value(id)[0] == '#' && nb_str_eqz(name, json_string_value(id) + 1))
        return at;
    const char *key;
    size_t i;
    json_t *value, *object = (json_t *)(uintptr_t)at;
    if (depth > DEPTH)
        return NULL;
    json_object_foreach(object, key, value) if (!found) found = find_anchor(value, name, depth + 1);
    json_array_foreach(object, i, value) if (!found) found = find_anchor(value, name, depth + 1);
    return found;
}

static bool has_inner_id(const json_t *at, int depth)
{
    const json_t *id = json_object_get(at, "$id");
    const char *key;
    size_t i;
    json_t *value, *object = (json_t *)(uintptr_t)at;
    if (depth > 0 && json_is_string(id) && json_string_value(id)[0] != '#')
        return true;
    json_object_foreach(object, key, value) if (depth <= DEPTH && has_inner_id(value, depth + 1)) return true;
    json_array_foreach(object, i, value) if (depth <= DEPTH && has_inner_id(value, depth + 1)) return true;
    return false;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* One step of a pointer in a URI's fragment, without its escapes. */
static nb_str unescape(nb_buf *b, nb_str step)
{
    nb_buf_clear(b);
    for (size_t i = 0; i < step.n; i++) {
        char c = step.p[i];
        if (c == '%' && i + 2 < step.n && hex(step.p[i + 1]) >= 0 && hex(step.p[i + 2]) >= 0) {
            c = (char)(hex(step.p[i + 1]) * 16 + hex(step.p[i + 2]));
            i += 2;
        }
        nb_buf_char(b, c);
    }
    size_t kept = 0;
    for (size_t i = 0; i < b->len; i++, kept++) {
        bool escape = b->data[i] == '~' && i + 1 < b->len && (b->data[i + 1] == '0' || b->data[i + 1] == '1');
        b->data[kept] = !escape ? b->data[i] : b->data[i + 1] == '0' ? '~' : '/';
        i += escape;
    }
    b->len = kept;
    nb_buf_reserve(b, 1);
    if (b->data)
        b->data[kept] = 0;
    return nb_buf_view(b);
}

static const json_t *follow_pointer(const json_t *at, nb_str pointer)
{
    nb_buf step = {0};
    while (at && pointer.n > 0 && pointer.p[0] == '/') {
        size_t n = 1;
        while (n < pointer.n && pointer.p[n] != '/')
            n++;
        nb_str name = unescape(&step, (nb_str){pointer.p + 1, n - 1});
        pointer = (nb_str){pointer.p + n, pointer.n - n};
        if (json_is_array(at))
            at = name.n > 0 && name.n < 9 && strspn(name.p, "0123456789") == name.n
                     ? json_array_get(at, (size_t)atol(name.p))
                     : NULL;
        else
            at = json_object_get(at, name.p);
    }
    nb_buf_free(&step);
    return at;
}

nb_status nb_schema_resolve(nb_schema *s, const json_t *node, const json_t **out)
{
    const json_t *ref = json_object_get(node, "$ref"), *id = json_object_get(s->root, "$id");
    if (!json_is_string(ref))
        return nb_schema_fail(s, node, "$ref", NB_ERR_ARGUMENT, "a reference is a string");
    nb_str text = nb_json_text(ref), base = json_is_string(id) ? nb_json_text(id) : (nb_str){0};
    if (base.n > 0 && base.p[base.n - 1] == '#')
        base.n--;
    if (base.n > 0 && nb_str_starts(text, base) && (text.n == base.n || text.p[base.n] == '#'))
        text = (nb_str){text.p + base.n, text.n - base.n};
    *out = NULL;
    if (s->has_inner_id || (text.n > 0 && text.p[0] != '#') || memchr(text.p, 0, text.n))
        return nb_schema_fail(
            s, node, "$ref", NB_ERR_UNSUPPORTED,
            "\"%.*s\" leads out of the schema: only references to its own parts (#/...) can be followed",
            NB_STR_ARG(text));
    nb_str fragment = text.n > 0 ? (nb_str){text.p + 1, text.n - 1} : text;
    if (fragment.n == 0 || fragment.p[0] == '/')
        *out = follow_pointer(s->root, fragment);
    else
        *out = find_anchor(s->root, fragment, 0);
    if (!*out)
        return nb_schema_fail(s, node, "$ref", NB_ERR_ARGUMENT, "there is nothing at \"%.*s\"", NB_STR_ARG(text));
    return NB_OK;
}

/* ---- lists of schemas that all hold ---- */

/* A schema that says nothing. */
static bool says_nothing(const json_t *node)
{
    return json_is_true(node) || (json_is_object(node) && json_object_size(node) == 0);
}

nb_status nb_schema_all(nb_schema *s, const json_t **nodes, size_t count, nb_all **out)
{
    const json_t **kept = NB_ARRAY(&s->arena, const json_t *, count);
    size_t n = 0;
    uintptr_t hash = 0;
    *out = NULL;
    if (!kept)
        return nb_schema_memory(s);
    for (size_t i = 0; i < count; i++) {
        bool known = says_nothing(nodes[i]);
        for (size_t k = 0; k < n && !known; k++)
            known = kept[k] == nodes[i];
        if (!known) {
            kept[n++] = nodes[i];
            hash = (hash ^ (uintptr_t)nodes[i]) * 0x9E3779B97F4A7C15u;
        }
    }
    nb_all **slot = &s->hash[(hash >> 20) % (sizeof s->hash / sizeof *s->hash)];
    for (nb_all *all = *slot; all; all = all->same)
        if (all->count == n && memcmp(all->nodes, kept, n * sizeof *kept) == 0) {
            *out = all;
            return NB_OK;
        }
    nb_all *all = NB_NEW(&s->arena, nb_all);
    if (!all)
        return nb_schema_memory(s);
    if (++s->all_count > NB_SCHEMA_RULES)
        return nb_fail(s->err, NB_ERR_LIMIT, "the schema has more than %d different parts", NB_SCHEMA_RULES);
    *all = (nb_all){.nodes = kept, .count = n, .rule = nb_rules_add(&s->r, (nb_str){0}), .same = *slot};
    *slot = *out = all;
    if (s->last)
        s->last->queued = all;
    else
        s->first = all;
    s->last = all;
    return s->r.status;
}

/* ---- alternatives ---- */

typedef enum todo_kind { TODO_SCHEMA, TODO_ANY_OF, TODO_ONE_OF } todo_kind;

typedef struct todo {
    const json_t *node;
    todo_kind kind;
    const struct todo *next;
} todo;

typedef struct atom {
    const json_t *node;
    const struct atom *before;
    size_t count; /* with this one */
} atom;

typedef struct expansion {
    nb_schema *s;
    const json_t *closing; /* whose unevaluatedProperties count; NULL: nobody's */
    const nb_term *terms, **end;
    size_t count;
    int depth;
} expansion;

static const char *const refused[] = {
    "contains",      "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef",
    "$recursiveRef", "unevaluatedItems",  "divisibleBy",      "disallow",     "extends",
};

/* What cannot be kept is said, not passed over. */
static nb_status check_keywords(nb_schema *s, const json_t *node, bool closing)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *v = json_object_get(node, refused[i]);
        bool idle = refused[i][0] == 'u' ? json_is_true(v)
                                         : refused[i][0] == 'd' && json_is_object(v) && json_object_size(v) == 0;
        if (v && !idle)
            return nb_schema_fail(s, node, refused[i], NB_ERR_UNSUPPORTED, "this keyword is not supported");
    }
    if (json_object_get(node, "if") && (json_object_get(node, "then") || json_object_get(node, "else")))
        return nb_schema_fail(s, node, "if", NB_ERR_UNSUPPORTED, "conditions are not supported: use anyOf");
    const json_t *rest = json_object_get(node, "unevaluatedProperties");
    if (rest && !json_is_true(rest) && !(json_is_false(rest) && closing))
        return nb_schema_fail(s, node, "unevaluatedProperties", NB_ERR_UNSUPPORTED,
                              "only false is supported here, and only where no other schema holds beside this one");
    return NB_OK;
}

static const todo *push(nb_schema *s, const json_t *node, todo_kind kind, const todo *next)
{
    todo *t = NB_NEW(&s->arena, todo);
    if (t)
        *t = (todo){node, kind, next};
    else
        s->out_of_memory = true;
    return t;
}

static nb_status add_term(expansion *x, const atom *atoms, const nb_choice *choices)
{
    nb_term *t = NB_NEW(&x->s->arena, nb_term);
    if (!t || !(t->atoms = NB_ARRAY(&x->s->arena, const json_t *, atoms ? atoms->count : 0)))
        return nb_schema_memory(x->s);
    if (++x->count > NB_SCHEMA_TERMS)
        return nb_schema_fail(x->s, atoms->node, NULL, NB_ERR_LIMIT,
                              "more than %d combinations of anyOf and oneOf hold here", NB_SCHEMA_TERMS);
    t->choices = choices;
    t->count = atoms ? atoms->count : 0;
    for (const atom *a = atoms; a; a = a->before) {
        t->atoms[a->count - 1] = a->node;
        t->closed |= a->node == x->closing && json_is_false(json_object_get(a->node, "unevaluatedProperties"));
    }
    *x->end = t;
    x->end = &t->next;
    return NB_OK;
}

/* The schemas that a node brings along, before those that wait already. */
static nb_status push_parts(expansion *x, const json_t *node, const todo **pending)
{
    nb_schema *s = x->s;
    const json_t *all_of = json_object_get(node, "allOf"), *target;
    const todo *list = *pending;
    if (json_object_get(node, "oneOf"))
        list = push(s, node, TODO_ONE_OF, list);
    if (json_object_get(node, "anyOf"))
        list = push(s, node, TODO_ANY_OF, list);
    if (all_of && !json_is_array(all_of))
        return nb_schema_fail(s, node, "allOf", NB_ERR_ARGUMENT, "a list of schemas should be here");
    for (size_t i = json_array_size(all_of); i-- > 0;)
        list = push(s, json_array_get(all_of, i), TODO_SCHEMA, list);
    if (json_object_get(node, "$ref")) {
        NB_TRY(nb_schema_resolve(s, node, &target));
        list = push(s, target, TODO_SCHEMA, list);
    }
    *pending = list;
    return s->out_of_memory ? nb_schema_memory(s) : NB_OK;
}

static nb_status expand(expansion *x, const todo *pending, const atom *atoms, const nb_choice *choices);

static nb_status branch(expansion *x, const todo *at, const atom *atoms, const nb_choice *choices)
{
    const char *key = at->kind == TODO_ANY_OF ? "anyOf" : "oneOf";
    const json_t *list = json_object_get(at->node, key);
    if (!json_is_array(list) || json_array_size(list) == 0)
        return nb_schema_fail(x->s, at->node, key, NB_ERR_ARGUMENT, "a list of schemas should be here");
    if (x->depth == DEPTH)
        return nb_schema_fail(x->s, at->node, key, NB_ERR_LIMIT, "alternatives within alternatives too deep");
    x->depth++;
    for (size_t i = 0; i < json_array_size(list); i++) {
        nb_choice *choice = NB_NEW(&x->s->arena, nb_choice);
        const todo *next = push(x->s, json_array_get(list, i), TODO_SCHEMA, at->next);
        if (!choice || !next)
            return nb_schema_memory(x->s);
        *choice = (nb_choice){at->node, i, choices};
        NB_TRY(expand(x, next, atoms, at->kind == TODO_ONE_OF ? choice : choices));
    }
    x->depth--;
    return NB_OK;
}

static bool is_known(const atom *atoms, const json_t *node)
{
    while (atoms && atoms->node != node)
        atoms = atoms->before;
    return atoms != NULL;
}

static nb_status expand(expansion *x, const todo *pending, const atom *atoms, const nb_choice *choices)
{
    nb_schema *s = x->s;
    while (pending) {
        const json_t *node = pending->node;
        NB_TRY(nb_schema_work(s, 1 + (atoms ? atoms->count : 0)));
        if (pending->kind != TODO_SCHEMA)
            return branch(x, pending, atoms, choices);
        pending = pending->next;
        if (json_is_false(node))
            return NB_OK;
        if (says_nothing(node) || is_known(atoms, node))
            continue;
        if (!json_is_object(node))
            return nb_schema_fail(s, node, NULL, NB_ERR_ARGUMENT, "a schema is an object, true or false");
        NB_TRY(check_keywords(s, node, node == x->closing));
        atom *a = NB_NEW(&s->arena, atom);
        if (!a)
            return nb_schema_memory(s);
        *a = (atom){node, atoms, 1 + (atoms ? atoms->count : 0)};
        atoms = a;
        NB_TRY(push_parts(x, node, &pending));
    }
    return add_term(x, atoms, choices);
}

/* The schema that holds alone, behind references that say nothing else. */
static nb_status closing_of(nb_schema *s, const nb_all *all, const json_t **out)
{
    *out = all->count == 1 ? all->nodes[0] : NULL;
    for (int i = 0; i < DEPTH && *out && json_object_size(*out) == 1 && json_object_get(*out, "$ref"); i++)
        NB_TRY(nb_schema_resolve(s, *out, out));
    return NB_OK;
}

nb_status nb_schema_terms(nb_schema *s, nb_all *all, const nb_term **out)
{
    if (!all->expanded) {
        expansion x = {.s = s, .end = &x.terms};
        const todo *pending = NULL;
        NB_TRY(closing_of(s, all, &x.closing));
        for (size_t i = all->count; i-- > 0;)
            if (!(pending = push(s, all->nodes[i], TODO_SCHEMA, pending)))
                return nb_schema_memory(s);
        NB_TRY(expand(&x, pending, NULL, NULL));
        all->terms = x.terms;
        all->expanded = true;
    }
    *out = all->terms;
    return NB_OK;
}

/* ---- rules ---- */

static nb_status write_all(nb_schema *s, nb_all *all)
{
    const nb_term *terms;
    nb_rule rule = nb_rules_at(&s->r, all->rule);
    NB_TRY(nb_schema_terms(s, all, &terms));
    NB_TRY(nb_schema_check_one_of(s, terms));
    for (const nb_term *t = terms; t; t = t->next) {
        nb_shape shape;
        NB_TRY(nb_schema_shape(s, t, &shape));
        NB_TRY(nb_schema_write(s, t, &shape, rule.start, rule.end));
    }
    return s->r.status;
}

/* The rule of documents in a frame, one after the other; `one` is the document's. */
static uint32_t frame_rule(nb_rules *r, uint32_t one, const nb_grammar_frame *f)
{
    uint32_t framed = nb_rules_add(r, NB_STR("")), further = nb_rules_add(r, NB_STR("")),
             all = nb_rules_add(r, NB_STR(""));
    nb_rule rule = nb_rules_at(r, framed);
    uint32_t begin = nb_rules_text(r, rule.start, f->open), end = nb_rules_state(r);
    nb_rules_call(r, begin, end, one, 1, 1);
    nb_rules_empty(r, nb_rules_text(r, end, f->close), rule.end);
    rule = nb_rules_at(r, further);
    nb_rules_call(r, nb_rules_text(r, rule.start, f->between), rule.end, framed, 1, 1);
    rule = nb_rules_at(r, all);
    uint32_t first = nb_rules_state(r);
    nb_rules_call(r, rule.start, first, framed, 1, 1);
    nb_rules_call(r, first, rule.end, further, 0, f->most - 1);
    return all;
}

/* frame NULL: one document alone */
static nb_status compile(nb_schema *s, const nb_grammar_frame *frame, nb_grammar **out)
{
    nb_all *root;
    s->has_inner_id = has_inner_id(s->root, 0);
    NB_TRY(nb_schema_all(s, &s->root, 1, &root));
    while (s->first) {
        nb_all *all = s->first;
        if (!(s->first = all->queued))
            s->last = NULL;
        NB_TRY(write_all(s, all));
    }
    return nb_rules_compile(&s->r, frame ? frame_rule(&s->r, root->rule, frame) : root->rule, "the schema", out,
                            s->err);
}

/* Integers that do not fit 64 bits are read as floating point: good enough for bounds, and refused as values. */
static json_t *load(nb_schema *s, nb_str json, json_error_t *error)
{
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *root = json_loadb(json.p, json.n, flags, error);
    if (!root && json_error_code(error) == json_error_numeric_overflow) {
        s->rounded = true;
        root = json_loadb(json.p, json.n, flags | JSON_DECODE_INT_AS_REAL, error);
    }
    return root;
}

static nb_status from_schema(nb_str json, bool compact, const nb_grammar_frame *frame, nb_grammar **out, nb_error *err)
{
    json_error_t error;
    *out = NULL;
    if (json.n > NB_GRAMMAR_TEXT)
        return nb_fail(err, NB_ERR_LIMIT, "a schema of %zu bytes: at most %d can be read", json.n, NB_GRAMMAR_TEXT);
    nb_schema *s = calloc(1, sizeof *s);
    if (!s)
        return nb_fail_memory(err, "a schema", sizeof *s);
    nb_error own = {0};
    s->err = s->r.err = &own;
    s->compact = compact;
    s->arena.limit = 512u << 20;
    json_t *root = load(s, json, &error);
    s->root = root;
    nb_status status = root ? compile(s, frame, out)
                            : nb_fail(&own, NB_ERR_ARGUMENT, "schema, line %d, column %d: %s", error.line, error.column,
                                      error.text);
    if (status != NB_OK && err)
        *err = own;
    json_decref(root);
    nb_rules_free(&s->r);
    nb_arena_free(&s->arena);
    free(s);
    return status;
}

nb_status nb_grammar_from_schema(nb_str json, bool compact, nb_grammar **out, nb_error *err)
{
    return from_schema(json, compact, NULL, out, err);
}

nb_status nb_grammar_from_schema_in(nb_str json, const nb_grammar_frame *frame, nb_grammar **out, nb_error *err)
{
    return from_schema(json, false, frame, out, err);
}
