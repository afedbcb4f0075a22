/* grammar_mask.c - which tokens may come next. The words of a vocabulary are a tree of bytes; a mask is a walk down all the
 * branches that the grammar lets pass. Most words of a vocabulary are plain letters, which a string lets pass without
 * exception: they are kept in trees of their own (slices), and a slice of which nothing can be refused is not walked. */
#include <stdlib.h>

#include "text/grammar_internal.h"
#include "text/utf8.h"

enum {
    MASKS = 48 << 20, /* bytes of masks that are kept */
    NEAR = 96         /* sets that are looked at before a slice is walked after all */
};

/* ---- the vocabulary ---- */

static const struct {
    nb_letters letters;
    uint32_t most; /* characters */
} slice_kinds[NB_WORD_SLICES] = {{NB_LETTERS_WORD, 10},
                                 {NB_LETTERS_PLAIN, 4},
                                 {NB_LETTERS_PLAIN, 10},
                                 {NB_LETTERS_PLAIN, 40},
                                 {NB_LETTERS_MIXED, UINT32_MAX}};

static bool is_word_letter(unsigned char b)
{
    return (b >= '0' && b <= '9') || (b >= 'A' && b <= 'Z') || (b >= 'a' && b <= 'z') || b == ' ' || b == '_';
}

/* The first slice that has room for a text. */
static int slice_of(const unsigned char *s, size_t n)
{
    bool word = true, plain = true;
    uint32_t chars = 0, cp;
    for (size_t i = 0, step; i < n && plain; i += step, chars++) {
        step = nb_utf8_decode(s + i, n - i, &cp);
        plain = step > 0 && cp >= 0x20 && cp != 0x7F && cp != '"' && cp != '\\';
        word = word && is_word_letter(s[i]);
    }
    nb_letters letters = !plain ? NB_LETTERS_MIXED : word ? NB_LETTERS_WORD : NB_LETTERS_PLAIN;
    int i = 0;
    while (slice_kinds[i].letters < letters || slice_kinds[i].most < chars)
        i++;
    return i;
}

typedef struct word {
    const unsigned char *p;
    uint32_t n;
    int32_t id;
} word;

static int by_bytes(const void *a, const void *b)
{
    const word *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    if (order != 0)
        return order;
    return x->n != y->n ? (x->n < y->n ? -1 : 1) : (x->id < y->id ? -1 : x->id > y->id);
}

static size_t common(const word *a, const word *b)
{
    size_t n = 0;
    while (n < a->n && n < b->n && a->p[n] == b->p[n])
        n++;
    return n;
}

/* The tree of sorted words. Nodes of one depth after another, as a walk meets them. open: [longest + 1]. */
static bool build_slice(nb_grammar_vocab *v, nb_word_slice *slice, const word *words, size_t count, uint32_t *open)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += words[i].n - (i ? common(&words[i - 1], &words[i]) : 0);
    slice->nodes = NB_ARRAY(&v->arena, nb_word_node, total);
    slice->bits = NB_ARRAY(&v->arena, uint32_t, v->words);
    if (!slice->nodes || !slice->bits)
        return false;
    size_t depth = 0; /* of the open path */
    for (size_t i = 0; i < count; i++) {
        size_t shared = i ? common(&words[i - 1], &words[i]) : 0;
        nb_bit_set(slice->bits, (size_t)words[i].id);
        for (; depth > shared; depth--)
            slice->nodes[open[depth - 1]].next = (uint32_t)slice->node_count;
        if (shared == words[i].n) { /* the same word again */
            v->same[v->same_count++] = (nb_same_word){words[i].id, slice->nodes[slice->node_count - 1].token};
            continue;
        }
        for (; depth < words[i].n; depth++) {
            open[depth] = (uint32_t)slice->node_count;
            slice->nodes[slice->node_count++] = (nb_word_node){
                .token = -1, .depth = (uint16_t)depth, .byte = words[i].p[depth]};
        }
        slice->nodes[slice->node_count - 1].token = words[i].id;
    }
    for (; depth > 0; depth--)
        slice->nodes[open[depth - 1]].next = (uint32_t)slice->node_count;
    return true;
}

