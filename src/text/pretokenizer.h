/* pretokenizer.h - cuts text into the words that byte-level BPE merges, by the expressions of pretokenizers.def.
 * A pre-tokenizer is immutable once made and may be shared by threads. */
#ifndef NB_TEXT_PRETOKENIZER_H
#define NB_TEXT_PRETOKENIZER_H

#include "base/grown.h"
#include "text/scanner.h"

typedef enum nb_pre_flags {
    NB_PRE_IGNORE_MERGES = 1, /* a word that is a token is that token, whatever the merges say */
    NB_PRE_ADD_BOS = 2,       /* BOS is added when the file does not say */
    NB_PRE_RAW = 4 /* pieces are UTF-8 with U+2581 for spaces and <0xXX> for bytes, not GPT-2's byte alphabet */
} nb_pre_flags;

typedef struct nb_pretokenizer nb_pretokenizer;

/* name empty: "default". An unknown name is NB_ERR_UNSUPPORTED. */
nb_status nb_pretokenizer_new(nb_str name, nb_pretokenizer **out, nb_error *err);
void nb_pretokenizer_free(nb_pretokenizer *p); /* NULL is fine */

/* The same from expressions of its own (1 to NB_PRE_EXPRESSIONS; PCRE2, each cuts what the one before left), which come from
 * files: what PCRE2 does not take is NB_ERR_FORMAT. None at all: text is one word. */
enum { NB_PRE_EXPRESSIONS = 8 };
nb_status nb_pretokenizer_new_from(const nb_str *expressions, size_t count, nb_pretokenizer **out, nb_error *err);

/* The first name that cuts by exactly these expressions and treats words that are tokens so; NULL: none. */
const char *nb_pretokenizer_name(const char *const *expressions, size_t count, bool ignore_merges);

/* The expressions of a name, in their order; NULL for an unknown one. Those that begin with '@' stand for code
 * (pretokenizers.def). */
const char *const *nb_pretokenizer_expressions(nb_str name, size_t *count);

/* Flags of a name without making it; 0 for an unknown one. */
unsigned nb_pretokenizer_flags(nb_str name);

/* The hand-written scanner, or NULL: then nb_pretokenizer_split must be used. */
nb_scan_fn *nb_pretokenizer_scan(const nb_pretokenizer *p);

typedef struct nb_words { /* ends of words in a text: word i is [end[i - 1], end[i]) */
    uint32_t *end;        /* in `memory` */
    size_t count;
    nb_grown memory;
} nb_words;
void nb_words_free(nb_words *w);

/* Cuts text (any bytes, at most INT32_MAX) by the expressions; no byte is ever left out. Replaces what words held. */
nb_status nb_pretokenizer_split(const nb_pretokenizer *p, nb_str text, nb_words *words, nb_error *err);

#endif
