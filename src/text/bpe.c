/* bpe.c - byte-level BPE ("gpt2"): text is cut into words, each word starts as its bytes, and the merges of the file join
 * them by rank. Source: Sennrich et al. 2016 (arXiv:1508.07909), section 3.2; the byte alphabet is GPT-2's. */
#include "text/tokenizer_internal.h"
#include "text/utf8.h"

enum { SHORT_WORD = 16 }; /* bytes up to which looking for cuts does not pay */

uint32_t nb_gpt2_letter(unsigned char byte)
{
    if ((byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD))
        return byte;
    return byte <= 0x20 ? 0x100u + byte : byte <= 0xA0 ? 0x121u + (byte - 0x7Fu) : 0x143u;
}

int nb_gpt2_byte(uint32_t cp)
{
    if (cp < 0x100)
        return nb_gpt2_letter((unsigned char)cp) == cp ? (int)cp : -1;
    if (cp <= 0x120)
        return (int)cp - 0x100;
    if (cp <= 0x142)
        return (int)cp - 0x121 + 0x7F;
    return cp == 0x143 ? 0xAD : -1;
}

static const nb_merge_rule *find_rule(const nb_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = nb_mix(pair, 0x9E3779B97F4A7C15u) & t->rule_mask;; i = (i + 1) & t->rule_mask) {
        const nb_merge_rule *rule = &t->rules[i];
        if (rule->pair == pair)
            return rule;
        if (rule->pair == UINT64_MAX)
            return NULL;
    }
}

static bool pair_of_rule(const void *context, const nb_symbol *a, const nb_symbol *b, uint32_t *priority, int32_t *id)
{
    const nb_merge_rule *rule = a->id >= 0 && b->id >= 0 ? find_rule(context, a->id, b->id) : NULL;
    if (!rule)
        return false;
    *priority = rule->rank;
    *id = rule->id;
    return true;
}

/* the byte whose letter is the one or two bytes a, b of UTF-8 */
static unsigned byte_of_letter(const nb_tokenizer *t, char a, char b)
{
    unsigned char first = (unsigned char)a;
    int byte = first >= 0xC0 && !(t->pre_flags & NB_PRE_RAW) ? nb_gpt2_byte((first & 31u) << 6 | (b & 63)) : first;
    return byte < 0 ? first : (unsigned)byte;
}

static void note_join(nb_tokenizer *t, const char *left, size_t n, char right_first, char right_second)
{
    bool two = n > 1 && !(t->pre_flags & NB_PRE_RAW) && ((unsigned char)left[n - 1] & 0xC0) == 0x80;
    unsigned a = two ? byte_of_letter(t, left[n - 2], left[n - 1]) : (unsigned char)left[n - 1];
    unsigned b = byte_of_letter(t, right_first, right_second);
    t->joins[a][b / 64] |= 1ull << b % 64;
}

/* "left right" of the file's list. A merge of pieces that the vocabulary lacks can never happen and is left out. */
static void add_rule(nb_tokenizer *t, nb_str text, uint32_t rank, nb_buf *whole)
{
    const char *space = text.n > 1 ? memchr(text.p + 1, ' ', text.n - 1) : NULL;
    if (!space)
        return;
    size_t left_bytes = (size_t)(space - text.p);
    nb_buf_clear(whole);
    nb_buf_add(whole, text.p, left_bytes);
    nb_buf_add(whole, space + 1, text.n - left_bytes - 1);
    int32_t left = nb_tokenizer_find_hashed(t, text.p, left_bytes);
    int32_t right = nb_tokenizer_find_hashed(t, space + 1, text.n - left_bytes - 1);
    int32_t id = whole->failed ? -1 : nb_tokenizer_find_hashed(t, whole->data, whole->len);
    if (left < 0 || right < 0 || id < 0)
        return;
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = nb_mix(pair, 0x9E3779B97F4A7C15u) & t->rule_mask;
    while (t->rules[i].pair != UINT64_MAX && t->rules[i].pair != pair)
        i = (i + 1) & t->rule_mask;
    if (t->rules[i].pair == UINT64_MAX) /* the first of two equal merges has the better rank */
        t->rules[i] = (nb_merge_rule){.pair = pair, .rank = rank, .id = id};
    note_join(t, text.p, left_bytes, space[1], text.n - left_bytes > 2 ? space[2] : 0);
}

