/* gotemplate_node.h - a Go template as a tree, and the parser that makes it. Nodes live in the template's arena and do not
 * change: any number of threads may read them. */
#ifndef NB_TEXT_GOTEMPLATE_NODE_H
#define NB_TEXT_GOTEMPLATE_NODE_H

#include "text/gotemplate.h"
#include "text/gotemplate_value.h"

typedef enum nb_go_node_kind {
    NB_GO_LIST,   /* items */
    NB_GO_TEXT,   /* text */
    NB_GO_ACTION, /* pipe */
    NB_GO_IF,     /* pipe, list, else_list (may be NULL); NB_GO_WITH and NB_GO_RANGE too */
    NB_GO_WITH,
    NB_GO_RANGE,
    NB_GO_INVOKE, /* {{template}}: text is the name, pipe may be NULL */
    NB_GO_BREAK,
    NB_GO_CONTINUE,
    NB_GO_PIPE,     /* names are declared or, with `assign`, set to what items, commands, make */
    NB_GO_COMMAND,  /* items: operands */
    NB_GO_FIELD,    /* names: .A.B */
    NB_GO_CHAIN,    /* pipe: an operand; names: its fields */
    NB_GO_VARIABLE, /* names: $x, then fields */
    NB_GO_CALL,     /* function, named text */
    NB_GO_DOT,
    NB_GO_NULL,
    NB_GO_LITERAL /* value: a bool, int, float or string; no value: an integer beyond 64 bits with a sign */
} nb_go_node_kind;

typedef struct nb_go_node nb_go_node;
typedef struct nb_go_function nb_go_function;

struct nb_go_node {
    nb_go_node_kind kind;
    uint32_t line;
    bool assign;
    nb_str source; /* how it is written, for messages */
    nb_str text;
    nb_go_node **items;
    nb_str *names;
    size_t item_count, name_count;
    nb_go_node *pipe, *list, *else_list;
    const nb_go_function *function;
    nb_go_value value;
};

typedef struct nb_go_tree {
    nb_str name;
    nb_go_node *root;
} nb_go_tree;

struct nb_gotemplate {
    nb_arena arena;
    nb_go_tree *trees; /* what define and block made; the template itself is named "" */
    size_t tree_count;
    nb_go_node *root;
    bool uses_messages;
    nb_go_node *turn;   /* root, with .Response at its end when it uses neither .Messages nor .Response */
    nb_go_node *prompt; /* turn up to .Response; only made when .Messages is not used */
    nb_str tool_prefix, thinking_open, thinking_close;
};

/* Fills trees and root; the arena is the template's. */
nb_status nb_go_parse(nb_gotemplate *t, nb_str source, nb_error *err);

/* What Ollama reads from the tree (gotemplate_infer.c): all that follows root. */
nb_status nb_go_infer(nb_gotemplate *t, nb_error *err);

const nb_go_function *nb_go_function_named(nb_str name); /* NULL: none */

#endif
