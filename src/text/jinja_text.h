/* jinja_text.h - values as text (str, repr, JSON) and text as Python sees it: in code points. */
#ifndef NB_TEXT_JINJA_TEXT_H
#define NB_TEXT_JINJA_TEXT_H

#include "text/jinja_value.h"

/* ---- writing; limits are the rendering's ---- */
void nb_jwrite(nb_jinja *j, nb_buf *b, nb_str s);
void nb_jwrite_str(nb_jinja *j, nb_buf *b, nb_jval v);  /* str(v) */
void nb_jwrite_repr(nb_jinja *j, nb_buf *b, nb_jval v); /* repr(v) */
nb_str nb_jto_str(nb_jinja *j, nb_jval v);              /* str(v), strings as they are */
void nb_jformat_float(double f, char text[40]);         /* as Python's repr */

typedef struct nb_jjson {
    nb_str indent;    /* one level's; used when pretty */
    nb_str item, key; /* separators: ", " and ": " */
    bool pretty, ascii, sort_keys;
} nb_jjson;
void nb_jwrite_json(nb_jinja *j, nb_buf *b, nb_jval v, const nb_jjson *style);
/* Parses JSON text into values; false when it is no JSON (err says why when not NULL). */
bool nb_jparse_json(nb_jinja *j, nb_str text, nb_jval *out, nb_error *err);

/* ---- code points ---- */
/* The code point at s[*pos], which is moved past it. A byte that is not UTF-8 counts as U+FFFD. */
uint32_t nb_jnext_char(nb_str s, size_t *pos);
size_t nb_jchar_count(nb_str s);
size_t nb_jchar_offset(nb_str s, size_t index); /* the byte where character `index` starts, s.n beyond the end */
bool nb_jis_space(uint32_t c);
bool nb_jis_alpha(uint32_t c);
bool nb_jis_digit(uint32_t c);
bool nb_jis_upper(uint32_t c);
bool nb_jis_lower(uint32_t c);
bool nb_jis_word(uint32_t c); /* \w of Python's re */

typedef enum nb_jcase { NB_JCASE_UPPER, NB_JCASE_LOWER, NB_JCASE_TITLE, NB_JCASE_CAPITALIZE, NB_JCASE_SWAP } nb_jcase;
nb_jval nb_jrecase(nb_jinja *j, nb_str s, nb_jcase how);

/* Where needle first (or last) occurs in s at byte `from` or after; SIZE_MAX when it does not. */
size_t nb_jfind(nb_str s, nb_str needle, size_t from);
size_t nb_jfind_last(nb_str s, nb_str needle);
nb_str nb_jstrip(nb_str s, const nb_str *chars, bool left, bool right);             /* chars NULL: whitespace */
nb_jval nb_jreplace(nb_jinja *j, nb_str s, nb_str old, nb_str new_, int64_t count); /* count < 0: all */
nb_jval nb_jsplitlines(nb_jinja *j, nb_str s, bool keep_ends);
nb_jval nb_jescape(nb_jinja *j, nb_jval v); /* HTML, marked safe */

/* ---- formatting ---- */
nb_jval nb_jformat_percent(nb_jinja *j, nb_str format, nb_jval args);        /* format % args */
nb_jval nb_jformat_braces(nb_jinja *j, nb_str format, const nb_jargs *args); /* format.format(...) */

#endif
