/* Tokenizers on any vocabulary and text. The input: a byte that chooses the model, one for the pre-tokenizer, one of flags,
 * then pieces and merges, a line each (a first byte in front of a piece is its type and score), an empty line, the text.
 * What is accepted encodes without error or says why, gives ids of the vocabulary, and decodes whole as it does streamed. */
#include <stdlib.h>

#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 512 };

typedef struct input {
    nb_str rest;
    nb_str tokens[MOST], merges[MOST];
    float scores[MOST];
    int32_t types[MOST];
} input;

static unsigned char take(input *in)
{
    if (in->rest.n == 0)
        return 0;
    in->rest.n--;
    return (unsigned char)*in->rest.p++;
}

static nb_str take_line(input *in)
{
    size_t n = 0;
    while (n < in->rest.n && in->rest.p[n] != '\n')
        n++;
    nb_str line = {in->rest.p, n};
    n += n < in->rest.n;
    in->rest.p += n;
    in->rest.n -= n;
    return line;
}

static void read_vocab(input *in, nb_vocab *v)
{
    for (nb_str line = take_line(in); line.n > 0; line = take_line(in)) {
        unsigned char first = (unsigned char)line.p[0];
        if (memchr(line.p, ' ', line.n) && v->merge_count < MOST && first < 0x80) {
            in->merges[v->merge_count++] = line;
        } else if (v->count < MOST) {
            in->types[v->count] = first % 7;
            in->scores[v->count] = -(float)(first / 7);
            in->tokens[v->count++] = (nb_str){line.p + 1, line.n - 1};
        }
    }
}

static void check(const nb_tokenizer *t, nb_str text, unsigned flags)
{
    nb_ids ids = {0};
    nb_buf whole = {0}, streamed = {0};
    nb_error err = {0};
    nb_detok d = {.tokenizer = t};
    if (nb_tokenizer_encode(t, text, flags, &ids, &err) != NB_OK && err.message[0] == 0)
        abort();
    for (size_t i = 0; i < ids.count; i++) {
        if (ids.id[i] < 0 || (size_t)ids.id[i] >= nb_tokenizer_count(t) ||
            nb_detok_push(&d, ids.id[i], &streamed, &err) != NB_OK)
            abort();
    }
    nb_detok_flush(&d, &streamed);
    if (nb_tokenizer_decode(t, ids.id, ids.count, false, &whole, &err) != NB_OK)
        abort();
    bool replaced = false; /* streaming writes U+FFFD for what is not UTF-8 */
    for (size_t i = 0; i + 2 < streamed.len; i++)
        replaced = replaced || memcmp(streamed.data + i, "\xEF\xBF\xBD", 3) == 0;
    if (!replaced && !nb_str_eq(nb_buf_view(&whole), nb_buf_view(&streamed)))
        abort();
    nb_ids_free(&ids);
    nb_buf_free(&whole);
    nb_buf_free(&streamed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const models[] = {"gpt2", "llama", "bert", "t5"};
    static input in;
    const char *const *names;
    size_t count = nb_pretokenizer_names(&names);
    nb_vocab v;
    nb_tokenizer *t;
    nb_error err = {0};
    in.rest = (nb_str){(const char *)data, size};
    unsigned model = take(&in), pre = take(&in), flags = take(&in);
    nb_vocab_defaults(&v, nb_str_of(models[model % 4]));
    v.pre = nb_str_of(names[pre % count]);
    v.tokens = in.tokens;
    v.merges = in.merges;
    v.scores = in.scores;
    v.types = in.types;
    v.bos = flags & 4 ? 0 : -1;
    v.eos = flags & 8 ? 1 : -1;
    v.unk = flags & 16 ? -1 : 0;
    v.sep = v.pad = v.cls = v.mask = -1;
    v.add_space_prefix = flags & 32;
    v.special_eats_space = v.remove_extra_whitespaces = flags & 64;
    read_vocab(&in, &v);
    if (model & 4) { /* the rest is a normalizer's map as well */
        v.charsmap = (const unsigned char *)in.rest.p;
        v.charsmap_bytes = in.rest.n;
    }
    if (nb_tokenizer_new(&v, &t, &err) != NB_OK)
        return t == NULL && err.message[0] ? 0 : (abort(), 0);
    check(t, in.rest, flags & 3);
    nb_tokenizer_free(t);
    return 0;
}
