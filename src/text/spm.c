/* spm.c - SentencePiece BPE ("llama"): the text, spaces written as U+2581, starts as its characters; of all neighbours that
 * together are a piece the one of highest score is joined, the leftmost of equals first. Characters that are no piece
 * become byte tokens. Source: Kudo and Richardson 2018 (arXiv:1808.06226). */
#include "text/tokenizer_internal.h"
#include "text/utf8.h"

/* Joining never crosses two characters that no piece holds side by side, so the text is cut there into words that are
 * encoded one by one (and remembered). Characters fall into 256 classes: ASCII, U+2581, and 127 for all others. */
static unsigned class_of(const unsigned char *s, size_t step)
{
    if (step == 1)
        return s[0] < 128 ? s[0] : 255u;
    if (step == 3 && s[0] == 0xE2 && s[1] == 0x96 && s[2] == 0x81)
        return 128;
    return 129 + (s[step - 1] * 31u + s[step - 2] * 7u + s[0]) % 126;
}

static void note_joins(nb_tokenizer *t, nb_str piece)
{
    const unsigned char *s = (const unsigned char *)piece.p;
    unsigned last = 0;
    for (size_t i = 0, step; i < piece.n; i += step) {
        step = nb_utf8_step(s + i, piece.n - i);
        unsigned class = class_of(s + i, step);
        if (i > 0)
            t->joins[last][class / 64] |= 1ull << class % 64;
        last = class;
    }
}

static nb_status spm_build(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err)
{
    if (!vocab->scores)
        return nb_fail(err, NB_ERR_FORMAT, "vocabulary: a 'llama' tokenizer needs a score for each token");
    t->joins = nb_arena_array(&t->arena, 256, sizeof *t->joins);
    if (!t->joins)
        return nb_fail_memory(err, "vocabulary", 256 * sizeof *t->joins);
    for (size_t i = 0; i < vocab->count; i++)
        note_joins(t, t->pieces[i]);
    return NB_OK;
}

/* higher scores first, as unsigned integers */
static uint32_t priority_of(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7FFFFFFFu;
}

typedef struct spm_text {
    const nb_tokenizer *t;
    const char *base;
} spm_text;

static bool pair_of_score(const void *context, const nb_symbol *a, const nb_symbol *b, uint32_t *priority, int32_t *id)
{
    const spm_text *x = context;
    int32_t found = nb_tokenizer_find_hashed(x->t, x->base + a->start, (size_t)a->bytes + b->bytes);
    if (found < 0)
        return false;
    *priority = priority_of(x->t->scores[found]);
    *id = found;
    return true;
}

static bool first_symbols(nb_run *run, size_t offset, size_t n)
{
    const unsigned char *s = (const unsigned char *)run->text.data + offset;
    nb_merger *m = &run->merger;
    if (!nb_merger_reserve(m, n))
        return false;
    m->count = 0;
    for (size_t i = 0, step; i < n; i += step) {
        step = nb_utf8_step(s + i, n - i);
        m->symbols[m->count++] = (nb_symbol){.id = -1, .start = (uint32_t)(offset + i), .bytes = (uint32_t)step};
    }
    return true;
}

/* a symbol that was never joined: its own token, its bytes, or one unknown */
static nb_status emit_character(nb_run *run, const nb_symbol *s, nb_error *err)
{
    const char *p = run->text.data + s->start;
    int32_t id = nb_tokenizer_find_hashed(run->t, p, s->bytes);
    if (id < 0 && run->t->byte_id[(unsigned char)p[0]] < 0)
        id = run->t->vocab.unk;
    if (id >= 0)
        return nb_ids_add(run->out, id) ? NB_OK : nb_fail_memory(err, "token ids", run->out->cap * 2 * sizeof(int32_t));
    for (uint32_t k = 0; k < s->bytes; k++)
        NB_TRY(nb_run_byte(run, (unsigned char)p[k], err));
    return NB_OK;
}

static nb_status encode_word(nb_run *run, size_t offset, size_t n, nb_error *err)
{
    const char *base = run->text.data;
    uint64_t hash = nb_hash(base + offset, n);
    size_t first = run->out->count;
    if (nb_memo_find(run, base, offset, n, hash))
        return NB_OK;
    spm_text context = {run->t, base};
    if (!first_symbols(run, offset, n) || !nb_merger_run(&run->merger, pair_of_score, &context) ||
        !nb_ids_reserve(run->out, n))
        return nb_fail_memory(err, "merging", n * 40);
    for (size_t i = 0; i < run->merger.count; i++) {
        const nb_symbol *s = &run->merger.symbols[i];
        if (s->id >= 0)
            run->out->id[run->out->count++] = s->id;
        else
            NB_TRY(emit_character(run, s, err));
    }
    nb_memo_put(run, offset, n, hash, first);
    return NB_OK;
}

/* end of the word that begins at i */
static size_t word_end(const nb_tokenizer *t, const unsigned char *s, size_t i, size_t end)
{
    size_t step = nb_utf8_step(s + i, end - i);
    unsigned last = class_of(s + i, step);
    for (i += step; i < end; i += step) {
        step = s[i] < 128 ? 1 : nb_utf8_step(s + i, end - i);
        unsigned class = class_of(s + i, step);
        if (!nb_joins(t, last, class))
            break;
        last = class;
    }
    return i;
}

static nb_status spm_encode(nb_run *run, nb_str text, nb_error *err)
{
    size_t at = run->text.len;
    if (run->t->vocab.add_space_prefix && run->after_special)
        nb_run_mark_spaces(run, NB_STR(" "));
    nb_run_mark_spaces(run, text);
    if (run->text.failed)
        return nb_fail_memory(err, "text", text.n);
    for (size_t end; at < run->text.len; at = end) {
        end = word_end(run->t, (const unsigned char *)run->text.data, at, run->text.len);
        NB_TRY(encode_word(run, at, end - at, err));
    }
    return NB_OK;
}

const nb_token_model nb_model_spm = {"llama", spm_build, spm_encode};
