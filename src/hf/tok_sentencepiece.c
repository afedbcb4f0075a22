/* tokenizer.model, sentencepiece.bpe.model, spiece.model: SentencePiece's ModelProto, of which pieces, scores, kinds and the normalizer's settings are read.
 * Source: the protocol buffers encoding; sentencepiece_model.proto. */
#include <stdio.h>

#include "base/fail_at.h"
#include "hf/hf_vocab.h"

typedef struct cursor { /* a message's bytes; `bad` is sticky */
    const unsigned char *data;
    size_t at, end;
    bool bad;
} cursor;

typedef struct field {
    uint64_t number;
    unsigned wire;
    uint64_t value; /* of varints and fixed numbers */
    size_t at, n;   /* of bytes */
} field;

static uint64_t varint(cursor *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (c->at >= c->end)
            break;
        unsigned char b = c->data[c->at++];
        value |= (uint64_t)(b & 127) << shift;
        if (b < 128)
            return value;
    }
    c->bad = true;
    return 0;
}

static uint64_t fixed(cursor *c, size_t bytes)
{
    uint64_t value = 0;
    if (c->end - c->at < bytes) {
        c->bad = true;
        return 0;
    }
    memcpy(&value, c->data + c->at, bytes);
    c->at += bytes;
    return value;
}

/* the next field; false at the end and when the bytes make no sense */
static bool next(cursor *c, field *f)
{
    if (c->bad || c->at >= c->end)
        return false;
    uint64_t tag = varint(c);
    *f = (field){.number = tag >> 3, .wire = tag & 7};
    switch (f->wire) {
    case 0: f->value = varint(c); break;
    case 1: f->value = fixed(c, 8); break;
    case 5: f->value = fixed(c, 4); break;
    case 2:
        f->n = varint(c);
        f->at = c->at;
        if (f->n > c->end - c->at)
            c->bad = true;
        else
            c->at += f->n;
        break;
    default: c->bad = true; break;
    }
    return !c->bad && f->number != 0;
}

static cursor inside(const cursor *c, const field *f)
{
    return (cursor){.data = c->data, .at = f->at, .end = f->at + f->n};
}

static nb_status broken(const nb_hf_vocab *v, size_t at, nb_error *err)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", v->h->dir, v->name);
    return nb_fail_at(path, at, err, NB_ERR_FORMAT,
                      "not what a SentencePiece model has there; download the file again");
}

/* fairseq's own tokens have the first ids and <mask> the last. XLM-RoBERTa's come in place of SentencePiece's first three, which are
 * unknown, begin and end; CamemBERT's before them, and of those only begin and end are used. */
static nb_status add_fairseq(nb_hf_vocab *v, uint64_t pieces, nb_error *err)
{
    static const char *const first[][4] = {{"<s>", "<pad>", "</s>", "<unk>"},
                                           {"<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>"}};
    for (uint64_t i = 0; i < 4; i++) {
        bool unused = v->fairseq == 4 && i % 2 == 0;
        nb_token_type type = unused ? NB_TOKEN_UNUSED : i == 3 ? NB_TOKEN_UNKNOWN : NB_TOKEN_CONTROL;
        NB_TRY(nb_hf_vocab_set(v, i, nb_str_of(first[v->fairseq == 4][i]), type, 0, false, err));
    }
    return nb_hf_vocab_set(v, pieces + v->fairseq, NB_STR("<mask>"), NB_TOKEN_CONTROL, 0, true, err);
}

static nb_status set_piece(nb_hf_vocab *v, uint64_t id, nb_str text, nb_token_type type, float score, nb_error *err)
{
    if (v->fairseq == 1 && id < 3)
        return NB_OK;
    if (v->fairseq == 4 && id == 0) {
        text = NB_STR("<unk>NOTUSED");
        type = NB_TOKEN_UNUSED;
    }
    return nb_hf_vocab_set(v, id + v->fairseq, text, type, score, true, err);
}

