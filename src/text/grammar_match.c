/* grammar_match.c - the matcher. What was read may be read in several ways; each is a state of the grammar and the rules
 * that wait for it, a linked list that ways share. A set of ways has a number, and where a byte leads from a set is
 * computed once: the pushdown automaton made deterministic, as far as it is walked. */
#include <stdlib.h>

#include "text/grammar_internal.h"

enum {
    ROOM = 48 << 20,        /* bytes of the tables, from which on what is not in use is forgotten */
    ROOM_IN_CALL = 3 * ROOM /* one call may take that much before it fails */
};

static nb_stack *stacks(const nb_grammar_cache *c) { return c->t.stacks.p; }
static uint32_t *next_of(const nb_grammar_cache *c, uint32_t set)
{
    return (uint32_t *)c->t.next.p + (size_t)set * c->g->class_count;
}

static uint32_t mix(uint32_t h, uint32_t value)
{
    h = (h ^ value) * 0x9E3779B1u;
    return h ^ h >> 15;
}

static void fail(nb_grammar_cache *c, nb_status status)
{
    if (c->status == NB_OK)
        c->status = status;
}

/* ---- stacks, each once ---- */

static uint32_t hash_stack(const nb_stack *s) { return mix(mix(mix(1, s->call), s->count), s->parent); }

/* Doubles a table of slots (numbers from 1 up, 0: free) when it is half full. */
static bool grow_slots(nb_grown *slots, uint32_t *slot_count, uint32_t used)
{
    if (2 * used < *slot_count)
        return true;
    uint32_t count = *slot_count ? 2 * *slot_count : 1024;
    nb_grown bigger = {0};
    if (!nb_grown_reserve(&bigger, count, sizeof(uint32_t)))
        return false;
    memset(bigger.p, 0, (size_t)count * sizeof(uint32_t));
    nb_grown_free(slots);
    *slots = bigger;
    *slot_count = count;
    return true;
}

static void put_slot(nb_grown *slots, uint32_t slot_count, uint32_t hash, uint32_t number)
{
    uint32_t *slot = slots->p;
    while (slot[hash &= slot_count - 1])
        hash++;
    slot[hash] = number;
}

static bool room_for_stack(nb_grammar_cache *c)
{
    nb_tables *t = &c->t;
    uint32_t before = t->stack_slot_count;
    if (!grow_slots(&t->stack_slots, &t->stack_slot_count, t->stack_count) ||
        !nb_grown_reserve(&t->stacks, (size_t)t->stack_count + 1, sizeof(nb_stack)))
        return false;
    if (t->stack_slot_count != before)
        for (uint32_t i = 1; i < t->stack_count; i++)
            put_slot(&t->stack_slots, t->stack_slot_count, hash_stack(&stacks(c)[i]), i);
    return true;
}

static uint32_t push(nb_grammar_cache *c, uint32_t call, uint32_t count, uint32_t parent)
{
    nb_tables *t = &c->t;
    nb_stack s = {call, count, parent, 0};
    uint32_t hash = hash_stack(&s), *slot = t->stack_slots.p, found;
    for (uint32_t i = hash; (found = slot[i & (t->stack_slot_count - 1)]); i++) {
        const nb_stack *old = &stacks(c)[found];
        if (old->call == call && old->count == count && old->parent == parent)
            return found;
    }
    s.depth = stacks(c)[parent].depth + 1;
    if (!room_for_stack(c)) {
        fail(c, NB_ERR_MEMORY);
        return 0;
    }
    stacks(c)[t->stack_count] = s;
    put_slot(&t->stack_slots, t->stack_slot_count, hash, t->stack_count);
    return t->stack_count++;
}

/* ---- what follows a byte ---- */

static void begin(nb_grammar_cache *c)
{
    c->todo_count = c->found_count = 0;
    c->can_end = false;
    if (++c->stamp >> 18) { /* the stamp has 18 bits beside the index */
        memset(c->seen, 0, sizeof c->seen);
        c->stamp = 1;
    }
}

_Static_assert(NB_TODO <= 1 << 14, "an index into todo has 14 bits");

