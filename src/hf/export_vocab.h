/* export_vocab.h - a vocabulary of GGUF on its way into tokenizer.json: what the files that write it share. */
#ifndef NB_HF_EXPORT_VOCAB_H
#define NB_HF_EXPORT_VOCAB_H

#include "hf/export_internal.h"
#include "text/tokenizer.h"

#define NB_HF_SPACE "\xE2\x96\x81" /* U+2581, for a space */

typedef struct nb_hf_merge {
    uint32_t left, right, made;
    float score;
} nb_hf_merge;

typedef struct nb_hf_words {
    nb_hf_exporter *x;
    nb_str model;   /* tokenizer.ggml.model */
    nb_str *tokens; /* [count] */
    size_t count;
    const nb_gguf_value *types, *scores;
    uint32_t *slots; /* hash of the tokens: id + 1, 0 for none */
    size_t mask;
    nb_hf_merge *merges; /* of pieces */
    size_t merge_count, merge_capacity;
    bool prefix; /* a space is put before a text */
} nb_hf_words;

static inline nb_token_type nb_hf_words_type(const nb_hf_words *v, size_t id)
{
    return v->types ? (nb_token_type)nb_gguf_elem_i64(v->types, id) : NB_TOKEN_NORMAL;
}

/* a key and its value; a step's object, which the caller closes */
static inline void nb_hf_put_null(nb_json *j, const char *key)
{
    nb_json_key(j, key);
    nb_json_null(j);
}
static inline void nb_hf_put_step(nb_json *j, const char *type)
{
    nb_json_open(j, '{');
    nb_json_put_z(j, "type", type);
}

/* WordPiece (BERT's) and Unigram (T5's, XLM-R's): normalizer, pre_tokenizer, decoder and model. export_words.c */
nb_status nb_hf_put_wordpiece(const nb_hf_words *v, nb_json *j);
nb_status nb_hf_put_unigram(const nb_hf_words *v, nb_json *j, nb_error *err);
/* A token as its tokenizer has it: WordPiece's "ing" inside a word is "##ing"; made in *b, or as it is. */
nb_str nb_hf_word_text(const nb_hf_words *v, size_t id, nb_buf *b);

#endif
