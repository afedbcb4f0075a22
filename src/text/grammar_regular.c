#include "text/grammar_regular.h"

#include <stdlib.h>

#include "text/utf8.h"

enum { WORK = 1 << 26 }; /* edges looked at while one automaton is made */

/* ---- with alternatives ---- */

static nb_status too_complex(nb_error *err)
{
    return nb_fail(err, NB_ERR_LIMIT,
                   "the automaton for it is too large: use shorter repetitions or fewer alternatives");
}

uint32_t nb_regular_state(nb_regular *r)
{
    if (r->state_count >= NB_REGULAR_STATES && r->status == NB_OK)
        r->status = too_complex(r->err);
    return r->status == NB_OK ? r->state_count++ : 0;
}

static void add_edge(nb_regular *r, nb_regular_edge edge)
{
    if (r->edge_count >= 4 * (size_t)NB_REGULAR_STATES && r->status == NB_OK)
        r->status = too_complex(r->err);
    if (r->status == NB_OK && !nb_grown_reserve(&r->edges, r->edge_count + 1, sizeof edge))
        r->status = nb_fail_memory(r->err, "an automaton", (r->edge_count + 1) * sizeof edge);
    if (r->status == NB_OK)
        ((nb_regular_edge *)r->edges.p)[r->edge_count++] = edge;
}

void nb_regular_chars(nb_regular *r, uint32_t from, uint32_t to, uint32_t low, uint32_t high)
{
    add_edge(r, (nb_regular_edge){from, to, low, high, NB_REGULAR_CHARS});
}

void nb_regular_empty(nb_regular *r, uint32_t from, uint32_t to)
{
    add_edge(r, (nb_regular_edge){from, to, 0, 0, NB_REGULAR_EMPTY});
}

void nb_regular_assert(nb_regular *r, uint32_t from, uint32_t to, bool end)
{
    add_edge(r, (nb_regular_edge){from, to, 0, 0, end ? NB_REGULAR_END : NB_REGULAR_BEGIN});
}

uint32_t nb_regular_text(nb_regular *r, uint32_t from, nb_str text)
{
    uint32_t cp = 0;
    for (size_t i = 0, step; i < text.n; i += step) {
        step = nb_utf8_decode((const unsigned char *)text.p + i, text.n - i, &cp);
        if (step == 0)
            step = 1;
        uint32_t to = nb_regular_state(r);
        nb_regular_chars(r, from, to, cp, cp);
        from = to;
    }
    return from;
}

void nb_regular_free(nb_regular *r) { nb_grown_free(&r->edges); }

/* ---- a deterministic automaton under construction: states get their edges one after another ---- */

typedef struct maker {
    nb_grown at, edges, ends;
    uint32_t count; /* states that have their edges */
    size_t edge_count;
} maker;

static void free_maker(maker *m)
{
    nb_grown_free(&m->at);
    nb_grown_free(&m->edges);
    nb_grown_free(&m->ends);
}

static bool begin_state(maker *m, bool is_end)
{
    if (!nb_grown_reserve(&m->at, (size_t)m->count + 2, sizeof(uint32_t)) ||
        !nb_grown_reserve(&m->ends, (size_t)m->count + 1, sizeof(bool)))
        return false;
    ((uint32_t *)m->at.p)[m->count] = (uint32_t)m->edge_count;
    ((bool *)m->ends.p)[m->count++] = is_end;
    ((uint32_t *)m->at.p)[m->count] = (uint32_t)m->edge_count;
    return true;
}

static bool put_edge(maker *m, uint32_t low, uint32_t high, uint32_t to)
{
    uint32_t *at = m->at.p;
    if (!nb_grown_reserve(&m->edges, m->edge_count + 1, sizeof(nb_dfa_edge)))
        return false;
    nb_dfa_edge *e = (nb_dfa_edge *)m->edges.p + m->edge_count;
    if (m->edge_count > at[m->count - 1] && e[-1].to == to && e[-1].high + 1 == low) {
        e[-1].high = high;
        return true;
    }
    *e = (nb_dfa_edge){low, high, to};
    at[m->count] = (uint32_t)++m->edge_count;
    return true;
}

