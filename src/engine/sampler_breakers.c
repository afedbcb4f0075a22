#include <stdlib.h>

#include "engine/sampler_impl.h"

enum { BREAKER_BYTES = 40, BREAKER_TAIL = 20 }; /* longer ones are cut, which bounds the search in the history */

typedef struct finder {
    nb_sampler *s;
    const nb_tokenizer *tokenizer;
    nb_buf breakers; /* of breaker */
    nb_buf tails;    /* of int32_t */
    nb_ids ids;
    nb_error *err;
} finder;

static bool contains(nb_str text, nb_str part)
{
    for (size_t i = 0; i + part.n <= text.n; i++)
        if (memcmp(text.p + i, part.p, part.n) == 0)
            return true;
    return false;
}

/* `head` ends like the breaker begins: it breaks when the rest of the breaker follows. */
static nb_status add_tail(finder *f, int32_t head, nb_str rest)
{
    f->ids.count = 0;
    NB_TRY(nb_tokenizer_encode(f->tokenizer, rest, NB_ENCODE_PLAIN, &f->ids, f->err));
    size_t n = nb_min_size(f->ids.count, BREAKER_TAIL);
    if (n == 0)
        return NB_OK;
    breaker b = {head, (uint32_t)n, f->tails.len / sizeof *f->ids.id};
    nb_buf_add(&f->tails, f->ids.id, n * sizeof *f->ids.id);
    nb_buf_add(&f->breakers, &b, sizeof b);
    return NB_OK;
}

static nb_status find_one(finder *f, nb_str text, int32_t id, nb_str string)
{
    if (contains(text, string)) {
        f->s->dry.breaks[id] = 1;
        return NB_OK;
    }
    for (size_t n = nb_min_size(text.n, string.n - 1); n > 0; n--)
        if (memcmp(text.p + text.n - n, string.p, n) == 0)
            NB_TRY(add_tail(f, id, (nb_str){string.p + n, string.n - n}));
    return NB_OK;
}

static nb_status find_all(finder *f, const char *const *strings, size_t count)
{
    nb_buf text = {0};
    nb_status status = NB_OK;
    size_t tokens = nb_min_size(nb_tokenizer_count(f->tokenizer), f->s->vocabulary);
    for (size_t id = 0; id < tokens && status == NB_OK; id++) {
        int32_t token = (int32_t)id;
        nb_buf_clear(&text);
        status = nb_tokenizer_decode(f->tokenizer, &token, 1, true, &text, f->err);
        for (size_t i = 0; i < count && status == NB_OK; i++) {
            nb_str string = nb_str_of(strings[i]);
            string.n = nb_min_size(string.n, BREAKER_BYTES);
            if (string.n > 0)
                status = find_one(f, nb_buf_view(&text), token, string);
        }
    }
    bool failed = text.failed || f->breakers.failed || f->tails.failed;
    nb_buf_free(&text);
    return failed ? nb_fail_memory(f->err, "DRY's sequence breakers", f->breakers.len + f->tails.len) : status;
}

/* Moves what was found into the sampler; found in the order of ids, so it is sorted by head already. */
static nb_status keep(finder *f)
{
    dry *d = &f->s->dry;
    d->breaker_count = f->breakers.len / sizeof *d->breakers;
    d->breakers = NB_ARRAY(&f->s->arena, breaker, d->breaker_count);
    d->tails = NB_ARRAY(&f->s->arena, int32_t, f->tails.len / sizeof *d->tails);
    if (!d->breakers || !d->tails)
        return nb_fail_memory(f->err, "DRY's sequence breakers", f->breakers.len + f->tails.len);
    if (d->breaker_count > 0) {
        memcpy(d->breakers, f->breakers.data, f->breakers.len);
        memcpy(d->tails, f->tails.data, f->tails.len);
    }
    return NB_OK;
}

nb_status nb_sampler_breakers_new(nb_sampler *s, const char *const *strings, size_t count,
                                  const nb_tokenizer *tokenizer, nb_error *err)
{
    if (count == 0)
        return NB_OK;
    if (!tokenizer)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "DRY needs a tokenizer to find its sequence breakers: pass one, or an empty list of breakers");
    finder f = {.s = s, .tokenizer = tokenizer, .err = err};
    nb_status status = find_all(&f, strings, count);
    if (status == NB_OK)
        status = keep(&f);
    nb_buf_free(&f.breakers);
    nb_buf_free(&f.tails);
    nb_ids_free(&f.ids);
    return status;
}
