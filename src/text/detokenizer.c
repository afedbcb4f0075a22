/* detokenizer.c - token ids back to text. */
#include "text/tokenizer_internal.h"
#include "text/utf8.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* the piece with U+2581 as spaces */
static void add_marked(nb_str s, bool drop_space, nb_buf *out)
{
    for (size_t i = 0; i < s.n;) {
        bool mark = s.n - i >= 3 && memcmp(s.p + i, "\xE2\x96\x81", 3) == 0;
        if (!mark)
            nb_buf_char(out, s.p[i]);
        else if (i > 0 || !drop_space)
            nb_buf_char(out, ' ');
        i += mark ? 3 : 1;
    }
}

/* A piece of GPT-2's alphabet gives its bytes; one with other characters is text as it stands. */
static void add_gpt2(nb_str s, nb_buf *out)
{
    size_t before = out->len;
    uint32_t cp = 0;
    for (size_t i = 0, step; i < s.n; i += step) {
        step = nb_utf8_decode((const unsigned char *)s.p + i, s.n - i, &cp);
        int byte = step ? nb_gpt2_byte(cp) : -1;
        if (byte < 0) {
            out->len = before;
            nb_buf_str(out, s);
            return;
        }
        nb_buf_char(out, (char)byte);
    }
}

static bool marks_spaces(const nb_tokenizer *t) { return t->model != &nb_model_bpe || (t->pre_flags & NB_PRE_RAW); }

/* Where encoding puts a space before a stretch of text, decoding takes it away again. */
static bool drops_space(const nb_tokenizer *t)
{
    return t->vocab.add_space_prefix ? t->model != &nb_model_bpe : t->model == &nb_model_wordpiece;
}

/* *fresh: at the beginning, or right after a special token */
static nb_status add_token(const nb_tokenizer *t, int32_t id, bool special, bool *fresh, nb_buf *out, nb_error *err)
{
    if (id < 0 || (size_t)id >= t->vocab.count)
        return nb_fail(err, NB_ERR_ARGUMENT, "token %d is not in the vocabulary of %zu", id, t->vocab.count);
    nb_str s = t->pieces[id];
    int type = t->types[id], byte = type == NB_TOKEN_BYTE ? nb_piece_byte(s) : -1;
    if (type == NB_TOKEN_CONTROL || type == NB_TOKEN_UNKNOWN || type == NB_TOKEN_USER_DEFINED) {
        if (special || type == NB_TOKEN_USER_DEFINED)
            nb_buf_str(out, s);
        *fresh = true;
        return NB_OK;
    }
    if (byte >= 0)
        nb_buf_char(out, (char)byte);
    else if (marks_spaces(t))
        add_marked(s, *fresh && drops_space(t), out);
    else
        add_gpt2(s, out);
    *fresh = false;
    return NB_OK;
}

nb_status nb_tokenizer_decode(const nb_tokenizer *t, const int32_t *ids, size_t n, bool special, nb_buf *out,
                              nb_error *err)
{
    bool fresh = true;
    for (size_t i = 0; i < n; i++)
        NB_TRY(add_token(t, ids[i], special, &fresh, out, err));
    return out->failed ? nb_fail_memory(err, "decoded text", out->len) : NB_OK;
}

nb_status nb_tokenizer_bytes(const nb_tokenizer *t, int32_t id, nb_buf *out, nb_error *err)
{
    bool fresh = false;
    return add_token(t, id, false, &fresh, out, err);
}

/* Whether n bytes (fewer than a whole code point) can begin one. */
static bool may_begin(const unsigned char *s, size_t n)
{
    size_t whole = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n >= whole)
        return false;
    if (n > 1 && ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
                  (s[0] == 0xF4 && s[1] > 0x8F)))
        return false;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return false;
    return true;
}

/* One more byte: out gets whole code points, U+FFFD for what can no longer become one. */
static void push_byte(nb_detok *d, unsigned char byte, nb_buf *out)
{
    uint32_t cp;
    d->held[d->held_bytes++] = byte;
    if (nb_utf8_decode(d->held, d->held_bytes, &cp) == d->held_bytes) {
        nb_buf_add(out, d->held, d->held_bytes);
        d->held_bytes = 0;
    } else if (!may_begin(d->held, d->held_bytes)) {
        bool again = d->held_bytes > 1; /* the byte itself may begin the next one */
        d->held_bytes = 0;
        nb_buf_z(out, replacement);
        if (again)
            push_byte(d, byte, out);
    }
}

nb_status nb_detok_push(nb_detok *d, int32_t id, nb_buf *out, nb_error *err)
{
    nb_buf piece = {0};
    bool fresh = !d->started;
    nb_status status = add_token(d->tokenizer, id, d->special, &fresh, &piece, err);
    if (status == NB_OK && piece.failed)
        status = nb_fail_memory(err, "decoded text", piece.len);
    for (size_t i = 0; status == NB_OK && i < piece.len; i++)
        push_byte(d, (unsigned char)piece.data[i], out);
    if (status == NB_OK)
        d->started = !fresh;
    nb_buf_free(&piece);
    if (status == NB_OK && out->failed)
        status = nb_fail_memory(err, "decoded text", out->len);
    return status;
}

void nb_detok_flush(nb_detok *d, nb_buf *out)
{
    if (d->held_bytes)
        nb_buf_z(out, replacement);
    d->held_bytes = 0;
}