static nb_status build_rules(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err)
{
    size_t cap = 16;
    while (cap / 3 * 2 < vocab->merge_count)
        cap *= 2;
    t->rules = vocab->merge_count < UINT32_MAX ? NB_ARRAY(&t->arena, nb_merge_rule, cap) : NULL;
    t->joins = nb_arena_array(&t->arena, 256, sizeof *t->joins);
    nb_buf whole = {0};
    if (!t->rules || !t->joins || !nb_buf_reserve(&whole, 256))
        return nb_fail_memory(err, "merges", cap * sizeof(nb_merge_rule));
    t->rule_mask = cap - 1;
    for (size_t i = 0; i < cap; i++)
        t->rules[i].pair = UINT64_MAX;
    for (size_t i = 0; i < vocab->merge_count; i++)
        add_rule(t, vocab->merges[i], (uint32_t)i, &whole);
    bool failed = whole.failed;
    nb_buf_free(&whole);
    return failed ? nb_fail_memory(err, "merges", cap * sizeof(nb_merge_rule)) : NB_OK;
}

static nb_status bpe_build(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err)
{
    if (vocab->expressions) {
        NB_TRY(nb_pretokenizer_new_from(vocab->expressions, vocab->expression_count, &t->pre, err));
        t->pre_flags = vocab->ignore_merges ? NB_PRE_IGNORE_MERGES : 0;
    } else {
        NB_TRY(nb_pretokenizer_new(vocab->pre, &t->pre, err));
        t->pre_flags = nb_pretokenizer_flags(vocab->pre);
    }
    for (int byte = 0; byte < 256 && !(t->pre_flags & NB_PRE_RAW); byte++) {
        nb_buf letter = {0};
        nb_buf_utf8(&letter, nb_gpt2_letter((unsigned char)byte));
        if (letter.failed)
            return nb_fail_memory(err, "byte alphabet", 4);
        t->byte_id[byte] = nb_tokenizer_find_hashed(t, letter.data, letter.len);
        nb_buf_free(&letter);
    }
    return build_rules(t, vocab, err);
}

/* ---- encoding ---- */
static bool first_symbols(nb_run *run, const char *base, size_t offset, size_t n)
{
    const nb_tokenizer *t = run->t;
    const unsigned char *s = (const unsigned char *)base + offset;
    nb_merger *m = &run->merger;
    if (!nb_merger_reserve(m, n))
        return false;
    m->count = 0;
    if (!(t->pre_flags & NB_PRE_RAW)) {
        for (size_t i = 0; i < n; i++)
            m->symbols[i] = (nb_symbol){.id = t->byte_id[s[i]], .start = (uint32_t)(offset + i), .bytes = 1};
        m->count = n;
        return true;
    }
    for (size_t i = 0, step; i < n; i += step) {
        step = nb_utf8_step(s + i, n - i);
        m->symbols[m->count++] = (nb_symbol){.id = nb_tokenizer_find_hashed(t, (const char *)s + i, step),
                                             .start = (uint32_t)(offset + i),
                                             .bytes = (uint32_t)step};
    }
    return true;
}

/* A byte without a token (some vocabularies lack control characters and bytes that UTF-8 never has) gives nothing: the
 * unknown token of such files is <|endoftext|> or the like, which plain text must not be able to write. */
static nb_status emit(nb_run *run, const char *base, nb_error *err)
{
    const nb_merger *m = &run->merger;
    for (size_t i = 0; i < m->count; i++) {
        const nb_symbol *s = &m->symbols[i];
        if (s->id >= 0)
            run->out->id[run->out->count++] = s->id;
        for (uint32_t k = 0; s->id < 0 && k < s->bytes && run->t->pre_flags & NB_PRE_RAW; k++)
            NB_TRY(nb_run_byte(run, (unsigned char)base[s->start + k], err));
    }
    return NB_OK;
}

