/* hf_vocab.h - a vocabulary while it is put together from whatever files a directory has. */
#ifndef NB_HF_HF_VOCAB_H
#define NB_HF_HF_VOCAB_H

#include "hf/hf_internal.h"
#include "text/tokenizer.h"

enum { NB_HF_EXPRESSIONS = 8 };

typedef struct nb_hf_vocab {
    nb_hf *h;
    nb_arena arena;
    nb_tree json;     /* tokenizer.json */
    nb_tree config;   /* tokenizer_config.json */
    nb_tree map;      /* special_tokens_map.json */
    nb_buf model;     /* SentencePiece's model, vocab.txt or merges.txt, */
    const char *name; /* and what its file is called */
    unsigned
        fairseq; /* SentencePiece's ids are so many less than the model's, which has special tokens of its own; 0: not */
    nb_tree vocab;    /* vocab.json */
    const char *kind; /* tokenizer.ggml.model */
    size_t rows;      /* of the embedding: ids below it */
    nb_str *tokens;   /* [rows]; p NULL: none yet */
    float *scores;
    int32_t *types; /* nb_token_type */
    bool scored;    /* the kind has scores */
    nb_str *merges;
    size_t merge_count;
    int32_t *slots; /* hash of the tokens: ids, -1 */
    size_t slot_mask;
    /* of byte-level BPE */
    const char *expressions[NB_HF_EXPRESSIONS];
    size_t expression_count;
    bool ignore_merges;
    nb_str normalizer; /* "nfc" ...; empty: none */
    int add_space;     /* -1: nobody said */
} nb_hf_vocab;

/* Sets token id; ids from `rows` on are left out when `added`, an error otherwise. Text is not copied. */
nb_status nb_hf_vocab_set(nb_hf_vocab *v, uint64_t id, nb_str text, nb_token_type type, float score, bool added,
                          nb_error *err);
/* Builds the hash; afterwards tokens can be found. */
nb_status nb_hf_vocab_index(nb_hf_vocab *v, nb_error *err);
int32_t nb_hf_vocab_find(const nb_hf_vocab *v, nb_str text); /* -1: none */
/* Text as a user-defined token has it: U+2581 is a space. */
nb_status nb_hf_vocab_plain(nb_hf_vocab *v, nb_str text, nb_str *out, nb_error *err);
/* Added tokens that are control tokens although nobody says so. */
bool nb_hf_looks_special(nb_str text);

/* A word of WordPiece as GGUF spells it. */
nb_status nb_hf_vocab_word(nb_hf_vocab *v, uint64_t id, nb_str word, nb_token_type type, bool added, nb_error *err);

/* The sources: each sets kind, tokens, types, scores, merges. */
nb_status nb_hf_vocab_json(nb_hf_vocab *v, nb_error *err);          /* tokenizer.json, open in v->json */
nb_status nb_hf_vocab_ranks(const nb_hf_vocab *v, const char *name, nb_error *err); /* refuses such a file */
nb_status nb_hf_vocab_sentencepiece(nb_hf_vocab *v, nb_error *err); /* read into v->model */
nb_status nb_hf_vocab_merges(nb_hf_vocab *v, nb_error *err);        /* vocab.json and merges.txt */
nb_status nb_hf_vocab_words(nb_hf_vocab *v, nb_error *err);         /* vocab.txt, read into v->model */

nb_status nb_hf_pre_tokenizer(nb_hf_vocab *v, nb_error *err); /* expressions of tokenizer.json's pre_tokenizer */
nb_status nb_hf_special(nb_hf_vocab *v, nb_error *err);       /* ids and flags of special tokens, chat template */

#endif