static void add(nb_grammar_cache *c, uint32_t state, uint32_t stack, uint32_t fresh)
{
    uint32_t i = mix(mix(mix(7, state), stack), fresh), seen;
    while ((seen = c->seen[i %= NB_SEEN]) >> 14 == c->stamp) {
        const nb_todo *old = &c->todo[seen & 0x3FFF];
        if (old->way.state == state && old->way.stack == stack && old->fresh == fresh)
            return;
        i++;
    }
    if (c->todo_count == NB_TODO) {
        fail(c, NB_ERR_LIMIT);
        return;
    }
    c->seen[i] = c->stamp << 14 | c->todo_count;
    c->todo[c->todo_count++] = (nb_todo){{state, stack}, fresh};
}

/* Call number k is made, or made again after `count` times. */
static void call(nb_grammar_cache *c, uint32_t k, uint32_t count, uint32_t parent, uint32_t fresh)
{
    if (stacks(c)[parent].depth >= NB_GRAMMAR_DEPTH) {
        c->cut = true;
        return;
    }
    uint32_t stack = push(c, k, count, parent);
    if (stack)
        add(c, c->g->calls[k].start, stack, fresh + 1);
}

/* The end of a rule: back to the one that called it, once more or further on. A turn that read nothing leads nowhere new. */
static void come_back(nb_grammar_cache *c, uint32_t stack, uint32_t fresh)
{
    nb_stack s = stacks(c)[stack];
    const nb_call_edge *e = &c->g->calls[s.call];
    uint32_t count = s.count + 1, below = fresh ? fresh - 1 : 0;
    if (fresh && e->least == 0)
        return;
    if (e->most == UINT32_MAX && count > e->least)
        count = e->least;
    if (count < e->most)
        call(c, s.call, count, s.parent, below);
    if (count >= e->least)
        add(c, e->to, s.parent, below);
}

static void follow(nb_grammar_cache *c, nb_todo at)
{
    const nb_grammar *g = c->g;
    uint32_t s = at.way.state;
    if (g->ends[s]) {
        if (at.way.stack)
            come_back(c, at.way.stack, at.fresh);
        else
            c->can_end = true;
    }
    for (uint32_t k = g->empty_at[s]; k < g->empty_at[s + 1]; k++)
        add(c, g->empties[k], at.way.stack, at.fresh);
    for (uint32_t k = g->call_at[s]; k < g->call_at[s + 1]; k++) {
        const nb_call_edge *e = &g->calls[k];
        if (e->least == 0)
            add(c, e->to, at.way.stack, at.fresh);
        if (e->last)
            add(c, e->start, at.way.stack, at.fresh);
        else
            call(c, k, 0, at.way.stack, at.fresh);
    }
    if (g->byte_at[s] == g->byte_at[s + 1] && g->token_at[s] == g->token_at[s + 1])
        return;
    if (c->found_count == NB_GRAMMAR_WAYS)
        fail(c, NB_ERR_LIMIT);
    else
        c->found[c->found_count++] = at.way;
}

static int by_way(const void *a, const void *b)
{
    const nb_way *x = a, *y = b;
    if (x->state != y->state)
        return x->state < y->state ? -1 : 1;
    return x->stack < y->stack ? -1 : x->stack > y->stack;
}

static void sort_found(nb_grammar_cache *c)
{
    uint32_t kept = 0;
    if (c->found_count > 8)
        qsort(c->found, c->found_count, sizeof *c->found, by_way);
    else
        for (uint32_t i = 1; i < c->found_count; i++) {
            nb_way way = c->found[i];
            uint32_t k = i;
            for (; k > 0 && by_way(&c->found[k - 1], &way) > 0; k--)
                c->found[k] = c->found[k - 1];
            c->found[k] = way;
        }
    for (uint32_t i = 0; i < c->found_count; i++)
        if (i == 0 || by_way(&c->found[i], &c->found[kept - 1]) != 0)
            c->found[kept++] = c->found[i];
    c->found_count = kept;
}

/* ---- sets, each once ---- */

