/* grammar.h - what a reply may say: a grammar in GBNF or a JSON schema, matched byte by byte, and which tokens of a
 * vocabulary keep to it. A grammar and a vocabulary are immutable and shared by threads; a cache, with the states that were
 * made from it, belongs to one thread at a time. Text that never can be finished is never begun.
 *
 *     nb_grammar_from_schema(json, false, &grammar, &err);
 *     nb_grammar_vocab_new(tokenizer, &vocab, &err);          once a tokenizer
 *     nb_grammar_cache_new(grammar, vocab, &cache, &err);     once a grammar; all its replies share what it learns
 *     nb_grammar_state_new(cache, &state, &err);              once a reply
 *     nb_grammar_mask(state, &allowed, &err);                 each token: choose among these,
 *     nb_grammar_accept(state, id, &err);                     and go on */
#ifndef NB_TEXT_GRAMMAR_H
#define NB_TEXT_GRAMMAR_H

#include "text/tokenizer.h"

typedef struct nb_grammar nb_grammar;
typedef struct nb_grammar_vocab nb_grammar_vocab;
typedef struct nb_grammar_cache nb_grammar_cache;
typedef struct nb_grammar_state nb_grammar_state;

enum {
    NB_GRAMMAR_TEXT = 1 << 20,   /* bytes of a grammar or schema, at most */
    NB_GRAMMAR_STATES = 1 << 20, /* states it may compile to; four times as many edges */
    NB_GRAMMAR_DEPTH = 1024,     /* rules within rules, while matching */
    NB_GRAMMAR_WAYS = 1024       /* ways to read the same text at the same time */
};

/* ---- grammars ---- */

/* llama.cpp's GBNF: the rule `root` is the whole reply. Errors name line and column. Left recursion is refused, and so is a
 * root that no text can match. tokenizer: for <text> and <[id]>; without it they are refused. Any {m,n} costs the same. */
nb_status nb_grammar_from_gbnf(nb_str text, const nb_tokenizer *tokenizer, nb_grammar **out, nb_error *err);

/* A JSON schema, draft 7 or 2020-12. Every reply that ends is valid JSON and validates. What cannot be kept is
 * NB_ERR_UNSUPPORTED, with the JSON pointer of the place; annotations and unknown keywords are passed over. Not every valid
 * document can be said:
 * - properties come in the order of the schema, then required ones that it does not describe, then others;
 * - others only where additionalProperties or patternProperties ask for them, or nothing is described at all;
 * - after { [ and commas and before ] and }: nothing, a space, or a newline and at most 40 spaces or 10 tabs; after a colon
 *   nothing or a space; compact: nothing at all;
 * - numbers: no -0, integers without fraction or exponent, of at most 18 digits unless a minimum has more; fractions of at most
 *   17 digits, beside a bound or multipleOf so many that 15 digits are there in all, so that every program that reads
 *   doubles comes to the same answer; an exponent (two digits) only where there is no bound;
 * - strings with a pattern or format, and names: characters as they are, or the shortest escape where one is needed.
 * {} is any JSON value, {"type":"object"} any object. */
nb_status nb_grammar_from_schema(nb_str json, bool compact, nb_grammar **out, nb_error *err);

/* Documents of a schema, at least one and at most `most`, each between open and close. */
typedef struct nb_grammar_frame {
    nb_str open, close, between;
    uint32_t most;
} nb_grammar_frame;
nb_status nb_grammar_from_schema_in(nb_str json, const nb_grammar_frame *frame, nb_grammar **out, nb_error *err);

void nb_grammar_free(nb_grammar *g); /* after its caches; NULL is fine */

/* ---- the words of a tokenizer, sorted for masks; the tokenizer may be freed after ---- */
nb_status nb_grammar_vocab_new(const nb_tokenizer *t, nb_grammar_vocab **out, nb_error *err);
void nb_grammar_vocab_free(nb_grammar_vocab *v);          /* after its caches; NULL is fine */
size_t nb_grammar_vocab_words(const nb_grammar_vocab *v); /* 32-bit words of a mask */

/* ---- what was learnt of a grammar; bounded, the oldest is forgotten ---- */
nb_status nb_grammar_cache_new(const nb_grammar *g, const nb_grammar_vocab *v, nb_grammar_cache **out,
                               nb_error *err);   /* v NULL: bytes only */
void nb_grammar_cache_free(nb_grammar_cache *c); /* after its states; NULL is fine */

/* ---- where a reply is ---- */
nb_status nb_grammar_state_new(nb_grammar_cache *c, nb_grammar_state **out, nb_error *err);
nb_status nb_grammar_state_clone(const nb_grammar_state *s, nb_grammar_state **out, nb_error *err);
void nb_grammar_state_free(nb_grammar_state *s); /* NULL is fine */

/* NB_ERR_ARGUMENT when the grammar does not allow it, NB_ERR_LIMIT when a limit above is reached; the state then stays as it
 * was. A token that ends the reply is accepted where the grammar can end, and changes nothing. */
nb_status nb_grammar_accept_bytes(nb_grammar_state *s, nb_str bytes, nb_error *err);
nb_status nb_grammar_accept(nb_grammar_state *s, int32_t id, nb_error *err);

bool nb_grammar_can_end(const nb_grammar_state *s);
/* Appends the bytes that must come next: as long as one byte alone is possible, and the end is not. At most 4096. */
nb_status nb_grammar_forced(nb_grammar_state *s, nb_buf *out, nb_error *err);

/* Bit id & 31 of word id / 32 is set when token id may come next. A token is allowed when some reply goes on with all its
 * bytes, even in the middle of a character; control tokens only by name, those that end a reply exactly where the grammar
 * can end. *allowed is good until the cache is used again. NB_ERR_LIMIT when nothing is left: a limit was reached, or the
 * vocabulary has no token for it. */
nb_status nb_grammar_mask(nb_grammar_state *s, const uint32_t **allowed, nb_error *err);
/* One bit of the mask, without the others. */
bool nb_grammar_allows(nb_grammar_state *s, int32_t id);

#endif
