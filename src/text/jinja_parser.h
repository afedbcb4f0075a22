/* jinja_parser.h - a template's syntax tree. Built once, never changed; the evaluator walks it.
 * Its depth is limited, so that whoever walks it by recursion cannot run out of stack. */
#ifndef NB_TEXT_JINJA_PARSER_H
#define NB_TEXT_JINJA_PARSER_H

#include "text/jinja_lexer.h"

#define NB_JINJA_NESTING 200    /* brackets and blocks within each other */
#define NB_JINJA_TREE_DEPTH 300 /* of one expression: a + b + c + ... is as deep as it is long */

typedef enum nb_jnode_kind {
    /* expressions */
    NB_JN_NONE,
    NB_JN_BOOL,    /* number.i */
    NB_JN_INT,     /* number.i */
    NB_JN_FLOAT,   /* number.f */
    NB_JN_STRING,  /* name */
    NB_JN_NAME,    /* name */
    NB_JN_TUPLE,   /* list */
    NB_JN_LIST,    /* list */
    NB_JN_DICT,    /* list: key, value, key, value... */
    NB_JN_COND,    /* a if b else c (NULL) */
    NB_JN_OR,      /* a or b */
    NB_JN_AND,     /* a and b */
    NB_JN_NOT,     /* not a */
    NB_JN_NEG,     /* -a */
    NB_JN_POS,     /* +a */
    NB_JN_BINARY,  /* a op b */
    NB_JN_CONCAT,  /* list joined by ~ */
    NB_JN_COMPARE, /* a, then list of NB_JN_OPERAND */
    NB_JN_OPERAND, /* op a; NB_JT_NAME is "in", with flag "not in" */
    NB_JN_GETATTR, /* a.name */
    NB_JN_GETITEM, /* a[b] */
    NB_JN_SLICE,   /* a:b:c, each may be NULL */
    NB_JN_CALL,    /* a(list) */
    NB_JN_FILTER,  /* a|name(list); a is NULL at the head of a block's filters */
    NB_JN_TEST,    /* a is name(list) */
    NB_JN_KEYWORD, /* name=a, among arguments */
    NB_JN_STAR,    /* *a, among arguments */
    NB_JN_STARS,   /* **a, among arguments */
    NB_JN_NSREF,   /* name.attribute as a target: attribute is text2 */
    /* statements */
    NB_JN_OUTPUT,      /* a printed */
    NB_JN_DATA,        /* name as it is */
    NB_JN_FOR,         /* for a in b if c: list, else other; flag: recursive */
    NB_JN_IF,          /* if a: list; c is the next branch (elif) or other is the else */
    NB_JN_SET,         /* set a = b */
    NB_JN_SETBLOCK,    /* set a: list, filters b */
    NB_JN_MACRO,       /* macro name(params): list */
    NB_JN_CALLBLOCK,   /* call(params) a: list */
    NB_JN_FILTERBLOCK, /* filter b: list */
    NB_JN_WITH,        /* with params: list; params are NB_JN_PARAM with target b */
    NB_JN_SCOPE,       /* generation: list, transparent */
    NB_JN_BREAK,
    NB_JN_CONTINUE,
    NB_JN_PARAM /* name, default a or NULL */
} nb_jnode_kind;

/* what a macro's body mentions beyond its parameters */
enum { NB_JM_CALLER = 1, NB_JM_KWARGS = 2, NB_JM_VARARGS = 4 };

struct nb_jdef;
typedef struct nb_jnode nb_jnode;
struct nb_jnode {
    nb_jnode_kind kind;
    nb_jtok op;
    uint32_t line;
    uint16_t depth;
    uint8_t uses; /* NB_JM_* of a macro or call block */
    bool flag;
    nb_str name, text2;
    union {
        int64_t i;
        double f;
    } number;
    nb_jnode *a, *b, *c;
    nb_jnode *list, *other, *params; /* first of a chain by next */
    nb_jnode *next;
    const struct nb_jdef *def; /* of a filter or test; NULL: no such thing, an error once it is reached */
};

/* Parses source into the arena. Errors name the line. */
nb_status nb_jinja_parse(nb_arena *arena, nb_str source, nb_jnode **body, nb_error *err);

#endif
