#include "text/grammar_rules.h"

#include <stdlib.h>

#include "text/grammar_internal.h"

void nb_rules_free(nb_rules *r)
{
    nb_grown_free(&r->edges);
    nb_grown_free(&r->rules);
}

static void too_large(nb_rules *r)
{
    if (r->status == NB_OK)
        r->status = nb_fail(r->err, NB_ERR_LIMIT,
                            "the grammar is too large: it needs more than %d states or %d edges; use fewer or shorter "
                            "alternatives and bounds",
                            NB_GRAMMAR_STATES, 4 * NB_GRAMMAR_STATES);
}

uint32_t nb_rules_state(nb_rules *r)
{
    if (r->state_count >= NB_GRAMMAR_STATES)
        too_large(r);
    return r->status == NB_OK ? r->state_count++ : 0;
}

static nb_edge *edges(const nb_rules *r) { return r->edges.p; }
static nb_rule *rules(const nb_rules *r) { return r->rules.p; }

static uint32_t add_rule(nb_rules *r, nb_rule rule)
{
    if (r->status == NB_OK && !nb_grown_reserve(&r->rules, r->rule_count + 1, sizeof rule))
        r->status = nb_fail_memory(r->err, "the rules of a grammar", (r->rule_count + 1) * sizeof rule);
    if (r->status != NB_OK)
        return 0;
    rules(r)[r->rule_count] = rule;
    return (uint32_t)r->rule_count++;
}

uint32_t nb_rules_add(nb_rules *r, nb_str name)
{
    uint32_t start = nb_rules_state(r), end = nb_rules_state(r);
    return add_rule(r, (nb_rule){start, end, name});
}

uint32_t nb_rules_add_part(nb_rules *r, uint32_t start, uint32_t end)
{
    return add_rule(r, (nb_rule){start, end, {0}});
}

nb_rule nb_rules_at(const nb_rules *r, uint32_t rule) { return rule < r->rule_count ? rules(r)[rule] : (nb_rule){0}; }

static void add_edge(nb_rules *r, nb_edge edge)
{
    if (r->edge_count >= 4 * (size_t)NB_GRAMMAR_STATES)
        too_large(r);
    if (r->status == NB_OK && !nb_grown_reserve(&r->edges, r->edge_count + 1, sizeof edge))
        r->status = nb_fail_memory(r->err, "the edges of a grammar", (r->edge_count + 1) * sizeof edge);
    if (r->status == NB_OK)
        edges(r)[r->edge_count++] = edge;
}

void nb_rules_empty(nb_rules *r, uint32_t from, uint32_t to)
{
    add_edge(r, (nb_edge){.from = from, .to = to, .kind = NB_EDGE_EMPTY});
}

void nb_rules_bytes(nb_rules *r, uint32_t from, uint32_t to, unsigned low, unsigned high)
{
    add_edge(r, (nb_edge){.from = from, .to = to, .kind = NB_EDGE_BYTES, .low = (uint8_t)low, .high = (uint8_t)high});
}

void nb_rules_call(nb_rules *r, uint32_t from, uint32_t to, uint32_t rule, uint32_t least, uint32_t most)
{
    if (most == 0)
        nb_rules_empty(r, from, to);
    else
        add_edge(r,
                 (nb_edge){.from = from, .to = to, .kind = NB_EDGE_CALL, .value = rule, .least = least, .most = most});
}

void nb_rules_token(nb_rules *r, uint32_t from, uint32_t to, uint32_t id, bool other)
{
    add_edge(r, (nb_edge){.from = from, .to = to, .kind = NB_EDGE_TOKEN, .value = id, .other = other});
}

uint32_t nb_rules_text(nb_rules *r, uint32_t from, nb_str bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        uint32_t to = nb_rules_state(r);
        nb_rules_bytes(r, from, to, (unsigned char)bytes.p[i], (unsigned char)bytes.p[i]);
        from = to;
    }
    return from;
}

