/* wordpiece.c - WordPiece ("bert"): text is cleaned, cut at spaces, punctuation and Chinese characters, and each word is
 * cut into the longest pieces from its left; one that cannot be is one unknown token. A piece that begins a word has U+2581
 * before it. Source: BERT's tokenization.py (Devlin et al. 2018), with its limit of 100 characters a word. */
#include <utf8proc.h>

#include "text/tokenizer_internal.h"
#include "text/utf8.h"

enum { MOST_CHARACTERS = 100 };

static nb_status wordpiece_build(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err)
{
    (void)t;
    if (vocab->unk < 0)
        return nb_fail(err, NB_ERR_FORMAT, "vocabulary: a 'bert' tokenizer needs an unknown token");
    return NB_OK;
}

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_punctuation(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    if (c < 128)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* control characters that cleaning removes; tab and line ends are spaces */
static bool is_removed(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    return c == 0xFFFD || k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO;
}

/* the longest pieces from the left of the word in run->text */
static nb_status encode_word(nb_run *run, size_t characters, nb_error *err)
{
    const nb_tokenizer *t = run->t;
    nb_str word = nb_buf_view(&run->text);
    size_t before = run->out->count;
    if (run->text.failed || !nb_ids_reserve(run->out, word.n))
        return nb_fail_memory(err, "word", word.n);
    for (size_t i = 0; i < word.n;) {
        int32_t id = -1;
        size_t n = characters > MOST_CHARACTERS ? 0 : nb_min_size(word.n - i, t->longest);
        for (; n > 0; n--)
            if ((i + n == word.n || ((unsigned char)word.p[i + n] & 0xC0) != 0x80) &&
                (id = nb_tokenizer_find_hashed(t, word.p + i, n)) >= 0)
                break;
        if (id < 0) {
            run->out->count = before;
            run->out->id[run->out->count++] = t->vocab.unk;
            break;
        }
        run->out->id[run->out->count++] = id;
        i += n;
    }
    return NB_OK;
}

/* ends the word under way, if there is one */
static nb_status end_word(nb_run *run, size_t *characters, nb_error *err)
{
    nb_status status = *characters ? encode_word(run, *characters, err) : NB_OK;
    nb_buf_clear(&run->text);
    nb_buf_z(&run->text, "\xE2\x96\x81");
    *characters = 0;
    return status;
}

static nb_status add_character(nb_run *run, uint32_t c, size_t *characters, nb_error *err)
{
    const nb_vocab *v = &run->t->vocab;
    if (v->strip_accents && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN)
        return NB_OK;
    if (v->lowercase)
        c = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    bool alone = is_punctuation(c) || is_chinese(c);
    if (alone)
        NB_TRY(end_word(run, characters, err));
    nb_buf_utf8(&run->text, c);
    ++*characters;
    return alone ? end_word(run, characters, err) : NB_OK;
}

static nb_status wordpiece_encode(nb_run *run, nb_str text, nb_error *err)
{
    const unsigned char *s = (const unsigned char *)text.p;
    size_t characters = 0;
    NB_TRY(end_word(run, &characters, err));
    for (size_t i = 0, step; i < text.n; i += step ? step : 1) {
        utf8proc_int32_t parts[32];
        uint32_t cp = 0;
        int boundary = 0;
        step = nb_utf8_decode(s + i, text.n - i, &cp);
        if (step == 0 || is_removed(cp))
            continue;
        if (nb_char_class_of(cp) == NB_CHAR_SPACE) {
            NB_TRY(end_word(run, &characters, err));
            continue;
        }
        utf8proc_ssize_t n = 0;
        if (run->t->vocab.strip_accents && cp >= 128)
            n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32, UTF8PROC_DECOMPOSE, &boundary);
        if (n <= 0 || n > 32) {
            parts[0] = (utf8proc_int32_t)cp;
            n = 1;
        }
        for (utf8proc_ssize_t k = 0; k < n; k++)
            NB_TRY(add_character(run, (uint32_t)parts[k], &characters, err));
    }
    return end_word(run, &characters, err);
}

const nb_token_model nb_model_wordpiece = {"bert", wordpiece_build, wordpiece_encode};