static size_t bytes_used(const nb_grammar_cache *c)
{
    const nb_tables *t = &c->t;
    return t->stack_count * sizeof(nb_stack) + t->way_count * sizeof(nb_way) +
           t->set_count * (sizeof(nb_ways) + c->g->class_count * sizeof(uint32_t));
}

static bool room_for_set(nb_grammar_cache *c)
{
    nb_tables *t = &c->t;
    uint32_t before = t->set_slot_count;
    size_t sets = (size_t)t->set_count + 1;
    if (!grow_slots(&t->set_slots, &t->set_slot_count, t->set_count) ||
        !nb_grown_reserve(&t->sets, sets, sizeof(nb_ways)) ||
        !nb_grown_reserve(&t->ways, t->way_count + c->found_count + 1, sizeof(nb_way)) ||
        !nb_grown_reserve(&t->next, sets * c->g->class_count, sizeof(uint32_t)))
        return false;
    if (t->set_slot_count != before)
        for (uint32_t i = 1; i < t->set_count; i++)
            put_slot(&t->set_slots, t->set_slot_count, nb_grammar_set(c, i)->hash, i);
    return true;
}

static uint32_t find_set(const nb_grammar_cache *c, uint32_t hash)
{
    const nb_tables *t = &c->t;
    const uint32_t *slot = t->set_slots.p;
    uint32_t found;
    for (uint32_t i = hash; (found = slot[i & (t->set_slot_count - 1)]); i++) {
        const nb_ways *s = nb_grammar_set(c, found);
        if (s->hash == hash && s->count == c->found_count && s->can_end == c->can_end &&
            memcmp(nb_grammar_ways(c, found), c->found, c->found_count * sizeof *c->found) == 0)
            return found;
    }
    return 0;
}

static uint32_t new_set(nb_grammar_cache *c, uint32_t hash)
{
    nb_tables *t = &c->t;
    if (bytes_used(c) > ROOM_IN_CALL)
        fail(c, NB_ERR_LIMIT);
    else if (!room_for_set(c))
        fail(c, NB_ERR_MEMORY);
    if (c->status != NB_OK)
        return 0;
    uint32_t set = t->set_count++;
    nb_ways *s = nb_grammar_set(c, set);
    *s = (nb_ways){.first = (uint32_t)t->way_count, .count = c->found_count, .hash = hash, .can_end = c->can_end};
    if (c->found_count > 0)
        memcpy((nb_way *)t->ways.p + t->way_count, c->found, c->found_count * sizeof *c->found);
    t->way_count += c->found_count;
    for (uint32_t i = 0; i < c->found_count; i++)
        s->has_tokens |= c->g->token_at[c->found[i].state] != c->g->token_at[c->found[i].state + 1];
    for (uint32_t i = 0; i < c->g->class_count; i++)
        next_of(c, set)[i] = NB_NEXT_UNKNOWN;
    if (set > 0)
        put_slot(&t->set_slots, t->set_slot_count, hash, set);
    return set;
}

static uint32_t intern_found(nb_grammar_cache *c)
{
    uint32_t hash = c->can_end;
    for (uint32_t i = 0; i < c->found_count; i++)
        hash = mix(mix(hash, c->found[i].state), c->found[i].stack);
    uint32_t set = find_set(c, hash);
    return set ? set : new_set(c, hash);
}

/* The set of all that was added; 0 when there is nothing. */
static uint32_t finish(nb_grammar_cache *c)
{
    for (uint32_t i = 0; i < c->todo_count && c->status == NB_OK; i++)
        follow(c, c->todo[i]);
    if (c->status != NB_OK || (c->found_count == 0 && !c->can_end))
        return 0;
    sort_found(c);
    return intern_found(c);
}

static void add_after_byte(nb_grammar_cache *c, uint32_t set, uint8_t byte)
{
    const nb_grammar *g = c->g;
    const nb_way *way = nb_grammar_ways(c, set);
    for (uint32_t i = 0; i < nb_grammar_set(c, set)->count; i++)
        for (uint32_t k = g->byte_at[way[i].state]; k < g->byte_at[way[i].state + 1]; k++)
            if (g->bytes[k].low <= byte && byte <= g->bytes[k].high)
                add(c, g->bytes[k].to, way[i].stack, 0);
}

