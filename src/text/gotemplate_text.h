/* gotemplate_text.h - Go's numbers, strings, fmt and encoding/json, as templates see them. */
#ifndef NB_TEXT_GOTEMPLATE_TEXT_H
#define NB_TEXT_GOTEMPLATE_TEXT_H

#include "text/gotemplate_value.h"

/* ---- characters ---- */
bool nb_go_is_letter_or_digit(uint32_t c); /* or '_' */
bool nb_go_is_print(uint32_t c);
/* The code point at s[*at], which is moved past it; *valid tells a byte that is not UTF-8, which counts as U+FFFD. */
uint32_t nb_go_next_char(nb_str s, size_t *at, bool *valid);
size_t nb_go_char_count(nb_str s);

/* ---- literals, as strconv reads them ---- */
/* The value of "..." or `...`, in the arena or part of the literal; NB_ERR_FORMAT, NB_ERR_MEMORY without a message. */
nb_status nb_go_unquote(nb_arena *a, nb_str literal, nb_str *out);
bool nb_go_unquote_char(nb_str literal, int64_t *out); /* '...' */
/* The value of a number: an int, a float or no value (an integer that only fits without sign); else what is wrong with it. */
const char *nb_go_parse_number(nb_str text, nb_go_value *out);

/* ---- writing ---- */
void nb_go_quote(nb_buf *b, nb_str s, bool ascii);        /* "..." with escapes */
void nb_go_quote_char(nb_buf *b, uint32_t c, bool ascii); /* '...' */
/* strconv.AppendFloat: form is one of e E f g G b x X; precision -1: as many digits as read back equal. */
void nb_go_format_float(nb_buf *b, double f, char form, int precision);

/* ---- fmt ---- */
void nb_go_print(nb_go *g, nb_buf *b, const nb_go_value *args, size_t count);   /* Sprint */
void nb_go_println(nb_go *g, nb_buf *b, const nb_go_value *args, size_t count); /* Sprintln */
void nb_go_printf(nb_go *g, nb_buf *b, nb_str format, const nb_go_value *args, size_t count);
/* What an action prints: pointers are followed, no value is "<no value>". */
void nb_go_print_action(nb_go *g, nb_buf *b, nb_go_value v);

/* ---- JSON ---- */
void nb_go_write_json(nb_go *g, nb_buf *b, nb_go_value v); /* nothing when a value has no JSON */
/* JSON text as a value of the type; `what` names it in messages. No value and an error when it is none. */
nb_go_value nb_go_read_json(nb_go *g, nb_str json, const nb_go_type *type, const char *what);

/* ---- Ollama's types (gotemplate_data.c) ---- */
extern const nb_go_type nb_go_tools_type, nb_go_messages_type, nb_go_message_type, nb_go_arguments_type;
enum { NB_GO_PROPERTY_ANY_OF, NB_GO_PROPERTY_TYPES }; /* fields of a property */
enum { NB_GO_MESSAGE_ROLE, NB_GO_MESSAGE_CONTENT };   /* of a message */

#endif