void nb_rules_forget(nb_rules *r, uint32_t from)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->edge_count; i++)
        if (edges(r)[i].from != from)
            edges(r)[kept++] = edges(r)[i];
    r->edge_count = kept;
}

/* ---- ranges of code points as ranges of bytes ---- */

static size_t encode(uint32_t c, unsigned char out[4])
{
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (unsigned char)(0x80 | (c & 63));
    out[0] = (unsigned char)(c | (n == 2 ? 0xC0u : n == 3 ? 0xE0u : 0xF0u));
    return n;
}

static void sequence(nb_rules *r, uint32_t from, uint32_t to, const unsigned char *low, const unsigned char *high,
                     size_t n);

/* Where the rest of a character, n bytes from low to high, leads to `to`; made once, as long as it is remembered. */
static uint32_t tail(nb_rules *r, uint32_t to, const unsigned char *low, const unsigned char *high, size_t n)
{
    uint32_t a = (uint32_t)n << 24, b = 0;
    for (size_t i = 0; i < n; i++) {
        a |= (uint32_t)low[i] << 8 * i;
        b |= (uint32_t)high[i] << 8 * i;
    }
    nb_rules_tail *kept = &r->tails[(to * 31 + a * 17 + b * 7 + (a >> 8) + (b >> 8)) % 256];
    if (kept->state == 0 || kept->to != to || kept->low != a || kept->high != b) {
        uint32_t state = nb_rules_state(r);
        sequence(r, state, to, low, high, n);
        *kept = (nb_rules_tail){to, a, b, state};
    }
    return kept->state;
}

static bool all(const unsigned char *bytes, size_t n, unsigned char byte)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

/* The characters of n bytes from low to high, in the order of their bytes. */
static void sequence(nb_rules *r, uint32_t from, uint32_t to, const unsigned char *low, const unsigned char *high,
                     size_t n)
{
    static const unsigned char least[3] = {0x80, 0x80, 0x80}, most[3] = {0xBF, 0xBF, 0xBF};
    unsigned a = low[0], b = high[0];
    if (n == 1) {
        nb_rules_bytes(r, from, to, a, b);
        return;
    }
    if (a == b) {
        nb_rules_bytes(r, from, tail(r, to, low + 1, high + 1, n - 1), a, a);
        return;
    }
    if (!all(low + 1, n - 1, 0x80)) {
        nb_rules_bytes(r, from, tail(r, to, low + 1, most, n - 1), a, a);
        a++;
    }
    if (!all(high + 1, n - 1, 0xBF)) {
        nb_rules_bytes(r, from, tail(r, to, least, high + 1, n - 1), b, b);
        b--;
    }
    if (a <= b)
        nb_rules_bytes(r, from, tail(r, to, least, most, n - 1), a, b);
}

void nb_rules_chars(nb_rules *r, uint32_t from, uint32_t to, uint32_t low, uint32_t high)
{
    static const uint32_t parts[][2] = {
        {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}}; /* without surrogates */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint32_t a = low > parts[i][0] ? low : parts[i][0], b = high < parts[i][1] ? high : parts[i][1];
        unsigned char first[4], last[4];
        if (a > b)
            continue;
        size_t n = encode(a, first);
        encode(b, last);
        sequence(r, from, to, first, last, n);
    }
}

/* ---- compiling ---- */

typedef struct compiler {
    nb_rules *r;
    nb_arena arena; /* scratch */
    nb_grammar *g;
    uint32_t n;        /* states, before those that lead nowhere are dropped */
    uint32_t *into_at; /* [n + 1] into `into`: edges by the state they lead to */
    uint32_t *into;
    uint32_t *calling_at; /* [n + 1] into `calling`: calls by the start of the rule they call */
    uint32_t *calling;
    bool *useful, *nullable; /* [n] an end can be reached; by reading nothing */
    uint32_t *number;        /* [n] in the grammar, 1 up; 0: dropped */
    uint32_t *queue;         /* [n] */
} compiler;