uint32_t nb_grammar_step_slow(nb_grammar_cache *c, uint32_t set, uint8_t class_)
{
    begin(c);
    add_after_byte(c, set, c->g->a_byte_of[class_]);
    uint32_t next = finish(c);
    if (c->status == NB_OK)
        next_of(c, set)[class_] = next;
    return next;
}

uint32_t nb_grammar_run(nb_grammar_cache *c, uint32_t set, nb_str bytes)
{
    for (size_t i = 0; i < bytes.n && set; i++)
        set = nb_grammar_step(c, set, c->g->class_of[(unsigned char)bytes.p[i]]);
    return set;
}

/* A control token is any token's other only when it is asked for by name. */
static bool token_fits(const nb_grammar_cache *c, const nb_token_edge *e, uint32_t id)
{
    return e->other ? e->id != id && nb_bit(c->v->text, id) : e->id == id;
}

uint32_t nb_grammar_run_token(nb_grammar_cache *c, uint32_t set, int32_t id)
{
    const nb_grammar *g = c->g;
    const nb_grammar_vocab *v = c->v;
    nb_str bytes = {v->bytes + v->at[id], v->at[id + 1] - v->at[id]};
    uint32_t by_bytes = nb_bit(v->text, (size_t)id) ? nb_grammar_run(c, set, bytes) : 0;
    if (!nb_grammar_set(c, set)->has_tokens)
        return by_bytes;
    const nb_way *way = nb_grammar_ways(c, set);
    begin(c);
    for (uint32_t i = 0; i < nb_grammar_set(c, set)->count; i++)
        for (uint32_t k = g->token_at[way[i].state]; k < g->token_at[way[i].state + 1]; k++)
            if (token_fits(c, &g->tokens[k], (uint32_t)id))
                add(c, g->tokens[k].to, way[i].stack, 0);
    if (by_bytes) { /* both ways */
        c->can_end = nb_grammar_set(c, by_bytes)->can_end;
        for (uint32_t i = 0; i < nb_grammar_set(c, by_bytes)->count; i++)
            add(c, nb_grammar_ways(c, by_bytes)[i].state, nb_grammar_ways(c, by_bytes)[i].stack, 0);
    }
    return finish(c);
}

/* ---- the cache ---- */

static void free_tables(nb_tables *t)
{
    nb_grown *all[] = {&t->stacks, &t->ways, &t->sets, &t->next, &t->stack_slots, &t->set_slots};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        nb_grown_free(all[i]);
    *t = (nb_tables){0};
}

/* The empty stack, the set of nothing, and the set of the start. */
static nb_status first_sets(nb_grammar_cache *c, nb_error *err)
{
    c->status = NB_OK;
    begin(c);
    if (!room_for_stack(c) || !room_for_set(c))
        return nb_fail_memory(err, "the states of a grammar", sizeof *c);
    stacks(c)[0] = (nb_stack){0};
    c->t.stack_count = 1;
    new_set(c, 0);
    for (uint32_t i = 0; i < c->g->class_count; i++)
        next_of(c, 0)[i] = 0;
    add(c, c->g->start, 0, 0);
    if (finish(c) == 1)
        return NB_OK;
    fail(c, NB_ERR_LIMIT);
    return nb_grammar_failed(c, err);
}

nb_status nb_grammar_cache_new(const nb_grammar *g, const nb_grammar_vocab *v, nb_grammar_cache **out, nb_error *err)
{
    *out = NULL;
    nb_grammar_cache *c = calloc(1, sizeof *c);
    if (!c)
        return nb_fail_memory(err, "the states of a grammar", sizeof *c);
    c->g = g;
    c->v = v;
    nb_status status = first_sets(c, err);
    if (status == NB_OK)
        status = nb_grammar_mask_init(c, err);
    if (status == NB_OK)
        *out = c;
    else
        nb_grammar_cache_free(c);
    return status;
}

