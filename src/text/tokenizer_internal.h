/* tokenizer_internal.h - what the files of the tokenizer share: the vocabulary's index, the state of one encode call and
 * one function for each kind of model. */
#ifndef NB_TEXT_TOKENIZER_INTERNAL_H
#define NB_TEXT_TOKENIZER_INTERNAL_H

#include "text/merge.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

typedef struct nb_run nb_run;

/* A kind of model: how its tables are made and how a stretch of plain text is encoded. */
typedef struct nb_token_model {
    const char *name; /* tokenizer.ggml.model */
    nb_status (*build)(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err);
    nb_status (*encode)(nb_run *run, nb_str text, nb_error *err);
} nb_token_model;

typedef struct nb_slot { /* of the hash of pieces */
    uint32_t hash;
    int32_t id; /* -1: empty */
} nb_slot;

typedef struct nb_merge_rule {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: empty */
    uint32_t rank;
    int32_t id;
} nb_merge_rule;

typedef struct nb_special {
    nb_str piece;
    int32_t id;
} nb_special;

typedef struct nb_trie_edge nb_trie_edge;

struct nb_tokenizer {
    nb_vocab vocab; /* its tables are NULL */
    const nb_token_model *model;
    nb_arena arena; /* all tables below */
    nb_str *pieces;
    unsigned char *types;
    float *scores; /* "llama" and "t5" */
    nb_slot *slots;
    size_t slot_mask, longest; /* longest: bytes of the longest piece */
    unsigned char *ends;       /* [count] this id ends a reply */

    /* tokens found before anything else: sorted by their bytes */
    nb_special *special;
    size_t special_count, special_longest;
    unsigned char special_kinds[256]; /* by first byte: 1 user-defined, 2 control and unknown */
    uint32_t special_first[257];      /* those that begin with byte b: [first[b], first[b + 1]) */

    int32_t byte_id[256]; /* the token of a single byte, -1 without */

    /* "gpt2" */
    nb_pretokenizer *pre;
    unsigned pre_flags;
    nb_merge_rule *rules;
    size_t rule_mask;

    /* Where a long word may be cut before merging. "llama": joins[a] has bit b when some piece holds a character of class a
     * followed by one of class b; "gpt2": when some merge joins a piece that ends in byte a to one that begins with byte b. */
    uint64_t (*joins)[4];

    /* "t5" */
    nb_trie_edge *edges;
    size_t edge_mask;
    double unknown_score;
    const unsigned char *xcda; /* nodes of the normalizer, 4 bytes each, little-endian */
    size_t xcda_count;
    nb_str replacements;
};

typedef struct nb_memo nb_memo;

/* One call of nb_tokenizer_encode. */
struct nb_run {
    const nb_tokenizer *t;
    nb_ids *out;
    nb_merger merger;
    nb_words words;
    nb_str source; /* the caller's text */
    nb_buf scratch;
    nb_buf text;        /* normalized text; only grows, so offsets into it stay good */
    bool after_special; /* nothing or a special token came before: where the space prefix goes */
    nb_memo *memo;      /* words seen in this call; NULL for short texts */
    size_t memo_mask;
};

extern const nb_token_model nb_model_bpe, nb_model_spm, nb_model_wordpiece, nb_model_unigram;

int32_t nb_tokenizer_find_hashed(const nb_tokenizer *t, const char *p, size_t n);

static inline bool nb_joins(const nb_tokenizer *t, unsigned a, unsigned b) { return t->joins[a][b / 64] >> b % 64 & 1; }

/* Makes room for `more` ids. */
bool nb_ids_reserve(nb_ids *ids, size_t more);

/* Words of one call: nb_memo_find copies the ids a word got earlier and returns true; after encoding a word that was not
 * found, nb_memo_put remembers that it begins at `offset` of base and that its ids are those from `first` on. */
bool nb_memo_find(nb_run *run, const char *base, size_t offset, size_t n, uint64_t hash);
void nb_memo_put(nb_run *run, size_t offset, size_t n, uint64_t hash, size_t first);

/* Emits id for the byte, or the unknown token; an error where the vocabulary has neither. */
nb_status nb_run_byte(nb_run *run, unsigned char byte, nb_error *err);

/* Appends text to run->text with U+2581 for each space. */
void nb_run_mark_spaces(nb_run *run, nb_str text);

/* The byte that a piece "<0xNN>" stands for, or -1. */
int nb_piece_byte(nb_str piece);

/* The code point that stands for a byte in GPT-2's alphabet, and back (-1 for other code points). */
uint32_t nb_gpt2_letter(unsigned char byte);
int nb_gpt2_byte(uint32_t cp);

/* A fragment of the text between special tokens, or one of those (id >= 0). */
typedef struct nb_fragment {
    size_t begin, end;
    int32_t id;
} nb_fragment;
typedef struct nb_fragments {
    nb_fragment *at;
    size_t count, cap;
} nb_fragments;
nb_status nb_special_build(nb_tokenizer *t, nb_error *err);
nb_status nb_special_split(const nb_tokenizer *t, nb_str text, bool parse_control, nb_fragments *out, nb_error *err);

/* ---- hashing of short strings ---- */
__extension__ typedef unsigned __int128 nb_u128;

static inline uint64_t nb_mix(uint64_t a, uint64_t b)
{
    nb_u128 m = (nb_u128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t nb_load(const char *p, size_t n) /* n <= 8 bytes, zero-extended */
{
    uint64_t v = 0;
    if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        return (uint64_t)a << 32 | b;
    }
    if (n) {
        v = (unsigned char)p[0];
        v = v << 8 | (unsigned char)p[n / 2];
        v = v << 8 | (unsigned char)p[n - 1];
    }
    return v;
}

static inline uint64_t nb_hash(const char *p, size_t n)
{
    uint64_t h = 0x9E3779B97F4A7C15u ^ n;
    for (; n > 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        h = nb_mix(h ^ v, 0xD6E8FEB86659FD93u);
    }
    return nb_mix(h ^ nb_load(p, n), 0xA0761D6478BD642Fu);
}

#endif