/* The bytes of all tokens that are text. */
static nb_status read_words(nb_grammar_vocab *v, const nb_tokenizer *t, nb_buf *text, nb_error *err)
{
    for (size_t id = 0; id < v->count; id++) {
        nb_token_type type = nb_tokenizer_type(t, (int32_t)id);
        size_t before = text->len;
        v->at[id] = (uint32_t)before;
        if (nb_tokenizer_ends(t, (int32_t)id))
            nb_bit_set(v->ends, id);
        else if (type != NB_TOKEN_CONTROL && type != NB_TOKEN_UNKNOWN && type != NB_TOKEN_UNUSED)
            NB_TRY(nb_tokenizer_bytes(t, (int32_t)id, text, err));
        if (text->len - before > UINT16_MAX || text->len > UINT32_MAX / 2)
            return nb_fail(err, NB_ERR_LIMIT, "token %zu is too long for a grammar: %zu bytes", id, text->len - before);
        if (text->len > before)
            nb_bit_set(v->text, id);
        v->longest = nb_max_size(v->longest, text->len - before);
    }
    v->at[v->count] = (uint32_t)text->len;
    return text->failed ? nb_fail_memory(err, "the words of a vocabulary", text->len) : NB_OK;
}

static bool build_slices(nb_grammar_vocab *v)
{
    nb_arena scratch = {0};
    word *words = NB_ARRAY(&scratch, word, v->count);
    uint32_t *open = NB_ARRAY(&scratch, uint32_t, v->longest + 1);
    uint8_t *kind = NB_ARRAY(&scratch, uint8_t, v->count);
    v->same = NB_ARRAY(&v->arena, nb_same_word, v->count);
    bool ok = words && open && kind && v->same;
    for (size_t id = 0; id < v->count && ok; id++)
        kind[id] = (uint8_t)slice_of((const unsigned char *)v->bytes + v->at[id], v->at[id + 1] - v->at[id]);
    for (int k = 0; k < NB_WORD_SLICES && ok; k++) {
        size_t n = 0;
        for (size_t id = 0; id < v->count; id++)
            if (kind[id] == k && v->at[id + 1] > v->at[id])
                words[n++] = (word){(const unsigned char *)v->bytes + v->at[id], v->at[id + 1] - v->at[id],
                                    (int32_t)id};
        qsort(words, n, sizeof *words, by_bytes);
        v->slices[k].letters = slice_kinds[k].letters;
        v->slices[k].most = slice_kinds[k].most;
        ok = build_slice(v, &v->slices[k], words, n, open);
    }
    nb_arena_free(&scratch);
    return ok;
}

static nb_status build_vocab(nb_grammar_vocab *v, const nb_tokenizer *t, nb_error *err)
{
    nb_buf text = {0};
    v->count = nb_tokenizer_count(t);
    v->words = (v->count + 31) / 32;
    v->at = NB_ARRAY(&v->arena, uint32_t, v->count + 1);
    v->text = NB_ARRAY(&v->arena, uint32_t, v->words);
    v->ends = NB_ARRAY(&v->arena, uint32_t, v->words);
    if (!v->at || !v->text || !v->ends)
        return nb_fail_memory(err, "the words of a vocabulary", v->count * 4);
    nb_status status = read_words(v, t, &text, err);
    if (status == NB_OK) {
        v->bytes = nb_arena_strdup(&v->arena, nb_buf_view(&text));
        if (!v->bytes || !build_slices(v))
            status = nb_fail_memory(err, "the words of a vocabulary", text.len * sizeof(nb_word_node));
    }
    nb_buf_free(&text);
    return status;
}

nb_status nb_grammar_vocab_new(const nb_tokenizer *t, nb_grammar_vocab **out, nb_error *err)
{
    *out = NULL;
    nb_grammar_vocab *v = calloc(1, sizeof *v);
    if (!v)
        return nb_fail_memory(err, "the words of a vocabulary", sizeof *v);
    nb_status status = build_vocab(v, t, err);
    if (status == NB_OK)
        *out = v;
    else
        nb_grammar_vocab_free(v);
    return status;
}

void nb_grammar_vocab_free(nb_grammar_vocab *v)
{
    if (v)
        nb_arena_free(&v->arena);
    free(v);
}

size_t nb_grammar_vocab_words(const nb_grammar_vocab *v) { return v->words; }

/* ---- letters: how the bytes of one character follow each other ---- */

typedef struct letter_row {
    uint8_t from, to, low, high; /* from 0, and back to 0 when the character is whole */
} letter_row;