void nb_grammar_cache_free(nb_grammar_cache *c)
{
    if (!c)
        return;
    free_tables(&c->t);
    nb_grammar_mask_free(c);
    free(c);
}

nb_status nb_grammar_failed(const nb_grammar_cache *c, nb_error *err)
{
    if (c->status == NB_ERR_MEMORY)
        return nb_fail_memory(err, "the states of a grammar", bytes_used(c));
    return nb_fail(
        err, NB_ERR_LIMIT,
        "the grammar is too ambiguous: the same text can be read in more than %d ways, or rules wait within each "
        "other more than %d deep; make its alternatives begin differently",
        NB_GRAMMAR_WAYS, NB_GRAMMAR_DEPTH);
}

/* The same stack in the new tables. moved: [old stacks], 0 is not yet. */
static uint32_t move_stack(nb_grammar_cache *c, const nb_stack *old, uint32_t *moved, uint32_t stack)
{
    uint32_t path[NB_GRAMMAR_DEPTH + 1], n = 0;
    for (; stack && !moved[stack]; stack = old[stack].parent)
        path[n++] = stack;
    uint32_t to = stack ? moved[stack] : 0;
    while (n > 0 && c->status == NB_OK) {
        const nb_stack *s = &old[path[--n]];
        to = moved[path[n]] = push(c, s->call, s->count, to);
    }
    return to;
}

static uint32_t move_set(nb_grammar_cache *c, const nb_tables *old, uint32_t *moved, uint32_t set)
{
    const nb_ways *s = (const nb_ways *)old->sets.p + set;
    const nb_way *ways = (const nb_way *)old->ways.p + s->first;
    begin(c);
    c->can_end = s->can_end;
    for (uint32_t i = 0; i < s->count; i++)
        c->found[c->found_count++] = (nb_way){ways[i].state, move_stack(c, old->stacks.p, moved, ways[i].stack)};
    sort_found(c); /* stacks have other numbers now */
    return c->status == NB_OK ? intern_found(c) : 0;
}

nb_status nb_grammar_tidy(nb_grammar_cache *c, nb_error *err)
{
    c->status = NB_OK;
    c->cut = false;
    if (bytes_used(c) < ROOM)
        return NB_OK;
    nb_tables old = c->t;
    uint32_t *moved = calloc(old.stack_count, sizeof *moved);
    c->t = (nb_tables){0};
    nb_status status = moved ? first_sets(c, err)
                             : nb_fail_memory(err, "the states of a grammar", old.stack_count * 4u);
    if (status == NB_OK) {
        size_t n = 0;
        for (nb_grammar_state *s = c->states; s; s = s->after)
            n++;
        uint32_t *sets = malloc((n + 1) * sizeof *sets);
        n = 0;
        for (nb_grammar_state *s = c->states; s && sets; s = s->after)
            sets[n++] = move_set(c, &old, moved, s->set);
        if (!sets || c->status != NB_OK)
            status = nb_fail_memory(err, "the states of a grammar", bytes_used(c));
        n = 0;
        for (nb_grammar_state *s = c->states; s && status == NB_OK; s = s->after)
            s->set = sets[n++];
        free(sets);
    }
    free(moved);
    if (status != NB_OK) { /* as it was, without masks */
        free_tables(&c->t);
        c->t = old;
    } else {
        free_tables(&old);
    }
    nb_grammar_mask_forget(c);
    return status;
}

/* ---- states ---- */

static nb_status new_state(nb_grammar_cache *c, uint32_t set, nb_grammar_state **out, nb_error *err)
{
    nb_grammar_state *s = *out = malloc(sizeof *s);
    if (!s)
        return nb_fail_memory(err, "the state of a grammar", sizeof *s);
    *s = (nb_grammar_state){c, set, NULL, c->states};
    if (c->states)
        c->states->before = s;
    c->states = s;
    return NB_OK;
}

nb_status nb_grammar_state_new(nb_grammar_cache *c, nb_grammar_state **out, nb_error *err)
{
    return new_state(c, 1, out, err);
}