/* a word that is a token as it stands, or -1 */
static int32_t whole_word(nb_run *run, const char *s, size_t n)
{
    const nb_tokenizer *t = run->t;
    if (t->pre_flags & NB_PRE_RAW)
        return s[0] == '\n' ? nb_tokenizer_find_hashed(t, s, n) : -1; /* runs of line ends have tokens but no merges */
    if (!(t->pre_flags & NB_PRE_IGNORE_MERGES) || n > t->longest)
        return -1;
    nb_buf_clear(&run->scratch);
    for (size_t i = 0; i < n; i++)
        nb_buf_utf8(&run->scratch, nb_gpt2_letter((unsigned char)s[i]));
    return run->scratch.failed ? -1 : nb_tokenizer_find_hashed(t, run->scratch.data, run->scratch.len);
}

static nb_status merge_stretch(nb_run *run, const char *base, size_t offset, size_t n, nb_error *err)
{
    uint64_t hash = nb_hash(base + offset, n);
    size_t first = run->out->count;
    if (nb_memo_find(run, base, offset, n, hash))
        return NB_OK;
    if (!nb_ids_reserve(run->out, n) || !first_symbols(run, base, offset, n) ||
        !nb_merger_run(&run->merger, pair_of_rule, run->t))
        return nb_fail_memory(err, "merging", n * 40);
    NB_TRY(emit(run, base, err));
    nb_memo_put(run, offset, n, hash, first);
    return NB_OK;
}

/* A long word is cut where no merge can join what is left and right of the cut: at the boundaries of most emoji, say. */
static nb_status merge_long_word(nb_run *run, const char *base, size_t offset, size_t n, nb_error *err)
{
    const unsigned char *s = (const unsigned char *)base + offset;
    for (size_t from = 0, i = 1; i <= n; i++) {
        bool inside = i < n && run->t->pre_flags & NB_PRE_RAW && (s[i] & 0xC0) == 0x80;
        if (i < n && (inside || nb_joins(run->t, s[i - 1], s[i])))
            continue;
        NB_TRY(merge_stretch(run, base, offset + from, i - from, err));
        from = i;
    }
    return NB_OK;
}

static nb_status encode_word(nb_run *run, const char *base, size_t offset, size_t n, nb_error *err)
{
    uint64_t hash = nb_hash(base + offset, n);
    size_t first = run->out->count;
    if (nb_memo_find(run, base, offset, n, hash))
        return NB_OK;
    int32_t whole = whole_word(run, base + offset, n);
    if (whole < 0 && n <= SHORT_WORD)
        return merge_stretch(run, base, offset, n, err);
    if (whole < 0)
        NB_TRY(merge_long_word(run, base, offset, n, err));
    else if (!nb_ids_add(run->out, whole))
        return nb_fail_memory(err, "token ids", n * sizeof(int32_t));
    nb_memo_put(run, offset, n, hash, first);
    return NB_OK;
}

/* the text that the words are cut from: the caller's, or a copy with spaces marked */
static bool prepare(nb_run *run, nb_str text, const char **base, size_t *from, size_t *end)
{
    *base = run->source.p;
    *from = (size_t)(text.p - run->source.p);
    if (run->t->pre_flags & NB_PRE_RAW) {
        *from = run->text.len;
        nb_run_mark_spaces(run, text);
        *base = run->text.data;
    }
    *end = run->t->pre_flags & NB_PRE_RAW ? run->text.len : *from + text.n;
    return !run->text.failed;
}

static nb_status bpe_encode(nb_run *run, nb_str text, nb_error *err)
{
    const char *base;
    size_t from, end;
    if (!prepare(run, text, &base, &from, &end))
        return nb_fail_memory(err, "text", text.n);
    nb_scan_fn *scan = nb_pretokenizer_scan(run->t->pre);
    for (size_t at = from, n; scan && at < end; at += n) {
        n = scan((const unsigned char *)base + at, end - at);
        NB_TRY(encode_word(run, base, at, n, err));
    }
    if (scan)
        return NB_OK;
    NB_TRY(nb_pretokenizer_split(run->t->pre, (nb_str){base + from, end - from}, &run->words, err));
    for (size_t i = 0, at = 0; i < run->words.count; at = run->words.end[i++])
        NB_TRY(encode_word(run, base, from + at, run->words.end[i] - at, err));
    return NB_OK;
}

const nb_token_model nb_model_bpe = {"gpt2", bpe_build, bpe_encode};