static uint32_t callee(const compiler *c, const nb_edge *e) { return rules(c->r)[e->value].start; }

static bool index_edges(compiler *c)
{
    size_t count = c->r->edge_count, n = c->n;
    c->into_at = NB_ARRAY(&c->arena, uint32_t, n + 2);
    c->calling_at = NB_ARRAY(&c->arena, uint32_t, n + 2);
    c->into = NB_ARRAY(&c->arena, uint32_t, count);
    c->calling = NB_ARRAY(&c->arena, uint32_t, count);
    c->useful = NB_ARRAY(&c->arena, bool, n);
    c->nullable = NB_ARRAY(&c->arena, bool, n);
    c->number = NB_ARRAY(&c->arena, uint32_t, n);
    c->queue = NB_ARRAY(&c->arena, uint32_t, n);
    if (!c->into_at || !c->calling_at || !c->into || !c->calling || !c->useful || !c->nullable || !c->number ||
        !c->queue)
        return false;
    for (size_t i = 0; i < count; i++) {
        const nb_edge *e = &edges(c->r)[i];
        c->into_at[e->to + 2]++;
        if (e->kind == NB_EDGE_CALL)
            c->calling_at[callee(c, e) + 2]++;
    }
    for (size_t s = 2; s < n + 2; s++) {
        c->into_at[s] += c->into_at[s - 1];
        c->calling_at[s] += c->calling_at[s - 1];
    }
    for (size_t i = 0; i < count; i++) {
        const nb_edge *e = &edges(c->r)[i];
        c->into[c->into_at[e->to + 1]++] = (uint32_t)i;
        if (e->kind == NB_EDGE_CALL)
            c->calling[c->calling_at[callee(c, e) + 1]++] = (uint32_t)i;
    }
    return true;
}

static void mark(compiler *c, bool *marks, uint32_t state, uint32_t *count)
{
    if (!marks[state]) {
        marks[state] = true;
        c->queue[(*count)++] = state;
    }
}

/* Marks the states from which their rule's end is reached; reading: bytes and tokens may be read on the way. */
static void mark_back(compiler *c, bool *marks, bool reading)
{
    uint32_t count = 0;
    for (size_t i = 0; i < c->r->rule_count; i++)
        mark(c, marks, rules(c->r)[i].end, &count);
    for (uint32_t at = 0; at < count; at++) {
        uint32_t state = c->queue[at];
        for (uint32_t i = c->into_at[state]; i < c->into_at[state + 1]; i++) {
            const nb_edge *e = &edges(c->r)[c->into[i]];
            if (e->kind == NB_EDGE_EMPTY || (e->kind == NB_EDGE_CALL ? e->least == 0 || marks[callee(c, e)] : reading))
                mark(c, marks, e->from, &count);
        }
        for (uint32_t i = c->calling_at[state]; i < c->calling_at[state + 1]; i++) {
            const nb_edge *e = &edges(c->r)[c->calling[i]];
            if (marks[e->to])
                mark(c, marks, e->from, &count);
        }
    }
}

/* Calls of what never ends go; what may be empty may be left out; edges to nowhere go. */
static void simplify(compiler *c)
{
    size_t kept = 0;
    nb_edge *all_edges = edges(c->r);
    for (size_t i = 0; i < c->r->edge_count; i++) {
        nb_edge e = all_edges[i];
        if (!c->useful[e.to])
            continue;
        if (e.kind == NB_EDGE_CALL && !c->useful[callee(c, &e)]) {
            if (e.least > 0)
                continue;
            e.kind = NB_EDGE_EMPTY;
        }
        if (e.kind == NB_EDGE_CALL && c->nullable[callee(c, &e)])
            e.least = 0;
        all_edges[kept++] = e;
    }
    c->r->edge_count = kept;
}