/* number[s]: 1 up for states from which an end is reached, in the order of their finding from the start; else 0. */
static uint32_t number_useful(const maker *m, uint32_t *number, uint32_t *queue, bool *useful)
{
    const uint32_t *at = m->at.p;
    const nb_dfa_edge *edges = m->edges.p;
    const bool *ends = m->ends.p;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t s = m->count; s-- > 0;) {
            bool now = ends[s];
            for (uint32_t k = at[s]; k < at[s + 1] && !now; k++)
                now = useful[edges[k].to];
            more |= now && !useful[s];
            useful[s] = now || useful[s];
        }
    }
    uint32_t count = 0;
    if (m->count > 0 && useful[0]) {
        queue[0] = 0;
        number[0] = ++count;
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = at[queue[i]]; k < at[queue[i] + 1]; k++)
            if (useful[edges[k].to] && !number[edges[k].to]) {
                queue[count++] = edges[k].to;
                number[edges[k].to] = count;
            }
    return count;
}

static nb_dfa *copy_useful(const maker *m, const uint32_t *number, const uint32_t *queue, uint32_t count,
                           nb_arena *arena)
{
    const uint32_t *at = m->at.p;
    const nb_dfa_edge *edges = m->edges.p;
    nb_dfa *d = NB_NEW(arena, nb_dfa);
    size_t used = 0;
    if (!d || !(d->at = NB_ARRAY(arena, uint32_t, (size_t)count + 1)) ||
        !(d->edges = NB_ARRAY(arena, nb_dfa_edge, m->edge_count)) || !(d->ends = NB_ARRAY(arena, bool, count)))
        return NULL;
    d->count = count;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = at[queue[i]]; k < at[queue[i] + 1]; k++)
            if (number[edges[k].to])
                d->edges[used++] = (nb_dfa_edge){edges[k].low, edges[k].high, number[edges[k].to] - 1};
        d->at[i + 1] = (uint32_t)used;
        d->ends[i] = ((const bool *)m->ends.p)[queue[i]];
    }
    return d;
}

/* The automaton without states that lead nowhere; m is freed. */
static nb_status finish(maker *m, nb_arena *arena, nb_dfa **out, nb_error *err)
{
    nb_arena scratch = {0};
    uint32_t *number = NB_ARRAY(&scratch, uint32_t, m->count), *queue = NB_ARRAY(&scratch, uint32_t, m->count);
    bool *useful = NB_ARRAY(&scratch, bool, m->count);
    *out = NULL;
    if (number && queue && useful)
        *out = copy_useful(m, number, queue, number_useful(m, number, queue, useful), arena);
    nb_arena_free(&scratch);
    free_maker(m);
    return *out ? NB_OK : nb_fail_memory(err, "an automaton", m->edge_count * sizeof(nb_dfa_edge));
}

/* ---- keys of states under construction, each once ---- */

typedef struct keys {
    nb_grown words, at, slots; /* key i is the words from at[i] to at[i + 1] */
    uint32_t count, slot_count;
} keys;

static void free_keys(keys *k)
{
    nb_grown_free(&k->words);
    nb_grown_free(&k->at);
    nb_grown_free(&k->slots);
}

static uint32_t hash_words(const uint32_t *words, size_t n)
{
    uint32_t h = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ words[i]) * 0x9E3779B1u;
        h ^= h >> 15;
    }
    return h;
}

static bool grow_keys(keys *k, size_t n)
{
    size_t used = k->count ? ((uint32_t *)k->at.p)[k->count] : 0;
    if (!nb_grown_reserve(&k->words, used + n, sizeof(uint32_t)) ||
        !nb_grown_reserve(&k->at, (size_t)k->count + 2, sizeof(uint32_t)))
        return false;
    if (2 * k->count < k->slot_count)
        return true;
    k->slot_count = k->slot_count ? 2 * k->slot_count : 256;
    if (!nb_grown_reserve(&k->slots, k->slot_count, sizeof(uint32_t)))
        return false;
    uint32_t *slots = k->slots.p, *at = k->at.p;
    memset(slots, 0, k->slot_count * sizeof *slots);
    for (uint32_t i = 0; i < k->count; i++) {
        uint32_t h = hash_words((uint32_t *)k->words.p + at[i], at[i + 1] - at[i]);
        while (slots[h &= k->slot_count - 1])
            h++;
        slots[h] = i + 1;
    }
    return true;
}

