/* grammar_regular.h - sets of strings that a finite automaton knows: patterns, formats, numbers, names that are not taken.
 * Built with alternatives (nb_regular), made deterministic (nb_dfa), then intersected and subtracted. Everything lives in an
 * arena of the caller's. Work is limited: a hostile pattern is NB_ERR_LIMIT. */
#ifndef NB_TEXT_GRAMMAR_REGULAR_H
#define NB_TEXT_GRAMMAR_REGULAR_H

#include "base/grown.h"
#include "text/grammar_rules.h"

enum {
    NB_REGULAR_STATES = 1 << 16, /* with alternatives */
    NB_DFA_STATES = 1 << 14,
    NB_DFA_EDGES = 1 << 18,
    NB_CHAR_LAST = 0x10FFFF
};

typedef enum nb_regular_kind { NB_REGULAR_CHARS, NB_REGULAR_EMPTY, NB_REGULAR_BEGIN, NB_REGULAR_END } nb_regular_kind;

typedef struct nb_regular_edge {
    uint32_t from, to, low, high; /* code points */
    nb_regular_kind kind;
} nb_regular_edge;

typedef struct nb_regular { /* {.err = err} is a valid empty one */
    nb_error *err;
    nb_status status; /* sticky */
    nb_grown edges;
    size_t edge_count;
    uint32_t state_count;
} nb_regular;

uint32_t nb_regular_state(nb_regular *r);
void nb_regular_chars(nb_regular *r, uint32_t from, uint32_t to, uint32_t low, uint32_t high);
void nb_regular_empty(nb_regular *r, uint32_t from, uint32_t to);
void nb_regular_assert(nb_regular *r, uint32_t from, uint32_t to,
                       bool end);                                    /* only at the begin, or the end, of the text */
uint32_t nb_regular_text(nb_regular *r, uint32_t from, nb_str text); /* UTF-8; the state after it */
void nb_regular_free(nb_regular *r);

typedef struct nb_dfa_edge {
    uint32_t low, high, to;
} nb_dfa_edge;

typedef struct nb_dfa { /* edges of state s: at[s] to at[s + 1], ascending, apart; every state leads to an end */
    uint32_t count;     /* state 0 is the start; none: no string at all */
    uint32_t *at;       /* [count + 1] */
    nb_dfa_edge *edges;
    bool *ends; /* [count] */
} nb_dfa;

/* The texts that lead from start to end. Where `open` is reached, any text may follow (UINT32_MAX: there is none such). */
nb_status nb_regular_dfa(nb_regular *r, uint32_t start, uint32_t end, uint32_t open, nb_arena *arena, nb_dfa **out);
/* Texts that are in a and in b, or, without: in a and not in b. */
nb_status nb_dfa_both(const nb_dfa *a, const nb_dfa *b, bool without, nb_arena *arena, nb_dfa **out, nb_error *err);
/* All texts of so many characters; most SIZE_MAX: or more. */
nb_status nb_dfa_length(size_t least, size_t most, nb_arena *arena, nb_dfa **out, nb_error *err);
bool nb_dfa_accepts(const nb_dfa *d, nb_str text);
/* The lengths, in characters, of its texts; most SIZE_MAX: no bound. At least one text must be there. */
nb_status nb_dfa_lengths(const nb_dfa *d, size_t *least, size_t *most, nb_error *err);

/* ECMAScript's regular expressions, found anywhere in the text; what they can say that no automaton can is
 * NB_ERR_UNSUPPORTED. */
nb_status nb_regex_dfa(nb_str pattern, nb_arena *arena, nb_dfa **out, nb_error *err);

/* ---- numbers (grammar_number.c) ---- */

typedef struct nb_decimal { /* digits of the integer part, then of the fraction; no zeros at either end */
    bool negative;
    char *digits;
    size_t whole, count; /* digits before the point; in all */
} nb_decimal;

/* Of the text of a JSON number; more than 400 digits, written out, are NB_ERR_LIMIT. */
nb_status nb_decimal_read(nb_str text, nb_arena *arena, nb_decimal *out, nb_error *err);
int nb_decimal_compare(const nb_decimal *a, const nb_decimal *b);
bool nb_decimal_is_whole(const nb_decimal *d);

typedef struct nb_number_range {
    const nb_decimal *low, *high; /* NULL: no bound */
    bool above, below;            /* the bound itself does not count */
    bool whole;                   /* integers only */
    bool exact;                   /* no more digits than a double holds, whatever the bounds */
} nb_number_range;

/* JSON's texts of the numbers in a range; as many digits as nb_grammar_from_schema says. */
nb_status nb_number_dfa(const nb_number_range *range, nb_arena *arena, nb_dfa **out, nb_error *err);
/* JSON's texts, without exponent, of the multiples of a positive number. */
nb_status nb_multiple_dfa(const nb_decimal *of, nb_arena *arena, nb_dfa **out, nb_error *err);

#endif
