/* unigram.c - Unigram ("t5"): text is normalized by the map that the file carries, then the pieces of highest total score
 * that spell it are found by dynamic programming (Viterbi). Sources: Kudo 2018 (arXiv:1804.10959); the map is SentencePiece's
 * "precompiled charsmap": an XOR-compressed double array (Kanda 2018) over replacement strings. */
#include <float.h>
#include <stdlib.h>

#include "text/tokenizer_internal.h"
#include "text/utf8.h"

/* ---- pieces as a trie: an edge leads from a node by a byte to a node, and may end a piece ---- */
struct nb_trie_edge {
    uint32_t from; /* UINT32_MAX: empty */
    uint32_t to;
    int32_t id; /* of the piece that ends here, -1 without */
    unsigned char byte;
};

static size_t edge_start(const nb_tokenizer *t, uint32_t from, unsigned char byte)
{
    return nb_mix((uint64_t)from << 8 | byte, 0x9E3779B97F4A7C15u) & t->edge_mask;
}

static nb_trie_edge *find_edge(const nb_tokenizer *t, uint32_t from, unsigned char byte) /* or the empty place for it */
{
    size_t i = edge_start(t, from, byte);
    while (t->edges[i].from != UINT32_MAX && (t->edges[i].from != from || t->edges[i].byte != byte))
        i = (i + 1) & t->edge_mask;
    return &t->edges[i];
}

static bool is_text(int type)
{
    return type == NB_TOKEN_NORMAL || type == NB_TOKEN_USER_DEFINED || type == NB_TOKEN_UNUSED;
}

static nb_status build_trie(nb_tokenizer *t, nb_error *err)
{
    size_t bytes = 0, cap = 16;
    uint32_t nodes = 1;
    for (size_t i = 0; i < t->vocab.count; i++)
        bytes += t->pieces[i].n;
    while (cap / 2 < bytes)
        cap *= 2;
    t->edges = bytes < UINT32_MAX / 4 ? NB_ARRAY(&t->arena, nb_trie_edge, cap) : NULL;
    if (!t->edges)
        return nb_fail_memory(err, "vocabulary", cap * sizeof *t->edges);
    t->edge_mask = cap - 1;
    memset(t->edges, 0xFF, cap * sizeof *t->edges);
    for (size_t i = 0; i < t->vocab.count; i++) {
        uint32_t node = 0;
        nb_trie_edge *edge = NULL;
        for (size_t k = 0; is_text(t->types[i]) && k < t->pieces[i].n; k++, node = edge->to) {
            unsigned char byte = (unsigned char)t->pieces[i].p[k];
            edge = find_edge(t, node, byte);
            if (edge->from == UINT32_MAX)
                *edge = (nb_trie_edge){.from = node, .to = nodes++, .id = -1, .byte = byte};
        }
        if (edge)
            edge->id = (int32_t)i;
    }
    return NB_OK;
}

/* ---- the normalizer's map ---- */
static uint32_t little_endian(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static nb_status unigram_build(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err)
{
    float least = FLT_MAX;
    if (!vocab->scores || vocab->unk < 0)
        return nb_fail(err, NB_ERR_FORMAT, "vocabulary: a 't5' tokenizer needs %s",
                       vocab->scores ? "an unknown token" : "a score for each token");
    for (size_t i = 0; i < vocab->count; i++)
        if (t->types[i] == NB_TOKEN_NORMAL && t->scores[i] < least)
            least = t->scores[i];
    t->unknown_score = (double)least - 10.0;
    NB_TRY(build_trie(t, err));
    if (vocab->charsmap_bytes == 0)
        return NB_OK;
    uint32_t nodes = vocab->charsmap_bytes >= 4 ? little_endian(vocab->charsmap) : UINT32_MAX;
    if (vocab->charsmap_bytes < 4 || nodes >= vocab->charsmap_bytes - 4 || nodes % 4 != 0)
        return nb_fail(err, NB_ERR_FORMAT, "tokenizer.ggml.precompiled_charsmap: %zu bytes do not hold its map",
                       vocab->charsmap_bytes);
    unsigned char *copy = nb_arena_alloc(&t->arena, vocab->charsmap_bytes, 4);
    if (!copy)
        return nb_fail_memory(err, "normalizer", vocab->charsmap_bytes);
    memcpy(copy, vocab->charsmap, vocab->charsmap_bytes);
    if (copy[vocab->charsmap_bytes - 1] != 0)
        return nb_fail(err, NB_ERR_FORMAT, "tokenizer.ggml.precompiled_charsmap: its last text has no end");
    t->xcda = copy + 4;
    t->xcda_count = nodes / 4;
    t->replacements = (nb_str){(const char *)copy + 4 + nodes, vocab->charsmap_bytes - 4 - nodes};
    return NB_OK;
}

static uint32_t xcda_node(const nb_tokenizer *t, size_t i)
{
    return i < t->xcda_count ? little_endian(t->xcda + 4 * i) : 0;
}
static uint32_t xcda_base(uint32_t node) { return (node >> 10) << ((node & 1u << 9) >> 6); }

/* The longest prefix of s that the map replaces: its bytes, and what stands for it in *to. 0: none. */
static size_t replaced_prefix(const nb_tokenizer *t, nb_str s, nb_str *to)
{
    size_t longest = 0;
    uint32_t at = xcda_base(xcda_node(t, 0)), value = 0;
    for (size_t i = 0; i < s.n && s.p[i] && t->xcda_count; i++) {
        unsigned char byte = (unsigned char)s.p[i];
        at ^= byte;
        uint32_t node = xcda_node(t, at);
        if ((node & (1u << 31 | 0xFF)) != byte)
            break;
        at ^= xcda_base(node);
        if (node >> 8 & 1) {
            longest = i + 1;
            value = xcda_node(t, at) & 0x7FFFFFFF;
        }
    }
    if (longest && value >= t->replacements.n)
        return 0;
    if (longest)
        *to = nb_str_of(t->replacements.p + value);
    return longest;
}

typedef struct normal { /* state of the spaces while normalizing */
    bool in_word, prefixed;
} normal;

static void add_normal(nb_run *run, normal *state, nb_str s)
{
    const nb_vocab *v = &run->t->vocab;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == ' ') {
            state->in_word = false;
            if (!v->remove_extra_whitespaces)
                nb_buf_z(&run->text, "\xE2\x96\x81");
            continue;
        }
        if (!state->in_word && ((v->add_space_prefix && !state->prefixed) || v->remove_extra_whitespaces)) {
            nb_buf_z(&run->text, "\xE2\x96\x81");
            state->prefixed = true;
        }
        state->in_word = true;
        nb_buf_char(&run->text, s.p[i]);
    }
}