static int by_from(const void *a, const void *b)
{
    const nb_edge *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

/* The first state from s on that is more than a step to another; edges are sorted by their states from here on. */
static uint32_t forward(const compiler *c, uint32_t s)
{
    const uint32_t *at = c->into_at;
    while (at[s + 1] - at[s] == 1 && edges(c->r)[at[s]].kind == NB_EDGE_EMPTY)
        s = edges(c->r)[at[s]].to;
    return s;
}

/* Numbers what can be reached from the root, in the order of a walk. */
static uint32_t number_states(compiler *c, uint32_t root, const uint32_t *at)
{
    uint32_t count = 0;
    c->number[root] = ++count;
    c->queue[0] = root;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t s = c->queue[i];
        for (uint32_t k = at[s]; k < at[s + 1]; k++) {
            const nb_edge *e = &edges(c->r)[k];
            uint32_t to[2] = {forward(c, e->to), forward(c, e->kind == NB_EDGE_CALL ? callee(c, e) : e->to)};
            for (int j = 0; j < 2; j++)
                if (!c->number[to[j]]) {
                    c->queue[count++] = to[j];
                    c->number[to[j]] = count;
                }
        }
    }
    return count;
}

static bool reserve(nb_grammar *g, uint32_t n, const size_t kinds[4])
{
    uint32_t **at[] = {&g->empty_at, &g->byte_at, &g->call_at, &g->token_at};
    for (int i = 0; i < 4; i++)
        if (!(*at[i] = NB_ARRAY(&g->arena, uint32_t, (size_t)n + 1)))
            return false;
    g->state_count = n;
    g->empties = NB_ARRAY(&g->arena, uint32_t, kinds[NB_EDGE_EMPTY]);
    g->bytes = NB_ARRAY(&g->arena, nb_byte_edge, kinds[NB_EDGE_BYTES]);
    g->calls = NB_ARRAY(&g->arena, nb_call_edge, kinds[NB_EDGE_CALL]);
    g->tokens = NB_ARRAY(&g->arena, nb_token_edge, kinds[NB_EDGE_TOKEN]);
    g->ends = NB_ARRAY(&g->arena, bool, n);
    return g->empties && g->bytes && g->calls && g->tokens && g->ends;
}

static void put_edge(compiler *c, const nb_edge *e, uint32_t used[4])
{
    nb_grammar *g = c->g;
    uint32_t to = c->number[forward(c, e->to)] - 1;
    switch ((nb_edge_kind)e->kind) {
    case NB_EDGE_EMPTY: g->empties[used[NB_EDGE_EMPTY]++] = to; break;
    case NB_EDGE_BYTES: g->bytes[used[NB_EDGE_BYTES]++] = (nb_byte_edge){to, e->low, e->high}; break;
    case NB_EDGE_CALL:
        g->calls[used[NB_EDGE_CALL]++] = (nb_call_edge){
            .to = to, .start = c->number[forward(c, callee(c, e))] - 1, .least = e->least, .most = e->most};
        break;
    case NB_EDGE_TOKEN: g->tokens[used[NB_EDGE_TOKEN]++] = (nb_token_edge){to, e->value, e->other}; break;
    }
}

/* Copies the edges of the states that count; at: where those of a state begin. */
static bool copy_edges(compiler *c, uint32_t n, const uint32_t *at)
{
    nb_grammar *g = c->g;
    size_t kinds[4] = {0};
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = at[c->queue[i]]; k < at[c->queue[i] + 1]; k++)
            kinds[edges(c->r)[k].kind]++;
    if (!reserve(g, n, kinds))
        return false;
    uint32_t used[4] = {0};
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = at[c->queue[i]]; k < at[c->queue[i] + 1]; k++)
            put_edge(c, &edges(c->r)[k], used);
        g->empty_at[i + 1] = used[NB_EDGE_EMPTY];
        g->byte_at[i + 1] = used[NB_EDGE_BYTES];
        g->call_at[i + 1] = used[NB_EDGE_CALL];
        g->token_at[i + 1] = used[NB_EDGE_TOKEN];
    }
    for (size_t i = 0; i < c->r->rule_count; i++)
        if (c->number[rules(c->r)[i].end])
            g->ends[c->number[rules(c->r)[i].end] - 1] = true;
    return true;
}