static const letter_row word_rows[] = {
    {0, 0, ' ', ' '}, {0, 0, '0', '9'}, {0, 0, 'A', 'Z'}, {0, 0, '_', '_'}, {0, 0, 'a', 'z'}};
static const letter_row plain_rows[] = {{0, 0, 0x20, 0x21}, {0, 0, 0x23, 0x5B}, {0, 0, 0x5D, 0x7E}, {0, 1, 0xC2, 0xDF},
                                        {0, 2, 0xE0, 0xE0}, {0, 3, 0xE1, 0xEC}, {0, 4, 0xED, 0xED}, {0, 3, 0xEE, 0xEF},
                                        {0, 5, 0xF0, 0xF0}, {0, 6, 0xF1, 0xF3}, {0, 7, 0xF4, 0xF4}, {1, 0, 0x80, 0xBF},
                                        {2, 1, 0xA0, 0xBF}, {3, 1, 0x80, 0xBF}, {4, 1, 0x80, 0x9F}, {5, 3, 0x90, 0xBF},
                                        {6, 3, 0x80, 0xBF}, {7, 3, 0x80, 0x8F}};

/* The rows in this grammar's classes of bytes, each once. */
static bool letter_steps(nb_grammar_cache *c, nb_letters letters, const letter_row *rows, size_t count)
{
    nb_letters_step *steps = malloc((count * c->g->class_count) * sizeof *steps);
    size_t n = 0;
    for (size_t i = 0; i < count && steps; i++)
        for (unsigned b = rows[i].low; b <= rows[i].high; b++) {
            nb_letters_step step = {rows[i].from, rows[i].to, c->g->class_of[b]};
            bool known = false;
            for (size_t k = 0; k < n && !known; k++)
                known = memcmp(&steps[k], &step, sizeof step) == 0;
            if (!known)
                steps[n++] = step;
        }
    c->steps[letters] = steps;
    c->step_count[letters] = n;
    return steps != NULL;
}

nb_status nb_grammar_mask_init(nb_grammar_cache *c, nb_error *err)
{
    if (!c->v)
        return NB_OK;
    c->walk = malloc((c->v->longest + 1) * sizeof *c->walk);
    c->near = malloc(NEAR * sizeof *c->near);
    if (!c->walk || !c->near || !letter_steps(c, NB_LETTERS_WORD, word_rows, sizeof word_rows / sizeof *word_rows) ||
        !letter_steps(c, NB_LETTERS_PLAIN, plain_rows, sizeof plain_rows / sizeof *plain_rows))
        return nb_fail_memory(err, "the masks of a grammar", c->v->longest * 4);
    return NB_OK;
}

void nb_grammar_mask_free(nb_grammar_cache *c)
{
    free(c->walk);
    free(c->near);
    free(c->steps[0]);
    free(c->steps[1]);
    nb_grown_free(&c->masks);
    nb_grown_free(&c->likes);
}

static bool add_near(nb_grammar_cache *c, uint32_t set, uint32_t *count)
{
    for (uint32_t i = 0; i < *count; i++)
        if (c->near[i] == set)
            return true;
    if (*count == NEAR)
        return false;
    c->near[(*count)++] = set;
    return true;
}

/* Adds the sets after any one of these letters; false when one of them is refused. */
static bool pass_letter(nb_grammar_cache *c, nb_letters letters, uint32_t set, uint8_t from, uint32_t *count)
{
    const nb_letters_step *steps = c->steps[letters];
    for (size_t i = 0; i < c->step_count[letters]; i++) {
        if (steps[i].from != from)
            continue;
        uint32_t next = nb_grammar_step(c, set, steps[i].class_);
        if (next == 0 || !(steps[i].to ? pass_letter(c, letters, next, steps[i].to, count) : add_near(c, next, count)))
            return false;
    }
    return true;
}

/* Whether every text of `most` such letters, and so every shorter one, is let pass. */
static bool passes(nb_grammar_cache *c, nb_letters letters, uint32_t most, uint32_t set)
{
    uint32_t count = 1, begin = 0;
    c->near[0] = set;
    for (uint32_t n = 0; n < most; n++) {
        uint32_t end = count;
        for (uint32_t i = begin; i < end; i++)
            if (!pass_letter(c, letters, c->near[i], 0, &count))
                return false;
        if (count == end)
            return true; /* nothing new: so it goes on */
        begin = end;
    }
    return true;
}