/* The number of a key; UINT32_MAX when there is no room for it. */
static uint32_t key_of(keys *k, const uint32_t *words, size_t n)
{
    if (!grow_keys(k, n))
        return UINT32_MAX;
    uint32_t *slots = k->slots.p, *at = k->at.p, h = hash_words(words, n);
    if (k->count == 0)
        at[0] = 0;
    for (; slots[h &= k->slot_count - 1]; h++) {
        uint32_t i = slots[h] - 1;
        if (at[i + 1] - at[i] == n && (n == 0 || memcmp((uint32_t *)k->words.p + at[i], words, n * sizeof *words) == 0))
            return i;
    }
    if (n > 0)
        memcpy((uint32_t *)k->words.p + at[k->count], words, n * sizeof *words);
    at[k->count + 1] = at[k->count] + (uint32_t)n;
    slots[h] = k->count + 1;
    return k->count++;
}

/* ---- from alternatives to one state at a time ---- */

typedef struct subsets {
    const nb_regular *r;
    nb_arena scratch;
    const nb_regular_edge *edges; /* sorted by from */
    uint32_t *at;                 /* [states + 1] */
    uint32_t end, open;
    uint32_t *stamp, turn;
    uint32_t *set, set_count; /* under construction */
    uint32_t *bound;          /* [2 * edges] where the ranges of a set begin, or have ended */
    keys keys;
    size_t work;
} subsets;

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void add_state(subsets *b, uint32_t s)
{
    if (b->stamp[s] != b->turn) {
        b->stamp[s] = b->turn;
        b->set[b->set_count++] = s;
    }
}

/* What is reached from the set without a character. Returns whether the end is among it; ending: the text ends here. */
static bool close_set(subsets *b, bool begin, bool ending)
{
    bool found = false;
    for (uint32_t i = 0; i < b->set_count; i++) {
        uint32_t s = b->set[i];
        found |= s == b->end || s == b->open;
        for (uint32_t k = b->at[s]; k < b->at[s + 1]; k++) {
            nb_regular_kind kind = b->edges[k].kind;
            if (kind == NB_REGULAR_EMPTY || (kind == NB_REGULAR_BEGIN && begin) || (kind == NB_REGULAR_END && ending))
                add_state(b, b->edges[k].to);
        }
    }
    b->work += b->set_count;
    return found;
}

/* The number of the set under construction, closed. */
static uint32_t number_set(subsets *b, bool begin)
{
    close_set(b, begin, false);
    if (b->open != UINT32_MAX && b->stamp[b->open] == b->turn) {
        b->set[0] = b->open; /* all else says nothing more */
        b->set_count = 1;
    }
    qsort(b->set, b->set_count, sizeof *b->set, by_number);
    return key_of(&b->keys, b->set, b->set_count);
}

static const uint32_t *key_words(const keys *k, uint32_t i, uint32_t *count)
{
    const uint32_t *at = k->at.p;
    *count = at[i + 1] - at[i];
    return (const uint32_t *)k->words.p + at[i];
}

static void begin_set(subsets *b)
{
    b->turn++;
    b->set_count = 0;
}

static bool is_end(subsets *b, uint32_t number)
{
    uint32_t n;
    const uint32_t *states = key_words(&b->keys, number, &n);
    begin_set(b);
    for (uint32_t i = 0; i < n; i++)
        add_state(b, states[i]);
    return close_set(b, number == 0, true);
}

/* The places where the edges of a set begin or have ended, ascending, each once. */
static size_t find_bounds(subsets *b, uint32_t number)
{
    uint32_t n, count = 0, kept = 0;
    const uint32_t *states = key_words(&b->keys, number, &n);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = b->at[states[i]]; k < b->at[states[i] + 1]; k++)
            if (b->edges[k].kind == NB_REGULAR_CHARS) {
                b->bound[count++] = b->edges[k].low;
                b->bound[count++] = b->edges[k].high + 1;
            }
    qsort(b->bound, count, sizeof *b->bound, by_number);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || b->bound[i] != b->bound[kept - 1])
            b->bound[kept++] = b->bound[i];
    return kept;
}

static nb_status make_edges(subsets *b, maker *m, uint32_t number, nb_error *err)
{
    size_t bounds = find_bounds(b, number);
    for (size_t i = 0; i + 1 < bounds; i++) {
        uint32_t n, low = b->bound[i], high = b->bound[i + 1] - 1;
        const uint32_t *states = key_words(&b->keys, number, &n);
        begin_set(b);
        for (uint32_t s = 0; s < n; s++) {
            b->work += b->at[states[s] + 1] - b->at[states[s]] + 1;
            for (uint32_t k = b->at[states[s]]; k < b->at[states[s] + 1]; k++)
                if (b->edges[k].kind == NB_REGULAR_CHARS && b->edges[k].low <= low && high <= b->edges[k].high)
                    add_state(b, b->edges[k].to);
        }
        if (b->set_count == 0)
            continue;
        uint32_t to = number_set(b, false);
        if (to == UINT32_MAX || !put_edge(m, low, high, to))
            return nb_fail_memory(err, "an automaton", m->edge_count * sizeof(nb_dfa_edge));
        if (b->work > WORK || b->keys.count > NB_DFA_STATES || m->edge_count > NB_DFA_EDGES)
            return too_complex(err);
    }
    return NB_OK;
}

