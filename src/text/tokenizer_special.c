/* tokenizer_special.c - finds special and user-defined tokens in the text before anything else looks at it: the longest
 * first over the whole text, the leftmost of equals first, never overlapping. */
#include <stdlib.h>

#include "text/tokenizer_internal.h"

static int by_bytes(const void *a, const void *b)
{
    const nb_special *x = a, *y = b;
    int order = memcmp(x->piece.p, y->piece.p, nb_min_size(x->piece.n, y->piece.n));
    return order ? order : x->piece.n < y->piece.n ? -1 : x->piece.n > y->piece.n;
}

static bool is_special(const nb_tokenizer *t, int32_t id)
{
    return t->types[id] == NB_TOKEN_CONTROL || t->types[id] == NB_TOKEN_USER_DEFINED ||
           t->types[id] == NB_TOKEN_UNKNOWN;
}

nb_status nb_special_build(nb_tokenizer *t, nb_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < t->vocab.count; i++)
        count += is_special(t, (int32_t)i);
    t->special = NB_ARRAY(&t->arena, nb_special, count);
    if (!t->special)
        return nb_fail_memory(err, "special tokens", count * sizeof *t->special);
    for (size_t i = 0; i < t->vocab.count; i++)
        if (is_special(t, (int32_t)i) &&
            nb_tokenizer_find(t, t->pieces[i]) == (int32_t)i) { /* neither empty nor double */
            unsigned char first = (unsigned char)t->pieces[i].p[0];
            t->special[t->special_count++] = (nb_special){.piece = t->pieces[i], .id = (int32_t)i};
            t->special_kinds[first] |= t->types[i] == NB_TOKEN_USER_DEFINED ? 1 : 2;
            t->special_longest = nb_max_size(t->special_longest, t->pieces[i].n);
        }
    qsort(t->special, t->special_count, sizeof *t->special, by_bytes);
    for (size_t b = 0, i = 0; b < 256; b++) {
        t->special_first[b] = (uint32_t)i;
        while (i < t->special_count && (unsigned char)t->special[i].piece.p[0] == b)
            i++;
        t->special_first[b + 1] = (uint32_t)i;
    }
    return NB_OK;
}

/* The longest token of at most n bytes that s begins with, its bytes as the result (0: none). */
static size_t longest_at(const nb_tokenizer *t, const unsigned char *s, size_t n, bool control, int32_t *id)
{
    size_t lo = t->special_first[s[0]], hi = t->special_first[s[0] + 1], best = 0;
    for (size_t depth = 1; lo < hi; depth++) {
        const nb_special *x = &t->special[lo]; /* those in [lo, hi) share their first `depth` bytes with s */
        if (x->piece.n == depth) {
            if (control || t->types[x->id] == NB_TOKEN_USER_DEFINED) {
                best = depth;
                *id = x->id;
            }
            lo++;
        }
        if (depth >= n)
            break;
        size_t end = hi;
        for (size_t a = lo, b = hi; (lo = a) < b;) { /* first with a byte not below s[depth] */
            size_t middle = a + (b - a) / 2;
            if ((unsigned char)t->special[middle].piece.p[depth] < s[depth])
                a = middle + 1;
            else
                b = middle;
        }
        for (size_t a = lo, b = end; (hi = a) < b;) { /* first with a byte above it */
            size_t middle = a + (b - a) / 2;
            if ((unsigned char)t->special[middle].piece.p[depth] <= s[depth])
                a = middle + 1;
            else
                b = middle;
        }
    }
    return best;
}

/* ---- candidates: at most one a position, in the order of the text ---- */
typedef struct candidate {
    uint32_t at, bytes; /* bytes 0: dropped */
    int32_t id;
    uint32_t next; /* in the list of its length; UINT32_MAX ends it */
} candidate;

typedef struct search {
    const nb_tokenizer *t;
    const unsigned char *s;
    size_t n;
    bool control;
    nb_grown memory;
    candidate *found; /* in `memory` */
    size_t count;
    uint32_t *lists;        /* [longest + 1] first candidate of each length */
    uint32_t *order;        /* [count] those of one length, left to right */
    unsigned char *covered; /* [n] bytes that belong to a token already chosen */
} search;