/* ---- a mask ---- */

static void walk_slice(nb_grammar_cache *c, const nb_word_slice *slice, uint32_t set, uint32_t *bits)
{
    const nb_word_node *nodes = slice->nodes;
    const uint8_t *class_of = c->g->class_of;
    c->walk[0] = set;
    for (size_t i = 0; i < slice->node_count && c->status == NB_OK;) {
        uint32_t next = nb_grammar_step(c, c->walk[nodes[i].depth], class_of[nodes[i].byte]);
        if (next == 0) {
            i = nodes[i].next;
            continue;
        }
        c->walk[nodes[i].depth + 1] = next;
        if (nodes[i].token >= 0)
            nb_bit_set(bits, (size_t)nodes[i].token);
        i++;
    }
}

static void allow_named(nb_grammar_cache *c, uint32_t set, uint32_t *bits)
{
    const nb_grammar *g = c->g;
    const nb_way *way = nb_grammar_ways(c, set);
    for (uint32_t i = 0; i < nb_grammar_set(c, set)->count; i++)
        for (uint32_t k = g->token_at[way[i].state]; k < g->token_at[way[i].state + 1]; k++) {
            uint32_t id = g->tokens[k].id;
            if (!g->tokens[k].other) {
                if (id < c->v->count)
                    nb_bit_set(bits, id);
                continue;
            }
            bool already = id < c->v->count && nb_bit(bits, id);
            for (size_t w = 0; w < c->v->words; w++)
                bits[w] |= c->v->text[w];
            if (id < c->v->count && !already)
                bits[id / 32] &= ~(1u << id % 32);
        }
}

static void make_mask(nb_grammar_cache *c, uint32_t set, uint32_t *bits)
{
    const nb_grammar_vocab *v = c->v;
    bool plain = true; /* still worth a try: the longer the words, the less */
    for (int k = 0; k < NB_WORD_SLICES; k++) {
        const nb_word_slice *slice = &v->slices[k];
        bool all = plain && slice->node_count > 0 && slice->letters != NB_LETTERS_MIXED &&
                   passes(c, slice->letters, slice->most, set);
        if (slice->letters == NB_LETTERS_PLAIN)
            plain = all;
        if (!all)
            walk_slice(c, slice, set, bits);
        else
            for (size_t w = 0; w < v->words; w++)
                bits[w] |= slice->bits[w];
    }
    for (size_t i = 0; i < v->same_count; i++)
        if (nb_bit(bits, (size_t)v->same[i].as))
            nb_bit_set(bits, (size_t)v->same[i].token);
    if (nb_grammar_set(c, set)->has_tokens)
        allow_named(c, set, bits);
    for (size_t w = 0; w < v->words; w++) /* an end is no token like others, even by name */
        bits[w] = (bits[w] & ~v->ends[w]) | (nb_grammar_set(c, set)->can_end ? v->ends[w] : 0);
}

void nb_grammar_mask_forget(nb_grammar_cache *c)
{
    for (uint32_t i = 0; i < c->t.set_count; i++)
        nb_grammar_set(c, i)->mask = 0;
    c->mask_count = 0;
    if (c->like_count > 0)
        memset(c->likes.p, 0, c->like_count * sizeof(nb_mask_like));
}

/* Room for one more mask; when there is none, all go. */
static uint32_t *new_mask(nb_grammar_cache *c)
{
    size_t bytes = c->v->words * sizeof(uint32_t);
    if ((c->mask_count + 1) * bytes > MASKS && c->mask_count > 0)
        nb_grammar_mask_forget(c);
    if (!nb_grown_reserve(&c->masks, c->mask_count + 1, bytes))
        return NULL;
    uint32_t *bits = (uint32_t *)c->masks.p + c->mask_count * c->v->words;
    memset(bits, 0, bytes);
    return bits;
}

static bool any(const uint32_t *bits, size_t words)
{
    uint32_t some = 0;
    for (size_t w = 0; w < words; w++)
        some |= bits[w];
    return some != 0;
}

/* ---- masks that are alike: how often something was repeated matters only near the bounds ---- */

/* The finalizer of splitmix64 over a chain: keys are compared without what they were made of. */
static uint64_t mix(uint64_t h, uint64_t value)
{
    h += value + 0x9E3779B97F4A7C15u;
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 27) * 0x94D049BB133111EBu;
    return h ^ h >> 31;
}