static void normalize(nb_run *run, nb_str text)
{
    normal state = {0};
    nb_buf_clear(&run->text);
    while (text.n > 0) {
        nb_str to = NB_STR("");
        size_t taken = replaced_prefix(run->t, text, &to);
        if (taken == 0) {
            uint32_t cp;
            taken = nb_utf8_decode((const unsigned char *)text.p, text.n, &cp);
            to = taken ? (nb_str){text.p, taken} : NB_STR("\xEF\xBF\xBD");
            taken = taken ? taken : 1;
        }
        add_normal(run, &state, to);
        text.p += taken;
        text.n -= taken;
    }
}

/* ---- the best way to spell the text up to each byte ---- */
typedef struct best {
    double score;
    uint32_t from;
    int32_t id;
} best;

static void offer(best *b, double score, size_t from, int32_t id)
{
    if (score > b->score)
        *b = (best){.score = score, .from = (uint32_t)from, .id = id};
}

static void spell_from(const nb_tokenizer *t, nb_str s, size_t i, best *table)
{
    uint32_t node = 0;
    size_t character = nb_utf8_step((const unsigned char *)s.p + i, s.n - i);
    bool whole = false;
    for (size_t k = i; k < s.n; k++) {
        const nb_trie_edge *edge = find_edge(t, node, (unsigned char)s.p[k]);
        if (edge->from == UINT32_MAX)
            break;
        if (edge->id >= 0) {
            double score = t->types[edge->id] == NB_TOKEN_USER_DEFINED ? 0.0 : (double)t->scores[edge->id];
            whole = whole || k + 1 - i == character;
            offer(&table[k + 1], table[i].score + score, i, edge->id);
        }
        node = edge->to;
    }
    if (!whole)
        offer(&table[i + character], table[i].score + t->unknown_score, i, t->vocab.unk);
}

static nb_status unigram_encode(nb_run *run, nb_str text, nb_error *err)
{
    normalize(run, text);
    nb_str s = nb_buf_view(&run->text);
    best *table = malloc((s.n + 1) * sizeof *table);
    if (run->text.failed || !table || s.n >= UINT32_MAX || !nb_ids_reserve(run->out, s.n)) {
        free(table);
        return nb_fail_memory(err, "spelling", s.n * sizeof *table);
    }
    for (size_t i = 0; i <= s.n; i++)
        table[i] = (best){.score = i ? -DBL_MAX : 0, .id = run->t->vocab.unk};
    for (size_t i = 0; i < s.n; i += nb_utf8_step((const unsigned char *)s.p + i, s.n - i))
        spell_from(run->t, s, i, table);
    size_t first = run->out->count;
    bool unknown = false; /* neighbouring unknowns are one */
    for (size_t i = s.n; i > 0; i = table[i].from) {
        bool is_unknown = table[i].id == run->t->vocab.unk;
        if (!(unknown && is_unknown))
            run->out->id[run->out->count++] = table[i].id;
        unknown = is_unknown;
    }
    for (size_t a = first, b = run->out->count; a + 1 < b; a++) {
        int32_t swap = run->out->id[a];
        run->out->id[a] = run->out->id[--b];
        run->out->id[b] = swap;
    }
    free(table);
    return NB_OK;
}

const nb_token_model nb_model_unigram = {"t5", unigram_build, unigram_encode};