nb_status nb_grammar_state_clone(const nb_grammar_state *s, nb_grammar_state **out, nb_error *err)
{
    return new_state(s->c, s->set, out, err);
}

void nb_grammar_state_free(nb_grammar_state *s)
{
    if (!s)
        return;
    if (s->before)
        s->before->after = s->after;
    else
        s->c->states = s->after;
    if (s->after)
        s->after->before = s->before;
    free(s);
}

bool nb_grammar_can_end(const nb_grammar_state *s) { return nb_grammar_set(s->c, s->set)->can_end; }

static nb_status move_to(nb_grammar_state *s, uint32_t set, const char *what, nb_str text, nb_error *err)
{
    if (s->c->status != NB_OK || (set == 0 && s->c->cut)) {
        fail(s->c, NB_ERR_LIMIT);
        return nb_grammar_failed(s->c, err);
    }
    if (set == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "the grammar does not allow %s \"%.*s\" here", what, NB_STR_ARG(text));
    s->set = set;
    return NB_OK;
}

nb_status nb_grammar_accept_bytes(nb_grammar_state *s, nb_str bytes, nb_error *err)
{
    NB_TRY(nb_grammar_tidy(s->c, err));
    return move_to(s, nb_grammar_run(s->c, s->set, bytes), "the text", bytes, err);
}

static nb_status check_id(const nb_grammar_cache *c, int32_t id, nb_error *err)
{
    if (!c->v)
        return nb_fail(err, NB_ERR_ARGUMENT, "this grammar was given no vocabulary: it takes bytes, not tokens");
    if (id < 0 || (size_t)id >= c->v->count)
        return nb_fail(err, NB_ERR_ARGUMENT, "token %d is not in the vocabulary of %zu", id, c->v->count);
    return NB_OK;
}

nb_status nb_grammar_accept(nb_grammar_state *s, int32_t id, nb_error *err)
{
    const nb_grammar_vocab *v = s->c->v;
    NB_TRY(check_id(s->c, id, err));
    if (nb_bit(v->ends, (size_t)id)) {
        if (nb_grammar_can_end(s))
            return NB_OK;
        return nb_fail(err, NB_ERR_ARGUMENT, "the grammar does not allow the reply to end here");
    }
    NB_TRY(nb_grammar_tidy(s->c, err));
    nb_str bytes = {v->bytes + v->at[id], v->at[id + 1] - v->at[id]};
    return move_to(s, nb_grammar_run_token(s->c, s->set, id), "the token", bytes, err);
}

bool nb_grammar_allows(nb_grammar_state *s, int32_t id)
{
    if (check_id(s->c, id, NULL) != NB_OK)
        return false;
    if (nb_bit(s->c->v->ends, (size_t)id))
        return nb_grammar_can_end(s);
    return nb_grammar_tidy(s->c, NULL) == NB_OK && nb_grammar_run_token(s->c, s->set, id) != 0;
}

nb_status nb_grammar_forced(nb_grammar_state *s, nb_buf *out, nb_error *err)
{
    enum { MOST = 4096 };
    nb_grammar_cache *c = s->c;
    NB_TRY(nb_grammar_tidy(c, err));
    uint32_t set = s->set;
    for (int n = 0; n < MOST && !nb_grammar_set(c, set)->can_end && !nb_grammar_set(c, set)->has_tokens; n++) {
        uint32_t next = 0, one = UINT32_MAX;
        for (uint32_t k = 0; k < c->g->class_count; k++) {
            uint32_t to = nb_grammar_step(c, set, (uint8_t)k);
            if (c->status != NB_OK)
                return nb_grammar_failed(c, err);
            if (to && (next || c->g->bytes_of[k] > 0))
                return out->failed ? nb_fail_memory(err, "forced text", out->len) : NB_OK;
            if (to) {
                next = to;
                one = k;
            }
        }
        if (!next)
            break;
        nb_buf_char(out, (char)c->g->a_byte_of[one]);
        set = next;
    }
    return out->failed ? nb_fail_memory(err, "forced text", out->len) : NB_OK;
}
