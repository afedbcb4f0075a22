/* gotemplate_lexer.h - the tokens of a Go template. */
#ifndef NB_TEXT_GOTEMPLATE_LEXER_H
#define NB_TEXT_GOTEMPLATE_LEXER_H

#include "base/mem.h"

typedef enum nb_go_token_kind {
    NB_GO_T_ERROR, /* text says what is wrong */
    NB_GO_T_END_OF_FILE,
    NB_GO_T_TEXT,
    NB_GO_T_LEFT,  /* {{ */
    NB_GO_T_RIGHT, /* }} */
    NB_GO_T_SPACE,
    NB_GO_T_BOOL,
    NB_GO_T_CHAR, /* 'x' */
    NB_GO_T_NUMBER,
    NB_GO_T_STRING,
    NB_GO_T_FIELD, /* .X */
    NB_GO_T_VARIABLE,
    NB_GO_T_IDENTIFIER,
    NB_GO_T_ASSIGN,  /* = */
    NB_GO_T_DECLARE, /* := */
    NB_GO_T_PIPE,
    NB_GO_T_OPEN,
    NB_GO_T_CLOSE,
    NB_GO_T_OTHER,   /* a printable character that means nothing alone */
    NB_GO_T_KEYWORD, /* all that follow are keywords */
    NB_GO_T_DOT = NB_GO_T_KEYWORD,
    NB_GO_T_BLOCK,
    NB_GO_T_BREAK,
    NB_GO_T_CONTINUE,
    NB_GO_T_DEFINE,
    NB_GO_T_ELSE,
    NB_GO_T_END,
    NB_GO_T_IF,
    NB_GO_T_NIL,
    NB_GO_T_RANGE,
    NB_GO_T_TEMPLATE,
    NB_GO_T_WITH
} nb_go_token_kind;

typedef struct nb_go_token {
    nb_go_token_kind kind;
    uint32_t line;
    nb_str text;
} nb_go_token;

typedef struct nb_go_lexer {
    nb_str source;
    size_t start, at; /* of the token being read */
    uint32_t line, start_line;
    bool inside; /* an action */
    int parens;
    char error[128];
} nb_go_lexer;

nb_go_lexer nb_go_lex_begin(nb_str source);
nb_go_token nb_go_lex(nb_go_lexer *l);

#endif