/* A count, or what it is as long as one token is read: far from both bounds, or far below the lower one. */
static uint32_t count_class(const nb_grammar_cache *c, const nb_stack *s)
{
    const nb_call_edge *e = &c->g->calls[s->call];
    uint64_t soon = s->count + (uint64_t)c->v->longest + 1;
    if (soon < e->least)
        return UINT32_MAX;
    return s->count >= e->least && (e->most == UINT32_MAX || soon < e->most) ? UINT32_MAX - 1 : s->count;
}

static uint64_t key_of(const nb_grammar_cache *c, uint32_t set)
{
    const nb_ways *w = nb_grammar_set(c, set);
    const nb_way *way = nb_grammar_ways(c, set);
    const nb_stack *stacks = c->t.stacks.p;
    uint64_t key = mix(w->count, w->can_end);
    for (uint32_t i = 0; i < w->count; i++) {
        key = mix(key, way[i].state);
        for (uint32_t k = way[i].stack; k; k = stacks[k].parent)
            key = mix(key, (uint64_t)(stacks[k].call + 1u) << 32 | count_class(c, &stacks[k]));
    }
    return key;
}

/* The place of a key among the masks; NULL when there is no room. */
static nb_mask_like *like_of(nb_grammar_cache *c, uint64_t key)
{
    if (2 * c->mask_count >= c->like_count) {
        nb_grown old = c->likes, bigger = {0};
        size_t count = c->like_count ? 2 * c->like_count : 256;
        if (!nb_grown_reserve(&bigger, count, sizeof(nb_mask_like)))
            return NULL;
        memset(bigger.p, 0, count * sizeof(nb_mask_like));
        size_t before = c->like_count;
        c->likes = bigger;
        c->like_count = count;
        for (size_t i = 0; i < before; i++)
            if (((nb_mask_like *)old.p)[i].mask)
                *like_of(c, ((nb_mask_like *)old.p)[i].key) = ((nb_mask_like *)old.p)[i];
        nb_grown_free(&old);
    }
    nb_mask_like *likes = c->likes.p;
    size_t at = key & (c->like_count - 1);
    while (likes[at].mask && likes[at].key != key)
        at = (at + 1) & (c->like_count - 1);
    return &likes[at];
}

static nb_status new_mask_of(nb_grammar_cache *c, uint32_t set, nb_error *err)
{
    uint32_t *bits = new_mask(c);
    if (!bits)
        return nb_fail_memory(err, "a mask", c->v->words * sizeof *bits);
    make_mask(c, set, bits);
    bool some = any(bits, c->v->words);
    if (c->status != NB_OK || (c->cut && !some)) {
        c->status = c->status == NB_OK ? NB_ERR_LIMIT : c->status;
        return nb_grammar_failed(c, err);
    }
    if (!some)
        return nb_fail(err, NB_ERR_LIMIT, "no token of this vocabulary goes on where the grammar is");
    nb_grammar_set(c, set)->mask = (uint32_t)++c->mask_count;
    return NB_OK;
}

nb_status nb_grammar_mask(nb_grammar_state *s, const uint32_t **allowed, nb_error *err)
{
    nb_grammar_cache *c = s->c;
    if (!c->v)
        return nb_fail(err, NB_ERR_ARGUMENT, "this grammar was given no vocabulary: there are no tokens to allow");
    NB_TRY(nb_grammar_tidy(c, err));
    nb_mask_like *like = NULL;
    uint64_t key = 0;
    if (nb_grammar_set(c, s->set)->mask == 0 && c->g->counts) {
        key = key_of(c, s->set);
        like = like_of(c, key);
        if (like && like->mask)
            nb_grammar_set(c, s->set)->mask = (uint32_t)like->mask;
    }
    if (nb_grammar_set(c, s->set)->mask == 0) {
        NB_TRY(new_mask_of(c, s->set, err));
        if (c->g->counts && (like = like_of(c, key))) /* again: masks may have been forgotten meanwhile */
            *like = (nb_mask_like){key, nb_grammar_set(c, s->set)->mask};
    }
    *allowed = (const uint32_t *)c->masks.p + (nb_grammar_set(c, s->set)->mask - 1) * c->v->words;
    return NB_OK;
}
