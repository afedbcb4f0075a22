/* grammar_rules.h - rules under construction: states joined by edges that read a byte, read a token, read nothing, or read
 * what another rule reads, some number of times. A rule has a start and an end; no edge leaves its end, and its states are
 * its own. nb_rules_compile makes the grammar that is matched. The first failure is kept, after it every call does nothing. */
#ifndef NB_TEXT_GRAMMAR_RULES_H
#define NB_TEXT_GRAMMAR_RULES_H

#include "base/grown.h"
#include "text/grammar.h"

#define NB_RULES_ANY UINT32_MAX /* `most` without a bound */

typedef enum nb_edge_kind { NB_EDGE_EMPTY, NB_EDGE_BYTES, NB_EDGE_CALL, NB_EDGE_TOKEN } nb_edge_kind;

typedef struct nb_edge {
    uint32_t from, to;
    uint32_t value;       /* the rule, or the token */
    uint32_t least, most; /* of a call */
    uint8_t kind, low, high;
    bool other; /* any token but this one */
} nb_edge;

typedef struct nb_rule {
    uint32_t start, end;
    nb_str name; /* for messages; empty: none */
} nb_rule;

typedef struct nb_rules_tail { /* a state from which the rest of a range of UTF-8 leads to `to` */
    uint32_t to, low, high, state;
} nb_rules_tail;

typedef struct nb_rules {
    nb_error *err;
    nb_status status;
    nb_grown edges, rules;
    size_t edge_count, rule_count;
    uint32_t state_count;
    nb_rules_tail tails[256];
} nb_rules;

void nb_rules_free(nb_rules *r);

uint32_t nb_rules_state(nb_rules *r);
/* A rule of two fresh states, or of a part that was built and that nothing else leads into or out of. */
uint32_t nb_rules_add(nb_rules *r, nb_str name);
uint32_t nb_rules_add_part(nb_rules *r, uint32_t start, uint32_t end);
nb_rule nb_rules_at(const nb_rules *r, uint32_t rule); /* zeros when it is not there */

void nb_rules_empty(nb_rules *r, uint32_t from, uint32_t to);
void nb_rules_bytes(nb_rules *r, uint32_t from, uint32_t to, unsigned low, unsigned high);
void nb_rules_chars(nb_rules *r, uint32_t from, uint32_t to, uint32_t low, uint32_t high); /* code points, as UTF-8 */
void nb_rules_call(nb_rules *r, uint32_t from, uint32_t to, uint32_t rule, uint32_t least, uint32_t most);
void nb_rules_token(nb_rules *r, uint32_t from, uint32_t to, uint32_t id, bool other);
void nb_rules_forget(nb_rules *r, uint32_t from);                 /* takes away the edges that leave a state */
uint32_t nb_rules_text(nb_rules *r, uint32_t from, nb_str bytes); /* the state after it */

/* root_name: what the message calls the root when no text can match it. */
nb_status nb_rules_compile(nb_rules *r, uint32_t root, const char *root_name, nb_grammar **out, nb_error *err);

#endif
