/* grammar_internal.h - a compiled grammar, and what the matcher and the masks share. */
#ifndef NB_TEXT_GRAMMAR_INTERNAL_H
#define NB_TEXT_GRAMMAR_INTERNAL_H

#include "base/grown.h"
#include "text/grammar.h"

/* ---- the grammar: edges of state s are those from at[s] to at[s + 1] ---- */

typedef struct nb_byte_edge {
    uint32_t to;
    uint8_t low, high;
} nb_byte_edge;

typedef struct nb_call_edge {
    uint32_t to, start; /* start: of the rule that is called */
    uint32_t least, most;
    bool last; /* nothing follows in its own rule: no need to come back */
} nb_call_edge;

typedef struct nb_token_edge {
    uint32_t to, id;
    bool other;
} nb_token_edge;

struct nb_grammar {
    nb_arena arena;
    uint32_t start, state_count;
    uint32_t *byte_at, *empty_at, *call_at, *token_at; /* [state_count + 1] */
    nb_byte_edge *bytes;
    uint32_t *empties;
    nb_call_edge *calls;
    nb_token_edge *tokens;
    bool *ends;  /* [state_count] the end of a rule */
    bool counts; /* some call is made a number of times */
    uint32_t class_count;
    uint8_t class_of[256];                 /* bytes that no edge tells apart share a class */
    uint8_t a_byte_of[256], bytes_of[256]; /* [class_count]: one of its bytes; how many it has, less one */
};

/* ---- the vocabulary: a tree of bytes a slice, laid out in the order of a walk ---- */

typedef struct nb_word_node {
    uint32_t next; /* the node after all that begin with this one */
    int32_t token; /* -1: none ends here */
    uint16_t depth;
    uint8_t byte;
} nb_word_node;

/* Words of `letters`, at most so many characters each: where the grammar lets any such text pass, the slice is allowed as a
 * whole. NB_LETTERS_MIXED is the rest. */
typedef enum nb_letters { NB_LETTERS_WORD, NB_LETTERS_PLAIN, NB_LETTERS_MIXED } nb_letters;

typedef struct nb_word_slice {
    nb_letters letters;
    uint32_t most;
    nb_word_node *nodes;
    size_t node_count;
    uint32_t *bits; /* [words] */
} nb_word_slice;

typedef struct nb_same_word {
    int32_t token, as;
} nb_same_word;

typedef struct nb_mask_like {
    uint64_t key;
    size_t mask; /* 1 up; 0: free */
} nb_mask_like;

enum { NB_WORD_SLICES = 5 };

struct nb_grammar_vocab {
    nb_arena arena;
    size_t count, words, longest;
    nb_word_slice slices[NB_WORD_SLICES];
    uint32_t *at; /* [count + 1] into bytes; none for tokens that are never text */
    char *bytes;
    uint32_t *text, *ends; /* [words] tokens that have bytes; tokens that end a reply */
    nb_same_word *same;    /* tokens that have the same bytes as another */
    size_t same_count;
};

/* ---- the cache: the matcher made deterministic, as far as it was walked ---- */

typedef struct nb_stack { /* rules that wait, as a list; 0 is the empty one */
    uint32_t call, count, parent, depth;
} nb_stack;

typedef struct nb_way { /* one way to read what was read */
    uint32_t state, stack;
} nb_way;

typedef struct nb_ways { /* all of them; number 0 has none, number 1 is the start */
    uint32_t first, count;
    uint32_t hash;
    uint32_t mask; /* into masks, 1 up; 0: not made yet */
    bool can_end, has_tokens;
} nb_ways;

typedef struct nb_todo {
    nb_way way;
    uint32_t fresh; /* stack entries made since the last byte */
} nb_todo;

typedef struct nb_tables {
    nb_grown stacks, ways, sets, next, stack_slots, set_slots;
    uint32_t stack_count, set_count, stack_slot_count, set_slot_count;
    size_t way_count;
} nb_tables;

#define NB_NEXT_UNKNOWN UINT32_MAX
enum { NB_TODO = 4 * NB_GRAMMAR_WAYS, NB_SEEN = 2 * NB_TODO };

typedef struct nb_letters_step {
    uint8_t from, to, class_; /* to 0: a character is whole */
} nb_letters_step;

struct nb_grammar_cache {
    const nb_grammar *g;
    const nb_grammar_vocab *v;
    nb_tables t;
    nb_grammar_state *states; /* all that live */
    nb_status status;         /* of the call in progress */
    bool cut;                 /* a way was left because of a limit */

    nb_todo todo[NB_TODO]; /* what follows a byte, before it is a set */
    uint32_t todo_count;
    uint32_t seen[NB_SEEN], stamp; /* hash of todo: stamp << 14 | index */
    bool can_end;
    nb_way found[NB_GRAMMAR_WAYS];
    uint32_t found_count;

    nb_grown masks; /* [mask_count][words] */
    size_t mask_count;
    nb_grown likes; /* [like_count] masks by what they depend on */
    size_t like_count;
    uint32_t *walk; /* [longest + 1] sets on the way down the tree */
    uint32_t *near; /* sets looked at while a slice is tried */
    nb_letters_step *steps[2];
    size_t step_count[2];
};

struct nb_grammar_state {
    nb_grammar_cache *c;
    uint32_t set;
    nb_grammar_state *before, *after;
};

uint32_t nb_grammar_step_slow(nb_grammar_cache *c, uint32_t set, uint8_t class_);

/* The set after one more byte; 0 when it is not allowed, or c->status says what went wrong. */
static inline uint32_t nb_grammar_step(nb_grammar_cache *c, uint32_t set, uint8_t class_)
{
    uint32_t next = ((const uint32_t *)c->t.next.p)[(size_t)set * c->g->class_count + class_];
    return next != NB_NEXT_UNKNOWN ? next : nb_grammar_step_slow(c, set, class_);
}

static inline nb_ways *nb_grammar_set(const nb_grammar_cache *c, uint32_t set) { return (nb_ways *)c->t.sets.p + set; }
static inline const nb_way *nb_grammar_ways(const nb_grammar_cache *c, uint32_t set)
{
    return (const nb_way *)c->t.ways.p + nb_grammar_set(c, set)->first;
}

/* The set after all these bytes. */
uint32_t nb_grammar_run(nb_grammar_cache *c, uint32_t set, nb_str bytes);
/* The set after token id, by its bytes or its name. */
uint32_t nb_grammar_run_token(nb_grammar_cache *c, uint32_t set, int32_t id);
/* Makes room when the cache is full: forgets all but the sets that states are at. */
nb_status nb_grammar_tidy(nb_grammar_cache *c, nb_error *err);
/* What c->status is about. */
nb_status nb_grammar_failed(const nb_grammar_cache *c, nb_error *err);

nb_status nb_grammar_mask_init(nb_grammar_cache *c, nb_error *err);
void nb_grammar_mask_free(nb_grammar_cache *c);
void nb_grammar_mask_forget(nb_grammar_cache *c); /* all masks, of all sets that there are */

static inline bool nb_bit(const uint32_t *bits, size_t i) { return bits[i / 32] >> i % 32 & 1; }
static inline void nb_bit_set(uint32_t *bits, size_t i) { bits[i / 32] |= 1u << i % 32; }

#endif