/* Whether nothing but the end of its rule comes after state s. */
static bool only_ends(const nb_grammar *g, uint32_t s)
{
    for (int steps = 0; steps < 8; steps++) {
        if (g->ends[s])
            return true;
        bool one = g->empty_at[s + 1] - g->empty_at[s] == 1 && g->byte_at[s] == g->byte_at[s + 1] &&
                   g->call_at[s] == g->call_at[s + 1] && g->token_at[s] == g->token_at[s + 1];
        if (!one)
            return false;
        s = g->empties[g->empty_at[s]];
    }
    return false;
}

static void find_classes(nb_grammar *g)
{
    bool cut[257] = {false};
    for (uint32_t i = 0; i < g->byte_at[g->state_count]; i++)
        cut[g->bytes[i].low] = cut[g->bytes[i].high + 1] = true;
    for (unsigned b = 0; b < 256; b++) {
        if (b == 0 || cut[b])
            g->a_byte_of[g->class_count++] = (uint8_t)b;
        else
            g->bytes_of[g->class_count - 1]++;
        g->class_of[b] = (uint8_t)(g->class_count - 1);
    }
}

/* ---- left recursion: a rule that may come back to itself before anything is read ---- */

/* Appends the rules that are called from the start of one before anything is read. stamp: [states]. */
static uint32_t first_calls(const nb_grammar *g, uint32_t start, uint32_t *stamp, uint32_t *queue, uint32_t *out)
{
    uint32_t count = 1, found = 0;
    queue[0] = start;
    stamp[start] = start + 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t s = queue[i], to[2] = {0};
        for (uint32_t k = g->empty_at[s]; k < g->empty_at[s + 1]; k++)
            if (stamp[to[0] = g->empties[k]] != start + 1) {
                stamp[to[0]] = start + 1;
                queue[count++] = to[0];
            }
        for (uint32_t k = g->call_at[s]; k < g->call_at[s + 1]; k++) {
            const nb_call_edge *e = &g->calls[k];
            out[found++] = e->start;
            if (e->least == 0 && stamp[e->to] != start + 1) {
                stamp[e->to] = start + 1;
                queue[count++] = e->to;
            }
        }
    }
    return found;
}

static nb_str name_of(const compiler *c, uint32_t start)
{
    for (size_t i = 0; i < c->r->rule_count; i++)
        if (rules(c->r)[i].name.n > 0 && c->number[forward(c, rules(c->r)[i].start)] == start + 1)
            return rules(c->r)[i].name;
    return (nb_str){0};
}

/* Of the rules that are left in cycles, one that has a name. */
static nb_status refuse_recursion(const compiler *c, const uint32_t *left, const uint32_t *at, const uint32_t *list,
                                  nb_error *err)
{
    nb_str name = {0};
    uint32_t s = 0;
    while (left[s] == 0)
        s++;
    for (uint32_t steps = 0; steps < 2 * c->g->state_count; steps++) {
        for (uint32_t k = at[s]; k < at[s + 1]; k++)
            if (left[list[k]] > 0) {
                s = list[k];
                break;
            }
        if (steps >= c->g->state_count && name.n == 0)
            name = name_of(c, s);
    }
    return nb_fail(
        err, NB_ERR_UNSUPPORTED,
        "rule \"%.*s\" calls itself before it reads anything (left recursion): write the repetition with * or "
        "put the call last",
        NB_STR_ARG(name));
}