static int by_from(const void *a, const void *b)
{
    return by_number(&((const nb_regular_edge *)a)->from, &((const nb_regular_edge *)b)->from);
}

static nb_status prepare(subsets *b, nb_regular *r, nb_error *err)
{
    size_t n = r->state_count;
    if (r->edge_count > 0)
        qsort(r->edges.p, r->edge_count, sizeof(nb_regular_edge), by_from);
    b->edges = r->edges.p;
    b->at = NB_ARRAY(&b->scratch, uint32_t, n + 1);
    b->stamp = NB_ARRAY(&b->scratch, uint32_t, n);
    b->set = NB_ARRAY(&b->scratch, uint32_t, n);
    b->bound = NB_ARRAY(&b->scratch, uint32_t, 2 * r->edge_count);
    if (!b->at || !b->stamp || !b->set || !b->bound)
        return nb_fail_memory(err, "an automaton", n * 12);
    for (size_t i = 0; i < r->edge_count; i++)
        b->at[b->edges[i].from + 1]++;
    for (size_t s = 0; s < n; s++)
        b->at[s + 1] += b->at[s];
    return NB_OK;
}

static nb_status make(subsets *b, maker *m, uint32_t start, nb_error *err)
{
    begin_set(b);
    add_state(b, start);
    if (number_set(b, true) != 0)
        return nb_fail_memory(err, "an automaton", sizeof *b);
    for (uint32_t i = 0; i < b->keys.count; i++) {
        uint32_t n;
        if (!begin_state(m, is_end(b, i)))
            return nb_fail_memory(err, "an automaton", i * sizeof(uint32_t));
        if (key_words(&b->keys, i, &n)[0] == b->open && n == 1) {
            if (!put_edge(m, 0, NB_CHAR_LAST, i))
                return nb_fail_memory(err, "an automaton", i * sizeof(uint32_t));
        } else {
            NB_TRY(make_edges(b, m, i, err));
        }
    }
    return NB_OK;
}

nb_status nb_regular_dfa(nb_regular *r, uint32_t start, uint32_t end, uint32_t open, nb_arena *arena, nb_dfa **out)
{
    *out = NULL;
    NB_TRY(r->status);
    subsets b = {.r = r, .end = end, .open = open};
    maker m = {0};
    nb_status status = prepare(&b, r, r->err);
    if (status == NB_OK)
        status = make(&b, &m, start, r->err);
    free_keys(&b.keys);
    nb_arena_free(&b.scratch);
    if (status == NB_OK)
        return finish(&m, arena, out, r->err);
    free_maker(&m);
    return status;
}

/* ---- two automata at once ---- */

#define NOWHERE UINT32_MAX /* of b, where `without` is asked for */

typedef struct pairs {
    const nb_dfa *a, *b;
    bool without;
    keys keys;
    maker m;
    nb_error *err;
} pairs;

static nb_status put_pair(pairs *p, uint32_t low, uint32_t high, uint32_t a, uint32_t b)
{
    uint32_t pair[2] = {a, b};
    if (low > high || (b == NOWHERE && !p->without))
        return NB_OK;
    uint32_t to = key_of(&p->keys, pair, 2);
    if (to == UINT32_MAX || !put_edge(&p->m, low, high, to))
        return nb_fail_memory(p->err, "an automaton", p->m.edge_count * sizeof(nb_dfa_edge));
    return p->keys.count > 4 * NB_DFA_STATES || p->m.edge_count > 4 * NB_DFA_EDGES ? too_complex(p->err) : NB_OK;
}

