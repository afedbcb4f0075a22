/* tokenizer.h - text to token ids and back: SentencePiece-style BPE ("llama"), byte-level BPE ("gpt2"), WordPiece
 * ("bert") and Unigram ("t5"), as GGUF names them. A tokenizer is immutable once made and may be shared by threads. */
#ifndef NB_TEXT_TOKENIZER_H
#define NB_TEXT_TOKENIZER_H

#include "base/mem.h"

/* values are GGUF's */
typedef enum nb_token_type {
    NB_TOKEN_UNDEFINED,
    NB_TOKEN_NORMAL,
    NB_TOKEN_UNKNOWN,
    NB_TOKEN_CONTROL,
    NB_TOKEN_USER_DEFINED,
    NB_TOKEN_UNUSED,
    NB_TOKEN_BYTE
} nb_token_type;

typedef enum nb_normal_form {
    NB_NORMAL_NONE,
    NB_NORMAL_NFC,
    NB_NORMAL_NFD,
    NB_NORMAL_NFKC,
    NB_NORMAL_NFKD
} nb_normal_form;

/* What a tokenizer is made from. All memory is the caller's; strings that `tokens` points to must outlive the tokenizer,
 * the tables themselves only the call. Absent ids are -1. */
typedef struct nb_vocab {
    nb_str model; /* "gpt2", "llama", "bert", "t5" */
    nb_str pre;   /* pre-tokenizer name of byte-level BPE; empty: "default" */
    size_t count;
    const nb_str *tokens; /* [count] */
    const float *scores;  /* [count] or NULL */
    const int32_t *types; /* [count] nb_token_type, or NULL: all normal */
    const nb_str *merges; /* [merge_count] "left right" */
    size_t merge_count;
    int32_t bos, eos, eot, eom, unk, sep, pad, cls, mask;
    bool add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
    bool lowercase, strip_accents; /* "bert" */
    bool special_eats_space;       /* whitespace after a special token is dropped (Phi-3) */
    const nb_str *expressions;     /* [expression_count] instead of `pre` (byte-level BPE); NULL: pre's */
    size_t expression_count;
    bool ignore_merges;            /* with expressions: a word that is a token is that token */
    nb_normal_form normal_form;    /* text is brought into it first; what is not UTF-8 stays as it is */
    const unsigned char *charsmap; /* precompiled normalization of "t5"; NULL without */
    size_t charsmap_bytes;
} nb_vocab;

typedef struct nb_tokenizer nb_tokenizer;

/* Defaults of the model kind (ids -1, add_bos and the like as llama.cpp sets them when the file does not say). */
void nb_vocab_defaults(nb_vocab *vocab, nb_str model);

nb_status nb_tokenizer_new(const nb_vocab *vocab, nb_tokenizer **out, nb_error *err);
void nb_tokenizer_free(nb_tokenizer *t); /* NULL is fine */

typedef struct nb_ids { /* growable list of token ids; {0} is a valid empty one */
    int32_t *id;
    size_t count, cap;
} nb_ids;
bool nb_ids_add(nb_ids *ids, int32_t id); /* false: out of memory */
void nb_ids_free(nb_ids *ids);

typedef enum nb_encode_flags {
    NB_ENCODE_PLAIN = 0,
    NB_ENCODE_ADD_SPECIAL = 1,  /* BOS, EOS, CLS, SEP where the vocabulary asks for them */
    NB_ENCODE_PARSE_SPECIAL = 2 /* control tokens written out in the text become their ids; else they are plain text.
                                   (User-defined tokens are always found.) */
} nb_encode_flags;

/* Appends the ids of text (any bytes) to out. */
nb_status nb_tokenizer_encode(const nb_tokenizer *t, nb_str text, unsigned flags, nb_ids *out, nb_error *err);

/* Appends the text of ids to out; special: control tokens are written out, else they give nothing. An id outside the
 * vocabulary is NB_ERR_ARGUMENT. */
nb_status nb_tokenizer_decode(const nb_tokenizer *t, const int32_t *ids, size_t n, bool special, nb_buf *out,
                              nb_error *err);

/* Appends the bytes that id adds to a reply, its leading space included; control tokens add none. */
nb_status nb_tokenizer_bytes(const nb_tokenizer *t, int32_t id, nb_buf *out, nb_error *err);

/* Streaming: push one id, get the text that is certain. A code point is never cut: bytes that begin one wait for the
 * rest; nb_detok_flush gives what is left (as U+FFFD when it is not whole). {0} plus the fields is a valid start. */
typedef struct nb_detok {
    const nb_tokenizer *tokenizer;
    bool special;
    bool started;          /* something was pushed already: the leading space rule is used up */
    unsigned char held[8]; /* bytes of an unfinished code point */
    size_t held_bytes;
} nb_detok;
nb_status nb_detok_push(nb_detok *d, int32_t id, nb_buf *out, nb_error *err);
void nb_detok_flush(nb_detok *d, nb_buf *out);

size_t nb_tokenizer_count(const nb_tokenizer *t);
/* The stored piece of an id ("" when out of range) and its type. */
nb_str nb_tokenizer_piece(const nb_tokenizer *t, int32_t id);
nb_token_type nb_tokenizer_type(const nb_tokenizer *t, int32_t id);
int32_t nb_tokenizer_find(const nb_tokenizer *t, nb_str piece); /* -1 when absent */
const nb_vocab *nb_tokenizer_vocab(const nb_tokenizer *t);      /* special ids and flags; its tables are NULL */
/* True for every id that ends a reply: eos, eot, eom and the end-of-turn tokens known by name (<|im_end|>, <|eot_id|>, ...). */
bool nb_tokenizer_ends(const nb_tokenizer *t, int32_t id);
/* All pre-tokenizer names, for --pre and error messages. */
size_t nb_pretokenizer_names(const char *const **names);

#endif
