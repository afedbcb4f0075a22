/* grammar_schema.h - a JSON schema on its way to rules.
 *
 * What holds for a value is a list of schemas, all at once (nb_all): a property may be described in several places that
 * apply together. Each such list is one rule, so that recursion ends. A list is brought into alternatives (nb_term): schema
 * objects that all hold, each for its own keywords alone, with one branch chosen of every anyOf and oneOf. */
#ifndef NB_TEXT_GRAMMAR_SCHEMA_H
#define NB_TEXT_GRAMMAR_SCHEMA_H

#include <jansson.h>

#include "text/grammar_regular.h"

enum {
    NB_SCHEMA_TERMS = 512,     /* alternatives of one list */
    NB_SCHEMA_RULES = 1 << 15, /* lists */
    NB_SCHEMA_KEYS = 6         /* patterns of names that hold for one object */
};

typedef enum nb_json_types {
    NB_JSON_NULL = 1,
    NB_JSON_BOOL = 2,
    NB_JSON_WHOLE = 4,    /* integers */
    NB_JSON_FRACTION = 8, /* all other numbers */
    NB_JSON_STRING = 16,
    NB_JSON_ARRAY = 32,
    NB_JSON_OBJECT = 64,
    NB_JSON_ALL = 127
} nb_json_types;

typedef struct nb_choice { /* the branch that was chosen of a oneOf */
    const json_t *of;
    size_t branch;
    const struct nb_choice *next;
} nb_choice;

typedef struct nb_term {
    const json_t **atoms;
    size_t count;
    const nb_choice *choices;
    bool closed; /* unevaluatedProperties: nothing that is not described */
    const struct nb_term *next;
} nb_term;

typedef struct nb_all {
    const json_t **nodes;
    size_t count;
    uint32_t rule;
    bool expanded;
    const nb_term *terms;
    struct nb_all *queued, *same; /* same: in the hash */
} nb_all;

/* What a term says of values that have no parts. */
typedef struct nb_shape {
    unsigned types;
    bool chosen; /* enum or const: these values and no others */
    const json_t **values;
    size_t value_count;
    nb_number_range range;
    const nb_decimal *multiples[8];
    size_t multiple_count;
    size_t min_length, max_length; /* SIZE_MAX: no bound */
    bool has_text;                 /* a pattern or a format */
    nb_dfa *text;                  /* of has_text: both, lengths too */
} nb_shape;

typedef struct nb_schema {
    const json_t *root;
    bool compact, rounded; /* rounded: integers were read as floating point */
    bool has_inner_id;     /* a part has an $id of its own */
    bool out_of_memory;
    nb_arena arena;
    nb_rules r;
    nb_error *err;
    nb_all *hash[1024], *first, *last; /* those whose rules have no edges yet */
    size_t all_count, work;
    uint32_t space, letter, plain_string, plain_number, plain_integer; /* rules, 1 up; 0: not made yet */
} nb_schema;

/* "schema, POINTER/KEY: ..."; key may be NULL */
nb_status nb_schema_fail(nb_schema *s, const json_t *node, const char *key, nb_status code, const char *format, ...)
    NB_PRINTF(5, 6);
nb_status nb_schema_memory(nb_schema *s);
/* Prefixes what a function without a node has said; the other statuses are handed on as they are. */
nb_status nb_schema_at(nb_schema *s, nb_status status, const json_t *node, const char *key);
/* Counts work that could explode; NB_ERR_LIMIT when it does. */
nb_status nb_schema_work(nb_schema *s, size_t steps);

/* ---- grammar_schema.c ---- */
nb_status nb_schema_all(nb_schema *s, const json_t **nodes, size_t count, nb_all **out);
nb_status nb_schema_terms(nb_schema *s, nb_all *all, const nb_term **out);
nb_status nb_schema_resolve(nb_schema *s, const json_t *node, const json_t **out);
static inline nb_str nb_json_text(const json_t *v) { return (nb_str){json_string_value(v), json_string_length(v)}; }

/* ---- grammar_schema_shape.c ---- */
nb_status nb_schema_shape(nb_schema *s, const nb_term *t, nb_shape *out);
nb_status nb_schema_number(nb_schema *s, const json_t *node, const char *key, const json_t *value,
                           const nb_decimal **out);
/* A keyword that counts something; *out stays when it is absent. max: the least of several, else the most. */
nb_status nb_schema_count(nb_schema *s, const nb_term *t, const char *key, bool max, size_t *out);
bool nb_json_same(const json_t *a, const json_t *b);
unsigned nb_json_type(const json_t *v);

/* ---- grammar_schema_text.c ---- */
nb_status nb_schema_text(nb_schema *s, const nb_term *t, nb_shape *shape);
/* The strings that a term lets pass, as an automaton even where there is no pattern. */
nb_status nb_schema_strings(nb_schema *s, const nb_term *t, const nb_shape *shape, nb_dfa **out);
nb_status nb_schema_words(nb_schema *s, const nb_str *words, size_t count, nb_dfa **out);

/* ---- grammar_schema_write.c: rules of values ---- */
nb_status nb_schema_write(nb_schema *s, const nb_term *t, const nb_shape *shape, uint32_t from, uint32_t to);
nb_status nb_schema_write_string(nb_schema *s, const nb_shape *shape, uint32_t from, uint32_t to);
nb_status nb_schema_write_value(nb_schema *s, const json_t *v, uint32_t from, uint32_t to);
void nb_schema_write_dfa(nb_schema *s, const nb_dfa *d, bool json, uint32_t from, uint32_t to); /* json: as in quotes */
uint32_t nb_schema_write_quoted(nb_schema *s, nb_str text, uint32_t from);
uint32_t nb_schema_space(nb_schema *s, uint32_t from); /* the state after what may stand between values */
uint32_t nb_schema_colon(nb_schema *s, uint32_t from); /* the state after a colon */
uint32_t nb_schema_comma(nb_schema *s, uint32_t from); /* the state after a comma and space */

/* ---- grammar_schema_object.c, grammar_schema_array.c ---- */
nb_status nb_schema_object(nb_schema *s, const nb_term *t, uint32_t from, uint32_t to);
nb_status nb_schema_array(nb_schema *s, const nb_term *t, uint32_t from, uint32_t to);
/* Everything that is said of property `name`, or of item i. declared: somewhere it is described. */
nb_status nb_schema_property(nb_schema *s, const nb_term *t, nb_str name, nb_all **out, bool *declared);
nb_status nb_schema_item(nb_schema *s, const nb_term *t, size_t i, nb_all **out);
size_t nb_schema_prefix(const nb_term *t); /* items that are described one by one */
bool nb_schema_requires(const nb_term *t, nb_str name);
/* Whether an object of this term may be written with this property. */
nb_status nb_schema_may_have(nb_schema *s, const nb_term *t, nb_str name, bool *out);

/* ---- grammar_schema_disjoint.c: of a oneOf, no value that is written for one branch fits another ---- */
nb_status nb_schema_check_one_of(nb_schema *s, const nb_term *terms);

#endif