/* The edge of a, in the pieces that the edges of state s of b make of it. */
static nb_status split_edge(pairs *p, const nb_dfa_edge *e, uint32_t s)
{
    uint32_t low = e->low;
    for (uint32_t k = s == NOWHERE ? 0 : p->b->at[s]; s != NOWHERE && k < p->b->at[s + 1]; k++) {
        const nb_dfa_edge *f = &p->b->edges[k];
        if (f->high < low || f->low > e->high)
            continue;
        if (f->low > low)
            NB_TRY(put_pair(p, low, f->low - 1, e->to, NOWHERE));
        uint32_t from = f->low > low ? f->low : low, to = f->high < e->high ? f->high : e->high;
        NB_TRY(put_pair(p, from, to, e->to, f->to));
        low = to + 1;
    }
    return put_pair(p, low, e->high, e->to, NOWHERE);
}

static nb_status make_pairs(pairs *p)
{
    uint32_t first[2] = {0, p->b->count ? 0 : NOWHERE};
    if (p->a->count == 0 || (first[1] == NOWHERE && !p->without))
        return NB_OK;
    if (key_of(&p->keys, first, 2) != 0)
        return nb_fail_memory(p->err, "an automaton", sizeof *p);
    for (uint32_t i = 0; i < p->keys.count; i++) {
        uint32_t n;
        const uint32_t *pair = key_words(&p->keys, i, &n);
        uint32_t a = pair[0], b = pair[1];
        bool in_b = b != NOWHERE && p->b->ends[b];
        if (!begin_state(&p->m, p->a->ends[a] && in_b != p->without))
            return nb_fail_memory(p->err, "an automaton", sizeof *p);
        for (uint32_t k = p->a->at[a]; k < p->a->at[a + 1]; k++)
            NB_TRY(split_edge(p, &p->a->edges[k], b));
    }
    return NB_OK;
}

nb_status nb_dfa_both(const nb_dfa *a, const nb_dfa *b, bool without, nb_arena *arena, nb_dfa **out, nb_error *err)
{
    pairs p = {.a = a, .b = b, .without = without, .err = err};
    *out = NULL;
    nb_status status = make_pairs(&p);
    free_keys(&p.keys);
    if (status == NB_OK)
        return finish(&p.m, arena, out, err);
    free_maker(&p.m);
    return status;
}

nb_status nb_dfa_length(size_t least, size_t most, nb_arena *arena, nb_dfa **out, nb_error *err)
{
    maker m = {0};
    size_t last = most == SIZE_MAX ? least : most;
    *out = NULL;
    if (last > NB_DFA_STATES)
        return too_complex(err);
    for (size_t i = 0; i <= last; i++) {
        uint32_t to = (uint32_t)(i < last ? i + 1 : i);
        if (!begin_state(&m, i >= least) || ((i < last || most == SIZE_MAX) && !put_edge(&m, 0, NB_CHAR_LAST, to))) {
            free_maker(&m);
            return nb_fail_memory(err, "an automaton", last * sizeof(nb_dfa_edge));
        }
    }
    return finish(&m, arena, out, err);
}

bool nb_dfa_accepts(const nb_dfa *d, nb_str text)
{
    uint32_t s = 0, cp = 0;
    for (size_t i = 0, step; i < text.n && s < d->count; i += step) {
        step = nb_utf8_decode((const unsigned char *)text.p + i, text.n - i, &cp);
        if (step == 0)
            return false;
        uint32_t k = d->at[s];
        while (k < d->at[s + 1] && d->edges[k].high < cp)
            k++;
        s = k < d->at[s + 1] && d->edges[k].low <= cp ? d->edges[k].to : d->count;
    }
    return s < d->count && d->ends[s];
}

/* Sets of states after n characters, as marks: at most `count` steps until the shortest and the longest are known. */
nb_status nb_dfa_lengths(const nb_dfa *d, size_t *least, size_t *most, nb_error *err)
{
    bool *now = calloc(2, d->count), *next = now ? now + d->count : NULL;
    if (!now)
        return nb_fail_memory(err, "an automaton", d->count);
    *least = SIZE_MAX;
    *most = 0;
    now[0] = true;
    for (size_t n = 0; n <= d->count; n++) {
        bool some = false;
        memset(next, 0, d->count);
        for (uint32_t s = 0; s < d->count; s++) {
            if (!now[s])
                continue;
            some = true;
            if (d->ends[s]) {
                *least = nb_min_size(*least, n);
                *most = n;
            }
            for (uint32_t k = d->at[s]; k < d->at[s + 1]; k++)
                next[d->edges[k].to] = true;
        }
        if (!some)
            break;
        if (n == d->count) /* as many characters as states: round in a circle, which leads to an end */
            *most = SIZE_MAX;
        bool *swap = now;
        now = next;
        next = swap;
    }
    free(now < next ? now : next);
    return NB_OK;
}