/* Takes away, again and again, the rules that no other calls first; what is left goes round in circles. */
static nb_status check_recursion(compiler *c, nb_error *err)
{
    const nb_grammar *g = c->g;
    uint32_t n = g->state_count, calls = g->call_at[n], total = 0, count = 0;
    uint32_t *stamp = NB_ARRAY(&c->arena, uint32_t, n), *queue = NB_ARRAY(&c->arena, uint32_t, n);
    uint32_t *at = NB_ARRAY(&c->arena, uint32_t, (size_t)n + 1), *list = NB_ARRAY(&c->arena, uint32_t, calls);
    uint32_t *callers = NB_ARRAY(&c->arena, uint32_t, n);
    bool *starts = NB_ARRAY(&c->arena, bool, n);
    if (!stamp || !queue || !at || !list || !callers || !starts)
        return nb_fail_memory(err, "the check of a grammar", (size_t)n * 20);
    starts[g->start] = true;
    for (uint32_t k = 0; k < calls; k++)
        starts[g->calls[k].start] = true;
    for (uint32_t s = 0; s < n; s++) {
        at[s] = total;
        if (starts[s])
            total += first_calls(g, s, stamp, queue, list + total);
        at[s + 1] = total;
    }
    for (uint32_t k = 0; k < total; k++)
        callers[list[k]]++;
    for (uint32_t s = 0; s < n; s++)
        if (callers[s] == 0)
            queue[count++] = s;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = at[queue[i]]; k < at[queue[i] + 1]; k++)
            if (--callers[list[k]] == 0)
                queue[count++] = list[k];
    return count == n ? NB_OK : refuse_recursion(c, callers, at, list, err);
}

static nb_status compile(compiler *c, uint32_t root, const char *root_name, nb_error *err)
{
    nb_grammar *g = c->g;
    if (!index_edges(c))
        return nb_fail_memory(err, "a grammar", c->r->edge_count * 8 + (size_t)c->n * 18);
    mark_back(c, c->useful, true);
    mark_back(c, c->nullable, false);
    if (!c->useful[rules(c->r)[root].start])
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "no text can ever match %s: it leads round in circles or asks for opposites", root_name);
    simplify(c);
    qsort(c->r->edges.p, c->r->edge_count, sizeof(nb_edge), by_from);
    uint32_t *at = c->into_at; /* is used no more */
    memset(at, 0, ((size_t)c->n + 2) * sizeof *at);
    for (size_t i = 0; i < c->r->edge_count; i++)
        at[edges(c->r)[i].from + 1]++;
    for (size_t s = 0; s < c->n; s++)
        at[s + 1] += at[s];
    uint32_t n = number_states(c, forward(c, rules(c->r)[root].start), at);
    if (!copy_edges(c, n, at))
        return nb_fail_memory(err, "a grammar", (size_t)n * 17 + c->r->edge_count * 8);
    for (uint32_t k = 0; k < g->call_at[n]; k++) {
        nb_call_edge *e = &g->calls[k];
        e->last = e->most == 1 && only_ends(g, e->to);
        g->counts |= e->least > 1 || (e->most > 1 && e->most != NB_RULES_ANY);
    }
    find_classes(g);
    return check_recursion(c, err);
}

nb_status nb_rules_compile(nb_rules *r, uint32_t root, const char *root_name, nb_grammar **out, nb_error *err)
{
    *out = NULL;
    if (r->status != NB_OK)
        return r->status;
    compiler c = {.r = r, .n = r->state_count, .g = calloc(1, sizeof *c.g)};
    if (!c.g)
        return nb_fail_memory(err, "a grammar", sizeof *c.g);
    nb_status status = compile(&c, root, root_name, err);
    nb_arena_free(&c.arena);
    if (status == NB_OK)
        *out = c.g;
    else
        nb_grammar_free(c.g);
    return status;
}

void nb_grammar_free(nb_grammar *g)
{
    if (g)
        nb_arena_free(&g->arena);
    free(g);
}