static nb_status read_piece(nb_hf_vocab *v, cursor c, uint64_t id, nb_error *err)
{
    nb_str text = {0};
    float score = 0;
    uint64_t type = NB_TOKEN_NORMAL;
    size_t from = c.at;
    for (field f; next(&c, &f);) {
        if (f.number == 1 && f.wire == 2)
            text = (nb_str){(const char *)c.data + f.at, f.n};
        if (f.number == 2 && f.wire == 5)
            memcpy(&score, &(uint32_t){(uint32_t)f.value}, 4);
        if (f.number == 3 && f.wire == 0)
            type = f.value;
    }
    if (c.bad || type < NB_TOKEN_NORMAL || type > NB_TOKEN_BYTE || score != score)
        return broken(v, from, err);
    text.p = text.p ? text.p : "";
    if (type == NB_TOKEN_USER_DEFINED)
        NB_TRY(nb_hf_vocab_plain(v, text, &text, err));
    return set_piece(v, id, text, (nb_token_type)type, score, err);
}

typedef struct settings {
    uint64_t kind; /* 1 unigram, 2 BPE */
    bool dummy_prefix, squeeze;
    nb_str charsmap;
} settings;

static void read_settings(const cursor *outer, const field *part, settings *s, cursor *failed)
{
    cursor c = inside(outer, part);
    for (field f; next(&c, &f);) {
        if (part->number == 2 && f.number == 3 && f.wire == 0)
            s->kind = f.value;
        if (part->number == 3 && f.number == 2 && f.wire == 2)
            s->charsmap = (nb_str){(const char *)c.data + f.at, f.n};
        if (part->number == 3 && f.number == 3 && f.wire == 0)
            s->dummy_prefix = f.value;
        if (part->number == 3 && f.number == 4 && f.wire == 0)
            s->squeeze = f.value;
    }
    failed->bad = failed->bad || c.bad;
}

static nb_status take_settings(nb_hf_vocab *v, const settings *s, nb_error *err)
{
    if (s->kind != 1 && s->kind != 2)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s/%s: is neither a BPE nor a unigram model, the two kinds that are known", v->h->dir, v->name);
    if (v->fairseq && s->kind != 1)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s/%s: is no unigram model; under this name only those are known",
                       v->h->dir, v->name);
    v->kind = s->kind == 2 ? "llama" : "t5";
    v->add_space = s->dummy_prefix;
    if (s->kind == 1) {
        nb_hf_put_bool(v->h, "tokenizer.ggml.remove_extra_whitespaces", s->squeeze);
        if (s->charsmap.n)
            nb_hf_put_array(v->h, "tokenizer.ggml.precompiled_charsmap", NB_GGUF_U8, s->charsmap.p, s->charsmap.n, 1);
    }
    return NB_OK;
}

/* a line of tiktoken's: base64, a space, a number */
static bool is_ranks(nb_str file)
{
    size_t i = 0;
    while (i < file.n && i < 1024 && file.p[i] > ' ' && file.p[i] < 0x7f)
        i++;
    return i > 0 && i + 2 < file.n && file.p[i] == ' ' && file.p[i + 1] >= '0' && file.p[i + 1] <= '9' &&
           (file.p[i + 2] == '\n' || (file.p[i + 2] >= '0' && file.p[i + 2] <= '9'));
}

nb_status nb_hf_vocab_sentencepiece(nb_hf_vocab *v, nb_error *err)
{
    nb_str file = nb_buf_view(&v->model);
    if (is_ranks(file))
        return nb_hf_vocab_ranks(v, v->name, err);
    cursor c = {.data = (const unsigned char *)file.p, .end = file.n};
    settings s = {.kind = 1, .dummy_prefix = true, .squeeze = true};
    uint64_t pieces = 0;
    for (field f; next(&c, &f);) {
        if (f.number == 1 && f.wire == 2)
            NB_TRY(read_piece(v, inside(&c, &f), pieces++, err));
        if ((f.number == 2 || f.number == 3) && f.wire == 2)
            read_settings(&c, &f, &s, &c);
    }
    if (c.bad || c.at != c.end || pieces == 0)
        return broken(v, c.at, err);
    v->scored = true;
    if (v->fairseq)
        NB_TRY(add_fairseq(v, pieces, err));
    return take_settings(v, &s, err);
}