static bool collect(search *f)
{
    unsigned char wanted = f->control ? 3 : 1;
    for (size_t i = 0; i < f->n; i++) {
        int32_t id = -1;
        if (!(f->t->special_kinds[f->s[i]] & wanted))
            continue;
        size_t bytes = longest_at(f->t, f->s + i, f->n - i, f->control, &id);
        if (bytes == 0)
            continue;
        if (!nb_grown_reserve(&f->memory, f->count + 1, sizeof *f->found))
            return false;
        f->found = f->memory.p;
        f->found[f->count++] = (candidate){.at = (uint32_t)i, .bytes = (uint32_t)bytes, .id = id};
    }
    return true;
}

static int by_position(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void list_push(search *f, uint32_t i)
{
    f->found[i].next = f->lists[f->found[i].bytes];
    f->lists[f->found[i].bytes] = i;
}

/* Chooses among the candidates of one length. What was chosen before is at least as long, so a candidate overlaps it just
 * when one of its own ends is covered; where only the right end is, a shorter token may still begin there. */
static void choose(search *f, size_t bytes)
{
    size_t n = 0;
    bool sorted = true;
    for (uint32_t i = f->lists[bytes]; i != UINT32_MAX; i = f->found[i].next) {
        sorted = sorted && (n == 0 || f->order[n - 1] < i);
        f->order[n++] = i;
    }
    if (!sorted)
        qsort(f->order, n, sizeof *f->order, by_position);
    for (size_t k = 0; k < n; k++) {
        candidate *c = &f->found[f->order[k]];
        if (f->covered[c->at])
            c->bytes = 0;
        else if (!f->covered[c->at + bytes - 1])
            memset(f->covered + c->at, 1, bytes);
        else {
            c->bytes = (uint32_t)longest_at(f->t, f->s + c->at, bytes - 1, f->control, &c->id);
            if (c->bytes)
                list_push(f, f->order[k]);
        }
    }
}

static bool choose_all(search *f)
{
    size_t longest = f->t->special_longest;
    f->lists = malloc((longest + 1) * sizeof *f->lists);
    f->order = malloc(f->count * sizeof *f->order);
    f->covered = calloc(f->n, 1);
    if (!f->lists || !f->order || !f->covered)
        return false;
    memset(f->lists, 0xFF, (longest + 1) * sizeof *f->lists);
    for (size_t i = f->count; i-- > 0;)
        list_push(f, (uint32_t)i);
    for (size_t bytes = longest; bytes > 0; bytes--)
        if (f->lists[bytes] != UINT32_MAX)
            choose(f, bytes);
    return true;
}

/* ---- fragments ---- */
static bool add_fragment(nb_fragments *list, size_t begin, size_t end, int32_t id)
{
    if (begin == end)
        return true;
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        nb_fragment *grown = realloc(list->at, cap * sizeof *grown);
        if (!grown)
            return false;
        list->at = grown;
        list->cap = cap;
    }
    list->at[list->count++] = (nb_fragment){.begin = begin, .end = end, .id = id};
    return true;
}

static bool eats_space(const nb_tokenizer *t, int32_t id)
{
    nb_str s = t->pieces[id];
    return t->vocab.special_eats_space && !nb_str_eqz(s, "<unk>") && !nb_str_eqz(s, "<s>") &&
           !nb_str_eqz(s, "<|endoftext|>");
}

static bool cut(const search *f, nb_fragments *out)
{
    size_t done = 0;
    for (size_t i = 0; i < f->count; i++) {
        const candidate *c = &f->found[i];
        if (c->bytes == 0)
            continue;
        if ((c->at > done && !add_fragment(out, done, c->at, -1)) || !add_fragment(out, c->at, c->at + c->bytes, c->id))
            return false;
        done = c->at + c->bytes;
        while (eats_space(f->t, c->id) && done < f->n && (f->s[done] == ' ' || (f->s[done] >= 9 && f->s[done] <= 13)))
            done++;
    }
    return done >= f->n || add_fragment(out, done, f->n, -1);
}

nb_status nb_special_split(const nb_tokenizer *t, nb_str text, bool parse_control, nb_fragments *out, nb_error *err)
{
    search f = {.t = t, .s = (const unsigned char *)text.p, .n = text.n, .control = parse_control};
    bool ok = collect(&f) && (f.count == 0 || choose_all(&f)) && cut(&f, out);
    nb_grown_free(&f.memory);
    free(f.lists);
    free(f.order);
    free(f.covered);
    return ok ? NB_OK : nb_fail_memory(err, "special tokens", text.n);
}
