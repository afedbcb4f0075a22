/* jinja_lexer.h - a template's source as tokens, with jinja2's rules for whitespace as Hugging Face sets them:
 * trim_blocks and lstrip_blocks on, one newline at the end dropped, every kind of newline read as \n. */
#ifndef NB_TEXT_JINJA_LEXER_H
#define NB_TEXT_JINJA_LEXER_H

#include "base/mem.h"

typedef enum nb_jtok {
    NB_JT_EOF,
    NB_JT_DATA,
    NB_JT_VAR_BEGIN,
    NB_JT_VAR_END,
    NB_JT_BLOCK_BEGIN,
    NB_JT_BLOCK_END,
    NB_JT_NAME,
    NB_JT_STRING,
    NB_JT_INT,
    NB_JT_FLOAT,
    NB_JT_ADD,
    NB_JT_SUB,
    NB_JT_MUL,
    NB_JT_POW,
    NB_JT_DIV,
    NB_JT_FLOORDIV,
    NB_JT_MOD,
    NB_JT_TILDE,
    NB_JT_LPAREN,
    NB_JT_RPAREN,
    NB_JT_LBRACKET,
    NB_JT_RBRACKET,
    NB_JT_LBRACE,
    NB_JT_RBRACE,
    NB_JT_EQ,
    NB_JT_NE,
    NB_JT_LT,
    NB_JT_LE,
    NB_JT_GT,
    NB_JT_GE,
    NB_JT_ASSIGN,
    NB_JT_DOT,
    NB_JT_COLON,
    NB_JT_PIPE,
    NB_JT_COMMA,
    NB_JT_SEMICOLON
} nb_jtok;

typedef struct nb_jtoken {
    nb_jtok type;
    uint32_t line;
    nb_str text; /* data, names, operators as written; strings with their escapes resolved */
    union {
        int64_t i;
        double f;
    } number;
} nb_jtoken;

/* All tokens of source, the last of them NB_JT_EOF; they and their texts live in the arena. */
nb_status nb_jinja_tokenize(nb_arena *arena, nb_str source, nb_jtoken **tokens, size_t *count, nb_error *err);

#endif
